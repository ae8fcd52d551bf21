"""Recorded runs: trained once by ``python -m helpers.records``, kept under ``data/runs``, read by the notebooks.

A run's folder is ``data/runs/<data set>/<system>/seed<n>``: ``record.json`` (history, settings, provenance, quality),
``grids.npz`` (samples of fixed latents) and, for seed 0, ``weights.safetensors`` (the generators). While a run is under
way it holds ``checkpoint.pt`` instead; a record is written last and whole, so that what can be read is complete.
``data/runs/<data set>/floor.json`` holds what real images score, the best that any generator can hope for.
"""

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers import quality
from helpers.checkpoints import CheckpointError, load_checkpoint, save_checkpoint, write_atomically
from helpers.history import History
from helpers.training import to_unit_range

RUNS = Path(__file__).resolve().parents[1] / "data" / "runs"
FORMAT = 1
GRID_EPOCHS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500)
# 8,000 photographs: after the last three a run has seen as many images as the source's after epochs 5, 10 and 20.
FACES_GRID_EPOCHS = (1, 2, 5, 10, 20, 50, 127, 253, 506)
QUALITY_SAMPLES = 10_000
SLOPE_IMAGES = 1_000
# MNIST's first images, so often in an epoch that it has as many steps as one of MNIST; and how many follow as unseen.
FEW_DIGITS, FEW, REPEATS, UNSEEN = "mnist_1000", 1_000, 60, 10_000


class RecordError(RuntimeError):
    """A record that is damaged or incomplete; the message names the file and what to do."""


@dataclass(frozen=True)
class Record:
    """One recorded run as read from disk."""

    folder: Path
    history: History
    provenance: dict  # command, revision, versions, device, threads, seconds, date
    quality: dict  # epoch -> {"mixture": {...}, "generator 1": {...}}: numbers of helpers.quality

    @property
    def seed(self) -> int:
        return self.history.settings["seed"]

    def describe(self) -> str:
        """One line for the reader: what this is and how to get it again."""
        p, h = self.provenance, self.history
        return (
            f"{h.label}, seed {self.seed}: {len(h)} epochs, {h.status}, on {p['device']} with torch {p['torch']} "
            f"({p['threads']} thread), {p['date']}, revision {p['revision']}; {p['command']}"
        )

    def final_quality(self, part: str = "mixture") -> dict[str, float]:
        """The quality numbers after the last epoch that has them."""
        return self.quality[max(self.quality)][part]

    def weights(self) -> dict[str, torch.Tensor]:
        """The generators' final weights, "generators.0.layers.0.weight" and so on: seed 0 only, half precision."""
        from safetensors.torch import load_file

        path = self.folder / "weights.safetensors"
        if not path.exists():
            raise RecordError(f"{path} is missing: weights are kept for seed 0 only, and not with --no-weights")
        weights = load_file(path)
        return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


# ---- reading -------------------------------------------------------------------------------------------------------


def read_record(folder: Path) -> Record:
    """Read one run's folder; raises RecordError where anything is missing, damaged or does not fit together."""
    path = Path(folder) / "record.json"
    try:
        content = _unsealed(path)
        history = History.from_dict(content["history"])
        for name, digest in content["files"].items():
            if _digest((path.parent / name).read_bytes()) != digest:
                raise RecordError(f"{path.parent / name} is damaged: its checksum does not match")
        with np.load(path.parent / "grids.npz", allow_pickle=False) as grids:
            history.grids = {int(epoch): grids[epoch] for epoch in grids.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path.parent} cannot be read as a record ({error!r}); record it again") from error
    quality = {int(epoch): numbers for epoch, numbers in content["quality"].items()}
    return Record(path.parent, history, content["provenance"], quality)


def read_floor(dataset: str, runs: Path = RUNS) -> dict[str, float]:
    """The quality numbers of real images against other real images, or nothing where they were not measured.

    A damaged file is left out with a warning that names it, as ``load_runs`` does.
    """
    path = Path(runs) / dataset / "floor.json"
    try:
        return _unsealed(path)["quality"] if path.exists() else {}
    except (RecordError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"left out: {path} cannot be read ({error!r}); measure it again with --floor", stacklevel=2)
        return {}


def _unsealed(path: Path) -> dict:
    """The content of a file that ``_seal`` made; RecordError if it was changed or has another format."""
    content = json.loads(path.read_text(encoding="utf-8"))
    body = {key: value for key, value in content.items() if key != "sha256"}
    if content["sha256"] != _digest(_to_json(body)):
        raise RecordError(f"{path} is damaged: its checksum does not match")
    if content["format"] != FORMAT:
        raise RecordError(f"{path} has format {content['format']}, this program reads {FORMAT}")
    return content


