"""Files that are either whole or absent, and checkpoints that cannot run code when they are loaded."""

import os
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import torch


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged or is none; the message names the file and what to do."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part, even after a crash."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save_checkpoint(path: Path, state: dict) -> None:
    """Save tensors and plain values, atomically."""
    buffer = BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict:
    """Load what ``save_checkpoint`` wrote; raises CheckpointError for anything else, without running code from it."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch's own reader does not check the checksums
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path} is damaged (at {damaged}); delete it to start this run again")
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the many parsers behind torch.load say of bytes that are no checkpoint
        raise CheckpointError(
            f"{path} is not a checkpoint of this program or is damaged; delete it ({error})"
        ) from error
