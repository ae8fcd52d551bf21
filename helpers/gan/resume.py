"""Checkpoints: everything that the next epoch depends on, in a file that cannot run code when it is loaded.

A checkpoint keeps its predecessor beside it, so that a damaged file costs one interval and not the run.
"""

import glob
import hashlib
import warnings
import zipfile
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from helpers.files import write_atomically
from helpers.gan.history import History

# What may change before a run is continued: how long and how fast it goes, what is kept of it, and where it goes on.
MAY_DIFFER = ("epochs", "grid_epochs", "label", "cuda_graph", "device")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, written or continued from; the message names the file and what to do."""


class MismatchError(CheckpointError):
    """A checkpoint that this training cannot go on from, wherever it is tried."""


@contextmanager
def resumed(trainer, path: Path):
    """Continue a trainer from the checkpoint at ``path``, or write its first one; nobody else may meanwhile."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(f"{path}.lock").acquire(timeout=0)
    except Timeout:
        raise CheckpointError(f"{path} is written by another training now; wait or choose another path") from None
    except OSError as error:
        raise _not_writable(path, error) from error
    with held:
        state = load_checkpoint(path)
        if state is None:
            save_checkpoint(path, training_state(trainer))  # a full disk shows now, not after hours
        else:
            continue_from(path, trainer, state)
        yield


def continue_from(path: Path, trainer, state: dict) -> None:
    """``restore`` what was loaded from ``path``; MismatchError where that cannot be."""
    try:
        restore(trainer, state)
    except Exception as error:  # whatever the parts say of a state that is not theirs
        remedy = "choose another path, or delete it to start again"
        raise MismatchError(f"{path} cannot be continued: {error}; {remedy}") from error


def save_if_due(trainer, path: Path, every: int) -> None:
    """Write the checkpoint of a trainer after each ``every`` epochs and after the last."""
    done = len(trainer.history)
    is_due = done % every == 0 or done == trainer.settings.epochs
    if not is_due or trainer.history.status == "diverged":  # then the last good state stays
        return
    try:
        save_checkpoint(path, training_state(trainer))
    except CheckpointError as error:  # a disk that fills up does not end a training that goes well
        warnings.warn(f"epoch {done} is in no checkpoint, training goes on: {error}", stacklevel=2)


def training_state(trainer) -> dict:
    """Everything that the next epoch depends on, as tensors and plain values."""
    state = {
        "settings": _origin(trainer),
        "generators": trainer.generators.state_dict(),
        "discriminator": trainer.discriminator.state_dict(),
        "optimizer_g": trainer.optimizer_g.state_dict(),
        "optimizer_d": trainer.optimizer_d.state_dict(),
        "objective": trainer.objective.state_dict(),
        "rng": trainer.rng.get_state(),
        "history": trainer.history.to_dict(),
        "grids": {epoch: torch.from_numpy(grid) for epoch, grid in trainer.history.grids.items()},
    }
    return state | ({"dropout_rng": _global_random(trainer).get_rng_state()} if _has_dropout(trainer) else {})


def restore(trainer, state: dict) -> None:
    """Continue from ``training_state``'s answer; ValueError unless settings, networks and images agree.

    On another kind of device training goes on with new random numbers, which a warning and the history say.
    """
    here = training_state(trainer)
    if missing := here.keys() - state.keys():
        raise ValueError(f"it is no training checkpoint, for it lacks {', '.join(sorted(missing))}")
    # What a checkpoint does not name yet is taken as equal.
    theirs, ours = _origin(trainer) | state["settings"] | _shapes(state), _origin(trainer) | _shapes(here)
    differing = [
        f"{name}: {theirs.get(name)!r} there, {ours.get(name)!r} here"
        for name in (ours | theirs)
        if name not in MAY_DIFFER and theirs.get(name) != ours.get(name)
    ]
    if differing:
        listed = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ValueError(f"this checkpoint belongs to a run with other settings ({listed})")
    history = History.from_dict(state["history"])
    if len(history) > trainer.settings.epochs:
        raise ValueError(f"it holds {len(history)} epochs already, epochs={trainer.settings.epochs} here")
    history.settings = trainer.history.settings
    history.grids = {epoch: grid.numpy() for epoch, grid in state["grids"].items()}
    trainer.generators.load_state_dict(state["generators"])
    trainer.discriminator.load_state_dict(state["discriminator"])
    for optimizer, saved in (
        (trainer.optimizer_g, state["optimizer_g"]),
        (trainer.optimizer_d, state["optimizer_d"]),
    ):
        optimizer.load_state_dict(saved)
        for group in optimizer.param_groups:
            group["capturable"] = False  # a CUDA graph makes it so again
    trainer.objective.load_state_dict(state["objective"])
    trainer.history = history
    if theirs["device"] == ours["device"]:
        trainer.rng.set_state(state["rng"].cpu())
        if _has_dropout(trainer):
            _global_random(trainer).set_rng_state(state["dropout_rng"])
    else:
        _draw_anew(trainer, theirs["device"])


