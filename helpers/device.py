"""Ground: which device to compute on, and what a computation shares with the process around it: numbers, precision."""

import warnings
from argparse import ArgumentTypeError
from contextlib import contextmanager

import torch


def pick_device(device: str = "auto"):
    """The ``torch.device`` to train on: CUDA, else Apple's MPS, else the CPU, unless ``device`` names one.

    A GPU that is there and cannot be used, such as one too old for this torch, is passed over with a warning; one that
    is named and cannot be used raises ValueError.
    """
    if device == "auto":
        present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        for name in (name for name, there in present.items() if there):
            try:
                return _tried(name)
            except RuntimeError as error:
                problem = str(error).strip().partition("\n")[0]
                warnings.warn(f"{name} is there and cannot be used ({problem}); going on without it", stacklevel=2)
        return torch.device("cpu")
    try:
        return _tried(device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device={device!r} cannot be used here; allowed: 'auto', 'cpu', 'cuda', 'mps'") from error


def device_option(name: str) -> str:
    """A device for argparse's ``type``: one that cannot be used ends the command before anything is loaded."""
    try:
        return str(pick_device(name))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _tried(device) -> torch.device:
    """The device, after a product on it: filling with zeros alone also works where no kernel of torch does."""
    chosen = torch.device(device)
    square = torch.ones(2, 2, device=chosen)
    (square @ square).sum().item()
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


@contextmanager
def seeded(seed: int):
    """Inside, torch's random numbers on the CPU start at ``seed``; afterwards they go on as if nothing had been drawn.

    A GPU's random numbers stay as they are, which ``torch.manual_seed`` would start anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def full_float32():
    """Inside, products and convolutions are computed in float32 throughout.

    By default CUDA's convolutions round their factors to TF32, which has ten bits of float32's 23 behind the point.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
