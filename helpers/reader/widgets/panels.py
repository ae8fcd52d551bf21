"""Interactive figures: controls and buttons over one picture, which stays where no kernel runs."""

import base64
import html

import ipywidgets

from helpers.draw import figures


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

    def still(self) -> str:
        """What remains where no kernel runs, as base64 PNG: by default the picture of the moment."""
        return self.png

    def _repr_mimebundle_(self, include=None, exclude=None):
        """One message with the live widget and what stays when there is no kernel."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"text/plain": self.alt, "image/png": self.still(), "application/vnd.jupyter.widget-view+json": view}
        return data, {"image/png": {"alt": self.alt}}


def interactive_figure(draw, alt: str, **controls) -> Panel:
    """``draw(**values) -> Figure`` under its controls, redrawn whenever one of them changes.

    controls: name of the argument -> ipywidgets control, such as ``ipywidgets.IntSlider(...)``
    """
    panel = Panel(lambda: draw(**{name: control.value for name, control in controls.items()}), alt, controls.values())
    for control in controls.values():
        control.observe(panel.redraw, "value")
    return panel
