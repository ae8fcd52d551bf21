"""Who works on the matrix: processes of this machine, or the workers of a Dask cluster.

Both take runs one by one and give them back an interval later, a record or a checkpoint further. Which worker gets
which run, and what happens when one dies, is Dask's affair. ``replicate`` decides which run comes next.
"""

import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from math import inf
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from helpers.data.files import DataError
from helpers.evidence.matrix import Run
from helpers.evidence.recorder import CHECKPOINT, record_run, write_run
from helpers.evidence.records import RecordError, digest, read_record
from helpers.files import PROJECT, write_atomically
from helpers.gan.resume import CheckpointError, MismatchError


class Unfit(RuntimeError):
    """This worker cannot do it, another may: its address and the reason."""


class ClusterError(RuntimeError):
    """The cluster cannot be used; the message says what to do."""


def work_on(run: Run, runs: Path, device: str, seconds: float, is_stopped=lambda: False, every: float = 60.0) -> None:
    """Begin or continue a run, and leave a record or, after ``seconds`` and the epoch then under way, a checkpoint."""
    torch.set_num_threads(1)
    end = time.monotonic() + seconds
    record_run(
        run.system,
        run.dataset,
        run.seed,
        run.epochs,
        runs,
        device,
        every=every,
        progress=False,
        weights=run.weights,
        specification=run.specification,
        pause=lambda: is_stopped() or time.monotonic() > end,
        stand_ins=False,
    )


# ---- processes of this machine ---------------------------------------------------------------------------------------


class Processes:
    """``count`` processes with one thread each, on this machine's GPUs by turns where ``device`` is "cuda"."""

    def __init__(self, count: int, runs: Path, device: str, interval: float):
        self.runs, self.device, self.interval = runs, device, interval
        self._spawn = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        self._stopped = self._spawn.Event()
        # A pool for each, so that a process that dies takes no other's run with it.
        self._pools, self._free, self._busy = {}, list(reversed(range(count))), {}

    def room(self) -> int:
        """How many more runs can be taken now."""
        return len(self._free)

    def submit(self, run: Run) -> Future:
        """Work on a run for one interval."""
        place = self._free.pop()
        if place not in self._pools:
            gpu = place % torch.cuda.device_count() if self.device == "cuda" else None
            self._pools[place] = ProcessPoolExecutor(1, self._spawn, _start, (self._stopped, gpu))
        future = self._pools[place].submit(_work_here, run, self.runs, self.device, self.interval)
        self._busy[future] = place
        return future

    def collect(self, future: Future) -> None:
        """Take back what was submitted, now that it is done; raises what went wrong."""
        place = self._busy.pop(future)
        self._free.append(place)
        try:
            future.result()
        except BrokenProcessPool as error:
            self._pools.pop(place).shutdown()
            raise RuntimeError("its process died; was it killed, or is memory short?") from error

    def stop(self) -> str:
        """Let every run end its epoch, write a checkpoint and come back; that, in words for the reader."""
        self._stopped.set()
        return "what is under way ends its epoch and is kept"

    def close(self) -> None:
        self.stop()
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


def _start(stopped, gpu: int | None) -> None:
    global _is_stopped
    _is_stopped = stopped.is_set  # in this process from now on
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process, too; ``stop`` is what counts
    if gpu is not None:
        torch.cuda.set_device(gpu)


def _work_here(run: Run, runs: Path, device: str, seconds: float) -> None:
    work_on(run, runs, device, seconds, _is_stopped)


# ---- a Dask cluster --------------------------------------------------------------------------------------------------


