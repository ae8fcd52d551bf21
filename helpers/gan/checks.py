"""What is refused before a training starts, each with the value that was given and what is allowed."""

import torch
from torch import Tensor, nn

from helpers.data.images import to_unit_range
from helpers.gan.networks import MinibatchStd


def check_data(images, labels, settings) -> None:
    """Refuse what cannot be trained on, before any training starts."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images: {type(images).__name__}; allowed: a tensor, such as the .images of an ImageSet")
    if images.dtype not in (torch.float32, torch.uint8) or images.ndim < 2:
        raise ValueError(f"images: {images.dtype}, shape {tuple(images.shape)}; allowed: (N, ...) float32 or uint8")
    if len(images) < settings.batch_size:
        raise ValueError(f"batch_size={settings.batch_size}; allowed: at most the number of images, {len(images)}")
    if images.dtype != torch.uint8:
        low, high = (bound.item() for bound in images.aminmax())  # one pass without copies; NaN if any value is
        if not max(-low, high) <= 1 + 1e-4:
            raise ValueError(f"images: float from {low:.3g} to {high:.3g}; allowed: float in [-1, 1] or uint8")
    if labels is not None and not isinstance(labels, Tensor):
        raise ValueError(f"labels: {type(labels).__name__}; allowed: a tensor, such as the .labels of an ImageSet")
    if labels is not None and (labels.shape != (len(images),) or labels.dtype != torch.int64):
        raise ValueError(
            f"labels: {labels.dtype}, shape {tuple(labels.shape)}; "
            f"allowed: one int64 for each of the {len(images)} images"
        )


@torch.no_grad()
def check_networks(generators, discriminator, two_images, labels, batch_size: int) -> None:
    """Refuse networks that do not fit the data or each other, by a trial on two images that changes nothing."""
    if not len(generators):
        raise ValueError("generators=[]; allowed: a list of at least one generator")
    real, two_labels = to_unit_range(two_images), None if labels is None else labels[:2].to(two_images.device)
    for k, generator in enumerate(generators, 1):
        if generator.latent_dim != generators[0].latent_dim:
            dims = [generator.latent_dim for generator in generators]
            raise ValueError(f"generators take latents of {dims} numbers; allowed: the same for all")
        classes = getattr(generator, "classes", 0)
        if labels is None and classes:
            raise ValueError(f"labels=None; allowed: labels from 0 to {classes - 1}, as generator {k} is conditional")
        if labels is not None and not 0 <= labels.min() <= labels.max() < classes:
            allowed = f"0 to {classes - 1}" if classes else f"None, as generator {k} is not conditional"
            raise ValueError(f"labels: from {labels.min()} to {labels.max()}; allowed: {allowed}")
        _trial(f"generator {k}", generator, real.new_zeros(len(real), generator.latent_dim), two_labels, real.shape)
    if labels is not None and getattr(discriminator, "classes", None) == 0:  # it would take them without a word
        raise ValueError("labels: given; allowed: None, as the discriminator is not conditional")
    for group in (layer.group for layer in discriminator.modules() if isinstance(layer, MinibatchStd)):
        if batch_size % group:
            raise ValueError(
                f"batch_size={batch_size}; allowed: multiples of {group}, the discriminator's MinibatchStd group, "
                "else groups mix real and fake"
            )
    _trial("the discriminator", discriminator, real, two_labels, real.shape[:1])


def _trial(name: str, network: nn.Module, inputs: Tensor, labels: Tensor | None, wanted: torch.Size) -> None:
    network.eval()  # else batch norm and spectral norm would learn from it
    try:
        shape = tuple(network(inputs, *([] if labels is None else [labels])).shape)
    except RuntimeError as error:
        raise ValueError(f"{name} cannot take inputs of shape {tuple(inputs.shape)}: {error}") from error
    if shape != tuple(wanted):
        raise ValueError(f"{name} turns {tuple(inputs.shape)} into {shape}; allowed: {tuple(wanted)} for these images")
