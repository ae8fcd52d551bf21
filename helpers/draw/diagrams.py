"""Drawings that are not curves: systems as boxes and arrows, Algorithm 1 as a decision, a matrix as circle and ellipse,
intervals, shares, verdicts.

Like ``figures`` it returns matplotlib Figures, reads no file and trains nothing. Solid arrows carry data, dashed ones
carry a loss back to the network it updates.
"""

from math import isnan

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers.draw.figures import BLACK, COLOURS, line_style, new_figure
from helpers.evidence.claims import DEPENDS, FAILS, HOLDS, NOT_MEASURED, UNSETTLED

PALE = {"data": "#FFF3D6", "generator": "#DCEBF7", "discriminator": "#F9DFCF", "loss": "#FFFFFF"}


def draw_boxes(ax, boxes: dict[str, tuple], arrows: list[tuple]) -> None:
    """Boxes joined by arrows, on an axes of which only x from 0 to 10 is fixed.

    boxes: name -> (x, y, text, kind), x and y of the centre, kind a key of PALE
    arrows: (from, to, text, curvature); a curvature other than 0 bends the arrow and draws it dashed
    """
    patches = {}
    for name, (x, y, text, kind) in boxes.items():
        frame = {"boxstyle": "round,pad=0.45", "facecolor": PALE[kind], "edgecolor": BLACK}
        patches[name] = ax.text(x, y, text, ha="center", va="center", fontsize=9, bbox=frame, zorder=3)
    ax.figure.canvas.draw()  # the frames get their sizes here
    for start, end, text, curvature in arrows:
        style = {
            "arrowstyle": "-|>",
            "color": BLACK,
            "linewidth": 1.2,
            "mutation_scale": 12,
            "shrinkA": 1,
            "shrinkB": 1,
        }
        style |= {"patchA": patches[start].get_bbox_patch(), "patchB": patches[end].get_bbox_patch()}
        if curvature:
            style |= {"connectionstyle": f"arc3,rad={curvature}", "linestyle": (0, (4, 3)), "color": COLOURS[1]}
        (x0, y0), (x1, y1) = boxes[start][:2], boxes[end][:2]
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=style, zorder=2)
        if text:
            ax.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.12, text, ha="center", va="bottom", fontsize=8)
    ax.set_axis_off()


def architecture(count: int, title: str, spectral: bool = False) -> Figure:
    """GAN or SNGAN (count = 1) or PSG-GAN with ``count`` generators: what goes where, and what a loss updates.

    Drawn after Figs 1 and 2 of the PSG-GAN paper.
    """
    fig, ax = new_figure(width=9, height=1.5 + 0.85 * count)
    norm = "\nspectral norm\nin every layer" if spectral else ""
    middle = (count + 1) / 2
    boxes = {
        "x": (0.6, 0, "real images\n$x$", "data"),
        "d": (6.4, middle / 2, "Discriminator\n$D$" + norm, "discriminator"),
        "loss": (9.2, middle / 2, "each image's score\n$\\Rightarrow$ losses", "loss"),
    }
    arrows = [("x", "d", "", 0), ("d", "loss", "scores", 0), ("loss", "d", "", 0.45)]
    for k in range(1, count + 1):
        number, y = (f"_{k}" if count > 1 else ""), count + 1 - k
        boxes |= {
            f"z{k}": (0.6, y, f"latents $z{number}$", "data"),
            f"g{k}": (2.7, y, f"Generator $G{number}$", "generator"),
            f"f{k}": (4.5, y, f"fakes $G{number}(z{number})$", "data"),
        }
        arrows += [(f"z{k}", f"g{k}", "", 0), (f"g{k}", f"f{k}", "", 0), (f"f{k}", "d", "", 0)]
        arrows += [("loss", f"g{k}", "", 0.3 if k == 1 else 0.22)]
    draw_boxes(ax, boxes, arrows)
    ax.set(title=title, xlim=(-0.4, 10.2), ylim=(-0.6, count + 1.1))
    return fig