def load_runs(system: str, dataset: str = "mnist", least_epochs: int = 1, runs: Path = RUNS) -> list[Record]:
    """All records of a system, by seed, with at least so many epochs (or ended by divergence).

    A damaged record is left out with a warning that names it.
    """
    found = []
    for folder in sorted((Path(runs) / dataset / system).glob("seed*"), key=lambda f: (len(f.name), f.name)):
        if not (folder / "record.json").exists():
            continue
        try:
            record = read_record(folder)
        except RecordError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        if len(record.history) >= least_epochs or record.history.status == "diverged":
            found.append(record)
    return found


# ---- writing -------------------------------------------------------------------------------------------------------


def record(
    system: str,
    dataset: str,
    seed: int,
    epochs: int,
    runs: Path = RUNS,
    device: str = "cpu",
    command: str = "",
    every: float = 60.0,
    progress: bool = True,
    limit: int | None = None,
    weights: bool = True,
    **settings,
) -> Path:
    """Train one run and write its record, or return at once where a complete one of that length lies already.

    Continues from the checkpoint of an interrupted run; writes one at most every ``every`` seconds.
    Only one process at a time works on a run; others get a RecordError. ``weights`` keeps the generators' for seed 0.
    """
    from filelock import FileLock, Timeout

    folder = Path(runs) / dataset / system / f"seed{seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            if _is_complete(folder, epochs):
                return folder
            kept = weights and seed == 0
            return _record(
                folder, system, dataset, seed, epochs, device, command, every, progress, limit, kept, settings
            )
    except Timeout:
        raise RecordError(
            f"{folder} is being recorded by another process; wait for it or choose another seed"
        ) from None
    except OSError as error:
        raise RecordError(f"{folder} cannot be written ({error}); free some space or choose another folder") from error


def _record(folder, system, dataset, seed, epochs, device, command, every, progress, limit, weights, settings) -> Path:
    from helpers.systems import make_trainer

    started, images = time.time(), load_dataset(dataset, device, limit)
    candidates = FACES_GRID_EPOCHS if dataset.startswith("faces") else GRID_EPOCHS
    grid_epochs = tuple(sorted({epoch for epoch in candidates if epoch < epochs} | {epochs}))
    options = {"grid_size": 36 if images.centres is None else 500} | settings  # points need more to be seen than images
    trainer = make_trainer(system, images, epochs=epochs, seed=seed, grid_epochs=grid_epochs, **options)
    judge = _Judge(dataset, images)
    checkpoint, quality, spent = folder / "checkpoint.pt", {}, 0.0
    if state := load_checkpoint(checkpoint):
        trainer.load_state_dict(state["trainer"])
        quality, spent = state["quality"], state["seconds"]
    saved = time.monotonic()

    def after_epoch(trainer):
        nonlocal saved
        done = len(trainer.history)
        if done in grid_epochs and trainer.history.status != "diverged":
            quality[done] = judge(trainer, parts=done == epochs)
        if time.monotonic() - saved > every and done < epochs and trainer.history.status != "diverged":
            seconds = spent + time.time() - started
            save_checkpoint(checkpoint, {"trainer": trainer.state_dict(), "quality": quality, "seconds": seconds})
            saved = time.monotonic()

    history = trainer.fit(progress=progress, on_epoch=after_epoch)
    if history.status == "interrupted":
        raise KeyboardInterrupt
    provenance = describe_environment(device) | {
        "command": command
        or f"python -m helpers.records --systems {system} --dataset {dataset} --seeds {seed} --epochs {epochs}",
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(spent + time.time() - started, 1),
        "images": len(images.images),
        "notice": images.notice,
    }
    _write_record(folder, {"system": system, "dataset": dataset}, trainer, provenance, quality, weights)
    for file in folder.glob(f"{checkpoint.name}*"):
        file.unlink()
    return folder


def _write_record(folder: Path, name: dict, trainer, provenance: dict, quality: dict, weights: bool) -> None:
    """Write the parts, then record.json with their checksums: until it is there the run does not count."""
    from io import BytesIO

    from safetensors.torch import save

    (folder / "record.json").unlink(missing_ok=True)
    buffer, files = BytesIO(), {}
    np.savez_compressed(buffer, **{str(epoch): grid for epoch, grid in _kept_grids(trainer.history).items()})
    contents = {"grids.npz": buffer.getvalue()}
    if weights:
        # Half precision is enough to draw from a generator, and keeps the repository small.
        state = {f"generators.{key}": value.cpu() for key, value in trainer.generators.state_dict().items()}
        contents["weights.safetensors"] = save(
            {key: value.half() if value.is_floating_point() else value.clone() for key, value in state.items()}
        )
    for filename, content in contents.items():
        write_atomically(folder / filename, content)
        files[filename] = _digest(content)
    body = (
        {"format": FORMAT}
        | name
        | {
            "provenance": provenance,
            "quality": {str(epoch): numbers for epoch, numbers in quality.items()},
            "files": files,
            "history": trainer.history.to_dict(),
        }
    )
    write_atomically(folder / "record.json", _seal(body))


