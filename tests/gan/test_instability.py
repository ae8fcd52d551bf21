"""Instability is named: each kind is provoked, said once with the epoch since when, and kept in the history."""

import math
import warnings

import pytest
import tiny
import torch
from torch import nn

from helpers.gan import objectives
from helpers.gan.history import History
from helpers.gan.networks import Discriminator
from helpers.gan.training import Settings, Trainer
from helpers.gan.watch import COLLAPSED_SHARE, PATIENCE, WON_SHARE, watch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def run(trainer, on_epoch=None, **options):
    """The history of a whole run and the warnings that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = trainer.fit(progress=False, on_epoch=on_epoch, **options)
    return history, [str(warning.message) for warning in caught]


def kinds(history):
    return [(event["kind"], event["epoch"]) for event in history.events]


# ---- NaN and infinity


def spoiled(part, value, epoch=3, **settings):
    """A trainer one of whose weights becomes ``value`` in the middle of an epoch."""
    trainer = tiny.make(**settings)
    generate = trainer.generate

    def spoiling_generate(*batch):
        if len(trainer.history) == epoch - 1:
            next(getattr(trainer, part).parameters()).data.view(-1)[0] = value
        return generate(*batch)

    trainer.generate = spoiling_generate
    return trainer


@pytest.mark.parametrize("part", ["generators", "discriminator"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_weight_ends_the_run_at_once(part, value, tmp_path):
    history, said = run(spoiled(part, value, epochs=9), checkpoint=tmp_path / "run")
    assert history.status == "diverged" and len(history) == 3
    assert kinds(history) == [("diverged", 3)]
    assert len(said) == 1 and "PSG, since epoch 3: training diverged: " in said[0] and "lower learning rate" in said[0]
    assert "d_loss" in said[0]
    kept = History.from_dict(history.to_dict())
    assert kept.status == "diverged" and kept.events == history.events


def test_a_bad_weight_that_no_loss_shows_is_named():
    trainer = tiny.make(epochs=3)
    trainer.discriminator.unused = nn.Parameter(torch.tensor([0.0, math.nan]))
    trainer.optimizer_d = torch.optim.Adam(trainer.discriminator.parameters(), 1e-3)
    history, said = run(trainer)
    assert history.status == "diverged" and len(history) == 1
    assert "a weight became NaN or infinite" in said[0] and math.isfinite(history["d_loss"][0])


@pytest.mark.parametrize(
    ("objective", "optimizer"),
    [(objectives.LSGAN(0, 1e20, 1e20), "adam"), (objectives.WGANGP(weight=1e38), "rmsprop")],
)
def test_a_loss_that_explodes_by_itself_is_named(objective, optimizer):
    history, said = run(tiny.make(objective, epochs=50, learning_rate=1.0, optimizer=optimizer))
    assert history.status == "diverged" and len(history) < 50
    assert kinds(history)[-1] == ("diverged", len(history)) and "became NaN or infinite" in said[-1]


def test_what_diverged_is_neither_continued_nor_in_the_checkpoint(tmp_path):
    trainer = spoiled("generators", math.nan, epochs=9)
    run(trainer, checkpoint=tmp_path / "run")
    history, said = run(trainer)
    assert history.status == "diverged" and len(history) == 3 and not said
    fresh, undisturbed = tiny.make(epochs=9), tiny.make(epochs=9)
    undisturbed.fit(progress=False)
    history, said = run(fresh, checkpoint=tmp_path / "run")  # nothing spoils it this time
    assert history.status == "complete" and not said
    assert tiny.same(tiny.outcome(fresh), tiny.outcome(undisturbed))


# ---- a discriminator that has won


class Constant(nn.Module):
    """A generator that gives one and the same point, whatever it learns."""

    latent_dim = 4

    def __init__(self, spread=0.0):
        super().__init__()
        self.scale, self.spread = nn.Parameter(torch.zeros(())), spread

    def forward(self, latents):
        return torch.tensor([-0.9, 0.9]) + 0 * self.scale + self.spread * latents[:, :2].tanh()


def against_a_constant(spread, **settings):
    torch.manual_seed(0)
    settings = Settings(**({"epochs": 30, "batch_size": 50, "learning_rate": 2e-2, "label": "mine"} | settings))
    return Trainer([Constant(spread)], Discriminator((2,), (16, 16)), objectives.GAN(), tiny.RING.images, settings)


def first_of_a_row_of(true):
    """The epoch at which PATIENCE consecutive epochs begin for which something is true; None if there are none."""
    for start in range(len(true) - PATIENCE + 1):
        if all(true[start : start + PATIENCE]):
            return start + 1
    return None


def test_a_discriminator_that_has_won_is_named_once_with_its_epoch():
    history, said = run(against_a_constant(spread=0.05))
    limit = WON_SHARE * 2 * math.log(2)
    since = first_of_a_row_of(history["d_loss"] < limit)
    assert since is not None and since > 1
    assert kinds(history) == [("discriminator_won", since)] and history.status == "complete"
    assert len(said) == 1 and f"mine, since epoch {since}: the discriminator has won" in said[0]


@pytest.mark.parametrize(("column", "bad"), [("d_loss", WON_SHARE * math.log(2)), ("diversity", COLLAPSED_SHARE / 2)])
def test_only_epochs_in_a_row_count(column, bad):
    trainer = tiny.make(epochs=1)
    row = trainer.run_epoch()
    pattern = ([bad] * (PATIENCE - 1) + [row[column]]) * 3 + [bad] * PATIENCE
    trainer.history.rows.clear()
    for epoch, value in enumerate(pattern, 1):
        assert not trainer.history.events
        trainer.history.rows.append(row | {"epoch": epoch, column: value})
        if epoch < len(pattern):
            watch(trainer)
    with pytest.warns(UserWarning, match=f"since epoch {3 * PATIENCE + 1}"):
        watch(trainer)


@pytest.mark.parametrize("objective", [objectives.WGAN(), objectives.WGANGP()])
def test_a_critic_whose_loss_has_no_floor_never_wins(objective):
    history, _ = run(tiny.make(objective, epochs=8))
    assert "discriminator_won" not in dict(kinds(history))


# ---- collapse


def test_collapse_is_named_once_with_its_epoch():
    def on_epoch(trainer):
        if len(trainer.history) == 4:
            for parameter in trainer.generators.parameters():
                parameter.data.zero_()

    history, said = run(tiny.make(epochs=14, learning_rate=1e-6), on_epoch)
    since = first_of_a_row_of(history["diversity"] < COLLAPSED_SHARE)
    assert since == 5 and kinds(history) == [("collapsed", 5)] and history.status == "complete"
    assert len(said) == 1 and "since epoch 5: collapse: samples differ by less than 5%" in said[0]


def test_both_are_named_each_once():
    history, said = run(against_a_constant(spread=0.0))
    assert {kind for kind, _ in kinds(history)} == {"collapsed", "discriminator_won"}
    assert dict(kinds(history))["collapsed"] == 1 and len(said) == 2


def test_a_generator_that_collapses_beside_a_healthy_one_is_told_by_diversity():
    """The measure is of all generators' samples together: 0 means that all of them give the same point."""
    trainer = tiny.make(epochs=1, generators=2)
    for parameter in trainer.generators.parameters():
        parameter.data.zero_()
    trainer.fixed_latents = torch.randn(8, 4)
    assert run(trainer)[0]["diversity"][0] < COLLAPSED_SHARE


# ---- no false alarm


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_training_raises_no_alarm(seed):
    history, said = run(tiny.make(epochs=30, width=32, seed=seed, learning_rate=1e-3))
    assert history.status == "complete" and not history.events and not said
