"""The slope that G feels: for points in the plane, the arrows along which the generator's loss falls.

G sees no real point. All it learns is -grad_x of its loss at its fakes, the direction in which D's verdict on each of
them improves. ``slope_fields`` draws these arrows all over the plane, side by side for several games or several moments
of one, with one scale of colours, so that panels can be compared; ``Snapshot`` is a moment that was kept.
"""

from copy import deepcopy
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from torch import Tensor, nn

from helpers.draw.figures import BLACK, COLOURS, new_figure
from helpers.gan.networks import MinibatchStd
from helpers.gan.objectives import Objective
from helpers.gan.training import Trainer
from helpers.measure.quality import felt_slopes

EDGE = 1.1  # the square that is drawn goes from -EDGE to EDGE
MARKS = "o^sD"  # of generator 1, 2, ...; their colours are those of all figures
# Nine colours and ten greys: steps are easier to tell apart than shades, and a small picture can hold them all.
SHADES = ListedColormap(mpl.colormaps["viridis_r"](np.linspace(0.08, 1, 9)))
GREYS = ListedColormap([str(grey) for grey in np.linspace(0.7, 1, 10)])
DECADES = 3  # the colours span a factor of 1,000, unless limits are given


@dataclass(frozen=True)
class Snapshot:
    """One moment of a game on points: a copy of D, the game's rules and the fakes, (K, N, 2) on the CPU.

    ValueError where D sees groups (``MinibatchStd``) and N fakes do not fill one.
    """

    discriminator: nn.Module
    objective: Objective
    fakes: Tensor

    def __post_init__(self):
        if self.fakes.shape[1] < self.group:
            raise ValueError(f"{self.fakes.shape[1]} fakes of each generator; allowed: a group of {self.group} or more")

    @classmethod
    def of(cls, trainer: Trainer, count: int = 200) -> "Snapshot":
        """The moment at which a trainer stands; it can go on without changing the snapshot."""
        discriminator = deepcopy(trainer.discriminator).eval()  # eval: spectral norm stays as it is
        return cls(discriminator, trainer.objective, trainer.sample(count).cpu())

    @property
    def group(self) -> int:
        """How many samples D judges together: 1, unless it has a ``MinibatchStd``."""
        return next((layer.group for layer in self.discriminator.modules() if isinstance(layer, MinibatchStd)), 1)

    def scores(self, points: Tensor) -> Tensor:
        """D's scores of groups, each led by one of the points (N, 2): (1, N, 1) where D judges points alone.

        Where it sees groups, (K, N, group): each generator's fakes complete each point to a group, the same fakes for
        all points, for in training a fake is never judged among its neighbours on a grid.
        """
        companions = self.fakes[:, : self.group - 1] if self.group > 1 else self.fakes[:1, :0]
        companions = companions.to(points.device)[:, None].expand(-1, len(points), -1, -1)
        groups = torch.cat([points.expand(len(companions), -1, -1)[:, :, None], companions], dim=2)
        return self.discriminator(groups.flatten(0, 2)).view(groups.shape[:3])

    def slopes(self, points: Tensor) -> Tensor:
        """-grad_x of G's loss at points (N, 2), on the CPU.

        Where D sees groups, it is that of the loss of the point's whole group, the mean over the generators that
        complete it.
        """
        felt = felt_slopes(lambda x: self.scores(x).flatten(), self.objective, points.to(self.device))
        return felt.cpu() / (len(self.fakes) if self.group > 1 else 1)

    def slopes_at_fakes(self) -> Tensor:
        """-grad_x of G's loss at the fakes, (K, N, 2), on the CPU: in groups of one generator each, as in training.

        Fakes that fill no group are left out.
        """
        whole = self.fakes[:, : self.fakes.shape[1] // self.group * self.group].to(self.device)
        return torch.stack([felt_slopes(self.discriminator, self.objective, points) for points in whole]).cpu()

    def mean_slope(self) -> float:
        """The mean length of the slope at the fakes, over all generators."""
        return self.slopes_at_fakes().norm(dim=2).mean().item()

    def agreement(self) -> float:
        """Whether D sends the fakes of one generator the same way: the length of their arrows' mean direction.

        1: all the same way, to one place; near 0: to places all around. With several generators the mean over them.
        """
        directions = torch.nn.functional.normalize(self.slopes_at_fakes(), dim=2).mean(1)
        return directions.norm(dim=1).mean().item()

    @property
    def device(self) -> torch.device:
        return next(self.discriminator.parameters()).device


def slope_fields(panels: dict, title: str, real: Tensor, limits: tuple | None = None, columns: int = 3) -> Figure:
    """Slope fields side by side, with one colour bar for all.

    panels: the panel's title -> a Trainer whose generators make points, or a Snapshot of one. The title may hold
    ``{slope}`` and ``{agreement}``, which become the snapshot's ``mean_slope`` and ``agreement``.
    real: points (N, 2); limits: the lengths at which the colours begin and end, by default those of all panels
    """
    moments = {name: each if isinstance(each, Snapshot) else Snapshot.of(each) for name, each in panels.items()}
    columns = min(columns, len(moments))
    rows = -(-len(moments) // columns)
    fig, axes = new_figure(columns, rows, width=3.3 * columns + 1.0, height=3.4 * rows + 0.5, squeeze=False)
    norm = LogNorm(*(limits or _common_limits(moments.values())), clip=True)
    for ax, (name, moment) in zip(axes.flat, moments.items(), strict=False):
        arrows = slope_field(ax, moment, name, real, norm)
    for ax in axes.flat[len(moments) :]:
        ax.set_axis_off()
    label = "length of the slope that G feels"
    bar = fig.colorbar(arrows, ax=axes, label=label, shrink=0.8, pad=0.01, format=FuncFormatter(lambda x, _: f"{x:g}"))
    bar.minorticks_off()
    handles = {}
    for ax in axes.flat:
        handles |= {name: handle for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    handles["the darker, the less real D finds a place"] = Patch(facecolor=GREYS(0), edgecolor="0.5")
    fig.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=8, markerscale=1.3)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def slope_field(ax, moment: Snapshot, title: str, real: Tensor, norm, resolution: int = 17):
    """Arrows of -grad_x of G's loss on a grid, real points and fakes; returns the arrows, for a colour bar.

    Colour and length of an arrow both say how long the slope is, on the logarithmic scale of ``norm``. Below lies D's
    verdict, the lighter the more real it thinks a point, in ranks, so that no objective's scale matters.
    """
    _draw_verdict(ax, moment)
    points = _grid(resolution)
    slopes = moment.slopes(points).numpy()
    lengths = np.linalg.norm(slopes, axis=1).clip(1e-30)
    drawn = slopes / lengths[:, None] * (0.25 + 0.75 * norm(lengths).data)[:, None]
    spacing = 2 * EDGE / resolution
    arrows = ax.quiver(*points.numpy().T, *drawn.T, lengths, cmap=SHADES, norm=norm, pivot="mid", angles="xy",
                       scale_units="xy", scale=1 / spacing, width=0.006, headwidth=4.5, headlength=5)  # fmt: skip
    ax.scatter(*real[:500].cpu().T, s=3, color=BLACK, alpha=0.5, linewidth=0, label="real", zorder=2)
    for k, points in enumerate(moment.fakes):
        style = {"marker": MARKS[k % len(MARKS)], "facecolor": COLOURS[(k + 1) % len(COLOURS)]}
        name = "fakes" if len(moment.fakes) == 1 else f"fakes of G{k + 1}"
        ax.scatter(*points.T, s=14, edgecolor="white", linewidth=0.5, label=name, zorder=3, **style)
    title = title.format(slope=_short(moment.mean_slope()), agreement=_short(moment.agreement()))
    ax.set(title=title, xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE),
           aspect="equal", xticks=[], yticks=[])  # fmt: skip
    ax.grid(False)
    return arrows


def _draw_verdict(ax, moment: Snapshot, resolution: int = 80) -> None:
    """D's verdict as grey, from its least real place (darker) to its most real one (white)."""
    points = _grid(resolution)
    with torch.no_grad():
        verdict = moment.scores(points.to(moment.device))[:, :, 0].mean(0).cpu()
    verdict *= -1 if moment.objective.is_energy else 1
    ranks = verdict.argsort().argsort().view(resolution, resolution).T.numpy()
    ax.imshow(ranks, cmap=GREYS, extent=(-EDGE, EDGE, -EDGE, EDGE), origin="lower", interpolation="nearest", zorder=0)


def _common_limits(moments) -> tuple[float, float]:
    """From the longest slope of all panels down to the shortest, or DECADES below the longest."""
    lengths = torch.cat([moment.slopes(_grid(17)).norm(dim=1) for moment in moments])
    high = max(lengths.max().item(), 1e-6)
    return min(max(lengths.min().item(), high / 10**DECADES), high / 2), high


def _grid(resolution: int) -> Tensor:
    """(resolution ** 2, 2) points, evenly over the square, a half spacing from its edges."""
    axis = torch.linspace(-EDGE, EDGE, resolution + 1)[:-1] + EDGE / resolution
    return torch.cartesian_prod(axis, axis)


def _short(number: float) -> str:
    """Two digits that count, as a reader writes them: under 0.001, 0.34, 3.4, 34, 340."""
    if number < 1e-3:
        return "under 0.001"
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"
