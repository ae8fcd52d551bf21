"""Trains runs and records them: ``python -m helpers.evidence.recorder --systems gan sngan --dataset mnist``.

What a record is and how it is read stands in ``records``; what is measured after the kept epochs, in
``helpers.measure.judge``.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save

from helpers.data.catalogue import CATALOGUE, load_dataset
from helpers.device import device_option, full_float32, pick_device
from helpers.evidence.provenance import describe_environment
from helpers.evidence.records import FORMAT, RUNS, RecordError, digest, read_record, run_folder, seal
from helpers.files import write_atomically
from helpers.gan.history import History
from helpers.gan.multiverse import OTHER_SETTINGS
from helpers.gan.resume import CheckpointError, continue_from, load_checkpoint, save_checkpoint
from helpers.gan.systems import SYSTEMS, allowed_systems, make_trainer
from helpers.measure.judge import Judge, find_ruler

COMMAND = "python -m helpers.evidence.recorder"
CHECKPOINT = "checkpoint.pt"  # in a run's folder while it is under way
MULTIVERSE_EPOCHS = (20, 50, 100)  # after which its runs are judged; three are enough for a hundred


@full_float32()
def record_run(
    system: str,
    dataset: str,
    seed: int,
    epochs: int,
    runs: Path = RUNS,
    device: str = "cpu",
    every: float = 60.0,
    progress: bool = True,
    limit: int | None = None,
    weights: bool = True,
    specification: str | None = None,
    pause: Callable[[], bool] = lambda: False,
    stand_ins: bool = True,
    **settings,
) -> Path:
    """Train one run and write its record, or return at once where a complete one of that length lies already.

    With a ``specification`` of ``helpers.gan.multiverse.OTHER_SETTINGS`` it lies under ``runs/multiverse/<its name>``.
    Continues from the checkpoint of an interrupted run; writes one at most every ``every`` seconds.
    Only one process at a time works on a run; others get a RecordError, as where the record cannot be written.
    A checkpoint that is damaged or of another training is a CheckpointError, a missing ruler a FileNotFoundError.
    ``weights`` keeps the generators' for seed 0.
    Products are computed in full float32, on a GPU too.
    ``pause`` is asked after each epoch: True writes a checkpoint and returns without a record.
    Without ``stand_ins`` a RecordError tells where only small digits stand in for the data set.
    """
    device = str(pick_device(device))
    folder = run_folder(runs, dataset, system, seed, specification)
    with _alone_in(folder):
        if is_complete(folder, epochs):
            return folder
        started, images = time.time(), load_dataset(dataset, device, limit)
        row, chosen = CATALOGUE[dataset], OTHER_SETTINGS[specification] if specification else None
        candidates = row.kept_epochs if chosen is None else MULTIVERSE_EPOCHS
        grid_epochs = tuple(sorted({epoch for epoch in candidates if epoch < epochs} | {epochs}))
        options = {"grid_size": row.grid_size} | settings
        judge = Judge(dataset, images, device)
        if judge.ruler is None and not stand_ins:
            raise RecordError(f"{dataset} is not the real thing here: {images.notice}")
        trainer = make_trainer(
            system, images, chosen, device, epochs=epochs, seed=seed, grid_epochs=grid_epochs, **options
        )
        checkpoint, quality, spent, environments = folder / CHECKPOINT, {}, 0.0, [describe_environment(device)]
        if state := load_checkpoint(checkpoint):
            continue_from(checkpoint, trainer, state.get("trainer", {}))
            quality, spent = state["quality"], state["seconds"]
            # Older recorders did not note where they were.
            earlier = state.get("environments", [{"revision": "unknown"}])
            environments = [each for each in earlier if each != environments[0]] + environments
        saved, is_paused = time.monotonic(), False

        def after_epoch(trainer):
            nonlocal saved, is_paused
            done = len(trainer.history)
            if done in grid_epochs and trainer.history.status != "diverged":
                quality[done] = _rounded(judge(trainer, whole_parts=done == epochs))
            if done == epochs or trainer.history.status == "diverged":
                return
            is_paused = pause()
            if is_paused or time.monotonic() - saved > every:
                progress_made = {
                    "quality": quality,
                    "seconds": spent + time.time() - started,
                    "environments": environments,
                }
                saved = time.monotonic()
                try:
                    save_checkpoint(checkpoint, {"trainer": trainer.state_dict()} | progress_made)
                except CheckpointError as error:  # training goes on, and the next one may succeed
                    if is_paused:
                        raise
                    warnings.warn(f"epoch {done} is in no checkpoint: {error}", stacklevel=2)
            if is_paused:
                trainer.history.status = "interrupted"

        history = trainer.fit(progress=progress, on_epoch=after_epoch)
        if is_paused:
            return folder
        if history.status == "interrupted":
            raise KeyboardInterrupt
        provenance = environments.pop() | {
            "command": _command_line(
                system, dataset, seed, epochs, device, torch.get_num_threads(), weights, specification
            ),
            "date": time.strftime("%Y-%m-%d"),
            "seconds": round(spent + time.time() - started, 1),
            "images": len(images.images),
            "notice": images.notice,
        }
        if chosen:
            provenance["specification"] = chosen.describe()
        if environments:  # a run that moved cannot be repeated bit by bit, and says so
            provenance["earlier"] = environments
        kept = weights and seed == 0 and specification is None
        _write_record(folder, {"system": system, "dataset": dataset}, trainer, provenance, quality, kept)
        return folder


@contextmanager
def _alone_in(folder: Path):
    """Make a run's folder and keep others out of it; RecordError where one is in it, or where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / "lock").acquire(timeout=0)
    except Timeout:
        raise RecordError(
            f"{folder} is being recorded by another process; wait for it or choose another seed"
        ) from None
    except OSError as error:
        raise _not_writable(folder, error) from error
    with held:
        yield


