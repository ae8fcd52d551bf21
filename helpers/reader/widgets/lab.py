"""The GAN laboratory: a GAN on points in the plane, played, paused and moved by hand."""

import base64
import threading

import ipywidgets
import numpy as np
import torch
from matplotlib.colors import LogNorm

from helpers.data import grid_of_gaussians, ring_of_gaussians
from helpers.device import seeded
from helpers.draw import figures, slopes
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.objectives import GAN, LSGAN, PSG, WGAN, Hinge
from helpers.gan.training import Settings, Trainer
from helpers.measure.quality import mode_coverage
from helpers.reader.widgets.panels import Panel

FRAME = 20  # steps from one picture to the next
STD = 0.04  # of the modes: wide enough for networks of this size to find them within some hundred steps
SCALE = (0.01, 10.0)  # the slopes that the colours span; fixed, so that pictures can be compared
NO_PRESET = "my own"


class GanLab(Panel):
    """A GAN on points in the plane. Play trains both sides, a picture every 20 steps; either side moves alone, too.

    The picture shows the slope that G feels, the sheet that G folds out of a square of latents, and the modes covered
    over the steps. D's pace, a factor on its learning rate, can be changed in the middle of a game; every other control
    starts a new one. Where no kernel runs, six moments of the game remain (``strip``).

    preset: a name in PRESETS; steps: how many of them Play takes; alt: describes the six moments
    choices: other controls that differ from the preset, such as count=2, pace=5.0 (see DEFAULTS)
    """

    DATA = {"ring of 8": ring_of_gaussians, "grid of 25": grid_of_gaussians}
    LOSSES = {"GAN": GAN, "GAN, minimax": lambda: GAN(minimax=True), "PSG, Algorithm 1": lambda: PSG(rule="algorithm1"),
              "LSGAN": LSGAN, "WGAN": WGAN, "hinge": Hinge}  # fmt: skip
    COUNTS = (1, 2, 4)
    PACES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    DEFAULTS = {"data": "ring of 8", "count": 1, "loss": "GAN", "spectral": False, "pace": 1.0}
    PRESETS = {  # what differs from DEFAULTS
        "collapse": {},
        "quick D": {"pace": 5.0},
        "four generators": {"count": 4},
        "spectral norm": {"spectral": True},
    }

    def __init__(self, alt: str, preset: str = "collapse", steps: int = 300, seed: int = 0, **choices):
        if preset not in self.PRESETS:
            raise ValueError(f"preset={preset!r}; allowed: {', '.join(map(repr, self.PRESETS))}")
        if unknown := set(choices) - set(self.DEFAULTS):
            raise ValueError(f"choices={sorted(unknown)}; allowed: {', '.join(map(repr, self.DEFAULTS))}")
        lists = {"data": self.DATA, "count": self.COUNTS, "loss": self.LOSSES, "pace": self.PACES}
        for name in lists.keys() & choices.keys():
            if choices[name] not in list(lists[name]):
                raise ValueError(f"{name}={choices[name]!r}; allowed: {', '.join(map(repr, lists[name]))}")
        self.steps, self.seed = steps, seed
        self.preset = ipywidgets.Dropdown(options=[*self.PRESETS, NO_PRESET], description="preset")
        self.data = ipywidgets.Dropdown(options=list(self.DATA), description="data")
        self.count = ipywidgets.Dropdown(options=self.COUNTS, description="generators")
        self.loss = ipywidgets.Dropdown(options=list(self.LOSSES), description="loss")
        self.spectral = ipywidgets.Checkbox(description="spectral norm on D", indent=False)
        self.pace = ipywidgets.SelectionSlider(
            options=[(f"{pace:g}", pace) for pace in self.PACES],
            value=1.0,
            description="D's pace ×",
            continuous_update=False,
        )
        controls = (self.preset, self.data, self.count, self.loss, self.spectral, self.pace)
        for control in controls:
            control.layout.width = "300px" if control is self.pace else "220px"
        buttons = {
            f"Play {steps} steps": ("train both in turn, with a picture every 20 steps", self.play),
            "Pause": ("hold the game here; Play takes it on from here", self.pause),
            f"D alone: {FRAME} steps": ("train only the discriminator", lambda: self.move(generators=False)),
            f"G alone: {FRAME} steps": ("train only the generators", lambda: self.move(discriminator=False)),
            "Start again": ("new networks from the same seed", self.reset),
        }
        self._go, self._thread = threading.Event(), None
        self._choose(self.DEFAULTS | self.PRESETS[preset] | choices)
        self._name_preset()
        self._new_players()
        super().__init__(self._draw, alt, controls, buttons)
        self.buttons["Pause"].add_class("no-picture")  # for the browser test
        self._say()
        self.preset.observe(self._take_preset, "value")
        self.pace.observe(self._take_pace, "value")
        for name in ("data", "count", "loss", "spectral"):
            getattr(self, name).observe(self._take_choice, "value")

    # ---- the game --------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Train both sides for ``steps`` steps, in the background, with a picture after each frame."""
        if self._thread is not None and self._thread.is_alive() and self._go.is_set():
            return
        self.wait()
        self._go.set()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Hold the game after the frame under way."""
        self._go.clear()
        self.wait()
        self._say()

    def wait(self) -> None:
        """Return when the game stands still."""
        if self._thread is not None:
            self._thread.join()

    def move(self, discriminator: bool = True, generators: bool = True, steps: int = FRAME) -> None:
        """Take so many steps with one side or both, and draw the outcome."""
        self.pause()
        while steps > 0:
            self._frame(discriminator, generators, min(steps, FRAME))
            steps -= FRAME
        self._say()
        self.redraw()

    def reset(self) -> None:
        """New networks for the chosen data, loss and number of generators."""
        self.pause()
        self._new_players()
        self._say()
        self.redraw()

    def _play(self) -> None:
        try:
            remaining = self.steps
            while remaining > 0 and self._go.is_set():
                self._frame(True, True, min(remaining, FRAME))
                remaining -= FRAME
                self._say()
                self.redraw()
        except Exception as error:  # which would vanish with the thread
            self.status.value = f"the game failed: {error}"
            raise

    def _frame(self, discriminator: bool, generators: bool, steps: int) -> None:
        """Some steps, and a snapshot of where they led."""
        trainer = self.trainer
        for _ in range(steps):
            real, _ = trainer.next_batch()
            fakes = trainer.generate(len(real))
            if discriminator:
                seen, _ = trainer.discriminator_step(real, fakes)
            else:
                with torch.no_grad():
                    scores = trainer.score(torch.cat([real, *fakes])).split(len(real))
                seen = scores[0], torch.stack(scores[1:])
            if generators:
                trainer.generator_step(fakes, seen)
            self.moves = [self.moves[0] + discriminator, self.moves[1] + generators]
        self._remember(steps)

    def _remember(self, steps: int) -> None:
        """Keep this moment: (step, snapshot, modes covered)."""
        step = self.frames[-1][0] + steps if self.frames else 0
        covered = mode_coverage(self.trainer.sample(count=1000).flatten(0, 1), self.points.centres, STD)
        self.frames.append((step, slopes.Snapshot.of(self.trainer, count=100), covered["modes_covered"]))

    def _new_players(self) -> None:
        self.points, self.moves, self.frames = self.DATA[self.data.value](std=STD), [0, 0], []
        with seeded(self.seed):  # the reader's own random numbers stay as they are
            generators = [Generator(2, (2,), hidden=(64, 64)) for _ in range(self.count.value)]
            discriminator = Discriminator((2,), hidden=(64, 64), spectral=self.spectral.value)
        settings = Settings(batch_size=256, learning_rate=1e-3, seed=self.seed)
        self.trainer = Trainer(generators, discriminator, self.LOSSES[self.loss.value](), self.points.images, settings)
        self._set_pace()
        self._remember(0)

    def _set_pace(self) -> None:
        for group in self.trainer.optimizer_d.param_groups:
            group["lr"] = self.trainer.settings.learning_rate * self.pace.value

    # ---- the controls ----------------------------------------------------------------------------------------------

    def _chosen(self) -> dict:
        return {name: getattr(self, name).value for name in self.DEFAULTS}

    def _choose(self, values: dict) -> None:
        self._choosing = True  # one new game for all that changes, not one for each
        try:
            for name, value in values.items():
                getattr(self, name).value = value
        finally:
            self._choosing = False

    def _take_preset(self, _change) -> None:
        wanted = self.DEFAULTS | self.PRESETS.get(self.preset.value, self._chosen())
        if wanted != self._chosen():
            self._choose(wanted)
            self.reset()

    def _name_preset(self) -> None:
        chosen = self._chosen()
        names = (name for name, values in self.PRESETS.items() if self.DEFAULTS | values == chosen)
        self.preset.value = next(names, NO_PRESET)

    def _take_choice(self, _change) -> None:
        if not self._choosing:
            self._name_preset()
            self.reset()

    def _take_pace(self, _change) -> None:
        if not self._choosing:
            self._set_pace()
            self._name_preset()
            self.redraw()

    # ---- the pictures ----------------------------------------------------------------------------------------------

    def _say(self) -> None:
        *_, covered = self.frames[-1]
        self.status.value = (
            f"D took {self.moves[0]} steps, G {self.moves[1]}; "
            f"{covered:.0f} of {len(self.points.centres)} modes are covered"
        )

    def _rules(self) -> str:
        count = self.count.value
        parts = [self.data.value, "one generator" if count == 1 else f"{count} generators", f"loss: {self.loss.value}"]
        parts += ["spectral norm"] if self.spectral.value else []
        return ", ".join([*parts, f"D's pace × {self.pace.value:g}"])

    def _draw(self):
        fig, axes = figures.new_figure(3, width=12.5, height=4.2, width_ratios=(1.12, 1, 1))
        fig.set_layout_engine(None)  # measuring the layout would double the time of a redraw
        fig.subplots_adjust(left=0.01, right=0.99, bottom=0.11, top=0.86, wspace=0.12)
        _, moment, covered = self.frames[-1]
        title = "The slope that G feels: {slope} at the fakes"
        arrows = slopes.slope_field(axes[0], moment, title, self.points.images, LogNorm(*SCALE, clip=True))
        fig.colorbar(arrows, ax=axes[0], shrink=0.8, pad=0.02, format="%g").minorticks_off()
        self._draw_sheet(axes[1], f"The sheet that G folds covers {covered:.0f} of {len(self.points.centres)} modes")
        self._draw_course(axes[2])
        fig.suptitle(f"Step {self.frames[-1][0]}: {self._rules()}", x=0.01, ha="left", fontsize=11)
        return fig

    def _draw_sheet(self, ax, title: str) -> None:
        """What every generator makes of a square grid of latents, over real points."""
        axis = torch.linspace(-2, 2, 13)
        square = torch.cartesian_prod(axis, axis)
        for k, generator in enumerate(self.trainer.generators):
            with torch.no_grad():
                mesh = generator(square).view(13, 13, 2)
            for lines in (mesh, mesh.transpose(0, 1)):
                ax.plot(*lines.permute(2, 1, 0), color=figures.COLOURS[k + 1], linewidth=0.7, alpha=0.8)
        ax.scatter(*self.points.images[:1000].T, s=4, color="0.4", zorder=3)
        edge = slopes.EDGE
        ax.set(title=title, xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])

    def _draw_course(self, ax) -> None:
        """Modes covered over the steps."""
        steps, _, covered = zip(*self.frames, strict=True)
        modes = len(self.points.centres)
        ax.plot(steps, covered, marker="o", markersize=3, **figures.line_style(0))
        figures.mark_level(ax, modes, f"all {modes} modes", below=True)
        ax.set(title="Modes covered", xlabel="steps", xlim=(0, max(self.steps, steps[-1])), ylim=(-0.3, 1.05 * modes))
        ax.set_yticks(range(0, modes + 1, max(modes // 4, 1)))

    def strip(self):
        """Six moments of this game, and the modes covered over its steps: what remains where no kernel runs."""
        chosen = sorted(set(np.linspace(0, len(self.frames) - 1, 6).round().astype(int)))
        fig, axes = figures.new_figure(len(chosen), 2, width=14, height=4.8, squeeze=False, height_ratios=(1.5, 1))
        for ax in axes[1]:
            ax.remove()
        norm = LogNorm(*SCALE, clip=True)
        for ax, (step, moment, covered) in zip(axes[0], (self.frames[index] for index in chosen), strict=True):
            title = f"step {step}: {covered:.0f} covered"
            arrows = slopes.slope_field(ax, moment, title, self.points.images, norm, resolution=11)
        bar = fig.colorbar(arrows, ax=list(axes[0]), shrink=0.9, pad=0.01, format="%g")
        bar.set_label("slope that G feels", fontsize=8)
        bar.minorticks_off()
        course = fig.add_subplot(axes[1, 0].get_gridspec()[1, :])
        self._draw_course(course)
        course.plot([self.frames[i][0] for i in chosen], [self.frames[i][2] for i in chosen], "o", color=figures.BLUE)
        fig.suptitle(self._rules(), x=0.01, ha="left", fontsize=11)
        return fig

    def still(self) -> str:
        """The strip, as base64 PNG."""
        return base64.b64encode(figures.to_png(self.strip(), 80)).decode()
