"""Files that are either whole or absent, and checkpoints that cannot run code when they are loaded.

A checkpoint keeps its predecessor beside it, so that a damaged file costs one interval and not the run.
"""

import glob
import hashlib
import os
import secrets
import warnings
import zipfile
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, written or continued from; the message names the file and what to do."""


@contextmanager
def resumed(trainer, path: Path):
    """Continue a trainer from the checkpoint at ``path``, or write its first one; nobody else may meanwhile."""
    from filelock import FileLock, Timeout

    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(f"{path}.lock").acquire(timeout=0)
    except Timeout:
        raise CheckpointError(f"{path} is written by another training now; wait or choose another path") from None
    except OSError as error:
        raise _not_writable(path, error) from error
    with held:
        state = load_checkpoint(path)
        if state is None:
            save_checkpoint(path, trainer.state_dict())  # a full disk shows now, not after hours
        else:
            try:
                trainer.load_state_dict(state)
            except Exception as error:  # whatever the parts say of a state that is not theirs
                remedy = "choose another path, or delete it to start again"
                raise CheckpointError(f"{path} cannot be continued: {error}; {remedy}") from error
        yield


def save_checkpoint(path: Path, state: dict) -> None:
    """Save tensors and plain values atomically, by one process at a time; the last checkpoint becomes predecessor."""
    path, buffer = Path(path), BytesIO()
    torch.save(state, buffer)
    try:
        for leftover in path.parent.glob(f".{glob.escape(path.name)}-*"):  # of a process that was killed
            leftover.unlink()
        write_atomically(path, buffer.getvalue() + _checksum(buffer.getvalue()), keep=_predecessor(path))
    except OSError as error:
        raise _not_writable(path, error) from error


def load_checkpoint(path: Path) -> dict | None:
    """What ``save_checkpoint`` wrote, from the predecessor if the last one is damaged; None where there is neither.

    Raises CheckpointError for anything else, without running code from it.
    """
    problem = None
    for file in filter(Path.exists, (Path(path), _predecessor(Path(path)))):
        try:
            content, checksum = file.read_bytes()[:-32], file.read_bytes()[-32:]
            if checksum != _checksum(content):
                raise ValueError("its checksum does not match")
            with zipfile.ZipFile(BytesIO(content)) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ValueError("it is compressed and could unpack to any size")
            state = dict(torch.load(BytesIO(content), map_location="cpu", weights_only=True))
        except Exception as error:  # whatever the many parsers behind torch.load say of bytes that are no checkpoint
            problem = problem or f"{file} is damaged or not a checkpoint of this program ({error})"
            continue
        if problem:
            warnings.warn(f"{problem}; its predecessor is used", stacklevel=2)
        return state
    if problem:
        raise CheckpointError(f"{problem}; delete it to start again, or choose another path")
    return None


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


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _predecessor(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _not_writable(path: Path, error: OSError) -> CheckpointError:
    remedy = "free some space or choose a path in a folder that you may write to"
    return CheckpointError(f"{path} cannot be written ({error.strerror}); {remedy}")
