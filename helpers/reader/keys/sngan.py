"""Keys of notebook 02."""

from copy import deepcopy
from math import exp

import torch
from torch import nn
from torch.nn.functional import normalize, softplus

from helpers.gan.objectives import Hinge
from helpers.reader.questions import Choice, Design, Function, Number


def normalised(weight, v):
    """The weight divided by its spectral norm after one round of power iteration from v."""
    u = normalize(weight @ v, dim=0)
    return weight / (u @ weight @ normalize(weight.T @ u, dim=0))


def _weight_and_start(rows: int, columns: int, seed: int) -> tuple:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=rng), normalize(torch.randn(columns, generator=rng), dim=0)


def _what_grows(growth: dict[str, float]) -> str:
    """growth: "free" and "with SN" -> how many times as long the slope is at the end."""
    if max(growth.values()) < 1:
        return "both vanish"
    return "only the free one grows" if growth["free"] > 3 * growth["with SN"] else "both grow alike"


LIMIT = 5.0


def _design_is_missing(design) -> str | None:
    """Train a copy as hard as can be and look at its slope at random points."""
    if not isinstance(design, nn.Module):
        return f"an nn.Module is needed, this is {design!r}"
    design, rng = deepcopy(design).cpu().train(), torch.Generator().manual_seed(0)
    angles = 2 * torch.pi * torch.rand(256, generator=rng)
    real, fake = 0.8 * torch.stack([angles.cos(), angles.sin()], 1), 0.1 * torch.randn(256, 2, generator=rng)
    if (shape := design(real).shape) != (256,):
        return f"256 points give {tuple(shape)}; one score each is needed"
    if not (parameters := list(design.parameters())):
        return "it has no weights to train"
    optimizer = torch.optim.Adam(parameters, 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (softplus(-design(real)) + softplus(design(fake))).mean().backward()
        optimizer.step()
    for _ in range(20):  # an estimate of a norm that lags behind may catch up
        design(real)
    points = (2 * torch.rand(5_000, 2, generator=rng) - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(design.eval()(points).sum(), points)
    steepest = gradient.norm(dim=1).max().item()
    if not steepest <= 1.01 * LIMIT:
        return f"trained hard, its slope reaches {steepest:.3g}"
    return None if steepest > 1 else f"its slope only reaches {steepest:.2g}, trained hard"


KEYS = {
    "02.1": Choice(
        _what_grows,
        {
            "both grow alike": "the free one is {growth[free]:.0f} times as long, with SN {growth[with SN]:.1f} times",
            "only the free one grows": "{growth[free]:.0f} times as long, with SN {growth[with SN]:.1f} times: a score "
            "that may change by 1 per unit and no more cannot push harder",
            "both vanish": "that is the minimax loss; here G's loss is steepest where D is sure it sees a fake",
        },
    ),
    "02.2": Number(
        torch.linalg.matrix_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), ord=2).item(),
        "along (3, 4) / 5 a vector is stretched most, more than the largest entry says",
        mistakes={"that is the largest entry; a direction between the axes is stretched more": 4, "that is the sum": 7},
    ),
    "02.3": Function(
        normalised,
        (_weight_and_start(6, 4, 0), _weight_and_start(512, 784, 1)),
        "one round from the vector that was kept",
        mistakes={
            "divide, do not multiply": lambda w, v: w.square() / normalised(w, v),
            "that is the Frobenius norm, the root of the sum of squares": lambda w, v: w / w.norm(),
            "that is the exact norm; one round from v is asked": lambda w, v: w / torch.linalg.matrix_norm(w, ord=2),
        },
    ),
    "02.4": Choice(
        "the free layer's own norm",
        {
            "1": "the bound is a product of all three norms, and one of them is no longer 1",
            "the free layer's own norm": "1 times 1 times that norm, wherever the layer stands, and nothing holds it",
            "nothing": "at any moment the layer's norm is a number, and the product holds; training makes it grow",
        },
    ),
    "02.5": Function(
        lambda real, fake: Hinge().discriminator_losses(real, fake[None]).mean(),
        ((torch.tensor([2.0, 0.3, -1.0]), torch.tensor([-2.0, 0.5, 1.0])), (torch.zeros(4), torch.zeros(4))),
        "beyond 1 and -1 a score costs nothing",
        mistakes={
            "real and fake are swapped": lambda real, fake: (torch.relu(1 + real) + torch.relu(1 - fake)).mean(),
            "a loss below the hinge is cut off at 0": lambda real, fake: (2 - real + fake).mean(),
            "that is the average of the two terms; add them": lambda real, fake: (
                (torch.relu(1 - real) + torch.relu(1 + fake)).mean() / 2
            ),
        },
    ),
    "02.6": Number(
        1 / (1 + exp(-5)),
        "as good as certain: on digits the bound does not force D to be undecided",
        tolerance=0.001,
        mistakes={
            "that is for a score of 10; the two scores lie 10 apart and are opposite": 1 / (1 + exp(-10)),
            "that is what D says of the fake": 1 / (1 + exp(5)),
            "that is the score; put it through the sigmoid": 5.0,
            "that is for a score of 1": 1 / (1 + exp(-1)),
        },
    ),
    "02.7": Design(_design_is_missing, "steeper than 1, and never above 5, however hard it is trained"),
}
