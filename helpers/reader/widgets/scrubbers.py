"""Sliders over what exists already: the kept epochs of a recorded run, and the way from one latent to another."""

import base64
import html
import json
from io import BytesIO

import ipywidgets
import torch
from IPython.display import display

from helpers.draw import figures
from helpers.reader.widgets.panels import Panel, interactive_figure

# ---- recorded runs -------------------------------------------------------------------------------------------------


def draw_epoch(history, epoch: int):
    """Loss curves, D(x) and D(G(z)) with a mark at the epoch, and every generator's samples kept after it."""
    grids = history.grids[epoch]
    ratios = (1.2, 1.2, *[1] * len(grids))
    fig, (losses, scores, *sheets) = figures.new_figure(2 + len(grids), width=8 + 3 * len(grids), height=3.4,
                                                        width_ratios=ratios)  # fmt: skip
    figures.loss_curves(history, loss_title(history, epoch - 1), losses)
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
        show_samples(ax, samples, f"{whose}after epoch {epoch}")
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
    """Points at a share of the way along the great circles between the rows of two tensors, (N, latent_dim).

    Rows that point the same way are joined by a straight line. They must not be opposite, where no way is the shortest.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1)[:, None].clamp(-1, 1)  # rounding leads above 1
    angle = torch.acos(cosine)
    moved = (torch.sin((1 - position) * angle) * start + torch.sin(position * angle) * end) / torch.sin(angle)
    return torch.where(angle > 0, moved, torch.lerp(start, end, position))


def loss_title(history, row: int) -> str:
    names = ["d_loss", *(f"g{k}_loss" for k in range(1, history.generators + 1))]
    return "Loss of " + ", ".join(f"{name[:-5].upper()}: {history[name][row]:.2f}" for name in names)


def show_samples(ax, samples, title: str, real=None) -> None:
    """Samples of one generator, images or points, on an axes; points are drawn over real ones where these are given."""
    if samples.ndim == 4:
        figures.show_tile(ax, samples[:36], title, columns=6)
    else:
        figures.scatter_points(ax, samples[:0] if real is None else real.cpu(), samples, title)
