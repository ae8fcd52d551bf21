"""Runs the matrix: ``python -m helpers.evidence.replicate``, the most wanted runs first, here or on a Dask cluster.

``--status`` only says what is complete, half done and missing, and what the rest costs. Ctrl-C loses nothing: the same
command goes on.
"""

import argparse
import signal
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from helpers.device import pick_device
from helpers.evidence import matrix
from helpers.evidence.matrix import Row, Run
from helpers.evidence.records import RUNS, RecordError, read_record
from helpers.evidence.workers import Cluster, ClusterError, Processes, Unfit, default_processes
from helpers.files import PROJECT
from helpers.gan.resume import CheckpointError

COMMAND = "python -m helpers.evidence.replicate"
LOOK = 5.0  # seconds after which the driver looks for new workers, though no run has come back
WORKERS = (1, 10, 100, 1000)  # for how many the status says how long all takes


# ---- the driver ------------------------------------------------------------------------------------------------------


class Progress:
    """One bar over everything that is to be computed, in core-hours by the records' prices, and when it will end."""

    def __init__(self, todo: list[Run], runs: Path, show: bool = True):
        known = matrix.seconds_per_epoch(runs, RUNS)
        self.runs, self.workers = runs, 1  # how many are at work now
        self.computed, self.busy = 0.0, 0.0  # hours of work done: by the records' prices, and as they were
        self.hours = {run: matrix.price(run, known)[0] / 3600 for run in todo}  # per epoch
        self.done = matrix.survey(todo, runs)
        layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.3g} of {total:.3g} core-hours, {elapsed}{postfix}"
        self.bar = tqdm(total=sum(self.left(run) for run in todo), desc="matrix", bar_format=layout, disable=not show)

    def left(self, run: Run) -> float:
        """Core-hours to go of a run."""
        return self.hours[run] * (run.epochs - self.done[run])

    def update(self, run: Run, seconds: float) -> bool:
        """Look how far a run is after so many more seconds of work; whether it is complete."""
        before, self.done[run] = self.left(run), matrix.epochs_done(run, self.runs)
        gain = before - self.left(run)
        self.computed, self.busy = self.computed + gain, self.busy + seconds / 3600
        complete = sum(self.done[each] == each.epochs for each in self.done)
        said = f"{complete} of {len(self.done)} runs complete, all about {self.end()}"
        self.bar.set_postfix_str(said, refresh=False)
        self.bar.update(gain)
        if self.done[run] == run.epochs:
            self.say(f"{run}: complete; {said}")
        return self.done[run] == run.epochs

    def end(self) -> str:
        """When all will be complete, if everything goes on as fast or slowly as so far."""
        hours = matrix.hours_on(self.workers, map(self.left, self.done))
        pace = self.busy / self.computed if self.computed else 1
        return time.strftime("%a %d %b %H:%M", time.localtime(time.time() + 3600 * hours * pace))

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=sys.stderr)


def replicate(todo: list[Run], place, progress: Progress) -> dict[Run, Exception]:
    """Work through the runs, each begun one before any new one; those that failed, with what went wrong.

    place: ``Processes`` or ``Cluster``. On KeyboardInterrupt what is under way is brought to a checkpoint first.
    """
    waiting, under_way, failed = deque(todo), {}, {}

    def collect(future):
        run, begun = under_way.pop(future)
        try:
            place.collect(future)
            if not progress.update(run, time.monotonic() - begun):
                waiting.appendleft(run)
        except Unfit:
            waiting.appendleft(run)
        except Exception as error:  # whatever a run may die of, the others go on
            fail(run, error)

    def fail(run, error):
        failed[run] = error
        progress.say(f"{run}: {error}")

    try:
        while waiting or under_way:
            while waiting and place.room() > 0:
                run = waiting.popleft()
                try:
                    under_way[place.submit(run)] = run, time.monotonic()
                except (RecordError, OSError) as error:
                    fail(run, error)
            progress.workers = len(under_way) or 1
            if under_way:
                for future in wait(under_way, LOOK, FIRST_COMPLETED).done:
                    collect(future)
            elif waiting:
                progress.bar.set_postfix_str("waiting for workers")
                time.sleep(LOOK)
    except KeyboardInterrupt:
        progress.say("stopping: what is under way ends its epoch and is kept")
        place.stop()
        for future in wait(under_way).done:
            collect(future)
        raise
    finally:
        place.close()
        progress.bar.close()
    return failed


# ---- what is said ----------------------------------------------------------------------------------------------------