def _not_writable(folder: Path, error: OSError) -> RecordError:
    return RecordError(f"{folder} cannot be written ({error}); free some space or choose another folder")


def write_run(folder: Path, files: dict[str, bytes]) -> None:
    """Write a record's files, and record.json with their checksums last: until it is there the run does not count."""
    (folder / "record.json").unlink(missing_ok=True)
    for name in sorted(files, key=lambda name: name == "record.json"):
        write_atomically(folder / name, files[name])
    for file in folder.glob(f"{CHECKPOINT}*"):
        with suppress(PermissionError):  # Windows keeps a file that somebody reads; the record is whole without
            file.unlink()


def _write_record(folder: Path, name: dict, trainer, provenance: dict, quality: dict, weights: bool) -> None:
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        **{str(epoch): grid for epoch, grid in _kept_grids(trainer.history, "specification" not in provenance).items()},
    )
    contents = {"grids.npz": buffer.getvalue()}
    if weights:
        # Half precision is enough to draw from a generator, and keeps the repository small.
        state = {f"generators.{key}": value.cpu() for key, value in trainer.generators.state_dict().items()}
        contents["weights.safetensors"] = save(
            {key: value.half() if value.is_floating_point() else value.clone() for key, value in state.items()}
        )
    body = (
        {"format": FORMAT}
        | name
        | {
            "provenance": provenance,
            "quality": {str(epoch): numbers for epoch, numbers in quality.items()},
            "files": {filename: digest(content) for filename, content in contents.items()},
            "history": trainer.history.to_dict(),
        }
    )
    try:
        write_run(folder, contents | {"record.json": seal(body)})
    except OSError as error:
        raise _not_writable(folder, error) from error


