"""The GAN laboratory: a GAN on points in the plane, moved by hand."""

import ipywidgets
import torch

from helpers.data import TOY_STD, grid_of_gaussians, ring_of_gaussians
from helpers.device import seeded
from helpers.draw import figures
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.objectives import GAN, LSGAN, PSG, WGAN, Hinge
from helpers.gan.training import Settings, Trainer
from helpers.measure.quality import mode_coverage
from helpers.reader.widgets.panels import Panel


class GanLab(Panel):
    """A GAN on points in the plane, moved by hand: only D, only G, or both.

    The picture shows D's landscape, the fakes with the direction in which their loss falls, what the generators make of
    a square grid of latents, and how many modes they cover. ``steps`` is what one press of a button takes.
    """

    DATA = {"ring of 8": ring_of_gaussians, "grid of 25": grid_of_gaussians}
    LOSSES = {"GAN": GAN, "GAN, minimax": lambda: GAN(minimax=True), "PSG, Algorithm 1": lambda: PSG(rule="algorithm1"),
              "LSGAN": LSGAN, "WGAN": WGAN, "hinge": Hinge}  # fmt: skip

    def __init__(self, alt: str, steps: int = 20, seed: int = 0):
        self.steps, self.seed = steps, seed
        self.data = ipywidgets.Dropdown(options=list(self.DATA), description="data")
        self.count = ipywidgets.Dropdown(options=[1, 2, 4], description="generators")
        self.loss = ipywidgets.Dropdown(options=list(self.LOSSES), description="loss")
        self.spectral = ipywidgets.Checkbox(description="spectral norm on D", indent=False)
        controls = (self.data, self.count, self.loss, self.spectral)
        for control in controls:
            control.layout.width = "220px"
        buttons = {
            f"D: {steps} steps": ("train only the discriminator", lambda: self.move(True, False)),
            f"G: {steps} steps": ("train only the generators", lambda: self.move(False, True)),
            f"both: {steps} steps": ("train both in turn", lambda: self.move(True, True)),
            f"both: {10 * steps} steps": ("train both in turn, longer", lambda: self.move(True, True, 10)),
            "Start again": ("new networks from the same seed", self.reset),
        }
        self._new_players()
        super().__init__(self._draw, alt, controls, buttons)
        self._say()
        for control in controls:
            control.observe(lambda _change: self.reset(), "value")

    def reset(self) -> None:
        """New networks for the chosen data, loss and number of generators."""
        self._new_players()
        self._say()
        self.redraw()

    def move(self, discriminator: bool, generators: bool, times: int = 1) -> None:
        """Take ``times * steps`` steps with one side or both."""
        trainer = self.trainer
        for _ in range(self.steps * times):
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
        self._say()
        self.redraw()

    def _new_players(self) -> None:
        self.points, self.moves = self.DATA[self.data.value](), [0, 0]
        with seeded(self.seed):  # the reader's own random numbers stay as they are
            generators = [Generator(2, (2,), hidden=(64, 64)) for _ in range(self.count.value)]
            discriminator = Discriminator((2,), hidden=(64, 64), spectral=self.spectral.value)
        settings = Settings(batch_size=256, learning_rate=1e-3, seed=self.seed)
        self.trainer = Trainer(generators, discriminator, self.LOSSES[self.loss.value](), self.points.images, settings)

    def _say(self) -> None:
        self.status.value = f"D took {self.moves[0]} steps, G {self.moves[1]}"

    def _draw(self):
        trainer = self.trainer
        trainer.discriminator.eval()  # spectral norm must not move on because somebody looks
        fig, (left, right) = figures.new_figure(2, width=10, height=4.4)
        is_probability = trainer.objective.is_probability
        figures.landscape(left, trainer.discriminator, "D's landscape, and where it sends the fakes",
                          is_probability=is_probability)  # fmt: skip
        axis = torch.linspace(-2, 2, 13)
        square = torch.cartesian_prod(axis, axis)
        for k, generator in enumerate(trainer.generators):
            colour, marker = figures.COLOURS[k + 1], "os^D"[k]
            fakes, directions = self._fakes_and_directions(generator)
            left.quiver(*fakes.T, *directions.T, color="white", edgecolor="black",
                        linewidth=0.3, angles="xy", width=0.005)  # fmt: skip
            left.scatter(*fakes.T, s=18, marker=marker, color=colour, edgecolor="white", linewidth=0.6)
            with torch.no_grad():
                mesh = generator(square).view(13, 13, 2)
            for lines in (mesh, mesh.transpose(0, 1)):
                right.plot(*lines.permute(2, 1, 0), color=colour, linewidth=0.7, alpha=0.8)
        covered = mode_coverage(trainer.sample(count=1000).flatten(0, 1), self.points.centres, TOY_STD)
        title = f"G covers {covered['modes_covered']:.0f} of {len(self.points.centres)} modes"
        right.scatter(*self.points.images[:1000].T, s=4, color="0.4", label="real points", zorder=3)
        right.plot([], [], color=figures.COLOURS[1], linewidth=0.7, label="G's map of a square of latents")
        right.set(title=title, xlim=(-1.1, 1.1), ylim=(-1.1, 1.3), aspect="equal", xlabel="x", ylabel="y")
        right.legend(loc="upper center", ncols=2, fontsize=8)
        trainer.discriminator.train()
        return fig

    def _fakes_and_directions(self, generator):
        """64 fakes of one generator and, for each, minus the gradient of its loss, scaled to be seen. Both (64, 2)."""
        with torch.no_grad():
            fakes = generator(torch.randn(64, 2, generator=torch.Generator().manual_seed(1)))
        fakes.requires_grad_()
        losses = self.trainer.objective.generator_losses(self.trainer.score(fakes)[None])
        (gradient,) = torch.autograd.grad(losses.sum(), fakes)
        longest = gradient.norm(dim=1).max().clamp_min(1e-12)
        return fakes.detach().numpy(), (-0.3 * gradient / longest).numpy()
