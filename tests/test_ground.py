"""The ground floor, ``helpers.device``: which device is picked, and what a computation leaves as it was."""

import pytest
import torch

from helpers import device


@pytest.fixture
def gpus(monkeypatch):
    """A function that says which kinds of GPU torch finds here, and which of them work."""

    def pretend(*present, broken=()):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in present)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in present)

        def tried(name):
            if name in broken:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nand more")
            return torch.device(name)

        monkeypatch.setattr(device, "_tried", tried)

    return pretend


@pytest.mark.parametrize(("present", "wanted"), [(("cuda", "mps"), "cuda"), (("mps",), "mps"), ((), "cpu")])
def test_auto_takes_the_fastest_there_is(present, wanted, gpus):
    gpus(*present)
    assert device.pick_device() == torch.device(wanted)


def test_auto_passes_over_a_gpu_that_cannot_be_used_and_says_so(gpus):
    """Such as one too old for this torch: it is there, and every kernel on it fails."""
    gpus("cuda", broken=("cuda",))
    with pytest.warns(UserWarning, match="cuda is there and cannot be used .*no kernel image.*; going on without it"):
        assert device.pick_device() == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
        device.pick_device("cuda")


def test_a_named_device_is_taken_or_refused():
    assert device.pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device='tpu'.*'auto', 'cpu', 'cuda', 'mps'"):
        device.pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
            device.pick_device("cuda")


def test_seeded_numbers_are_torchs_and_nobody_elses_change(monkeypatch):
    torch.manual_seed(7)
    wanted = torch.randn(3)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU's numbers were started anew"))
    before = torch.get_rng_state()
    with device.seeded(7):
        assert torch.equal(torch.randn(3), wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_full_float32_is_undone(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("medium")
    try:
        with device.full_float32():
            assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