def _draw_anew(trainer, device_before: str) -> None:
    """Random numbers that this run has not seen yet: another kind of device cannot go on with the saved ones."""
    done = len(trainer.history)
    # 32 well-mixed bits: torch's CPU generator takes no more of a seed than its lowest 32.
    seed = int.from_bytes(hashlib.sha256(f"{trainer.settings.seed} after {done}".encode()).digest()[:4], "little")
    trainer.rng.manual_seed(seed)
    if _has_dropout(trainer):
        _global_random(trainer).manual_seed(seed)
    message = f"continued on {trainer.device.type}, after {device_before}, with other random numbers"
    trainer.history.events.append({"kind": "moved", "epoch": done, "message": message})
    warnings.warn(f"{trainer.history.label}, after epoch {done}: {message}", stacklevel=2)


def _has_dropout(trainer) -> bool:
    """Dropout of any kind draws from torch's global random numbers, all else from the trainer's own."""
    layers = (*trainer.generators.modules(), *trainer.discriminator.modules())
    return any(isinstance(layer, torch.nn.modules.dropout._DropoutNd) for layer in layers)


def _global_random(trainer):
    """The module that keeps the global random numbers of the trainer's device."""
    return {"cuda": torch.cuda, "mps": torch.mps}.get(trainer.device.type, torch)


def fingerprint(trainer) -> str:
    """A short name for all that a checkpoint must have in common with a trainer, and for what was changed by hand."""
    optimizers = (trainer.optimizer_g, trainer.optimizer_d)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    shapes = _shapes(
        {"generators": trainer.generators.state_dict(), "discriminator": trainer.discriminator.state_dict()}
    )
    origin = {name: value for name, value in _origin(trainer).items() if name not in ("device", "cuda_graph")}
    described = origin | shapes | {"rates": rates, "rules": trainer.objective.describe()}
    return hashlib.sha256(repr(sorted(described.items())).encode()).hexdigest()[:10]


def _origin(trainer) -> dict:
    """What has to agree before a checkpoint is continued, besides the shapes of the networks."""
    images = f"{tuple(trainer.images.shape)}, {trainer.images.dtype}, standard deviation {trainer.real_spread:.4f}"
    return trainer.history.settings | {"images": images, "device": trainer.device.type}


def _shapes(state: dict) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in both players' part of ``training_state``."""
    players = ("generators", "discriminator")
    return {f"{player}.{name}": tuple(tensor.shape) for player in players for name, tensor in state[player].items()}


def save_checkpoint(path: Path, state: dict) -> None:
    """Save tensors and plain values atomically, by one process at a time; the last checkpoint becomes predecessor."""
    path, buffer = Path(path), BytesIO()
    torch.save(state, buffer)
    try:
        for leftover in path.parent.glob(f".{glob.escape(path.name)}-*"):  # of a process that was killed
            leftover.unlink()
        write_atomically(path, buffer.getvalue() + _checksum(buffer.getvalue()), keep=_predecessor(path))
    except OSError as error:
        raise _not_writable(path, error) from error


def load_checkpoint(path: Path) -> dict | None:
    """What ``save_checkpoint`` wrote, from the predecessor if the last one is damaged; None where there is neither.

    Raises CheckpointError for anything else, without running code from it.
    """
    problem = None
    for file in filter(Path.exists, (Path(path), _predecessor(Path(path)))):
        try:
            whole = file.read_bytes()
            content, checksum = whole[:-32], whole[-32:]
            if checksum != _checksum(content):
                raise ValueError("its checksum does not match")
            with zipfile.ZipFile(BytesIO(content)) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ValueError("it is compressed and could unpack to any size")
            state = dict(torch.load(BytesIO(content), map_location="cpu", weights_only=True))
        except Exception as error:  # whatever the many parsers behind torch.load say of bytes that are no checkpoint
            problem = problem or f"{file} is damaged or not a checkpoint of this program ({error})"
            continue
        if problem:
            warnings.warn(f"{problem}; its predecessor is used", stacklevel=2)
        return state
    if problem:
        raise CheckpointError(f"{problem}; delete it to start again, or choose another path")
    return None


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _predecessor(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _not_writable(path: Path, error: OSError) -> CheckpointError:
    remedy = "free some space or choose a path in a folder that you may write to"
    return CheckpointError(f"{path} cannot be written ({error.strerror}); {remedy}")
