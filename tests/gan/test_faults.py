"""What breaks in the middle: killed processes, full disks, folders that may not be written, Ctrl-C, lack of memory."""

import errno
import os
import random
import signal
import stat
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import tiny
import torch
from tqdm.auto import tqdm

from helpers import files
from helpers.files import write_atomically
from helpers.gan.resume import CheckpointError, load_checkpoint
from helpers.gan.systems import SYSTEMS, make_trainer

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a training quickly")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """A shell's background job ignores Ctrl-C, and Python then leaves it so; here it has to interrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def epochs_in(path):
    state = load_checkpoint(path)
    return 0 if state is None else len(state["history"]["columns"].get("epoch", ()))


# ---- killed


def run_in_child(action, seconds=None):
    """Run ``action`` in a process of its own, killed after ``seconds``; returns whether SIGKILL ended it."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_again_and_again(make, path, kills, moments):
    """Kill trainings at random moments, as often as asked; every checkpoint is whole and none loses an epoch."""
    killed, begun = 0, 0
    while killed < kills:
        killed += run_in_child(lambda: make().fit(progress=False, checkpoint=path), moments.uniform(0, 0.15))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # never a damaged file, not even a mended one
            done = epochs_in(path)
        assert done >= begun
        begun = done
        assert len([file for file in path.parent.iterdir() if file.name.startswith(".")]) <= 1
    trainer = make()
    trainer.fit(progress=False, checkpoint=path)
    return trainer


@needs_fork
def test_a_killed_child_keeps_no_lock_of_the_progress_bar():
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        tqdm.get_lock().acquire()
        os.write(told, b".")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert tqdm.get_lock().acquire(timeout=5), "the next training would wait for ever"
    tqdm.get_lock().release()


@needs_fork
def test_a_training_killed_thirty_times_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a killed process loses nothing that is written
    undisturbed = tiny.make(epochs=150)
    undisturbed.fit(progress=False)
    trainer = kill_again_and_again(lambda: tiny.make(epochs=150), tmp_path / "run", 30, random.Random(0))
    assert tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))


@needs_fork
@pytest.mark.parametrize("function", ["fsync", "replace", "fdopen"])
@pytest.mark.parametrize("call", [1, 2, 3, 6])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_training_killed_in_the_middle_of_writing_loses_nothing(function, call, when, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "run", getattr(os, function), 0

    def deadly(*arguments):
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments)
        if calls == call:
            if function == "fdopen":  # half of the file is on the disk
                result.write(b"half")
                result.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(os, function, deadly)
        assert run_in_child(lambda: tiny.make().fit(progress=False, checkpoint=path))
    # Each checkpoint, of epoch 0, 1, ..., is one call; of replace two, away with the old and in with the new.
    done = (call - 1) // 2 - (call % 2 == 1 and when == "before") if function == "replace" else call - 2
    assert epochs_in(path) == max(done, 0)
    trainer, undisturbed = tiny.make(), tiny.make()
    trainer.fit(progress=False, checkpoint=path)
    undisturbed.fit(progress=False)
    assert tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]  # no litter


@pytest.mark.soak
@needs_fork
@pytest.mark.parametrize("name", [name for name in SYSTEMS if not name.startswith("conv")])
def test_every_system_killed_a_hundred_times(name, tmp_path):
    def make():
        size = 25 if name.endswith("_std") else 20  # 25: one group
        return make_trainer(name, tiny.RING, epochs=40, batch_size=size, grid_size=8, grid_epochs=(0, 20))

    undisturbed = make()
    undisturbed.fit(progress=False)
    trainer = kill_again_and_again(make, tmp_path / "run", 100, random.Random(name))
    assert tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))


# ---- disks and folders


@pytest.fixture
def read_only():
    """A folder that may be read but not written, whoever runs the tests."""
    folder, root = Path(tempfile.mkdtemp(prefix="read only ")), getattr(os, "geteuid", lambda: 1)() == 0
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(stat.S_IRWXU)
    folder.rmdir()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ignores a folder's read-only mark")
def test_a_read_only_folder_is_named_before_training(read_only):
    trainer = tiny.make()
    with pytest.raises(CheckpointError, match="read only .*cannot be written .*folder that you may write to"):
        trainer.fit(progress=False, checkpoint=read_only / "run")
    assert len(trainer.history) == 0


def test_a_file_in_place_of_the_folder_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    trainer = tiny.make()
    with pytest.raises(CheckpointError, match="run cannot be written"):
        trainer.fit(progress=False, checkpoint=tmp_path / "file" / "run")
    assert len(trainer.history) == 0


def test_a_missing_folder_is_made(tmp_path):
    tiny.make(epochs=1).fit(progress=False, checkpoint=tmp_path / "new" / "deep" / "run")
    assert epochs_in(tmp_path / "new" / "deep" / "run") == 1


@pytest.fixture
def file_limit():
    """A function that lets no file grow beyond so many bytes, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def litter(folder):
    return [file.name for file in folder.iterdir() if file.name.startswith(".")]


