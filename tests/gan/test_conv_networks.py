"""Notebook 06: the convolutional players, AdaIN by hand, spectral norm, penalties, tiny runs, the ruler for faces."""

import io
import math
import os
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.data import ImageSet, pad
from helpers.data import faces as photographs
from helpers.data.catalogue import load_dataset
from helpers.data.files import DataError
from helpers.evidence import recorder, records
from helpers.gan.conv_networks import NORMS, SIZES, AdaIN, ConvCritic, ConvGenerator
from helpers.gan.objectives import WGANGP
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.gan.training import Settings, Trainer
from helpers.measure import faces, judge

VARIANTS = ("conv_original", "conv_sn", "conv_adain", "conv_both")
ABLATIONS = ("conv_sn_alone", "conv_neither")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("channels", (1, 3))
def test_generator_makes_images_of_every_size(size, norm, channels):
    generator = ConvGenerator(latent_dim=5, data_shape=(channels, size, size), width=2, norm=norm)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1 and images.std() > 0.001


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spectral", (False, True))
def test_critic_gives_one_score_per_image_of_every_size(size, spectral):
    critic = ConvCritic((3, size, size), width=2, spectral=spectral)
    assert critic(torch.randn(4, 3, size, size)).shape == (4,)
    strided = [layer for layer in critic.modules() if isinstance(layer, nn.Conv2d)]
    assert len(strided) == math.log2(size / 4)


@pytest.mark.parametrize("norm, expected", [("batch", (4, 0)), ("adain", (1, 3))])
def test_adain_replaces_batch_norm_everywhere_but_in_the_input_layer(norm, expected):
    generator = ConvGenerator(data_shape=(3, 64, 64), width=2, norm=norm)
    kinds = [type(layer) for layer in generator.modules()]
    assert (kinds.count(nn.BatchNorm2d), kinds.count(AdaIN)) == expected
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in generator.input_layer)


@pytest.mark.parametrize("spectral", (False, True))
def test_no_image_changes_the_score_of_another(spectral):
    critic = ConvCritic((1, 32, 32), width=4, spectral=spectral)
    images = torch.randn(3, 1, 32, 32)
    if spectral:  # every forward pass in training moves the estimate of the norm a little
        critic.eval()
    alone = torch.cat([critic(image[None]) for image in images])
    assert torch.allclose(critic(images), alone, atol=1e-5)


def test_adain_agrees_with_a_calculation_by_hand():
    torch.manual_seed(0)
    layer = AdaIN(channels=3, style_dim=4)
    nn.init.normal_(layer.scale_and_shift.weight)
    features, style = 5 + 3 * torch.randn(2, 3, 4, 6), torch.randn(2, 4)
    found = layer(features, style)
    weight, bias = layer.scale_and_shift.weight, layer.scale_and_shift.bias
    for n in range(2):
        for c in range(3):
            values = features[n, c].flatten().tolist()
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
            scale = (weight[c] @ style[n] + bias[c]).item()
            shift = (weight[3 + c] @ style[n] + bias[3 + c]).item()
            expected = [scale * (v - mean) / deviation + shift for v in values]
            assert found[n, c].flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_adain_starts_at_scale_1_and_shift_0_for_every_style():
    features = 5 + 3 * torch.randn(2, 3, 8, 8)
    out = AdaIN(channels=3, style_dim=4)(features, 100 * torch.randn(2, 4))
    assert out.mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(out.var((2, 3), unbiased=False), torch.ones(2, 3), atol=1e-4)


def test_adain_looks_at_each_sample_alone_and_batch_norm_does_not():
    layer, style = AdaIN(channels=2, style_dim=1), torch.zeros(2, 1)
    features = torch.randn(2, 2, 4, 4)
    other = features.clone()
    other[1] = 7 * torch.randn(2, 4, 4) + 9
    assert torch.equal(layer(features, style)[0], layer(other, style)[0])
    batch_norm = nn.BatchNorm2d(2)
    assert not torch.allclose(batch_norm(features)[0], batch_norm(other)[0], atol=0.1)


