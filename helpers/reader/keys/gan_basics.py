"""Keys of notebook 01."""

from math import log

import torch
from torch.nn.functional import softplus

from helpers.gan.objectives import GAN
from helpers.gan.training import Trainer
from helpers.reader.questions import Choice, Design, Function, Number


def unequal_or_uncovered(trainer, play) -> str | None:
    """What is missing in a game that has to cover 6 modes with one generator and equal learning rates.

    play: (trainer, steps) -> the modes covered after every 20th step
    """
    if not isinstance(trainer, Trainer):
        return f"a Trainer is needed, this is {trainer!r}"
    if len(trainer.generators) != 1:
        return f"one generator is asked, these are {len(trainer.generators)}"
    rates = [group["lr"] for each in (trainer.optimizer_d, trainer.optimizer_g) for group in each.param_groups]
    if any(abs(rate - 1e-3) > 1e-9 for rate in rates):
        return f"the learning rates of D and G are {rates[0]:g} and {rates[1]:g}, not 0.001 both"
    covered = play(trainer, 600)[-1]
    return None if covered >= 6 else f"your game covers {covered:.0f} of 8 modes after 600 steps; at least 6 are asked"


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
    "01.3": Choice(
        "they fan out",
        {
            "they fan out": "before G takes its next step D has learnt where the fakes are, so all around looks better",
            "they agree": "that was the chase at the same pace; compare two places left and right of the middle",
            "they vanish": "look at the colours: the slope is longer than before",
        },
    ),
    "01.4": Design(unequal_or_uncovered, "at least 6 modes, with one generator and equal learning rates"),
    "01.5": Function(
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
