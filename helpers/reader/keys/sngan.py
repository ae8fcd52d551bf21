"""Keys of notebook 02."""

import torch
from torch.nn.functional import normalize

from helpers.gan.objectives import Hinge
from helpers.reader.questions import Function, Number


def normalised(weight, v):
    """The weight divided by its spectral norm after one round of power iteration from v."""
    u = normalize(weight @ v, dim=0)
    return weight / (u @ weight @ normalize(weight.T @ u, dim=0))


def _weight_and_start(rows: int, columns: int, seed: int) -> tuple:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=rng), normalize(torch.randn(columns, generator=rng), dim=0)


KEYS = {
    "02.1": Number(
        torch.linalg.matrix_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), ord=2).item(),
        "along (3, 4) / 5 a vector is stretched most, more than the largest entry says",
        mistakes={"that is the largest entry; a direction between the axes is stretched more": 4, "that is the sum": 7},
    ),
    "02.2": Function(
        normalised,
        (_weight_and_start(6, 4, 0), _weight_and_start(512, 784, 1)),
        "one round from the vector that was kept",
        mistakes={
            "divide, do not multiply": lambda w, v: w.square() / normalised(w, v),
            "that is the Frobenius norm, the root of the sum of squares": lambda w, v: w / w.norm(),
            "that is the exact norm; one round from v is asked": lambda w, v: w / torch.linalg.matrix_norm(w, ord=2),
        },
    ),
    "02.3": Function(
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
}
