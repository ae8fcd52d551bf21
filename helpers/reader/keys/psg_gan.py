"""Keys of notebook 03."""

import torch

from helpers.gan.objectives import PSG
from helpers.reader.questions import Choice, Function, Number

SUMMED, AVERAGED = PSG(fakes="sum").equilibrium(2), PSG().equilibrium(2)


def _scores(count: int, seed: int) -> tuple:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(50, generator=rng), torch.randn(count, 50, generator=rng)


KEYS = {
    "03.1": Function(
        lambda real, fake: (real[None] > fake).all(0).float().mean(),
        (_scores(2, 0), _scores(4, 1), _scores(1, 2)),
        "x has to beat every fake of its tuple",
        mistakes={
            "compare with the largest fake score, not with the mean": lambda r, f: (r > f.mean(0)).float().mean(),
            "x must beat every fake, not just one": lambda r, f: (r > f.amin(0)).float().mean(),
            "that is the average over all pairs; x has to beat all fakes of its tuple at once": lambda r, f: (
                (r > f).float().mean()
            ),
        },
    ),
    "03.2": Number(
        SUMMED["d_loss"] - SUMMED["g_loss"],
        "L_G cancels the first term of L_D, and two terms of the fakes remain: at equilibrium the gap is not zero",
        tolerance=0.002,
        mistakes={
            "that is the averaged game; sum the fakes' terms": AVERAGED["d_loss"] - AVERAGED["g_loss"],
            "that is the loss of D alone": SUMMED["d_loss"],
        },
    ),
    "03.3": Number(
        2 / 3,
        "D is updated in every tuple that x does not win",
        mistakes={"that is the share of tuples that x wins": 1 / 3},
    ),
    "03.4": Choice(
        "one generator, doubled fake batch",
        {
            "one generator, doubled fake batch": "the discriminator gets as many fakes, from one generator only",
            "one generator, plain GAN": "two things change at once, the generator and the number of fakes",
            "four generators": "that asks whether more is better, with more fakes again",
        },
    ),
}
