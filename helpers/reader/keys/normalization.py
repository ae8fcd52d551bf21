"""Keys of notebook 06."""

import torch
from torch import nn

from helpers.gan.conv_networks import AdaIN
from helpers.gan.networks import count_parameters
from helpers.reader.questions import Choice, Function, Number


def gradient_penalty(gradient, weight):
    """Weight times the mean squared distance of the gradients' norms from 1, one norm per image."""
    return weight * ((gradient.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()


def _gradients(*shape, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


KEYS = {
    "06.1": Number(
        torch.linalg.matrix_norm(torch.tensor([[3.0, 0.0], [4.0, 5.0]]), 2).item(),
        "the root of 45, while the largest eigenvalue of W is only 5",
        mistakes={
            "that is the largest eigenvalue of W; take the one of WᵀW, then the root": 5.0,
            "that is the Frobenius norm, which counts all singular values": 50**0.5,
            "take the square root": 45.0,
        },
    ),
    "06.2": Function(
        gradient_penalty,
        ((_gradients(4, 3, 8, 8, seed=0), 10.0), (_gradients(2, 1, 4, 4, seed=1) / 9, 1.0)),
        "one norm per image, and 1 is where the spring rests",
        mistakes={
            "one norm per image, not one per channel and row": lambda g, w: w * (g.norm(dim=1) - 1).square().mean(),
            "one norm per image, not one for the batch": lambda g, w: w * (g.norm() - 1).square(),
            "the norm should be 1, not 0": lambda g, w: w * g.flatten(1).norm(dim=1).square().mean(),
        },
    ),
    "06.3": Number(
        2 * 10 * (1.5 - 1),
        "the spring gives by W / (2 lambda)",
        mistakes={
            "the derivative of the square brings a factor 2": 5.0,
            "the spring rests at 1, not at 0": 30.0,
        },
    ),
    "06.4": Number(
        count_parameters(AdaIN(64, 128)) - count_parameters(nn.BatchNorm2d(64)),
        "a linear layer from 128 numbers to 2 x 64, with its bias, in place of one scale and one shift each",
        tolerance=0.5,
        mistakes={
            "that is all of AdaIN; take off what batch norm has": 16_512,
            "a linear layer has a bias, too": 16_256,
        },
    ),
    "06.5": Choice(
        "it couples the images of a batch",
        {
            "it couples the images of a batch": "a score depends on the whole batch, the penalty asks about single "
            "images",
            "it is too slow": "it is cheap; the penalty is what costs",
            "it has no gradient": "it can be differentiated, even twice",
        },
    ),
}
