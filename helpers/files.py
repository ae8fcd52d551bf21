"""Ground: where the project lies, and files that are either whole or absent."""

import errno
import os
import secrets
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
# Seconds between attempts to replace a file that somebody holds: on Windows a virus scanner does so for a moment after
# every write, and a mounted cloud drive answers with an input/output error while it synchronises.
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)
HELD = (errno.EACCES, errno.EBUSY, errno.EIO)


def write_atomically(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write a file so that a reader sees the old content or the new, never a part, even after a crash.

    The old file becomes ``keep``, if given; a crash at that very moment leaves it there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666)  # tempfile's files could be read by their owner alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            _replace(path, keep)
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replace(source: Path, target: Path) -> None:
    """``os.replace``, tried again while the file is held by somebody else."""
    for pause in PAUSES:
        try:
            return os.replace(source, target)
        except OSError as error:
            if error.errno not in HELD:
                raise
            time.sleep(pause)
    os.replace(source, target)
