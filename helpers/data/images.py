"""MNIST and Fashion-MNIST, each as one tensor on one device with its labels.

They come from a local folder or the network (see `files.py` beside this one); where neither works,
scikit-learn's handwritten digits stand in and `ImageSet.notice` says so. This module prints nothing.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from helpers.data.files import NotAvailable, read_split
from helpers.device import pick_device

TITLES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


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
        raise ValueError(f"{argument}={value!r}; allowed: a whole number of at least {least}")
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
        raise ValueError(f"name={name!r}; allowed: {', '.join(map(repr, TITLES))}")
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


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images in 0..255 to float in [-1, 1]; float images stay as they are."""
    return images.float().div_(127.5).sub_(1) if images.dtype == torch.uint8 else images


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