def _seal(body: dict) -> bytes:
    """A JSON object with a checksum of itself in it."""
    body = json.loads(_to_json(body))
    return json.dumps(body | {"sha256": _digest(_to_json(body))}, separators=(",", ":"), allow_nan=False).encode()


def record_floor(dataset: str, runs: Path = RUNS, device: str = "cpu", seed: int = 0) -> Path:
    """Measure real training images as if a generator had drawn them, and write that beside the data set's runs."""
    images = load_dataset(dataset, device)
    judge = _Judge(dataset, images)
    if judge.measure is None:
        raise RecordError(f"{dataset} is not measured, or is not the real thing here: {images.notice or 'no measure'}")
    order = torch.randperm(len(images.images), generator=torch.Generator().manual_seed(seed))
    chosen = images.images[order[: judge.count].to(images.images.device)]
    provenance = describe_environment(device) | {
        "command": f"python -m helpers.records --dataset {dataset} --floor --device {device}",
        "date": time.strftime("%Y-%m-%d"),
    }
    numbers = {key: _nine_digits(value) for key, value in judge.measure(chosen).items()}
    path = Path(runs) / dataset / "floor.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _seal({"format": FORMAT, "provenance": provenance, "quality": numbers}))
    return path


def _kept_grids(history: History) -> dict[int, np.ndarray]:
    """The samples worth their space: of seed 0 every kept epoch, of other seeds the last; of colour images only 16."""
    grids = history.grids
    if history.settings["seed"] != 0:
        grids = {epoch: grid for epoch, grid in grids.items() if epoch == max(grids)}
    return {epoch: grid[:, :16] if grid.shape[2] == 3 else grid for epoch, grid in grids.items()}


