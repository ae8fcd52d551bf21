"""Keys of notebook 05."""

import torch

from helpers.gan.objectives import BEGAN, LSGAN
from helpers.reader.questions import Choice, Design, Function, Number


def next_k(k, real_energy, fake_energy, gamma, rate):
    """One update of BEGAN's k, by the objective itself."""
    game = BEGAN(gamma, rate)
    game.load_state_dict({"k": torch.tensor(k)})
    return game.after_step(torch.tensor([real_energy]), torch.tensor([[fake_energy]]))["k"]


def _lowest(fids: dict[str, list[float]]) -> str:
    """fids: system -> FID by seed."""
    names = {"gan": "GAN", "lsgan": "LSGAN", "ebgan": "EBGAN", "wgan_gp": "WGAN-GP"}
    return names[min(names, key=lambda name: sum(fids[name]) / len(fids[name]))]


def slope_is_missing(loss) -> str | None:
    """What a generator's loss of scores (N,) lacks: a gentle push below, rest at 4, a push back at 10."""
    scores = torch.cat([torch.linspace(-20, -2, 37), torch.tensor([4.0, 10.0])]).requires_grad_()
    value = torch.as_tensor(loss(scores))
    if value.shape not in (scores.shape, ()):
        return f"the loss of {len(scores)} scores has the shape {tuple(value.shape)}"
    if not value.requires_grad:
        return "it does not depend on the scores, so its slope is 0 everywhere and nothing is learned"
    (slope,) = torch.autograd.grad(value.sum(), scores)
    below, content, back = slope[:-2], slope[-2].item(), slope[-1].item()
    if not ((below >= -2) & (below <= -0.5)).all():
        return f"for s from -20 to -2 its slope runs from {below.min():.3g} to {below.max():.3g}"
    if not abs(content) <= 0.1:
        return f"at s = 4 its slope is {content:.3g}"
    return None if back > 0.1 else f"at s = 10 its slope is {back:.3g}"


KEYS = {
    "05.1": Choice(
        "only Wasserstein slopes",
        {
            "only Wasserstein slopes": "JS is ln 2 for any two bars without overlap; to carry the mass costs theta",
            "only Jensen-Shannon slopes": "without overlap JS is ln 2 however far apart the bars are",
            "both slope": "without overlap JS is ln 2 however far apart the bars are",
            "both are flat": "to carry a bar farther costs more: the Wasserstein distance is theta",
        },
    ),
    "05.2": Choice(
        "several times as long",
        {
            "about the same": "run the cell with both values: without the penalty nothing holds the slope near 1",
            "several times as long": "a steeper critic always gains more, so its slope grows for as long as it is "
            "trained",
            "shrinks to nothing": "the penalty held the slope down, not up: without it the critic gets steeper",
        },
    ),
    "05.3": Function(
        next_k,
        ((0.3, 0.5, 0.1, 0.5, 0.1), (0.99, 1.0, 0.0, 0.5, 0.1), (0.0, 0.1, 0.9, 0.5, 0.1)),
        "k rises while fakes are reconstructed too well, and stays in [0, 1]",
        mistakes={
            "right inside, but k leaves [0, 1]": lambda k, r, f, g, rate: k + rate * (g * r - f),
            "the sign of the balance is flipped": lambda k, r, f, g, rate: min(max(k - rate * (g * r - f), 0), 1),
            "gamma belongs to the real energy": lambda k, r, f, g, rate: min(max(k + rate * (r - g * f), 0), 1),
        },
    ),
    "05.4": Function(
        lambda real, fake, a, b: LSGAN(a, b).discriminator_losses(real, fake[None]),
        (
            (torch.tensor([0.2, 3.0]), torch.tensor([-1.0, 0.5]), 0.0, 1.0),
            (torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3), -1.0, 1.0),
        ),
        "real scores are pulled to b, those of fakes to a",
        mistakes={
            "you have swapped a and b": lambda r, f, a, b: 0.5 * (r - a) ** 2 + 0.5 * (f - b) ** 2,
            "the factor 1/2 is missing": lambda r, f, a, b: (r - b) ** 2 + (f - a) ** 2,
        },
    ),
    "05.5": Number(
        LSGAN(-1, 1, 0).equilibrium()["d_loss"],
        "the best score is 0 everywhere, 1 away from either target",
        mistakes={"that is one half of it; add the fakes' half": 0.5, "the factor 1/2 is missing": 2},
    ),
    "05.6": Choice(
        _lowest,
        {
            "GAN": "its FIDs are {fids[gan]}: its D is sure already, and nothing bounds its slope",
            "LSGAN": "its FIDs are {fids[lsgan]}: its D is sure already, and nothing bounds its slope",
            "EBGAN": "its FIDs are {fids[ebgan]}: second, with one step of D to one of G",
            "WGAN-GP": "its FIDs are {fids[wgan_gp]}: five steps of a critic whose slope is bounded, to one of G",
        },
    ),
    "05.7": Design(slope_is_missing, "gentle where D is sure, content at 4, and it pushes back at 10"),
}
