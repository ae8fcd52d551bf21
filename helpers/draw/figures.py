"""What a reader sees: each function takes histories, images or points and returns a matplotlib Figure.

Nothing here trains or reads a file. Colours are Okabe and Ito's, which colour-blind readers can tell apart, and every
line also has a style of its own. ``show(fig, alt)`` puts a figure into a notebook together with its description.
"""

import base64
from io import BytesIO

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from helpers.gan.history import History
from helpers.measure.stability import equilibrium

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.3)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 3)),
    (0, (2, 3)),
)

STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "lines.linewidth": 1.8,
}


def new_figure(columns: int = 1, rows: int = 1, width: float = 9.0, height: float = 3.6, **subplots):
    """A figure in the series' one style and its axes: (fig, axes), axes as from plt.subplots.

    It is not registered with pyplot, so that nothing is drawn twice and nothing stays in memory.
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(rows, columns, **subplots)
    for ax in np.atleast_1d(axes).ravel():
        ax.set_facecolor("white")
    return fig, axes


def line_style(index: int) -> dict:
    """Colour and dash pattern of the index-th line of a figure."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def to_png(fig: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG, without a date or version, so that the same figure gives the same bytes."""
    drawn = BytesIO()
    fig.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    return drawn.getvalue()


def with_palette(png: bytes) -> bytes:
    """The same picture in 256 colours and less than half of the bytes, for what is kept in a file.

    Figures need no more: digits have as many, and curves hardly lose.
    """
    picture, small = Image.open(BytesIO(png)), BytesIO()
    if picture.mode == "P":
        return png
    # Maximum coverage keeps a colour of few pixels, such as one end of a colour bar, and k-means keeps greys grey.
    few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def show(fig: Figure, alt: str, dpi: int = 100) -> None:
    """Display a figure in a notebook with ``alt`` as its description for readers who cannot see it."""
    from IPython.display import display

    data = {"image/png": base64.b64encode(to_png(fig, dpi)).decode(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


# ---- curves --------------------------------------------------------------------------------------------------------


def draw_curve(ax, curves, label: str, index: int = 0, epochs=None, seeds=None) -> None:
    """Draw one quantity over the epochs; with several seeds: each faint, the mean bold, the outlier named.

    An interval of so few seeds would be wider than the figure. curves: one array per seed, values per epoch; seeds:
    their numbers, by default from 0
    """
    style = line_style(index)
    length = min(len(curve) for curve in curves)
    stacked = np.stack([curve[:length] for curve in curves])
    epochs = np.arange(1, length + 1) if epochs is None else epochs
    mean = stacked.mean(0)
    if len(stacked) > 1:
        ax.plot(epochs, stacked.T, color=style["color"], alpha=0.4, linewidth=0.8)
        if (odd := outlier(stacked[:, -1], np.ptp(stacked))) is not None:
            name = f"seed {odd if seeds is None else seeds[odd]}"
            ax.annotate(name, (epochs[-1], stacked[odd, -1]), xytext=(3, 0), textcoords="offset points",
                        fontsize=8, color=style["color"], va="center", annotation_clip=False)  # fmt: skip
    ax.xaxis.get_major_locator().set_params(integer=True)  # there is no epoch 1.25
    marker = "o" if length <= 12 else None
    ax.plot(epochs, mean, **style, marker=marker, markersize=4, label=label)


def outlier(values, scale: float) -> int | None:
    """Which of at least three values lies far from the others: further from their mean than three times their range,
    and far enough to be seen on an axis that spans ``scale``."""
    values = np.asarray(values, dtype=float)
    if len(values) < 3:
        return None
    rest = [np.delete(values, index) for index in range(len(values))]
    away = [abs(value - others.mean()) for value, others in zip(values, rest, strict=True)]
    furthest = int(np.argmax(away))
    return furthest if away[furthest] > max(3 * np.ptp(rest[furthest]), 0.1 * scale) else None


LEVEL = {"color": BLACK, "linewidth": 0.9, "linestyle": (0, (4, 3)), "alpha": 0.7}


def mark_level(ax, value: float, text: str, where: float = 1.0, below: bool = False, beside: bool = False) -> None:
    """A thin dashed line across the axes with its name at the right (or at the share ``where`` of the width).

    below: write the name under the line, as where another level lies close above; beside: write it to the right of the
    axes, as where curves cross the line's end
    """
    ax.margins(y=0.1)  # room for the name of the outermost line
    ax.axhline(value, **LEVEL)
    if beside:
        ax.annotate(text, (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
                    va="top" if below else "bottom", fontsize=8)  # fmt: skip
        return
    ax.annotate(text, (where, value), xycoords=("axes fraction", "data"), xytext=(-2, -2 if below else 2),
                textcoords="offset points", ha="right", va="top" if below else "bottom", fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.5})  # fmt: skip


def _seeds(runs) -> list[int]:
    return [run.settings.get("seed", place) for place, run in enumerate(runs)]


def _as_runs(histories) -> list[History]:
    return [histories] if isinstance(histories, History) else list(histories)


def loss_curves(histories, title: str, ax=None) -> Figure:
    """Losses of D and of each generator per epoch, with the equilibrium as dashed lines (the paper's Fig. 3).

    histories: one History, or several seeds of one system
    """
    runs = _as_runs(histories)
    fig, ax = new_figure() if ax is None else (ax.figure, ax)
    draw_curve(ax, [run["d_loss"] for run in runs], "discriminator", 0, seeds=_seeds(runs))
    count = runs[0].generators
    for k in range(1, count + 1):
        name = "generator" if count == 1 else f"generator {k}"
        draw_curve(ax, [run[f"g{k}_loss"] for run in runs], name, k, seeds=_seeds(runs))
    target = equilibrium(runs[0])
    levels = sorted((target[key], name) for key, name in (("d_loss", "D"), ("g_loss", "G")) if key in target)
    for index, (value, name) in enumerate(levels):  # two can lie so close that their names need both sides
        mark_level(ax, value, f"{name}: {value:.3f}", below=index < len(levels) - 1, beside=True)
    if levels:
        ax.plot([], [], label="equilibrium", **LEVEL)
    ax.set(title=title, xlabel="epoch", ylabel="loss (nats)")
    ax.legend()
    return fig


def accuracy_curves(histories, title: str, ax=None) -> Figure:
    """Pick accuracy, and accuracy on real and on fake images, per epoch, with the equilibrium (the paper's Fig. 4)."""
    runs = _as_runs(histories)
    fig, ax = new_figure() if ax is None else (ax.figure, ax)
    names = {
        "pick_accuracy": "real image picked",
        "accuracy_real": "real called real",
        "accuracy_fake": "fake called fake",
    }
    for index, (column, name) in enumerate(names.items()):
        if column in runs[0].columns:
            draw_curve(ax, [run[column] for run in runs], name, index, seeds=_seeds(runs))
    level = equilibrium(runs[0])["pick_accuracy"]
    mark_level(ax, level, f"equilibrium of the pick: {level:.3g}")
    ax.set(title=title, xlabel="epoch", ylabel="share of the batch", ylim=(0, 1.02))
    ax.legend()
    return fig


def compare_curves(groups: dict, column, title: str, ylabel: str, ax=None, levels: dict | None = None) -> Figure:
    """One quantity of several systems over the epochs.

    groups: name -> History or list of them (seeds); column: its name, or a function History -> array;
    levels: name -> value, drawn as dashed lines
    """
    fig, ax = new_figure() if ax is None else (ax.figure, ax)
    for index, (name, histories) in enumerate(groups.items()):
        runs = _as_runs(histories)
        curves = [run[column] if isinstance(column, str) else column(run) for run in runs]
        draw_curve(ax, curves, name, index, seeds=_seeds(runs))
    for name, value in (levels or {}).items():
        mark_level(ax, value, name)
    ax.set(title=title, xlabel="epoch", ylabel=ylabel)
    ax.legend()
    return fig


def quality_curves(groups: dict, key: str, title: str, ylabel: str, ax=None, levels: dict | None = None) -> Figure:
    """One quality number of recorded runs over the epochs, logarithmic, at which all runs of a group were measured.

    groups: name -> list of ``records.Record``; key: the number's name; levels: name -> value, drawn as dashed lines
    """
    fig, ax = new_figure() if ax is None else (ax.figure, ax)
    ticks = set()
    for index, (name, found) in enumerate(groups.items()):
        if epochs := sorted(set.intersection(*(set(run.quality) for run in found))):
            curves = [[run.quality[epoch]["mixture"][key] for epoch in epochs] for run in found]
            draw_curve(ax, curves, name, index, epochs, _seeds([run.history for run in found]))
            ticks.update(epochs)
    for name, value in (levels or {}).items():
        mark_level(ax, value, name)
    ax.set(title=title, xlabel="epoch (log scale)", ylabel=ylabel, xscale="log")
    if ticks:
        named = []  # from the last epoch back, those whose names have room beside each other on a logarithmic axis
        for tick in sorted(ticks, reverse=True):
            if not named or tick <= named[-1] / 1.6:
                named.append(tick)
        ax.set_xticks(sorted(ticks), labels=[tick if tick in named else "" for tick in sorted(ticks)])
        ax.minorticks_off()
        ax.legend()
    return fig


# ---- images --------------------------------------------------------------------------------------------------------


def as_array(values) -> np.ndarray:
    """Numbers as a numpy array; a tensor may lie on a GPU."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def tile(images, columns: int = 8, gap: int = 1) -> np.ndarray:
    """(n, C, H, W) images, uint8 or float in [-1, 1], side by side: (height, width) or (height, width, 3), 0 to 255."""
    images = as_array(images)
    if images.dtype != np.uint8:
        images = ((images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet.squeeze(2) if channels == 1 else sheet


def show_tile(ax, images, title: str, columns: int = 8) -> None:
    """Draw images as one sheet on an axes."""
    ax.imshow(tile(images, columns), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(title)
    ax.set_axis_off()


def sample_grids(grids: dict[str, np.ndarray], title: str, columns: int = 8, height: float = 3.4) -> Figure:
    """Sheets of samples side by side, one per name (the paper's Fig. 5). grids: name -> (n, C, H, W)."""
    fig, axes = new_figure(len(grids), width=max(3.0 * len(grids), 4.0), height=height, squeeze=False)
    for ax, (name, images) in zip(axes[0], grids.items(), strict=True):
        show_tile(ax, images, name, columns)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def grids_over_epochs(history: History, title: str, columns: int = 5, count: int = 25, generator: int = 0) -> Figure:
    """What the same latents become as training goes on: one sheet per kept epoch."""
    grids = {f"epoch {epoch}": grid[generator][:count] for epoch, grid in sorted(history.grids.items())}
    return sample_grids(grids, title, columns)


def scatter_points(ax, real, fake, title: str) -> None:
    """Real points (N, 2) as grey dots, generated ones as marks: (N, 2), or (K, N, 2) with a mark per generator."""
    real, fake = as_array(real), as_array(fake)
    ax.scatter(*real[:1000].T, s=4, color="0.6", label="real")
    several = fake if fake.ndim == 3 and len(fake) > 1 else fake.reshape(1, -1, 2)
    for k, points in enumerate(several):
        style = {"marker": "x+12"[k % 4], "color": COLOURS[(k + 1) % len(COLOURS)], "linewidth": 0.8}
        name = "generated" if len(several) == 1 else f"generator {k + 1}"
        ax.scatter(*points[:1000].T, s=12 if k < 2 else 20, label=name, **style)
    ax.set(title=title, xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xlabel="x", ylabel="y")


def landscape(ax, discriminator, title: str, resolution: int = 60, is_probability: bool = True) -> None:
    """D's probability that a point is real, over the square [-1.1, 1.1] x [-1.1, 1.1], as a heat map.

    A critic's score is no probability: with ``is_probability=False`` the score itself is drawn, on its own scale.
    """
    axis = torch.linspace(-1.1, 1.1, resolution)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        device = next(discriminator.parameters()).device
        value = discriminator(points.to(device)).cpu().view(resolution, resolution).T
    value, (low, high) = (value.sigmoid(), (0, 1)) if is_probability else (value, (None, None))
    x, value = axis.numpy(), value.numpy()
    mesh = ax.pcolormesh(x, x, value, cmap="cividis", vmin=low, vmax=high, shading="nearest")
    if is_probability and value.min() < 0.5 < value.max():
        ax.contour(x, x, value, levels=[0.5], colors="white", linewidths=1)
    ax.set(title=title, xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xlabel="x", ylabel="y")
    ax.grid(False)
    label = "D(x): probability of real" if is_probability else "score of D"
    ax.figure.colorbar(mesh, ax=ax, label=label, shrink=0.8)
