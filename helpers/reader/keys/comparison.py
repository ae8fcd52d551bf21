"""Keys of notebook 04."""

import statistics

from helpers.measure.stability import across_seeds
from helpers.reader.questions import Choice, Function, Number


def half_width(values) -> float:
    """Half of the 95 % interval of the mean over seeds."""
    mean, _, high = across_seeds(values)
    return high - mean


KEYS = {
    "04.1": Function(
        half_width,
        (([1.0, 2.0, 3.0],), ([0.2, 0.3, 0.7, 0.1],)),
        "three seeds need 4.303 standard errors, not 1.96",
        mistakes={
            "divide by n - 1 in the variance: ddof=1": lambda values: (
                half_width(values) * statistics.pstdev(values) / statistics.stdev(values)
            ),
            "that is the deviation of one seed; the mean's is smaller by the root of n": lambda values: (
                half_width(values) * len(values) ** 0.5
            ),
            "with so few seeds the normal distribution's 1.96 is too small": lambda values: (
                1.959964 * statistics.stdev(values) / len(values) ** 0.5
            ),
        },
    ),
    "04.2": Choice(
        "B, A",
        {
            "A, A": "with L_D as it is the gaps are 0.55 and 0.05",
            "A, B": "it is the other way round: 0.55 against 0.05, then 0.10 against 0.40",
            "B, A": "0.55 against 0.05, but 0.10 against 0.40: the convention decides",
            "B, B": "halved, the gaps are 0.10 and 0.40",
        },
    ),
    "04.3": Number(
        (125 - 75) / 125,
        "of SNGAN's 125 epochs; the paper's 10 % are of a run of 500",
        mistakes={
            "that is the share of a 500-epoch run": 50 / 500,
            "that is measured against PSG-GAN's own 75 epochs": 50 / 75,
            "that is a per cent number; give the share": 40,
        },
    ),
}
