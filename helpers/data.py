"""Image sets and two-dimensional toy sets, each as one tensor on one device with its labels.

MNIST and Fashion-MNIST come from a local folder or the network (see `data_files.py`); where neither works,
scikit-learn's handwritten digits stand in and `ImageSet.notice` says so. This module prints nothing.
"""

import math
import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from helpers.data_files import NotAvailable, read_split
from helpers.session import pick_device

TITLES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
TOY_STD = 0.02  # standard deviation of each Gaussian of a toy set, in a square of side 2


@dataclass(frozen=True)
class ImageSet:
    """One loaded set; all tensors lie on one device.

    images: (N, C, H, W) float32 in [-1, 1]; uint8 in 0..255 for photographs; (N, 2) float32 for toy sets.
    labels: (N,) int64. notice: "" or a plain sentence that the reader of a notebook has to see.
    centres: (M, 2) float32, the true mode centres of a toy set; row m belongs to label m.
    """

    name: str
    images: Tensor
    labels: Tensor
    notice: str = ""
    centres: Tensor | None = None


def check_count(argument: str, value, least: int = 1) -> int:
    """``value`` if it is a whole number of at least ``least``, else a ValueError that names ``argument``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{argument}={value!r} must be a whole number of at least {least}")
    return int(value)


def load_images(
    name: str = "mnist", *, train: bool = True, device="cpu", limit: int | None = None, patience: float = 10.0
) -> ImageSet:
    """All images of a set, (N, 1, 28, 28) float32 in [-1, 1], with labels (N,) int64, on ``device``.

    limit: at most this many images, from the start of the set. patience: seconds that a download may go on
    without another 1 MiB before it is given up; two silent mirrors cost twice this.
    Raises ValueError for an unknown name, a bad limit or device; DataError for a damaged or unwritable file.
    """
    if name not in TITLES:
        raise ValueError(f"name={name!r} is not a known set; allowed: {', '.join(map(repr, TITLES))}")
    if limit is not None:
        limit = check_count("limit", limit)
    device = pick_device(device)
    try:
        image_bytes, label_bytes = read_split(TITLES[name], train, patience)
        pixels = np.frombuffer(image_bytes, np.uint8, offset=16).reshape(-1, 28, 28)
        labels = np.frombuffer(label_bytes, np.uint8, offset=8)
        brightest, notice = 255, ""
    except NotAvailable as problem:
        pixels, labels = _stand_in_digits(train)
        brightest, notice = 16, _stand_in_notice(TITLES[name], problem)
        name = "digits"
    images = torch.tensor(pixels[:limit, None], dtype=torch.float32, device=device)
    images.mul_(2 / brightest).sub_(1)
    if images.shape[-1] != 28:
        images = interpolate(images, size=(28, 28), mode="bilinear")
    return ImageSet(name, images, torch.tensor(labels[:limit], dtype=torch.int64, device=device), notice)


def resize(image_set: ImageSet, size: int) -> ImageSet:
    """The same set with float images resized bilinearly to (N, C, size, size)."""
    size = check_count("size", size)
    shrinking = size < image_set.images.shape[-1]
    images = interpolate(image_set.images, size=(size, size), mode="bilinear", antialias=shrinking)
    return replace(image_set, images=images)


def pad(image_set: ImageSet, size: int) -> ImageSet:
    """The same set with a black frame (-1) around its float images: (N, C, size, size), no pixel changed."""
    size, side = check_count("size", size), image_set.images.shape[-1]
    if size < side or (size - side) % 2:
        raise ValueError(f"size={size!r}; allowed: {side} or more, by an even number of pixels")
    frame = [(size - side) // 2] * 4
    return replace(image_set, images=torch.nn.functional.pad(image_set.images, frame, value=-1.0))


def stacked_mnist(digits: ImageSet, count: int = 60_000, seed: int = 0) -> ImageSet:
    """Colour images of three random digits, one a channel: a set with 1,000 known modes.

    digits: any set of (N, 1, H, W) images with labels 0..9. Returns (count, 3, H, W) images; the label is
    100 a + 10 b + c for the digits a, b, c in red, green, blue. Source: Metz et al. 2017, Unrolled GANs.
    """
    count = check_count("count", count)
    picks = torch.randint(len(digits.images), (count, 3), generator=torch.Generator().manual_seed(seed))
    picks = picks.to(digits.images.device)
    labels = digits.labels[picks] @ digits.labels.new_tensor([[100], [10], [1]])
    return ImageSet(f"stacked_{digits.name}", digits.images[picks].squeeze(2), labels.squeeze(1), digits.notice)


def ring_of_gaussians(
    count: int = 10_000, modes: int = 8, radius: float = 0.8, std: float = TOY_STD, seed: int = 0, device="cpu"
) -> ImageSet:
    """Points (count, 2) around ``modes`` centres spread evenly on a circle; the label is the mode's index."""
    angles = torch.arange(check_count("modes", modes)) * (2 * math.pi / modes)
    centres = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return _gaussians("ring", centres, radius, std, count, seed, device)


def grid_of_gaussians(
    count: int = 10_000, side: int = 5, extent: float = 0.8, std: float = TOY_STD, seed: int = 0, device="cpu"
) -> ImageSet:
    """Points (count, 2) around the ``side`` x ``side`` nodes of a square grid on [-extent, extent]."""
    ticks = torch.linspace(-extent, extent, check_count("side", side, least=2))
    return _gaussians("grid", torch.cartesian_prod(ticks, ticks), extent, std, count, seed, device)


def mode_centres(points: ImageSet) -> Tensor:
    """The true centres (M, 2) of a ring or grid of Gaussians."""
    if points.centres is None:
        raise ValueError(f"the set {points.name!r} has no known mode centres; only rings and grids have")
    return points.centres


def _gaussians(name, centres, reach, std, count, seed, device) -> ImageSet:
    # A generator that ends in Tanh reaches only [-1, 1]: five standard deviations have to lie inside.
    if not (std >= 0 and reach > 0 and reach + 5 * std <= 1):
        raise ValueError(f"std={std!r} with centres out to {reach!r}: need std >= 0 and centre + 5 std <= 1")
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(centres), (check_count("count", count),), generator=random)
    points = centres[labels] + std * torch.randn(count, 2, generator=random)
    device = pick_device(device)
    return ImageSet(name, points.clamp(-1, 1).to(device), labels.to(device), centres=centres.to(device))


def _stand_in_digits(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits, (N, 8, 8) in 0..16: the first 1,500 to train, the rest to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(None, 1500) if train else slice(1500, None)
    return digits.images[part], digits.target[part]


def _stand_in_notice(title: str, problem: Exception) -> str:
    named = os.environ.get("GAN_DATA")
    searched = f"GAN_DATA={named} has no {title}/raw and " if named else ""
    return (
        f"STAND-IN DATA: scikit-learn's small handwritten digits (8x8, resized to 28x28) are used instead of "
        f"{title}, because {searched}{problem}. For the real set, run again with a network, or set the "
        f"environment variable GAN_DATA to a folder that holds {title}/raw/train-images-idx3-ubyte.gz and "
        f"its three companions."
    )
