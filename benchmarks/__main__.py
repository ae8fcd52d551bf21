"""``python -m benchmarks``: times six systems in three loops, how cost grows, and what a user waits for.

Prints lines ``name value unit`` and writes results.json (one entry per kind of device), scaling.png and, unless
--output names another folder, the README's speed table. Takes about four minutes on two quiet cores.
"""

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks import scaling, table
from benchmarks.bf16 import bf16_products
from benchmarks.cases import CASES, Ours
from benchmarks.floor import Floor
from benchmarks.measure import Measure, alternate, machine_facts, ratios, summarise
from benchmarks.slides import slides_loop
from benchmarks.waits import measure_waits
from helpers.device import pick_device
from helpers.draw.figures import to_png
from helpers.files import write_atomically

BATCH_SIZE = 100


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    device = pick_device(options.device)
    options.output.mkdir(parents=True, exist_ok=True)  # one that cannot be made shows now, not after minutes
    if options.threads:
        torch.set_num_threads(options.threads)
    facts = machine_facts(device)
    print("\n".join(f"# {name}: {value}" for name, value in facts.items()), flush=True)

    # First, because Linux counts this process's memory at the start of another as the other's peak.
    measures = report(measure_waits(min(options.rounds, 3), device))
    # Random pixels: neither the products nor Pillow are faster or slower for digits.
    bytes_ = torch.randint(0, 256, (options.images, 28, 28), dtype=torch.uint8)
    images = (bytes_[:, None].float() / 127.5 - 1).to(device)
    measures += report(measure_loops(bytes_, images, options.rounds, options.batches, cuda_graph=options.cuda_graph))
    points = scaling.measure_scaling(images, min(options.rounds, 3), options.seconds, options.cuda_graph)
    settings = {
        "batch_size": BATCH_SIZE,
        "rounds": options.rounds,
        "batches": options.batches,
        "images": options.images,
        "cuda_graph": options.cuda_graph,
    }
    new = {"machine": facts, "settings": settings, "measures": [asdict(m) for m in measures], "scaling": points}
    write(new, device.type, options.output)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time the training loop.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each contestant's turn comes (default: 9)")
    parser.add_argument("--batches", type=int, default=40, help="batches per turn, a multiple of 5 (default: 40)")
    parser.add_argument("--images", type=int, default=60_000, help="size of the set (default: MNIST's 60,000)")
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds per turn in the sweeps (default: 0.3)")
    parser.add_argument("--cuda-graph", action="store_true", help="on CUDA: our steps and the floor's as graphs")
    parser.add_argument("--output", type=Path, default=table.RESULTS.parent, help="folder for what is written")
    options = parser.parse_args(arguments)
    for name in ("rounds", "batches", "images"):
        least = max(scaling.SWEEPS["batch_size"][0]) if name == "images" else 1
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: must be at least {least}")
    if options.batches % 5:
        parser.error(f"--batches {options.batches}: must be a multiple of 5, WGAN-GP's critic steps")
    return options


def measure_loops(
    bytes_, images, rounds: int, batches: int, batch_size: int = BATCH_SIZE, cuda_graph: bool = False
) -> list[Measure]:
    """Seconds per epoch of MNIST of every system in the three loops, and the ratios that the project aims at.

    Our loop has two turns, the second with products in bfloat16 inside ("ours_bf16"; on CUDA that setting means TF32).
    """
    runs = {}
    for case in CASES:
        ours = Ours(case, images, batch_size, cuda_graph)
        runs[f"{case.name}/slides"] = slides_loop(case, bytes_, batch_size, images.device).run
        runs[f"{case.name}/ours"] = ours.run
        runs[f"{case.name}/ours_bf16"] = bf16_products()(ours.run)  # a context manager is a decorator, too
        runs[f"{case.name}/floor"] = Floor(case, batch_size, images.device, cuda_graph).run
    times = alternate({name: partial(run, batches) for name, run in runs.items()}, rounds, images.device)
    epoch = scaling.MNIST / batch_size / batches
    measures = [summarise(name, [epoch * t for t in seconds], "s/epoch") for name, seconds in times.items()]

    def compare(name, above, below):
        measures.append(summarise(name, ratios(times[above], times[below]), "ratio"))

    for case in CASES:
        compare(f"{case.name}/slides_over_ours", f"{case.name}/slides", f"{case.name}/ours")
        compare(f"{case.name}/ours_over_floor", f"{case.name}/ours", f"{case.name}/floor")
        compare(f"{case.name}/slides_over_ours_bf16", f"{case.name}/slides", f"{case.name}/ours_bf16")
        compare(f"{case.name}/ours_bf16_over_floor", f"{case.name}/ours_bf16", f"{case.name}/floor")
    for name in ("sngan", "psg_2"):
        compare(f"{name}/ours_over_gan", f"{name}/ours", "gan/ours")
        compare(f"{name}/floor_over_gan", f"{name}/floor", "gan/floor")
        compare(f"{name}/ours_bf16_over_gan", f"{name}/ours_bf16", "gan/ours_bf16")
    return measures


def write(new: dict, device: str, folder: Path) -> None:
    """Put the entry of this kind of device into results.json, and draw and tabulate what is there."""
    results = folder / "results.json"
    all_devices = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    all_devices[device] = new
    write_atomically(results, (json.dumps(all_devices, indent=1) + "\n").encode())
    write_atomically(folder / "scaling.png", to_png(scaling.draw(new["scaling"], new["machine"])))
    if results == table.RESULTS:
        table.update_readme()


def report(measures: list[Measure]) -> list[Measure]:
    print("\n".join(map(str, measures)), flush=True)
    return measures


if __name__ == "__main__":
    main()
