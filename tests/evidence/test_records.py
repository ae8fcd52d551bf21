"""Recorded runs: what is written is read back, what is damaged is named, and a killed recorder loses nothing."""

import errno
import importlib.util
import json
import os
import random
import signal
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import assert_same, contents

from helpers.data import ImageSet, catalogue
from helpers.evidence import provenance, recorder, records
from helpers.evidence.recorder import record_run
from helpers.evidence.records import RecordError, load_runs, read_record
from helpers.evidence.remeasure import remeasure
from helpers.gan.history import History
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.resume import CheckpointError, load_checkpoint, save_checkpoint
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.measure import judge


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """What is proven here does not depend on the size of the players; with small ones it takes seconds."""
    torch.set_num_threads(1)
    for name, count in {"gan": 1, "psg_algorithm1": 2}.items():

        def networks(shape, classes, count=count):
            return [Generator(4, shape, (8, 8)) for _ in range(count)], Discriminator(shape, (8, 8))

        monkeypatch.setitem(SYSTEMS, name, replace(SYSTEMS[name], networks=networks))


def make(runs, epochs=4, seed=0, system="psg_algorithm1", **settings):
    settings = {"batch_size": 2000, "every": 0.0, "progress": False} | settings
    return record_run(system, "ring", seed, epochs, runs, **settings)


def test_a_record_says_what_it_is_and_how_to_repeat_it(tmp_path):
    read = read_record(make(tmp_path))
    assert len(read.history) == 4 and read.history.status == "complete"
    assert set(read.history.grids) == {1, 2, 4} and read.history.grids[4].shape == (2, 500, 2)
    assert read.history.settings["objective"] == {
        "name": "PSG", "fakes": "average", "rule": "algorithm1", "per": "sample", "update_d": "always"
    }  # fmt: skip
    assert {"command", "date", "device", "threads", "torch", "python", "revision", "seconds"} <= set(read.provenance)
    assert "--systems psg_algorithm1 --dataset ring --seeds 0 --epochs 4" in read.provenance["command"]
    assert set(read.final_quality()) >= {"modes_covered", "high_quality"}
    assert set(read.quality[4]) == {"mixture", "generator 1", "generator 2"}
    assert "seed 0: 4 epochs, complete" in read.describe()


