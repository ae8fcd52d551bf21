"""Keys of notebook 00."""

from helpers.gan.objectives import PSG
from helpers.reader.questions import Choice, Number

KEYS = {
    "00.1": Choice(
        "rise",
        {
            "rise": "G climbs D's landscape, and D does not answer",
            "fall": "who would push the fakes downhill?",
        },
    ),
    "00.2": Number(
        PSG().equilibrium(2)["pick_accuracy"],
        "three images are in the race, and each is as likely to win as any other",
        mistakes={"that is the level for one generator": 1 / 2},
    ),
    "00.3": Number(
        50**0.5,
        "100 numbers of variance 1/2",
        tolerance=0.05,
        mistakes={"that is the length of the ends": 10.0, "that is its square": 50.0},
    ),
}
