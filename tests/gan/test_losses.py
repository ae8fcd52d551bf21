"""Every objective against an independent calculation: closed forms, NumPy, plain loops, analytic gradients.

The proofs that notebook 05b runs on its bugs stand in `loss_proofs.py`; at the end of this file the notebook's own bugs
are put in, and each proof has to notice its bug.
"""

import inspect
import json
import math
from pathlib import Path

import loss_proofs
import numpy as np
import pytest
import torch
from loss_proofs import close, random_images
from torch import nn

from helpers.data import load_images, ring_of_gaussians
from helpers.gan.conv_networks import ConvCritic
from helpers.gan.networks import AutoEncoder, Discriminator, Generator, LeakyReLU, to_be_differentiated_twice
from helpers.gan.objectives import BEGAN, EBGAN, GAN, LSGAN, PSG, WGAN, WGANGP, Hinge, Objective
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.gan.training import Settings, Trainer

ROOT = Path(__file__).resolve().parents[2]
REAL = torch.tensor([0.3, -1.2, 2.0, 0.0, -40.0], dtype=torch.float64)
FAKE = torch.tensor([[0.1, 0.8, -2.0, 0.0, 40.0], [1.5, -0.7, 0.4, 3.0, -1.0]], dtype=torch.float64)
ENERGY_REAL, ENERGY_FAKE = REAL.abs() / 10, FAKE.abs() / 10
x, g = REAL.numpy(), FAKE.numpy()
e_x, e_g = ENERGY_REAL.numpy(), ENERGY_FAKE.numpy()


def log_sigmoid(s):
    """log D for a logit s, in a form that does not use softplus."""
    return -np.logaddexp(0, -s)


# The formulas as printed in the papers, in NumPy; D(x) = sigmoid(s), K = 2 generators.
BY_HAND = {
    "GAN": (GAN(), -log_sigmoid(x) - log_sigmoid(-g).mean(0), -log_sigmoid(g)),
    "GAN minimax": (GAN(minimax=True), -log_sigmoid(x) - log_sigmoid(-g).mean(0), log_sigmoid(-g)),
    "PSG average": (PSG(), -log_sigmoid(x) - (log_sigmoid(-g[0]) + log_sigmoid(-g[1])) / 2, -log_sigmoid(g)),
    "PSG sum": (PSG(fakes="sum"), -log_sigmoid(x) - log_sigmoid(-g[0]) - log_sigmoid(-g[1]), -log_sigmoid(g)),
    "hinge": (Hinge(), np.maximum(0, 1 - x) + np.maximum(0, 1 + g).mean(0), -g),
    "LSGAN": (LSGAN(), 0.5 * (x - 1) ** 2 + 0.5 * (g**2).mean(0), 0.5 * (g - 1) ** 2),
    "LSGAN -1, 1, 0": (LSGAN(-1, 1, 0), 0.5 * (x - 1) ** 2 + 0.5 * ((g + 1) ** 2).mean(0), 0.5 * g**2),
    "WGAN": (WGAN(), g.mean(0) - x, -g),
    "WGAN-GP": (WGANGP(), g.mean(0) - x, -g),
    "EBGAN": (EBGAN(margin=0.2), e_x + np.maximum(0, 0.2 - e_g).mean(0), e_g),
    "BEGAN": (BEGAN(), e_x, e_g),  # k starts at 0
}


@pytest.mark.parametrize("objective, d_losses, g_losses", BY_HAND.values(), ids=BY_HAND)
def test_losses_are_the_printed_formulas(objective, d_losses, g_losses):
    real, fake = (ENERGY_REAL, ENERGY_FAKE) if objective.is_energy else (REAL, FAKE)
    close(objective.discriminator_losses(real, fake), d_losses)
    close(objective.generator_losses(fake), g_losses)


def test_binary_cross_entropy_of_torch_agrees():
    """The slides' code: BCE(s_x, 1) + (BCE(s_1, 0) + BCE(s_2, 0)) / 2, here with torch's own function."""
    bce = nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    d_loss = bce(REAL, ones) + (bce(FAKE[0], zeros) + bce(FAKE[1], zeros)) / 2
    close(PSG().discriminator_losses(REAL, FAKE).mean(), d_loss)
    close(PSG().generator_losses(FAKE).mean(1), [bce(FAKE[0], ones), bce(FAKE[1], ones)])


