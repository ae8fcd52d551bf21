"""Runs the matrix: ``python -m helpers.evidence.replicate``, the most wanted runs first, here or on a Dask cluster.

What is complete is skipped, and Ctrl-C loses nothing: the same command goes on. ``--status`` only says what is there
and what the rest costs, as ``matrix`` does.
"""

import argparse
import signal
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from helpers.device import pick_device
from helpers.evidence import matrix
from helpers.evidence.matrix import Run
from helpers.evidence.records import RUNS, RecordError, read_record
from helpers.evidence.workers import Cluster, ClusterError, Processes, Unfit, default_processes
from helpers.gan.resume import CheckpointError

COMMAND = "python -m helpers.evidence.replicate"
LOOK = 5.0  # seconds after which the driver looks for new workers, though no run has come back


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

    place: ``Processes`` or ``Cluster``. On KeyboardInterrupt processes bring what is under way to a
    checkpoint first; a cluster's runs fall back to their last interval.
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
        progress.say(f"stopping: {place.stop()}")
        for future in wait(under_way).done:
            if not future.cancelled():
                collect(future)
        raise
    finally:
        place.close()
        progress.bar.close()
    return failed


# ---- against other records -------------------------------------------------------------------------------------------


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
    matrix.add_arguments(parser)
    parser.add_argument("--against", type=Path, help="afterwards compare with the records in this runs folder")
    parser.add_argument("--processes", type=int, help="how many at once (default: one for each core or GPU)")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one; on a cluster the CPU), cpu, cuda"
    )
    parser.add_argument("--cluster", help="the address of a Dask scheduler, tcp://HOST:PORT, instead of processes here")
    parser.add_argument("--interval", type=float, default=10, help="minutes after which a run is brought in (10)")
    chosen = parser.parse_args(arguments)
    if chosen.processes is not None and chosen.processes < 1:
        parser.error(f"--processes {chosen.processes}; allowed: a whole number of at least 1")
    try:
        rows, runs = matrix.choose(chosen)
    except ValueError as error:
        sys.exit(str(error))
    if chosen.status:
        print(matrix.status(rows, runs))
        return
    todo = matrix.all_runs(rows)
    try:
        failed = _run(todo, runs, chosen)
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
