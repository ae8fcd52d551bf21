"""The speed table of the project's README, written from results.json: ``python -m benchmarks.table``."""

import json
from pathlib import Path

from benchmarks.cases import CASES
from helpers.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULTS, README = ROOT / "benchmarks" / "results.json", ROOT / "README.md"
BEGIN, END = "<!-- speed table: written by python -m benchmarks.table -->", "<!-- end of the speed table -->"


def speed_table(results: dict) -> str:
    """The Markdown between the markers, for every device that results.json holds."""
    parts = []
    for kind, report in results.items():
        rounded = "TF32" if kind == "cuda" else "bf16"  # what the one setting means there
        facts, value = report["machine"], {m["name"]: m["value"] for m in report["measures"]}
        rows = [
            f"| {case.label} | {value[f'{case.name}/slides']:.3g} s | {value[f'{case.name}/ours']:.3g} s "
            f"| {value[f'{case.name}/floor']:.3g} s | {value[f'{case.name}/slides_over_ours']:.2f} "
            f"| {value[f'{case.name}/ours_over_floor']:.2f} | {value[f'{case.name}/ours_bf16']:.3g} s "
            f"| {value[f'{case.name}/slides_over_ours_bf16']:.2f} |"
            for case in CASES
        ]
        memory = value.get("memory/peak_training_gan")
        load, cores = facts["load_before"], facts["cores"]
        busy = f" (NOT a quiet machine: load {load} on {cores} cores before it began)" if load and load > cores else ""
        parts.append(
            f"Seconds per epoch of MNIST on {facts['device']}, {facts['threads']} "
            f"thread{'s' if facts['threads'] > 1 else ''}, torch {facts['torch']}, {facts['date']}{busy}:\n\n"
            "| system | usual loop | our loop | floor | usual / ours | ours / floor "
            f"| {rounded} | usual / {rounded} |\n"
            "|---|---|---|---|---|---|---|---|\n"
            + "\n".join(rows)
            + f"\n\nAgainst GAN, our loop: SNGAN {value['sngan/ours_over_gan']:.2f} times (floor "
            f"{value['sngan/floor_over_gan']:.2f}), PSG-GAN with K = 2 {value['psg_2/ours_over_gan']:.2f} times (floor "
            f"{value['psg_2/floor_over_gan']:.2f}). From starting Python to the first training step: "
            f"{value['wait/start_to_first_batch']:.1f} s" + (f"; peak memory {memory:.0f} MiB." if memory else ".")
        )
    return "\n\n".join(parts)


def between_markers(text: str) -> str:
    """What stands between the markers; a ValueError that names them where they are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md needs these two lines once each: {BEGIN} and {END}")
    return text.split(BEGIN)[1].split(END)[0].strip()


def update_readme(results: Path = RESULTS, readme: Path = README) -> None:
    """Write the table of results.json into the README."""
    text = readme.read_text(encoding="utf-8")
    between_markers(text)
    table = speed_table(json.loads(results.read_text(encoding="utf-8")))
    before, rest = text.split(BEGIN)
    new = f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
    write_atomically(readme, new.encode())


if __name__ == "__main__":
    update_readme()