GRADIENTS = {
    "GAN": (GAN(), lambda s: -(1 - s.sigmoid())),
    "GAN minimax": (GAN(minimax=True), lambda s: -s.sigmoid()),
    "PSG": (PSG(), lambda s: -(1 - s.sigmoid())),
    "hinge": (Hinge(), lambda s: -torch.ones_like(s)),
    "LSGAN": (LSGAN(), lambda s: s - 1),
    "WGAN": (WGAN(), lambda s: -torch.ones_like(s)),
    "WGAN-GP": (WGANGP(), lambda s: -torch.ones_like(s)),
    "EBGAN": (EBGAN(), torch.ones_like),
    "BEGAN": (BEGAN(), torch.ones_like),
}


@pytest.mark.parametrize("objective, expected", GRADIENTS.values(), ids=GRADIENTS)
def test_gradient_of_the_generators_loss(objective, expected):
    scores = FAKE.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.generator_losses(scores).sum(), scores)
    close(gradient, expected(FAKE))


def test_losses_stay_finite_where_the_discriminator_is_sure():
    sure = torch.tensor([-1e4, 1e4], requires_grad=True)
    for objective in (GAN(), GAN(minimax=True), PSG(), Hinge(), LSGAN()):
        losses = objective.discriminator_losses(sure, -sure[None]) + objective.generator_losses(sure[None])[0]
        (gradient,) = torch.autograd.grad(losses.sum(), sure)
        assert losses.isfinite().all() and gradient.isfinite().all()


# --- The best discriminator, found by minimising, against its closed form


def best_scores(objective, real_places, fake_places):
    """Scores of the places of a tiny discrete world that minimise D's loss; rows of fake_places are generators."""
    scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        value = objective.discriminator_losses(scores[real_places], scores[fake_places]).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return scores.detach()


PLACES_REAL = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 2])  # p = .5, .4, .1
PLACES_FAKE = torch.tensor([[0, 1, 1, 1, 1, 2, 2, 2, 2, 2], [0, 0, 0, 1, 1, 1, 1, 1, 1, 2]])
P = torch.tensor([0.5, 0.4, 0.1], dtype=torch.float64)
Q1, Q2 = torch.tensor([[0.1, 0.4, 0.5], [0.3, 0.6, 0.1]], dtype=torch.float64)
Q = (Q1 + Q2) / 2


@pytest.mark.parametrize("objective, fakes", [(GAN(), Q), (PSG(), Q), (PSG(fakes="sum"), Q1 + Q2)])
def test_best_discriminator_of_the_logistic_games_is_the_share_of_real(objective, fakes):
    """Goodfellow et al. 2014, proposition 1: D* = p / (p + q); with summed fakes q counts every generator."""
    close(best_scores(objective, PLACES_REAL, PLACES_FAKE).sigmoid(), P / (P + fakes))


@pytest.mark.parametrize("a, b", [(0, 1), (-1, 1), (0.2, 0.9)])
def test_best_discriminator_of_lsgan(a, b):
    """Mao et al. 2017, eq. (5): D* = (b p + a q) / (p + q), so (a + b) / 2 where both densities agree."""
    best = best_scores(LSGAN(a, b, b), PLACES_REAL, PLACES_FAKE)
    close(best, (b * P + a * Q) / (P + Q))
    close(best_scores(LSGAN(a, b, b), PLACES_REAL, PLACES_REAL[None])[0], LSGAN(a, b, b).threshold)


def test_best_discriminator_of_the_hinge_game_has_the_sign_of_p_minus_q():
    scores = torch.linspace(-2, 2, 401, dtype=torch.float64)
    for p, q, best in ((0.7, 0.3, 1.0), (0.2, 0.8, -1.0)):
        losses = p * Hinge().discriminator_losses(scores, torch.full((1, 401), -9.0))
        losses = losses + q * Hinge().discriminator_losses(torch.full((401,), 9.0), scores[None])
        close(scores[losses.argmin()], best)