def algorithm1(title: str) -> Figure:
    """Algorithm 1 of the PSG-GAN paper for two generators: who wins the triple, who is updated."""
    fig, ax = new_figure(width=9, height=3.1)
    boxes = {"ask": (5, 2.5, "scores of $x$, $G_1(z_1)$, $G_2(z_2)$:  which is the highest?", "discriminator")}
    cases = (
        ("$G_1(z_1)$", "update $G_2$ and $D$"),
        ("$G_2(z_2)$", "update $G_1$ and $D$"),
        ("$x$", "update $G_1$ and $G_2$\nwith their average loss\n($D$: not named)"),
    )
    arrows = []
    for k, (winner, update) in enumerate(cases):
        x = 1.5 + 3.5 * k
        boxes |= {f"w{k}": (x, 1.5, winner, "data"), f"u{k}": (x, 0.3, update, "generator")}
        arrows += [("ask", f"w{k}", "", 0), (f"w{k}", f"u{k}", "", 0)]
    draw_boxes(ax, boxes, arrows)
    ax.set(title=title, xlim=(0, 10), ylim=(-0.4, 2.9))
    return fig


def circle_to_ellipse(weight, vectors, title: str) -> Figure:
    """What a matrix W (2, 2) does to the unit circle and to unit vectors on it; the longest on the right is sigma(W).

    vectors: (n, 2), the last one is drawn bold and its stretch |Wv| is written beside it
    """
    weight, vectors = np.asarray(weight, dtype=float), np.asarray(vectors, dtype=float)
    angles = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    left, stretches, right = np.linalg.svd(weight)
    fig, axes = new_figure(2, width=8.5, height=4)
    reach = 1.15 * max(1, stretches[0])
    for ax, shape, arrows, axis, name in (
        (axes[0], circle, vectors, right[0], "$v$, of length 1"),
        (axes[1], weight @ circle, vectors @ weight.T, stretches[0] * left[:, 0], "$Wv$"),
    ):
        ax.plot(*shape, color="0.5", linewidth=1.2)
        ax.plot(*np.stack([-axis, axis]).T, **line_style(2) | {"linewidth": 1.2}, label="stretched most")
        for place, (x, y) in enumerate(arrows):
            last = place == len(arrows) - 1
            style = {"color": COLOURS[1], "width": 0.012 if last else 0.006, "alpha": 1 if last else 0.35}
            ax.quiver(0, 0, x, y, angles="xy", scale_units="xy", scale=1, label=name if last else None, **style)
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="first coordinate")
        ax.legend(loc="lower right", fontsize=8)
    axes[0].set(title="before: the unit circle", ylabel="second coordinate")
    length = np.linalg.norm(weight @ vectors[-1])
    axes[1].set_title(f"after: |Wv| = {length:.3f}, at most {stretches[0]:.3f}")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def intervals(groups: dict, measure: str, ax=None, title: str | None = None, floor: float | None = None) -> Figure:
    """Means with their 95 % intervals and a thin mark for every seed, one row each; a hollow mark is a single seed.

    The axis spans the seeds: of a wide interval, as three seeds may give, it shows what fits.
    groups: name -> an object with mean, low, high, values (``inference.Interval``); rows whose mean is NaN stay empty
    floor: what real images score, a dashed line
    """
    fig, ax = new_figure(width=6, height=1.2 + 0.3 * len(groups)) if ax is None else (ax.figure, ax)
    known = {name: each.mean for name, each in groups.items() if not isnan(each.mean)}
    for index, each in enumerate(groups.values()):
        colour = COLOURS[index % len(COLOURS)]
        ax.plot(each.values, [index] * len(each.values), "|", color=colour, alpha=0.6, markersize=9)
        ax.plot(each.mean, index, "o", color=colour, markerfacecolor="white" if isnan(each.low) else colour)
    if floor is not None:
        ax.axvline(floor, color=BLACK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7)
        measure += f" (dashed, real: {floor:.2g})"
    limits = ax.get_xlim()
    for index, each in enumerate(groups.values()):
        ax.plot([each.low, each.high], [index, index], **line_style(index))
    title = title or (f"Lowest mean: {min(known, key=known.get)}" if known else "Not measured")
    ax.set(title=title, xlabel=measure, xlim=limits, yticks=range(len(groups)), yticklabels=list(groups))
    ax.locator_params(axis="x", nbins=4)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    return fig


