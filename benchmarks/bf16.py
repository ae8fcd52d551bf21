"""Matrix products in bfloat16 with float32 weights: how much faster, and are the curves the same?

``python -m benchmarks.bf16`` prints the time of a step and, for several seeds, the curves of a short run in both
precisions. README.md in this folder holds its answer. Autocast stays out of the helpers.
"""

import argparse
from functools import partial

import numpy as np
import torch

from benchmarks.measure import alternate, ratios, summarise
from helpers.data import load_images
from helpers.systems import make_trainer

COLUMNS = ("d_loss", "g_loss", "d_real", "d_fake", "pick_accuracy", "diversity")


def make(bf16: bool, images, **settings):
    """A GAN's trainer whose products, forward and backward, are in bfloat16 if asked; all else stays float32."""
    trainer = make_trainer("gan", images, **settings)
    if bf16:
        autocast = torch.autocast(images.images.device.type, torch.bfloat16)
        score, generate = autocast(trainer.score), autocast(trainer.generate)
        trainer.score = lambda *inputs: score(*inputs).float()
        trainer.generate = lambda *inputs: [fake.float() for fake in generate(*inputs)]
    return trainer


def curves(bf16: bool, images, seeds: range, epochs: int) -> np.ndarray:
    """Every epoch's values, (seeds, columns, epochs)."""
    histories = [make(bf16, images, seed=seed, epochs=epochs).fit(progress=False) for seed in seeds]
    return np.array([[history[column] for column in COLUMNS] for history in histories])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bf16")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    images = load_images("mnist", limit=options.images)

    trainers = {name: make(name == "bf16", images) for name in ("fp32", "bf16")}

    def steps(name, count=20):
        for _ in range(count):
            trainers[name].step()

    times = alternate({name: partial(steps, name) for name in trainers}, options.rounds)
    print(summarise("fp32_over_bf16", ratios(times["fp32"], times["bf16"]), "ratio"))

    single, half = (curves(bf16, images, range(options.seeds), options.epochs) for bf16 in (False, True))
    print(f"# {images.name}, {len(images.images)} images, {options.seeds} seeds, {options.epochs} epochs")
    print("# last epoch: mean of fp32, mean of bf16, distance of the means, spread (standard deviation) over seeds")
    for index, column in enumerate(COLUMNS):
        a, b = single[:, index, -1], half[:, index, -1]
        print(f"{column:14} {a.mean():.4f} {b.mean():.4f} {abs(a.mean() - b.mean()):.4f} {a.std(ddof=1):.4f}")
    worst = np.abs(single - half).max(axis=(0, 2))
    print("# largest difference between the two precisions at the same seed and epoch")
    print("  ".join(f"{column} {value:.4f}" for column, value in zip(COLUMNS, worst, strict=True)))


if __name__ == "__main__":
    main()
