"""The matrix is worked through on processes and on a real Dask cluster: the records are the plain recorder's bit by
bit, whatever is interrupted, killed, full or of another version on the way.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from tiny import assert_same, contents

from helpers.evidence import matrix, replicate, workers
from helpers.evidence.matrix import Run
from helpers.evidence.recorder import record_run
from helpers.evidence.records import read_record
from helpers.evidence.workers import Unfit
from helpers.gan.resume import CheckpointError, MismatchError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "helpers.evidence.replicate"]
HEADER = ", ".join(matrix.COLUMNS) + "\n"
PATIENCE = 300  # seconds; on a quiet machine everything here takes two or three
LONGER = 5  # epochs of the run that is stopped half-way: enough that it is still under way on a busy machine


def wait_until(is_so, what):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The smoke matrix as the plain recorder makes it, and two longer runs."""
    folder = tmp_path_factory.mktemp("plain")
    longer = [Run("ring", "gan", 5, 4), Run("ring", "gan", 6, LONGER)]
    for run in [*matrix.all_runs(matrix.read_matrix(matrix.SMOKE)), *longer]:
        record_run(run.system, run.dataset, run.seed, run.epochs, folder, progress=False)
    return folder


def assert_all_as(plain, runs, *names):
    """The records are the plain recorder's, and besides them nothing is left in their folders."""
    names = names or tuple(str(run.folder("")) for run in matrix.all_runs(matrix.read_matrix(matrix.SMOKE)))
    found = {str(path.parent.relative_to(runs)) for path in runs.rglob("record.json")}
    assert found == set(names)
    for name in names:
        assert_same(contents(plain / name), contents(runs / name))
        left = {path.name for path in (runs / name).iterdir()} - {"lock"}
        assert left <= {"record.json", "grids.npz", "weights.safetensors"}


def a_matrix(folder, seeds, epochs):
    """The argument for a matrix of GAN on the ring."""
    path = folder / "matrix.csv"
    path.write_text(f"{HEADER}points, ring, gan, {seeds}, {epochs}, yes, ours\n")
    return ["--matrix", str(path)]


def one_run(folder):
    return a_matrix(folder, seeds=5, epochs=4)


# ---- processes -------------------------------------------------------------------------------------------------------


def test_two_processes_make_the_plain_recorders_records(plain, tmp_path, capsys):
    arguments = ["--smoke", "--runs", str(tmp_path), "--processes", "2", "--interval", "0", "--device", "cpu"]
    replicate.main([*arguments, "--against", str(plain)])
    assert_all_as(plain, tmp_path)
    said = capsys.readouterr()
    assert said.out.count("every number of its 2 epochs is the kept one") == 2
    assert "ring gan seed 0: complete; " in said.err and "2 of 2 runs complete, all about " in said.err
    provenance = read_record(tmp_path / "ring" / "gan" / "seed0").provenance
    assert provenance["command"].endswith("--dataset ring --seeds 0 --epochs 2 --device cpu --threads 1")
    assert provenance["threads"] == 1
    replicate.main(arguments)  # nothing is left to do
    assert "2 of 2 runs are complete" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_under_way(plain, tmp_path):
    runs = tmp_path / "runs"
    arguments = [
        *a_matrix(tmp_path, seeds=6, epochs=LONGER),
        "--runs",
        str(runs),
        "--processes",
        "1",
        "--device",
        "cpu",
        "--interval",
        "0",
    ]
    started = subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    folder = runs / "ring" / "gan" / "seed6"
    wait_until(lambda: (folder / "checkpoint.pt").exists() or started.poll() is not None, "a checkpoint")
    # Started with nohup or by a script in the background a process hears no Ctrl-C, and its children inherit that.
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    started.send_signal(signal.SIGTERM if deaf else signal.SIGINT)
    assert "the same command goes on" in started.communicate(timeout=PATIENCE)[1] and started.returncode == 1
    assert 0 < matrix.epochs_done(Run("ring", "gan", 6, LONGER), runs) < LONGER
    replicate.main(arguments)
    assert_all_as(plain, runs, "ring/gan/seed6")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_dies_is_named_and_costs_no_other_run(tmp_path, monkeypatch):
    submit, died = replicate.Processes.submit, []

    def submit_and_kill(place, run):
        future = submit(place, run)
        if run.seed == 0 and not died:
            (process,) = place._pools[place._busy[future]]._processes.values()
            os.kill(process.pid, signal.SIGKILL)
            died.append(run)
        return future

    monkeypatch.setattr(replicate.Processes, "submit", submit_and_kill)
    arguments = [*a_matrix(tmp_path, "0-1", 1), "--runs", str(tmp_path), "--processes", "1", "--device", "cpu"]
    with pytest.raises(SystemExit, match="1 not recorded:\n  ring gan seed 0: its process died"):
        replicate.main(arguments)
    assert [read_record(path.parent).seed for path in tmp_path.rglob("record.json")] == [1]


