"""What a notebook asks about the place it runs in: which device, and how long training may take.

The profile decides the length: ``quick`` (minutes on two CPU cores), ``full`` (the paper's length) or ``smoke``
(the least that still runs every cell, for automatic checks). The variable GAN_PROFILE overrides ``auto``.
"""

import os

from helpers.device import pick_device

PROFILES = ("smoke", "quick", "full")


def pick_profile(profile: str = "auto") -> str:
    """``auto`` becomes GAN_PROFILE if set, else ``full`` on a machine with a CUDA GPU, else ``quick``."""
    if profile == "auto":
        under_test = "PYTEST_VERSION" in os.environ
        profile = os.environ.get("GAN_PROFILE")
        profile = profile or ("full" if not under_test and pick_device().type == "cuda" else "quick")
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
