"""Keys of notebook 04b."""

import statistics

from helpers.gan.systems import SYSTEMS
from helpers.measure.stability import across_seeds
from helpers.reader.questions import Choice, Design, Function, Number


def half_width(values) -> float:
    """Half of the 95 % interval of the mean over seeds."""
    mean, _, high = across_seeds(values)
    return high - mean


def _control_is_missing(command: str) -> str | None:
    words = str(command).split()
    if words[:3] != ["python", "-m", "helpers.evidence.recorder"]:
        return "the command begins with: python -m helpers.evidence.recorder"
    named = [word for word in words if word in SYSTEMS]
    if not named:
        return f"it names no system; there are: {', '.join(SYSTEMS)}"
    generators, _ = SYSTEMS[named[0]].networks((1, 28, 28), 0)
    if len(generators) < 2:
        return f"{named[0]} shows D one batch of fakes a step, PSG-GAN two"
    if len(set(generators)) > 1:
        return f"{named[0]} has {len(set(generators))} generators: two instead of one is what should change"
    seeds = words[words.index("--seeds") + 1 :] if "--seeds" in words else ["0", "1", "2"]  # the command's own default
    if sum(word.isdigit() for word in seeds[:3]) < 3:
        return "fewer than three seeds give no verdict"
    return None


KEYS = {
    "04b.1": Function(
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
    "04b.2": Number(
        1 - 0.95**4,
        "all four are right in 0.95^4 of cases only",
        tolerance=0.003,
        mistakes={
            "that is how often all four are right": 0.95**4,
            "nearly, but errors that come together are counted twice": 0.2,
            "that is how often all four are wrong": 0.05**4,
        },
    ),
    "04b.3": Design(_control_is_missing, "as many fakes a step, one generator, three seeds"),
    "04b.4": Choice(
        "PSG-GAN only",
        {
            "none": "with two generators and averaged fakes the bias pins another mean than that over three inputs",
            "PSG-GAN only": "with one generator the bias at rest keeps the mean at 1/2; averaged fakes do not",
            "all three": "for one generator the bias at rest keeps the mean at 1/2, whatever drifts",
        },
    ),
}
