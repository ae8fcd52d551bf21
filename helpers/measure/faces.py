"""The ruler for generated faces.

It is the encoder of a small auto-encoder trained here on the training photographs (`python -m helpers.measure.faces`):
64 numbers from which a face of 32x32 pixels can be drawn again. Distances measured on them must not be compared with
published ones, which use the Inception network. Only the encoder is kept, so no face can be drawn from the file.
"""

import argparse
import platform
import shlex
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from helpers.data.faces import HELD_OUT, load_faces_split
from helpers.data.images import to_unit_range
from helpers.device import device_option, seeded
from helpers.gan.conv_networks import ConvGenerator
from helpers.measure import quality
from helpers.measure.digits import WEIGHTS_FOLDER, load_weights, save_weights

SIDE = 32  # pixels: what the encoder looks at
FILE_NAME = "encoder_faces.safetensors"


class Encoder(nn.Sequential):
    """(N, 3, 32, 32) images in [-1, 1] to 64 features each, (N, 64)."""

    feature_dim = 64

    def __init__(self) -> None:
        super().__init__(
            *_convolution(3, 16),  # (N, 16, 16, 16)
            *_convolution(16, 32),  # (N, 32, 8, 8)
            *_convolution(32, 64),  # (N, 64, 4, 4)
            nn.Flatten(),  # (N, 1024)
            nn.Linear(64 * 16, self.feature_dim),  # (N, 64)
        )


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2)]


def train_encoder(images: Tensor, *, epochs=15, batch_size=64, learning_rate=2e-3, seed=0) -> tuple[Encoder, float]:
    """Train encoder and decoder to redraw uint8 ``images`` (N, 3, 32, 32); returns the encoder and the mean loss of the
    last epoch.

    The loss is the mean squared error per pixel of images in [-1, 1]. Settings are this project's choice.
    """
    with seeded(seed):
        encoder = Encoder().to(images.device)
        decoder = ConvGenerator(Encoder.feature_dim, (3, SIDE, SIDE), width=16).to(images.device)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters)
        steps = len(images) // batch_size
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=epochs * steps)
        for _ in range(epochs):
            total = 0.0
            for chosen in torch.randperm(len(images)).to(images.device).split(batch_size)[:steps]:
                batch = to_unit_range(images[chosen])
                loss = (decoder(encoder(batch)) - batch).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
    return encoder.eval().requires_grad_(False), float(total) / steps


def load_encoder(device="cpu", folder: Path = WEIGHTS_FOLDER) -> Encoder:
    """The encoder trained here, in evaluation mode; its attribute ``facts`` tells how.

    Raises FileNotFoundError where its file is missing, ValueError where the file is another's or damaged.
    """
    encoder = Encoder()
    encoder.facts = load_weights(
        encoder, Path(folder) / FILE_NAME, "Train it again with: python -m helpers.measure.faces"
    )
    return encoder.to(device).eval().requires_grad_(False)


@torch.no_grad()
def features(images: Tensor, encoder: Encoder, batch_size: int = 500) -> Tensor:
    """(N, 3, size, size) images, uint8 or float in [-1, 1], to (N, 64) float64; larger ones are shrunk to 32 first."""
    found, device = [], next(encoder.parameters()).device
    for batch in images.split(batch_size):
        batch = to_unit_range(batch.to(device))  # photographs that do not fit there come batch by batch
        if batch.shape[-1] != SIDE:
            batch = interpolate(batch, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        found.append(encoder(batch))
    return torch.cat(found).cpu().double()


@torch.no_grad()
def fine_detail(images: Tensor, batch_size: int = 500) -> float:
    """Root mean square of the discrete Laplacian of (N, C, H, W) images, on the scale of [-1, 1].

    It is taken at all pixels but the outermost, and measures contrast between neighbouring ones: blur lowers it, and so
    do flat areas; noise and checkerboards raise it. Read it beside the value of real images, and never alone.
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=images.device)[None, None]
    total = 0.0
    for batch in images.split(batch_size):
        flat = to_unit_range(batch).flatten(0, 1)[:, None]
        total += conv2d(flat, kernel).square().mean().item() * len(batch)
    return (total / len(images)) ** 0.5


def face_ruler(size: int, device="cpu", encoder: Encoder | None = None):
    """A function that scores images (N, 3, size, size) against the held-out photographs; compare equal N only.

    - fid, precision, recall, density, coverage: see helpers.measure.quality, here on the encoder's features
    - detail: fine detail as a share of that of the photographs; 1 is as much as they have
    """
    photographs = load_faces_split(size, train=False, device=device).images
    encoder = encoder or load_encoder(device)
    real, real_detail = features(photographs, encoder), fine_detail(photographs)

    def judge(samples: Tensor) -> dict[str, float]:
        found, detail = features(samples, encoder), fine_detail(samples) / real_detail
        return {"fid": quality.fid(found, real), **quality.prdc(found, real), "detail": detail}

    return judge


def floor(encoder: Encoder, seed: int = 0) -> dict[str, float]:
    """What training photographs score, 2,000 at random: no generator can be expected to do better."""
    device = next(encoder.parameters()).device
    images = load_faces_split(SIDE, device=device).images
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:HELD_OUT].to(device)
    return face_ruler(SIDE, device, encoder)(images[chosen])


def main(arguments: list[str] | None = None) -> None:
    """The command: train the encoder on the training photographs and write its weights."""
    parser = argparse.ArgumentParser(prog="python -m helpers.measure.faces", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", type=device_option, default="cpu")
    parser.add_argument("--folder", type=Path, default=WEIGHTS_FOLDER, help="where the weights are written")
    chosen = parser.parse_args(arguments)
    faces = load_faces_split(SIDE, device=chosen.device)
    chosen.folder.mkdir(parents=True, exist_ok=True)  # one that cannot be made shows now, not after the training
    started = time.perf_counter()
    encoder, loss = train_encoder(faces.images, epochs=chosen.epochs, seed=chosen.seed)
    seconds = time.perf_counter() - started
    facts = {
        "dataset": faces.name,
        "training_images": len(faces.images),
        "settings": {"epochs": chosen.epochs, "seed": chosen.seed},
        "reconstruction_error": round(loss, 5),
        "floor": {name: round(value, 4) for name, value in floor(encoder).items()},
        "device": chosen.device,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "command": "python -m helpers.measure.faces " + shlex.join(sys.argv[1:] if arguments is None else arguments),
    }
    save_weights(encoder, chosen.folder / FILE_NAME, facts)
    print(f"{FILE_NAME}: mean squared error {loss:.4f} per pixel after {seconds:.0f} s")


if __name__ == "__main__":
    main()