def test_the_style_reaches_every_adain_layer_and_learns_from_the_start():
    generator = ConvGenerator(latent_dim=6, data_shape=(1, 32, 32), width=2, norm="adain")
    generator(torch.randn(4, 6)).square().mean().backward()
    layers = [layer.scale_and_shift for layer in generator.modules() if isinstance(layer, AdaIN)]
    assert len(layers) == 2
    assert all(layer.weight.grad.abs().max() > 0 for layer in layers)


def test_spectral_norm_brings_the_largest_singular_value_of_every_layer_to_1():
    critic = ConvCritic((3, 32, 32), width=4, spectral=True)
    images = torch.randn(2, 3, 32, 32)
    for _ in range(100):
        critic(images)
    critic.eval()
    layers = [layer for layer in critic.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)
    assert not hasattr(ConvCritic((3, 32, 32), width=4).layers[0], "parametrizations")


@pytest.mark.parametrize("spectral", (False, True))
def test_gradient_penalty_agrees_with_finite_differences_of_its_weights(spectral):
    torch.manual_seed(1)
    critic = ConvCritic((1, 32, 32), width=1, spectral=spectral).double().eval()
    real, fake = torch.randn(2, 1, 32, 32).double(), torch.randn(2, 1, 32, 32).double()

    def penalty():
        norms = WGANGP.gradient_norms(critic, real, fake, torch.Generator().manual_seed(0))
        return (norms - 1).square().mean()

    penalty().backward()
    weight = next(p for name, p in critic.named_parameters() if "0" in name and p.dim() == 4)
    with torch.no_grad():
        found = weight.grad[0, 0, 1, 2].item()
        weight[0, 0, 1, 2] += 1e-6
    above = penalty().item()
    with torch.no_grad():
        weight[0, 0, 1, 2] -= 2e-6
    assert found == pytest.approx((above - penalty().item()) / 2e-6, rel=1e-4)
    assert found != 0


@pytest.mark.parametrize("name", VARIANTS + ABLATIONS)
def test_a_tiny_run_of_every_variant(name):
    images = torch.randint(0, 256, (40, 1, 32, 32), dtype=torch.uint8)
    trainer = make_trainer(name, _image_set(images), epochs=2, batch_size=4, grid_epochs=(2,), grid_size=4)
    before = [p.detach().clone() for p in trainer.generators.parameters()]
    history = trainer.fit(progress=False)
    assert history.status == "complete" and len(history) == 2
    assert history.grids[2].shape == (1, 4, 1, 32, 32)
    assert (history["critic_gradient_norm"] > 0).all()
    moved = [not torch.equal(old, new) for old, new in zip(before, trainer.generators.parameters(), strict=True)]
    assert all(moved)
    assert trainer.settings.critic_steps == 5 and trainer.steps_per_epoch == 2


def test_variants_differ_in_what_their_names_say():
    def facts(name):
        generators, critic = SYSTEMS[name].networks((3, 32, 32), 0)
        spectral = any(hasattr(layer, "parametrizations") for layer in critic.modules())
        return spectral, any(isinstance(m, AdaIN) for m in generators[0].modules()), SYSTEMS[name].objective().weight

    assert [facts(name) for name in VARIANTS] == [
        (False, False, 10),
        (True, False, 10),
        (False, True, 10),
        (True, True, 10),
    ]
    assert [facts(name) for name in ABLATIONS] == [(True, False, 0), (False, False, 0)]