@pytest.mark.parametrize("generators", [1, 2, 3])
@pytest.mark.parametrize("objective", [GAN(), GAN(minimax=True), PSG(), PSG(fakes="sum"), LSGAN(-1, 1, 0), LSGAN()])
def test_equilibrium_values_are_those_of_the_best_discriminator(objective, generators):
    fakes = PLACES_REAL.expand(generators, -1)
    best = best_scores(objective, PLACES_REAL, fakes)
    known = objective.equilibrium(generators)
    close(objective.discriminator_losses(best[PLACES_REAL], best[fakes]).mean(), known["d_loss"])
    close(objective.generator_losses(best[fakes]).mean(), known["g_loss"])
    if objective.is_probability:
        close(best.sigmoid(), torch.full((3,), known["d_real"]))
    assert known["pick_accuracy"] == 1 / (1 + generators)


def test_equilibrium_values_in_the_design():
    ln = math.log
    assert PSG().equilibrium(2) == pytest.approx(
        {"d_real": 1 / 2, "d_loss": 2 * ln(2), "g_loss": ln(2), "pick_accuracy": 1 / 3}
    )
    assert PSG(fakes="sum").equilibrium(2) == pytest.approx(
        {"d_real": 1 / 3, "d_loss": ln(3) + 2 * ln(1.5), "g_loss": ln(3), "pick_accuracy": 1 / 3}
    )


@pytest.mark.parametrize("objective", [Hinge(), WGAN(), WGANGP(), EBGAN(margin=0.3)])
def test_equilibrium_loss_of_a_constant_discriminator(objective):
    """Where real and fake agree, any constant score in [-1, 1] (energy in [0, m]) gives the same loss."""
    for constant in (0.0, 0.1, 0.25):
        scores = torch.full((4,), constant)
        loss = objective.discriminator_losses(scores, scores[None]).mean()
        close(loss, objective.equilibrium()["d_loss"])


# --- PSG-GAN: who is updated


def weights_by_loop(real, fake, per, update_d):
    """Algorithm 1 read tuple by tuple, in plain Python; ties do not occur in these data."""
    count, size = len(fake), len(real)
    generators, discriminator = np.zeros((count, size)), np.zeros(size)
    for b in range(size):
        tuple_scores = [scores.mean() if per == "batch" else scores[b] for scores in (real, *fake)]
        winner = tuple_scores.index(max(tuple_scores))
        if winner == 0:
            generators[:, b] = 1 / count
            discriminator[b] = 1 if update_d == "always" else 0
        else:
            others = [k for k in range(count) if k != winner - 1]
            for k in others:
                generators[k, b] = 1 / len(others)
            discriminator[b] = 1
    return discriminator, generators


@pytest.mark.parametrize("generators", [1, 2, 3, 4])
@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("update_d", ["always", "when_fooled"])
def test_algorithm_1_updates_the_losers(generators, per, update_d):
    objective, winners = PSG(rule="algorithm1", per=per, update_d=update_d), set()
    for seed in range(12):
        scores = torch.randn(1 + generators, 20, generator=torch.Generator().manual_seed(seed))
        expected = weights_by_loop(scores[0].numpy(), scores[1:].numpy(), per, update_d)
        actual = objective.weights(scores[0], scores[1:])
        close(actual[0], expected[0])
        close(actual[1], expected[1])
        winners |= set(scores.mean(1).argmax(0, keepdim=True).tolist())
    assert len(winners) == 1 + generators, "every outcome has to occur in the data of this test"


def test_algorithm_1_on_the_three_outcomes_of_the_paper():
    real, fake = torch.tensor([0.0, 0.0, 3.0]), torch.tensor([[1.0, 1.0, 2.0], [0.5, 2.0, 2.5]])
    _, generators = PSG(rule="algorithm1").weights(real, fake)  # G1 wins; G2 wins; x wins
    close(generators, [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]])


def test_a_generator_that_is_there_twice_plays_if_one_of_its_places_does():
    trainer = toy_trainer(PSG(rule="algorithm1", per="batch"))
    twice = Trainer([*trainer.generators] * 2, trainer.discriminator, trainer.objective, trainer.images)
    before = [weight.clone() for weight in twice.generators[0].parameters()]
    seen = torch.zeros(20), torch.stack([torch.ones(20), torch.zeros(20)])  # its first place wins and rests
    twice.generator_step(twice.generate(20), seen)
    assert not any(map(torch.equal, before, twice.generators[0].parameters()))


