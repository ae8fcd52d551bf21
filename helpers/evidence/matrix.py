"""The matrix: which recorded runs the notebooks rest on, what of them is there, and what the rest costs.

The table is ``data/matrix.csv``, the most wanted rows first; to ask for more, add a line. ``replicate`` works through
it. ``python -m helpers.evidence.matrix --status`` shows it with what is complete, half done and missing.
"""

import argparse
import csv
import heapq
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import log
from pathlib import Path
from statistics import median

from helpers.data.catalogue import CATALOGUE
from helpers.device import seeded
from helpers.evidence.recorder import CHECKPOINT, is_complete
from helpers.evidence.records import RUNS, RecordError, read_record, run_folder
from helpers.files import PROJECT
from helpers.gan.history import History
from helpers.gan.multiverse import OTHER_SETTINGS, ROWS
from helpers.gan.networks import count_parameters
from helpers.gan.resume import CheckpointError, load_checkpoint
from helpers.gan.systems import SYSTEMS, allowed_systems

MATRIX = PROJECT / "data" / "matrix.csv"
SMOKE = PROJECT / "data" / "matrix_smoke.csv"  # seconds: shows that everything works
COMMAND = "python -m helpers.evidence.matrix"
COLUMNS = ("purpose", "dataset", "systems", "seeds", "epochs", "weights", "settings")
OURS = "ours"  # in the column settings: what all runs outside the multiverse have
WORKERS = (1, 2, 10, 100, 1000)  # for how many the status says how long all takes


@dataclass(frozen=True)
class Run:
    """One run of the matrix."""

    dataset: str
    system: str
    seed: int
    epochs: int
    weights: bool = True  # keep the generators' of seed 0
    specification: str | None = None  # a name in helpers.gan.multiverse.OTHER_SETTINGS

    def folder(self, runs: Path = RUNS) -> Path:
        return run_folder(runs, self.dataset, self.system, self.seed, self.specification)

    def __str__(self) -> str:
        return f"{self.dataset} {self.system} seed {self.seed}" + (f" {self.specification}" * bool(self.specification))


@dataclass(frozen=True)
class Row:
    """One line of the table: every system with every seed under all of its settings."""

    purpose: str
    dataset: str
    systems: tuple[str, ...]
    seeds: range
    epochs: int
    weights: bool
    specifications: tuple[str | None, ...] = (None,)

    def runs(self) -> list[Run]:
        """The systems last, so that they can be compared as soon as possible."""
        return [
            Run(self.dataset, system, seed, self.epochs, self.weights, specification)
            for seed in self.seeds
            for specification in self.specifications
            for system in self.systems
        ]


# ---- the table -------------------------------------------------------------------------------------------------------


