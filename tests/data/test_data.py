"""Image sets and toy sets: shapes, ranges, labels, determinism, and arguments that are refused."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import files, images

REAL = os.environ.get("GAN_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="GAN_DATA is not set")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No folder and a network that refuses at once, so that the stand-in is used."""
    import torchvision

    monkeypatch.delenv("GAN_DATA", raising=False)
    monkeypatch.setattr(files, "DATA_FOLDER", tmp_path / "data")
    for source in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(source, "mirrors", ["http://127.0.0.1:9/"])


@needs_real_data
@pytest.mark.parametrize(
    ("name", "ones", "mean"), [("mnist", 6742, 0.1306604762738429), ("fashion_mnist", 6000, 0.286040)]
)
def test_real_sets_have_their_known_statistics(name, ones, mean):
    loaded = data.load_images(name)
    assert loaded.name == name and loaded.notice == ""
    assert loaded.images.shape == (60_000, 1, 28, 28) and loaded.images.dtype == torch.float32
    assert loaded.labels.shape == (60_000,) and loaded.labels.dtype == torch.int64
    assert int((loaded.labels == 1).sum()) == ones
    # The published means of both sets, of pixels in [0, 1].
    assert float(loaded.images.double().mean() + 1) / 2 == pytest.approx(mean, abs=1e-5)
    assert loaded.images.min() == -1 and loaded.images.max() == 1


@needs_real_data
def test_test_split_and_limit_are_parts_of_the_real_set():
    whole = data.load_images("mnist", train=False)
    part = data.load_images("mnist", train=False, limit=7)
    assert whole.images.shape == (10_000, 1, 28, 28)
    assert part.labels.tolist() == [7, 2, 1, 0, 4, 1, 4]
    assert torch.equal(part.images, whole.images[:7])


@needs_real_data
def test_real_set_loads_without_a_loop_over_its_images():
    data.load_images("mnist", train=False, limit=1)  # imports what it needs
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        loaded = data.load_images("mnist")
    finally:
        sys.setprofile(None)
    assert calls < len(loaded.images) / 10, "about 1,000 are usual, and take a second"


@needs_real_data
def test_loading_leaves_the_named_folder_untouched():
    def listing():
        return {path: path.stat().st_mtime_ns for path in Path(REAL).rglob("*MNIST/raw/*")}

    before = listing()
    data.load_images("fashion_mnist", train=False)
    assert listing() == before and len(before) == 8


def test_stand_in_digits_are_honestly_named(offline):
    train, test = data.load_images("mnist"), data.load_images("mnist", train=False)
    assert train.name == test.name == "digits"
    assert train.images.shape == (1500, 1, 28, 28) and test.images.shape == (297, 1, 28, 28)
    assert train.images.min() == -1 and train.images.max() == 1
    assert sorted(train.labels.unique().tolist()) == list(range(10))
    for part in ("STAND-IN", "MNIST", "GAN_DATA", "MNIST/raw/train-images-idx3-ubyte.gz", "127.0.0.1:9"):
        assert part in train.notice
    assert "FashionMNIST" in data.load_images("fashion_mnist").notice


def test_stand_in_digits_show_the_right_digit(offline):
    """A zero is bright in a ring and dark in its middle, also after resizing."""
    digits = data.load_images("mnist")
    zero = digits.images[digits.labels == 0].mean(0)[0]
    assert zero[13:15, 13:15].mean() < -0.5 < 0 < zero[13:15, 6:9].max()


def test_limit_larger_than_the_set_gives_the_whole_set(offline):
    assert len(data.load_images("mnist", limit=10**9).images) == 1500


@given(limit=st.one_of(st.integers(max_value=0), st.floats(), st.text(), st.booleans()))
def test_bad_limit_is_named_before_anything_is_read(limit):
    with pytest.raises(ValueError, match="limit="):
        data.load_images("mnist", limit=limit)


@settings(deadline=None, max_examples=10)
@given(limit=st.integers(1, 2000))
def test_any_good_limit_is_kept(limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "read_split", _raise_not_available)
        assert len(data.load_images("mnist", limit=limit).images) == min(limit, 1500)


def _raise_not_available(*_):
    raise files.NotAvailable("test")


@pytest.mark.parametrize("name", ["MNIST", "cifar", "", None, "../mnist"])
def test_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="'mnist', 'fashion_mnist'"):
        data.load_images(name)


def test_unknown_device_is_named():
    with pytest.raises(ValueError, match="device='warp'"):
        data.load_images("mnist", device="warp")
    with pytest.raises(ValueError, match="device='warp'"):
        data.ring_of_gaussians(device="warp")