@full_float32()
def record_floor(dataset: str, runs: Path = RUNS, device: str = "cpu", seed: int = 0) -> Path:
    """Measure real training images as if a generator had drawn them, and write that beside the data set's runs."""
    device = str(pick_device(device))
    images = load_dataset(dataset, device)
    ruler = find_ruler(dataset, images, device)
    if ruler is None:
        raise RecordError(f"{dataset} is not the real thing here: {images.notice}")
    order = torch.randperm(len(images.images), generator=torch.Generator().manual_seed(seed))
    chosen = images.images[order[: ruler.count].to(images.images.device)]
    provenance = describe_environment(device) | {
        "command": f"{COMMAND} --dataset {dataset} --floor --device {device}",
        "date": time.strftime("%Y-%m-%d"),
    }
    numbers = _rounded({"real": ruler.measure(chosen)})["real"]
    path = Path(runs) / dataset / "floor.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, seal({"format": FORMAT, "provenance": provenance, "quality": numbers}))
    return path


def _kept_grids(history: History, all_epochs: bool = True) -> dict[int, np.ndarray]:
    """The samples worth their space: of seed 0 every kept epoch, of other seeds the last; of colour images only 16."""
    grids = history.grids
    if history.settings["seed"] != 0 or not all_epochs:
        grids = {epoch: grid for epoch, grid in grids.items() if epoch == max(grids)}
    return {epoch: grid[:, :16] if grid.shape[2] == 3 else grid for epoch, grid in grids.items()}


def is_complete(folder: Path, epochs: int) -> bool:
    try:
        history = read_record(folder).history
    except RecordError:
        return False
    return len(history) >= epochs or history.status == "diverged"


def _rounded(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Numbers with nine digits: enough to give back every float32 exactly, and half the length."""
    return {part: {key: float(f"{value:.9g}") for key, value in each.items()} for part, each in scores.items()}


def _command_line(
    system: str,
    dataset: str,
    seed: int,
    epochs: int,
    device: str,
    threads: int,
    weights: bool,
    specification: str | None = None,
) -> str:
    """The command that repeats a run."""
    what = f"--systems {system} --dataset {dataset} --seeds {seed} --epochs {epochs}"
    how = f"--device {device} --threads {threads}" + ("" if weights else " --no-weights")
    return f"{COMMAND} {what} {how}" + (f" --specification {specification}" if specification else "")


def main(arguments: list[str] | None = None) -> None:
    """The command line: one run after another, each skipped if complete and continued if begun."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument(
        "--systems", nargs="+", default=["gan", "sngan", "psg_average", "psg_algorithm1"], choices=SYSTEMS
    )
    parser.add_argument("--dataset", default="mnist", choices=CATALOGUE)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--device", type=device_option, default="cpu", help="auto, cpu, cuda or mps (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="part of what a CPU run's last digits depend on")
    parser.add_argument("--no-weights", action="store_true", help="do not keep the generators of seed 0")
    parser.add_argument("--floor", action="store_true", help="measure real images of the data set, and train nothing")
    parser.add_argument(
        "--specification",
        choices=OTHER_SETTINGS,
        help="not our settings but a row of the multiverse, or another rate",
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder to write to")
    chosen = parser.parse_args(arguments)
    if unsuited := set(chosen.systems) - set(allowed_systems(OTHER_SETTINGS.get(chosen.specification))):
        parser.error(
            f"--specification {chosen.specification} does not suit {', '.join(sorted(unsuited))}; leave it out"
        )
    torch.set_num_threads(chosen.threads)
    if chosen.floor:
        try:
            print(f"written: {record_floor(chosen.dataset, chosen.runs, chosen.device)}")
        except RecordError as error:
            sys.exit(str(error))
        return
    for seed in chosen.seeds:
        for system in chosen.systems:
            try:
                folder = record_run(
                    system,
                    chosen.dataset,
                    seed,
                    chosen.epochs,
                    chosen.runs,
                    chosen.device,
                    progress=sys.stderr.isatty(),
                    weights=not chosen.no_weights,
                    specification=chosen.specification,
                )
            except (RecordError, CheckpointError, ValueError, OSError) as error:
                print(f"skipped: {system}, seed {seed}: {error}", file=sys.stderr)
                continue
            print(read_record(folder).describe(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from the last checkpoint")
    except ModuleNotFoundError as error:
        sys.exit(str(error))
