"""The players: fully connected generator and discriminator of the PSG-GAN slides, auto-encoder of EBGAN and BEGAN.

Every network takes and gives whole images (N, C, H, W) or points (N, 2) in [-1, 1]; flattening happens inside.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.nn.utils.parametrizations import spectral_norm


def with_spectral_norm(network: nn.Module) -> nn.Module:
    """Divide the weight of every linear and convolutional layer by its largest singular value, in place.

    torch estimates that value with one power iteration per forward pass in training mode
    (Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", Algorithm 1).
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            spectral_norm(layer)
    return network


_SLOPES_ARE_FACTORS = ContextVar("slopes are factors", default=False)


@contextmanager
def to_be_differentiated_twice():
    """What discriminators compute inside costs less when the gradient of its gradient is taken, and is the same.

    LeakyReLU is straight on either side of 0, so its second derivative is 0. torch does not know that and multiplies
    zeros by every weight, a fifth of a gradient penalty's products; a slope that is a given factor has no derivative.
    """
    before = _SLOPES_ARE_FACTORS.set(True)
    try:
        yield
    finally:
        _SLOPES_ARE_FACTORS.reset(before)


class LeakyReLU(nn.LeakyReLU):
    """torch's, or inside ``to_be_differentiated_twice`` its input times its slope, which is the same number."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not _SLOPES_ARE_FACTORS.get():
            return super().forward(inputs)
        return inputs * inputs.detach().sign().clamp_min_(self.negative_slope)


class Generator(nn.Module):
    """Latents to images: Linear-ReLU, Linear-ReLU, Linear-Tanh, with the slides' widths 100-256-512-784.

    With ``classes`` > 0 it is conditional: the one-hot label is joined to the latent (Mirza & Osindero 2014).
    """

    def __init__(self, latent_dim: int = 100, data_shape=(1, 28, 28), hidden=(256, 512), classes: int = 0):
        super().__init__()
        self.latent_dim, self.data_shape, self.classes = latent_dim, tuple(data_shape), classes
        layers = []
        for width_in, width_out in pairwise((latent_dim + classes, *hidden)):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], prod(data_shape)), nn.Tanh())

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, latent_dim) latents and, if conditional, (N,) labels to (N, *data_shape) images in [-1, 1]."""
        return self.layers(_join(latent, labels, self.classes)).unflatten(1, self.data_shape)


class MinibatchStd(nn.Module):
    """Joins to the features of each sample how varied its group is: one number, the same for the whole group.

    That number is the standard deviation of every feature over the group, averaged over the features (Karras et al.
    2018, "Progressive Growing of GANs", section 3). Groups are taken in the order of the batch. The training loop hands
    over real images first and then each generator's fakes, so a group that divides the batch size never mixes real and
    fake, nor two generators: each of them is asked for variety of its own. (Groups that mix generators would leave them
    to divide the digits between them, and need an order of samples that the loop would have to know.)
    """

    def __init__(self, group: int):
        super().__init__()
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) features to (N, width + 1); a rest that fills no group is one by itself."""
        spread = [self._spread(part) for part in features.split(self.group)] if len(features) % self.group else None
        if spread is None:
            spread = [self._spread(features.unflatten(0, (-1, self.group)))]
        return torch.cat([features, torch.cat(spread)], dim=1)

    @staticmethod
    def _spread(groups: Tensor) -> Tensor:
        """(..., group, width) features to their mean standard deviation over the group, once per sample: (N, 1)."""
        spread = (groups.var(-2, unbiased=False) + 1e-8).sqrt().mean(-1)  # 1e-8: a group of equals has a slope, too
        return spread[..., None].expand(groups.shape[:-1]).reshape(-1, 1)


class Discriminator(nn.Module):
    """Images to one logit each; also serves as critic, whose score is not a probability.

    The sources do not give this network. We mirror the generator: 784-512-256-1 with LeakyReLU(0.2) between.
    It ends in a logit, without a sigmoid, so that the losses can be computed without overflow.
    ``spectral`` puts spectral norm on every layer, which makes it SNGAN's discriminator. ``dropout`` follows every
    hidden layer; with ``unit_pixels`` it sees its images in [0, 1] (both for ``multiverse``). ``group`` puts
    ``MinibatchStd`` before its last layer; ``sources`` adds a head that tells so many generators apart.
    """

    def __init__(
        self,
        data_shape=(1, 28, 28),
        hidden=(512, 256),
        spectral: bool = False,
        classes: int = 0,
        dropout: float = 0.0,
        unit_pixels: bool = False,
        group: int = 0,
        sources: int = 0,
    ):
        super().__init__()
        self.classes, self.unit_pixels = classes, unit_pixels
        layers = []
        for width_in, width_out in pairwise((prod(data_shape) + classes, *hidden)):
            layers += [nn.Linear(width_in, width_out), LeakyReLU(0.2), *([nn.Dropout(dropout)] if dropout else [])]
        if group:
            layers.append(MinibatchStd(group))
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1] + bool(group), 1))
        if sources:
            self.source_head = nn.Linear(hidden[-1] + bool(group), sources)
        if spectral:
            with_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, *data_shape) images and, if conditional, (N,) labels to (N,) logits."""
        return self.layers(self._inputs(images, labels)).squeeze(1)

    def tell_apart(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, *data_shape) fakes to (N, sources) logits of which generator drew each; only with ``sources``."""
        return self.source_head(self.layers[:-1](self._inputs(images, labels)))

    def _inputs(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """What the first layer sees, (N, width)."""
        if self.unit_pixels:
            images = (images + 1) / 2
        return _join(images.flatten(1), labels, self.classes)


class AutoEncoder(nn.Module):
    """A discriminator that gives an energy: how badly it reconstructs an image (low = looks real).

    Energy of one image v: the mean over its pixels of |v - D(v)|**power; ``power`` is the source's eta,
    1 for BEGAN (Berthelot et al. 2017) and 2 for EBGAN (Zhao et al. 2016). The mean keeps the energy, and with it
    EBGAN's margin, independent of the image size. The last layer is linear: a D that pushes a fake's energy up could
    drive a Tanh to where it is flat, and would then stop learning.
    """

    def __init__(self, data_shape=(1, 28, 28), hidden=(512, 256), code_dim: int = 64, power: int = 2):
        super().__init__()
        self.power = power
        encoder, decoder = [], []
        for width_in, width_out in pairwise((prod(data_shape), *hidden)):
            encoder += [nn.Linear(width_in, width_out), LeakyReLU(0.2)]
        for width_in, width_out in pairwise((code_dim, *reversed(hidden))):
            decoder += [nn.Linear(width_in, width_out), LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*encoder, nn.Linear(hidden[-1], code_dim))
        self.decoder = nn.Sequential(*decoder, nn.Linear(hidden[0], prod(data_shape)))

    def encode(self, images: Tensor) -> Tensor:
        """(N, *data_shape) images to (N, code_dim) codes."""
        return self.encoder(images.flatten(1))

    def reconstruct(self, images: Tensor) -> Tensor:
        """(N, *data_shape) images to their reconstructions, same shape."""
        return self.decoder(self.encode(images)).view_as(images)

    def forward(self, images: Tensor) -> Tensor:
        """(N, *data_shape) images to (N,) energies."""
        return (images - self.reconstruct(images)).flatten(1).abs().pow(self.power).mean(1)


def _join(inputs: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Append the one-hot labels to the inputs of a conditional network."""
    if not classes:
        return inputs
    if labels is None:
        raise ValueError(f"labels=None; allowed: one integer per sample for these {classes} classes")
    return torch.cat([inputs, one_hot(labels, classes).to(inputs.dtype)], 1)


def count_parameters(network: nn.Module) -> int:
    """Number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
