"""The named systems that notebooks and the recorder train: which networks, which objective, which settings.

A system is chosen by its name, "psg_average" say, and becomes a ready Trainer for an image set and a seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature

import torch
from torch import nn

from helpers.data.images import ImageSet
from helpers.gan import objectives
from helpers.gan.conv_networks import ConvCritic, ConvGenerator
from helpers.gan.multiverse import RateFactor, Specification
from helpers.gan.networks import AutoEncoder, Discriminator, Generator
from helpers.gan.training import Settings, Trainer


@dataclass(frozen=True)
class System:
    """One row of the table below.

    networks: (data_shape, classes) -> (list of generators, discriminator), drawn from torch's global random numbers;
        some also take options of the discriminator, see ``allowed_systems``
    objective: -> a fresh objective; settings: what differs from Settings' defaults; conditional: it sees labels
    """

    label: str
    networks: Callable[..., tuple[list[nn.Module], nn.Module]]
    objective: Callable[[], objectives.Objective]
    settings: dict = field(default_factory=dict)
    conditional: bool = False


def slides_networks(
    count: int = 1,
    spectral=False,
    copies: int = 1,
    hidden=(256, 512),
    conditional=False,
    group: int = 0,
    told_apart=False,
):
    """The slides' generators, ``count`` of them, each of which takes part ``copies`` times, and our discriminator.

    group: D sees how varied groups of so many samples are; told_apart: D has a head that tells the generators apart.
    What they make takes further options of the discriminator, those of a ``multiverse.Specification``.
    """

    def make(data_shape, classes, **of_discriminator):
        classes = classes if conditional else 0
        generators = [Generator(data_shape=data_shape, hidden=hidden, classes=classes) for _ in range(count)]
        options = {"spectral": spectral, "classes": classes, "group": group, "sources": count if told_apart else 0}
        return generators * copies, Discriminator(data_shape, **options, **of_discriminator)

    return make


def energy_networks(power: int):
    """The slides' generator against an auto-encoder whose encoder is as wide as our discriminator."""
    return lambda data_shape, classes: (
        [Generator(data_shape=data_shape)],
        AutoEncoder(data_shape, power=power),
    )


def conv_networks(norm: str = "batch", spectral: bool = False):
    """One convolutional generator and critic for images of 32, 64 or 128 pixels, 16 channels next to the image."""

    def make(data_shape, classes):
        generator = ConvGenerator(data_shape=data_shape, width=16, norm=norm)
        return [generator], ConvCritic(data_shape, width=16, spectral=spectral)

    return make


# Gulrajani et al. 2017 for images, but a learning rate of 5e-4 where they have 1e-4: a run here is hundreds of times
# shorter. The source of notebook 06 names WGAN-GP and Adam, and none of these numbers.
CONV_SETTINGS = {"learning_rate": 5e-4, "betas": (0.0, 0.9), "critic_steps": 5, "batch_size": 64}

PSG, GAN, Hinge = objectives.PSG, objectives.GAN, objectives.Hinge