class _Judge:
    """Scores samples of a trainer: digits and garments against real test images on the features of our own classifier,
    toy sets and stacked digits by the modes that are covered, faces against photographs that are held out; and D by
    how steep it is and, where training images are few, by what it remembers of them. Other sets get no scores."""

    def __init__(self, dataset: str, images):
        from helpers import data
        from helpers.classifier import load_classifier

        self.measure, self.count, device = None, QUALITY_SAMPLES, images.images.device
        self.seen = self.unseen = self.count_classes = None
        if images.centres is not None:
            self.measure = lambda points: quality.mode_coverage(points, images.centres, data.TOY_STD)
        elif dataset == "stacked_mnist" and not images.notice:
            classifier = load_classifier("mnist", device)
            self.measure = lambda samples: quality.stacked_mode_coverage(samples, classifier)
        elif dataset in data.TITLES and not images.notice:
            classifier = load_classifier(dataset, device)
            real = quality.embed(data.load_images(dataset, train=False, device=device).images, classifier)
            self.measure = lambda samples: quality.compare(quality.embed(samples, classifier), real)
            self.count_classes = lambda samples: quality.class_shares(
                quality.class_counts(quality.embed(samples, classifier))
            )
        elif dataset == FEW_DIGITS and not images.notice:
            self.measure, self.seen = _Judge("mnist", images).measure, images.images[:FEW]
            # Not test images: other people wrote those, so a discriminator tells them apart without remembering any.
            self.unseen = data.load_images("mnist", device=device, limit=FEW + UNSEEN).images[FEW:]
        elif dataset == "fashion_mnist32" and not images.notice:
            garments = _Judge("fashion_mnist", images)
            self.measure = lambda samples: garments.measure(samples[:, :, 2:-2, 2:-2])  # without the frame
        elif dataset.startswith("faces"):
            from helpers.faces import HELD_OUT, face_judge

            self.measure, self.count = face_judge(images.images.shape[-1], device), HELD_OUT

    def __call__(self, trainer, parts: bool) -> dict:
        if self.measure is None:
            return {}
        players = len(set(trainer.generators))  # a generator that takes part twice is one
        samples = trainer.sample(count=self.count // players, seed=trainer.settings.seed + 2)[:players]
        scores = {"mixture": self.measure(samples.flatten(0, 1))}
        if parts and players > 1:
            whole = trainer.sample(count=self.count, seed=trainer.settings.seed + 2)
            scores |= {f"generator {k}": self.measure(each) for k, each in enumerate(whole, 1)}
        elif self.count_classes is not None and players > 1:
            scores |= {f"generator {k}": self.count_classes(each) for k, each in enumerate(samples, 1)}
        with _looked_at(trainer.discriminator) as discriminator:
            if self.unseen is not None:
                with torch.no_grad():
                    answers = discriminator(self.seen), discriminator(self.unseen)
                scores["mixture"]["membership_auc"] = quality.membership_auc(*answers)
            if trainer.labels is None:
                real = to_unit_range(trainer.images[:SLOPE_IMAGES].to(trainer.device))
                scores["mixture"]["slope_real"] = quality.score_slope(discriminator, real)
                fakes = samples[:, : SLOPE_IMAGES // players].flatten(0, 1)
                scores["mixture"]["slope_fake"] = quality.score_slope(discriminator, fakes)
        return {part: {key: _nine_digits(value) for key, value in numbers.items()} for part, numbers in scores.items()}


@contextmanager
def _looked_at(discriminator):
    """The discriminator in evaluation mode, else spectral norm would learn from being asked, and change the run."""
    discriminator.eval()
    try:
        yield discriminator
    finally:
        discriminator.train()


def load_dataset(name: str, device: str, limit: int | None = None):
    """The image set that a record names; ``limit`` takes only so many of its first images."""
    from helpers import data

    toys = {"ring": data.ring_of_gaussians, "grid": data.grid_of_gaussians}
    if name in toys:
        return toys[name](device=device)
    if name == FEW_DIGITS:
        few = data.load_images("mnist", device=device, limit=FEW)
        return replace(few, images=few.images.repeat(REPEATS, 1, 1, 1), labels=few.labels.repeat(REPEATS))
    if name == "stacked_mnist":
        return data.stacked_mnist(data.load_images("mnist", device=device))
    if name == "fashion_mnist32":
        return data.pad(data.load_images("fashion_mnist", device=device, limit=limit), 32)
    if name in ("faces32", "faces64", "faces128"):
        from helpers.faces import load_faces_split

        return load_faces_split(int(name.removeprefix("faces")), device=device, limit=limit)
    return data.load_images(name, device=device, limit=limit)


def describe_environment(device: str) -> dict:
    """What a number can depend on besides settings and seed."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else platform.machine()
    return {
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "revision": _revision(),
    }


def _revision() -> str:
    """The commit that the code stands at, with "+" if helpers differs from it."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "helpers") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _is_complete(folder: Path, epochs: int) -> bool:
    try:
        history = read_record(folder).history
    except RecordError:
        return False
    return len(history) >= epochs or history.status == "diverged"


def _nine_digits(value: float) -> float:
    """Enough to give back every float32 exactly, and half the length."""
    return float(f"{value:.9g}")


def _to_json(body: dict) -> bytes:
    return json.dumps(body, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    """The command line: one run after another, each skipped if complete and continued if begun."""
    from helpers.systems import SYSTEMS

    parser = argparse.ArgumentParser(prog="python -m helpers.records", description=main.__doc__)
    parser.add_argument(
        "--systems", nargs="+", default=["gan", "sngan", "psg_average", "psg_algorithm1"], choices=SYSTEMS
    )
    known = "mnist, mnist_1000, fashion_mnist, stacked_mnist, ring, grid, fashion_mnist32, faces32, faces64, faces128"
    parser.add_argument("--dataset", default="mnist", help=known)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="part of what a CPU run's last digits depend on")
    parser.add_argument("--no-weights", action="store_true", help="do not keep the generators of seed 0")
    parser.add_argument("--floor", action="store_true", help="measure real images of the data set, and train nothing")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder to write to")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.floor:
        try:
            print(f"written: {record_floor(chosen.dataset, chosen.runs, chosen.device)}")
        except RecordError as error:
            sys.exit(str(error))
        return
    for seed in chosen.seeds:
        for system in chosen.systems:
            command = (
                f"python -m helpers.records --systems {system} --dataset {chosen.dataset} --seeds {seed} "
                f"--epochs {chosen.epochs} --device {chosen.device} --threads {chosen.threads}"
            ) + (" --no-weights" if chosen.no_weights else "")
            try:
                folder = record(
                    system,
                    chosen.dataset,
                    seed,
                    chosen.epochs,
                    chosen.runs,
                    chosen.device,
                    command,
                    progress=sys.stderr.isatty(),
                    weights=not chosen.no_weights,
                )
            except (RecordError, CheckpointError) as error:
                print(f"skipped: {error}", file=sys.stderr)
                continue
            print(read_record(folder).describe(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from the last checkpoint")