class Cluster:
    """The workers behind a Dask scheduler, each a process with one thread, a copy of this project and the data sets.

    Runs travel as bytes: the client's folder holds every checkpoint and record, and no disk is shared.
    """

    def __init__(self, address: str, runs: Path, device: str, interval: float, notice: Callable[[str], None] = print):
        try:
            from distributed import Client
        except ImportError as error:
            raise ClusterError('--cluster needs Dask: pip install -e ".[cluster]"') from error
        warnings.filterwarnings("ignore", "Sending large graph")  # a checkpoint is as large as it is
        self.runs, self.device, self.interval, self.notice = runs, device, interval, notice
        try:
            self._client = Client(address, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClusterError(f"no Dask scheduler answers at {address} ({error})") from error
        self._fit, self._unfit, self._busy = set(), set(), {}

    def room(self) -> int:
        """How many more runs can be taken now; ClusterError where the cluster is gone or no worker of it is fit."""
        try:
            threads = self._client.nthreads()
            if new := [address for address in threads if address not in self._fit | self._unfit]:
                answers = self._client.run(find_problem, describe_code(), self.device, workers=new, on_error="return")
                for address, problem in answers.items():
                    problem = problem or ("" if threads[address] == 1 else "it was not started with --nthreads 1")
                    self._leave_out(address, problem) if problem else self._fit.add(address)
        except OSError as error:
            raise ClusterError(f"the scheduler no longer answers ({error}); the same command continues") from error
        self._fit &= threads.keys()
        if threads and not self._fit and not self._busy:
            raise ClusterError("none of the cluster's workers is fit for this; what they lack stands above")
        return len(self._fit) - len(self._busy)

    def submit(self, run: Run) -> Future:
        """Send a run with its last checkpoint; RecordError where another process on this machine has it."""
        folder = run.folder(self.runs)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecordError(f"{folder} is being recorded by another process") from None
        files = {path.name: path.read_bytes() for path in folder.glob(f"{CHECKPOINT}*")}
        # Not only these workers: should all of them be gone, the run comes back as Unfit instead of waiting for ever.
        executor = self._client.get_executor(pure=False, workers=sorted(self._fit), allow_other_workers=True)
        future = executor.submit(_work_there, run, files, self.device, self.interval, describe_code())
        self._busy[future] = run, lock
        return future

    def collect(self, future: Future) -> None:
        """Keep the record or checkpoint that came back; raises what went wrong, Unfit if it was the worker."""
        run, lock = self._busy.pop(future)
        folder = run.folder(self.runs)
        try:
            files = future.result()
            if CHECKPOINT in files:
                write_atomically(folder / CHECKPOINT, files[CHECKPOINT])
            else:
                write_run(folder, files)
                read_record(folder)
        except Unfit as error:
            self._leave_out(*error.args)
            raise
        except CancelledError as error:
            raise RuntimeError("the cluster gave it up") from error
        finally:
            lock.release()

    def stop(self) -> str:
        """Leave the cluster's work undone: what was submitted ends as cancelled; that, in words for the reader."""
        for future in [future for future in self._busy if future.cancel()]:
            _, lock = self._busy.pop(future)
            lock.release()
        return "what the cluster has under way is left undone; it goes on from what last came back"

    def close(self) -> None:
        self._client.close()

    def _leave_out(self, address: str, problem) -> None:
        self._fit.discard(address)
        self._unfit.add(address)
        self.notice(f"{address} gets no more runs: {problem}")


def describe_code() -> dict[str, str]:
    """What has to be the same wherever a part of one run is computed."""
    return {"torch": str(torch.__version__), "helpers": _code_digest()}


@cache
def _code_digest() -> str:
    sources = sorted((PROJECT / "helpers").rglob("*.py"))
    return digest(b"".join(path.relative_to(PROJECT).as_posix().encode() + path.read_bytes() for path in sources))[:12]


def find_problem(wanted: dict[str, str], device: str) -> str:
    """On a worker: why it may not take part, or nothing."""
    here = describe_code()
    differing = [f"{name} {here[name]}, but {wanted[name]} is wanted" for name in wanted if here[name] != wanted[name]]
    if device == "cuda" and not torch.cuda.is_available():
        differing.append("it has no GPU")
    return "; ".join(differing)


def _work_there(run: Run, files: dict[str, bytes], device: str, seconds: float, wanted: dict) -> dict[str, bytes]:
    """On a worker: continue a run from its files for so long, and give back its files."""
    from distributed import get_worker

    worker = get_worker()
    if problem := find_problem(wanted, device):
        raise Unfit(worker.address, problem)
    try:
        with tempfile.TemporaryDirectory(dir=worker.local_directory) as runs:
            folder = run.folder(Path(runs))
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            work_on(run, Path(runs), device, seconds, every=inf)
            names = {path.name for path in folder.iterdir()} - {"lock", f"{CHECKPOINT}.previous"}
            return {name: (folder / name).read_bytes() for name in names}
    except MismatchError:  # the same on every worker
        raise
    except (RecordError, CheckpointError, DataError, OSError) as error:  # its disk, its data
        raise Unfit(worker.address, f"{run}: {error}") from error


def default_processes(device: str) -> int:
    """One process for each GPU, or for each CPU core that this process may use."""
    if device != "cpu":
        return max(torch.cuda.device_count(), 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
