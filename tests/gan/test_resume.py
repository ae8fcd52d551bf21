"""Checkpoints: a continued run equals an undisturbed one bit by bit, and what is no checkpoint of it is refused."""

import hashlib
import pickle
import random
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import tiny
import torch

from helpers.data import ImageSet
from helpers.gan import objectives, resume
from helpers.gan.history import History
from helpers.gan.resume import CheckpointError, load_checkpoint, save_checkpoint
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.gan.training import train


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Stop(Exception):
    pass


def stop_in_epoch(epoch):
    def on_epoch(trainer):
        if len(trainer.history) == epoch:
            raise Stop

    return on_epoch


def stopped(path, epoch=3, **options):
    """A training that fails in ``epoch``, so that its last checkpoint is the one before."""
    with pytest.raises(Stop):
        tiny.make(**options).fit(progress=False, on_epoch=stop_in_epoch(epoch), checkpoint=path)


# ---- exact


def images_for(name):
    if not name.startswith("conv"):
        return ImageSet("ring", tiny.RING.images, tiny.RING.labels)
    pixels = torch.rand(24, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    return ImageSet("noise", pixels * 2 - 1, torch.zeros(24, dtype=torch.int64))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_continues_bit_by_bit(name, tmp_path):
    def trainer():
        size = 4 if name.startswith("conv") else 25 if name.endswith("_std") else 20  # 25: one group
        return make_trainer(
            name, images_for(name), epochs=4, batch_size=size, grid_size=8, grid_epochs=(0, 1, 3), seed=3
        )

    path = tmp_path / "run.pt"
    undisturbed, first, second = trainer(), trainer(), trainer()
    undisturbed.fit(progress=False)
    with pytest.raises(Stop):
        first.fit(progress=False, on_epoch=stop_in_epoch(3), checkpoint=path)
    assert len(load_checkpoint(path)["history"]["columns"]["epoch"]) == 2
    torch.manual_seed(99)
    for parameter in [*second.generators.parameters(), *second.discriminator.parameters()]:
        parameter.data.add_(1)
    history = second.fit(progress=False, checkpoint=path)
    assert history.status == "complete"
    assert tiny.same(tiny.outcome(second), tiny.outcome(undisturbed))
    assert {epoch: grid.dtype for epoch, grid in history.grids.items()} == {
        epoch: grid.dtype for epoch, grid in undisturbed.history.grids.items()
    }


OBJECTIVES = [
    objectives.PSG(fakes="sum", rule="algorithm1", update_d="when_fooled"),
    objectives.GAN(minimax=True),
    objectives.LSGAN(-1, 1, 0),
    objectives.WGAN(clip=0.1),
    objectives.WGANGP(weight=3.0),
    objectives.Hinge(),
]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_every_objective_continues_bit_by_bit_after_each_epoch(objective, optimizer, tmp_path):
    undisturbed = tiny.make(objective, optimizer=optimizer, critic_steps=2)
    undisturbed.fit(progress=False)
    for epoch in range(2, 6):
        stopped(tmp_path / "run", epoch, objective=objective, optimizer=optimizer, critic_steps=2)
    trainer = tiny.make(objective, optimizer=optimizer, critic_steps=2)
    trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_training_on_a_gpu_continues_bit_by_bit(tmp_path):
    def make(epochs):
        return tiny.make(images=tiny.RING.images.cuda(), epochs=epochs)

    undisturbed, begun, continued = make(5), make(3), make(5)
    undisturbed.fit(progress=False)
    begun.fit(progress=False, checkpoint=tmp_path / "run")
    continued.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(tiny.outcome(undisturbed), tiny.outcome(continued))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_images_in_main_memory_train_a_gpu_as_those_on_it_do():
    near, far = (tiny.make(images=images, device="cuda") for images in (tiny.RING.images.cuda(), tiny.RING.images))
    near.fit(progress=False), far.fit(progress=False)
    assert tiny.same(tiny.outcome(near), tiny.outcome(far))


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_dropout_of_any_kind_in_any_player_continues_bit_by_bit(player, tmp_path):
    def make(epochs):
        trainer = tiny.make(epochs=epochs, grid_epochs=())
        network = trainer.discriminator if player == "discriminator" else trainer.generators[1]
        network.layers.insert(1, torch.nn.AlphaDropout())
        return trainer

    undisturbed, continued = make(3), make(3)
    undisturbed.fit(progress=False)
    make(2).fit(progress=False, checkpoint=tmp_path / "run")
    torch.manual_seed(99)  # whatever happened in between
    continued.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(tiny.outcome(continued), tiny.outcome(undisturbed))


def test_networks_shared_by_two_places_continue_as_one(tmp_path):
    undisturbed = make_trainer("gan_double_fakes", images_for("ring"), epochs=2, batch_size=50)
    undisturbed.fit(progress=False)
    make_trainer("gan_double_fakes", images_for("ring"), epochs=1, batch_size=50).fit(False, checkpoint=tmp_path / "c")
    longer = make_trainer("gan_double_fakes", images_for("ring"), epochs=2, batch_size=50)
    longer.fit(False, checkpoint=tmp_path / "c")
    assert longer.generators[0] is longer.generators[1]
    assert torch.equal(longer.sample(4), undisturbed.sample(4))


def test_a_finished_run_is_returned_without_training(tmp_path):
    done = tiny.make()
    done.fit(progress=False, checkpoint=tmp_path / "run")
    again = tiny.make()
    again.step = None
    history = again.fit(progress=False, checkpoint=tmp_path / "run")
    assert history.status == "complete" and tiny.same(tiny.outcome(again), tiny.outcome(done))


def test_more_epochs_continue_and_fewer_are_refused(tmp_path):
    tiny.make(epochs=3).fit(progress=False, checkpoint=tmp_path / "run")
    longer, whole = tiny.make(epochs=6, label="another name"), tiny.make(epochs=6, label="another name")
    longer.fit(progress=False, checkpoint=tmp_path / "run")
    whole.fit(progress=False)
    assert tiny.same(tiny.outcome(longer)["rows"], tiny.outcome(whole)["rows"])
    assert longer.history.settings == whole.history.settings
    with pytest.raises(CheckpointError, match="6 epochs already, epochs=3 here"):
        tiny.make(epochs=3).fit(progress=False, checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    ("every", "written"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4, 5]), (3, [0, 3, 5]), (9, [0, 5])]
)
def test_written_at_the_start_at_the_interval_and_at_the_end(every, written, tmp_path, monkeypatch):
    epochs = []

    def note(path, state):
        epochs.append(len(History.from_dict(state["history"])))
        save_checkpoint(path, state)

    monkeypatch.setattr(resume, "save_checkpoint", note)
    train(*players(), tiny.RING.images, tiny.make().settings, checkpoint=tmp_path / "run", every=every, progress=False)
    assert epochs == written
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.endswith("lock")) == ["run", "run.previous"]


