"""Proofs of what an objective has to do, as functions that raise AssertionError where it does something else.

`test_losses.py` runs them on the objectives of `helpers`; notebook 05b runs them on the bugs it shows. Each takes the
thing to be proven, so that a faulty version can be put in its place; none imports pytest, so that Colab can use them.
"""

import math

import torch
from torch import nn


def close(actual, expected, tolerance=1e-5):
    """Assert that two tensors (or numbers) agree in shape and value."""
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        rtol=tolerance,
        atol=tolerance,
    )


def random_images(seed: int, count: int = 6, shape=(3, 4, 4)):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def gradient_norm_is_over_a_whole_sample(objective) -> None:
    """A linear critic w.x has the gradient w everywhere, so the penalty must be weight (||w|| - 1)^2 exactly."""
    w = random_images(seed=1, count=1)
    real, fake = random_images(seed=2), random_images(seed=3)

    def critic(images):
        return (images * w).flatten(1).sum(1)

    penalty = objective.discriminator_penalty(critic, real, [fake], torch.Generator().manual_seed(0))
    close(penalty, objective.weight * (w.norm() - 1) ** 2)


def every_sample_has_its_own_place_on_the_line(objective) -> None:
    """Each point between real and fake must be (1 - alpha) real + alpha fake, with an alpha of its own in [0, 1]."""
    real, fake, seen = random_images(seed=2, count=50), random_images(seed=3, count=50), []

    def critic(images):
        seen.append(images.detach())
        return images.flatten(1).square().sum(1)

    objective.discriminator_penalty(critic, real, [fake], torch.Generator().manual_seed(0))
    alpha = ((seen[-1] - real) / (fake - real)).flatten(1)
    close(alpha, alpha.median(1, keepdim=True).values.expand_as(alpha), tolerance=1e-3)  # the same for all pixels
    alpha = alpha.median(1).values
    assert alpha.min() > -1e-4 and alpha.max() < 1 + 1e-4
    assert alpha.min() < 0.2 and alpha.max() > 0.8, "the samples of a batch do not spread over the line"


def the_generator_meets_clipped_weights(trainer) -> None:
    """After any discriminator step of a WGAN every weight must lie in [-clip, clip]: that critic judges the fakes."""
    for _ in range(3):
        real, labels = trainer.next_batch()
        trainer.discriminator_step(real, trainer.generate(len(real)), labels)
        largest = max(weight.abs().max().item() for weight in trainer.discriminator.parameters())
        assert largest <= 0.01 + 1e-9, f"a weight of {largest:.4f} is left"


def batch_norm_normalises(network: nn.Module) -> None:
    """Features of standard deviation 0.1 must leave a fresh batch norm with standard deviation 1."""
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert layers, "there is no batch norm to prove"
    for layer in layers:
        shape = (200, layer.num_features) + (4, 4) * isinstance(layer, nn.BatchNorm2d)
        features = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        fresh = type(layer)(layer.num_features, eps=layer.eps).train()
        close(fresh(features).std(), 1.0, tolerance=0.02)


def pulling_away_term_is_a_mean_squared_cosine(pulling_away_term) -> None:
    """Orthogonal codes give 0; equal and opposite codes give 1; an angle of 60 degrees gives 1/4. Length is nothing."""
    close(pulling_away_term(torch.eye(3)), 0.0)
    close(pulling_away_term(torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.5, 1.0]])), 1.0)
    close(pulling_away_term(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])), 1.0)
    close(pulling_away_term(torch.tensor([[5.0, 0.0], [math.cos(math.pi / 3), math.sin(math.pi / 3)]])), 0.25)


def pixels_fill_the_generators_range(images) -> None:
    """A generator that ends in Tanh makes [-1, 1]: black and white of the data must lie at its two ends."""
    close([images.min().item(), images.max().item()], [-1.0, 1.0])


def balance_stays_between_0_and_1(objective) -> None:
    """BEGAN: k must stop at 1 while fakes are easy for D, and at 0 while they are hard, and then move again at once."""
    real, easy, hard = torch.ones(4), torch.zeros(1, 4), torch.full((1, 4), 5.0)
    for fake, end in ((easy, 1.0), (hard, 0.0), (easy, objective.rate * objective.gamma)):
        steps = 1 if 0 < end < 1 else int(3 / objective.rate)
        for _ in range(steps):
            measures = objective.after_step(real, fake)
        close(measures["k"], end)


def energy_follows_the_whole_image(energy) -> None:
    """An energy must count a pixel both as input and as target: its gradient must be that of finite differences."""
    image = random_images(seed=5, count=1).double().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(image).sum(), image)
    step = 1e-6
    for place in ((0, 0, 0, 0), (0, 1, 2, 3), (0, 2, 3, 1)):
        nudge = torch.zeros_like(image)
        nudge[place] = step
        close(gradient[place], (energy(image + nudge) - energy(image - nudge)).sum() / (2 * step), tolerance=1e-4)
