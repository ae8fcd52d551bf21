"""How good and how varied generated images are, measured on the features of `helpers/measure/digits.py`.

`of_images(samples, real, classifier)` gives every number in one call. At the end: mode coverage for points in the plane
and for stacked MNIST, and what a discriminator remembers of its training images. Logarithms are natural: divergences
and entropies are in nats. What real images score, which no generator can be expected to beat,
`python -m helpers.evidence.recorder --floor` measures.
"""

import importlib.util
import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers.device import seeded

NEIGHBOURS = 5
STRAY = 10  # a mode with less than one tenth of its fair share is not covered: those samples may be stray ones


def _check_finite(values: Tensor, what: str) -> None:
    broken = int((~values.flatten(1).isfinite().all(dim=1)).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(values)} {what} hold NaN or infinite values, so quality cannot be measured. "
            "A run that diverged gives such samples: look at history.status, and count the run as failed."
        )


@dataclass(frozen=True)
class Embedding:
    """Images as the classifier sees them: features (N, 64) float64 and most likely classes (N,) int64."""

    features: Tensor
    classes: Tensor


@torch.no_grad()
def embed(images: Tensor, classifier, batch_size: int = 1000) -> Embedding:
    """Classify `images` (N, 1, 28, 28), float in [-1, 1]; computed on the classifier's device.

    Raises ValueError for another shape, another range, or values that are not finite.
    """
    if images.dim() != 4 or images.shape[1:] != (1, 28, 28) or not len(images):
        raise ValueError(f"images: shape {tuple(images.shape)}; allowed: (N, 1, 28, 28) with N > 0")
    _check_finite(images, "images")
    if not images.is_floating_point() or images.abs().max() > 1.001:
        raise ValueError(f"images: {images.dtype}, not all within 1; allowed: floating point in [-1, 1]")
    device = next(classifier.parameters()).device
    features = torch.cat([classifier.features(x.to(device).float()) for x in images.split(batch_size)])
    classes = classifier.head(features).argmax(dim=1)
    features = double(features)
    return Embedding(features, classes.to(features.device))


def require_torchmetrics() -> None:
    """Raise ModuleNotFoundError where torchmetrics is missing, as on Colab: FID and KID are computed with it."""
    if importlib.util.find_spec("torchmetrics") is None:
        raise ModuleNotFoundError("torchmetrics is missing, which FID and KID need; pip install torchmetrics")


