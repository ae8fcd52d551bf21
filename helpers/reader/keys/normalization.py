"""Keys of notebook 06."""

import torch
from torch import nn

from helpers.device import seeded
from helpers.gan.conv_networks import AdaIN
from helpers.gan.networks import Discriminator, count_parameters
from helpers.gan.objectives import WGANGP
from helpers.reader.questions import Choice, Design, Function, Number


def one_sided_penalty(gradient, weight):
    """Weight times the mean squared excess of the gradients' norms over 1, one norm per image."""
    return weight * (gradient.flatten(1).norm(dim=1) - 1).relu().square().mean()


def _gradients(*shape, longest: float, seed: int) -> torch.Tensor:
    """Gradients whose norms go from short to ``longest`` over the batch."""
    gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    lengths = torch.linspace(0.2, longest, shape[0])[:, None, None, None]
    return lengths * nn.functional.normalize(gradient.flatten(1), dim=1).view(shape)


def _fewest(covered: dict[str, float]) -> str:
    """The game that covers the fewest modes."""
    return min(covered, key=covered.get)


STEPS, MOST_PENALTIES = 300, 100


def _design_is_missing(objective) -> str | None:
    """Train a critic with it against points that stand still; count its penalties and look at the slope between."""
    if isinstance(objective, type):
        return f"that is the class; return an object of it: {objective.__name__}(...)"
    with seeded(0):
        critic = Discriminator((2,), hidden=(32, 32))
    rng = torch.Generator().manual_seed(0)
    optimizer, penalties = torch.optim.Adam(critic.parameters(), 5e-3, betas=(0.0, 0.9)), 0
    for _ in range(STEPS):
        angles = 2 * torch.pi * torch.rand(64, generator=rng)
        real, fake = 0.8 * torch.stack([angles.cos(), angles.sin()], 1), 0.1 * torch.randn(64, 2, generator=rng)
        loss = objective.discriminator_losses(critic(real), critic(fake)[None]).mean()
        penalty = objective.discriminator_penalty(critic, real, [fake], rng)
        if penalty is not None:
            penalties, loss = penalties + 1, loss + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_discriminator_step(critic)
    slope = WGANGP.gradient_norms(critic, real, fake, rng).mean().item()
    if penalties > MOST_PENALTIES:
        return f"it computes a penalty in {penalties} of {STEPS} steps; {MOST_PENALTIES} are allowed"
    return None if 0.6 < slope < 2 else f"after {STEPS} steps the mean slope is {slope:.3g}"


KEYS = {
    "06.1": Choice(
        _fewest,
        {
            "no bound": "it covers {covered[no bound]:.0f} of 8; on the ring a steep critic does no harm within so few "
            "steps",
            "spectral norm": "it covers {covered[spectral norm]:.0f} of 8: a gentle critic, whose arrows still differ",
            "penalty": "it covers {covered[penalty]:.0f} of 8: a slope of 1 is enough to be led by",
            "both": "it covers {covered[both]:.0f} of 8: a ceiling of 1 and a spring that pulls to 1 leave little but "
            "a ramp, and all arrows agree",
        },
    ),
    "06.2": Number(
        16,
        "a factor 2 for each of the four convolutions, 1 for the linear layer",
        mistakes={
            "that holds for a chain of plain matrices; windows of a convolution overlap": 1,
            "that is the critic for 32x32 images, with three convolutions": 8,
            "the last layer is linear: it has no windows that overlap": 32,
            "each convolution can stretch by 2 = root of 4, not by 4": 256,
        },
    ),
    "06.3": Function(
        one_sided_penalty,
        ((_gradients(6, 3, 8, 8, longest=3, seed=0), 10.0), (_gradients(5, 1, 4, 4, longest=1.5, seed=1), 1.0)),
        "a rope: it is tight above 1 and slack below",
        mistakes={
            "that is the spring; slopes below 1 should cost nothing": lambda g, w: (
                w * (g.flatten(1).norm(dim=1) - 1).square().mean()
            ),
            "one norm per image, not one per row": lambda g, w: w * (g.norm(dim=1) - 1).relu().square().mean(),
            "one norm per image, not one for the batch": lambda g, w: w * (g.norm() - 1).relu().square(),
            "the rope is slack up to 1, not up to 0": lambda g, w: w * g.flatten(1).norm(dim=1).square().mean(),
            "that is the other side: slopes above 1 should cost": lambda g, w: (
                w * (1 - g.flatten(1).norm(dim=1)).relu().square().mean()
            ),
        },
    ),
    "06.4": Choice(
        "nearer to 1",
        {
            "nearer to 1": "the excess is W / (2 lambda): ten times the stiffness, a tenth of the excess",
            "further above 1": "that is what a softer spring does; lambda divides the excess",
            "unchanged": "the pull W of the critic's loss is the same, but the spring against it is stiffer",
        },
    ),
    "06.5": Design(_design_is_missing, "a bound on the slope for at most a third of the penalties"),
    "06.6": Number(
        count_parameters(AdaIN(64, 128)) - count_parameters(nn.BatchNorm2d(64)),
        "a linear layer from 128 numbers to 2 x 64, with its bias, in place of one scale and one shift each",
        tolerance=0.5,
        mistakes={
            "that is all of AdaIN; take off what batch norm has": 16_512,
            "a linear layer has a bias, too": 16_256,
        },
    ),
    "06.7": Number(
        0.5**0.5,
        "the blurriest picture of all, the average, is nearer to every photograph than photographs are to each other",
        mistakes={
            "that is the share of the squared distances; take the root": 0.5,
            "turn it round: the average is the nearer one": 2**0.5,
            "the average is not a photograph: its own deviation from itself is 0": 1.0,
        },
    ),
}