def dumbbells(rows: dict[str, tuple], names: tuple[str, str], title: str, xlabel: str, floor: float | None = None):
    """Two numbers of every seed, joined: a filled mark for the first, a hollow one for the second, on a log axis.

    rows: name -> (first values, second values), one of each per seed; floor: what real images score, a dashed line
    """
    fig, ax = new_figure(width=8, height=1.3 + 0.5 * len(rows))
    for index, (first, second) in enumerate(rows.values()):
        colour = COLOURS[index % len(COLOURS)]
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            y = index + 0.16 * (place - (len(first) - 1) / 2)
            ax.plot([one, other], [y, y], color=colour, linewidth=1, zorder=1)
            ax.plot(one, y, "o", color=colour, markersize=6)
            ax.plot(other, y, "o", color=colour, markerfacecolor="white", markersize=6)
    for face, name in zip((BLACK, "white"), names, strict=True):
        ax.plot([], [], "o", color=BLACK, markerfacecolor=face, label=name)
    if floor is not None:
        ax.axvline(floor, color=BLACK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7, label=f"real: {floor:.2g}")
    ax.set(title=title, xlabel=xlabel, xscale="log", yticks=range(len(rows)), yticklabels=list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return fig


def verdicts(rows: dict[str, dict[str, str]], methods: list[str], title: str) -> Figure:
    """A cell for each claim and method with its verdict as a word; the shade repeats it.

    rows: claim -> method -> verdict, a word of ``helpers.evidence.claims``; methods: the columns
    """
    shades = {HOLDS: "#cfe8d8", FAILS: "#f3cfb3", DEPENDS: "#f7ecc0", UNSETTLED: "#dcdcec"}
    fig, ax = new_figure(width=11, height=0.8 + 0.42 * len(rows))
    for y, each in enumerate(rows.values()):
        for x, method in enumerate(methods):
            verdict = each.get(method, NOT_MEASURED)
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=shades.get(verdict, "white"), edgecolor="0.6"))
            ax.text(x + 0.5, y + 0.5, verdict, ha="center", va="center", fontsize=10)
    ax.set(title=title, xlim=(0, len(methods)), ylim=(len(rows), 0))
    ax.set_xticks([x + 0.5 for x in range(len(methods))], methods)
    ax.set_yticks([y + 0.5 for y in range(len(rows))], list(rows))
    ax.tick_params(length=0)
    ax.grid(False)
    return fig


