"""Keys of notebook 04."""

from helpers.reader.questions import Choice, Design, Number


def _length_is_missing(epochs, cuts: dict[int, float]) -> str | None:
    if isinstance(epochs, str):
        return f"{epochs!r} is text; give the number of epochs without quotation marks"
    if epochs not in cuts:
        return f"that is none of the lengths: {', '.join(map(str, cuts))}"
    if not 0.2 < cuts[epochs] < 0.35:
        return f"cut at {epochs} epochs the gap is smaller by {cuts[epochs]:.0%}"
    return None


# Seeds of two methods -> what a careful rule says of them.
CASES = (
    (([0.82, 0.80, 0.81], [0.45, 0.50, 0.47]), "holds"),
    (([0.45, 0.50, 0.47], [0.82, 0.80, 0.81]), "does not hold"),
    (([0.60, 0.75, 0.50], [0.55, 0.62, 0.70]), "undecided"),
    (([0.70, 0.71, 0.72], [0.30, 0.69, 0.68]), "undecided"),  # one seed went its own way
)


def _rule_is_missing(rule) -> str | None:
    for (values, others), right in CASES:
        if (said := rule(values, others)) is None:
            raise NotImplementedError
        if said != right:
            return f"it calls {values} against {others} {said!r}; the seeds say {right!r}"
    return None


KEYS = {
    "04.1": Number(
        (1 + 3 * 0.2) / 4,
        "the real one and a fifth of three fakes, of four inputs",
        mistakes={
            "that is a discriminator that makes no mistakes": 1 / 4,
            "that is one that makes no mistakes, and for two generators": 1 / 3,
            "that is for two generators": (1 + 2 * 0.2) / 3,
            "that is the share called fake": 1 - 0.4,
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
    "04.4": Design(_length_is_missing, "cut there, the drifting curve gives that number"),
    "04.5": Design(_rule_is_missing, "clear differences are decided, overlapping seeds are not"),
}
