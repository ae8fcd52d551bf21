"""Draws the README's figure, notebooks/overview.png, from the recorded runs: curves and digits of the three systems."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers.draw import figures  # noqa: E402
from helpers.evidence import comparison, records  # noqa: E402
from helpers.files import write_atomically  # noqa: E402

SYSTEMS = {"gan": "GAN", "sngan": "SNGAN", "psg_average": "PSG-GAN"}


def main() -> None:
    runs = {name: records.load_runs(system) for system, name in SYSTEMS.items()}
    runs = {name: [run.history for run in found] for name, found in runs.items() if found}
    fig, axes = figures.new_figure(2 + len(runs), width=14, height=3.3, width_ratios=(2, 2, *[1.2] * len(runs)))
    figures.compare_curves(
        runs, "d_loss", "Loss of the discriminator", "loss (nats)", axes[0], {"equilibrium 2 ln 2": 1.386}
    )
    levels = {"equilibrium 1/2": 1 / 2, "equilibrium 1/3 (PSG-GAN)": 1 / 3}
    figures.compare_curves(runs, "pick_accuracy", "How often D picks the real image", "share", axes[1], levels)
    epoch = comparison.last_kept_epoch([histories[0] for histories in runs.values()])
    for ax, (name, histories) in zip(axes[2:], runs.items(), strict=True):
        figures.show_tile(ax, histories[0].grids[epoch][0][:25], f"{name}, epoch {epoch}", columns=5)
    write_atomically(ROOT / "notebooks" / "overview.png", figures.to_png(fig, dpi=80))


if __name__ == "__main__":
    main()