def test_what_cannot_be_recorded_is_named_and_the_rest_is_done(tmp_path):
    locked, damaged, fine = (tmp_path / "ring" / "gan" / f"seed{seed}" for seed in range(3))
    locked.mkdir(parents=True), damaged.mkdir()
    (damaged / "checkpoint.pt").write_bytes(b"damaged")
    with FileLock(locked / "lock"), pytest.raises(SystemExit) as caught:
        replicate.main([*a_matrix(tmp_path, "0-2", 1), "--runs", str(tmp_path), "--processes", "1", "--device", "cpu"])
    listed = str(caught.value).splitlines()
    assert listed[0] == "2 not recorded:" and "seed 1" in listed[1] and "delete it to start again" in listed[1]
    assert "seed 0" in listed[2] and "being recorded by another process" in listed[2]
    assert [path.parent for path in tmp_path.rglob("record.json")] == [fine]


# ---- the driver alone ------------------------------------------------------------------------------------------------


class Place:
    """Two workers at once; each call brings a run an epoch further, unless it raises what ``trouble`` has for it."""

    def __init__(self, trouble=None):
        self.trouble, self.log, self.epochs, self.busy = trouble or {}, [], Counter(), {}

    def room(self):
        return 2 - len(self.busy)

    def submit(self, run):
        self.log.append(run.seed)
        future = Future()
        future.set_result(None)
        self.busy[future] = run
        return future

    def collect(self, future):
        run = self.busy.pop(future)
        if errors := self.trouble.get(run.seed):
            raise errors.pop()
        self.epochs[run] += 1

    def stop(self):
        self.stopped = True
        return "all is kept"

    def close(self):
        self.closed = True


@pytest.fixture
def drive(tmp_path, monkeypatch):
    def drive(place, seeds=4, epochs=3):
        monkeypatch.setattr(matrix, "epochs_done", lambda run, runs: place.epochs[run])
        todo = [Run("ring", "gan", seed, epochs) for seed in range(seeds)]
        progress = replicate.Progress(todo, tmp_path, show=False)
        return replicate.replicate(todo, place, progress), progress

    return drive


def test_a_run_that_was_begun_comes_before_any_new_one(drive):
    place = Place()
    failed, progress = drive(place)
    assert not failed and place.closed
    assert sorted(place.log[:6]) == [0, 0, 0, 1, 1, 1] and sorted(place.log[6:]) == [2, 2, 2, 3, 3, 3]
    assert progress.computed == pytest.approx(progress.bar.total) and not any(map(progress.left, progress.done))


def test_a_run_that_fails_is_given_up_and_one_whose_worker_was_unfit_is_not(drive):
    place = Place({1: [ValueError("broken")], 2: [Unfit("tcp://a", "no disk"), Unfit("tcp://b", "no data")]})
    failed, _ = drive(place)
    assert {run.seed: str(error) for run, error in failed.items()} == {1: "broken"}
    assert Counter(place.log) == {0: 3, 1: 1, 2: 5, 3: 3}


