"""Recorded runs side by side: from records to one number per system, seed and measure.

A ``Table`` holds all numbers of one data set after the same epoch. What they can say is in ``inference``, what they say
about the paper's claims in ``claims``; the tables that a reader sees are in ``sheets``.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from helpers.device import seeded
from helpers.evidence import inference, records
from helpers.evidence.inference import LEAST_SEEDS, Effect, Interval, Trend
from helpers.files import PROJECT
from helpers.gan.history import History
from helpers.gan.systems import SYSTEMS
from helpers.gan.training import Settings, Trainer
from helpers.measure import stability

BENCHMARK = PROJECT / "benchmarks" / "results.json"
BENCHMARKED = {"gan": "gan", "sngan": "sngan", "psg_average": "psg_2"}  # system -> the benchmark's name

MAIN = ("gan", "sngan", "psg_average", "psg_algorithm1")
# Data sets in a reader's words.
WORDS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "mnist_1000": "1,000 digits",
    "ring": "ring of 8",
    "grid": "grid of 25",
    "stacked_mnist": "stacked digits",
}
BANDS = (0.05, 0.1, 0.2)
SAME_EPOCH = 5  # epochs of convergence that lie no further apart, the width of the smoothing, count as the same
# What is followed over the epochs; the gap with its sign, because a curve that passes 0 would seem to turn round.
HALF = ", half of the run"
CURVES: dict[str, Callable[[History], np.ndarray]] = {
    "d_loss": lambda history: history["d_loss"],
    "g_loss": lambda history: history["g_loss"],
    "gap": lambda history: history["d_loss"] - history["g_loss"],
    "gap_halved": lambda history: history["d_loss"] / 2 - history["g_loss"],
    "pick_accuracy": lambda history: history["pick_accuracy"],
    "binary_accuracy": lambda history: (history["accuracy_real"] + history["accuracy_fake"]) / 2,
    "d_real": lambda history: history["d_real"],
    "called_real": stability.called_real,
    "mean_answer": stability.mean_answer,
}
# What is compared as a ratio: these cannot be negative, and their seeds scatter by factors.
BY_LOGARITHMS = ("fid", "fid_true_shares", "oscillation_d", "oscillation_g")
# Data sets with modes that can be counted -> the number that counts them.
COUNTED_MODES = {"ring": "modes_covered", "grid": "modes_covered", "stacked_mnist": "modes_reached"}


# ---- from records to one number per system, seed and measure --------------------------------------------------------


def read_all(systems=MAIN, dataset: str = "mnist", runs=records.RUNS) -> dict[str, list[records.Record]]:
    """All readable records of these systems: system -> records by seed. Systems without any are left out."""
    found = {system: records.load_runs(system, dataset, runs=runs) for system in systems}
    return {system: each for system, each in found.items() if each}


def read_others(datasets=("ring", "grid", "stacked_mnist", "mnist_1000"), systems=MAIN, runs=records.RUNS):
    """Data set -> the table of its runs after their common epoch, for claims that other data can speak to."""
    found = {dataset: read_all(systems, dataset, runs) for dataset in datasets}
    return {dataset: tabulate(each, common_epochs(each, systems), dataset) for dataset, each in found.items() if each}


def common_epochs(runs: dict[str, list[records.Record]], systems=MAIN, seeds: int = LEAST_SEEDS) -> int:
    """The most epochs that ``seeds`` runs of each of these systems have (or all its runs, where it has fewer).

    Runs that diverged do not shorten the comparison; ``tabulate`` counts them.
    """
    whole = ([len(run.history) for run in runs.get(s, ()) if run.history.status != "diverged"] for s in systems)
    return min((sorted(lengths, reverse=True)[:seeds][-1] for lengths in whole if lengths), default=0)


def first_epochs(history: History, epochs: int) -> History:
    """The history as it stood after so many epochs."""
    events = [event for event in history.events if event["epoch"] <= epochs]
    return History(history.settings, history.rows[:epochs], history.grids, history.status, events)


def with_grids(history: History, epochs) -> History:
    """The history with the samples of these epochs only, as for a narrower contact sheet."""
    grids = {epoch: history.grids[epoch] for epoch in epochs}
    return History(history.settings, history.rows, grids, history.status, history.events)


def diverged(run: records.Record, epochs: int) -> bool:
    """Whether a run had ended in NaN by then."""
    return run.history.status == "diverged" and len(run.history) <= epochs


def whole_runs(each: list[records.Record], epochs: int) -> list[records.Record]:
    """The runs that can be compared after so many epochs: long enough, and still well then."""
    return [run for run in each if len(run.history) >= epochs and not diverged(run, epochs)]


def curves(runs: dict[str, list[records.Record]], epochs: int, systems=MAIN) -> dict[str, list[History]]:
    """The first so many epochs of every run that can be compared: the system's label -> histories by seed."""
    found = {s: [run.history for run in whole_runs(runs.get(s, []), epochs)] for s in systems}
    return {each[0].label: [first_epochs(history, epochs) for history in each] for each in found.values() if each}


