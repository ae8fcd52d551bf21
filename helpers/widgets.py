"""Interactive figures: a training dashboard, a laboratory for 2-D GANs, epoch scrubbers and a latent walk.

A panel is shown by naming it on the last line of a cell. Where a kernel runs it is alive; where none does (GitHub,
nbviewer, PDF) its picture and description remain. This is the only module that needs ipywidgets.
"""

import base64
import html
import json
import threading
import time
from io import BytesIO

import ipywidgets
import torch
from IPython.display import display

from helpers import figures
from helpers.data import TOY_STD, grid_of_gaussians, ring_of_gaussians
from helpers.networks import Discriminator, Generator
from helpers.objectives import GAN, LSGAN, PSG, WGAN, Hinge
from helpers.quality import mode_coverage
from helpers.training import Settings, Trainer

REDRAW_SHARE = 0.05  # of the time may go into redrawing while a training runs


class Panel:
    """Controls and buttons over one picture.

    draw: () -> Figure; alt: the picture's description; controls: ipywidgets with a value;
    buttons: text -> (tooltip, function without arguments). Its owner calls ``redraw`` when the picture has to change.
    """

    def __init__(self, draw, alt: str, controls=(), buttons: dict | None = None):
        self.draw, self.alt, self.controls = draw, alt, list(controls)
        self.status = ipywidgets.Label()
        self.image = ipywidgets.HTML()  # ipywidgets.Image would have no alt text
        self.buttons = {}
        for text, (tooltip, action) in (buttons or {}).items():
            self.buttons[text] = ipywidgets.Button(description=text, tooltip=tooltip)
            self.buttons[text].on_click(lambda _button, action=action: action())
        rows = [
            ipywidgets.Box(row, layout={"flex_flow": "row wrap"})
            for row in (self.controls, list(self.buttons.values()))
            if row
        ]
        self.box = ipywidgets.VBox([*rows, *([self.status] if self.buttons else []), self.image])
        self.redraw()

    def redraw(self, _change=None) -> None:
        """Draw the picture anew."""
        fig, dpi = self.draw(), 80
        self.png = base64.b64encode(figures.to_png(fig, dpi)).decode()
        # With its size known beforehand, the page does not jump when a new picture arrives.
        width, height = (fig.get_size_inches() * dpi).astype(int)
        self.image.value = (
            f'<img alt="{html.escape(self.alt)}" width="{width}" height="{height}" '
            f'style="max-width:100%;height:auto" src="data:image/png;base64,{self.png}">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        """One message with the live widget and what stays when there is no kernel."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"text/plain": self.alt, "image/png": self.png, "application/vnd.jupyter.widget-view+json": view}
        return data, {"image/png": {"alt": self.alt}}


def interactive_figure(draw, alt: str, **controls) -> Panel:
    """``draw(**values) -> Figure`` under its controls, redrawn whenever one of them changes.

    controls: name of the argument -> ipywidgets control, such as ``ipywidgets.IntSlider(...)``
    """
    panel = Panel(lambda: draw(**{name: control.value for name, control in controls.items()}), alt, controls.values())
    for control in controls.values():
        control.observe(panel.redraw, "value")
    return panel


class TrainingDashboard(Panel):
    """Loss and accuracy curves and the fixed samples of a trainer, which follow its training.

    Run trains to the last epoch, Pause holds it after the current step, Stop ends it after the current epoch, Step
    trains to the end of one epoch. Nothing is lost: ``trainer.history`` and weights are those of a plain ``fit``, and
    Run goes on from there. Training runs in a thread of its own, so that the notebook stays usable meanwhile.
    """

    def __init__(self, trainer: Trainer, alt: str):
        self.trainer = trainer
        self._last = 0  # epoch after which training ends
        self._go, self._lock = threading.Event(), threading.Lock()
        self._thread, self._running = None, False
        self.redraw_share = 0.0  # seconds of redrawing per second of training since Run or Step was pressed
        buttons = {
            "Run": ("train to the last epoch", self.run),
            "Pause": ("hold after the current step; Run goes on", self.pause),
            "Stop": ("end training after this epoch and keep everything", self.stop),
            "Step": ("train to the end of one epoch", self.step),
        }
        super().__init__(self._draw, alt, buttons=buttons)
        self.buttons["Run"].add_class("no-picture")  # for the browser test: none at once
        self._say("ready")

    def run(self) -> None:
        """Train to the last epoch, or go on after a pause."""
        self._train_until(self.trainer.settings.epochs)

    def step(self) -> None:
        """Train to the end of the next epoch, or of the one under way."""
        self._train_until(len(self.trainer.history) + 1)

    def pause(self) -> None:
        """Hold the training after its current step."""
        if self._running:
            self._go.clear()

    def stop(self) -> None:
        """End the training when the current epoch is finished."""
        if self._running:
            self._last = 0
            self._go.set()
            self._say("stopping after this epoch")

    def wait(self) -> None:
        """Return when the training has ended (never, if it is paused)."""
        if self._thread is not None:
            self._thread.join()

    def _train_until(self, last: int) -> None:
        with self._lock:
            self._last = min(last, self.trainer.settings.epochs)
            self._go.set()
            if self._running or self.trainer.history.status == "diverged":
                return
            self.wait()  # a thread that no longer trains may still be drawing
            self._running, self.trainer.history.status = True, "running"
            self._thread = threading.Thread(target=self._train, daemon=True)
            self._thread.start()

    def _is_to_go_on(self) -> bool:
        with self._lock:  # so that no button pressed at this very moment is lost
            self._running = len(self.trainer.history) < self._last and self.trainer.history.status == "running"
            return self._running

    def _train(self) -> None:
        history, seconds, spent = self.trainer.history, 0.0, 0.0
        try:
            while self._is_to_go_on():
                self._held_seconds = 0.0
                row = self.trainer.run_epoch(self._after_step)
                row["seconds"] -= self._held_seconds
                seconds += row["seconds"]
                self._say("training")
                if spent + 2 * self.redraw_seconds <= REDRAW_SHARE * seconds:  # room for this picture and the last one
                    self.redraw()
                    spent += self.redraw_seconds
        except Exception as error:  # which would vanish with the thread
            self._running, history.status = False, "interrupted"
            self.status.value = f"training failed: {error}"
            raise
        if history.status == "running":
            history.status = "complete" if len(history) == self.trainer.settings.epochs else "interrupted"
        self.redraw()
        self.redraw_share = (spent + self.redraw_seconds) / max(seconds, 1e-9)
        self._say({"complete": "finished", "diverged": "diverged"}.get(history.status, "stopped"))

    def _after_step(self) -> None:
        if not self._go.is_set():
            start = time.perf_counter()
            self.redraw()
            self._say("paused")
            self._go.wait()
            self._held_seconds += time.perf_counter() - start

    def redraw(self, _change=None) -> None:
        """Draw the picture anew and note how long that takes."""
        start = time.perf_counter()
        super().redraw()
        self.redraw_seconds = time.perf_counter() - start

    def _say(self, what: str) -> None:
        history = self.trainer.history
        noticed = "".join(f"; {event['message']}" for event in history.events[-1:])
        self.status.value = f"{what}: epoch {len(history)} of {self.trainer.settings.epochs}{noticed}"

    def _draw(self):
        history, trainer = self.trainer.history, self.trainer
        fig, (losses, accuracy, samples) = figures.new_figure(3, width=11, height=3.4, width_ratios=(1.2, 1.2, 1))
        fig.set_layout_engine(None)  # measuring the layout would double the time of a redraw
        fig.subplots_adjust(left=0.055, right=0.99, bottom=0.14, top=0.91, wspace=0.22)
        if len(history):
            figures.loss_curves(history, _loss_title(history, -1), losses)
            figures.accuracy_curves(history, f"D picks the real one: {history['pick_accuracy'][-1]:.0%}", accuracy)
            for ax in (losses, accuracy):
                ax.set_xlim(0, 1.05 * max(len(history), 5))
        else:
            for ax in (losses, accuracy):
                ax.set(title="No epoch yet: press Run or Step", xlabel="epoch", xlim=(0, 1), ylim=(0, 1))
        _show_samples(samples, trainer.fixed_samples()[0], "Samples now", trainer.images)
        return fig


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
        with torch.random.fork_rng(devices=[]):  # the reader's own random numbers stay as they are
            torch.manual_seed(self.seed)
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


# ---- recorded runs -------------------------------------------------------------------------------------------------


def draw_epoch(history, epoch: int):
    """Loss curves, D(x) and D(G(z)) with a mark at the epoch, and every generator's samples kept after it."""
    grids = history.grids[epoch]
    ratios = (1.2, 1.2, *[1] * len(grids))
    fig, (losses, scores, *sheets) = figures.new_figure(2 + len(grids), width=8 + 3 * len(grids), height=3.4,
                                                        width_ratios=ratios)  # fmt: skip
    figures.loss_curves(history, _loss_title(history, epoch - 1), losses)
    names = ("d_real", "d_fake") if "d_real" in history.columns else ("real_score", "fake_score")
    symbols = ("D(x)", "D(G(z))") if names[0] == "d_real" else ("score of x", "score of G(z)")
    for index, (name, symbol) in enumerate(zip(names, symbols, strict=True)):
        figures.draw_curve(scores, [history[name]], symbol, index)
    at = [f"{symbol} = {history[name][epoch - 1]:.2f}" for name, symbol in zip(names, symbols, strict=True)]
    scores.set(title=", ".join(at), xlabel="epoch", ylabel="mean over the epoch")
    scores.legend()
    for ax in (losses, scores):
        ax.axvline(epoch, color=figures.BLACK, linewidth=1.2)
    for k, (ax, samples) in enumerate(zip(sheets, grids, strict=True), 1):
        whose = f"G{k} " if len(grids) > 1 else ""
        _show_samples(ax, samples, f"{whose}after epoch {epoch}")
    return fig


def _kept_epochs(history) -> list[int]:
    """The epochs with samples; 0, before training, has no row of numbers."""
    return sorted(epoch for epoch in history.grids if epoch > 0)


def epoch_scrubber(histories: dict, alt: str) -> Panel:
    """One slider over the kept epochs that ties curves and samples of a recorded run together.

    histories: name -> History; more than one gives a choice among them
    """
    epochs = sorted(set.intersection(*(set(_kept_epochs(history)) for history in histories.values())))
    slider = ipywidgets.SelectionSlider(
        options=epochs, value=epochs[-1], description="epoch", layout={"width": "500px"}
    )
    run = ipywidgets.Dropdown(options=list(histories), description="run")
    if len(histories) == 1:
        return interactive_figure(lambda epoch: draw_epoch(histories[run.value], epoch), alt, epoch=slider)
    return interactive_figure(lambda run, epoch: draw_epoch(histories[run], epoch), alt, run=run, epoch=slider)


def show_kernel_free_scrubber(history, alt: str) -> None:
    """Display a contact sheet and, below it, the scrubber as HTML whose slider needs no kernel.

    The slider works in JupyterLab (in a notebook that is trusted) and on Colab, also after reopening. GitHub strips it
    and shows the sheet.
    """
    name = history.label
    figures.show(
        figures.grids_over_epochs(history, f"{name}: the same latents after more and more epochs"), alt, dpi=70
    )
    described = f"{name}: a slider over {len(_kept_epochs(history))} epochs, with curves and samples at each"
    display({"text/html": scrubber_html(history), "text/plain": described}, raw=True)


def scrubber_html(history) -> str:
    """The epoch scrubber as one self-contained piece of HTML."""
    epochs = _kept_epochs(history)
    drawn = [draw_epoch(history, epoch) for epoch in epochs]
    frames = [_to_webp(fig) for fig in drawn]
    width, height = (drawn[0].get_size_inches() * 70).astype(int)
    name, last = html.escape(history.label), len(epochs) - 1
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>
<body style="margin:0;font:14px sans-serif;background:white;color:black">
<label>epoch <input id="at" type="range" min="0" max="{last}" value="{last}" style="width:60%;vertical-align:middle">
<output id="name"></output></label>
<img id="frame" width="{width}" height="{height}" style="display:block;max-width:100%;height:auto">
<script>
const epochs = {json.dumps(epochs)}, frames = {json.dumps(frames)};
const at = document.getElementById("at"), frame = document.getElementById("frame");
function show() {{
  const epoch = epochs[at.value];
  frame.src = "data:image/webp;base64," + frames[at.value];
  frame.alt = {json.dumps(history.label)} + ": loss curves, what D says and samples after epoch " + epoch;
  document.getElementById("name").textContent = epoch;
  at.setAttribute("aria-valuetext", "epoch " + epoch);
}}
at.oninput = show;
show();
</script></html>"""
    # A frame of its own keeps the page's scripts and keys apart from the notebook's. Notebooks that are not trusted
    # lose the frame and show the sentence; otherwise the frame covers it.
    return (
        f'<div style="position:relative;width:100%;max-width:{width}px;aspect-ratio:{width}/{height + 34}">'
        "<span>This slider needs a trusted notebook: File, Trust Notebook.</span>"
        f'<iframe title="epoch scrubber: {name}" srcdoc="{html.escape(page)}" sandbox="allow-scripts" '
        'style="position:absolute;left:0;top:0;width:100%;height:100%;border:0"></iframe></div>'
    )


def _to_webp(fig) -> str:
    """A figure as base64; a tenth of the size of PNG where samples are noisy."""
    buffer = BytesIO()
    fig.savefig(buffer, format="webp", dpi=70, pil_kwargs={"quality": 75})
    return base64.b64encode(buffer.getvalue()).decode()


# ---- latents -------------------------------------------------------------------------------------------------------


def latent_walk(generators: dict, alt: str, seed: int = 0, count: int = 7) -> Panel:
    """Sliders that move ``count`` latents to others and show what every generator makes of them, side by side.

    generators: name -> Generator. The walk follows the great circle between two latents, because Gaussian latents of
    many dimensions all lie near a sphere (White 2016, "Sampling Generative Networks").
    """
    first = next(iter(generators.values()))
    device = next(first.parameters()).device

    def latents(number: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(1000 * seed + number)
        return torch.randn(count, first.latent_dim, generator=rng).to(device)

    def draw(position, end):
        moved = great_circle(latents(0), latents(end), position / 100)
        fig, axes = figures.new_figure(1, len(generators), width=9, height=0.4 + 1.5 * len(generators), squeeze=False)
        for ax, (name, generator) in zip(axes[:, 0], generators.items(), strict=True):
            with torch.no_grad():
                figures.show_tile(ax, generator(moved).cpu().numpy(), name, columns=count)
        title = f"The same {count} latents in every generator, {position} % of the way to set {end}"
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
        return fig

    position = ipywidgets.IntSlider(0, min=0, max=100, step=5, description="position, %")
    end = ipywidgets.IntSlider(1, min=1, max=9, description="to set")
    return interactive_figure(draw, alt, position=position, end=end)


def great_circle(start: torch.Tensor, end: torch.Tensor, position: float) -> torch.Tensor:
    """Points at a share of the way along the great circles between the rows of two tensors, (N, latent_dim)."""
    angle = torch.acos(torch.nn.functional.cosine_similarity(start, end, dim=1))[:, None]
    return (torch.sin((1 - position) * angle) * start + torch.sin(position * angle) * end) / torch.sin(angle)


def _loss_title(history, row: int) -> str:
    names = ["d_loss", *(f"g{k}_loss" for k in range(1, history.generators + 1))]
    return "Loss of " + ", ".join(f"{name[:-5].upper()}: {history[name][row]:.2f}" for name in names)


def _show_samples(ax, samples, title: str, real=None) -> None:
    """Samples of one generator, images or points, on an axes; points are drawn over real ones where these are given."""
    if samples.ndim == 4:
        figures.show_tile(ax, samples[:36], title, columns=6)
    else:
        figures.scatter_points(ax, samples[:0] if real is None else real.cpu(), samples, title)