def read_matrix(path: Path = MATRIX) -> list[Row]:
    """The rows of a table like ``data/matrix.csv``; ValueError names the line and what is allowed there."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    if not lines or lines[0] != list(COLUMNS):
        raise ValueError(f"{path}: its first line is not {', '.join(COLUMNS)}")
    return [_read_row(f"{path}, line {number}", line) for number, line in enumerate(lines[1:], 2) if any(line)]


def _read_row(place: str, cells: list[str]) -> Row:
    def check(name, value, fine, allowed):
        if not fine:
            raise ValueError(f"{place}: {name}={value!r}; allowed: {allowed}")

    check("cells", len(cells), len(cells) == len(COLUMNS), f"{len(COLUMNS)}, as in the first line")
    purpose, dataset, systems, seeds, epochs, weights, settings = cells
    check("dataset", dataset, dataset in CATALOGUE, ", ".join(CATALOGUE))
    for system in systems.split() or [""]:
        check("system", system, system in SYSTEMS, ", ".join(SYSTEMS))
    first, _, last = (seeds if "-" in seeds else f"{seeds}-{seeds}").partition("-")
    rising = first.isdecimal() and last.isdecimal() and int(first) <= int(last)
    check("seeds", seeds, rising, "a number, or the first and the last as in 0-2")
    check("epochs", epochs, epochs.isdecimal() and int(epochs) > 0, "a whole number of at least 1")
    check("weights", weights, weights in ("yes", "no"), "yes, no")
    for name in settings.split() or [""]:
        check("settings", name, name in (OURS, "all", *OTHER_SETTINGS), f"{OURS}; all; {', '.join(OTHER_SETTINGS)}")
    names = ROWS if settings == "all" else [None if name == OURS else name for name in settings.split()]
    check("settings", settings, "all" not in names, "all alone, or several names")
    for system, allowed in product(systems.split(), [allowed_systems(OTHER_SETTINGS.get(name)) for name in names]):
        check("system", system, system in allowed, f"with these settings {', '.join(allowed)}")
    seeds = range(int(first), int(last) + 1)
    return Row(purpose, dataset, tuple(systems.split()), seeds, int(epochs), weights == "yes", tuple(names))


def all_runs(rows: Iterable[Row]) -> list[Run]:
    """Every run once, in the order of the rows: where two ask for it, the longer one, which serves both."""
    longest = {}
    for run in (run for row in rows for run in row.runs()):
        other = longest.get(run.folder(), run)
        epochs, weights = max(run.epochs, other.epochs), run.weights or other.weights
        longest[run.folder()] = replace(run, epochs=epochs, weights=weights)
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


Known = dict[tuple[str, str, str | None], float]  # (data set, system, specification) -> seconds per epoch


def seconds_per_epoch(*folders: Path) -> Known:
    """Seconds per epoch on one CPU core: the median over the records in these runs folders.

    Other work ran beside many of them, so it is a bound rather than a measurement.
    """
    seconds = {}
    for path in {path for folder in folders for path in Path(folder).rglob("record.json")}:
        try:
            record = read_record(path.parent)
        except RecordError:
            continue  # whoever reads it as a record is told
        if record.provenance["device"].startswith("cpu"):
            *_, above, specification, dataset, system, _ = ("", "", *path.parent.parts)
            name = dataset, system, specification if above == "multiverse" else None
            seconds.setdefault(name, []).append(record.provenance["seconds"] / len(record.history))
    return {name: median(each) for name, each in seconds.items()}


def price(run: Run, known: Known) -> tuple[float, str]:
    """Seconds per epoch of a run, and of which system they are if it has no record yet ("" if it has).

    The most similar system is the same one with our settings; else the one on that data set whose players have the
    most nearly as many weights, and of several the dearest; where nothing was recorded on the data set, the dearest of
    all is taken.
    """
    if (run.dataset, run.system, run.specification) in known:
        return known[run.dataset, run.system, run.specification], ""
    known = {(dataset, system): seconds for (dataset, system, other), seconds in known.items() if other is None}
    if not known:
        return 1.0, "a guess"
    if (run.dataset, run.system) in known:
        return known[run.dataset, run.system], f"{run.system} with our settings"
    here = [system for dataset, system in known if dataset == run.dataset]
    if not here:
        dearest = max(known, key=known.get)
        return known[dearest], " ".join(dearest)
    size = _players_size(run.system)
    nearest = min(here, key=lambda s: (abs(log(_players_size(s) / size)), -known[run.dataset, s]))
    return known[run.dataset, nearest], nearest


@cache
def _players_size(system: str) -> int:
    with seeded(0):  # their numbers do not matter, the reader's own do
        generators, discriminator = SYSTEMS[system].networks((3, 32, 32), 10)
    return sum(map(count_parameters, generators)) + count_parameters(discriminator)


def hours_on(workers: int, hours: Iterable[float]) -> float:
    """When the last of these runs ends if each free worker takes the next of them, in their order."""
    free = [0.0] * workers
    for each in hours:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


# ---- the status ------------------------------------------------------------------------------------------------------


def status(rows: list[Row], runs: Path = RUNS) -> str:
    """The matrix as a table: what is complete, half done and missing, and the core-hours of all and to go."""
    todo, known = all_runs(rows), seconds_per_epoch(runs, RUNS)
    done = survey(todo, runs)
    folders = {run.folder(): run for run in todo}
    prices = {run: price(run, known) for run in todo}

    def numbers(wanted: list[Run]) -> list[str]:
        """wanted: as long as a row asks; a run that another row wants longer may serve it already."""
        reached = [min(done[folders[run.folder()]], run.epochs) for run in wanted]
        complete = sum(n == run.epochs for n, run in zip(reached, wanted, strict=True))
        half = sum(0 < n < run.epochs for n, run in zip(reached, wanted, strict=True))
        hours = [prices[folders[run.folder()]][0] * run.epochs / 3600 for run in wanted]
        to_go = [h * (1 - n / run.epochs) for h, n, run in zip(hours, reached, wanted, strict=True)]
        return [f"{n}" for n in (complete, half, len(wanted) - complete - half)] + [
            f"{sum(hours):.3g}",
            f"{sum(to_go):.3g}",
        ]

    heads = ("purpose", "data set", "systems", "seeds", "epochs", "complete", "half done", "missing", "core-h", "to go")
    lines = [
        (row.purpose, row.dataset, f"{len(row.systems)}", _seeds(row.seeds), f"{row.epochs}", *numbers(row.runs()))
        for row in rows
    ]
    lines.append(("all, each run once", "", "", "", "", *numbers(todo)))
    parts = [_columns([heads, *lines])]
    half = [f"  {run}: epoch {done[run]} of {run.epochs}" for run in todo if 0 < done[run] < run.epochs]
    parts += ["\n".join(["half done:", *half])] if half else []
    priced = sorted({f"{run.dataset} {run.system} as {prices[run][1]}" for run in todo if prices[run][1]})
    parts += [f"priced by another system, for want of a record: {', '.join(priced)}"] if priced else []
    return "\n\n".join([*parts, _on_workers(todo, done, prices)])


def _on_workers(todo: list[Run], done: dict[Run, int], prices: dict) -> str:
    def hours(run, from_epoch=0):
        return prices[run][0] * (run.epochs - from_epoch) / 3600

    longest = max(todo, key=hours)
    lines = [("workers", *(f"{n:,}" for n in WORKERS))]
    for what, each in (("all", [hours(r) for r in todo]), ("to go", [hours(r, done[r]) for r in todo])):
        lines.append((f"hours, {what}", *(f"{hours_on(n, each):.3g}" for n in WORKERS)))
    bound = f"no number of workers is faster than the longest run: {longest}, {hours(longest):.3g} h"
    return f"{_columns(lines)}\n{bound}"


def _seeds(seeds: range) -> str:
    return f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"


def _columns(lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


# ---- the command line ------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs are meant, and where they lie."""
    parser.add_argument("--status", action="store_true", help="say what is there and what the rest costs, run nothing")
    parser.add_argument("--matrix", type=Path, default=MATRIX, help="another table (default: data/matrix.csv)")
    parser.add_argument("--smoke", action="store_true", help="a tiny matrix, into results/smoke: does it all work?")
    parser.add_argument("--only", default="", help="only rows with these words in their purpose or data set")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N - 1 in every row, whatever the table says")
    parser.add_argument("--runs", type=Path, help="the folder with the runs (default: data/runs)")


def choose(chosen: argparse.Namespace) -> tuple[list[Row], Path]:
    """The rows and the runs folder that were asked for; ValueError says what cannot be."""
    try:
        rows = read_matrix(SMOKE if chosen.smoke else chosen.matrix)
    except OSError as error:
        raise ValueError(f"the matrix cannot be read ({error})") from error
    rows = [row for row in rows if chosen.only in f"{row.purpose} {row.dataset}"]
    if not rows:
        raise ValueError(f"--only {chosen.only!r} leaves nothing; `{COMMAND} --status` shows all rows")
    if chosen.seeds is not None:
        if chosen.seeds < 1:
            raise ValueError(f"--seeds {chosen.seeds}; allowed: a whole number of at least 1")
        rows = [replace(row, seeds=range(chosen.seeds)) for row in rows]
    return rows, (chosen.runs or (PROJECT / "results" / "smoke" if chosen.smoke else RUNS)).resolve()


def main(arguments: list[str] | None = None) -> None:
    """Say which recorded runs the notebooks rest on, which of them are there, and what the rest costs."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    add_arguments(parser)
    try:
        print(status(*choose(parser.parse_args(arguments))))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