def test_an_interruption_brings_in_what_is_under_way(drive):
    class Interrupted(Place):
        def submit(self, run):
            if run.seed == 1:
                raise KeyboardInterrupt
            return super().submit(run)

    place = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        drive(place)
    assert place.stopped and place.closed and not place.busy and list(place.epochs.values()) == [1]


def test_what_a_cluster_leaves_undone_has_not_failed(drive, tmp_path, capsys):
    lock = FileLock(tmp_path / "lock")

    class Left(Place):
        def submit(self, run):
            if run.seed == 1:
                raise KeyboardInterrupt
            lock.acquire()
            future = Future()
            future.add_done_callback(Future.set_running_or_notify_cancel)  # as Dask's do when they are cancelled
            self.cluster._busy[future] = run, lock
            return future

        def stop(self):
            return self.cluster.stop()

    place = Left()
    place.cluster = workers.Cluster.__new__(workers.Cluster)
    place.cluster._busy = {}
    with pytest.raises(KeyboardInterrupt):
        drive(place)
    said = capsys.readouterr().err
    assert "stopping: what the cluster has under way is left undone" in said and "gave it up" not in said
    assert not place.cluster._busy and not lock.is_locked


@pytest.mark.parametrize("count", ["0", "-1"])
def test_no_processes_are_refused(count, tmp_path, capsys):
    with pytest.raises(SystemExit):
        replicate.main(["--smoke", "--runs", str(tmp_path), "--processes", count])
    assert f"--processes {count}; allowed: a whole number of at least 1" in capsys.readouterr().err


# ---- a Dask cluster --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler with two worker processes, and a third that has another torch; the spy's folder."""
    pytest.importorskip("distributed", reason="the cluster extra is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    environment = {"PYTHONPATH": str(ROOT), "SPY_FOLDER": str(folder), "OMP_NUM_THREADS": "1"}
    address, processes = folder / "scheduler.json", []

    def start(*arguments, **more):
        log = open(folder / f"{len(processes)}.log", "w")  # noqa: SIM115 - the process writes on
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(address), "--no-dashboard"]
        processes.append(
            subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | environment | more)
        )

    start("scheduler", "--host", "127.0.0.1", "--port", "0")
    wait_until(lambda: address.exists() and address.read_text().rstrip().endswith("}"), "Dask's scheduler")
    for more in ({}, {}, {"SPY_TORCH": "0.0.1"}):
        spy = str(ROOT / "tests" / "evidence" / "cluster_spy.py")
        local = str(folder / f"local{len(processes)}")
        nanny = "--no-nanny" if more else "--nanny"  # of the third, no test asks that it comes back
        start(
            "worker",
            "--nthreads",
            "1",
            nanny,
            "--host",
            "127.0.0.1",
            "--preload",
            spy,
            "--local-directory",
            local,
            **more,
        )
    from distributed import Client

    with Client(scheduler_file=str(address), set_as_default=False) as client:
        client.wait_for_workers(3, timeout=PATIENCE)
        yield client.scheduler.address, folder
    scheduler, *nannies, unfit = processes
    unfit.kill()  # without a nanny: asked to end, it now and then waits for ever
    for process in (*nannies, scheduler):
        process.terminate()
    for process in processes:
        process.wait(timeout=PATIENCE)


def on(cluster, runs, *arguments):
    from distributed import Client

    with Client(cluster[0], set_as_default=False) as client:  # one that a test has killed may still be coming back
        client.wait_for_workers(3, timeout=PATIENCE)
    replicate.main([*arguments, "--cluster", cluster[0], "--runs", str(runs), "--interval", "0"])


def begun(cluster) -> list[list[str]]:
    """[process, seed, epoch] of every epoch that was begun since the last call."""
    path = cluster[1] / "epochs.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_two_workers_make_the_plain_recorders_records(cluster, plain, tmp_path, capsys):
    begun(cluster)
    on(cluster, tmp_path, "--smoke")
    assert_all_as(plain, tmp_path)
    epochs = begun(cluster)
    assert len(epochs) == 4 and os.getpid() not in {int(process) for process, _, _ in epochs}
    assert len({process for process, _, _ in epochs}) == 2
    assert read_record(tmp_path / "ring" / "gan" / "seed0").provenance["command"].endswith("--device cpu --threads 1")
    refused = [line for line in capsys.readouterr().err.splitlines() if "gets no more runs" in line]
    assert len(refused) == 1 and "torch 0.0.1, but " in refused[0]  # the third worker


