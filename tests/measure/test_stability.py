"""Stability metrics on histories that were constructed so that the right answer is known."""

from math import log

import numpy as np
import pytest
import torch

from helpers.gan.history import History
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.objectives import GAN, LSGAN, PSG, WGAN, Hinge
from helpers.gan.settings import Settings
from helpers.gan.training import Trainer
from helpers.gan.watch import grad_norm
from helpers.measure import stability


def history_of(objective, generators=1, **columns) -> History:
    settings = {"objective": objective.describe(), "generators": generators}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return History(settings, rows)


def at_equilibrium(objective, generators=1) -> History:
    known = objective.equilibrium(generators)
    return history_of(objective, generators, d_loss=[known["d_loss"]] * 3, g_loss=[known["g_loss"]] * 3)


def test_gap_in_both_conventions():
    run = history_of(GAN(), d_loss=[1.0, 2.0, 0.5], g_loss=[0.5, 3.0, 0.25])
    np.testing.assert_allclose(stability.gap(run), [0.5, 1.0, 0.25])
    np.testing.assert_allclose(stability.gap(run, halved=True), [0.0, 2.0, 0.0])


def test_gap_at_the_equilibrium_is_zero_only_if_halved():
    run = at_equilibrium(GAN())
    np.testing.assert_allclose(stability.gap(run), log(2))
    np.testing.assert_allclose(stability.gap(run, halved=True), 0, atol=1e-12)


def test_the_two_conventions_can_rank_two_methods_differently():
    first = history_of(GAN(), d_loss=[1.0], g_loss=[1.0])
    second = history_of(GAN(), d_loss=[1.2], g_loss=[0.7])
    assert stability.gap(first) < stability.gap(second)
    assert stability.gap(first, halved=True) > stability.gap(second, halved=True)


@pytest.mark.parametrize("objective, count", [(GAN(), 1), (PSG(), 2), (PSG(fakes="sum"), 3), (LSGAN(-1, 1, 0.5), 1)])
def test_distance_is_zero_at_the_objectives_own_equilibrium(objective, count):
    np.testing.assert_allclose(stability.distance_to_equilibrium(at_equilibrium(objective, count)), 0, atol=1e-12)


def test_distance_by_hand():
    run = history_of(GAN(), d_loss=[2 * log(2) * 1.3], g_loss=[log(2) * 0.6])
    np.testing.assert_allclose(stability.distance_to_equilibrium(run), [0.5])  # the 3-4-5 triangle


@pytest.mark.parametrize("objective", [WGAN(), Hinge()])
def test_distance_is_unknown_where_the_equilibrium_is(objective):
    run = history_of(objective, d_loss=[0.1, 0.2], g_loss=[0.3, 0.4])
    assert np.isnan(stability.distance_to_equilibrium(run)).all()


def test_equilibrium_is_rebuilt_from_the_recorded_options():
    run = history_of(PSG(fakes="sum"), 2, d_loss=[0.0], g_loss=[0.0])
    assert stability.equilibrium(run)["d_loss"] == pytest.approx(log(3) + 2 * log(1.5))


def test_smooth():
    np.testing.assert_allclose(stability.smooth(np.full(10, 3.0)), 3.0)
    np.testing.assert_allclose(stability.smooth(np.arange(10.0))[2:-2], np.arange(10.0)[2:-2])
    np.testing.assert_allclose(stability.smooth(np.array([0.0, 0, 3, 0, 0]), window=3), [0, 1, 1, 1, 0])
    np.testing.assert_allclose(stability.smooth(np.array([1.0, 5.0])), [1.0, 5.0])  # shorter than the window


def test_oscillation_sees_jumps_and_not_the_trend():
    trend = np.linspace(3, 1, 101)
    jumps = 0.2 * (-1.0) ** np.arange(101)
    assert stability.oscillation(trend) < 0.01
    assert stability.oscillation(np.r_[9.0, 4.0, 2.0, np.ones(20)]) < 0.06  # the fall at the start is not meant
    assert stability.oscillation(trend + jumps) == pytest.approx(0.2, rel=0.25)
    assert stability.oscillation(trend + 2 * jumps) == pytest.approx(2 * stability.oscillation(trend + jumps), rel=0.1)


def test_oscillation_of_a_curve_too_short_to_be_smoothed_is_unknown():
    assert np.isnan(stability.oscillation(np.array([1.0, 5, 1, 5])))
    assert stability.oscillation(np.array([1.0, 5, 1, 5, 1])) > 1


