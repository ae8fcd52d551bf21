"""Sets with modes that can be counted: rings and grids of Gaussians in the plane, and digits stacked in colour."""

import math

import torch
from torch import Tensor

from helpers.data.images import ImageSet, check_count
from helpers.device import pick_device

TOY_STD = 0.02  # standard deviation of each Gaussian of a toy set, in a square of side 2


def stacked_mnist(digits: ImageSet, count: int = 60_000, seed: int = 0) -> ImageSet:
    """Colour images of three random digits, one a channel: a set with 1,000 known modes.

    digits: any set of (N, 1, H, W) images with labels 0..9. Returns (count, 3, H, W) images; the label is
    100 a + 10 b + c for the digits a, b, c in red, green, blue. Source: Metz et al. 2017, Unrolled GANs.
    """
    count = check_count("count", count)
    picks = torch.randint(len(digits.images), (count, 3), generator=torch.Generator().manual_seed(seed))
    picks = picks.to(digits.images.device)
    labels = (digits.labels[picks] * digits.labels.new_tensor([100, 10, 1])).sum(1)  # CUDA has no integer products
    return ImageSet(f"stacked_{digits.name}", digits.images[picks].squeeze(2), labels, digits.notice)


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
        raise ValueError(f"points={points.name!r}; allowed: a ring or a grid, which have known mode centres")
    return points.centres


def _gaussians(name, centres, reach, std, count, seed, device) -> ImageSet:
    # A generator that ends in Tanh reaches only [-1, 1]: five standard deviations have to lie inside.
    if not (std >= 0 and reach > 0 and reach + 5 * std <= 1):
        raise ValueError(f"std={std!r}, centres out to {reach!r}; allowed: std >= 0 and centre + 5 std <= 1")
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(centres), (check_count("count", count),), generator=random)
    points = centres[labels] + std * torch.randn(count, 2, generator=random)
    device = pick_device(device)
    return ImageSet(name, points.clamp(-1, 1).to(device), labels.to(device), centres=centres.to(device))
