"""What is measured of a system under training: its samples on the data set's ruler, and its discriminator's slope.

``RULERS`` names every ruler; a row of ``helpers.data.catalogue`` chooses one by its name.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.data import catalogue
from helpers.data.faces import HELD_OUT
from helpers.data.images import ImageSet, load_images, to_unit_range
from helpers.data.points import TOY_STD
from helpers.measure import quality
from helpers.measure.digits import load_classifier
from helpers.measure.faces import face_ruler

SAMPLES = 10_000
SLOPE_IMAGES = 1_000
UNSEEN = 10_000  # images that a discriminator which was trained on few is asked about


@dataclass(frozen=True)
class Ruler:
    """How samples of one data set are measured.

    measure: (N, ...) samples -> numbers by name; count: N, always the same; shares: the quick part of ``measure`` that
    says what a single generator draws; seen, unseen: images of which a discriminator should remember none
    """

    measure: Callable[[Tensor], dict[str, float]]
    count: int
    shares: Callable[[Tensor], dict[str, float]] | None = None
    seen: Tensor | None = None
    unseen: Tensor | None = None


def _classes(dataset: str, frame: int = 0) -> Callable[[ImageSet, str], Ruler]:
    """Digits or garments against real test images, on the features of our own classifier; ``frame`` is cut off."""

    def make(images: ImageSet, device: str) -> Ruler:
        classifier = load_classifier(dataset, device)
        real = quality.embed(load_images(dataset, train=False, device=device).images, classifier)

        def embedded(samples):
            side = samples.shape[-1]
            inner = samples[:, :, frame : side - frame, frame : side - frame]
            return quality.embed(inner, classifier)

        return Ruler(
            lambda samples: quality.of_embeddings(embedded(samples), real),
            SAMPLES,
            shares=lambda samples: quality.class_shares(quality.class_counts(embedded(samples))),
        )

    return make


def _few_digits(images: ImageSet, device: str) -> Ruler:
    """MNIST's ruler, and what D remembers: it is asked about its training images and about others of the same set."""
    whole = RULERS["digits"](images, device)
    # Not test images: other people wrote those, so a discriminator tells them apart without remembering any.
    unseen = load_images("mnist", device=device, limit=catalogue.FEW + UNSEEN).images[catalogue.FEW :]
    return Ruler(
        whole.measure, SAMPLES, shares=whole.shares, seen=images.images[: catalogue.FEW].to(device), unseen=unseen
    )


def _stacked_digits(images: ImageSet, device: str) -> Ruler:
    classifier = load_classifier("mnist", device)
    return Ruler(lambda samples: quality.stacked_mode_coverage(samples, classifier), SAMPLES)


def _modes(images: ImageSet, device: str) -> Ruler:
    return Ruler(lambda points: quality.mode_coverage(points, images.centres, TOY_STD), SAMPLES)


def _faces(images: ImageSet, device: str) -> Ruler:
    return Ruler(face_ruler(images.images.shape[-1], device), HELD_OUT)


RULERS = {
    "digits": _classes("mnist"),
    "few digits": _few_digits,
    "garments": _classes("fashion_mnist"),
    "framed garments": _classes("fashion_mnist", frame=2),
    "stacked digits": _stacked_digits,
    "modes": _modes,
    "faces": _faces,
}


def find_ruler(dataset: str, images: ImageSet, device=None) -> Ruler | None:
    """The ruler of a data set of the catalogue, which measures on ``device`` (by default where the images lie).

    None where small digits stand in for the real thing. Raises ModuleNotFoundError where the ruler lacks a library.
    """
    name = catalogue.CATALOGUE[dataset].ruler
    if images.notice and name not in ("modes", "faces"):  # a notice about photographs says how many could be read
        return None
    if name not in ("modes", "stacked digits"):
        quality.require_torchmetrics()  # before hours of training, and not after
    return RULERS[name](images, str(device or images.images.device))


class Judge:
    """Scores a trainer of one data set: its samples by the ruler, its D by its slope and by what it remembers."""

    def __init__(self, dataset: str, images: ImageSet, device=None):
        self.ruler = find_ruler(dataset, images, device)

    def __call__(self, trainer, whole_parts: bool) -> dict[str, dict[str, float]]:
        """ "mixture", "generator 1", ... -> numbers by name; of each generator its shares, or with ``whole_parts`` all.

        Nothing of it changes the training.
        """
        if self.ruler is None:
            return {}
        ruler, seed = self.ruler, trainer.settings.seed + 2
        players = len(set(trainer.generators))  # a generator that takes part twice is one
        samples = trainer.sample(count=ruler.count // players, seed=seed)[:players]
        mixture = samples.flatten(0, 1)
        shares = trainer.objective.mixture(players)
        if len(set(shares)) > 1:  # learned ones
            mixture = self._by_shares(trainer, shares, seed)
        scores = {"mixture": ruler.measure(mixture) | self._of_discriminator(trainer, samples)}
        if players > 1 and whole_parts:
            each = trainer.sample(count=ruler.count, seed=seed)
            scores |= {f"generator {k}": ruler.measure(samples) for k, samples in enumerate(each, 1)}
        elif players > 1 and ruler.shares is not None:
            scores |= {f"generator {k}": ruler.shares(part) for k, part in enumerate(samples, 1)}
        return scores

    def _by_shares(self, trainer, shares: list[float], seed: int) -> Tensor:
        """As many samples as the ruler counts, of each generator its share."""
        whole = trainer.sample(count=self.ruler.count, seed=seed)
        ends = [round(sum(shares[: k + 1]) * self.ruler.count) for k in range(len(shares))]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return torch.cat([samples[:count] for samples, count in zip(whole, counts, strict=True)])

    def _of_discriminator(self, trainer, samples: Tensor) -> dict[str, float]:
        """Its slope at real images and at ``samples`` (K, N, ...), and what it remembers where the ruler asks that."""
        if trainer.labels is not None:  # its score is of an image and a label
            return {}
        real = to_unit_range(trainer.images[:SLOPE_IMAGES].to(trainer.device))
        fakes = samples[:, : SLOPE_IMAGES // len(samples)].flatten(0, 1)
        with _undisturbed(trainer.discriminator) as discriminator:
            numbers = {
                "slope_real": quality.score_slope(discriminator, real),
                "slope_fake": quality.score_slope(discriminator, fakes),
            }
            if self.ruler.seen is not None:
                sign = -1 if trainer.objective.is_energy else 1  # the lower an energy, the more real
                with torch.no_grad():
                    answers = [sign * discriminator(images) for images in (self.ruler.seen, self.ruler.unseen)]
                numbers["membership_auc"] = quality.membership_auc(*answers)
        return numbers


@contextmanager
def _undisturbed(discriminator):
    """The discriminator in evaluation mode, else spectral norm would learn from being asked, and change the run."""
    discriminator.eval()
    try:
        yield discriminator
    finally:
        discriminator.train()