def status(rows: list[Row], runs: Path = RUNS) -> str:
    """The matrix as a table: what is complete, half done and missing, and the core-hours of all and to go."""
    todo, known = matrix.all_runs(rows), matrix.seconds_per_epoch(runs, RUNS)
    done = matrix.survey(todo, runs)
    folders = {run.folder(): run for run in todo}
    prices = {run: matrix.price(run, known) for run in todo}

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
        lines.append((f"hours, {what}", *(f"{matrix.hours_on(n, each):.3g}" for n in WORKERS)))
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


def comparison_with(run: Run, runs: Path, kept: Path) -> str:
    """How a run's record agrees with the one in another folder, over the epochs that both have."""
    try:
        new, old = read_record(run.folder(runs)), read_record(run.folder(kept))
    except RecordError as error:
        return f"{run}: not compared, {error}"
    epochs = min(len(new.history), len(old.history))
    columns = [name for name in new.history.columns if name in old.history.columns and name != "seconds"]
    equal = np.all([new.history[name][:epochs] == old.history[name][:epochs] for name in columns], axis=0)
    if equal.all():
        return f"{run}: every number of its {epochs} epochs is the kept one"
    pairs = [(name, new.history[name][epochs - 1], old.history[name][epochs - 1]) for name in ("d_loss", "g_loss")]
    judged = max(new.quality.keys() & old.quality.keys(), default=0)
    if judged:
        one, other = new.quality[judged]["mixture"], old.quality[judged]["mixture"]
        pairs += [(name, one[name], other[name]) for name in ("fid", "modes_covered") if name in one and name in other]
    listed = ", ".join(f"{name} {one:.3g} (kept: {other:.3g})" for name, one, other in pairs)
    return f"{run}: differs from epoch {int(equal.argmin()) + 1} on; after {epochs}: {listed}"


# ---- the command line ------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Work through the matrix of recorded runs, the most wanted first; what is complete is skipped."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--status", action="store_true", help="say what is there and what the rest costs, run nothing")
    parser.add_argument("--matrix", type=Path, default=matrix.MATRIX, help="another table (default: data/matrix.csv)")
    parser.add_argument("--smoke", action="store_true", help="a tiny matrix, into results/smoke: does it all work?")
    parser.add_argument("--only", default="", help="only rows with these words in their purpose or data set")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N - 1 in every row, whatever the table says")
    parser.add_argument("--runs", type=Path, help="the folder to write to (default: data/runs)")
    parser.add_argument("--against", type=Path, help="afterwards compare with the records in this runs folder")
    parser.add_argument("--processes", type=int, help="how many at once (default: one for each core or GPU)")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one; on a cluster the CPU), cpu, cuda"
    )
    parser.add_argument("--cluster", help="the address of a Dask scheduler, tcp://HOST:PORT, instead of processes here")
    parser.add_argument("--interval", type=float, default=10, help="minutes after which a run is brought in (10)")
    chosen = parser.parse_args(arguments)
    runs = chosen.runs or (PROJECT / "results" / "smoke" if chosen.smoke else RUNS)
    try:
        rows = matrix.read_matrix(matrix.SMOKE if chosen.smoke else chosen.matrix)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    rows = [row for row in rows if chosen.only in f"{row.purpose} {row.dataset}"]
    if not rows:
        sys.exit(f"--only {chosen.only!r} leaves nothing; `{COMMAND} --status` shows all rows")
    if chosen.seeds:
        rows = [replace(row, seeds=range(chosen.seeds)) for row in rows]
    if chosen.status:
        print(status(rows, runs))
        return
    todo = matrix.all_runs(rows)
    try:
        failed = _run(todo, runs.resolve(), chosen)
    except ClusterError as error:
        sys.exit(str(error))
    if chosen.against:
        print("\n".join(comparison_with(run, runs, chosen.against) for run in todo))
    if failed:
        sys.exit("\n".join([f"{len(failed)} not recorded:", *(f"  {run}: {error}" for run, error in failed.items())]))


def _run(todo: list[Run], runs: Path, chosen: argparse.Namespace) -> dict[Run, Exception]:
    missing, failed = [], {}
    for run in todo:
        try:
            if matrix.epochs_done(run, runs) < run.epochs:
                missing.append(run)
        except CheckpointError as error:
            failed[run] = error
    print(f"{len(todo) - len(missing) - len(failed)} of {len(todo)} runs are complete")
    if not missing:
        return failed
    seconds = 60 * chosen.interval
    if chosen.cluster:
        device = "cpu" if chosen.device == "auto" else chosen.device
        place = Cluster(chosen.cluster, runs, device, seconds, lambda text: tqdm.write(text, file=sys.stderr))
    else:
        device = pick_device(chosen.device).type
        place = Processes(chosen.processes or default_processes(device), runs, device, seconds)
    return failed | replicate(missing, place, Progress(missing, runs, sys.stderr.isatty()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a queue's time limit is a Ctrl-C
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