def test_a_full_disk_is_named_before_training(tmp_path, file_limit):
    trainer = tiny.make()
    file_limit(1000)
    with pytest.raises(CheckpointError, match="File too large.*free some space"):
        trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert len(trainer.history) == 0 and trainer.history.status == "running"
    assert not litter(tmp_path) and not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_later_warns_and_keeps_the_last_checkpoint(tmp_path, file_limit):
    def on_epoch(trainer):
        if len(trainer.history) == 3:
            file_limit(1000)

    undisturbed, trainer, later = tiny.make(), tiny.make(), tiny.make()
    undisturbed.fit(progress=False)
    with pytest.warns(UserWarning, match="epoch 3 is in no checkpoint, training goes on.*free some space"):
        history = trainer.fit(progress=False, on_epoch=on_epoch, checkpoint=tmp_path / "run")
    assert history.status == "complete" and tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))
    assert epochs_in(tmp_path / "run") == 2 and not litter(tmp_path)
    file_limit()
    later.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(tiny.outcome(later), tiny.outcome(undisturbed))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("function", ["fsync", "replace", "fdopen"])
def test_any_failed_write_leaves_the_old_file(code, function, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(files, "PAUSES", (0.0,))
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old" and not litter(tmp_path)


@pytest.fixture
def held(monkeypatch):
    """A function: from the second time on, so many attempts to replace a file fail, as on Windows while it is read."""
    real, calls, attempts = os.replace, 0, 0

    def replace(source, target):
        nonlocal calls
        calls += 1
        if 2 <= calls < 2 + attempts:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        real(source, target)

    def hold(count):
        nonlocal attempts
        attempts = count

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    return hold


def test_a_file_held_for_a_moment_is_replaced_all_the_same(tmp_path, held):
    held(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.make(epochs=3).fit(progress=False, checkpoint=tmp_path / "run")
    assert epochs_in(tmp_path / "run") == 3 and not litter(tmp_path)


def test_a_file_in_use_keeps_its_checkpoint(tmp_path, held):
    """Training goes on, and the attempt after the next epoch works."""
    trainer = tiny.make(epochs=3)
    held(3)
    with pytest.warns(UserWarning, match="epoch 1 is in no checkpoint.*cannot access"):
        trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert epochs_in(tmp_path / "run") == 3


# ---- two at once


def test_a_second_training_into_the_same_file_is_refused(tmp_path):
    refused = []

    def second(trainer):
        with pytest.raises(CheckpointError, match="another training") as caught:
            tiny.make().fit(progress=False, checkpoint=tmp_path / "run")
        refused.append(caught.value)

    history = tiny.make().fit(progress=False, on_epoch=second, checkpoint=tmp_path / "run")
    assert history.status == "complete" and len(refused) == 5
    tiny.make().fit(progress=False, checkpoint=tmp_path / "run")  # the lock is gone


@needs_fork
def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    ready, told = os.pipe()

    def hold():
        tiny.make().fit(
            progress=False, on_epoch=lambda _: (os.write(told, b"."), time.sleep(60)), checkpoint=tmp_path / "run"
        )

    child = os.fork()
    if child == 0:
        hold()
    os.read(ready, 1)
    with pytest.raises(CheckpointError, match="another training"):
        tiny.make().fit(progress=False, checkpoint=tmp_path / "run")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert tiny.make().fit(progress=False, checkpoint=tmp_path / "run").status == "complete"


def test_two_trainings_in_one_folder_do_not_disturb_each_other(tmp_path):
    first, second = tiny.make(), tiny.make(seed=1)
    first.fit(
        progress=False,
        on_epoch=lambda _: second.run_epoch() if len(second.history) else second.fit(False, None, tmp_path / "b"),
        checkpoint=tmp_path / "a",
    )
    assert epochs_in(tmp_path / "a") == epochs_in(tmp_path / "b") == 5


# ---- stopped by hand


def ctrl_c(count):
    signal.raise_signal(signal.SIGINT)


def failing(call, fault=ctrl_c, **settings):
    """A trainer that gets the signal of Ctrl-C, or another fault, when it makes its ``call``-th batch of fakes."""
    trainer = tiny.make(**settings)
    generate, left = trainer.generate, call

    def failing_generate(count, labels=None):
        nonlocal left
        left -= 1
        if left == 0:
            fault(count)
        return generate(count, labels)

    trainer.generate = failing_generate
    return trainer


@pytest.mark.parametrize("call", range(1, 11))
def test_ctrl_c_in_any_step_keeps_finished_epochs_and_continues_exactly(call, tmp_path):
    undisturbed, again = tiny.make(), tiny.make()
    undisturbed.fit(progress=False)
    history = failing(call).fit(progress=False, checkpoint=tmp_path / "run")
    assert history.status == "interrupted"
    assert len(history) == (call - 1) // 2 == epochs_in(tmp_path / "run")
    history = again.fit(progress=False, checkpoint=tmp_path / "run")
    assert history.status == "complete"
    assert tiny.same(tiny.outcome(again), tiny.outcome(undisturbed))


@pytest.mark.parametrize("function", ["fsync", "replace", "fdopen"])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_ctrl_c_while_writing_leaves_a_good_checkpoint(function, call, tmp_path, monkeypatch):
    real, calls = getattr(os, function), 0

    def interrupted(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            if function == "fdopen":
                os.close(arguments[0])
            raise KeyboardInterrupt
        return real(*arguments)

    undisturbed, first, again = tiny.make(), tiny.make(), tiny.make()
    undisturbed.fit(progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupted)
        try:
            assert first.fit(progress=False, checkpoint=tmp_path / "run").status == "interrupted"
        except KeyboardInterrupt:
            assert len(first.history) == 0  # in the very first checkpoint, before training
    assert not litter(tmp_path)
    again.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(tiny.outcome(again), tiny.outcome(undisturbed))


def test_after_ctrl_c_the_same_trainer_goes_on():
    trainer = failing(4)
    assert trainer.fit(progress=False).status == "interrupted" and len(trainer.history) == 1
    history = trainer.fit(progress=False)
    assert history.status == "complete" and history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert set(history.grids) == {0, 2, 5}


def test_networks_left_in_evaluation_mode_train_on():
    """As Ctrl-C leaves them in the middle of making samples; batch norm would stand still from then on."""
    modes = []
    trainer = failing(3, lambda count: modes.append(trainer.generators.training and trainer.discriminator.training))
    trainer.fit(progress=False, on_epoch=lambda trainer: (trainer.generators.eval(), trainer.discriminator.eval()))
    assert modes == [True] and len(trainer.history) == 5


def test_after_ctrl_c_the_same_trainer_goes_back_to_its_checkpoint(tmp_path):
    undisturbed, trainer = tiny.make(), failing(4)
    undisturbed.fit(progress=False)
    trainer.fit(progress=False, checkpoint=tmp_path / "run")
    trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))


def test_an_error_of_ones_own_is_passed_on_and_marks_the_history(tmp_path):
    def fault(count):
        raise RuntimeError("a mistake in a network")

    trainer = failing(4, fault)
    with pytest.raises(RuntimeError, match="^a mistake in a network$"):
        trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert trainer.history.status == "interrupted" and epochs_in(tmp_path / "run") == 1


# ---- memory


def gpu_is_full(count):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def main_memory_is_full(count):
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("fault", [gpu_is_full, main_memory_is_full])
@pytest.mark.parametrize(
    ("size", "advice"), [(20, "try batch_size=10"), (3, "try batch_size=1"), (1, "a smaller network")]
)
def test_too_little_memory_names_a_batch_size_to_try(fault, size, advice, tmp_path):
    trainer = failing(20 // size + 1, fault, batch_size=size, images=tiny.RING.images[:20])
    with pytest.raises(torch.OutOfMemoryError, match=f"batch_size={size} does not fit.*cpu; .*{advice}") as caught:
        trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert "allocate" in str(caught.value)  # the original words stay
    assert trainer.history.status == "interrupted" and epochs_in(tmp_path / "run") == 1


def test_the_advised_batch_size_is_accepted():
    def full(count):
        if count > 60:
            gpu_is_full(count)

    assert failing(1, full, batch_size=50).fit(progress=False).status == "complete"


def test_helpers_use_nothing_that_windows_lacks():
    """No fork, no posix modules, no signal but those that Windows has; every text file is opened with its encoding."""
    import ast

    for file in (Path(__file__).parents[2] / "helpers").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name.split(".")[0] for alias in node.names} | {
                    (getattr(node, "module", "") or "").split(".")[0]
                }
                assert not names & {"fcntl", "resource", "pwd", "grp", "termios", "posix"}, file
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("fork", "rename", "symlink", "chmod", "setuid"), (file, node.lineno)
                if getattr(node.value, "id", "") == "signal":
                    there = ("signal", "SIGINT", "SIGTERM", "SIG_IGN", "SIG_DFL", "default_int_handler")
                    assert node.attr in there, (file, node.lineno)
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in ("read_text", "write_text"):
                    assert "encoding" in {keyword.arg for keyword in node.keywords}, (file, node.lineno)