SYSTEMS = {
    # The paper's three, and the readings of its text
    "gan": System("GAN", slides_networks(), GAN),
    "gan_minimax": System("GAN, minimax", slides_networks(), lambda: GAN(minimax=True)),
    "sngan": System("SNGAN", slides_networks(spectral=True), GAN),
    "sngan_hinge": System("SNGAN, hinge", slides_networks(spectral=True), Hinge),
    "psg_average": System("PSG-GAN, average", slides_networks(2), PSG),
    "psg_sum": System("PSG-GAN, summed", slides_networks(2), lambda: PSG(fakes="sum")),
    "psg_algorithm1": System("PSG-GAN, Algorithm 1", slides_networks(2), lambda: PSG(rule="algorithm1")),
    "psg_algorithm1_batch": System(
        "PSG-GAN, Algorithm 1 per batch", slides_networks(2), lambda: PSG(rule="algorithm1", per="batch")
    ),
    "psg_algorithm1_fooled": System(
        "PSG-GAN, Algorithm 1, D when fooled",
        slides_networks(2),
        lambda: PSG(rule="algorithm1", update_d="when_fooled"),
    ),
    # The norm that the paper wanted to do without, in its own discriminator
    "psg_sn": System("PSG-GAN, SN", slides_networks(2, spectral=True), PSG),
    # Notebook 07: what might help parallel generators. A D that sees how varied 25 samples are, ...
    "gan_std": System("GAN, minibatch std", slides_networks(group=25), GAN),
    "psg_std": System("PSG-GAN, minibatch std", slides_networks(2, group=25), PSG),
    # ... the same with spectral norm, ...
    "sngan_std": System("SNGAN, minibatch std", slides_networks(spectral=True, group=25), GAN),
    "psg_sn_std": System("PSG-GAN, SN, minibatch std", slides_networks(2, spectral=True, group=25), PSG),
    # ... a head that tells the generators apart, with equal and with learned shares of the mixture, and four generators
    "mgan_sn": System("MGAN, SN", slides_networks(2, spectral=True, told_apart=True), objectives.MGAN),
    "mgan_sn_learned": System(
        "MGAN, SN, learned shares",
        slides_networks(2, spectral=True, told_apart=True),
        lambda: objectives.MGAN(rate=0.01),
    ),
    "psg_4_sn": System("PSG-GAN, K = 4, SN", slides_networks(4, spectral=True), PSG),
    # Controls: what makes the difference, two generators, averaging, or merely more fakes?
    "gan_double_fakes": System("GAN, doubled fakes", slides_networks(copies=2), PSG),
    "psg_4": System("PSG-GAN, K = 4", slides_networks(4), PSG),
    "psg_half_width": System("PSG-GAN, half width", slides_networks(2, hidden=(128, 256)), PSG),
    # The seven losses of notebook 05 (the first is "gan"): the optimisers of WGAN and WGAN-GP are their papers', the
    # others share one, so that losses are compared. "cgan_sn" and "began_half" ask why CGAN and BEGAN fail.
    "cgan": System("CGAN", slides_networks(conditional=True), GAN, conditional=True),
    "cgan_sn": System("CGAN, SN", slides_networks(conditional=True, spectral=True), GAN, conditional=True),
    "lsgan": System("LSGAN", slides_networks(), objectives.LSGAN),
    "wgan": System(
        "WGAN",
        slides_networks(),
        objectives.WGAN,
        {"optimizer": "rmsprop", "learning_rate": 5e-5, "critic_steps": 5},
    ),
    "wgan_gp": System(
        "WGAN-GP",
        slides_networks(),
        objectives.WGANGP,
        {"learning_rate": 1e-4, "betas": (0.0, 0.9), "critic_steps": 5},
    ),
    "ebgan": System("EBGAN", energy_networks(power=2), objectives.EBGAN),
    # gamma is BEGAN's knob between quality and diversity; runs of this length need a rate 10 times the paper's 0.001.
    "began": System("BEGAN", energy_networks(power=1), lambda: objectives.BEGAN(gamma=0.9, rate=0.01)),
    "began_half": System(
        "BEGAN, gamma = 0.5", energy_networks(power=1), lambda: objectives.BEGAN(gamma=0.5, rate=0.01)
    ),
    # Notebook 06: WGAN-GP with convolutions, in the source's four variants ...
    "conv_original": System("original", conv_networks(), objectives.WGANGP, CONV_SETTINGS),
    "conv_sn": System("SN", conv_networks(spectral=True), objectives.WGANGP, CONV_SETTINGS),
    "conv_adain": System("AdaIN", conv_networks("adain"), objectives.WGANGP, CONV_SETTINGS),
    "conv_both": System("SN + AdaIN", conv_networks("adain", True), objectives.WGANGP, CONV_SETTINGS),
    # ... and without the penalty, whose weight of 0 keeps its gradient norms among the measures
    "conv_sn_alone": System(
        "SN, no penalty", conv_networks(spectral=True), lambda: objectives.WGANGP(weight=0.0), CONV_SETTINGS
    ),
    "conv_neither": System("neither", conv_networks(), lambda: objectives.WGANGP(weight=0.0), CONV_SETTINGS),
}


def allowed_systems(specification: Specification | RateFactor | None = None) -> list[str]:
    """The names of all systems, or of those that a specification suits: one of D's needs networks that take options."""
    if not specification or not specification.of_discriminator():
        return list(SYSTEMS)
    parameters = {name: signature(system.networks).parameters.values() for name, system in SYSTEMS.items()}
    return [name for name, each in parameters.items() if any(one.kind is one.VAR_KEYWORD for one in each)]


def make_trainer(
    name: str,
    image_set: ImageSet,
    specification: Specification | RateFactor | None = None,
    device=None,
    **settings,
) -> Trainer:
    """The trainer of a named system on an image set; ``settings`` override those of the specification and the system.

    device: where to train; by default where the images lie, which need not fit on a GPU.
    The seed decides the networks' first weights, the batch order, the latents and dropout. (torch's global random
    numbers start from it anew.)
    """
    if name not in (allowed := allowed_systems(specification)):
        raise ValueError(f"system={name!r}; allowed: {', '.join(map(repr, allowed))}")
    system = SYSTEMS[name]
    chosen = specification.settings(system.settings) if specification else {}
    settings = Settings(**({"label": system.label} | system.settings | chosen | settings))
    torch.manual_seed(settings.seed)
    classes = int(image_set.labels.max()) + 1 if system.conditional else 0
    of_discriminator = specification.of_discriminator() if specification else {}
    generators, discriminator = system.networks(tuple(image_set.images.shape[1:]), classes, **of_discriminator)
    labels = image_set.labels if system.conditional else None
    return Trainer(generators, discriminator, system.objective(), image_set.images, settings, labels, device)
