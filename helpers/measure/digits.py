"""A small image classifier that serves as the ruler for generated digits and garments.

It is trained by this project (`python -m helpers.measure.digits --dataset mnist`), its weights lie in `data/`,
and `quality.py` beside it reads its 64 penultimate activations as features. Numbers measured on these features
must not be compared with published ones, which use the Inception network.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.data.images import load_images
from helpers.device import device_option, seeded
from helpers.files import PROJECT, write_atomically

WEIGHTS_FOLDER = PROJECT / "data"
DATASETS = ("mnist", "fashion_mnist")


def weights_path(dataset: str, folder: Path = WEIGHTS_FOLDER) -> Path:
    """The file that holds the weights for `dataset`: "mnist" or "fashion_mnist"."""
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r}; allowed: {', '.join(map(repr, DATASETS))}, which have a classifier")
    return Path(folder) / f"classifier_{dataset.removesuffix('_mnist')}.safetensors"


def _convolution(channels_in: int, channels_out: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size, stride=2, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Classifier(nn.Module):
    """Three strided convolutions, 64 features, 10 class logits. Images are (N, 1, 28, 28) in [-1, 1]."""

    feature_dim = 64
    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(1, 16, kernel_size=5),
            _convolution(16, 32, kernel_size=3),
            _convolution(32, 64, kernel_size=3),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, self.feature_dim),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.feature_dim, self.classes)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate activations, (N, 64), none negative."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits, (N, 10)."""
        return self.head(self.features(images))


def train_classifier(images: Tensor, labels: Tensor, *, epochs=8, batch_size=128, learning_rate=3e-3, seed=0):
    """Train a `Classifier` from scratch with Adam and a one-cycle learning rate.

    images (N, 1, 28, 28) in [-1, 1] and labels (N,) lie on the device that is to train; N must be at least
    `batch_size`. The classifier is returned in evaluation mode. The choice of settings is this project's.
    """
    with seeded(seed):
        classifier = Classifier().to(images.device)
        optimizer = torch.optim.Adam(classifier.parameters())
        steps = epochs * (len(images) // batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)
        for _ in range(epochs):
            order = torch.randperm(len(images)).to(images.device)
            for chosen in order.split(batch_size)[: len(images) // batch_size]:
                loss = F.cross_entropy(classifier(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int = 1000) -> float:
    """Share of `images` whose most likely class is the label, in [0, 1]."""
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    return sum(int((classifier(x).argmax(1) == y).sum()) for x, y in batches) / len(images)


def save_weights(network: nn.Module, path: Path, facts: dict) -> None:
    """Write the weights and `facts` (how they came about) in one atomic step."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, save(weights, metadata={"facts": json.dumps(facts, sort_keys=True)}))


def load_weights(network: nn.Module, path: Path, remedy: str) -> dict:
    """Load into ``network`` what `save_weights` wrote; returns its facts.

    Raises FileNotFoundError where there is no such file, ValueError where it is damaged or another network's; both say
    ``remedy``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The weights {path} are missing. {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
        network.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, json.JSONDecodeError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of this network ({error}). {remedy}") from error
    return facts


def load_classifier(dataset="mnist", device="cpu", folder: Path = WEIGHTS_FOLDER) -> Classifier:
    """The classifier trained for `dataset`, in evaluation mode on `device`.

    Its attribute `facts` tells how it was trained and its accuracy on the 10,000 test images. Raises
    FileNotFoundError where there is no weights file, ValueError where the file is damaged or another's.
    """
    path = weights_path(dataset, folder)
    remedy = f"Train it again with: python -m helpers.measure.digits --dataset {dataset}"
    classifier = Classifier()
    facts = load_weights(classifier, path, remedy)
    if facts.get("dataset") != dataset:
        raise ValueError(f"{path} was trained for {facts.get('dataset')!r}, not for {dataset!r}. {remedy}")
    classifier.facts = facts
    return classifier.to(device).eval().requires_grad_(False)


def main(arguments: list[str] | None = None) -> None:
    """The command: train on the training images, measure on the test images, write the weights."""
    parser = argparse.ArgumentParser(prog="python -m helpers.measure.digits", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=DATASETS, default="mnist")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", type=device_option, default="cpu")
    parser.add_argument("--folder", type=Path, default=WEIGHTS_FOLDER, help="where the weights are written")
    chosen = parser.parse_args(arguments)

    train = load_images(chosen.dataset, train=True, device=chosen.device)
    test = load_images(chosen.dataset, train=False, device=chosen.device)
    if train.notice or test.notice:
        parser.error(f"A classifier needs the real images. {train.notice or test.notice}")
    settings = {name: getattr(chosen, name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
    chosen.folder.mkdir(parents=True, exist_ok=True)  # one that cannot be made shows now, not after the training
    started = time.perf_counter()
    classifier = train_classifier(train.images, train.labels, **settings)
    seconds = time.perf_counter() - started
    facts = {
        "dataset": chosen.dataset,
        "test_accuracy": accuracy(classifier, test.images, test.labels),
        "test_images": len(test.images),
        "training_images": len(train.images),
        "settings": settings,
        "device": chosen.device,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "command": "python -m helpers.measure.digits " + shlex.join(sys.argv[1:] if arguments is None else arguments),
    }
    path = weights_path(chosen.dataset, chosen.folder)
    save_weights(classifier, path, facts)
    print(f"{path.name}: test accuracy {facts['test_accuracy']:.4f} after {seconds:.0f} s")


if __name__ == "__main__":
    main()
