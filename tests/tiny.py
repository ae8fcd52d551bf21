"""A training of a few milliseconds an epoch, and what two runs must have in common to count as the same."""

import threading

import numpy as np
import torch
from tqdm.auto import tqdm

from helpers.data import ring_of_gaussians
from helpers.evidence.records import read_record
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.objectives import PSG
from helpers.gan.training import Settings, Trainer

# By itself tqdm takes a lock that forked processes share: a child that a test kills while it holds the lock keeps it,
# and the next training here waits for ever. Its watching thread could hold the lock at the moment of a fork, too.
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0

RING = ring_of_gaussians(200)


def make(objective=None, generators=2, width=8, images=RING.images, labels=None, classes=0, device=None, **settings):
    """A trainer with two small generators on 200 points, two steps an epoch."""
    settings = Settings(**({"epochs": 5, "batch_size": 100, "grid_size": 8, "grid_epochs": (0, 2, 5)} | settings))
    torch.manual_seed(settings.seed)
    networks = [Generator(4, (2,), (width, width), classes) for _ in range(generators)]
    discriminator = Discriminator((2,), (width, width), classes=classes)
    return Trainer(networks, discriminator, objective or PSG(), images, settings, labels, device)


def outcome(trainer: Trainer) -> dict:
    """Everything a run ends with, but the seconds that it took; rows as they are, not rounded for writing."""
    state = trainer.state_dict()
    del state["history"]["columns"]
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.history.rows]
    return state | {"rows": rows}


def same(one, other) -> bool:
    """Whether two nests of dicts, lists, tensors and numbers agree in every bit and type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def contents(folder):
    """Everything in a record that must not depend on how often it was interrupted."""
    read = read_record(folder)
    history = read.history.to_dict()
    history["columns"].pop("seconds")
    return history, read.quality, read.history.grids, (read.weights() if read.seed == 0 else {})


def assert_same(one, other):
    assert one[:2] == other[:2]
    assert all(np.array_equal(one[2][epoch], other[2][epoch]) for epoch in one[2] | other[2])
    assert all(torch.equal(one[3][name], other[3][name]) for name in one[3] | other[3])
