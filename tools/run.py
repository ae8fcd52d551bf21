"""What `make run` does: trains GAN, SNGAN and PSG-GAN briefly on MNIST, draws the paper's three figures, runs
the notebooks, and says where everything lies. All of it is written below results/, which git ignores.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers import data  # noqa: E402
from helpers.draw import figures  # noqa: E402
from helpers.files import write_atomically  # noqa: E402
from helpers.gan import systems  # noqa: E402
from helpers.reader import session  # noqa: E402
from tools.build_notebooks import execute, kernel_environment, normalise  # noqa: E402
from tools.build_notebooks import write_atomically as write_notebook  # noqa: E402

SYSTEMS = ("gan", "sngan", "psg_average")
RESULTS = ROOT / "results"
AT_ONCE = 2  # notebooks that run side by side


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the three systems briefly and run the notebooks.")
    parser.add_argument("--epochs", type=int, default=5, help="epochs for each system (default: 5)")
    parser.add_argument("--limit", type=int, help="train on this many images only")
    parser.add_argument("--no-notebooks", action="store_true", help="train and draw only")
    arguments = parser.parse_args()
    start = time.perf_counter()

    draw(train_all(arguments.epochs, arguments.limit))
    notebooks = [] if arguments.no_notebooks else sorted((ROOT / "notebooks").glob("*.ipynb"))
    failed = run_notebooks(notebooks)

    print(f"\nDone in {time.perf_counter() - start:.0f} s. Look at:")
    shown = RESULTS.glob("figures/*.png"), (RESULTS / "notebooks" / path.name for path in notebooks)
    for path in (*sorted(shown[0]), *shown[1]):
        print(f"  {path}")
    print(f"Every number of the three runs: {RESULTS / 'histories'}")
    print("Next: `make lab` opens the notebooks in JupyterLab.")
    return 1 if failed else 0


def train_all(epochs: int, limit: int | None) -> list:
    """The histories of the three systems, each also written to results/histories."""
    device = session.pick_device()
    image_set = data.load_images("mnist", device=device, limit=limit)
    if image_set.notice:
        print(image_set.notice)
    amount = f"{len(image_set.images):,} images of {image_set.name}"
    print(f"Training {len(SYSTEMS)} systems, {epochs} epochs each, on {amount}, device {device}.", flush=True)
    histories = []
    for name in SYSTEMS:
        trainer = systems.make_trainer(name, image_set, epochs=epochs, grid_epochs=(epochs,), seed=0)
        history = trainer.fit(progress=sys.stderr.isatty())
        save_history(name, image_set.name, history)
        print(f"{history.label}: {history.status}, {history['seconds'].sum():.0f} s", flush=True)
        if history.status == "interrupted":
            raise SystemExit(f"Interrupted. What was trained lies in {RESULTS / 'histories'}.")
        histories.append(history)
    return histories


def save_history(name: str, image_set: str, history) -> None:
    (RESULTS / "histories").mkdir(parents=True, exist_ok=True)
    record = {"system": name, "images": image_set, **history.to_dict()}
    write_atomically(RESULTS / "histories" / f"{name}.json", json.dumps(record, indent=1).encode())


def draw(histories: list) -> None:
    """The paper's Figs 3 to 5 for these short runs."""
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    for name, curves in {"losses": figures.loss_curves, "accuracy": figures.accuracy_curves}.items():
        figure, axes = figures.new_figure(len(histories), width=14, sharey=True)
        for history, ax in zip(histories, axes, strict=True):
            curves(history, history.label, ax)
        save_figure(name, figure)
    grids = {
        f"{history.label}, generator {k}": samples
        for history in histories
        for k, samples in enumerate(history.grids.get(len(history), ()), 1)  # none of a run that diverged before
    }
    if grids:
        title = f"Samples after {max(map(len, histories))} epochs"
        save_figure("samples", figures.sample_grids(grids, title))


def save_figure(name: str, figure) -> None:
    write_atomically(RESULTS / "figures" / f"{name}.png", figures.with_palette(figures.to_png(figure)))


def run_notebooks(paths: list[Path]) -> list[Path]:
    """Executes copies in the quick profile below results/notebooks; returns those that ended in an error."""
    if not paths:
        return []
    print(f"\nRunning {len(paths)} notebooks in the quick profile, {AT_ONCE} at a time:", flush=True)
    failed = []
    # New processes and no forks: training may have started CUDA here, which a fork cannot use.
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
        for path, (seconds, problem) in zip(paths, pool.map(run_notebook, paths), strict=True):
            print(f"  {path.name}: {seconds:.0f} s" + (f", FAILED: {problem}" if problem else ""), flush=True)
            if problem:
                failed.append(path)
    return failed


def run_notebook(path: Path) -> tuple[float, str]:
    """(seconds, error or ""); what ran before an error is stored too, so that it can be looked at."""
    folder = RESULTS / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // AT_ONCE)
    environment = {**kernel_environment("quick"), "OMP_NUM_THREADS": str(threads)}
    notebook, problem, start = nbformat.read(path, as_version=4), "", time.perf_counter()
    try:
        execute(notebook, folder, environment)
    except Exception as error:  # the other notebooks still run, and this error is reported
        problem = (str(error).strip() or repr(error)).splitlines()[-1]
    normalise(notebook)
    write_notebook(notebook, folder / path.name)
    return time.perf_counter() - start, problem


if __name__ == "__main__":
    sys.exit(main())
