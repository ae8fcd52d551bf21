"""Keys of notebook 00."""

from helpers.reader.questions import Choice, Design, Number


def too_quick_or_uncovered(design, play) -> str | None:
    """What is missing in a game that has to cover 6 modes without a quick D; play: (**design) -> modes covered."""
    if not isinstance(design, dict):
        return f"a design is a dict such as {{'count': 2}}, this is {design!r}"
    if others := set(design) - {"count", "loss", "spectral", "pace"}:  # a preset brings its pace along
        return f"{', '.join(map(repr, sorted(map(str, others))))} may not differ here; choose count, loss and spectral"
    if design.get("pace", 1.0) > 1:
        return f"D's pace is {design['pace']:g}; here it has to stay at 1"
    covered = play(**design)
    return None if covered >= 6 else f"your game covers {covered:.0f} of 8 modes after 300 steps; at least 6 are asked"


def compared(modes: dict) -> str:
    """Whether G alone serves more modes than before, as many or fewer."""
    change = modes["after"] - modes["before"]
    return "more" if change > 0 else "fewer" if change < 0 else "as many"


KEYS = {
    "00.1": Choice(
        compared,
        {
            "more": "from {modes[before]:.0f} modes to {modes[after]:.0f}: nothing calls a fake from a crowded mode to "
            "another",
            "as many": "from {modes[before]:.0f} modes to {modes[after]:.0f}: each fake runs uphill, also away from a "
            "mode that D believes in a little less",
            "fewer": "from {modes[before]:.0f} modes to {modes[after]:.0f}: the fakes gather where D believes most, "
            "and D does not answer",
        },
    ),
    "00.2": Choice(
        "D is up to date",
        {
            "D forgives": "the crowded places are darker than with a slow D",
            "D is up to date": "crowded places are dark at once, so neglected modes pull the fakes next to them",
            "G is slower": "G's learning rate is the same; only D's was changed",
        },
    ),
    "00.3": Design(too_quick_or_uncovered, "at least 6 modes, and D's pace is not above 1"),
    "00.4": Number(
        50**0.5,
        "100 numbers of variance 1/2",
        tolerance=0.05,
        mistakes={"that is the length of the ends": 10.0, "that is its square": 50.0},
    ),
}
