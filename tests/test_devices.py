"""Everything that trains, measures and draws, on a CUDA and an MPS GPU that are not there; see fake_device.py.

First that the fake finds what it is there for: faults planted on purpose, each a few characters long.
"""

import copy
from dataclasses import replace
from functools import partial

import matplotlib
import numpy as np
import pytest
import sklearn.datasets
import sklearn.metrics  # noqa: F401
import tiny
import torch
import torchmetrics.image.fid
import torchmetrics.image.kid  # noqa: F401
import torchvision  # noqa: F401
from fake_device import IS_FAITHFUL, KINDS, FakeDevice, kept_by, place
from PIL import Image

from benchmarks.cases import CASES, Ours
from benchmarks.floor import Floor
from benchmarks.slides import slides_loop
from helpers.data import ImageSet, catalogue, load_image_folder, pad, resize, ring_of_gaussians, stacked_mnist
from helpers.data.images import to_unit_range
from helpers.draw import figures
from helpers.evidence import recorder
from helpers.evidence.records import read_record
from helpers.gan import objectives
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.gan.training import Trainer
from helpers.measure import faces, judge, quality
from helpers.measure.digits import Classifier, accuracy, load_classifier, train_classifier
from helpers.reader import session, widgets
from helpers.reader.questions import Function, Number

matplotlib.use("agg")
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what short trainings look like to ``watch``
    pytest.mark.skipif(not IS_FAITHFUL, reason="the fake devices need a newer torch"),
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def few_subsets(monkeypatch):
    """KID's hundred random subsets run through the same code; three of them meet whatever a device refuses."""
    monkeypatch.setattr(quality, "kid", partial(quality.kid, subsets=3))