def test_ring_points_lie_around_their_centres():
    ring = data.ring_of_gaussians(count=20_000, modes=8, radius=0.8, std=0.02, seed=3)
    centres = data.mode_centres(ring)
    assert ring.images.shape == (20_000, 2) and ring.images.dtype == torch.float32
    assert centres.shape == (8, 2) and torch.allclose(centres[0], torch.tensor([0.8, 0.0]))
    assert torch.allclose(centres.norm(dim=1), torch.full((8,), 0.8))
    offsets = ring.images - centres[ring.labels]
    assert offsets.std(0).tolist() == pytest.approx([0.02, 0.02], rel=0.03)
    assert offsets.mean(0).abs().max() < 0.001
    assert torch.bincount(ring.labels, minlength=8).min() > 20_000 / 8 * 0.9


def test_grid_centres_are_evenly_spaced():
    grid = data.grid_of_gaussians(count=5_000, side=5, extent=0.8)
    centres = data.mode_centres(grid)
    assert centres.shape == (25, 2)
    assert sorted({round(x, 4) for x in centres[:, 0].tolist()}) == [-0.8, -0.4, 0, 0.4, 0.8]
    distances = torch.cdist(centres, centres) + 9 * torch.eye(25)
    assert torch.allclose(distances.min(1).values, torch.full((25,), 0.4))
    assert (grid.images - centres[grid.labels]).norm(dim=1).max() < 0.2


@pytest.mark.parametrize("make", [data.ring_of_gaussians, data.grid_of_gaussians])
def test_toy_sets_repeat_with_the_seed_and_only_then(make):
    assert torch.equal(make(seed=1).images, make(seed=1).images)
    assert not torch.equal(make(seed=1).images, make(seed=2).images)


@settings(deadline=None, max_examples=50)
@given(modes=st.integers(1, 30), radius=st.floats(0.01, 1), std=st.floats(0, 0.3), seed=st.integers(0, 2**31))
def test_toy_points_stay_in_the_range_of_tanh_or_are_refused(modes, radius, std, seed):
    try:
        ring = data.ring_of_gaussians(500, modes, radius, std, seed)
    except ValueError as error:
        assert radius + 5 * std > 1 and "std=" in str(error)
    else:
        assert ring.images.abs().max() <= 1 and int(ring.labels.max()) < modes


def test_rare_far_points_are_drawn_back_into_the_range(monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.full(shape, 6.0))
    assert data.ring_of_gaussians(10, modes=1, radius=0.9, std=0.02).images[:, 0].tolist() == [1.0] * 10


@pytest.mark.parametrize("wrong", [{"std": float("nan")}, {"std": -0.1}, {"count": 0}, {"modes": 0}])
def test_bad_toy_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        data.ring_of_gaussians(**wrong)
    with pytest.raises(ValueError, match="side=1"):
        data.grid_of_gaussians(side=1)


def test_images_have_no_mode_centres(offline):
    with pytest.raises(ValueError, match="points='digits'; allowed: a ring or a grid"):
        data.mode_centres(data.load_images("mnist", limit=3))


def _flat_digits():
    """Ten constant images, image d with value d / 10, so that a channel tells its digit."""
    values = torch.arange(10) / 10
    return data.ImageSet("flat", values[:, None, None, None].expand(10, 1, 4, 4).clone(), torch.arange(10))


def test_stacked_label_is_made_of_the_three_channels_digits():
    stacked = data.stacked_mnist(_flat_digits(), count=5_000, seed=5)
    assert stacked.images.shape == (5_000, 3, 4, 4) and stacked.labels.shape == (5_000,)
    digits = (stacked.images[:, :, 0, 0] * 10).round().long()
    assert torch.equal(stacked.labels, digits[:, 0] * 100 + digits[:, 1] * 10 + digits[:, 2])
    assert len(stacked.labels.unique()) > 980
    assert torch.equal(stacked.images, data.stacked_mnist(_flat_digits(), 5_000, 5).images)


def test_resize_keeps_values_and_labels():
    larger = data.resize(_flat_digits(), 8)
    assert larger.images.shape == (10, 1, 8, 8)
    assert torch.allclose(larger.images[:, 0, 3, 3], torch.arange(10) / 10)
    assert torch.equal(larger.labels, torch.arange(10))
    with pytest.raises(ValueError, match="size=0"):
        data.resize(_flat_digits(), 0)