@pytest.mark.parametrize("objective", [PSG(), PSG(fakes="sum"), GAN(), LSGAN(), WGAN(), EBGAN(), BEGAN(), Hinge()])
def test_generators_minimise_their_average_loss(objective):
    discriminator, generators = objective.weights(REAL, FAKE)
    close(discriminator, torch.ones(5))
    close(generators, torch.full((2, 5), 0.5))


def test_unknown_readings_are_refused():
    for name in ("fakes", "rule", "per", "update_d"):
        with pytest.raises(ValueError, match=f"{name}='no'; allowed: "):
            PSG(**{name: "no"})


# --- WGAN and WGAN-GP


def toy_trainer(objective, discriminator=None, generators=1, **settings):
    torch.manual_seed(0)
    players = [Generator(data_shape=(2,), hidden=(16, 16)) for _ in range(generators)]
    discriminator = discriminator or Discriminator((2,), (16, 16))
    settings = Settings(**({"epochs": 1, "batch_size": 20} | settings))
    return Trainer(players, discriminator, objective, ring_of_gaussians(400).images, settings)


def test_wgan_clips_after_the_step():
    trainer = toy_trainer(WGAN(), optimizer="rmsprop", learning_rate=5e-3)
    loss_proofs.the_generator_meets_clipped_weights(trainer)
    at_bounds = [(weight.abs() == 0.01).float().mean().item() for weight in trainer.discriminator.parameters()]
    assert max(at_bounds) > 0.5, "with so high a learning rate many weights end at the bounds"


@pytest.mark.parametrize("name", ["wgan", "wgan_gp"])
def test_every_critic_step_sees_fresh_noise_and_fresh_images(name, monkeypatch):
    trainer = make_trainer(name, ring_of_gaussians(2000))
    seen = []
    step = trainer.discriminator_step
    monkeypatch.setattr(trainer, "discriminator_step", lambda *a: seen.append(a[:2]) or step(*a))
    before = [weight.clone() for weight in trainer.generator_parameters]
    trainer.step()
    assert len(seen) == 5
    for images in ([real for real, _ in seen], [fakes[0] for _, fakes in seen]):
        assert all(not torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.generator_parameters, strict=True)]
    assert all(moved), "one generator step follows"


def test_wgan_gp_penalty():
    loss_proofs.gradient_norm_is_over_a_whole_sample(WGANGP())
    loss_proofs.gradient_norm_is_over_a_whole_sample(WGANGP(weight=3))
    loss_proofs.every_sample_has_its_own_place_on_the_line(WGANGP())


def test_wgan_gp_penalty_has_the_analytic_gradient():
    """d/dw of weight (||w|| - 1)^2 is 2 weight (||w|| - 1) w / ||w||: the penalty can be trained on."""
    w = torch.tensor([0.6, -1.1], requires_grad=True)
    real, fake = torch.randn(9, 2), torch.randn(9, 2)
    objective, rng = WGANGP(weight=7.0), torch.Generator().manual_seed(0)
    penalty = objective.discriminator_penalty(lambda points: points @ w, real, [fake, fake], rng)
    (gradient,) = torch.autograd.grad(penalty, w)
    close(gradient, (14 * (w.norm() - 1) * w / w.norm()).detach())
    close(objective.after_step(torch.ones(3), torch.zeros(1, 3))["critic_gradient_norm"], w.norm().item())


def test_wgan_gp_penalises_between_real_and_every_generators_fakes():
    real, seen = torch.zeros(4, 1, 2, 2), []
    fakes = [torch.full_like(real, value) for value in (1.0, -1.0)]

    def critic(images):
        seen.append(images.detach())
        return images.flatten(1).sum(1)

    WGANGP().discriminator_penalty(critic, real, fakes, torch.Generator().manual_seed(0))
    assert len(seen[0]) == 8 and (seen[0][:4] > 0).all() and (seen[0][4:] < 0).all()