def test_a_copy_in_another_project_s_repository_has_not_its_revision(monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", provenance.PROJECT / "helpers")
    assert provenance.revision() == "unknown"


def test_where_runs_come_from_fits_one_line(tmp_path):
    make(tmp_path, epochs=2), make(tmp_path, epochs=3, seed=1)
    line = records.provenance(load_runs("psg_algorithm1", "ring", runs=tmp_path))
    assert line.startswith("PSG-GAN, Algorithm 1, recorded on cpu: seeds 0 (2 epochs), 1 (3 epochs). Settings")
    assert "\n" not in line and str(tmp_path) not in line
    assert "data/runs/mnist/gan." in records.provenance(load_runs("gan"))
    assert "make replicate" in records.provenance([])


def test_recorded_weights_go_into_the_generators_of_a_trainer(tmp_path):
    read = read_record(make(tmp_path, epochs=2))
    points = catalogue.load_dataset("ring", device="cpu")
    fresh = make_trainer("psg_algorithm1", points, seed=7)
    read.give_weights(fresh.generators)
    kept = read.weights()
    for name, value in fresh.generators.state_dict().items():
        assert torch.equal(value, kept[f"generators.{name}"])


def test_recording_again_gives_the_same_numbers(tmp_path):
    assert_same(contents(make(tmp_path / "a")), contents(make(tmp_path / "b")))


def test_a_complete_record_is_not_trained_again_and_a_longer_one_replaces_it(tmp_path):
    folder = make(tmp_path)
    written = (folder / "record.json").stat().st_mtime_ns
    make(tmp_path, epochs=3)
    assert (folder / "record.json").stat().st_mtime_ns == written
    make(tmp_path, epochs=5)
    assert len(read_record(folder).history) == 5
    assert not (folder / "checkpoint.pt").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a recorder quickly")
def test_a_recorder_killed_twenty_times_ends_with_the_undisturbed_record(tmp_path):
    undisturbed = contents(make(tmp_path / "undisturbed", epochs=8))
    start = time.perf_counter()
    make(tmp_path / "timed", epochs=8, seed=1)
    whole = time.perf_counter() - start
    moments, killed = random.Random(0), 0
    while killed < 20:
        child = os.fork()
        if child == 0:
            make(tmp_path / "killed", epochs=8)
            os._exit(0)
        time.sleep(moments.uniform(0, 0.3 * whole))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        for found in (tmp_path / "killed").rglob("record.json"):
            read_record(found.parent)  # if it is there, it is whole
    assert_same(undisturbed, contents(make(tmp_path / "killed", epochs=8)))


@pytest.mark.parametrize("name", ["record.json", "grids.npz"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "bit flipped", "foreign"])
def test_a_damaged_record_is_named_and_left_out(tmp_path, name, damage):
    make(tmp_path, epochs=1, seed=1)
    folder = make(tmp_path, epochs=1, seed=2)
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bit flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(b"<html>not found</html>")
    with pytest.raises(RecordError, match="seed2.*record it again"):
        read_record(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_runs("psg_algorithm1", "ring", runs=tmp_path)
    assert [r.seed for r in found] == [1]
    if (name, damage) != ("record.json", "missing"):  # then it is simply not recorded yet
        assert any("seed2" in str(w.message) for w in caught)


@pytest.mark.parametrize("change", [{"quality": None}, {"provenance": None}, {"format": 2}])
def test_a_record_that_is_whole_and_none_of_ours_is_named_with_a_remedy(tmp_path, change):
    folder = make(tmp_path, epochs=1, seed=1)
    body = json.loads((folder / "record.json").read_text()) | change
    body = {name: value for name, value in body.items() if value is not None and name != "sha256"}
    (folder / "record.json").write_bytes(records.seal(body))
    with pytest.raises(RecordError, match=f"seed1 .*{next(iter(change))}.*; record it again"):
        read_record(folder)


def test_every_flipped_bit_is_noticed(tmp_path):
    folder = make(tmp_path, epochs=1, seed=1)
    path = folder / "record.json"
    whole, places = path.read_bytes(), random.Random(1)
    for _ in range(60):
        content = bytearray(whole)
        content[places.randrange(len(whole))] ^= 1 << places.randrange(7)
        path.write_bytes(content)
        with pytest.raises(RecordError):
            read_record(folder)


def test_a_pickle_in_place_of_the_grids_runs_no_code(tmp_path):
    folder = make(tmp_path, epochs=1, seed=1)
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    np.save(folder / "grids.npz", np.array([Payload()], dtype=object), allow_pickle=True)
    (folder / "grids.npz.npy").replace(folder / "grids.npz")
    body = json.loads((folder / "record.json").read_text())
    body["files"]["grids.npz"] = records.digest((folder / "grids.npz").read_bytes())
    body.pop("sha256")
    body["sha256"] = records.digest(records._to_json(body))  # a forger can compute checksums, too
    (folder / "record.json").write_text(json.dumps(body))
    with pytest.raises(RecordError):
        read_record(folder)
    assert not marker.exists()


def test_only_one_process_records_a_run(tmp_path):
    from filelock import FileLock

    folder = tmp_path / "ring" / "psg_algorithm1" / "seed0"
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"), pytest.raises(RecordError, match="another process"):
        make(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_disk_that_cannot_be_written_is_named_and_costs_no_old_record(code, call, tmp_path, monkeypatch):
    real, calls = os.replace, 0

    def fail(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    whole = contents(make(tmp_path / "whole", epochs=2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        if call == 1:  # the checkpoint after the first epoch, without which training goes on
            with pytest.warns(UserWarning, match=f"epoch 1 is in no checkpoint.*{os.strerror(code)}"):
                assert_same(whole, contents(make(tmp_path, epochs=2)))
            return
        with pytest.raises(RecordError, match=f"seed0.*{os.strerror(code)}"):
            make(tmp_path, epochs=2)
    assert not load_runs("psg_algorithm1", "ring", runs=tmp_path)
    assert_same(whole, contents(make(tmp_path, epochs=2)))


def test_a_damaged_checkpoint_of_a_recorder_is_named_on_the_command_line(tmp_path, capsys):
    folder = tmp_path / "ring" / "gan" / "seed3"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"damaged")
    recorder.main(["--systems", "gan", "--dataset", "ring", "--seeds", "3", "--epochs", "1", "--runs", str(tmp_path)])
    assert (
        "skipped: " in (said := capsys.readouterr().err) and "checkpoint.pt is damaged" in said and "delete it" in said
    )


def test_a_checkpoint_that_cannot_be_continued_is_named_and_the_other_runs_are_made(tmp_path, capsys):
    for _ in range(2):
        record_run("gan", "ring", 3, 5, tmp_path, progress=False, pause=lambda: True)
    arguments = ["--systems", "gan", "--dataset", "ring", "--seeds", "3", "4", "--epochs", "1"]
    recorder.main([*arguments, "--runs", str(tmp_path)])
    said = capsys.readouterr()
    assert "skipped: gan, seed 3: " in said.err and "checkpoint.pt cannot be continued" in said.err
    assert "2 epochs already, epochs=1 here" in said.err and "delete it" in said.err
    assert "GAN, seed 4: 1 epochs, complete" in said.out
    with pytest.raises(CheckpointError, match="seed3.checkpoint.pt cannot be continued.*batch_size: 100 there, 50"):
        record_run("gan", "ring", 3, 5, tmp_path, progress=False, batch_size=50)


def test_a_missing_ruler_is_not_reported_as_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    def missing(*_):
        raise FileNotFoundError("The weights x are missing. Train it again with: y")

    monkeypatch.setattr(recorder, "Judge", missing)
    with pytest.raises(FileNotFoundError, match="Train it again"):
        make(tmp_path)
    recorder.main(["--systems", "gan", "--dataset", "ring", "--seeds", "3", "--epochs", "1", "--runs", str(tmp_path)])
    assert capsys.readouterr().err == "skipped: gan, seed 3: The weights x are missing. Train it again with: y\n"


def test_samples_that_are_kept_grow_slowly_with_the_seeds(tmp_path):
    assert set(read_record(make(tmp_path, epochs=2)).history.grids) == {1, 2}
    assert set(read_record(make(tmp_path, epochs=2, seed=1)).history.grids) == {2}
    colour = {1: np.zeros((2, 36, 3, 8, 8), np.uint8), 5: np.ones((2, 36, 3, 8, 8), np.uint8)}
    kept = recorder._kept_grids(History({"seed": 0}, grids=colour))
    assert {epoch: grid.shape for epoch, grid in kept.items()} == dict.fromkeys((1, 5), (2, 16, 3, 8, 8))


def test_weights_are_kept_for_seed_zero_only(tmp_path):
    assert any(name.startswith("generators.1.") for name in read_record(make(tmp_path, epochs=1)).weights())
    with pytest.raises(RecordError, match="seed 0 only"):
        read_record(make(tmp_path, epochs=1, seed=1)).weights()
    without = make(tmp_path / "without", epochs=1, weights=False)
    assert not (without / "weights.safetensors").exists() and read_record(without).history.status == "complete"


def test_the_command_line_records_and_reports(tmp_path, capsys):
    arguments = ["--systems", "gan", "--dataset", "ring", "--seeds", "3", "--epochs", "1", "--runs", str(tmp_path)]
    recorder.main(arguments)
    assert "GAN, seed 3: 1 epochs, complete" in capsys.readouterr().out
    assert load_runs("gan", "ring", runs=tmp_path)[0].seed == 3


def test_real_images_score_what_no_generator_can_beat(tmp_path, capsys):
    assert records.read_floor("ring", tmp_path) == {}
    recorder.main(["--dataset", "ring", "--floor", "--runs", str(tmp_path)])
    path = tmp_path / "ring" / "floor.json"
    assert str(path) in capsys.readouterr().out
    floor = records.read_floor("ring", tmp_path)
    assert floor["modes_covered"] == 8 and floor["high_quality"] > 0.9
    assert "--floor" in json.loads(path.read_text())["provenance"]["command"]
    path.write_text(path.read_text().replace('"modes_covered":8', '"modes_covered":7'))
    for damaged in (path.read_text(), "{", "[]", "{}"):
        path.write_text(damaged)
        with pytest.warns(UserWarning, match="checksum" if "modes_covered" in damaged else "measure it again"):
            assert records.read_floor("ring", tmp_path) == {}


def test_images_that_only_stand_in_give_no_floor(tmp_path, monkeypatch):
    digits = ImageSet("mnist", torch.zeros(20, 1, 28, 28), torch.zeros(20, dtype=torch.int64), "a stand-in")
    monkeypatch.setattr(recorder, "load_dataset", lambda *_: digits)
    with pytest.raises(RecordError, match="a stand-in"):
        recorder.record_floor("mnist", tmp_path)
    with pytest.raises(SystemExit, match="a stand-in"):  # a sentence on the command line, no traceback
        recorder.main(["--dataset", "mnist", "--floor", "--runs", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_what_the_discriminator_remembers_is_measured_without_disturbing_it(tmp_path, monkeypatch):
    pixels = torch.rand(120, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def load_images(name, *, train=True, device="cpu", limit=None):
        return ImageSet(name, pixels[:limit], (torch.arange(120) % 10)[:limit])

    monkeypatch.setattr(catalogue, "load_images", load_images)
    monkeypatch.setattr(judge, "load_images", load_images)
    monkeypatch.setattr(catalogue, "FEW", 60)
    monkeypatch.setattr(catalogue, "REPEATS", 2)
    monkeypatch.setattr(judge, "SAMPLES", 60)
    folder = record_run("sngan", "mnist_1000", 0, 3, tmp_path, progress=False, weights=False, batch_size=20)
    recorded = read_record(folder)
    assert set(recorded.quality) == {1, 2, 3}
    assert all(0 < each["mixture"]["membership_auc"] < 1 for each in recorded.quality.values())
    images = catalogue.load_dataset("mnist_1000")
    assert torch.equal(images.images, pixels[:60].repeat(2, 1, 1, 1)) and torch.equal(
        images.labels[60:], images.labels[:60]
    )
    alone = make_trainer("sngan", images, epochs=3, seed=0, batch_size=20).fit(progress=False)
    for column in ("d_loss", "g_loss"):  # spectral norm keeps a state that a careless look would change
        assert np.allclose(recorded.history[column], alone[column], rtol=1e-8, atol=0)


def test_a_low_energy_of_training_images_is_remembering():
    seen, unseen = torch.rand(2, 40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    trainer = make_trainer("ebgan", ImageSet("noise", seen, torch.arange(40)), batch_size=20)
    trainer.discriminator.forward = lambda images: torch.cdist(images.flatten(1), seen.flatten(1)).amin(1)
    of_few = judge.Judge.__new__(judge.Judge)
    of_few.ruler = judge.Ruler(lambda samples: {}, 40, seen=seen, unseen=unseen)
    assert of_few(trainer, whole_parts=False)["mixture"]["membership_auc"] == 1


def test_a_run_that_pauses_after_each_epoch_ends_with_the_undisturbed_record(tmp_path):
    for done in range(1, 4):
        folder = make(tmp_path, every=1e9, pause=lambda: True)
        assert (folder / "checkpoint.pt").exists() and not (folder / "record.json").exists(), done
    assert_same(contents(make(tmp_path / "undisturbed")), contents(make(tmp_path, pause=lambda: True)))
    assert "earlier" not in read_record(folder).provenance


def test_a_record_says_where_else_the_run_began(tmp_path, monkeypatch):
    here = recorder.describe_environment("cpu")
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "describe_environment", lambda device: here | {"torch": "1.0"})
        make(tmp_path, pause=lambda: True)
    make(tmp_path, pause=lambda: True)
    provenance = read_record(make(tmp_path)).provenance
    assert provenance["torch"] == here["torch"] and provenance["earlier"] == [here | {"torch": "1.0"}]


def test_a_checkpoint_of_an_older_recorder_is_continued_and_the_record_says_so(tmp_path):
    folder = make(tmp_path, pause=lambda: True)
    state = load_checkpoint(folder / "checkpoint.pt")
    del state["environments"]  # nothing noted where it was until 5af13de
    save_checkpoint(folder / "checkpoint.pt", state)
    assert read_record(make(tmp_path)).provenance["earlier"] == [{"revision": "unknown"}]
    assert_same(contents(make(tmp_path / "undisturbed")), contents(folder))


def test_stand_ins_can_be_refused(tmp_path, monkeypatch):
    digits = ImageSet("mnist", torch.zeros(20, 1, 28, 28), torch.zeros(20, dtype=torch.int64), "a stand-in")
    monkeypatch.setattr(recorder, "load_dataset", lambda *_: digits)
    with pytest.raises(RecordError, match="mnist is not the real thing here: a stand-in"):
        record_run("gan", "mnist", 0, 1, tmp_path, progress=False, stand_ins=False, batch_size=20)
    assert not list(tmp_path.rglob("record.json"))


def test_the_kept_records_can_all_be_read():
    folders = [path.parent for path in records.RUNS.rglob("record.json")]
    for folder in folders:
        read = read_record(folder)
        assert read.history.status in ("complete", "diverged") and len(read.history) >= 1
    size = sum(
        path.stat().st_size for path in records.RUNS.rglob("*") if path.is_file() and "checkpoint" not in path.name
    )
    assert size < 25e6


def test_a_record_says_in_which_precision_and_on_which_device_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default, by which convolutions are rounded
    allowed = []
    make_trainer = recorder.make_trainer

    def spy(*given, **options):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return make_trainer(*given, **options)

    monkeypatch.setattr(recorder, "make_trainer", spy)
    read = read_record(make(tmp_path, device="auto", seed=1))
    assert allowed == [False] and torch.backends.cudnn.allow_tf32
    assert read.provenance["tf32"] is False and read.provenance["device"].startswith("cpu (")


def test_the_command_in_a_record_names_the_device_that_auto_found(tmp_path):
    arguments = ["--systems", "gan", "--dataset", "ring", "--seeds", "3", "--epochs", "1", "--device", "auto"]
    recorder.main([*arguments, "--runs", str(tmp_path)])
    assert "--device cpu " in read_record(tmp_path / "ring" / "gan" / "seed3").provenance["command"]


def test_a_device_that_is_not_there_ends_the_command_before_training(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SystemExit):
        recorder.main(["--dataset", "ring", "--device", "cuda", "--runs", str(tmp_path)])
    assert "device='cuda' cannot be used here; allowed: 'auto', 'cpu'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_specification_that_does_not_suit_a_system_ends_the_command_before_training(tmp_path, capsys):
    arguments = ["--systems", "sngan", "ebgan", "--dataset", "ring", "--specification", "pb01", "--runs", str(tmp_path)]
    with pytest.raises(SystemExit):
        recorder.main(arguments)
    assert "--specification pb01 does not suit ebgan" in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_a_missing_torchmetrics_is_named_before_training(tmp_path, monkeypatch):
    """Colab has none; without this the run ended after its first epoch, when FID was asked for."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else find(name))
    monkeypatch.setattr(recorder, "load_dataset", lambda *_: ImageSet("mnist", torch.zeros(200, 1, 28, 28), None))
    with pytest.raises(ModuleNotFoundError, match="torchmetrics is missing.*pip install torchmetrics"):
        record_run("gan", "mnist", 0, 1, tmp_path, progress=False)


def test_without_a_recorded_fid_nothing_is_measured_again(tmp_path):
    with pytest.raises(RecordError, match="no FID was recorded.*nothing is added"):
        remeasure(make(tmp_path, epochs=1))


@pytest.mark.parametrize("system", ["psg_average", "gan_double_fakes", "cgan"])
def test_a_measure_that_is_newer_than_the_record_can_be_added_from_its_weights(system, tmp_path, monkeypatch):
    pixels = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = ImageSet("mnist", pixels, torch.arange(40) % 10)
    for module in (catalogue, judge):
        monkeypatch.setattr(module, "load_images", lambda *_, **__: noise)
    monkeypatch.setattr(judge, "SAMPLES", 60)
    folder = record_run(system, "mnist", 0, 1, tmp_path, progress=False, batch_size=20)
    path, whole = folder / "record.json", read_record(folder)
    body = json.loads(path.read_text())
    del body["sha256"], body["quality"]["1"]["mixture"]["fid_true_shares"]
    path.write_bytes(records.seal(body))

    assert remeasure(folder) == ["fid_true_shares"] and remeasure(folder) == []
    again = read_record(folder)
    assert again.provenance["remeasured"]["what"] == ["fid_true_shares"]
    assert again.final_quality()["fid_true_shares"] == pytest.approx(whole.final_quality()["fid_true_shares"], rel=0.01)
    assert again.final_quality()["fid"] == whole.final_quality()["fid"], "what was there stays"

    body = json.loads(path.read_text())
    del body["sha256"]
    body["quality"]["1"]["mixture"]["fid"] *= 1.1
    path.write_bytes(records.seal(body))
    with pytest.raises(RecordError, match="nothing is added"):
        remeasure(folder)
