"""The matrix: which recorded runs the notebooks rest on, what of them is there, and what the rest costs.

The table is ``data/matrix.csv``, the most wanted rows first; to ask for more, add a line. ``replicate`` works through
it.
"""

import csv
import heapq
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
from statistics import median

import torch

from helpers.data.catalogue import CATALOGUE
from helpers.evidence.recorder import CHECKPOINT, is_complete
from helpers.evidence.records import RUNS, RecordError, read_record, run_folder
from helpers.files import PROJECT
from helpers.gan.history import History
from helpers.gan.networks import count_parameters
from helpers.gan.resume import CheckpointError, load_checkpoint
from helpers.gan.systems import SYSTEMS

MATRIX = PROJECT / "data" / "matrix.csv"
SMOKE = PROJECT / "data" / "matrix_smoke.csv"  # seconds: shows that everything works


@dataclass(frozen=True)
class Run:
    """One run of the matrix."""

    dataset: str
    system: str
    seed: int
    epochs: int
    weights: bool = True  # keep the generators' of seed 0

    def folder(self, runs: Path = RUNS) -> Path:
        return run_folder(runs, self.dataset, self.system, self.seed)

    def __str__(self) -> str:
        return f"{self.dataset} {self.system} seed {self.seed}"


@dataclass(frozen=True)
class Row:
    """One line of the table: every system with every seed."""

    purpose: str
    dataset: str
    systems: tuple[str, ...]
    seeds: range
    epochs: int
    weights: bool

    def runs(self) -> list[Run]:
        """Seed by seed, so that systems can be compared as soon as possible."""
        return [
            Run(self.dataset, system, seed, self.epochs, self.weights) for seed in self.seeds for system in self.systems
        ]


# ---- the table -------------------------------------------------------------------------------------------------------


def read_matrix(path: Path = MATRIX) -> list[Row]:
    """The rows of a table like ``data/matrix.csv``; ValueError names the line and what is allowed there."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    header = ["purpose", "dataset", "systems", "seeds", "epochs", "weights"]
    if not lines or lines[0] != header:
        raise ValueError(f"{path}: its first line is not {', '.join(header)}")
    return [_read_row(f"{path}, line {number}", line) for number, line in enumerate(lines[1:], 2) if any(line)]


def _read_row(place: str, cells: list[str]) -> Row:
    def check(name, value, fine, allowed):
        if not fine:
            raise ValueError(f"{place}: {name}={value!r}; allowed: {allowed}")

    check("cells", len(cells), len(cells) == 6, "6")
    purpose, dataset, systems, seeds, epochs, weights = cells
    check("dataset", dataset, dataset in CATALOGUE, ", ".join(CATALOGUE))
    for system in systems.split() or [""]:
        check("system", system, system in SYSTEMS, ", ".join(SYSTEMS))
    first, _, last = (seeds if "-" in seeds else f"{seeds}-{seeds}").partition("-")
    rising = first.isdecimal() and last.isdecimal() and int(first) <= int(last)
    check("seeds", seeds, rising, "a number, or the first and the last as in 0-2")
    check("epochs", epochs, epochs.isdecimal() and int(epochs) > 0, "a whole number of at least 1")
    check("weights", weights, weights in ("yes", "no"), "yes, no")
    seeds = range(int(first), int(last) + 1)
    return Row(purpose, dataset, tuple(systems.split()), seeds, int(epochs), weights == "yes")


def all_runs(rows: Iterable[Row]) -> list[Run]:
    """Every run once, in the order of the rows: where two ask for it, the longer one, which serves both."""
    longest = {}
    for run in (run for row in rows for run in row.runs()):
        other = longest.get(run.folder(), run)
        epochs, weights = max(run.epochs, other.epochs), run.weights or other.weights
        longest[run.folder()] = Run(run.dataset, run.system, run.seed, epochs, weights)
    return list(longest.values())


def systems(purpose: str, dataset: str = "mnist") -> tuple[str, ...]:
    """The systems that are recorded for a purpose on a data set: what a notebook shows, in the table's order."""
    rows = read_matrix()
    allowed = sorted({(row.purpose, row.dataset) for row in rows})
    if (purpose, dataset) not in allowed:
        listed = "; ".join(", ".join(map(repr, pair)) for pair in allowed)
        raise ValueError(f"purpose, dataset={purpose!r}, {dataset!r}; allowed: {listed}")
    return tuple(system for row in rows if (row.purpose, row.dataset) == (purpose, dataset) for system in row.systems)


# ---- what is there ---------------------------------------------------------------------------------------------------


def epochs_done(run: Run, runs: Path = RUNS) -> int:
    """How far a run is: ``run.epochs`` for a complete record, else the epoch of its checkpoint, else 0.

    Raises CheckpointError for a checkpoint that cannot be read.
    """
    if is_complete(run.folder(runs), run.epochs):
        return run.epochs
    state = load_checkpoint(run.folder(runs) / CHECKPOINT)
    return len(History.from_dict(state["trainer"]["history"])) if state else 0


def survey(todo: Iterable[Run], runs: Path = RUNS) -> dict[Run, int]:
    """How far each of these runs is; a checkpoint that cannot be read counts as none, with a warning."""
    found = {}
    for run in todo:
        try:
            found[run] = epochs_done(run, runs)
        except CheckpointError as error:
            warnings.warn(str(error), stacklevel=2)
            found[run] = 0
    return found


# ---- what it costs ---------------------------------------------------------------------------------------------------


def seconds_per_epoch(*folders: Path) -> dict[tuple[str, str], float]:
    """(data set, system) -> seconds per epoch on one CPU core: the median over the records in these runs folders.

    Other work ran beside many of them, so it is a bound rather than a measurement.
    """
    seconds = {}
    for path in {path for folder in folders for path in Path(folder).rglob("record.json")}:
        try:
            record = read_record(path.parent)
        except RecordError:
            continue  # whoever reads it as a record is told
        if record.provenance["device"].startswith("cpu"):
            dataset, system = path.parent.parts[-3:-1]
            seconds.setdefault((dataset, system), []).append(record.provenance["seconds"] / len(record.history))
    return {name: median(each) for name, each in seconds.items()}


def price(run: Run, known: dict[tuple[str, str], float]) -> tuple[float, str]:
    """Seconds per epoch of a run, and of which system they are if it has no record yet ("" if it has).

    The most similar system is the one on that data set whose players have the most nearly as many weights, and of
    several the dearest; where nothing was recorded on the data set, the dearest of all is taken.
    """
    if (run.dataset, run.system) in known:
        return known[run.dataset, run.system], ""
    if not known:
        return 1.0, "a guess"
    here = [system for dataset, system in known if dataset == run.dataset]
    if not here:
        dearest = max(known, key=known.get)
        return known[dearest], " ".join(dearest)
    size = _players_size(run.system)
    nearest = min(here, key=lambda s: (abs(log(_players_size(s) / size)), -known[run.dataset, s]))
    return known[run.dataset, nearest], nearest


@cache
def _players_size(system: str) -> int:
    with torch.random.fork_rng(devices=[]):
        generators, discriminator = SYSTEMS[system].networks((3, 32, 32), 10)
    return sum(map(count_parameters, generators)) + count_parameters(discriminator)


def hours_on(workers: int, hours: Iterable[float]) -> float:
    """When the last of these runs ends if each free worker takes the next of them, in their order."""
    free = [0.0] * workers
    for each in hours:
        heapq.heapreplace(free, free[0] + each)
    return max(free)
