"""Keys of notebook 05."""

import torch

from helpers.gan.objectives import BEGAN, LSGAN
from helpers.reader.questions import Choice, Function, Number


def next_k(k, real_energy, fake_energy, gamma, rate):
    """One update of BEGAN's k, by the objective itself."""
    game = BEGAN(gamma, rate)
    game.load_state_dict({"k": torch.tensor(k)})
    return game.after_step(torch.tensor([real_energy]), torch.tensor([[fake_energy]]))["k"]


KEYS = {
    "05.1": Function(
        lambda real, fake, a, b: LSGAN(a, b).discriminator_losses(real, fake[None]),
        (
            (torch.tensor([0.2, 3.0]), torch.tensor([-1.0, 0.5]), 0.0, 1.0),
            (torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3), -1.0, 1.0),
        ),
        "real scores are pulled to b, those of fakes to a",
        mistakes={
            "you have swapped a and b": lambda r, f, a, b: 0.5 * (r - a) ** 2 + 0.5 * (f - b) ** 2,
            "the factor 1/2 is missing": lambda r, f, a, b: (r - b) ** 2 + (f - a) ** 2,
        },
    ),
    "05.2": Number(
        LSGAN(-1, 1, 0).equilibrium()["d_loss"],
        "the best score is 0 everywhere, 1 away from either target",
        mistakes={"that is one half of it; add the fakes' half": 0.5, "the factor 1/2 is missing": 2},
    ),
    "05.3": Function(
        next_k,
        ((0.3, 0.5, 0.1, 0.5, 0.1), (0.99, 1.0, 0.0, 0.5, 0.1), (0.0, 0.1, 0.9, 0.5, 0.1)),
        "k rises while fakes are reconstructed too well, and stays in [0, 1]",
        mistakes={
            "right inside, but k leaves [0, 1]": lambda k, r, f, g, rate: k + rate * (g * r - f),
            "the sign of the balance is flipped": lambda k, r, f, g, rate: min(max(k - rate * (g * r - f), 0), 1),
        },
    ),
    "05.4": Choice(
        "target",
        {
            "target": "the image no longer moves towards its own reconstruction; only the path through the network is "
            "left",
            "input": "the reconstruction is still computed from the image itself",
            "none": "detach() always cuts a gradient: compare with finite differences",
        },
    ),
}
