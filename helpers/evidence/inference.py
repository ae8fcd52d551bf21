"""What a few seeds can say: means with intervals, effects of one system against another, trends, and Holm's correction.

Seeds of two systems are not paired. They share the first weights of G1 and one epoch's order of images, but over 36
pairs of systems and three measures their results correlate by -0.01 on average, so pairing would only cost degrees of
freedom: effects are Welch's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, isnan, log, nan

import numpy as np

from helpers.measure import stability

LEAST_SEEDS = 3  # fewer give no verdict: an interval from two seeds is wider than anything worth saying
NEGLIGIBLE = 0.005  # half a per cent of a share, or of a nat: no figure of the paper would show it
LEVEL = 0.05  # an interval misses its true value, and a claim's family of tests errs, this often


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t); low and high are NaN for a single seed.

    By logarithms: the geometric mean, and the interval of the logarithms' mean, brought back by ``exp``. It lies above
    0, as the values do.
    """

    mean: float
    low: float
    high: float
    seeds: int
    values: tuple[float, ...] = ()  # one per seed

    @classmethod
    def of(cls, values, by_logarithms: bool = False) -> "Interval":
        """NaN is left out; by logarithms also what is not positive."""
        values = [value for value in _known(values) if value > 0 or not by_logarithms]
        if not values:
            return cls(nan, nan, nan, 0)
        if by_logarithms:
            found = tuple(map(exp, stability.across_seeds([log(value) for value in values])))
        else:
            found = stability.across_seeds(values)
        return cls(*found, len(values), tuple(values))

    def by_seed(self) -> str:
        """The mean and every seed's own number: no interval of three can say more than these."""
        listed = f" ({', '.join(f'{value:.3g}' for value in self.values)})"
        return f"{self.mean:.3g}{listed}" if len(self.values) > 1 else str(self)

    def p(self, border: float) -> float:
        """0 where the whole interval lies on one side of the border, else 1: an interval that is no t interval.

        1 also where the interval is unknown.
        """
        return 0.0 if border < self.low or border > self.high else 1.0

    def __str__(self) -> str:
        if not self.seeds:
            return "—"
        shown = f"{self.mean:.3g}"
        return shown if isnan(self.low) else f"{shown} [{self.low:.3g}, {self.high:.3g}]"


# How an effect is shown, and the way back to the scale on which it is distributed like Student's t.
UNITS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "level": (lambda x: x, lambda x: x),
    "difference": (lambda x: x, lambda x: x),
    "earlier": (lambda x: -x, lambda x: -x),  # a difference of epochs, turned round
    "ratio": (exp, lambda x: log(x) if x > 0 else -inf),
    "reduction": (lambda x: 1 - exp(x), lambda x: log(1 - x) if x < 1 else -inf),
}


@dataclass(frozen=True)
class Effect:
    """An estimate with its standard error and degrees of freedom, on the scale of its unit.

    seeds: of each side; ``mean``, ``low`` and ``high`` are as the unit shows them
    """

    unit: str
    centre: float
    error: float
    freedom: float
    seeds: tuple[int, ...]

    @property
    def enough(self) -> bool:
        return min(self.seeds) >= LEAST_SEEDS

    @property
    def mean(self) -> float:
        return UNITS[self.unit][0](self.centre)

    @property
    def ends(self) -> tuple[float, float]:
        """The 95 % interval."""
        if isnan(self.error):
            return nan, nan
        from scipy.stats import t

        half = t.ppf(1 - LEVEL / 2, self.freedom) * self.error
        shown = UNITS[self.unit][0]
        low, high = sorted((shown(self.centre - half), shown(self.centre + half)))
        return float(low), float(high)

    def p(self, border: float) -> float:
        """Two-sided p value of the effect being just at the border (given as the unit shows it)."""
        if isnan(self.error):
            return nan
        distance = abs(self.centre - UNITS[self.unit][1](border))
        if self.error == 0:  # the seeds agree to the last digit, as epochs may
            return 1.0 if distance == 0 else 0.0
        from scipy.stats import t

        return float(2 * t.sf(distance / self.error, self.freedom))

    def __str__(self) -> str:
        if not min(self.seeds):
            return "—"
        low, high = self.ends
        return f"{self.mean:.3g}" if isnan(low) else f"{self.mean:.3g} [{low:.3g}, {high:.3g}]"


def level(values: Sequence[float]) -> Effect:
    """The mean of one system's seeds."""
    values = _known(values)
    return Effect("level", *_mean_and_error(values), len(values) - 1, (len(values),))


def effect(values: Sequence[float], others: Sequence[float], unit: str = "difference") -> Effect:
    """One system's seeds against another's, by Welch: a difference (also "earlier"), or by logarithms a ratio or a
    reduction."""
    if unit in ("ratio", "reduction"):
        values, others = ([log(value) if value > 0 else nan for value in side] for side in (values, others))
    values, others = _known(values), _known(others)
    seeds = len(values), len(others)
    (a, error_a), (b, error_b) = _mean_and_error(values), _mean_and_error(others)
    parts = error_a**2, error_b**2
    total = sum(parts)
    freedom = float(sum(seeds) - 2)
    if total > 0:  # Welch and Satterthwaite
        freedom = total**2 / sum(part**2 / (count - 1) for part, count in zip(parts, seeds, strict=True))
    return Effect(unit, a - b, float(np.sqrt(total)), freedom, seeds)


def _known(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values if not isnan(value)]


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (values[0] if values else nan), nan
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: below 0.05 are those that may be called at once with 5 % error for all together.

    Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p_values)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Trend:
    """How much a curve still moves in the second half of its runs, and how much would not matter.

    change: over the second half, on a straight line, seed by seed; margin: a tenth of the range that the mean curve,
    smoothed, passes through in the whole run, the same band that the convergence epoch is judged by, and at least
    NEGLIGIBLE, for a curve that never moved at all
    """

    change: Interval
    margin: float

    @property
    def settles(self) -> bool | None:
        """True where the interval of the change lies within the margin, False where the curve moves further than that
        and not by chance, None where the seeds cannot tell."""
        if self.change.seeds < LEAST_SEEDS:
            return None
        if max(abs(self.change.low), abs(self.change.high)) <= self.margin:
            return True
        moves = self.change.low > 0 or self.change.high < 0
        return False if moves and abs(self.change.mean) > self.margin else None

    def __str__(self) -> str:
        word = {True: "settles", False: "does not settle", None: "cannot be told"}[self.settles]
        return f"{word} (moves by {self.change} in the second half, margin {self.margin:.2g})"


def trend(curves: Sequence[np.ndarray], band: float = 0.1) -> Trend:
    """The trend of one quantity, from one curve per seed."""
    length = min(map(len, curves))
    mean = stability.smooth(np.mean([curve[:length] for curve in curves], axis=0))
    margin = max(band * float(np.ptp(mean)), NEGLIGIBLE)
    return Trend(Interval.of([stability.drift(curve) for curve in curves]), margin)