def test_convergence_epoch_of_a_step_and_of_a_slope():
    step = np.where(np.arange(1, 101) < 40, 5.0, 1.0)
    assert stability.convergence_epoch(step, window=1) == 40
    assert 40 <= stability.convergence_epoch(step, window=5) <= 42
    slope = np.maximum(np.linspace(10, -10, 201), 0)  # reaches its final level at epoch 101
    assert stability.convergence_epoch(slope, band=0.1, window=1) == 91
    assert stability.convergence_epoch(slope, band=0.5, window=1) == 51


def test_convergence_epoch_where_there_is_none():
    assert stability.convergence_epoch(np.full(50, 2.0)) == 1
    rising = np.concatenate([np.zeros(99), [10.0]])
    assert stability.convergence_epoch(rising, window=1) is None
    assert stability.convergence_epoch(np.r_[np.full(49, 2.0), np.nan]) is None  # a run that ended in NaN


def test_final_level():
    assert stability.final_level(np.arange(10.0)) == 8.5
    assert stability.final_level(np.array([4.0])) == 4.0


def test_interval_across_seeds_against_the_table_of_students_t():
    mean, low, high = stability.across_seeds([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (high - low) / 2 == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)  # t(0.975, 2 degrees of freedom) = 4.303
    assert low == pytest.approx(2 * mean - high)


def test_one_seed_has_no_interval():
    mean, low, high = stability.across_seeds([0.7])
    assert mean == 0.7 and np.isnan(low) and np.isnan(high)


def discriminator(real, fake, d_real, d_fake, generators):
    row = {"accuracy_real": real, "accuracy_fake": fake, "d_real": d_real, "d_fake": d_fake}
    return History({"generators": generators}, [row])


@pytest.mark.parametrize(("generators", "expected"), [(1, 1 / 2), (2, 1 / 3), (4, 1 / 5)])
def test_a_discriminator_that_is_always_right_gives_the_paper_s_number(generators, expected):
    won = discriminator(1.0, 1.0, 1.0, 0.0, generators)
    assert stability.called_real(won) == pytest.approx(expected)
    assert stability.mean_answer(won) == pytest.approx(expected)
    undecided = discriminator(0.5, 0.5, 0.5, 0.5, generators)  # the real equilibrium of averaged fakes
    assert stability.called_real(undecided) == pytest.approx(1 / 2)


@pytest.mark.parametrize("fakes", ["sum", "average"])
def test_a_free_bias_fixes_the_mean_answer_at_any_quality(fakes):
    """D's last bias, at rest under D's loss alone: scores as different as one likes, the mean answer is an identity."""
    draw = torch.Generator().manual_seed(0)
    real, fake = 2 + torch.randn(500, generator=draw), -1 + 3 * torch.randn(2, 500, generator=draw)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([bias], max_iter=50)

    def loss():
        optimizer.zero_grad()
        value = PSG(fakes=fakes).discriminator_losses(real + bias, fake + bias).mean()
        value.backward()
        return value

    optimizer.step(loss)
    answers = (real + bias).sigmoid().mean().item(), (fake + bias).sigmoid().mean().item()
    mean = stability.mean_answer(discriminator(0, 0, *answers, 2)).item()
    if fakes == "sum":
        assert mean == pytest.approx(1 / 3, abs=1e-3) and answers[0] > 0.5
    else:
        assert sum(answers) == pytest.approx(1, abs=1e-3) and mean != pytest.approx(1 / 3, abs=0.05)


def test_the_push_on_one_generator_does_not_depend_on_how_many_share_the_loss():
    torch.manual_seed(0)
    players = [Generator(2, (2,), hidden=(8,)) for _ in range(3)], Discriminator((2,), hidden=(8,))
    trainer = Trainer(*players, PSG(), torch.rand(50, 2), Settings(batch_size=20))
    fakes, lengths = trainer.generate(20), []
    for generator, fake in zip(trainer.generators, fakes, strict=True):
        loss = PSG().generator_losses(trainer.discriminator(fake)[None]).mean()  # its own, counted in full
        gradients = torch.autograd.grad(loss, list(generator.parameters()), retain_graph=True)
        lengths.append(torch.cat([each.flatten() for each in gradients]).norm())
    trainer.generator_step(fakes, (torch.zeros(20), torch.zeros(3, 20)))
    recorded = history_of(PSG(), 3, g_grad_norm=[grad_norm(trainer.generators).item()])
    assert stability.push(recorded).item() == pytest.approx(torch.stack(lengths).square().mean().sqrt().item())


def test_drift_is_the_rise_of_a_line_through_the_second_half():
    curve = np.concatenate([np.full(50, 9.0), 2 + 0.1 * np.arange(50)])
    assert stability.drift(curve) == pytest.approx(4.9)
    assert stability.drift(np.ones(10)) == pytest.approx(0) and np.isnan(stability.drift(np.ones(1)))
