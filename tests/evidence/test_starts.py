"""Where live runs begin: players are kept, come back, and belong to one system."""

import pytest
import torch

from helpers.data import ImageSet
from helpers.evidence import starts
from helpers.gan.systems import make_trainer

NOISE = ImageSet(
    "mnist", torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.arange(200) % 10
)


def test_players_are_kept_in_half_precision_and_come_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starts, "load_images", lambda *_, **__: NOISE)
    starts.main(["--systems", "psg_average", "sngan", "--epochs", "1", "--folder", str(tmp_path)])
    assert "psg_average: 1 epochs" in capsys.readouterr().out
    whole = make_trainer("psg_average", NOISE, epochs=1, seed=0)
    whole.fit(progress=False)
    fresh = make_trainer("psg_average", NOISE, epochs=1, seed=5)
    facts = starts.begin(fresh, "psg_average", tmp_path)
    assert facts["system"] == "psg_average" and facts["epochs"] == 1
    for part in ("generators", "discriminator"):
        pairs = zip(getattr(whole, part).parameters(), getattr(fresh, part).parameters(), strict=True)
        assert all(
            torch.allclose(one, other, rtol=1e-3, atol=1e-4) and other.dtype == torch.float32 for one, other in pairs
        )
    assert fresh.fit(progress=False).status == "complete"
    with pytest.raises(ValueError, match="does not hold the weights"):
        starts.begin(make_trainer("gan", NOISE), "psg_average", tmp_path)
    with pytest.raises(FileNotFoundError, match="helpers.evidence.starts"):
        starts.begin(fresh, "gan", tmp_path)


@pytest.mark.parametrize("system", starts.SYSTEMS)
def test_the_kept_players_draw_more_than_noise(system):
    trainer = make_trainer(system, NOISE, grid_epochs=(0,))
    noise = trainer.history.grids[0]
    facts = starts.begin(trainer, system)
    assert (trainer.history.grids[0] == trainer.fixed_samples()).all() and (trainer.history.grids[0] != noise).any()
    assert facts["epochs"] == 20 and facts["dataset"] == "mnist" and "+" not in facts["revision"]
    samples = trainer.sample(count=200, seed=1).flatten(0, 1)
    assert (samples < -0.9).float().mean() > 0.5, "most of a digit is background"
    assert (samples > 0.5).float().mean() > 0.03, "and some of it is ink"
