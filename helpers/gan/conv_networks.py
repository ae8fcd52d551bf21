"""Convolutional players for photographs of 32, 64 or 128 pixels: a generator with batch norm or AdaIN, and a critic.

The layers are DCGAN's (Radford et al. 2016, arXiv:1511.06434): each 4x4 convolution of stride 2 doubles or halves the
side. ``width`` is the number of channels next to the image; it doubles with every halving of the side.
"""

import torch
from torch import Tensor, nn

from helpers.gan.networks import LeakyReLU, with_spectral_norm

SIZES = (32, 64, 128)
NORMS = ("batch", "adain")
SMALLEST = 4  # pixels: the side of the smallest feature maps


class AdaIN(nn.Module):
    """Adaptive instance norm: AdaIN(x, y) = sigma(y) (x - mu(x)) / sigma(x) + mu(y) (Huang & Belongie 2017, eq. 8).

    mu(x) and sigma(x) are the mean and standard deviation of each channel of each sample on its own, over its pixels;
    sigma(x) has 1e-5 added to the variance under its root. sigma(y) and mu(y), one of each per channel, are a linear
    map of the ``style`` y that starts at scale 1 and shift 0 for every style and is learned.
    """

    def __init__(self, channels: int, style_dim: int):
        super().__init__()
        self.normalise = nn.InstanceNorm2d(channels, eps=1e-5)
        self.scale_and_shift = nn.Linear(style_dim, 2 * channels)
        nn.init.zeros_(self.scale_and_shift.weight)
        with torch.no_grad():
            self.scale_and_shift.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """(N, channels, H, W) features, not 1x1, and (N, style_dim) styles to features of the same shape."""
        scale, shift = self.scale_and_shift(style)[..., None, None].chunk(2, dim=1)  # each (N, channels, 1, 1)
        return scale * self.normalise(features) + shift


class ConvGenerator(nn.Module):
    """Latents to images (N, *data_shape) in [-1, 1]; data_shape is (channels, size, size), size 32, 64 or 128.

    ``norm="batch"`` puts batch norm after every layer but the last. ``norm="adain"`` replaces it by AdaIN everywhere
    but in the input layer; every AdaIN takes the latent itself as its style.
    """

    def __init__(self, latent_dim: int = 128, data_shape=(3, 64, 64), width: int = 32, norm: str = "batch"):
        super().__init__()
        channels_out, size = _check(data_shape, width)
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r}; allowed: {', '.join(map(repr, NORMS))}")
        self.latent_dim, self.data_shape = latent_dim, tuple(data_shape)
        side, channels = SMALLEST, width * size // (2 * SMALLEST)
        self.input_layer = nn.Sequential(
            nn.Linear(latent_dim, channels * side * side, bias=False),  # (N, channels * 4 * 4)
            nn.Unflatten(1, (channels, side, side)),  # (N, channels, 4, 4)
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        while side < size // 2:
            side, channels = 2 * side, channels // 2
            self.convolutions.append(_double(2 * channels, channels))  # (N, channels, side, side)
            self.norms.append(nn.BatchNorm2d(channels) if norm == "batch" else AdaIN(channels, latent_dim))
        self.output_layer = nn.Sequential(_double(width, channels_out), nn.Tanh())  # (N, channels_out, size, size)

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent_dim) latents to (N, *data_shape) images; batch norm mixes the samples of a batch in training."""
        features = self.input_layer(latent)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = convolution(features)
            features = norm(features, latent) if isinstance(norm, AdaIN) else norm(features)
            features = features.relu()
        return self.output_layer(features)


class ConvCritic(nn.Module):
    """Images (N, *data_shape) to one score each, (N,): the generator mirrored, with LeakyReLU(0.2), without any norm.

    The gradient penalty asks something of every single image's gradient, so nothing may mix the images of a batch
    (Gulrajani et al. 2017, section 4). ``spectral`` puts spectral norm on every layer; a convolution's weight counts as
    the matrix (channels out, channels in * 4 * 4), as in Miyato et al. 2018.
    """

    def __init__(self, data_shape=(3, 64, 64), width: int = 32, spectral: bool = False):
        super().__init__()
        channels, size = _check(data_shape, width)
        self.data_shape = tuple(data_shape)
        layers = []
        for halving in range((size // SMALLEST).bit_length() - 1):
            channels_in, channels = channels, width * 2**halving
            layers += [nn.Conv2d(channels_in, channels, 4, stride=2, padding=1)]  # (N, channels, side / 2, side / 2)
            layers += [LeakyReLU(0.2)]
        self.layers = nn.Sequential(
            *layers,  # (N, channels, 4, 4)
            nn.Flatten(),  # (N, channels * 4 * 4)
            nn.Linear(channels * SMALLEST**2, 1),  # (N, 1)
        )
        if spectral:
            with_spectral_norm(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, *data_shape) images in [-1, 1] to (N,) scores."""
        return self.layers(images).squeeze(1)


def _double(channels_in: int, channels_out: int) -> nn.Module:
    return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)


def _check(data_shape, width) -> tuple[int, int]:
    if len(data_shape) != 3 or data_shape[1] != data_shape[2] or data_shape[1] not in SIZES:
        allowed = " or ".join(f"(channels, {size}, {size})" for size in SIZES)
        raise ValueError(f"data_shape={tuple(data_shape)}; allowed: {allowed}")
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"width={width!r}; allowed: a whole number of at least 1")
    return data_shape[0], data_shape[1]