def double(tensor: Tensor) -> Tensor:
    """The tensor in float64; on the CPU if it comes from Apple's GPU, which has no such numbers."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


class _GivenFeatures(nn.Identity):
    """Hands features that are already computed to torchmetrics, which then loads no Inception network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def fid(features: Tensor, real_features: Tensor) -> float:
    """Fréchet distance of the Gaussians fitted to features (N, F) and (M, F).

    |m - m'|² + tr(C + C' - 2 (C C')^½) with their means m and covariances C;
    Heusel et al. 2017, arXiv:1706.08500. Biased upwards for small N and M: compare only sets of equal sizes.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _check_pair(features, real_features, least=2)
    features, real_features = double(features), double(real_features)
    metric = FrechetInceptionDistance(feature=_GivenFeatures(features.shape[1])).to(features.device)
    metric.update(features, real=False)
    metric.update(real_features, real=True)
    return metric.compute().item()


def kid(features: Tensor, real_features: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / F + 1)³, the mean over random subsets.

    Bińkowski et al. 2018, arXiv:1801.01401. Unbiased, so it may fall below zero.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _check_pair(features, real_features, least=2)
    size = min(subset_size, len(features), len(real_features))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(_GivenFeatures(features.shape[1]), subsets=subsets, subset_size=size)
    metric.update(double(features), real=False)
    metric.update(double(real_features), real=True)
    with seeded(seed):
        return metric.compute()[0].item()


def _check_pair(features: Tensor, real_features: Tensor, least: int) -> None:
    for values, what in ((features, "generated features"), (real_features, "real features")):
        if values.dim() != 2 or len(values) < least:
            raise ValueError(f"{what}: shape {tuple(values.shape)}; allowed: (N, F) with N >= {least}")
        _check_finite(values, what)
    if features.shape[1] != real_features.shape[1]:
        raise ValueError(f"features: {features.shape[1]} generated, {real_features.shape[1]} real; allowed: one width")


def _radii(features: Tensor, k: int, block: int) -> Tensor:
    """Distance (N,) of each point (N, F) to its k-th nearest neighbour in the set, itself not counted."""
    distances = (torch.cdist(rows, features) for rows in features.split(block))
    return torch.cat([d.topk(k + 1, dim=1, largest=False).values[:, -1] for d in distances])


def prdc(features: Tensor, real_features: Tensor, *, k: int = NEIGHBOURS, block: int = 1000) -> dict[str, float]:
    """Precision, recall, density and coverage from balls that reach to the k-th nearest neighbour.

    - precision: share of generated points inside at least one ball around a real point (are they realistic?)
    - recall: share of real points inside at least one ball around a generated point (is no part missed?)
    - density: how many real balls hold a generated point, over k; 1 is expected for equal distributions
    - coverage: share of real balls that hold a generated point

    Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991; density and coverage: Naeem et al. 2020,
    arXiv:2002.09797.
    Works through `block` generated points at a time, so memory grows with block x the larger set.
    """
    _check_pair(features, real_features, least=k + 1)
    features, real_features = double(features), double(real_features)
    real_radii = _radii(real_features, k, block)
    fake_radii = _radii(features, k, block)
    precise, inside_total = 0, 0
    recalled = torch.zeros(len(real_features), dtype=torch.bool, device=features.device)
    covered = recalled.clone()
    for rows, radii in zip(features.split(block), fake_radii.split(block), strict=True):
        distances = torch.cdist(rows, real_features)
        inside_real = distances < real_radii
        precise += int(inside_real.any(dim=1).sum())
        inside_total += int(inside_real.sum())
        covered |= inside_real.any(dim=0)
        recalled |= (distances < radii[:, None]).any(dim=0)
    return {
        "precision": precise / len(features),
        "recall": recalled.double().mean().item(),
        "density": inside_total / (k * len(features)),
        "coverage": covered.double().mean().item(),
    }


def entropy(counts: Tensor) -> float:
    """Shannon entropy in nats of a histogram (counts or shares, none negative); 0 for an empty one."""
    counts = double(counts)
    if (counts < 0).any() or not counts.isfinite().all():
        raise ValueError("counts: negative or not finite; allowed: a histogram of finite values, none of them negative")
    return torch.special.entr(counts / counts.sum().clamp_min(torch.finfo(torch.float64).tiny)).sum().item()


def jensen_shannon(counts: Tensor, other: Tensor) -> float:
    """Jensen-Shannon divergence in nats of two histograms: 0 if equal, ln 2 = 0.693 if disjoint."""
    if counts.shape != other.shape or not counts.sum() > 0 or not other.sum() > 0:
        raise ValueError("counts: unequal or empty; allowed: two histograms of the same length, neither empty")
    p, q = double(counts), double(other)
    p, q = p / p.sum(), q / q.sum()
    return max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)


def of_embeddings(samples: Embedding, real: Embedding, classes: int = 10) -> dict[str, float]:
    """The numbers of `of_images` for sets that are embedded already, so that one real set serves many runs."""
    counts, real_counts = class_counts(samples, classes), class_counts(real, classes)
    covered = (real_counts > 0) & (counts * STRAY * real_counts.sum() >= real_counts * counts.sum())
    return {
        "fid": fid(samples.features, real.features),
        "fid_true_shares": fid(at_true_shares(samples, real, classes), real.features),
        "kid": kid(samples.features, real.features),
        **prdc(samples.features, real.features),
        "modes_covered": float(covered.sum()),
        "class_js": jensen_shannon(counts, real_counts),
        "class_entropy": entropy(counts),
        **class_shares(counts),
    }


def class_counts(samples: Embedding, classes: int = 10) -> Tensor:
    """How many of the samples the classifier puts into each class: (classes,) int64, on the CPU."""
    return samples.classes.bincount(minlength=classes).cpu()


def class_shares(counts: Tensor) -> dict[str, float]:
    """A class histogram as shares of all: {"share_0": ..., "share_1": ..., ...}."""
    return {f"share_{index}": share for index, share in enumerate((double(counts) / counts.sum().cpu()).tolist())}


def at_true_shares(samples: Embedding, real: Embedding, classes: int = 10, seed: int = 0) -> Tensor:
    """Features (about N, F) of the samples drawn again, so that each class has the share that it has in ``real``.

    Their FID asks how well the digits are drawn and leaves out how often each of them is. From each class so many are
    drawn, with replacement, as its real share of N; a class that the samples lack stays missing.
    """
    rng = torch.Generator().manual_seed(seed)
    wanted = class_counts(real, classes).double() * len(samples.classes) / len(real.classes)
    chosen = []
    for label, count in enumerate(wanted.round().long().tolist()):
        members = (samples.classes.cpu() == label).nonzero().flatten()
        if len(members):
            chosen.append(members[torch.randint(len(members), (count,), generator=rng)])
    return samples.features[torch.cat(chosen).to(samples.features.device)]


def of_images(samples: Tensor, real: Tensor, classifier) -> dict[str, float]:
    """Every quality number for `samples` (N, 1, 28, 28) against `real` images (M, 1, 28, 28), all in [-1, 1].

    - fid, kid, precision, recall, density, coverage: see the functions of these names
    - fid_true_shares: the FID of `at_true_shares`, which is what remains of it when every class has its true share
    - share_0 ... share_9: the share of samples that the classifier puts into each class
    - modes_covered: classes, of 10, with at least a tenth of the share they have among the real images
    - class_js: Jensen-Shannon divergence of the two class histograms, nats, 0 to 0.693
    - class_entropy: entropy of the samples' class histogram, nats, at most ln 10 = 2.303

    For several generators pass the samples of one, or equal parts of all for their mixture. Use M = N and the
    same N wherever numbers are compared. Raises ValueError for samples that are not finite.
    """
    return of_embeddings(embed(samples, classifier), embed(real, classifier))


def mode_coverage(points: Tensor, centres: Tensor, std: float) -> dict[str, float]:
    """How well `points` (N, D) cover equally likely Gaussians with the given `centres` (modes, D) and `std`.

    - high_quality: share of points within 3 std of a centre (real points in the plane: 1 - exp(-9/2) = 0.989)
    - modes_reached: modes with at least one such point
    - modes_covered: modes with at least a tenth of their fair share of all points
    - kl: Kullback-Leibler divergence in nats of the high-quality points' mode histogram from the uniform one;
      0 is best, ln(modes) the worst, which is also the value where no point is of high quality
    """
    if points.dim() != 2 or centres.dim() != 2 or points.shape[1] != centres.shape[1] or not len(points):
        raise ValueError(
            f"points: shape {tuple(points.shape)}, centres: shape {tuple(centres.shape)}; "
            "allowed: (N, D) and (modes, D) of the same D, N > 0"
        )
    _check_finite(points, "points")
    distance, mode = torch.cdist(points.cpu().double(), centres.cpu().double()).min(dim=1)
    good = distance <= 3 * std
    counts = mode[good].bincount(minlength=len(centres))
    return {
        "high_quality": good.double().mean().item(),
        "modes_reached": float((counts > 0).sum()),
        "modes_covered": float((counts * STRAY * len(centres) >= len(points)).sum()),
        "kl": math.log(len(centres)) - entropy(counts),
    }


def stacked_mode_coverage(samples: Tensor, classifier) -> dict[str, float]:
    """Stacked MNIST: the three channels of `samples` (N, 3, 28, 28) are digits, so there are 1,000 modes.

    - modes_reached: combinations of three digits that occur at least once, of 1,000
    - kl: Kullback-Leibler divergence in nats of the histogram of combinations from the uniform one

    Metz et al. 2017, arXiv:1611.02163. Both depend on N: compare equal N, and with real stacks as the floor.
    """
    if samples.dim() != 4 or samples.shape[1] != 3:
        raise ValueError(f"samples: shape {tuple(samples.shape)}; allowed: (N, 3, 28, 28)")
    digits = embed(samples.flatten(0, 1).unsqueeze(1), classifier).classes.view(-1, 3).cpu()
    counts = (digits @ torch.tensor([100, 10, 1])).bincount(minlength=1000)
    return {"modes_reached": float((counts > 0).sum()), "kl": math.log(1000) - entropy(counts)}


def score_slope(score, images: Tensor) -> float:
    """How steep a discriminator is: the mean over ``images`` (N, ...) of |grad_x score(x)|, a 2-norm over all pixels.

    ``score`` maps images to (N,) scores, logits or energies, each of its own image only. On fakes it is the size of the
    push that a generator gets, up to the slope of its loss in the score.
    """
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(score(images).sum(), images)
    return slope.flatten(1).norm(dim=1).mean().item()


def felt_slopes(score, objective, fakes: Tensor) -> Tensor:
    """The slope that a generator feels: minus the gradient of its loss at each fake (N, ...), of the fakes' shape.

    Along it the loss of this fake falls fastest. It is all that a generator learns from D. ``score`` maps fakes to (N,)
    scores or energies, each of its own fake only; where D judges groups, to those of all members of the groups, and
    the loss is that of the fake's whole group. ``objective`` is the game's. A penalty that compares fakes with each
    other (EBGAN's pulling-away term) is no property of one place and is left out.
    """
    fakes = fakes.detach().requires_grad_()
    losses = objective.generator_losses(score(fakes)[None])
    (gradient,) = torch.autograd.grad(losses.sum(), fakes)
    return -gradient


def membership_auc(seen: Tensor, unseen: Tensor) -> float:
    """Overfitting of a discriminator: how well its scores tell training images from images that it never saw.

    The share of pairs, one score of `seen` (N,) and one of `unseen` (M,), in which the training image has the higher
    score; ties count half. That is the area under the ROC curve. 0.5: nothing is remembered; 1: every image.
    The attack of Hayes et al. 2019, LOGAN, arXiv:1705.07663. Raises ValueError for scores that are not finite.
    """
    from sklearn.metrics import roc_auc_score

    if seen.dim() != 1 or unseen.dim() != 1 or not len(seen) or not len(unseen):
        raise ValueError(f"scores: shapes {tuple(seen.shape)} and {tuple(unseen.shape)}; allowed: (N,) and (M,)")
    scores = torch.cat([seen, unseen]).cpu().double()
    _check_finite(scores[:, None], "scores")
    return float(roc_auc_score([1] * len(seen) + [0] * len(unseen), scores.numpy()))