def course_numbers(record: records.Record, epochs: int) -> dict[str, float]:
    """Every number of a run's history after so many epochs; levels are means over the last fifth of them."""
    history, final = first_epochs(record.history, epochs), stability.final_level
    followed = known_curves(history)
    numbers = {name: final(curve) for name, curve in followed.items() if not name.startswith("gap")}
    numbers |= {
        "gap": final(stability.gap(history)),
        "gap_halved": final(stability.gap(history, halved=True)),
        "distance": final(stability.distance_to_equilibrium(history)),
        "oscillation_d": stability.oscillation(history["d_loss"]),
        "oscillation_g": stability.oscillation(history["g_loss"]),
        "collapsed": float(any(event["kind"] == "collapsed" for event in history.events)),
        "won": float(any(event["kind"] == "discriminator_won" for event in history.events)),
    }
    for curve in ("d_loss", "pick_accuracy"):
        for band in BANDS:
            for part, length in (("", epochs), (HALF, epochs // 2)):
                epoch = stability.convergence_epoch(followed[curve][:length], band) if length else None
                # A run that never settles counts as settling after its end: a bound, and no run is left out.
                numbers[convergence(curve, band) + part] = float(epoch or length + 1)
    return numbers


def known_curves(history: History) -> dict[str, np.ndarray]:
    """Every followed curve of a history that its objective has: a critic has no D(x)."""
    found = {}
    for name, curve in CURVES.items():
        try:
            found[name] = curve(history)
        except KeyError:
            continue
    return found


def convergence(curve: str, band: float) -> str:
    """The name of the measure: from which epoch a curve stays in a band around its final level."""
    return f"convergence of {curve}, band {band:.0%}"


def each_generator(record: records.Record) -> list[dict[str, float]]:
    """The quality of every generator alone after a run's last epoch; empty where it was not measured."""
    last = record.quality.get(max(record.quality, default=0), {})
    return [numbers for name, numbers in last.items() if name != "mixture"] or list(last.values())


def one_digit_generators(record: records.Record) -> int:
    """How many generators drew nine tenths of their samples from one class.

    The event "collapsed" cannot see them: it looks at the samples of all generators together, and at their pixels.
    """
    shares = [[part[key] for key in part if key.startswith("share_")] for part in each_generator(record)]
    return sum(max(each, default=0) >= 0.9 for each in shares)


@dataclass
class Table:
    """One number per system, seed and measure after ``epochs`` epochs; runs that diverged are counted, not averaged.

    Quality is that after epoch ``judged``, the last up to there at which all of these runs were measured.
    """

    epochs: int
    labels: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    diverged: dict[str, list[int]] = field(default_factory=dict)
    judged: int = 0
    dataset: str = "mnist"
    trends: dict[str, dict[str, Trend]] = field(default_factory=dict)  # system -> name in CURVES -> trend

    @property
    def where(self) -> str:
        """The data set and the length, for a verdict to carry."""
        return f"{WORDS.get(self.dataset, self.dataset)}, {self.epochs} epochs"

    def seeds(self, system: str) -> list[int]:
        return sorted(self.numbers.get(system, {}))

    def value(self, system: str, seed: int, name: str) -> float:
        return self.numbers[system][seed].get(name, nan)

    def interval(self, system: str, name: str) -> Interval:
        """A measure's mean over a system's seeds, for those of ``BY_LOGARITHMS`` the geometric one."""
        return Interval.of(self.values(system, name), name in BY_LOGARITHMS)

    def describe(self, *names: str, systems=None) -> str:
        """These systems (by default all) with their numbers in words, for a figure's alternative text."""
        systems = [system for system in systems or self.labels if self.seeds(system)]
        return "; ".join(
            f"{self.labels[s]} {', '.join(str(self.interval(s, name)) for name in names)}" for s in systems
        )

    def intervals(self, name: str) -> dict[str, Interval]:
        """The label of every system with runs of this length -> its interval of one measure."""
        return {label: self.interval(system, name) for system, label in self.labels.items() if self.seeds(system)}

    def legend(self, runs: dict[str, list], name: str) -> dict[str, list]:
        """The runs of every system that this table has, by the system's label and its mean of one measure."""
        known = [system for system in runs if self.seeds(system)]
        return {f"{self.labels[s]}: {self.interval(s, name).mean:.3g}": runs[s] for s in known}

    def leader(self, name: str, best=min) -> str:
        """Which system has the lowest mean of a measure (with ``best=max`` the highest), as words for a title."""
        means = {label: each.mean for label, each in self.intervals(name).items() if not isnan(each.mean)}
        word = "lowest" if best is min else "highest"
        return f"{word} mean at epoch {self.judged}: {best(means, key=means.get, default='not measured')}"

    def values(self, system: str, name: str) -> list[float]:
        return [self.value(system, seed, name) for seed in self.seeds(system)]

    def level(self, system: str, name: str) -> Effect:
        """One system's mean of a measure."""
        return inference.level(self.values(system, name))

    def effect(self, system: str, other: str, name: str, unit: str = "difference") -> Effect:
        """One system against another in a measure; ``unit`` as in ``inference.UNITS``."""
        values, others = self.values(system, name), self.values(other, name)
        if name.startswith("convergence") and min(values + others, default=0) > self.epochs:
            values = others = []  # where no seed of either settles they cannot be told apart
        return inference.effect(values, others, unit)

    def settles(self, systems: tuple[str, ...], curve: str) -> bool | None:
        """Whether a curve of these systems has a final level: False if one of them still moves, None if unknown."""
        found = [self.trends.get(system, {}).get(curve) for system in systems]
        answers = [None if trend is None else trend.settles for trend in found]
        return False if False in answers else None if None in answers else True

    def same_when_halved(self, system: str, name: str) -> bool:
        """Whether every seed has the same epoch of convergence when its run is cut in half."""
        whole, half = self.values(system, name), self.values(system, name + HALF)
        return all(abs(a - b) <= SAME_EPOCH for a, b in zip(whole, half, strict=True))


def tabulate(runs: dict[str, list[records.Record]], epochs: int, dataset: str = "mnist") -> Table:
    """The table at ``epochs``; runs that are shorter (and did not diverge) are left out, and systems without runs."""
    runs = {system: each for system, each in runs.items() if each}
    compared = {system: whole_runs(each, epochs) for system, each in runs.items()}
    measured = [set(run.quality) for each in compared.values() for run in each]
    judged = max((epoch for epoch in set.intersection(*measured) if epoch <= epochs), default=0) if measured else 0
    table = Table(epochs, judged=judged, dataset=dataset)
    for system, each in runs.items():
        table.labels[system] = each[0].history.label
        table.diverged[system] = [run.seed for run in each if diverged(run, epochs)]
        table.numbers[system] = {
            run.seed: course_numbers(run, epochs) | run.quality.get(judged, {}).get("mixture", {})
            for run in compared[system]
        }
        followed = [known_curves(first_epochs(run.history, epochs)) for run in compared[system]]
        table.trends[system] = {
            name: inference.trend([each[name] for each in followed]) for name in (followed[0] if followed else ())
        }
    return table


def seconds_per_epoch(benchmark: Path = BENCHMARK) -> dict[str, dict[str, Interval]]:
    """device -> system -> seconds per epoch of MNIST in the benchmark; the interval is from quartile to quartile.

    Recorded runs have seconds, too, but other work ran beside them: one system differs there several-fold.
    """
    if not Path(benchmark).exists():
        return {}
    found = {}
    for device, report in json.loads(Path(benchmark).read_text(encoding="utf-8")).items():
        measures, rounds = {m["name"]: m for m in report["measures"]}, report["settings"]["rounds"]
        chosen = {system: measures[f"{case}/ours"] for system, case in BENCHMARKED.items()}
        found[device] = {s: Interval(m["value"], m["low"], m["high"], rounds) for s, m in chosen.items()}
    return found


class _Multiplications(TorchDispatchMode):
    """Counts those of every matrix product that torch makes meanwhile, by the formulas of its own flop counter.

    The flop counter itself also follows modules, and stops where a penalty asks for a gradient within a step.
    """

    total = 0

    def __torch_dispatch__(self, operation, _types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        if formula := flop_registry.get(operation._overloadpacket):
            self.total += formula(*arguments, **(options or {}), out_val=result) // 2
        return result


@functools.cache  # tables ask for the same few systems a hundred times
def multiplications(system: str, data_shape: tuple[int, ...] = (1, 28, 28)) -> float:
    """Multiplications of one training step of a system on images or points of a shape: a step is taken, and counted.

    Counted are the products of matrices, those of every critic step and of a gradient of a gradient among them; not
    those of a matrix and a vector (spectral norm's own), nor what is done number by number.
    """
    row = SYSTEMS[system]
    images, labels = torch.zeros(1_000, *data_shape), torch.arange(1_000) % 10
    with seeded(0):  # and not ``make_trainer``, which starts the random numbers of a reader's GPU anew
        networks = row.networks(data_shape, 10 if row.conditional else 0)
    settings = Settings(**row.settings)
    trainer = Trainer(*networks, row.objective(), images, settings, labels if row.conditional else None)
    with _Multiplications() as count:
        trainer.step()
    return count.total
