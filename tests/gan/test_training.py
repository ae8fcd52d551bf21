"""The training loop: determinism, the algorithm itself, what is measured, and what it does when things go wrong.

Small networks on a small ring keep this to seconds. The losses are proven in test_losses.py.
"""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from helpers import data
from helpers.data import to_unit_range
from helpers.gan import objectives, systems
from helpers.gan.history import History
from helpers.gan.networks import AutoEncoder, Discriminator, Generator
from helpers.gan.training import Settings, Trainer, train
from helpers.gan.watch import discriminator_measures, grad_norm

RING = data.ring_of_gaussians(count=500)
STEP_COLUMNS = {"epoch", "d_loss", "g_loss", "g1_loss", "real_score", "fake_score", "pick_accuracy"}


def make_trainer(objective=None, count=1, images=RING.images, labels=None, classes=0, **settings) -> Trainer:
    torch.manual_seed(settings.get("seed", 0))
    shape = tuple(images.shape[1:])
    generators = [Generator(4, shape, hidden=(16, 16), classes=classes) for _ in range(count)]
    discriminator = Discriminator(shape, hidden=(16, 16), classes=classes)
    options = {"epochs": 2, "batch_size": 50, "learning_rate": 1e-3, "grid_size": 16} | settings
    return Trainer(generators, discriminator, objective or objectives.GAN(), images, Settings(**options), labels)


def without_seconds(history: History) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in (*trainer.generators.parameters(), *trainer.discriminator.parameters())]


def all_equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---- same numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["gan", "sngan", "psg_average", "psg_algorithm1", "wgan_gp", "began"])
def test_same_seed_gives_equal_numbers_and_another_seed_others(system):
    def run(seed):
        trainer = systems.make_trainer(system, RING, epochs=2, batch_size=50, seed=seed, grid_epochs=(0, 2))
        return trainer, trainer.fit(progress=False)

    (one, first), (two, second), (_, other) = run(3), run(3), run(4)
    assert without_seconds(first) == without_seconds(second)
    assert all_equal(weights(one), weights(two))
    assert all(np.array_equal(first.grids[epoch], second.grids[epoch]) for epoch in (0, 2))
    assert without_seconds(first) != without_seconds(other)


def test_neither_the_grid_nor_sampling_nor_global_random_numbers_change_the_training():
    plain, watched = make_trainer(), make_trainer(grid_epochs=(0, 1, 2), grid_size=100)

    def disturb(trainer):
        trainer.sample(count=10, seed=9)
        torch.randn(7)

    first, second = plain.fit(progress=False), watched.fit(progress=False, on_epoch=disturb)
    assert first["d_loss"].tolist() == second["d_loss"].tolist()
    assert all_equal(weights(plain), weights(watched))


@pytest.mark.parametrize("fakes", ["average", "sum"])
def test_psg_with_one_generator_is_the_gan(fakes):
    gan, psg = make_trainer(objectives.GAN()), make_trainer(objectives.PSG(fakes=fakes))
    assert without_seconds(gan.fit(progress=False)) == without_seconds(psg.fit(progress=False))
    assert all_equal(weights(gan), weights(psg))


def test_uint8_images_train_as_their_float_values_do():
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (200, 1, 6, 6), generator=random, dtype=torch.uint8)
    from_bytes, from_floats = make_trainer(images=images), make_trainer(images=to_unit_range(images))
    assert from_floats.images.dtype == torch.float32 and from_bytes.images.dtype == torch.uint8
    assert without_seconds(from_bytes.fit(progress=False)) == without_seconds(from_floats.fit(progress=False))


def test_unit_range_covers_minus_one_to_one():
    assert to_unit_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_state_restores_a_run_to_the_last_digit():
    whole = make_trainer(objectives.PSG(rule="algorithm1"), count=2, epochs=4)
    expected = whole.fit(progress=False)
    begun = make_trainer(objectives.PSG(rule="algorithm1"), count=2, epochs=2)
    begun.fit(progress=False)
    resumed = make_trainer(objectives.PSG(rule="algorithm1"), count=2, epochs=4)
    resumed.load_state_dict(begun.state_dict())
    continued = resumed.fit(progress=False)
    for column in expected.columns:
        if column != "seconds":
            np.testing.assert_array_equal(expected[column][2:], continued[column][2:], err_msg=column)
    assert all_equal(weights(whole), weights(resumed))