def test_the_same_seed_gives_every_variant_the_same_input_layer():
    shapes = torch.zeros(8, 1, 32, 32, dtype=torch.uint8)
    settings = {"epochs": 1, "batch_size": 4, "seed": 3}
    weights = [
        make_trainer(name, _image_set(shapes), **settings).generators[0].input_layer[0].weight for name in VARIANTS
    ]
    assert all(torch.equal(weights[0], weight) for weight in weights)


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda: ConvGenerator(data_shape=(3, 48, 48)), "data_shape"),
        (lambda: ConvGenerator(data_shape=(3, 64, 32)), "data_shape"),
        (lambda: ConvGenerator(norm="layer"), "norm='layer'"),
        (lambda: ConvGenerator(width=0), "width=0"),
        (lambda: ConvCritic((3, 28, 28)), "data_shape"),
        (lambda: ConvCritic(width=2.5), "width=2.5"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(make, named):
    with pytest.raises(ValueError, match="allowed") as raised:
        make()
    assert named in str(raised.value)


def test_an_adain_run_continues_from_its_state_to_the_same_numbers():
    images = torch.randint(0, 256, (16, 1, 32, 32), dtype=torch.uint8)

    def trainer(epochs):
        torch.manual_seed(0)
        generator = ConvGenerator(8, (1, 32, 32), width=2, norm="adain")
        critic = ConvCritic((1, 32, 32), width=2, spectral=True)
        return Trainer([generator], critic, WGANGP(), images, Settings(epochs=epochs, batch_size=4, critic_steps=2))

    whole = trainer(3)
    whole.fit(progress=False)
    first = trainer(1)
    first.fit(progress=False)
    second = trainer(3)
    second.load_state_dict(first.state_dict())
    second.fit(progress=False)
    assert second.history["d_loss"].tolist() == pytest.approx(whole.history["d_loss"].tolist(), rel=1e-8)


@pytest.fixture
def face_folder(tmp_path, monkeypatch):
    """A zip of 100 pictures, of which 20 are held out, where faces are looked for; two files are broken."""
    folder = tmp_path / "LFW"
    folder.mkdir()
    draw = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "some.zip", "w") as archive:
        for number in range(100):
            buffer = io.BytesIO()
            coarse = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((36, 36)).save(buffer, "PNG")
            archive.writestr(f"{number:03}.png", buffer.getvalue())
        archive.writestr("000a.jpg", b"not a picture")
        archive.writestr("099a.png", b"")
    monkeypatch.setenv("GAN_DATA", str(tmp_path))
    for module in (photographs, faces, judge):
        monkeypatch.setattr(module, "HELD_OUT", 20)
    return folder


def test_faces_are_split_without_overlap_and_broken_ones_are_counted(face_folder):
    train, held_out = photographs.load_faces_split(32), photographs.load_faces_split(32, train=False)
    assert train.images.shape == (80, 3, 32, 32) and held_out.images.shape == (20, 3, 32, 32)
    assert train.images.dtype == torch.uint8
    assert not (train.images[:, None] == held_out.images[None]).flatten(2).all(2).any()
    assert "2 of 102 images" in train.notice
    assert len(photographs.load_faces_split(32, limit=7).images) == 7


def test_too_few_faces_or_none_are_an_error_with_a_remedy(face_folder, monkeypatch):
    monkeypatch.setattr(photographs, "HELD_OUT", 51)
    with pytest.raises(DataError, match="at least 102"):
        photographs.load_faces_split(32)
    monkeypatch.setattr(photographs, "load_faces", lambda *_, **__: None)
    with pytest.raises(DataError, match="data/README"):
        photographs.load_faces_split(32)


def test_a_recorded_face_run_keeps_samples_and_scores_but_no_photograph(face_folder, tmp_path):
    folder = recorder.record_run(
        "conv_both", "faces32", 0, 1, tmp_path / "runs", progress=False, batch_size=8, grid_size=4
    )
    found = records.read_record(folder)
    assert set(found.quality) == {1}
    assert {"fid", "recall", "coverage", "detail"} <= set(found.final_quality())
    training = load_dataset("faces32").images
    grids = torch.from_numpy(found.history.grids[1][0])
    assert grids.shape == (4, 3, 32, 32)
    assert not (grids[:, None] == training[None]).flatten(2).all(2).any()
    assert sorted(file.name for file in folder.iterdir() if file.name != "lock") == [
        "grids.npz",
        "record.json",
        "weights.safetensors",
    ]


