"""What `make run` leaves of trainings and notebooks that went wrong."""

import pytest
import torch

from helpers.data import ImageSet
from helpers.gan.systems import make_trainer
from tools import run

NOISE = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    return tmp_path


def test_runs_that_diverged_are_drawn_beside_the_others(results):
    images = ImageSet("noise", NOISE, torch.arange(40) % 10)
    whole, diverged = (
        make_trainer("gan", images, epochs=2, batch_size=20, grid_epochs=(2,), label=name).fit(progress=False)
        for name in ("whole", "diverged")
    )
    del diverged.rows[1:], diverged.grids[2]
    run.draw([diverged, whole])
    assert {path.name for path in results.glob("figures/*")} == {"losses.png", "accuracy.png", "samples.png"}
    (results / "figures" / "samples.png").unlink()
    run.draw([diverged, diverged])
    assert {path.name for path in results.glob("figures/*")} == {"losses.png", "accuracy.png"}


def test_an_error_without_words_is_reported_by_its_type(results, monkeypatch):
    def execute(*_):
        raise TimeoutError

    monkeypatch.setattr(run, "execute", execute)
    _, problem = run.run_notebook(next((run.ROOT / "notebooks").glob("*.ipynb")))
    assert problem == "TimeoutError()"
