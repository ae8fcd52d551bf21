"""Draws the README's figure, notebooks/overview.png, from the recorded runs: curves and digits of the three systems."""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers.draw import figures  # noqa: E402
from helpers.evidence import comparison, records  # noqa: E402
from helpers.files import write_atomically  # noqa: E402

SYSTEMS = {"gan": "GAN", "sngan": "SNGAN", "psg_average": "PSG-GAN"}
LENGTH = 500  # epochs, the paper's


def main() -> None:
    runs = {name: comparison.whole_runs(records.load_runs(system), LENGTH) for system, name in SYSTEMS.items()}
    curves = {name: [run.history for run in found] for name, found in runs.items()}
    fig, axes = figures.new_figure(2 + len(runs), width=14, height=3.3, width_ratios=(2, 2, *[1.2] * len(runs)))
    levels = {"equilibrium 2 ln 2": 1.386}
    figures.compare_curves(curves, "d_loss", "Loss of the discriminator", "loss (nats)", axes[0], levels)
    floor = {"real": records.read_floor("mnist")["fid"]}
    figures.quality_curves(runs, "fid", "Distance from real digits (FID)", "FID (log scale)", axes[1], floor)
    axes[1].set_yscale("log")
    axes[1].set_xticks([1, 10, 50, 500], labels=["1", "10", "50", "500"])
    for ax, (name, histories) in zip(axes[2:], curves.items(), strict=True):
        grid = histories[0].grids[LENGTH]
        digits = np.concatenate([each[: 25 // len(grid) + 1] for each in grid])[:25]  # of every generator
        figures.show_tile(ax, digits, f"{name}, epoch {LENGTH}", columns=5)
    write_atomically(ROOT / "notebooks" / "overview.png", figures.with_palette(figures.to_png(fig, dpi=80)))


if __name__ == "__main__":
    main()