def players():
    made = tiny.make()
    return list(made.generators), made.discriminator, made.objective


@pytest.mark.parametrize("every", [0, -1, 1.5, True, None, "2"])
def test_a_bad_interval_is_named(every, tmp_path):
    with pytest.raises(ValueError, match="every=.*whole number"):
        tiny.make().fit(progress=False, checkpoint=tmp_path / "run", every=every)
    assert not list(tmp_path.iterdir())


def test_what_was_noticed_is_kept_and_not_said_again(tmp_path):
    def trainer(epochs):
        made = tiny.make(epochs=epochs, images=torch.full((200, 2), 0.5), learning_rate=1e-6)
        for parameter in made.generators.parameters():
            parameter.data.zero_()
        made.real_spread.fill_(1.0)
        return made

    with pytest.warns(UserWarning, match="since epoch 1: collapse"):
        trainer(6).fit(progress=False, checkpoint=tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = trainer(9).fit(progress=False, checkpoint=tmp_path / "run")
    assert [(event["kind"], event["epoch"]) for event in history.events] == [("collapsed", 1)]
    assert type(history.events[0]["epoch"]) is int


def test_numbers_that_only_float32_can_hold_come_back_exactly():
    values = torch.rand(2000, generator=torch.Generator().manual_seed(0)).mul(20).sub(12).exp().tolist()
    rows = [{"epoch": epoch, "d_loss": value} for epoch, value in enumerate(values, 1)]
    assert History.from_dict(History({}, rows).to_dict()).rows == rows


# ---- refused


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"batch_size": 50}, "batch_size: 100 there, 50 here"),
        ({"learning_rate": 1e-3}, "learning_rate: 0.0002 there, 0.001 here"),
        ({"betas": (0.0, 0.9)}, r"betas: \(0.5, 0.999\) there, \(0.0, 0.9\) here"),
        ({"optimizer": "rmsprop"}, "optimizer: 'adam' there, 'rmsprop' here"),
        ({"critic_steps": 2}, "critic_steps: 1 there, 2 here"),
        ({"grid_size": 9}, "grid_size: 8 there, 9 here"),
        ({"objective": objectives.PSG(rule="algorithm1")}, "objective: .*'average'.*there.*'algorithm1'.*here"),
        ({"objective": objectives.GAN()}, "objective: .*'PSG'.*there.*'GAN'.*here"),
        ({"generators": 3}, "generators: 2 there, 3 here"),
        ({"width": 9}, r"generators.0.layers.0.weight: \(8, 4\) there, \(9, 4\) here.*and \d+ more"),
        ({"images": tiny.RING.images[:150]}, r"images: '\(200, 2\).*there, '\(150, 2\).*here"),
        ({"images": tiny.RING.images / 2}, r"images: .*deviation 0.5\d+' there, .*deviation 0.2\d+' here"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_runs_checkpoint_is_refused_with_the_difference(change, named, tmp_path):
    stopped(tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(CheckpointError, match=named) as caught:
        tiny.make(**change).fit(progress=False, checkpoint=tmp_path / "run")
    assert str(tmp_path / "run") in str(caught.value) and "choose another path" in str(caught.value)
    assert (tmp_path / "run").read_bytes() == before


def test_another_architecture_is_refused(tmp_path):
    make_trainer("gan", images_for("ring"), epochs=1, label="x").fit(False, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="discriminator.*parametrizations.*None there"):
        make_trainer("sngan", images_for("ring"), epochs=1, label="x").fit(False, checkpoint=tmp_path / "run")


def test_another_kind_of_device_goes_on_with_other_random_numbers_and_says_so(tmp_path):
    """Where Colab's GPU hours have ended, say. The saved random numbers mean nothing to another device's generator."""
    begun = tiny.make(epochs=3)
    begun.fit(progress=False)
    state = begun.state_dict()
    state["settings"] = state["settings"] | {"device": "cuda"}
    state["rng"] = torch.zeros(16, dtype=torch.uint8)  # as long as CUDA's
    save_checkpoint(tmp_path / "run", state)
    moved = tiny.make(epochs=5)
    with pytest.warns(UserWarning, match="after epoch 3: continued on cpu, after cuda, with other random numbers"):
        history = moved.fit(progress=False, checkpoint=tmp_path / "run")
    for measure in ("d_loss", "diversity"):
        assert history[measure][:3].tolist() == begun.history[measure].tolist() and len(history) == 5
    assert [(event["kind"], event["epoch"]) for event in history.events] == [("moved", 3)]


def test_a_run_that_moves_to_the_cpu_draws_nothing_twice():
    """Compared is what is drawn: torch's CPU generator takes the lowest 32 bits of a seed only."""
    begun = tiny.make(epochs=2)
    trainers = [begun]
    for _ in range(2):
        begun.run_epoch()
        state, moved = begun.state_dict(), tiny.make(epochs=2)
        state["settings"] = state["settings"] | {"device": "cuda"}
        with pytest.warns(UserWarning, match="with other random numbers"):
            moved.load_state_dict(state)
        trainers.append(moved)
    seeds = [trainer.rng.initial_seed() for trainer in trainers]
    assert len({torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() for seed in seeds}) == 3


class Payload:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


def zipped(name, content, how=zipfile.ZIP_STORED):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr(name, content)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def torch_saved(thing, **options):
    buffer = BytesIO()
    torch.save(thing, buffer, **options)
    return buffer.getvalue()


FOREIGN = {
    "empty": lambda payload: b"",
    "text": lambda payload: b"<html>not found</html>",
    "noise": lambda payload: random.Random(0).randbytes(10_000),
    "a zip": lambda payload: zipped("notes.txt", "hello"),
    "a bomb": lambda payload: zipped("archive/data.pkl", bytes(10_000_000), zipfile.ZIP_DEFLATED),
    "a pickle": lambda payload: pickle.dumps(payload),
    "a zipped pickle": lambda payload: zipped("archive/data.pkl", pickle.dumps(payload, 2)),
    "a torch pickle": lambda payload: torch_saved({"settings": payload}),
    "an old torch pickle": lambda payload: torch_saved({"settings": payload}, _use_new_zipfile_serialization=False),
    "a whole module": lambda payload: torch_saved(tiny.make().discriminator),
    "weights only": lambda payload: torch_saved(tiny.make().discriminator.state_dict()),
    "a list": lambda payload: torch_saved([1, 2, 3]),
    "a tensor": lambda payload: torch_saved(torch.zeros(3)),
    "a recorder's checkpoint": lambda payload: torch_saved({"trainer": tiny.make().state_dict(), "quality": {}}),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_refused_left_alone_and_never_run(kind, sealed, tmp_path):
    path, content = tmp_path / "run.pt", FOREIGN[kind](Payload(tmp_path / "executed"))
    if sealed:  # a forger can compute checksums, too
        content += hashlib.sha256(content).digest()
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="delete it") as caught:
        tiny.make().fit(progress=False, checkpoint=path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content and not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["a pickle", "a torch pickle", "an old torch pickle"])
def test_the_payload_would_work(kind, tmp_path):
    """Or the test above proves nothing."""
    content = FOREIGN[kind](Payload(tmp_path / "executed"))
    load = pickle.loads if kind == "a pickle" else lambda content: torch.load(BytesIO(content), weights_only=False)
    load(content)
    assert (tmp_path / "executed").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    content = FOREIGN["a bomb"](None)
    (tmp_path / "run").write_bytes(content + hashlib.sha256(content).digest())
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(CheckpointError, match="compressed and could unpack to any size"):
        load_checkpoint(tmp_path / "run")


def test_a_folder_in_its_place_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match="run is damaged or not a checkpoint"):
        tiny.make().fit(progress=False, checkpoint=tmp_path / "run")


@pytest.mark.parametrize("part", [part for part in tiny.make().state_dict() if part != "objective"])
@pytest.mark.parametrize("junk", [None, "text", [1], {"a": 1}], ids=str)
def test_a_checkpoint_with_nonsense_inside_is_refused(part, junk, tmp_path):
    trainer = tiny.make()
    save_checkpoint(tmp_path / "run", trainer.state_dict() | {part: junk})
    with pytest.raises(CheckpointError, match="cannot be continued"):
        trainer.fit(progress=False, checkpoint=tmp_path / "run")


# ---- damaged


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    trainer = tiny.make(epochs=2, generators=1, width=4)
    trainer.fit(progress=False, checkpoint=path)
    return path.read_bytes()


def test_every_truncation_is_noticed(whole, tmp_path):
    lengths = random.Random(0).sample(range(len(whole)), 100)
    for length in [*lengths, 0, 1, len(whole) - 1]:
        (tmp_path / "run").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "run")


