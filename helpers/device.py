"""Ground: which device to compute on, and how a CPU treats numbers that are nearly zero."""

from contextlib import contextmanager

import torch


def pick_device(device: str = "auto"):
    """The ``torch.device`` to train on: CUDA, else Apple's MPS, else the CPU, unless ``device`` names one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device={device!r} cannot be used here; allowed: 'auto', 'cpu', 'cuda', 'mps'") from error
    return chosen


@contextmanager
def denormals_as_zero():
    """Let this thread's CPU take numbers below 1e-38 as zero.

    Adam's averages of a weight that no longer learns decay into that range and stay there for many epochs, and a CPU
    is slow with such numbers. They are too small to change a weight: a long run of Algorithm 1 that was continued
    with and without this had the same losses and weights to the last bit.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
