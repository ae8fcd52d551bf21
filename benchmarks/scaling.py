"""How the cost of an epoch grows with the batch, the width, the generators and the images, and the figure of it."""

import time
from dataclasses import replace

from torch import Tensor

from benchmarks.cases import CASES, Case, Ours
from benchmarks.floor import Floor
from benchmarks.measure import alternate, summarise, synchronise

# What is varied, its values, and its axis; all else stays as in the GAN of the notebooks.
SWEEPS = {
    "batch_size": ((25, 50, 100, 200, 400, 800), "batch size (images)"),
    "width": ((0.25, 0.5, 1, 2, 4), "width of the hidden layers (1 = 256 and 512)"),
    "generators": ((1, 2, 4, 8), "generators K"),
    "images": ((1_000, 3_000, 10_000, 30_000), "images in the set"),
}
MNIST = 60_000


def measure_scaling(images: Tensor, rounds: int, seconds: float = 0.3, cuda_graph: bool = False) -> list[dict]:
    """One entry per point: {"sweep", "value", "ours", "floor"}, seconds per epoch.

    images: (N, 1, 28, 28), as many as the largest set that is measured. Every call takes about ``seconds``.
    """
    points = []
    for sweep, (values, _) in SWEEPS.items():
        for value in values:
            if sweep == "images" and value > len(images):
                continue
            points.append(
                {"sweep": sweep, "value": value} | _measure_point(sweep, value, images, rounds, seconds, cuda_graph)
            )
    return points


def _measure_point(
    sweep: str, value, images: Tensor, rounds: int, seconds: float, cuda_graph: bool
) -> dict[str, float]:
    images = images[:value] if sweep == "images" else images
    batch_size = value if sweep == "batch_size" else min(100, len(images))
    case: Case = replace(CASES[0], **({sweep: value} if sweep in ("width", "generators") else {}))
    ours = Ours(case, images, batch_size, cuda_graph)
    floor = Floor(case, batch_size, images.device, cuda_graph)
    batches = _batches_in(floor, seconds, images.device)
    per_epoch = (value if sweep == "images" else MNIST) / batch_size / batches
    if sweep == "images":  # whole epochs, with what happens at their end
        contestants = {"ours": ours.trainer.run_epoch, "floor": lambda: floor.run(batches)}
        scale = {"ours": 1, "floor": per_epoch}
    else:
        contestants = {"ours": lambda: ours.run(batches), "floor": lambda: floor.run(batches)}
        scale = {"ours": per_epoch, "floor": per_epoch}
    times = alternate(contestants, rounds, images.device)
    return {name: scale[name] * summarise(name, times[name], "s").value for name in contestants}


def _batches_in(floor: Floor, seconds: float, device) -> int:
    """How many batches the floor does in about this time."""
    floor.run(1)
    synchronise(device)
    start = time.perf_counter()
    floor.run(2)
    synchronise(device)
    return max(round(2 * seconds / (time.perf_counter() - start)), 1)


def draw(points: list[dict], facts: dict):
    """The figure: seconds per epoch of our GAN and of its floor, one panel per sweep, both axes logarithmic."""
    from helpers.draw.figures import line_style, new_figure

    fig, axes = new_figure(columns=2, rows=2, width=9.0, height=6.6, sharey=True)
    for ax, (sweep, (_, axis)) in zip(axes.flat, SWEEPS.items(), strict=True):
        chosen = [point for point in points if point["sweep"] == sweep]
        values = [point["value"] for point in chosen]
        for index, (name, label, marker) in enumerate((("ours", "our loop", "o"), ("floor", "floor", "s"))):
            ax.plot(values, [p[name] for p in chosen], marker=marker, label=label, **line_style(index))
        ax.set(xscale="log", yscale="log", xlabel=axis)
        ax.set_xticks(values, [f"{value:,g}" for value in values], minor=False)
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("seconds per epoch")
    axes[0, 0].legend()
    where = f"{facts['device']}, CPU threads: {facts['threads']}"
    fig.suptitle(f"{growth(points)}\n{where}", fontsize=11, x=0.01, ha="left")
    return fig


def growth(points: list[dict]) -> str:
    """The finding, in words: how many times longer an epoch takes from one value of a sweep to another."""
    cost = {(point["sweep"], point["value"]): point["ours"] for point in points}

    def times(sweep, low, high):
        return cost[sweep, high] / cost[sweep, low]

    k, width = times("generators", 1, 8), times("width", 1, 4)
    batch = times("batch_size", 25, 400)
    return (
        f"8 generators cost {k:.1f} times what one costs, 4 times the width {width:.0f} times; "
        f"batches of 400 instead of 25: {batch:.2f} times"
    )
