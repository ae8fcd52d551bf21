"""What a notebook asks about the place it runs in: which device, and how long training may take.

The profile decides the length: ``quick`` (minutes on two CPU cores, and the default everywhere), ``full`` (the paper's
length, hours on a CPU) or ``smoke`` (the least that still runs every cell, for automatic checks). A notebook's ``auto``
is what the variable GAN_PROFILE says.
"""

import os
import re
from pathlib import Path

from helpers.device import pick_device as pick_device  # notebooks ask for it here
from helpers.files import PROJECT
from helpers.gan.history import History
from helpers.gan.resume import fingerprint

PROFILES = ("smoke", "quick", "full")


def pick_profile(profile: str = "auto") -> str:
    """``auto`` becomes GAN_PROFILE if set, else ``quick``: a long training is asked for by name."""
    if profile == "auto":
        profile = os.environ.get("GAN_PROFILE") or "quick"
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r}; allowed: 'auto', {', '.join(map(repr, PROFILES))}")
    return profile


def choose(quick, full, smoke=None, profile: str = "auto"):
    """The value for the current profile, for example ``EPOCHS = choose(quick=3, full=500)``.

    ``smoke`` defaults to 1 where the quick value is a whole number, else to the quick value.
    """
    if smoke is None:
        smoke = 1 if isinstance(quick, int) else quick
    return {"smoke": smoke, "quick": quick, "full": full}[pick_profile(profile)]


def fit(trainer, profile: str = "auto", on_epoch=None, progress: bool = True) -> History:
    """``trainer.fit`` for a notebook, which in the full profile also says how long it takes and keeps a checkpoint.

    It says so after the first epoch. With the checkpoint the same cell goes on where it was interrupted.

    With ``on_epoch`` there is no checkpoint, for what that has collected would be missing when training goes on.
    """
    if pick_profile(profile) != "full":
        return trainer.fit(progress, on_epoch)
    checkpoint, begun, said = None if on_epoch else _checkpoint(trainer), len(trainer.history), False

    def after_epoch(trainer):
        nonlocal said
        if not said:
            print(_forecast(trainer), _what_is_kept(checkpoint, len(trainer.history) - 1 - begun), sep="\n")
            said = True
        if on_epoch is not None:
            on_epoch(trainer)

    # About fifty checkpoints in all: writing one after every short epoch would take longer than training.
    history = trainer.fit(progress, after_epoch, checkpoint, every=max(trainer.settings.epochs // 50, 1))
    if checkpoint is not None and not said and history.status == "complete":
        print(f"{history.label}: all {len(history)} epochs were in {checkpoint}; delete that file to train anew.")
    return history


def _checkpoint(trainer) -> Path:
    """A file for this trainer's settings in the folder that GAN_CHECKPOINTS names, else in results/checkpoints."""
    folder = Path(os.environ.get("GAN_CHECKPOINTS") or PROJECT / "results" / "checkpoints")
    name = re.sub(r"\W+", "-", trainer.history.label.lower()).strip("-")
    return folder / f"{name}-{fingerprint(trainer)}.pt"


def _forecast(trainer) -> str:
    history, seconds = trainer.history, trainer.history.rows[-1]["seconds"]
    rest = trainer.settings.epochs - len(history)
    return f"{history.label}: {rest} more epochs take about {in_words(rest * seconds)} here ({seconds:.2g} s an epoch)."


def _what_is_kept(checkpoint: Path | None, earlier: int) -> str:
    if checkpoint is None:
        return "Nothing is kept until the cell has ended."
    came = f"Went on after epoch {earlier} of" if earlier else "Stop at any time: this cell then goes on from"
    return f"{came} {checkpoint}; delete that file to train anew."


def in_words(seconds: float) -> str:
    """A duration as a person would say it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
