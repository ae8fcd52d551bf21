"""What is looked at while a training runs: the measures of every step, and warnings when something goes wrong."""

import warnings
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from helpers.gan.objectives import Objective

# A discriminator has won when its loss stays under this share of its equilibrium value; samples have collapsed when
# they differ from each other by less than this share of what real images do. Both must last for PATIENCE epochs.
WON_SHARE, COLLAPSED_SHARE, PATIENCE = 0.02, 0.05, 5

# What a CPU and Apple's GPU say; CUDA has an error class of its own.
OUT_OF_MEMORY = ("allocate memory", "MPS backend out of memory")


@torch.no_grad()
def discriminator_measures(objective: Objective, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """What D says of one batch, from its scores of real (B,) and of fake images (K, B): 0-d tensors."""
    # x wins a tuple when D finds it more real than every fake beside it.
    wins = real < fake.amin(0) if objective.is_energy else real > fake.amax(0)
    measures = {
        "real_score": real.mean(),
        "fake_score": fake.mean(),
        "pick_accuracy": wins.float().mean(),
    }
    if objective.is_probability:
        measures |= {"d_real": real.sigmoid().mean(), "d_fake": fake.sigmoid().mean()}
    if objective.threshold is not None:
        measures["accuracy_real"] = (real > objective.threshold).float().mean()
        measures["accuracy_fake"] = (fake <= objective.threshold).float().mean()
    return measures


def grad_norm(network: nn.Module) -> Tensor:
    """The 2-norm of all gradients of a network taken together; 0 where it has none, as of players that all rest."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not gradients:  # torch's answer would always lie on the CPU
        return next(network.parameters()).new_zeros(())
    return nn.utils.get_total_norm(gradients)


def spread(samples: Tensor) -> Tensor:
    """How much samples differ from each other: the root mean square of their deviation from the mean sample."""
    return samples.float().var(0, unbiased=False).mean().sqrt()


def watch(trainer) -> None:
    """Name what goes wrong: NaN ends the run, a discriminator that has won and collapse are said once."""
    history = trainer.history
    row, recent = history.rows[-1], history.rows[-PATIENCE:]
    players = (*trainer.generators.parameters(), *trainer.discriminator.parameters())
    weights = torch.stack([parameter.detach().isfinite().all() for parameter in players])
    if not weights.all() or not torch.tensor(list(row.values())).isfinite().all():
        bad = [name for name, value in row.items() if not torch.tensor(value).isfinite()] or ["a weight"]
        history.status = "diverged"
        message = f"training diverged: {', '.join(bad)} became NaN or infinite; try a lower learning rate"
        _note(history, "diverged", row["epoch"], message)
        return
    if len(recent) < PATIENCE:
        return
    won_below = WON_SHARE * trainer.objective.equilibrium(len(trainer.generators)).get("d_loss", 0)
    if won_below > 0 and all(r["d_loss"] < won_below for r in recent):
        message = f"the discriminator has won: its loss stayed below {won_below:.3f}, so the generators learn little"
        _note(history, "discriminator_won", recent[0]["epoch"], message)
    if all(r["diversity"] < COLLAPSED_SHARE for r in recent):
        message = f"collapse: samples differ by less than {COLLAPSED_SHARE:.0%} of what real images do"
        _note(history, "collapsed", recent[0]["epoch"], message)


def _note(history, kind: str, epoch: int, message: str) -> None:
    if any(event["kind"] == kind for event in history.events):
        return
    history.events.append({"kind": kind, "epoch": epoch, "message": message})
    warnings.warn(f"{history.label}, since epoch {epoch}: {message}", stacklevel=3)


@contextmanager
def named_ending(trainer):
    """While a training runs its history's status says so; afterwards, how it ended.

    Ctrl-C ends it quietly and keeps every finished epoch. Where a batch does not fit into memory, the error says what
    to do about it.
    """
    history = trainer.history
    history.status = "running"
    try:
        yield
        if history.status == "running":
            history.status = "complete"
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            raise torch.OutOfMemoryError(_memory_advice(trainer, error)) from error
        raise
    finally:
        if history.status == "running":
            history.status = "interrupted"


def _memory_advice(trainer, error: RuntimeError) -> str:
    size = trainer.settings.batch_size
    remedy = f"batch_size={size // 2}" if size > 1 else "a smaller network"
    return f"batch_size={size} does not fit into the memory of {trainer.device}; try {remedy} ({error})"
