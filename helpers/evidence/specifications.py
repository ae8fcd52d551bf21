"""What the multiverse says: PSG-GAN against SNGAN under every specification, and which choice moves the outcome.

The specifications and what is read off them stand in ``helpers.gan.multiverse``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.evidence.comparison import Table, read_all, tabulate
from helpers.evidence.inference import LEVEL, Effect, holm
from helpers.evidence.records import RUNS, specification_folder
from helpers.gan.multiverse import CHOICES, EPOCHS, ROWS, SPECIFICATIONS, SYSTEMS

COMPARED = ("psg_average", "sngan")  # what every reading needs; the GAN stands beside them

# The claims that are read off each specification: words -> whether an outcome agrees.
READINGS = {
    "better digits (FID below SNGAN's)": lambda outcome: outcome.fid_ratio < 1,
    "gap 20 % to 60 % smaller, L_D": lambda outcome: 0.2 < outcome.reduction < 0.6,
    "gap 20 % to 60 % smaller, L_D/2": lambda outcome: 0.2 < outcome.reduction_halved < 0.6,
    "pick accuracy within 0.05 of 1/3": lambda outcome: abs(outcome.pick_accuracy - 1 / 3) < 0.05,
}


@dataclass(frozen=True)
class Outcome:
    """PSG-GAN (average loss) under one specification; each number is a mean over the seeds there are.

    Of FID it is the geometric mean.
    """

    name: str
    fid_ratio: float  # FID over SNGAN's
    reduction: float  # of the gap, against SNGAN's, with L_D as it is
    reduction_halved: float  # with L_D/2
    pick_accuracy: float
    fids: dict[str, float]  # system -> FID, of those that are recorded
    seeds: int


def high_levels(name: str) -> dict[str, bool]:
    """Choice -> whether the specification of this name has its high level."""
    return {choice: getattr(SPECIFICATIONS[name], choice) == levels[1] for choice, levels in CHOICES.items()}


def read_outcomes(runs: Path = RUNS) -> list[Outcome]:
    """One outcome per specification of which PSG-GAN and SNGAN are recorded, lowest ratio of FIDs first.

    The centre is what all other runs have: it is read off those, as they stood after as many epochs.
    """
    tables = {name: _read_table(name, runs) for name in SPECIFICATIONS}
    found = [_outcome(name, table) for name, table in tables.items() if all(map(table.seeds, COMPARED))]
    return sorted(found, key=lambda outcome: outcome.fid_ratio)


def read_fids(name: str, runs: Path = RUNS) -> dict[str, float]:
    """System -> its FID under the specification of this name, for those systems that are recorded."""
    return _fids(_read_table(name, runs))


def _read_table(name: str, runs: Path) -> Table:
    recorded = read_all(SYSTEMS, "mnist", specification_folder(runs, name if name in ROWS else None))
    return tabulate(recorded, EPOCHS)


def _fids(table: Table) -> dict[str, float]:
    return {system: table.interval(system, "fid").mean for system in SYSTEMS if table.seeds(system)}


def _outcome(name: str, table: Table) -> Outcome:
    def mean(system, measure):
        return table.interval(system, measure).mean

    return Outcome(
        name,
        mean("psg_average", "fid") / mean("sngan", "fid"),
        1 - mean("psg_average", "gap") / mean("sngan", "gap"),
        1 - mean("psg_average", "gap_halved") / mean("sngan", "gap_halved"),
        mean("psg_average", "pick_accuracy"),
        _fids(table),
        min(len(table.seeds(system)) for system in COMPARED),
    )


def agreement(outcomes: list[Outcome]) -> dict[str, tuple[int, int]]:
    """Each reading -> in how many rows of the design it holds, of how many; the centre is no row."""
    rows = [outcome for outcome in outcomes if outcome.name in ROWS]
    return {words: (sum(map(agrees, rows)), len(rows)) for words, agrees in READINGS.items()}


def main_effects(outcomes: list[Outcome], measure: Callable[[Outcome], float]) -> dict[str, Effect]:
    """Choice -> the factor by which its high level multiplies a measure; needs all twelve rows, else nothing.

    measure: outcome -> a positive number, as ``lambda outcome: outcome.fid_ratio``
    An additive model of its logarithm: each choice meets both levels of every other equally often, so that its effect
    is a difference of the means of six rows and six; what the model leaves over is the error of all effects alike.
    An interaction of two choices enters the effects of the others by a third, and what is left of it the error.
    """
    rows = [outcome for outcome in outcomes if outcome.name in ROWS]
    if len(rows) < len(ROWS):
        return {}
    model = np.array([[1, *high_levels(row.name).values()] for row in rows], dtype=float)
    logarithms = np.log([measure(row) for row in rows])
    coefficients = np.linalg.lstsq(model, logarithms, rcond=None)[0]
    freedom = len(rows) - len(coefficients)
    variance = np.sum((logarithms - model @ coefficients) ** 2) / freedom
    half = len(rows) // 2
    error = float(np.sqrt(variance * (1 / half + 1 / half)))
    return {
        choice: Effect("ratio", float(centre), error, freedom, (half, half))
        for choice, centre in zip(CHOICES, coefficients[1:], strict=True)
    }


def clear_choices(effects: dict[str, Effect]) -> list[str]:
    """Those whose effect is not 1 by Holm's correction over all that are given."""
    adjusted = holm([each.p(1) for each in effects.values()])
    return [choice for choice, p in zip(effects, adjusted, strict=True) if p < LEVEL]
