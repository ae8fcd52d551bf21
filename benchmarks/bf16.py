"""Products in bfloat16 inside, all else in float32: are the curves of whole runs the same?

``torch.set_float32_matmul_precision("medium")`` lets torch round the factors of a matrix product to bfloat16 where the
processor has units for that (AMX; a GPU's tensor cores); sums, weights and everything else stay float32. ``python -m
benchmarks.bf16`` repeats recorded runs, which are in full precision, with that setting and the same seeds. README.md
in this folder holds its answer; ``python -m benchmarks`` measures what it brings in time.
"""

import argparse
from contextlib import contextmanager

import numpy as np
import torch
from tqdm.auto import tqdm

from helpers.data import load_images
from helpers.evidence.records import load_runs
from helpers.gan.systems import make_trainer

COLUMNS = ("d_loss", "g_loss", "d_real", "d_fake", "pick_accuracy", "diversity")


@contextmanager
def bf16_products():
    """Matrix products with factors rounded to bfloat16 inside, where the processor is faster so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def curves(histories, epochs: int) -> np.ndarray:
    """Every epoch's values, (seeds, columns, epochs)."""
    return np.array([[history[column][:epochs] for column in COLUMNS] for history in histories])


def compare(single: np.ndarray, half: np.ndarray) -> list[str]:
    """Table lines: both means over the last fifth of the epochs, their distance, the spread over seeds of either, and
    the distance of the two mean curves in units of each epoch's spread (median over the epochs)."""
    last = slice(-max(single.shape[2] // 5, 1), None)
    lines = []
    for index, column in enumerate(COLUMNS):
        a, b = single[:, index, last].mean(1), half[:, index, last].mean(1)
        distance = np.abs(single[:, index].mean(0) - half[:, index].mean(0))
        spread = np.sqrt((single[:, index].var(0, ddof=1) + half[:, index].var(0, ddof=1)) / 2)
        lines.append(
            f"| {column} | {a.mean():.4f} | {b.mean():.4f} | {abs(a.mean() - b.mean()):.4f} "
            f"| {a.std(ddof=1):.4f} | {b.std(ddof=1):.4f} | {np.median(distance / spread):.2f} |"
        )
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bf16")
    parser.add_argument("--systems", nargs="+", default=["gan", "psg_average"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as the recorded runs
    images = load_images("mnist")
    for system in options.systems:
        recorded = [run for run in load_runs(system, least_epochs=options.epochs) if run.seed in options.seeds]
        if len(recorded) < 2:
            parser.error(f"needs two recorded runs or more of {system} with {options.epochs} epochs")
        with bf16_products():
            halves = [
                make_trainer(system, images, seed=run.seed, epochs=options.epochs).fit(progress=False)
                for run in tqdm(recorded, desc=system)
            ]
        print(f"\n{system}: {images.name}, {options.epochs} epochs, seeds {[run.seed for run in recorded]}")
        print("| last fifth | float32 | bfloat16 | distance | spread float32 | spread bfloat16 | distance in spreads |")
        print("|---|---|---|---|---|---|---|")
        both = (curves(histories, options.epochs) for histories in ([run.history for run in recorded], halves))
        print("\n".join(compare(*both)), flush=True)


if __name__ == "__main__":
    main()
