"""What a training run leaves behind: one row of numbers per epoch, sample grids at chosen epochs, and how it ended."""

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class History:
    """The measured course of one run.

    ``history["d_loss"]`` is a numpy array with one value per finished epoch; ``columns`` lists the names.
    ``grids`` maps an epoch (0 = before training) to uint8 samples of the same fixed latents, (K, n, C, H, W);
    for 2-D points they are float32, (K, n, 2).
    ``status`` is "running", "complete", "interrupted" or "diverged"; ``events`` holds what was noticed on the way,
    each as {"kind", "epoch", "message"}.
    """

    settings: dict = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    grids: dict[int, np.ndarray] = field(default_factory=dict)
    status: str = "running"
    events: list[dict] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of finished epochs."""
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    def __getitem__(self, column: str) -> np.ndarray:
        if self.rows and column not in self.rows[0]:
            raise KeyError(f"no column {column!r} in this history; there are: {', '.join(self.columns)}")
        return np.array([row[column] for row in self.rows])

    @property
    def generators(self) -> int:
        """K, the batches of fakes in a step: of K generators, or of one that takes part K times."""
        return self.settings["generators"]

    @property
    def label(self) -> str:
        return self.settings.get("label") or self.settings["objective"]["name"]

    def to_dict(self) -> dict:
        """Everything but the grids, ready for JSON (which has no NaN: such values become None)."""

        # Nine digits give back every float32 exactly, and take half the room of repr.
        def nine_digits(value):
            if isinstance(value, int):
                return value
            return float(f"{value:.9g}") if math.isfinite(value) else None

        columns = {name: [nine_digits(row[name]) for row in self.rows] for name in self.columns}
        return {"settings": self.settings, "columns": columns, "status": self.status, "events": self.events}

    @classmethod
    def from_dict(cls, saved: dict) -> "History":
        """The history that ``to_dict`` was taken from, bit by bit, for its measures are float32.

        Not so ``seconds``, which come back rounded to float32, and infinite values, which come back as NaN.
        """

        def exact(value):
            return value if isinstance(value, int) else math.nan if value is None else float(np.float32(value))

        columns = {name: [exact(value) for value in values] for name, values in saved["columns"].items()}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return cls(saved["settings"], rows, {}, saved["status"], saved["events"])