def test_a_worker_that_is_killed_costs_one_interval_and_nothing_is_recorded_twice(
    cluster, plain, tmp_path, monkeypatch
):
    begun(cluster)
    write_run, written = workers.write_run, []
    monkeypatch.setattr(workers, "write_run", lambda *what: (written.append(what[0]), write_run(*what)))
    (cluster[1] / "kill-3").touch()
    on(cluster, tmp_path / "runs", *one_run(tmp_path))
    assert not (cluster[1] / "kill-3").exists()
    epochs = begun(cluster)
    assert [epoch for _, _, epoch in epochs] == ["1", "2", "3", "3", "4"]  # an interval of 0 is one epoch
    assert epochs[2][0] != epochs[3][0]  # elsewhere
    assert written == [tmp_path / "runs" / "ring" / "gan" / "seed5"]
    assert_all_as(plain, tmp_path / "runs", "ring/gan/seed5")


def test_a_full_disk_on_a_worker_is_reported_with_the_runs_name(cluster, plain, tmp_path, capsys):
    (cluster[1] / "full").touch()
    on(cluster, tmp_path / "runs", *a_matrix(tmp_path, seeds=0, epochs=2))
    assert not (cluster[1] / "full").exists()
    (refused,) = [line for line in capsys.readouterr().err.splitlines() if "No space left on device" in line]
    assert refused.startswith("tcp://127.0.0.1:") and "gets no more runs: ring gan seed 0: " in refused
    assert_all_as(plain, tmp_path / "runs", "ring/gan/seed0")


@pytest.mark.parametrize(("error", "found"), [(MismatchError, MismatchError), (CheckpointError, Unfit)])
def test_a_checkpoint_of_another_training_is_no_fault_of_the_worker(error, found, tmp_path, monkeypatch):
    def work_on(*_, **__):
        raise error("checkpoint.pt")

    worker = SimpleNamespace(address="tcp://a", local_directory=tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(get_worker=lambda: worker))
    monkeypatch.setattr(workers, "work_on", work_on)
    with pytest.raises(found):
        workers._work_there(Run("ring", "gan", 5, 4), {}, "cpu", 0, workers.describe_code())


def test_a_run_that_another_process_has_is_left_to_it(cluster, tmp_path):
    folder = tmp_path / "runs" / "ring" / "gan" / "seed5"
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"), pytest.raises(SystemExit, match="ring gan seed 5: .*by another process"):
        on(cluster, tmp_path / "runs", *one_run(tmp_path))


def test_where_no_worker_is_fit_it_says_so(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("helpers.evidence.workers.torch.__version__", "9.9.9")
    with pytest.raises(SystemExit, match="none of the cluster's workers is fit"):
        on(cluster, tmp_path / "runs", *one_run(tmp_path))
    assert capsys.readouterr().err.count("but 9.9.9 is wanted") == 3


def test_without_dask_everything_else_works(tmp_path):
    program = (
        "import sys; sys.modules['distributed'] = None\n"
        "from helpers.evidence.replicate import main\n"
        f"main(['--smoke', '--status', '--runs', {str(tmp_path)!r}])\n"
        f"main(['--smoke', '--runs', {str(tmp_path)!r}, '--cluster', 'tcp://127.0.0.1:9'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "no number of workers is faster" in done.stdout
    assert done.returncode == 1 and 'pip install -e ".[cluster]"' in done.stderr.splitlines()[-1]


def test_a_scheduler_that_does_not_answer_is_named(tmp_path):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(SystemExit, match="no Dask scheduler answers at tcp://127.0.0.1:9"),
    ):
        replicate.main(["--smoke", "--runs", str(tmp_path), "--cluster", "tcp://127.0.0.1:9"])