@pytest.fixture(params=KINDS)
def gpu(request):
    """The fake device; what it has found when a test ends fails the test."""
    with FakeDevice(request.param) as fake:
        yield fake
    assert not fake.findings, f"on {fake.kind}:\n{fake.report()}"


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(120, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


def digits_on(device, pixels) -> ImageSet:
    return ImageSet("noise", pixels.to(device), torch.arange(len(pixels)).to(device) % 10)


# ---- planted faults ------------------------------------------------------------------------------------------------


def on(kind):
    return torch.ones(3, 3, device=kind)


PLANTED = {
    "two devices": lambda kind: on(kind) @ torch.ones(3, 3),
    "a network left on the CPU": lambda kind: torch.nn.Linear(3, 2)(on(kind)),
    "a CPU tensor joined": lambda kind: torch.cat([on(kind), torch.ones(1, 3)]),
    "a CPU tensor indexed by a device's": lambda kind: torch.ones(3)[torch.zeros(1, dtype=torch.long, device=kind)],
    "a CPU tensor changed in place": lambda kind: torch.ones(3, 3).add_(on(kind)),
    "a factory without its device": lambda kind: on(kind) + torch.zeros(3),
    "a factory inside a loss": lambda kind: torch.nn.functional.mse_loss(on(kind), torch.zeros(3, 3)),
    "labels on the CPU": lambda kind: torch.nn.functional.cross_entropy(on(kind), torch.zeros(3, dtype=torch.long)),
    "index_select by the CPU": lambda kind: on(kind).index_select(0, torch.zeros(1, dtype=torch.long)),
    "generator": lambda kind: torch.randn(3, device=kind, generator=torch.Generator().manual_seed(0)),
    "generator of the device for the CPU": lambda kind: torch.randperm(3, generator=torch.Generator(kind)),
    "numpy": lambda kind: on(kind).numpy(),
    "numpy by itself": lambda kind: np.asarray(on(kind)),
    "integer product": lambda kind: on(kind).long() @ on(kind).long(),
}
PLANTED_ON_MPS = {
    "double": lambda kind: on(kind).double(),
    "double by to": lambda kind: on(kind).to(torch.float64),
    "double moved": lambda kind: torch.ones(3, dtype=torch.float64).to(kind),
    "no kernel": lambda kind: torch.linalg.eigvals(on(kind)),
}


def findings_of(kind: str, code) -> list[str]:
    with FakeDevice(kind) as fake:
        code(kind)
    return [finding.kind for finding in fake.findings]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_reported(name, kind):
    kinds = ("two devices", "generator", "numpy", "integer product")
    wanted = next((each for each in kinds if name.startswith(each)), "two devices")
    assert findings_of(kind, PLANTED[name]) == [wanted]


@pytest.mark.parametrize("name", PLANTED_ON_MPS)
def test_what_only_mps_lacks_is_reported_there(name):
    assert set(findings_of("mps", PLANTED_ON_MPS[name])) >= {"no kernel" if name == "no kernel" else "float64"}
    assert not findings_of("cuda", PLANTED_ON_MPS[name])


HARMLESS = {
    "moved": lambda kind: torch.ones(3).to(kind).cpu().numpy(),
    "a number of the CPU joins": lambda kind: on(kind) * torch.tensor(2.0) + 1,
    "indices of the CPU": lambda kind: on(kind)[torch.zeros(1, dtype=torch.long)],
    "copied over": lambda kind: on(kind).copy_(torch.zeros(3, 3)),
    "like another": lambda kind: torch.zeros_like(on(kind)) + on(kind).new_ones(3) + torch.full_like(on(kind), 2.0),
    "a deep copy": lambda kind: copy.deepcopy(torch.nn.Linear(3, 3).to(kind))(on(kind)),
    "backward": lambda kind: (on(kind).requires_grad_() * torch.ones(3, device=kind)).sum().backward(),
    "its own generator": lambda kind: torch.randn(3, device=kind, generator=torch.Generator(kind)) + on(kind),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_device_allows_is_not_reported(name, kind):
    assert findings_of(kind, HARMLESS[name]) == []


def test_a_finding_names_the_line_and_the_run_goes_on():
    with FakeDevice("cuda") as fake:
        for _ in range(2):
            on("cuda") @ torch.ones(3, 3)
        assert place(on("cuda") + 1) == "cuda:0"
    assert len(fake.findings) == 1, "one line, one finding"
    assert "tests/test_devices.py" in fake.report() and "@ torch.ones(3, 3)" in fake.report()


@pytest.mark.parametrize("kind", KINDS)
def test_waits_and_kernels_are_counted(kind):
    with FakeDevice(kind) as fake:
        ones = on(kind)
        with fake.counting() as count:
            (ones * 2 + 1).view(9).sum()
        assert sum(count.kernels.values()) == 3 and not count.waits
        with fake.counting() as count:
            ones.sum().item(), ones.tolist(), bool(ones.any()), ones.cpu(), torch.ones(3).to(kind)
        assert sum(count.waits.values()) == 5
    assert not torch.cuda.is_available() or kind == "mps", "everything is as before"


# ---- every system --------------------------------------------------------------------------------------------------

# What a step may launch: a little above what it does, so that a loop over a batch or a layer too many is noticed.
KERNELS = {
    "gan": 105, "gan_minimax": 105, "sngan": 215, "sngan_hinge": 210, "psg_average": 125, "psg_sum": 125,
    "psg_algorithm1": 135, "psg_algorithm1_batch": 150, "psg_algorithm1_fooled": 140, "psg_sn": 235,
    "gan_std": 135, "psg_std": 155, "sngan_std": 240, "psg_sn_std": 260, "mgan_sn": 405, "mgan_sn_learned": 405,
    "psg_4_sn": 270, "gan_double_fakes": 130, "psg_4": 160, "psg_half_width": 125, "cgan": 115, "cgan_sn": 225,
    "lsgan": 115, "wgan": 335, "wgan_gp": 525, "ebgan": 200, "began": 150, "began_half": 150, "conv_original": 640,
    "conv_sn": 1620, "conv_adain": 675, "conv_both": 1650, "conv_sn_alone": 1620, "conv_neither": 640,
}  # fmt: skip
# The host decides who takes part in a step, D and the generators; nobody else waits.
WAITS = {"psg_algorithm1_batch": 2}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_trains_goes_on_samples_is_judged_and_drawn(name, gpu, pixels, tmp_path):
    images = digits_on(gpu.kind, pixels)
    size = 25 if name.endswith("_std") else 60  # 25: one group
    if name.startswith("conv"):
        images = pad(replace(images, images=images.images[:20], labels=images.labels[:20]), 32)
        size = 10
    options = {"batch_size": size, "grid_epochs": (0, 1, 2), "grid_size": 8}
    begun = make_trainer(name, images, epochs=1, **options)
    begun.fit(progress=False, checkpoint=tmp_path / "run")
    trainer = make_trainer(name, images, epochs=2, **options)
    history = trainer.fit(progress=False, checkpoint=tmp_path / "run")
    assert len(history) == 2 and trainer.device.type == gpu.kind

    states = [value for each in (trainer.optimizer_d, trainer.optimizer_g) for s in each.state.values() for value in
              (value for key, value in s.items() if key != "step")]  # fmt: skip
    kept = (*trainer.generators.state_dict().values(), *trainer.discriminator.state_dict().values(), *states)
    assert {place(tensor) for tensor in kept} == {f"{gpu.kind}:0"}
    assert place(trainer.sample(4)) == f"{gpu.kind}:0"
    assert_within_budget(name, trainer, gpu)
    inner = trainer.sample(100)[0][:, :, -28:, -28:]
    quality.of_images(inner, images.images[:, :, -28:, -28:], Classifier().to(gpu.kind).eval())
    if trainer.labels is None:
        quality.score_slope(trainer.discriminator, to_unit_range(images.images[:10]))
    for figure in (figures.loss_curves(history, "losses"), figures.grids_over_epochs(history, "samples")):
        assert figure.axes  # their pixels are drawn from what lies on the host by now


def assert_within_budget(name: str, trainer, gpu) -> None:
    trainer.step()
    with gpu.counting() as count:
        measures = trainer.step()
        torch.stack(list(measures.values()))
    launched = sum(count.kernels.values())
    assert sum(count.waits.values()) <= WAITS.get(name, 0), f"{name} waits for the device: {dict(count.waits)}"
    assert 0.8 * KERNELS[name] < launched <= KERNELS[name], f"{name} launches {launched} kernels a step"


def test_every_system_has_a_budget():
    assert set(KERNELS) == set(SYSTEMS)


@pytest.mark.parametrize("name", ["sngan", "psg_algorithm1_batch", "mgan_sn_learned", "wgan_gp", "began"])
def test_skimmed_steps_are_the_same_and_leave_every_tag(name):
    """On one kind of device: skimming does not know of which kind it is."""

    def trained(steps):
        trainer = make_trainer(name, ring_of_gaussians(count=100, device="cuda"), batch_size=50)
        return trainer, [trainer.step() for _ in range(steps)][-1]

    with FakeDevice("cuda") as gpu:
        watched, measures = trained(12)
        gpu.skim(Trainer, first=2, every=10)
        skimmed, same_measures = trained(12)
        assert {key: value.item() for key, value in measures.items()} == {k: v.item() for k, v in same_measures.items()}
        for each, other in zip(kept_by(watched), kept_by(skimmed), strict=True):
            assert each is None and other is None or place(each) == place(other) and torch.equal(each, other)
    assert not gpu.findings, gpu.report()


def test_a_fault_in_a_step_is_found_although_steps_are_skimmed():
    class Forgetful(objectives.GAN):
        def generator_losses(self, fake):
            return super().generator_losses(fake) + torch.zeros(fake.shape)

    with FakeDevice("cuda") as fake:
        fake.skim(Trainer)
        trainer = make_trainer("gan", ring_of_gaussians(count=100, device="cuda"), batch_size=50)
        trainer.objective = Forgetful()
        for _ in range(40):
            trainer.step()
        on("cuda") @ torch.ones(3, 3)  # what comes after a skimmed step is watched again
    assert [finding.kind for finding in fake.findings] == ["two devices", "two devices"]


def test_skimmed_steps_may_be_left_out():
    with FakeDevice("cuda") as fake:
        fake.skim(Trainer, first=8, every=100, only=50)
        trainer = make_trainer("gan", ring_of_gaussians(count=100, device="cuda"), batch_size=50)
        losses = [trainer.step()["d_loss"].item() for _ in range(60)]
    assert len(set(losses)) == 9 and len({*losses[7:49]}) == 1, "the first 8 and the 50th are taken"
    assert {state["step"].item() for state in trainer.optimizer_d.state.values()} == {9}


@pytest.mark.parametrize("name", ["gan", "sngan", "psg_algorithm1_batch", "wgan_gp", "began", "ebgan", "cgan"])
def test_a_system_trains_on_points(name, gpu):
    ring = ring_of_gaussians(count=100, device=gpu.kind)
    trainer = make_trainer(name, ring, epochs=1, batch_size=50, grid_epochs=(0, 1))
    history = trainer.fit(progress=False)
    fig, axes = figures.new_figure(len(history.grids), squeeze=False)
    for ax, points in zip(axes[0], history.grids.values(), strict=True):
        figures.scatter_points(ax, ring.images, points, "points")
    figures.to_png(fig)
    quality.mode_coverage(trainer.sample(50)[0], ring.centres, 0.02)


def test_images_in_main_memory_train_the_device(gpu):
    """Photographs that do not fit there; and labels that somebody left on the CPU."""
    trainer = tiny.make(images=tiny.RING.images, device=gpu.kind)
    assert trainer.fit(progress=False).status == "complete"
    assert {place(p) for p in trainer.generators.parameters()} == {f"{gpu.kind}:0"}
    near = tiny.make(objectives.GAN(), images=tiny.RING.images.to(gpu.kind), labels=tiny.RING.labels, classes=8)
    assert near.fit(progress=False).status == "complete"


def test_it_trains_as_the_cpu_does(gpu):
    """The fake changes no numbers, or what it says would be about another program."""
    there = tiny.make(images=tiny.RING.images.to(gpu.kind))
    there.fit(progress=False)
    losses = there.history["d_loss"]
    gpu.__exit__(None, None, None)
    here = tiny.make()
    here.fit(progress=False)
    gpu.__enter__()
    np.testing.assert_array_equal(here.history["d_loss"], losses)


# ---- measures, records, panels, benchmarks -------------------------------------------------------------------------


def test_measures(gpu, pixels):
    digits = digits_on(gpu.kind, pixels)
    classifier = train_classifier(digits.images, digits.labels, epochs=1, batch_size=50)
    assert 0 <= accuracy(classifier, digits.images, digits.labels) <= 1
    stacks = stacked_mnist(digits, count=50)
    assert place(stacks.labels) == f"{gpu.kind}:0"
    quality.stacked_mode_coverage(stacks.images, load_classifier("mnist", gpu.kind))
    one, other = digits.images.flatten(1)[:, :8], digits.images.flatten(1)[:, 8:16]
    for measure in (quality.fid, quality.kid, quality.prdc):
        measure(one, other)
    quality.jensen_shannon(digits.labels.bincount(), digits.labels.bincount())
    quality.class_shares(digits.labels.bincount())
    quality.membership_auc(one[:, 0], other[:, 0])
    assert resize(digits, 14).images.shape[-1] == 14
    assert Function(torch.square, ((one[:3],),), "a square").judge(torch.square)[0]
    assert Number(one.abs().max().item(), "the largest").judge(one.abs().max())[0]


def test_faces_are_measured_also_where_the_photographs_do_not_fit(gpu, monkeypatch):
    photographs = torch.randint(0, 256, (60, 3, 64, 64), dtype=torch.uint8)
    shrunk = resize(ImageSet("faces", photographs.float(), None), 32).images.to(torch.uint8)
    encoder, _ = faces.train_encoder(shrunk[:60].to(gpu.kind), epochs=1, batch_size=20)
    for held_out in (photographs, photographs.to(gpu.kind)):
        kept = ImageSet("faces", held_out, torch.zeros(60))
        monkeypatch.setattr(faces, "load_faces_split", lambda *_, kept=kept, **__: kept)
        score = faces.face_ruler(64, gpu.kind, encoder)
        assert score(to_unit_range(photographs[:20].to(gpu.kind)))["fid"] >= 0
    faces.load_encoder(gpu.kind)


@pytest.mark.parametrize(("dataset", "system"), [("ring", "psg_average"), ("mnist", "cgan"), ("mnist_1000", "psg_4")])
@pytest.mark.parametrize("near", [True, False], ids=["on the device", "in main memory"])
def test_a_run_is_recorded(dataset, system, near, gpu, pixels, tmp_path, monkeypatch):
    load = catalogue.load_dataset
    monkeypatch.setattr(recorder, "load_dataset", lambda name, device, limit: load(name, device if near else "cpu"))
    for module in (catalogue, judge):
        monkeypatch.setattr(module, "load_images", lambda *_, device="cpu", **__: digits_on(device, pixels))
    for name, few in {"SAMPLES": 120, "SLOPE_IMAGES": 20}.items():
        monkeypatch.setattr(judge, name, few)
    for name, few in {"FEW": 40, "REPEATS": 1}.items():
        monkeypatch.setattr(catalogue, name, few)
    size = 2500 if dataset == "ring" else 60
    folder = recorder.record_run(
        system, dataset, 0, 2, tmp_path, "auto", every=0.0, progress=False, batch_size=size, grid_size=9
    )
    record = read_record(folder)
    assert record.provenance["device"].startswith(gpu.kind) and record.provenance["tf32"] is False
    assert record.history.status == "complete" and record.final_quality() and record.weights()


def test_panels(gpu, pixels):
    digits, ring = digits_on(gpu.kind, pixels), ring_of_gaussians(count=100, device=gpu.kind)
    dashboard = widgets.TrainingDashboard(make_trainer("psg_average", digits, epochs=3, batch_size=50), "alt")
    for press in (dashboard.step, dashboard.run):
        press()
        dashboard.wait()
    assert dashboard.status.value.startswith("finished: epoch 3 of 3")
    dashboard = widgets.TrainingDashboard(make_trainer("gan", ring, epochs=1, batch_size=50), "alt")
    dashboard.run()
    dashboard.wait()
    trainer = dashboard.trainer
    _, axes = figures.new_figure()
    figures.show_tile(axes, digits.images[:4], "a tile of what lies on the device")
    figures.landscape(axes, trainer.discriminator, "landscape")
    generator = make_trainer("gan", digits, batch_size=50).generators[0]
    widgets.latent_walk({"G": generator}, "alt").controls[0].value = 35
    lab = widgets.GanLab("alt", steps=1)
    lab.move(True, True)
    history = make_trainer("gan", digits, epochs=1, batch_size=50, grid_epochs=(1,)).fit(progress=False)
    widgets.epoch_scrubber({"GAN": history}, "alt")


def test_on_mps_a_dashboard_trains_in_the_cell(pixels):
    """Two threads that use Apple's GPU at once end the process."""
    with FakeDevice("mps") as fake:
        trainer = make_trainer("gan", digits_on("mps", pixels), epochs=2, batch_size=50)
        dashboard = widgets.TrainingDashboard(trainer, "alt")
        dashboard.run()
        assert len(trainer.history) == 2 and dashboard._thread is None
        trainer = make_trainer("gan", digits_on("mps", pixels), epochs=2, batch_size=50)
        dashboard = widgets.TrainingDashboard(trainer, "alt")
        trainer.step = interrupted
        dashboard.run()  # the notebook's stop button
        assert dashboard.status.value.startswith("stopped: epoch 0 of 2") and trainer.history.status == "interrupted"
    assert not fake.findings, fake.report()


def interrupted():
    raise KeyboardInterrupt


def test_benchmarks(gpu):
    pixels = torch.randint(0, 256, (40, 28, 28), dtype=torch.uint8)
    images = (pixels[:, None].float() / 127.5 - 1).to(gpu.kind)
    for case in (CASES[1], CASES[3], CASES[-1]):
        slides_loop(case, pixels, 8, images.device).run(5)
        Ours(case, images, 8).run(5)
        Floor(case, 8, images.device).run(5)


def test_memory_that_runs_out_is_named_on_every_device():
    for words in ("CUDA out of memory. Tried to allocate 2 GiB", "MPS backend out of memory (MPS allocated: 9 GB)"):
        trainer = tiny.make()
        error = torch.OutOfMemoryError if words.startswith("CUDA") else RuntimeError
        trainer.step = lambda error=error, words=words: raising(error(words))
        with pytest.raises(torch.OutOfMemoryError, match="batch_size=100 does not fit.*try batch_size=50"):
            trainer.fit(progress=False)


def raising(error):
    raise error


def test_a_session_finds_the_device(gpu):
    assert session.pick_device().type == gpu.kind and session.pick_profile() == "quick"


def test_photographs_that_do_not_fit_stay_in_main_memory_and_train_there(tmp_path):
    for number in range(8):
        Image.new("RGB", (40, 40), (30 * number, 0, 0)).save(tmp_path / f"{number}.png")
    with FakeDevice("cuda", memory=(10_000, 20_000)) as fake:
        photographs = load_image_folder(tmp_path, 32, device="cuda")
        assert place(photographs.images) == "cpu" and "each batch is moved there" in photographs.notice
        trainer = make_trainer("conv_original", photographs, device="cuda", epochs=1, batch_size=2, grid_size=2)
        assert trainer.device.type == "cuda" and trainer.fit(progress=False).status == "complete"
    assert not fake.findings, fake.report()
