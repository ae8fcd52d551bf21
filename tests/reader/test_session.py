"""Profiles and devices: who decides, in which order, and what a wrong name answers. No GPU is needed."""

import subprocess
import sys

import pytest
import torch

from helpers import device
from helpers.reader import session


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    monkeypatch.delenv("GAN_PROFILE", raising=False)


def pretend_gpu(monkeypatch, present: bool):
    kind = torch.device("cuda" if present else "cpu")
    monkeypatch.setattr(session, "pick_device", lambda: kind)


def test_auto_asks_for_a_gpu(monkeypatch):
    monkeypatch.delenv("PYTEST_VERSION", raising=False)
    pretend_gpu(monkeypatch, True)
    assert session.pick_profile() == "full"
    pretend_gpu(monkeypatch, False)
    assert session.pick_profile() == "quick"


def test_a_gpu_does_not_make_tests_long(monkeypatch):
    monkeypatch.setenv("PYTEST_VERSION", "9")
    pretend_gpu(monkeypatch, True)
    assert session.pick_profile() == "quick"


def test_environment_decides_auto_but_not_a_named_profile(monkeypatch):
    monkeypatch.setenv("GAN_PROFILE", "smoke")
    assert session.pick_profile("auto") == "smoke"
    assert session.pick_profile("full") == "full"


@pytest.mark.parametrize("name", ["fast", "QUICK", "0"])
def test_unknown_profile_is_named_with_the_allowed_ones(monkeypatch, name):
    with pytest.raises(ValueError, match=rf"{name}.*'auto', 'smoke', 'quick', 'full'"):
        session.pick_profile(name)
    monkeypatch.setenv("GAN_PROFILE", name)
    with pytest.raises(ValueError, match=name):
        session.choose(quick=1, full=2)


def test_choose():
    assert [session.choose(3, 500, profile=profile) for profile in session.PROFILES] == [1, 3, 500]
    assert session.choose("a", "b", profile="smoke") == "a"  # what is no whole number has no least value
    assert session.choose(3, None, smoke=2, profile="smoke") == 2
    assert session.choose(3, None, profile="full") is None


def test_pick_device(monkeypatch):
    assert device.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.pick_device() == torch.device("cpu")
    with pytest.raises(ValueError, match="device='tpu'.*'auto', 'cpu', 'cuda', 'mps'"):
        device.pick_device("tpu")


def test_unusable_gpu_is_refused_with_a_remedy():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
        device.pick_device("cuda")


def test_training_needs_no_jupyter_and_imports_nothing_heavy_beside_torch():
    code = (
        "import sys\n"
        "for name in ('ipywidgets', 'IPython', 'jupyterlab', 'notebook'): sys.modules[name] = None\n"
        "from helpers import data\n"
        "from helpers.evidence import records\n"
        "from helpers.gan import objectives, systems\n"
        "from helpers.measure import stability\n"
        "from helpers.reader import session\n"
        "trainer = systems.make_trainer('gan', data.ring_of_gaussians(count=200), epochs=1)\n"
        "trainer.fit(progress=False)\n"
        "heavy = {'torchvision', 'torchmetrics', 'sklearn', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
