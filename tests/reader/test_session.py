"""Profiles: who decides, in which order, and what a wrong name answers; and trainings that take long."""

import re
import subprocess
import sys

import pytest
import tiny
import torch

from helpers.gan.objectives import PSG
from helpers.reader import session


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    monkeypatch.delenv("GAN_PROFILE", raising=False)


def test_nobody_trains_for_long_who_did_not_ask_for_it(monkeypatch):
    """Also where there is a GPU: 500 epochs took a quarter of an hour on Colab's, and nothing said so beforehand."""
    monkeypatch.delenv("PYTEST_VERSION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert session.pick_profile() == "quick"
    assert session.choose(quick=3, full=500) == 3


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


# ---- long trainings


@pytest.fixture
def kept(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_CHECKPOINTS", str(tmp_path))
    return tmp_path


def test_a_short_training_says_and_keeps_nothing(kept, capsys):
    plain, trainer = tiny.make(), tiny.make()
    plain.fit(progress=False)
    assert session.fit(trainer, "quick", progress=False) is trainer.history
    assert capsys.readouterr().out == "" and not any(kept.iterdir())
    assert tiny.same(tiny.outcome(plain), tiny.outcome(trainer))


def test_a_long_training_says_how_long_and_goes_on_where_it_was_stopped(kept, capsys):
    undisturbed, again, later = tiny.make(), tiny.make(), tiny.make()
    undisturbed.fit(progress=False)

    class ClosedLid(Exception):
        pass

    stopped = tiny.make()
    run_epoch = stopped.run_epoch

    def two_epochs(after_each_step):
        if len(stopped.history) == 2:
            raise ClosedLid
        return run_epoch(after_each_step)

    stopped.run_epoch = two_epochs
    with pytest.raises(ClosedLid):
        session.fit(stopped, "full", progress=False)
    said = capsys.readouterr().out
    assert re.search(r"^PSG: 4 more epochs take about \d+ s here \(\S+ s an epoch\)\.$", said, re.MULTILINE)
    assert f"this cell then goes on from {kept}" in said

    session.fit(again, "full", progress=False)
    assert "PSG: 2 more epochs" in (said := capsys.readouterr().out) and "Went on after epoch 2 of" in said
    assert tiny.same(tiny.outcome(undisturbed), tiny.outcome(again))

    session.fit(later, "full", progress=False)
    assert "all 5 epochs were in" in capsys.readouterr().out
    assert tiny.same(tiny.outcome(undisturbed), tiny.outcome(later))


@pytest.mark.parametrize("change", ["setting", "rate", "rule", "label", "network", "images"])
def test_a_changed_training_does_not_go_on_from_another_ones_file(change, kept, capsys):
    session.fit(tiny.make(), "full", progress=False)
    options = {
        "setting": {"seed": 1},
        "label": {"label": "mine"},
        "network": {"width": 9},
        "images": {"images": tiny.RING.images / 2},
    }
    trainer = tiny.make(**options.get(change, {}))
    if change == "rate":
        trainer.optimizer_d.param_groups[0]["lr"] *= 10
    if change == "rule":
        trainer.objective = PSG(fakes="sum")
    capsys.readouterr()
    session.fit(trainer, "full", progress=False)
    assert "Stop at any time" in capsys.readouterr().out and len(list(kept.glob("*.pt"))) == 2


def test_what_a_callback_collects_is_whole(kept, capsys):
    epochs = []
    for _ in range(2):
        session.fit(tiny.make(), "full", on_epoch=lambda trainer: epochs.append(len(trainer.history)), progress=False)
    assert epochs == [1, 2, 3, 4, 5] * 2
    assert "Nothing is kept until the cell has ended." in capsys.readouterr().out and not any(kept.iterdir())


def test_a_training_that_is_complete_names_no_file_that_is_not_there(kept, capsys):
    trainer = tiny.make()
    trainer.fit(progress=False)
    session.fit(trainer, "full", on_epoch=lambda trainer: None, progress=False)
    assert capsys.readouterr().out == ""


def test_durations_in_words():
    assert [session.in_words(s) for s in (0.4, 40, 720, 12_600)] == ["0 s", "40 s", "12 min", "3.5 h"]


# ---- a plain script


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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
