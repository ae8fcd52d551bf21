"""Recorded runs: trained once by ``python -m helpers.evidence.recorder``, kept under ``data/runs``, read by notebooks.

A run's folder is ``data/runs/<data set>/<system>/seed<n>``: ``record.json`` (history, settings, provenance, quality),
``grids.npz`` (samples of fixed latents) and, for seed 0, ``weights.safetensors`` (the generators). While a run is under
way it holds ``checkpoint.pt`` instead; a record is written last and whole, so that what can be read is complete.
``data/runs/<data set>/floor.json`` holds what real images score, the best that any generator can hope for.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from helpers.files import PROJECT
from helpers.gan.history import History

RUNS = PROJECT / "data" / "runs"
FORMAT = 1


class RecordError(RuntimeError):
    """A record that is damaged or incomplete; the message names the file and what to do."""


@dataclass(frozen=True)
class Record:
    """One recorded run as read from disk."""

    folder: Path
    history: History
    provenance: dict  # command, revision, versions, device, threads, seconds, date
    quality: dict  # epoch -> {"mixture": {...}, "generator 1": {...}}: numbers of helpers.measure.quality

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
        path = self.folder / "weights.safetensors"
        if not path.exists():
            raise RecordError(f"{path} is missing: weights are kept for seed 0 only, and not with --no-weights")
        weights = load(path.read_bytes())  # load_file would keep the file open, which Windows then cannot replace
        return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}

    def give_weights(self, generators: torch.nn.ModuleList) -> None:
        """Put the generators' final weights into a trainer's ``generators`` of the same system; see ``weights``."""
        prefix = "generators."
        kept = {key.removeprefix(prefix): value for key, value in self.weights().items() if key.startswith(prefix)}
        generators.load_state_dict(kept)


def specification_folder(runs: Path, specification: str | None) -> Path:
    """The runs with a specification of ``helpers.gan.multiverse``; without one, those with our settings."""
    return Path(runs, "multiverse", specification) if specification else Path(runs)


def run_folder(runs: Path, dataset: str, system: str, seed: int, specification: str | None = None) -> Path:
    """Where a run's files lie."""
    return specification_folder(runs, specification) / dataset / system / f"seed{seed}"


def read_record(folder: Path) -> Record:
    """Read one run's folder; raises RecordError where anything is missing, damaged or does not fit together."""
    path = Path(folder) / "record.json"
    try:
        content = unseal(path)
        history = History.from_dict(content["history"])
        for name, expected in content["files"].items():
            if digest((path.parent / name).read_bytes()) != expected:
                raise ValueError(f"{name} is damaged: its checksum does not match")
        with np.load(path.parent / "grids.npz", allow_pickle=False) as grids:
            history.grids = {int(epoch): grids[epoch] for epoch in grids.files}
        quality = {int(epoch): numbers for epoch, numbers in content["quality"].items()}
        return Record(path.parent, history, content["provenance"], quality)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path.parent} cannot be read as a record ({error!r}); record it again") from error


def read_floor(dataset: str, runs: Path = RUNS) -> dict[str, float]:
    """The quality numbers of real images against other real images, or nothing where they were not measured.

    A damaged file is left out with a warning that names it, as ``load_runs`` does.
    """
    path = Path(runs) / dataset / "floor.json"
    try:
        return unseal(path)["quality"] if path.exists() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"left out: {path} cannot be read ({error!r}); measure it again with --floor", stacklevel=2)
        return {}


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


def provenance(runs: list[Record]) -> str:
    """One short line for the reader: how many runs, how long, on what, and where their settings and commands are."""
    if not runs:
        return "No such runs are recorded here yet; `make replicate` makes them (it takes hours)."
    seeds = ", ".join(f"{run.seed} ({len(run.history)} epochs)" for run in runs)
    devices = ", ".join(sorted({run.provenance["device"].split()[0] for run in runs}))
    folder = runs[0].folder.parent
    where = folder.relative_to(PROJECT).as_posix() if folder.is_relative_to(PROJECT) else folder.name
    return f"{runs[0].history.label}, recorded on {devices}: seeds {seeds}. Settings and commands: {where}."


# ---- the format ------------------------------------------------------------------------------------------------------


def seal(body: dict) -> bytes:
    """A JSON object with a checksum of itself in it."""
    body = json.loads(_to_json(body))
    return json.dumps(body | {"sha256": digest(_to_json(body))}, separators=(",", ":"), allow_nan=False).encode()


def unseal(path: Path) -> dict:
    """The content of a file that ``seal`` made; ValueError if it was changed or has another format."""
    content = json.loads(path.read_text(encoding="utf-8"))
    body = {key: value for key, value in content.items() if key != "sha256"}
    if content["sha256"] != digest(_to_json(body)):
        raise ValueError(f"{path.name} is damaged: its checksum does not match")
    if content["format"] != FORMAT:
        raise ValueError(f"{path.name} has format {content['format']}, this program reads {FORMAT}")
    return content


def _to_json(body: dict) -> bytes:
    return json.dumps(body, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def digest(content: bytes) -> str:
    """The checksum that records and their files carry."""
    return hashlib.sha256(content).hexdigest()