def specification_curve(
    outcomes, high: dict[str, dict[str, bool]], choices: dict[str, tuple[str, str, str]], title: str
) -> Figure:
    """A specification curve: the ratio of FIDs sorted, the gap's reduction below it, and each specification's choices.

    outcomes: in the order to be drawn, objects with name, fid_ratio, reduction and reduction_halved
    (``evidence.specifications.Outcome``); high: specification -> choice -> whether it has the high level, also of
    those without an outcome, which come last; choices: name -> (words, low level, high level)
    A filled square is a choice's high level; the specification named "centre" has a ring around its mark.
    """
    fig, (top, middle, bottom) = new_figure(1, 3, width=10, height=7.4, sharex=True, height_ratios=(2, 2, 1.7))
    places = np.arange(len(outcomes))
    centre = [place for place, outcome in enumerate(outcomes) if outcome.name == "centre"]
    for ax, label, name, style, mark in (
        (top, "PSG-GAN / SNGAN", "fid_ratio", 0, "o"),
        (middle, "with L_D as it is", "reduction", 0, "o"),
        (middle, "with L_D/2", "reduction_halved", 1, "^"),
    ):
        values = np.array([getattr(outcome, name) for outcome in outcomes])
        ax.plot(places, values, mark, label=label, color=COLOURS[style], markersize=7)
        ax.plot(centre, values[centre], "o", markersize=14, markerfacecolor="none", markeredgecolor=BLACK)
    top.axhline(1, color=BLACK, linewidth=0.9, linestyle=(0, (4, 3)))
    top.set(title=title, ylabel="FID, PSG-GAN / SNGAN\n(log; below 1: better)", yscale="log")
    middle.axhspan(0.2, 0.6, color="0.85", zorder=0, label="about 40 %: 20 % to 60 %")
    middle.set(ylabel="reduction of the gap\n(1: no gap)")
    middle.set_yscale("symlog", linthresh=1)
    middle.legend(fontsize=8, ncols=3)
    names = [outcome.name for outcome in outcomes]
    names += [name for name in high if name not in names]
    if len(names) > len(outcomes):
        for ax in (top, middle):
            ax.axvspan(len(outcomes) - 0.5, len(names) - 0.5, color="0.93", zorder=0)
            ax.text(
                (len(outcomes) + len(names) - 1) / 2,
                0.5,
                "not recorded",
                ha="center",
                transform=ax.get_xaxis_transform(),
            )
    for row, choice in enumerate(choices):
        for place, name in enumerate(names):
            if name != "centre":
                face = BLACK if high[name][choice] else "white"
                bottom.plot(place, row, "s", color=BLACK, markerfacecolor=face, markersize=8)
    labels = [f"{words}: {low} □, {high} ■" for words, low, high in choices.values()]
    bottom.set_yticks(range(len(choices)), labels, fontsize=8)
    bottom.set(ylim=(len(choices) - 0.5, -0.5), xlabel="specification (ringed: ours)", xlim=(-0.6, len(names) - 0.4))
    bottom.set_xticks(range(len(names)), names, rotation=45)
    bottom.grid(False)
    return fig


def effects(panels: dict[str, dict], clear: dict[str, list[str]], labels: dict[str, str], title: str) -> Figure:
    """Factors with their 95 % intervals, one panel per quantity and one row per choice, on a log axis with a line at 1.

    panels: quantity -> choice -> an object with mean and ends (``inference.Effect``); clear: quantity -> those of its
    choices that have a filled mark; labels: choice -> words
    """
    fig, axes = new_figure(len(panels), width=12.5, height=1.5 + 0.3 * len(labels), sharey=True, sharex=True)
    for ax, (quantity, each) in zip(axes, panels.items(), strict=True):
        for row, choice in enumerate(labels):
            effect, face = each[choice], BLACK if choice in clear[quantity] else "white"
            ax.plot(effect.ends, [row, row], color=BLACK, linewidth=1.2, zorder=1)
            ax.plot(effect.mean, row, "o", color=BLACK, markerfacecolor=face, markersize=7)
        ax.axvline(1, color=BLACK, linewidth=0.9, linestyle=(0, (4, 3)))
        ax.set(title=quantity, xscale="log", xlabel="factor")
    axes[0].set_yticks(range(len(labels)), list(labels.values()), fontsize=9)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def shares(rows: dict[str, list[float]], title: str) -> Figure:
    """How the samples of each row divide among classes: per cent in words, and as shade."""
    fig, ax = new_figure(width=9, height=0.9 + 0.32 * len(rows))
    values = 100 * np.array(list(rows.values()))
    ax.imshow(values, cmap="Blues", vmin=0, vmax=60, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        ax.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if value > 35 else "black")
    ax.set(title=title, xlabel="digit (numbers: per cent of the samples)", xticks=range(values.shape[1]))
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    ax.grid(False)
    return fig
