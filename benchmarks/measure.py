"""How times are taken: contestants take turns in one process; of every number a median and its quartiles are kept."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch


@dataclass(frozen=True)
class Measure:
    """A median with its quartiles: half of the rounds lie between ``low`` and ``high``."""

    name: str
    value: float
    unit: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} {self.unit}"


def summarise(name: str, values: list[float], unit: str) -> Measure:
    low, high = (min(values), max(values)) if len(values) < 4 else statistics.quantiles(values, n=4)[::2]
    return Measure(name, statistics.median(values), unit, low, high)


def alternate(contestants: dict[str, Callable[[], None]], rounds: int, device="cpu") -> dict[str, list[float]]:
    """Seconds of every call, contestants taking turns, every other round in reverse order.

    Whatever else the machine does then hits all of them alike. One call of each beforehand warms up.
    """
    seconds = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()
    for turn in range(rounds):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            synchronise(device)
            start = time.perf_counter()
            contestants[name]()
            synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Round by round, so that what slows down a whole round cancels out."""
    return [a / b for a, b in zip(above, below, strict=True)]


def synchronise(device) -> None:
    """Wait until a GPU has done what it was given; a CPU is done when the call returns."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind == "mps":
        torch.mps.synchronize()


def machine_facts(device="cpu") -> dict:
    """What a reader needs to judge the times; nothing that names the machine or its owner."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else cpu_model(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        # Above the number of cores something else was running: times are then longer and ratios less sure.
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
    except OSError:
        return platform.processor() or platform.machine()
    units = [unit for unit in ("avx512f", "amx_bf16") if unit in facts.get("flags", "").split()]
    return " ".join([facts.get("model name", platform.machine()), *([f"({', '.join(units)})"] if units else [])])
