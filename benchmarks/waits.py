"""What a user waits for before anything moves: imports, data, the first training step; and the memory it all takes.

Each is measured in a fresh Python process, as a script or a notebook's kernel would be.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Measure, summarise
from helpers.data import load_images

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import json, sys, time
begin = time.perf_counter()
import torch
after_torch = time.perf_counter()
from helpers import data
from helpers.gan import systems
after_helpers = time.perf_counter()
images = data.load_images("mnist", device=sys.argv[2])
after_data = time.perf_counter()
trainer = systems.make_trainer("gan", images)
trainer.step()["g_loss"].item()
first_batch = time.time() - float(sys.argv[1])
for _ in range(30):
    trainer.step()
report = {
    "wait/import_torch s": after_torch - begin,
    "wait/import_helpers_after_torch s": after_helpers - after_torch,
    "wait/load_mnist s": after_data - after_helpers,
    "wait/start_to_first_batch s": first_batch,
}
try:
    import resource
    unit = 1 if sys.platform == "darwin" else 1024
    report["memory/peak_training_gan MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
except ImportError:
    pass  # Windows does not tell
print(json.dumps(report))
"""


def measure_waits(rounds: int, device="cpu") -> list[Measure]:
    """Seconds of imports, of reading MNIST (or its stand-in) and until the first step is done; peak memory."""
    load_images("mnist", limit=1)  # a download would not be a property of this code
    reports = []
    for _ in range(rounds):
        command = [sys.executable, "-c", PROGRAM, repr(time.time()), str(device)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"the process that measures waiting times failed:\n{done.stderr}")
        reports.append(json.loads(done.stdout))
    return [summarise(*key.split(" ")[:1], [r[key] for r in reports], key.split(" ")[1]) for key in reports[0]]