def test_training_the_encoder_learns_repeats_and_comes_back_from_its_file(face_folder, tmp_path):
    images, state = photographs.load_faces_split(32).images, torch.get_rng_state()
    (first, early), (again, _) = (faces.train_encoder(images, epochs=2, batch_size=8) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first[-1].weight, again[-1].weight)
    assert faces.train_encoder(images, epochs=12, batch_size=8)[1] < early / 1.5
    faces.main(["--epochs", "1", "--folder", str(tmp_path)])
    encoder = faces.load_encoder(folder=tmp_path)
    assert not encoder.training and encoder.facts["training_images"] == 80
    assert faces.features(images, encoder).shape == (80, 64)
    (tmp_path / faces.FILE_NAME).write_bytes(b"broken")
    with pytest.raises(ValueError, match="python -m helpers.measure.faces"):
        faces.load_encoder(folder=tmp_path)
    (tmp_path / faces.FILE_NAME).unlink()
    with pytest.raises(FileNotFoundError, match="python -m helpers.measure.faces"):
        faces.load_encoder(folder=tmp_path)


def test_the_shipped_encoder_states_where_it_comes_from():
    encoder = faces.load_encoder()
    assert encoder.facts["training_images"] == 8000 and encoder.facts["command"].startswith("python -m helpers.faces")
    assert (faces.WEIGHTS_FOLDER / faces.FILE_NAME).stat().st_size < 1_000_000
    sizes = [faces.features(torch.rand(2, 3, size, size), encoder).shape for size in SIZES]
    assert sizes == [(2, 64)] * 3


def test_fine_detail_of_pictures_whose_laplacian_is_known():
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)[None, None]
    assert faces.fine_detail(board) == pytest.approx(8)  # four neighbours, each 2 away
    ramp = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    assert faces.fine_detail(ramp) == pytest.approx(0, abs=1e-6)
    assert faces.fine_detail(torch.cat([board, board * 0])) == pytest.approx(8 / math.sqrt(2))
    as_bytes = ((board + 1) * 127.5).round().to(torch.uint8)
    assert faces.fine_detail(as_bytes) == pytest.approx(8)


@pytest.mark.slow
@pytest.mark.skipif("GAN_DATA" not in os.environ, reason="GAN_DATA names no folder with real faces")
def test_the_ruler_grows_with_blur_and_with_missing_variety():
    try:
        train = photographs.load_faces_split(32)
    except DataError as missing:
        pytest.skip(str(missing))
    ruler = faces.face_ruler(32)
    real = train.images[-2000:].float() / 127.5 - 1
    floor, blurred = ruler(real), ruler(torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1))
    few = ruler(real[:50].repeat(40, 1, 1, 1))
    assert floor["detail"] == pytest.approx(1, abs=0.1) and blurred["detail"] < 0.6
    assert floor["fid"] < blurred["fid"] and 5 * floor["fid"] < few["fid"]
    assert few["coverage"] < 0.5 < floor["coverage"]


def test_padding_adds_a_frame_and_changes_no_pixel():
    plain = _image_set(torch.rand(2, 1, 28, 28))
    padded = pad(plain, 32).images
    assert padded.shape == (2, 1, 32, 32)
    assert torch.equal(padded[:, :, 2:-2, 2:-2], plain.images)
    assert padded.sum() == pytest.approx(plain.images.sum().item() - 2 * (32 * 32 - 28 * 28), abs=0.01)
    for size in (27, 31, 26):
        with pytest.raises(ValueError, match="allowed: 28 or more"):
            pad(plain, size)


def _image_set(images):
    return ImageSet("test", images, torch.zeros(len(images), dtype=torch.int64))