def test_a_linear_critic_under_wgan_gp_finds_the_shift_of_two_point_clouds():
    """Clouds that differ by a shift of length d are at Wasserstein distance d. A linear critic under the penalty
    minimises -|w| d + weight (|w| - 1)^2, so |w| = 1 + d / (2 weight): the estimate is d (1 + d / 20).
    """
    real = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fake, objective = real - torch.tensor([0.3, 0.4]), WGANGP()
    w = torch.tensor([0.1, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=100, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        rng = torch.Generator().manual_seed(0)
        value = objective.discriminator_losses(real @ w, (fake @ w)[None]).mean()
        value = value + objective.discriminator_penalty(lambda points: points @ w, real, [fake], rng)
        value.backward()
        return value

    optimizer.step(loss)
    close(objective.after_step(real @ w, (fake @ w)[None])["wasserstein"], 0.5 * (1 + 0.5 / 20))


def test_wasserstein_estimate_is_minus_the_critics_loss():
    """Both come from the same critic: an estimate from scores before and after its update would differ."""
    row = toy_trainer(WGAN(), critic_steps=1, learning_rate=1e-2).run_epoch()
    assert row["wasserstein"] == pytest.approx(-row["d_loss"], rel=1e-4, abs=1e-7)


# --- EBGAN and BEGAN


def test_energy_is_the_mean_reconstruction_error_of_a_pixel():
    images = random_images(seed=4)
    for power in (1, 2):
        network = AutoEncoder((3, 4, 4), hidden=(20, 10), code_dim=5, power=power)
        weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
        h = images.flatten(1).numpy()
        for part in ("encoder", "decoder"):
            for layer in (0, 2, 4):
                h = h @ weights[f"{part}.{layer}.weight"].T + weights[f"{part}.{layer}.bias"]
                h = np.where(h > 0, h, 0.2 * h) if layer < 4 else h
        errors = np.abs(images.flatten(1).numpy() - h)
        close(network(images), (errors**power).mean(1), tolerance=1e-4)
        loss_proofs.energy_follows_the_whole_image(network.double())


def test_the_generator_feels_the_energy_of_its_image_as_input_and_as_target():
    network = AutoEncoder((3, 4, 4), hidden=(20, 10), code_dim=5).double()

    def detached(images):
        return (images.detach() - network.reconstruct(images)).flatten(1).square().mean(1)

    with pytest.raises(AssertionError):
        loss_proofs.energy_follows_the_whole_image(detached)


def test_pulling_away_term():
    loss_proofs.pulling_away_term_is_a_mean_squared_cosine(EBGAN.pulling_away_term)
    codes = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = 0.0
    for i in range(7):
        for j in range(7):
            if i != j:
                total += float(codes[i] @ codes[j] / codes[i].norm() / codes[j].norm()) ** 2
    close(EBGAN.pulling_away_term(codes), total / (7 * 6))
    with pytest.raises(ValueError, match="batch_size=1; allowed: at least 2"):
        EBGAN.pulling_away_term(codes[:1])


def test_pulling_away_term_is_the_mean_over_generators_and_can_be_left_out():
    network, fakes = AutoEncoder((3, 4, 4), hidden=(20, 10), code_dim=5), [random_images(1), random_images(2)]
    terms = [EBGAN.pulling_away_term(network.encode(fake)).item() for fake in fakes]
    close(EBGAN(pull_away=0.3).generator_penalty(network, fakes), 0.3 * (terms[0] + terms[1]) / 2)
    assert EBGAN(pull_away=0).generator_penalty(network, fakes) is None


def test_ebgan_pushes_fakes_up_to_the_margin_and_no_further():
    fake = torch.tensor([[0.1, 0.49, 0.51, 3.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(EBGAN(margin=0.5).discriminator_losses(torch.ones(4), fake).sum(), fake)
    close(gradient, [[-1.0, -1.0, 0.0, 0.0]])


def test_the_margin_of_the_named_system_asks_for_knowledge():
    """A discriminator that answers everything with the mean digit pays 0.27 a pixel on MNIST: it must not be enough."""
    assert 0 < SYSTEMS["ebgan"].objective().margin < 0.27


def test_no_energy_is_out_of_reach_of_the_auto_encoder():
    """The decoder is not bounded as a Tanh is, so that D can always raise a fake's energy further."""
    network = AutoEncoder((3, 4, 4), hidden=(20, 10), code_dim=5)
    with torch.no_grad():
        network.decoder[-1].bias.fill_(5.0)
    assert network.reconstruct(random_images(1)).max() > 4 and network(random_images(1)).min() > 9


def test_began_by_hand():
    objective, k = BEGAN(gamma=0.7, rate=0.05), 0.0
    rng = np.random.default_rng(0)
    for _ in range(200):
        real, fake = rng.uniform(0, 1, 6), rng.uniform(0, 0.9, (2, 6))
        losses = objective.discriminator_losses(torch.tensor(real), torch.tensor(fake))
        close(losses, real - k * fake.mean(0))
        measures = objective.after_step(torch.tensor(real), torch.tensor(fake))
        balance = 0.7 * real.mean() - fake.mean()
        k = min(max(k + 0.05 * balance, 0.0), 1.0)
        close(measures["k"], k)
        close(measures["convergence"], real.mean() + abs(balance))


def test_began_balance_saturates_at_both_ends():
    loss_proofs.balance_stays_between_0_and_1(BEGAN())


def test_began_remembers_k():
    objective, other = BEGAN(), BEGAN()
    for _ in range(30):
        objective.after_step(torch.ones(2), torch.zeros(1, 2))
    other.load_state_dict(objective.state_dict())
    real, fake = torch.rand(5), torch.rand(2, 5)
    close(other.discriminator_losses(real, fake), objective.discriminator_losses(real, fake))
    close(objective.discriminator_losses(real, fake), real - 0.015 * fake.mean(0))


# --- The named systems


def test_cgan_is_the_gan_objective_with_labels_in_both_networks():
    trainer = make_trainer("cgan", ring_of_gaussians(400))
    assert trainer.objective == GAN()
    images, zeros, ones = torch.zeros(3, 2), torch.zeros(3, dtype=int), torch.ones(3, dtype=int)
    assert not torch.equal(trainer.score(images, zeros), trainer.score(images, ones))
    latents = torch.zeros(1, 3, 100)[0]
    generator = trainer.generators[0]
    assert not torch.equal(generator(latents, zeros), generator(latents, ones))
    with pytest.raises(ValueError, match="labels=None; allowed: one integer per sample"):
        generator(latents)


def test_cgan_learns_which_mode_belongs_to_which_label():
    ring = ring_of_gaussians(10_000, modes=4)
    trainer = make_trainer("cgan", ring, epochs=3, learning_rate=1e-3)
    trainer.fit(progress=False)
    labels = torch.arange(200) % 4
    points = trainer.sample(200, labels=labels)[0]
    nearest = torch.cdist(points, ring.centres).argmin(1)
    assert (nearest == labels).float().mean() > 0.9


@pytest.mark.parametrize("generators", [1, 3])
@pytest.mark.parametrize("objective", [GAN(), LSGAN(), WGAN(), WGANGP(), EBGAN(), BEGAN(), Hinge(), PSG()])
def test_every_objective_trains_with_any_number_of_generators(objective, generators):
    energy = AutoEncoder((2,), hidden=(16, 16), code_dim=1) if objective.is_energy else None
    row = toy_trainer(objective, energy, generators).run_epoch()
    assert all(math.isfinite(value) for value in row.values())
    assert {f"g{k + 1}_loss" for k in range(generators)} <= set(row)


PAPER_SETTINGS = {
    "gan": ("adam", 2e-4, (0.5, 0.999), 1),
    "cgan": ("adam", 2e-4, (0.5, 0.999), 1),
    "lsgan": ("adam", 2e-4, (0.5, 0.999), 1),
    "wgan": ("rmsprop", 5e-5, (0.5, 0.999), 5),
    "wgan_gp": ("adam", 1e-4, (0.0, 0.9), 5),
    "ebgan": ("adam", 2e-4, (0.5, 0.999), 1),
    "began": ("adam", 2e-4, (0.5, 0.999), 1),
}


@pytest.mark.parametrize("name, expected", PAPER_SETTINGS.items(), ids=PAPER_SETTINGS)
def test_named_systems_have_the_settings_of_the_table(name, expected):
    settings = make_trainer(name, ring_of_gaussians(400)).settings
    assert (settings.optimizer, settings.learning_rate, settings.betas, settings.critic_steps) == expected


def test_defaults_are_the_papers():
    assert LSGAN() == LSGAN(a=0, b=1, c=1)
    assert WGAN().clip == 0.01 and WGANGP().weight == 10
    assert EBGAN().pull_away == 0.1 and BEGAN().rate == 0.001
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in Discriminator().modules())


# --- The bugs of notebook 05b: each proof has to notice its bug, and to pass what is shown as right


@pytest.fixture(scope="module")
def bugs():
    """What the cells of notebook 05b define that begin with "# Bug", run as they stand there."""
    cells = json.loads((ROOT / "notebooks" / "05b_tables_and_bugs.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    space = {"__name__": "bugs", "inspect": inspect, "torch": torch, "Objective": Objective, "WGANGP": WGANGP}
    space |= {"make_trainer": make_trainer, "ring": ring_of_gaussians(400)}
    for source in sources:
        if source.startswith("# Bug"):
            exec(source, space)
    return space


CAUGHT = {
    "norm per channel": (
        lambda bugs, bug: bugs["PenaltyWithBugs"](bug=bug),
        loss_proofs.gradient_norm_is_over_a_whole_sample,
    ),
    "one place per batch": (
        lambda bugs, bug: bugs["PenaltyWithBugs"](bug=bug),
        loss_proofs.every_sample_has_its_own_place_on_the_line,
    ),
    "clip before the step": (
        lambda bugs, bug: bugs["wgan_trainer"](bug),
        loss_proofs.the_generator_meets_clipped_weights,
    ),
    "0.8 is eps": (lambda bugs, bug: bugs["GeneratorWithBatchNorm"](bug), loss_proofs.batch_norm_normalises),
    "no square": (
        lambda bugs, bug: lambda codes: bugs["pulling_away_term"](codes, bug),
        loss_proofs.pulling_away_term_is_a_mean_squared_cosine,
    ),
    "pixels in [0, 1]": (
        lambda bugs, bug: bugs["prepare"](load_images(limit=100).images, bug),
        loss_proofs.pixels_fill_the_generators_range,
    ),
}


@pytest.mark.parametrize("bug", CAUGHT)
def test_each_bug_of_notebook_05b_is_caught(bugs, bug):
    make, proof = CAUGHT[bug]
    proof(make(bugs, ""))
    with pytest.raises(AssertionError):
        proof(make(bugs, bug))


def test_no_batch_norm_of_the_project_has_the_bug():
    with pytest.raises(AssertionError, match="no batch norm"):
        loss_proofs.batch_norm_normalises(Generator())


def test_an_unclipped_balance_is_caught():
    class Unclipped(BEGAN):
        def after_step(self, real, fake):
            self.k = self.k + self.rate * (self.gamma * real.mean() - fake.mean())
            return {"k": self.k}

    with pytest.raises(AssertionError):
        loss_proofs.balance_stays_between_0_and_1(Unclipped())


# ---- the penalty costs no product more than it needs


def all_slopes(critic, images) -> list[torch.Tensor]:
    """The gradient of a gradient penalty in every weight of a critic, and the penalty."""
    images = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    penalty.backward()
    return [penalty, *(weight.grad for weight in critic.parameters())]


@pytest.mark.parametrize(
    "make", [lambda: Discriminator((1, 32, 32)), lambda: ConvCritic((1, 32, 32), 4), lambda: AutoEncoder((1, 32, 32))]
)
def test_slopes_as_factors_change_no_bit(make):
    torch.manual_seed(0)
    critic = make()
    other = make()
    other.load_state_dict(critic.state_dict())
    images = torch.rand(8, 1, 32, 32) * 2 - 1
    usual = all_slopes(critic, images)
    with to_be_differentiated_twice():
        ours = all_slopes(other, images)
    assert torch.equal(usual[0], ours[0])
    named = zip((name for name, _ in critic.named_parameters()), usual[1:], ours[1:], strict=True)
    for name, one, another in named:
        # A last layer's bias moves no slope: torch says 0, or with slopes as factors that there is no gradient.
        assert (one is None or not one.any()) if another is None else torch.equal(one, another), name


def test_leaky_relu_is_torchs_inside_and_outside():
    numbers = torch.tensor([-2.0, -0.0, 0.0, 3.0, -1e-30, math.inf, -math.inf, math.nan], requires_grad=True)
    usual = nn.functional.leaky_relu(numbers, 0.2)
    assert torch.equal(LeakyReLU(0.2)(numbers)[:-1], usual[:-1])
    with to_be_differentiated_twice():
        ours = LeakyReLU(0.2)(numbers)
    assert torch.equal(ours[:-1], usual[:-1]) and ours[-1].isnan()
    assert torch.equal(*(torch.autograd.grad(out[:-1].sum(), numbers)[0][:-1] for out in (ours, usual)))
    assert ours.grad_fn.name() != LeakyReLU(0.2)(numbers).grad_fn.name(), "and outside it is torch's own again"