def test_state_of_a_run_with_other_settings_is_refused_by_name():
    with pytest.raises(ValueError, match="learning_rate: 0.001 there, 0.01 here"):
        make_trainer(learning_rate=0.01).load_state_dict(make_trainer().state_dict())


# ---- the algorithm -------------------------------------------------------------------------------------------------


def test_step_equals_the_algorithm_written_by_hand():
    trainer, other = make_trainer(count=2), make_trainer(count=2)
    real, _ = other.next_batch()
    latents = torch.randn(2, 50, 4, generator=other.rng)
    fakes = [generator(z) for generator, z in zip(other.generators, latents, strict=True)]
    s_real, *s_fake = (other.discriminator(x) for x in (real, *(fake.detach() for fake in fakes)))
    d_loss = softplus(-s_real).mean() + (softplus(s_fake[0]).mean() + softplus(s_fake[1]).mean()) / 2
    d_loss.backward()
    other.optimizer_d.step()
    g_losses = [softplus(-other.discriminator(fake)).mean() for fake in fakes]
    other.optimizer_g.zero_grad()
    (sum(g_losses) / 2).backward()
    other.optimizer_g.step()

    measures = trainer.step()
    assert measures["d_loss"].item() == pytest.approx(d_loss.item(), rel=1e-5)
    assert measures["g2_loss"].item() == pytest.approx(g_losses[1].item(), rel=1e-5)
    for a, b in zip(weights(trainer), weights(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_each_half_step_moves_its_own_players_only():
    trainer = make_trainer(count=2)
    real, _ = trainer.next_batch()
    fakes = trainer.generate(len(real))
    g_before = [p.clone() for p in trainer.generators.parameters()]
    d_before = [p.clone() for p in trainer.discriminator.parameters()]
    seen, _ = trainer.discriminator_step(real, fakes)
    assert all_equal(g_before, trainer.generators.parameters())
    assert not all_equal(d_before, trainer.discriminator.parameters())
    d_after = [p.clone() for p in trainer.discriminator.parameters()]
    trainer.generator_step(fakes, seen)
    assert all_equal(d_after, trainer.discriminator.parameters())
    assert not all_equal(g_before, trainer.generators.parameters())


def test_numbers_too_small_to_matter_are_zero_within_an_epoch_only():
    """Adam's averages of dead weights are such numbers; a CPU is slow with them."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot take denormal numbers as zero")
    seen, tiny = [], torch.tensor([1e-39])
    trainer = systems.make_trainer("gan", RING, epochs=1, batch_size=50)
    trainer.run_epoch(lambda: seen.append((tiny * 1.5).item()))
    assert seen and set(seen) == {0.0}
    assert (tiny * 1.5).item() > 0  # others' numbers are left alone


def test_an_epoch_shows_every_image_once():
    trainer = make_trainer(images=torch.linspace(-1, 1, 500)[:, None].repeat(1, 2))
    seen = torch.cat([trainer.next_batch()[0][:, 0] for _ in range(trainer.steps_per_epoch)])
    assert torch.equal(seen.sort().values, trainer.images[:, 0])


@pytest.mark.parametrize("critic_steps, expected", [(1, 10), (3, 3), (100, 1)])
def test_steps_per_epoch(critic_steps, expected):
    trainer = make_trainer(critic_steps=critic_steps)
    assert trainer.steps_per_epoch == expected
    updates = 0
    original = trainer.optimizer_d.step

    def counted():
        nonlocal updates
        updates += 1
        original()

    trainer.optimizer_d.step = counted
    trainer.step()
    assert updates == critic_steps


# ---- what is measured ----------------------------------------------------------------------------------------------


class Known(nn.Module):
    """A discriminator whose score of a point is its first coordinate, times a weight that starts at 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, points):
        return points[:, 0] * self.weight


def test_measures_on_scores_that_are_known():
    generators = [Generator(4, (2,), hidden=(8,)) for _ in range(2)]
    trainer = Trainer(generators, Known(), objectives.PSG(), RING.images, Settings(batch_size=4))
    real = torch.tensor([[1.0, 0], [-1, 0], [0.5, 0], [0.2, 0]])
    fakes = [torch.tensor([[0.5, 0], [-2, 0], [1, 0], [0.1, 0]]), torch.tensor([[0.9, 0], [0, 0], [-1, 0], [0.3, 0]])]
    _, measures = trainer.discriminator_step(real, fakes)
    assert measures["pick_accuracy"].item() == 0.25  # real wins the first tuple only
    assert measures["accuracy_real"].item() == 0.75  # one real score below 0
    assert measures["accuracy_fake"].item() == 3 / 8  # -2, -1 and 0 of eight are not above 0
    assert measures["real_score"].item() == pytest.approx(0.175)
    assert measures["d_real"].item() == pytest.approx(real[:, 0].sigmoid().mean().item())


def test_players_that_all_rest_have_a_gradient_of_0_on_their_own_device():
    assert grad_norm(nn.Linear(2, 1)) == 0
    assert grad_norm(nn.Linear(2, 1, device="meta")).device.type == "meta"


def test_low_energy_wins_the_pick():
    generators, discriminator = [Generator(4, (2,), hidden=(8,))], AutoEncoder((2,), (8,), code_dim=2)
    trainer = Trainer(generators, discriminator, objectives.EBGAN(), RING.images, Settings(batch_size=4))
    real, fake = torch.tensor([0.1, 0.5]), torch.tensor([[0.2, 0.4]])
    assert discriminator_measures(trainer.objective, real, fake)["pick_accuracy"].item() == 0.5


def test_history_has_one_row_an_epoch_and_the_promised_columns():
    history = make_trainer(count=2, epochs=3, grid_epochs=(0, 2)).fit(progress=False)
    assert history.status == "complete" and len(history) == 3 and history["epoch"].tolist() == [1, 2, 3]
    promised = STEP_COLUMNS | {"g2_loss", "d_real", "d_fake", "d_grad_norm", "g_grad_norm", "diversity", "seconds"}
    assert promised <= set(history.columns)
    np.testing.assert_allclose(history["g_loss"], (history["g1_loss"] + history["g2_loss"]) / 2, rtol=1e-5)
    assert {epoch: grid.shape for epoch, grid in history.grids.items()} == {0: (2, 16, 2), 2: (2, 16, 2)}
    with pytest.raises(KeyError, match="no column 'loss'.*d_loss"):
        history["loss"]


def test_history_survives_json_with_nan():
    history = make_trainer().fit(progress=False)
    history.rows[0]["d_loss"] = float("nan")
    back = History.from_dict(history.to_dict())
    assert np.isnan(back["d_loss"][0]) and back["g_loss"].tolist() == pytest.approx(history["g_loss"].tolist())


def test_grids_of_images_are_bytes():
    images = torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    grid = make_trainer(images=images, grid_epochs=(1,), epochs=1).fit(progress=False).grids[1]
    assert grid.dtype == np.uint8 and grid.shape == (1, 16, 1, 6, 6)


def test_conditional_samples_take_the_classes_in_turn():
    trainer = make_trainer(labels=RING.labels, classes=8)
    assert torch.equal(trainer.sample(count=4), trainer.sample(count=4, labels=torch.arange(4)))
    assert trainer.fit(progress=False).status == "complete"


# ---- when things go wrong ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:GAN, since epoch 2")
def test_nan_stops_the_run_and_is_named():
    trainer = make_trainer(epochs=5)

    def poison(trainer):
        if len(trainer.history) == 1:
            with torch.no_grad():
                next(trainer.generators.parameters()).fill_(float("nan"))

    history = trainer.fit(progress=False, on_epoch=poison)
    assert history.status == "diverged" and len(history) == 2
    assert [event["kind"] for event in history.events] == ["diverged"]
    assert "d_loss" in history.events[0]["message"] and "learning rate" in history.events[0]["message"]


@pytest.mark.filterwarnings("ignore:GAN, since epoch")
def test_weights_that_overflow_without_a_nan_loss_are_noticed():
    trainer = make_trainer(epochs=3)

    def overflow(trainer):
        with torch.no_grad():
            trainer.generators[0].layers[-2].bias[0] = float("inf")  # Tanh makes a finite 1 of it

    trainer.fit(progress=False, on_epoch=overflow)
    assert trainer.history.status == "diverged"


def test_interruption_keeps_every_finished_epoch_and_can_go_on():
    def press_stop(trainer):
        if len(trainer.history) == 2:
            raise KeyboardInterrupt

    trainer = make_trainer(epochs=4)
    history = trainer.fit(progress=False, on_epoch=press_stop)
    assert history.status == "interrupted" and len(history) == 2
    assert trainer.fit(progress=False).status == "complete" and len(history) == 4
    undisturbed = make_trainer(epochs=4).fit(progress=False)
    assert without_seconds(undisturbed) == without_seconds(history)


def test_interruption_inside_an_epoch_keeps_the_ones_before():
    trainer, original = make_trainer(epochs=4), Trainer.step
    steps = 0

    def step_that_is_stopped():
        nonlocal steps
        steps += 1
        if steps == 15:
            raise KeyboardInterrupt
        return original(trainer)

    trainer.step = step_that_is_stopped
    assert trainer.fit(progress=False).status == "interrupted" and len(trainer.history) == 1


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        make_trainer().fit(progress=False, on_epoch=lambda trainer: 1 / 0)


def test_a_discriminator_that_wins_and_a_collapse_are_said_once():
    trainer = make_trainer(epochs=8)
    for parameter in trainer.generators.parameters():
        torch.nn.init.zeros_(parameter)
    trainer.optimizer_g.param_groups[0]["lr"] = 0.0
    trainer.optimizer_d.param_groups[0]["lr"] = 0.05
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = trainer.fit(progress=False)
    kinds = [event["kind"] for event in history.events]
    assert kinds.count("collapsed") == 1 and len(kinds) == len(set(kinds))
    assert sum("collapse" in str(warning.message) for warning in caught) == 1


@pytest.mark.parametrize(
    "name, value",
    [("epochs", 0), ("batch_size", 2.5), ("critic_steps", True), ("seed", -1), ("optimizer", "sgd"),
     ("learning_rate", 0), ("learning_rate", float("nan")), ("betas", (0.5, 1.0)), ("grid_epochs", (-1,))],
)  # fmt: skip
def test_settings_name_what_is_wrong(name, value):
    with pytest.raises(ValueError, match=rf"{name}=.*allowed"):
        Settings(**{name: value})


def test_data_that_cannot_be_trained_on_is_refused():
    with pytest.raises(ValueError, match="images: .*from -3 to 3; allowed"):
        make_trainer(images=torch.tensor([[-3.0, 3.0]] * 60))
    with pytest.raises(ValueError, match="images"):
        make_trainer(images=torch.full((60, 2), float("nan")))
    with pytest.raises(ValueError, match="batch_size=50; allowed: at most the number of images, 20"):
        make_trainer(images=RING.images[:20])
    with pytest.raises(ValueError, match="generator 1 .*1, 6, 6"):
        Trainer([Generator(4, (2,))], Discriminator(), objectives.GAN(), torch.zeros(100, 1, 6, 6))
    with pytest.raises(ValueError, match="generators"):
        Trainer([], Discriminator((2,)), objectives.GAN(), RING.images)
    with pytest.raises(ValueError, match=r"labels: .*0 to 4"):
        make_trainer(labels=RING.labels, classes=5)


def test_progress_is_shown_only_if_asked(capsys):
    make_trainer().fit(progress=False)
    assert capsys.readouterr() == ("", "")
    make_trainer(label="my run").fit(progress=True)
    shown = capsys.readouterr()
    assert "my run" in shown.err + shown.out and "D=" in shown.err + shown.out


def test_train_is_the_trainers_fit_in_one_call():
    torch.manual_seed(0)
    players = [Generator(4, (2,), hidden=(16, 16))], Discriminator((2,), hidden=(16, 16))
    settings = Settings(epochs=1, batch_size=50, learning_rate=1e-3, grid_size=16)
    history = train(*players, objectives.GAN(), RING.images, settings, progress=False)
    assert without_seconds(history) == without_seconds(make_trainer(epochs=1).fit(progress=False))


def test_grids_show_latents_that_stay_fixed_and_belong_to_the_seed():
    trainer = make_trainer(grid_epochs=(2,))
    latents = trainer.fixed_latents.clone()
    history = trainer.fit(progress=False)
    np.testing.assert_array_equal(history.grids[2], trainer.sample(latents=latents).numpy())
    assert not torch.equal(latents, make_trainer(seed=5).fixed_latents)
