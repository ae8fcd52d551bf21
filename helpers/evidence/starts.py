"""Where live runs of the notebooks may begin: both players of a system after 20 epochs of MNIST, when digits are seen.

A run that begins with noise shows noise for its first minutes. ``python -m helpers.evidence.starts`` trained these
players (seed 0) and keeps them under ``data/starts`` in half precision; ``begin(trainer, "gan")`` puts them into a
trainer of that system. Its optimisers start afresh, so a curve may jump in the first steps.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

import torch

from helpers.data.images import load_images
from helpers.evidence.provenance import describe_environment
from helpers.files import PROJECT
from helpers.gan.systems import make_trainer
from helpers.measure.digits import load_weights, save_weights

STARTS = PROJECT / "data" / "starts"
SYSTEMS, EPOCHS = ("gan", "sngan", "psg_average"), 20


def begin(trainer, system: str, folder: Path = STARTS) -> dict:
    """Give a trainer of that system on MNIST-shaped images the kept players; returns how they came about.

    Samples of epoch 0, where the trainer keeps them, are drawn anew: they show where this run begins.
    Raises FileNotFoundError where there are none, ValueError where they are another system's.
    """
    path = Path(folder) / f"{system}.safetensors"
    facts = load_weights(_players(trainer), path, "Train it again with: python -m helpers.evidence.starts")
    if 0 in trainer.history.grids:
        trainer.history.grids[0] = trainer.fixed_samples()
    return facts


def _players(trainer) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict({"generators": trainer.generators, "discriminator": trainer.discriminator})


def main(arguments: list[str] | None = None) -> None:
    """The command: train the players and keep them."""
    parser = argparse.ArgumentParser(prog="python -m helpers.evidence.starts", description=main.__doc__)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--limit", type=int, help="train on this many images only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=STARTS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    digits = load_images("mnist", limit=chosen.limit)
    if digits.notice:
        parser.error(digits.notice)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for system in chosen.systems:
        started = time.perf_counter()
        trainer = make_trainer(system, digits, epochs=chosen.epochs, seed=0)
        trainer.fit(progress=sys.stderr.isatty())
        facts = describe_environment("cpu") | {
            "system": system,
            "dataset": digits.name,
            "epochs": chosen.epochs,
            "seed": 0,
            "seconds": round(time.perf_counter() - started),
            "command": f"{parser.prog} {shlex.join(sys.argv[1:] if arguments is None else arguments)}".strip(),
        }
        save_weights(_players(trainer).half(), chosen.folder / f"{system}.safetensors", facts)
        print(f"{system}: {chosen.epochs} epochs in {facts['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
