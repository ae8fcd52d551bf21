"""Ground: where the project lies, and files that are either whole or absent."""

import os
import secrets
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


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
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
