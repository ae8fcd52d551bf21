"""Adds measures to records that are older than the measure: ``python -m helpers.evidence.remeasure``.

Only runs that kept their generators' weights can be measured again, and only after their last epoch. The weights were
rounded to half precision, so a number is added only where the recorded FID comes out again to within one per cent;
numbers that are there already stay as they are. The record says when and with which code that was done.
"""

import argparse
import json
import time
from pathlib import Path

from helpers.data.catalogue import load_dataset
from helpers.evidence.provenance import describe_environment
from helpers.evidence.records import RUNS, RecordError, read_record, seal
from helpers.files import write_atomically
from helpers.gan.systems import make_trainer
from helpers.measure.judge import find_ruler

CLOSE = 0.01  # of the recorded FID


def remeasure(folder: Path) -> list[str]:
    """Add what the data set's ruler measures and the record lacks, for the mixture; the names that were added."""
    record = read_record(folder)
    last = max(record.quality)
    then = record.quality[last]["mixture"]
    if "fid" not in then:
        raise RecordError(f"{folder}: no FID was recorded, which would have to come out again; nothing is added")
    ruler, trainer = _ruler_and_trainer(folder, record)
    players = len(set(trainer.generators))  # as the judge counts and draws them
    samples = trainer.sample(count=ruler.count // players, seed=record.seed + 2)[:players]
    found = ruler.measure(samples.flatten(0, 1))
    if abs(found["fid"] / then["fid"] - 1) > CLOSE:
        raise RecordError(f"{folder}: FID {found['fid']:.4g} where {then['fid']:.4g} was recorded; nothing is added")
    new = {name: float(f"{value:.9g}") for name, value in found.items() if name not in then}
    if new:
        path = Path(folder) / "record.json"
        body = json.loads(path.read_text(encoding="utf-8"))
        del body["sha256"]
        body["quality"][str(last)]["mixture"] |= new
        body["provenance"]["remeasured"] = {
            "what": sorted(new),
            "from": "weights of half precision",
            "date": time.strftime("%Y-%m-%d"),
            **{key: describe_environment("cpu")[key] for key in ("torch", "revision")},
        }
        write_atomically(path, seal(body))
    return sorted(new)


def _ruler_and_trainer(folder: Path, record):
    dataset, system = Path(folder).parts[-3:-1]
    images = load_dataset(dataset)
    ruler = find_ruler(dataset, images)
    if ruler is None:
        raise RecordError(f"{folder}: {dataset} is not the real thing here, so nothing can be measured")
    trainer = make_trainer(system, images, batch_size=record.history.settings["batch_size"])
    record.give_weights(trainer.generators)
    return ruler, trainer


def main(arguments: list[str] | None = None) -> None:
    """The command: all records of a data set that kept weights, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m helpers.evidence.remeasure", description=main.__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="data/runs/mnist/gan/seed0 and so on")
    chosen = parser.parse_args(arguments)
    folders = chosen.folders or [path.parent for path in sorted(RUNS.glob("mnist/*/*/weights.safetensors"))]
    for folder in folders:
        try:
            print(f"{folder}: added {', '.join(remeasure(folder)) or 'nothing'}")
        except RecordError as error:
            print(f"left as it is: {error}")


if __name__ == "__main__":
    main()
