"""Loaded into each Dask worker of the tests (--preload): it notes every epoch that is begun, and does what is ordered.

SPY_FOLDER: epochs.txt collects lines "process seed epoch". The order is a file that the first worker to see takes away:
"kill-3" kills the worker as it begins an epoch 3, "full" lets its next file find the disk full.
SPY_TORCH: the version of torch that this worker pretends to have.
"""

import errno
import os
import signal
from pathlib import Path

import torch

from helpers import files
from helpers.gan.training import Trainer

FOLDER = Path(os.environ["SPY_FOLDER"])


def ordered(order: str) -> bool:
    try:
        (FOLDER / order).unlink()
    except FileNotFoundError:
        return False
    return True


def run_epoch(trainer, *arguments, run_epoch=Trainer.run_epoch):
    epoch = len(trainer.history) + 1
    with open(FOLDER / "epochs.txt", "a") as file:
        file.write(f"{os.getpid()} {trainer.settings.seed} {epoch}\n")
    if ordered(f"kill-{epoch}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_epoch(trainer, *arguments)


def replace(*arguments, replace=os.replace):
    if ordered("full"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return replace(*arguments)


class Os:
    """``os`` for helpers.files alone: Dask's own files are to be left in peace."""

    replace = staticmethod(replace)

    def __getattr__(self, name):
        return getattr(os, name)


if files.os is os:  # Dask loads this twice
    Trainer.run_epoch = run_epoch
    files.os = Os()
torch.__version__ = os.environ.get("SPY_TORCH", torch.__version__)
