"""Keys of notebook 01."""

from math import log

import torch
from torch.nn.functional import softplus

from helpers.gan.objectives import GAN
from helpers.reader.questions import Choice, Function, Number

KEYS = {
    "01.1": Number(
        -2 * log(0.8),
        "two terms of -ln 0.8, a third of the equilibrium's 1.386, so this D is far from undecided",
        mistakes={"that is only one of the two terms": -log(0.8), "for a fake, take 1 - D": -log(0.8) - log(0.2)},
    ),
    "01.2": Choice(
        lambda counts: max(counts, key=counts.get),
        {
            "same pace": "G still moves on before D has closed the last loophole",
            "quick D": "D stays near its best reply p / (p + q), so neglected modes stay attractive",
            "quick G": "all points run to the place that D believes in at the moment",
        },
    ),
    "01.3": Function(
        lambda scores: GAN().generator_losses(scores[None])[0],
        ((torch.tensor([-2.0, 0.0, 3.0]),), (torch.tensor([-200.0, 200.0]),)),
        "softplus never overflows",
        mistakes={
            "that is the minimax loss": lambda s: -softplus(s),
            "the sign is wrong: G wants a high score": lambda s: -softplus(-s),
            "that is D's loss on a fake": softplus,
            "right until it overflows: use softplus": lambda s: -s.sigmoid().log(),
        },
    ),
}
