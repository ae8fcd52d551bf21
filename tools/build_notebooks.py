"""Executes notebooks and stores clean outputs.

    python tools/build_notebooks.py [--profile quick] [--no-exec] [NOTEBOOK ...]

Before execution the set-up cell of every notebook is replaced by tools/setup_cell.py, so that all carry the
same one. Afterwards whatever would differ between two builds, or break for a reader without a kernel, leaves
the file: widget views (their picture stays), progress bars (their final text stays), machine paths, Python's
exact version. Pictures keep 256 colours. A cell with jupyter.source_hidden in its metadata, and the set-up cell,
is folded in JupyterLab and on Colab. Below the title it says when the outputs were stored and with which torch. A
file is replaced only when all went well.
"""

import argparse
import os
import re
import sys
import time
from base64 import b64decode, b64encode
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers import files  # noqa: E402
from helpers.draw import figures  # noqa: E402

SETUP_MARK = "# @title Set-up:"
SETUP_CELL = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
TITLE = re.compile(r"^# .*$", re.MULTILINE)
STORED_LINE = re.compile(r"\n\n\*Outputs stored .*\*$", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "pygments_lexer": "ipython3",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "nbconvert_exporter": "python",
    },
}
MACHINE_TEXT = (
    (re.compile(r"\S*ipykernel_\d+[/\\]\d+\.py"), "<cell>"),
    (re.compile(r"(?:/[^\s'\":]+)?/site-packages/"), "site-packages/"),
    (re.compile(re.escape(str(ROOT)) + r"/?"), ""),
)


def kernel_environment(profile: str) -> dict[str, str]:
    """Variables for a notebook's kernel: the profile, this interpreter, and an absolute GAN_DATA."""
    environment = {"GAN_PROFILE": profile, "JUPYTER_PREFER_ENV_PATH": "1", "PYTHONHASHSEED": "0"}
    if os.environ.get("GAN_DATA"):
        # A kernel works in the notebook's folder, where a relative path would mean something else.
        environment["GAN_DATA"] = str(Path(os.environ["GAN_DATA"]).resolve())
    return environment


def execute(notebook, folder: Path, environment: dict[str, str], timeout: int = 7200) -> None:
    """Runs all cells of `notebook` in `folder`; raises CellExecutionError at the first unexpected error."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=600,  # on a busy machine a kernel may take longer than the usual minute
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        shutdown_kernel="immediate",  # tidying up after torch takes a kernel three seconds
        record_timing=False,
    )
    client.execute(env={**os.environ, **environment})


def write_atomically(notebook, path: Path) -> None:
    nbformat.validate(notebook)
    files.write_atomically(path, (nbformat.writes(notebook) + "\n").encode())


def is_setup_cell(cell) -> bool:
    """Also as it was named before cells could be folded."""
    return cell.cell_type == "code" and cell.source.startswith((SETUP_MARK, "# Set-up:"))


def progress_text(model_id: str, widgets: dict) -> str | None:
    """Final text of the tqdm bar with this widget id; None when the widget is something else."""
    children = widgets.get(model_id, {}).get("state", {}).get("children", [])
    parts = [widgets.get(child.removeprefix("IPY_MODEL_"), {}) for child in children]
    if [part.get("model_name") for part in parts] != ["HTMLModel", "FloatProgressModel", "HTMLModel"]:
        return None
    left, bar, right = (part["state"] for part in parts)
    filled = int(10 * bar["value"] / bar["max"]) if bar.get("max") else 10
    counts = right["value"].split("[")[0].rstrip()
    return f"{left['value'].strip()}|{'█' * filled:<10}|{counts}".replace("\u2007", " ")


def without_machine(text: str) -> str:
    for pattern, replacement in MACHINE_TEXT:
        text = pattern.sub(replacement, text)
    return text


def normalise(notebook) -> None:
    """Removes in place what a reader without a kernel cannot see and what differs from build to build."""
    widgets = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter") and value}
        if is_setup_cell(cell):
            kept["jupyter"] = {"source_hidden": True}
        if kept.get("jupyter", {}).get("source_hidden"):
            kept["cellView"] = "form"  # Colab's way to fold; it shows the title in the cell's first line
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            normalise_output(output, widgets, cell.id)


def normalise_output(output, widgets: dict, cell_id: str) -> None:
    if output.output_type == "stream":
        output.text = without_machine(output.text)
    if output.output_type == "error":
        output.traceback = [without_machine(line) for line in output.traceback]
    if picture := output.get("data", {}).get("image/png"):
        output.data["image/png"] = b64encode(figures.with_palette(b64decode(picture))).decode()
    view = output.get("data", {}).pop(WIDGET_VIEW, None)
    if view is None:
        return
    text = progress_text(view["model_id"], widgets)
    if text is not None:
        output.data["text/plain"] = text
    elif not {"image/png", "text/html"} & set(output.data):
        raise SystemExit(f"cell {cell_id}: this widget stores no picture, so a reader without a kernel sees nothing")


def say_when_stored(notebook) -> None:
    """One line below the title, in the place of a former one: today's date and torch's version."""
    line = f"*Outputs stored {date.today()} with torch {version('torch')}.*"
    cell = next(cell for cell in notebook.cells if cell.cell_type == "markdown" and TITLE.search(cell.source))
    cell.source = TITLE.sub(rf"\g<0>\n\n{line}", STORED_LINE.sub("", cell.source), count=1)


def build(path: Path, profile: str, run: bool) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in filter(is_setup_cell, notebook.cells):
        cell.source = SETUP_CELL
    if run:
        execute(notebook, path.parent, kernel_environment(profile))
        say_when_stored(notebook)
    normalise(notebook)
    write_atomically(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    parser.add_argument("--no-exec", action="store_true", help="only renew the set-up cell and normalise")
    arguments = parser.parse_args()
    for path in arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        start = time.perf_counter()
        build(path.resolve(), arguments.profile, run=not arguments.no_exec)
        print(f"{path}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
