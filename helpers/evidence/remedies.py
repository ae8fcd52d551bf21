"""Notebook 07's race: can parallel generators be made to win, at equal work?

WHAT EACH REMEDY SHOULD CHANGE, written on 2026-11-24 before any of these runs was made (known by then: GAN, SNGAN and
PSG-GAN without norm over 500 epochs, and one seed of PSG-GAN with spectral norm until epoch 300):

- spectral norm (``psg_sn``): holds D's slope, so the digits' shares stop drifting. FID comes near SNGAN's.
- minibatch standard deviation alone (``gan_std``, ``psg_std``): D sees a group that lacks variety, so shares are better
  after 50 epochs than without; its slope is not held and grows as before, so the drift comes later, not never.
- both (``sngan_std``, ``psg_sn_std``): shares a little better than with the norm alone, drawing as well.
- a head that tells the generators apart (``mgan_sn``): the generators divide the digits (their class histograms differ
  more), each is worse by itself; with equal shares of the mixture its class histogram is no better for it.
- learned shares (``mgan_sn_learned``): the mixture's class histogram improves on equal shares, drawing does not.
- in every pair the second generator buys less than the work it costs.

THE RULE: quality is compared at equal multiplications, those of so many epochs of SNGAN (``at_equal_work``); between
two measured epochs log FID is taken as linear in the logarithm of the work. A remedy beats SNGAN if the ratio of FIDs
is below 1 by Welch's test on logarithms, at 5 % for all remedies together (Holm); verdicts are those of ``claims``.
"All" are the ten of ``PAIRS`` beside SNGAN, recorded or not, since 2026-11-28: until then only those with three seeds
were counted, so a verdict could change because another remedy was recorded. (Five were then without three seeds.)
"""

from dataclasses import dataclass
from math import exp, log, nan

import numpy as np

from helpers.evidence import inference
from helpers.evidence.claims import FAILS, HOLDS, NO_SEEDS, NOT_MEASURED, OPEN
from helpers.evidence.comparison import multiplications
from helpers.evidence.inference import LEVEL, Effect
from helpers.evidence.records import Record

REFERENCE = "sngan"
# One generator and two (or four), with the same discriminator.
PAIRS = {
    "nothing": ("gan", "psg_average"),
    "spectral norm": ("sngan", "psg_sn"),
    "minibatch std": ("gan_std", "psg_std"),
    "both": ("sngan_std", "psg_sn_std"),
    "head, equal shares": ("sngan", "mgan_sn"),
    "head, learned shares": ("sngan", "mgan_sn_learned"),
    "spectral norm, K = 4": ("sngan", "psg_4_sn"),
}
RACERS = tuple(dict.fromkeys(system for pair in PAIRS.values() for system in pair))


def at_equal_work(record: Record, system: str, epochs: int, name: str = "fid") -> float:
    """A quality number of a run after the multiplications of so many epochs of SNGAN; NaN if it never got there.

    All racers have equally many steps in an epoch.
    """
    return between(record, epochs * multiplications(REFERENCE) / multiplications(system), name)


def between(record: Record, moment: float, name: str = "fid") -> float:
    """A quality number at any moment of a run, in epochs, also between two that were measured; NaN before
    the first of these, and from half an epoch after the last.

    Positive numbers only: they are interpolated by logarithms, those of the number and of the epoch.
    """
    measured = {epoch: each["mixture"][name] for epoch, each in record.quality.items() if name in each["mixture"]}
    known = sorted(epoch for epoch, value in measured.items() if value > 0)
    if not known or moment > max(known) + 0.5 or moment < min(known):
        return nan
    return exp(np.interp(log(moment), np.log(known), [log(measured[epoch]) for epoch in known]))


@dataclass(frozen=True)
class Result:
    """One system in the race: its seeds' numbers at equal work, its effect against SNGAN, and the verdict."""

    system: str
    values: list[float]
    effect: Effect
    verdict: str


def race(runs: dict[str, list[Record]], epochs: int, name: str = "fid") -> dict[str, Result]:
    """Every racer against SNGAN, recorded or not, at the work of so many of its epochs: does it win?"""
    values = {
        system: [value for run in runs.get(system, ()) if (value := at_equal_work(run, system, epochs, name)) == value]
        for system in RACERS
    }
    effects = {
        system: inference.effect(each, values[REFERENCE], "ratio")
        for system, each in values.items()
        if system != REFERENCE
    }
    family = [effect.p(1) if effect.enough else 1.0 for effect in effects.values()]  # all that are tried, see the rule
    adjusted = dict(zip(effects, inference.holm(family), strict=True))
    results = {}
    for system, effect in effects.items():
        if not min(effect.seeds):
            verdict = NOT_MEASURED
        elif not effect.enough:
            verdict = NO_SEEDS
        else:
            verdict = OPEN if adjusted[system] >= LEVEL else HOLDS if effect.mean < 1 else FAILS
        results[system] = Result(system, values[system], effect, verdict)
    return results