def test_every_flipped_bit_is_noticed(whole, tmp_path):
    places = random.Random(1)
    for _ in range(300):
        content = bytearray(whole)
        content[places.randrange(len(whole))] ^= 1 << places.randrange(8)
        (tmp_path / "run").write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "run")


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_no_damaged_one(whole, tmp_path, monkeypatch):
    read = Path.read_bytes

    def read_and_replace(path):
        content = read(path)
        path.write_bytes(b"another")
        return content

    (tmp_path / "run").write_bytes(whole)
    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    assert load_checkpoint(tmp_path / "run")["history"]["columns"]["epoch"] == [1, 2]


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: None]
)
def test_a_damaged_checkpoint_costs_one_interval(damage, tmp_path):
    undisturbed = tiny.make()
    undisturbed.fit(progress=False)
    stopped(tmp_path / "run", epoch=4)
    content = damage((tmp_path / "run").read_bytes())
    trainer, starts = tiny.make(), []
    if content is None:
        (tmp_path / "run").unlink()
        trainer.fit(False, lambda trainer: starts.append(len(trainer.history)), tmp_path / "run")
    else:
        (tmp_path / "run").write_bytes(content)
        with pytest.warns(UserWarning, match="damaged.*predecessor is used"):
            trainer.fit(False, lambda trainer: starts.append(len(trainer.history)), tmp_path / "run")
    assert starts[0] == 3  # epochs 1 and 2 were in the predecessor
    assert tiny.same(tiny.outcome(trainer), tiny.outcome(undisturbed))


def test_damage_to_both_is_an_error_and_nothing_is_overwritten(tmp_path):
    stopped(tmp_path / "run")
    for name in ("run", "run.previous"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="delete it to start again"):
        tiny.make().fit(progress=False, checkpoint=tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == b"damaged"


@pytest.mark.parametrize(
    "name", ["mit Leerzeichen", "Prüfpunkt и сохранение.pt", "実験[1]*", "a.b.c", "'quoted' $HOME %TEMP%"]
)
def test_any_name_of_file_and_folder_works(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    undisturbed, second = tiny.make(), tiny.make()
    undisturbed.fit(progress=False)
    stopped(str(folder / name))
    second.fit(progress=False, checkpoint=str(folder / name))
    assert tiny.same(tiny.outcome(second), tiny.outcome(undisturbed))
    assert {file.name for file in folder.iterdir()} == {name, f"{name}.previous", f"{name}.lock"}
