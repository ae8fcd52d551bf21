"""Keys of notebook 07."""

import torch

from helpers.gan.networks import MinibatchStd
from helpers.reader.questions import Choice, Design, Function, Number

PREDICTED = ("more modes", "fewer modes", "as many modes")


def group_std(features):
    """How varied one group of features (N, width) is: one number, as D sees it."""
    return MinibatchStd(len(features))(features)[0, -1]


def _features(count: int, width: int, seed: int) -> tuple:
    return (torch.randn(count, width, generator=torch.Generator().manual_seed(seed)),)


def _where_ones_go(ones: dict[str, float]) -> str:
    """ones: their share "before" and "after"."""
    change = ones["after"] / ones["before"]
    return "it falls" if change < 0.85 else "it grows" if change > 1.15 else "it stays"


def _most_alike(divided: dict[str, float]) -> str:
    """divided: remedy -> divergence of the two generators' modes, the mean over seeds."""
    return min(divided, key=divided.get)


def _told_apart(separation: dict[int, float]) -> str:
    """separation: size of the group -> how far apart real and drifted groups lie, in standard deviations."""
    return "better" if separation[5] > separation[25] else "worse"


def _remedy_is_missing(design, nothing) -> str | None:
    """design: (what was predicted, what ``try_remedy`` returned); nothing: the same without a remedy."""
    if not isinstance(design, (tuple, list)) or len(design) != 2:
        return "return two things: your prediction, and what try_remedy returned"
    predicted, measured = design
    if predicted not in PREDICTED:
        return f"the prediction is {predicted!r}; it is one of {', '.join(map(repr, PREDICTED))}"
    if not isinstance(measured, dict) or set(measured) != set(nothing):
        return "the second thing is what try_remedy returns"
    if measured == nothing:
        return "this game went exactly as the one without a remedy: nothing was changed"
    return None


def _prediction_judged(design, nothing) -> str:
    """Whether the modes of the remedy's game, beside those without a remedy, are what was predicted."""
    predicted, measured = design
    more = measured["modes"] - nothing["modes"]
    found = PREDICTED[0] if more > 0 else PREDICTED[1] if more < 0 else PREDICTED[2]
    counted = f"{measured['modes']:.0f} modes beside {nothing['modes']:.0f} without a remedy: {found}"
    if predicted == found:
        return f"your prediction was right, {counted}"
    return f"the experiment counts, and your prediction was wrong, {counted}, not {predicted}. Leave it as it was"


KEYS = {
    "07.1": Choice(
        _where_ones_go,
        {
            "it stays": "the generators are not stuck: from {ones[before]:.2f} the share goes to {ones[after]:.2f}",
            "it falls": "from {ones[before]:.2f} to {ones[after]:.2f}: the same generators, and a young D",
            "it grows": "a new D is not steep, and sees too many ones: from {ones[before]:.2f} to {ones[after]:.2f}",
        },
    ),
    "07.2": Function(
        group_std,
        (_features(25, 6, 0), _features(4, 3, 1), (torch.ones(5, 2),)),
        "a standard deviation for every feature, and their mean; equal samples have none",
        tolerance=2e-4,  # D adds 1e-8 to the variance, so that a group of equals has a slope, too
        mistakes={
            "divide by N, not by N - 1: correction=0": lambda f: f.std(0).mean(),
            "that is the variation over the features of each sample; take it over the samples": lambda f: f.std(
                1, correction=0
            ).mean(),
            "that is the variance; take its root before the mean": lambda f: f.var(0, correction=0).mean(),
            "that is the variation of all numbers together; take it feature by feature": lambda f: f.std(correction=0),
        },
    ),
    "07.3": Choice(
        _told_apart,
        {
            "better": "{separation[5]:.1f} standard deviations apart with groups of 5, {separation[25]:.1f} with 25",
            "worse": "{separation[5]:.1f} standard deviations apart with groups of 5, {separation[25]:.1f} with 25: "
            "so few samples are sometimes varied by chance",
        },
    ),
    "07.4": Number(
        3 / 8,
        "its three modes hold three of eight parts of the data",
        tolerance=0.004,
        mistakes={
            "that is the other generator's share": 5 / 8,
            "equal shares give each of its modes 1/6 where the data have 1/8": 1 / 2,
            "that is the ratio of the two shares": 3 / 5,
        },
    ),
    "07.5": Choice(
        _most_alike,
        {
            "nothing": "divergence {divided[nothing]:.2f} of at most 0.69: they divide the ring between them",
            "spectral norm": "divergence {divided[spectral norm]:.2f}: a flatter D, but it still dislikes any place "
            "with fakes",
            "minibatch std": "divergence {divided[minibatch std]:.2f}: every group must be as varied as the data, and "
            "a group has fakes of one generator only",
            "head": "divergence {divided[head]:.2f}: the head pays them for being told apart",
        },
    ),
    "07.6": Design(_remedy_is_missing, _prediction_judged),
}
