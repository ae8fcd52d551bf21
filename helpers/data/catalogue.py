"""Every data set that runs are recorded on, one row each: how it is loaded, and which ruler judges what is generated.

To add a set, add a row. ``ruler`` is a key of ``helpers.measure.judge.RULERS``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from helpers.data.faces import load_faces_split
from helpers.data.images import ImageSet, load_images, pad
from helpers.data.points import grid_of_gaussians, ring_of_gaussians, stacked_mnist

# MNIST's first images, so often in an epoch that it has as many steps as one of MNIST.
FEW, REPEATS = 1_000, 60


@dataclass(frozen=True)
class DataSet:
    """One row of the table below.

    load: (device, at most so many of its images or None) -> ImageSet; kept_epochs: after which epochs a recorded run
    keeps samples and is judged; grid_size: how many samples it keeps
    """

    load: Callable[[str, int | None], ImageSet]
    ruler: str
    kept_epochs: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500)
    grid_size: int = 36


def _images(name: str) -> Callable[[str, int | None], ImageSet]:
    return lambda device, limit: load_images(name, device=device, limit=limit)


def _few_digits(device: str, limit: int | None) -> ImageSet:
    few = load_images("mnist", device=device, limit=FEW)
    return replace(few, images=few.images.repeat(REPEATS, 1, 1, 1), labels=few.labels.repeat(REPEATS))


def _faces(size: int) -> DataSet:
    # 8,000 photographs: after the last three epochs a run has seen as many images as the source's after its epochs
    # 5, 10 and 20 of 202,599.
    kept_epochs = (1, 2, 5, 10, 20, 50, 127, 253, 506)
    return DataSet(
        lambda device, limit: load_faces_split(size, device=device, limit=limit), "faces", kept_epochs=kept_epochs
    )


CATALOGUE = {
    "mnist": DataSet(_images("mnist"), "digits"),
    "mnist_1000": DataSet(_few_digits, "few digits"),
    "fashion_mnist": DataSet(_images("fashion_mnist"), "garments"),
    "fashion_mnist32": DataSet(
        lambda device, limit: pad(load_images("fashion_mnist", device=device, limit=limit), 32), "framed garments"
    ),
    "stacked_mnist": DataSet(
        lambda device, limit: stacked_mnist(load_images("mnist", device=device)), "stacked digits"
    ),
    "ring": DataSet(lambda device, limit: ring_of_gaussians(device=device), "modes", grid_size=500),
    "grid": DataSet(lambda device, limit: grid_of_gaussians(device=device), "modes", grid_size=500),
    "faces32": _faces(32),
    "faces64": _faces(64),
    "faces128": _faces(128),
}


def load_dataset(name: str, device: str = "cpu", limit: int | None = None) -> ImageSet:
    """The image set that a record names; ``limit`` takes only so many of its first images."""
    if name not in CATALOGUE:
        raise ValueError(f"dataset={name!r}; allowed: {', '.join(map(repr, CATALOGUE))}")
    return CATALOGUE[name].load(device, limit)
