"""What it costs to spread runs over processes or Dask's workers: ``python -m benchmarks.replication``.

The same runs are made by the plain recorder, by ``replicate`` on one and two processes, and by one and two workers of a
local Dask cluster. Each row gives the wall-clock time, the CPU seconds of all processes together, and two speed-ups: by
the clock, and as it follows from the CPU seconds if each process has a core to itself (workers x CPU seconds of the
plain recorder / CPU seconds). On a machine with other work only the latter means anything.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from helpers.evidence import matrix
from helpers.files import PROJECT

PYTHON = [sys.executable, "-m"]


@contextmanager
def dask_cluster(folder: Path, workers: int):
    """The arguments by which ``replicate`` finds a scheduler and so many workers on this machine."""
    address = folder / "scheduler.json"
    common = ["--scheduler-file", str(address), "--no-dashboard", "--host", "127.0.0.1"]
    with open(folder / "dask.log", "w") as log:
        start = {"cwd": PROJECT, "stdout": log, "stderr": log}
        processes = [subprocess.Popen([*PYTHON, "dask", "scheduler", "--port", "0", *common], **start)]
        while not (address.exists() and address.read_text().rstrip().endswith("}")):
            time.sleep(0.1)
        worker = [*PYTHON, "dask", "worker", "--nthreads", "1", "--local-directory", str(folder), *common]
        processes += [subprocess.Popen(worker, **start) for _ in range(workers)]
        from distributed import Client

        with Client(scheduler_file=str(address), set_as_default=False) as client:
            client.wait_for_workers(workers)
            found = client.scheduler.address
        try:
            yield ["--cluster", found]
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def measure(command: list[str], cluster: int = 0) -> tuple[float, float]:
    """Wall-clock seconds of a command, and CPU seconds of it and all that it starts, the cluster included."""
    with tempfile.TemporaryDirectory() as folder:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [*PYTHON, *command, "--runs", folder + "/runs"]
        if cluster:
            with dask_cluster(Path(folder), cluster) as arguments:
                begun = time.perf_counter()
                subprocess.run([*command, *arguments], cwd=PROJECT, check=True, capture_output=True)
                wall = time.perf_counter() - begun
        else:
            begun = time.perf_counter()
            subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            wall = time.perf_counter() - begun
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replication")
    parser.add_argument("--runs", type=int, default=4, help="how many runs of GAN on the ring of 8")
    parser.add_argument("--epochs", type=int, default=20)
    chosen = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = [str(seed) for seed in range(chosen.runs)]
    plain = ["helpers.evidence.recorder", "--systems", "gan", "--dataset", "ring", "--epochs", str(chosen.epochs)]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "matrix.csv"
        line = f"points, ring, gan, 0-{chosen.runs - 1}, {chosen.epochs}, yes, {matrix.OURS}"
        table.write_text(", ".join(matrix.COLUMNS) + f"\n{line}\n")
        spread = ["helpers.evidence.replicate", "--matrix", str(table), "--device", "cpu"]
        print(f"{chosen.runs} runs of {chosen.epochs} epochs; load before: {os.getloadavg()[0]:.1f}", flush=True)
        plain_wall, alone = measure([*plain, "--seeds", *seeds])
        print(f"plain recorder  wall {plain_wall:6.1f} s  CPU {alone:6.1f} s", flush=True)
        for name, cluster in (("process(es)", False), ("Dask worker(s)", True)):
            for count in (1, 2):
                how = spread if cluster else [*spread, "--processes", str(count)]
                wall, cpu = measure(how, count if cluster else 0)
                times = f"{count} {name:14s} wall {wall:6.1f} s  CPU {cpu:6.1f} s"
                print(f"{times}  speed-up {plain_wall / wall:.2f}, by CPU {count * alone / cpu:.2f}", flush=True)


if __name__ == "__main__":
    main()
