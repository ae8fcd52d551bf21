"""The choices that the PSG-GAN paper leaves open, as a small multiverse: twelve ways to have set its runs.

A Plackett-Burman design of twelve rows (Plackett & Burman 1946) varies six choices at two levels each, so that every
level of one choice meets both levels of every other equally often: the main effects can be told apart with twelve runs
of each system rather than 64, as far as choices do not interact. (Each main effect also holds a third, with one sign or
the other, of every interaction of two other choices.) ``centre`` is what all other recorded runs have.

What will be read off the runs was fixed on 2026-11-24, before any was looked at. After 100 epochs, one seed, in each
specification: is the FID of PSG-GAN (average loss) below SNGAN's; is its gap 20 % to 60 % smaller, with L_D as it is
and halved; is its final pick accuracy within 0.05 of 1/3? A claim is called robust if it holds in ten of twelve rows.
The two rows with the lowest and the highest ratio of FIDs then get two seeds more.

Two questions more were fixed on 2026-11-29, when the six rows with batches of 128 were known and the six with batches
of 64 were not. First, which choice decides: its main effect on the FID of each system and on the ratio of PSG-GAN's to
SNGAN's, by logarithms, with the 95 % interval of an additive model (twelve rows less seven numbers leave five degrees
of freedom), called clear if it stands Holm's correction over the six choices. Second, a suspicion that the known rows
had raised, that SNGAN does not bear a beta1 of 0.9: it is confirmed if in the six new rows each of SNGAN's three FIDs
with 0.9 lies above each of the three with 0.5, as one order in twenty does by chance. (Noted the same day, still before
the runs: one in twenty if the other choices do nothing. In these six rows 0.9 goes with the high rate in two of three,
and 0.5 in one; with pixels in [0, 1] likewise.)

Beside it stand the ``RATES`` of notebook 5b, which leave a system its own settings but for the learning rate. What will
be read off these was fixed on 2026-11-28, before any was looked at: of GAN, WGAN and WGAN-GP after 20 epochs, three
seeds, the ratio of the FID at a fifth and at five times the rate to that at its own, by Welch's interval of logarithms,
corrected by Holm over the six. A loss suffers from a rate if that ratio is above 1, or if a run ends in NaN.
"""

from dataclasses import asdict, dataclass

from helpers.gan.settings import Settings

# The first row of the design; the next ten are its rotations, the last is all low.
FIRST_ROW = (1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0)


@dataclass(frozen=True)
class Specification:
    """One way to set what the paper does not name; the defaults are this project's."""

    d_hidden: tuple[int, int] = (512, 256)  # widths of D's hidden layers
    d_dropout: float = 0.0  # after each of them
    learning_rate: float = 2e-4
    beta1: float = 0.5
    batch_size: int = 100
    unit_pixels: bool = False  # D sees pixels in [0, 1] rather than in [-1, 1]

    def of_discriminator(self) -> dict:
        """Options of ``networks.Discriminator``."""
        return {"hidden": self.d_hidden, "dropout": self.d_dropout, "unit_pixels": self.unit_pixels}

    def settings(self, own: dict) -> dict:
        """Fields of ``Settings``, in place of a system's own."""
        return {
            "learning_rate": self.learning_rate,
            "betas": (self.beta1, 0.999),
            "batch_size": self.batch_size,
        }

    def describe(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class RateFactor:
    """A system's own settings, with its learning rate times a factor."""

    learning_rate_factor: float

    def of_discriminator(self) -> dict:
        """Options of its discriminator: none."""
        return {}

    def settings(self, own: dict) -> dict:
        """Fields of ``Settings``, in place of a system's own."""
        return {"learning_rate": self.learning_rate_factor * Settings(**own).learning_rate}

    def describe(self) -> dict:
        return asdict(self)


# Choice -> its low and its high level.
CHOICES = {
    "d_hidden": ((512, 256), (256, 128)),
    "d_dropout": (0.0, 0.3),
    "learning_rate": (2e-4, 1e-3),
    "beta1": (0.5, 0.9),
    "batch_size": (64, 128),
    "unit_pixels": (False, True),
}


def design(columns: int) -> list[tuple[int, ...]]:
    """The twelve rows of the Plackett-Burman design, cut to its first so many columns of eleven; 1 is high."""
    length = len(FIRST_ROW)
    rows = [tuple(FIRST_ROW[(column - row) % length] for column in range(columns)) for row in range(length)]
    return [*rows, (0,) * columns]


SPECIFICATIONS = {"centre": Specification()} | {
    f"pb{number:02}": Specification(
        **{name: levels[high] for (name, levels), high in zip(CHOICES.items(), row, strict=True)}
    )
    for number, row in enumerate(design(len(CHOICES)), 1)
}
ROWS = tuple(SPECIFICATIONS)[1:]  # what has to be trained for the multiverse: the centre is what all other runs have
SYSTEMS = ("gan", "sngan", "psg_average")
EPOCHS = 100

RATES = {"rate_fifth": RateFactor(0.2), "rate_fivefold": RateFactor(5.0)}
OTHER_SETTINGS = {name: SPECIFICATIONS[name] for name in ROWS} | RATES  # what a recorded run may have instead of ours
