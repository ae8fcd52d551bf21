"""Numbers about stability, computed from histories: gap, distance to equilibrium, oscillation, convergence.

Every function takes one History or one curve (a numpy array, a value per epoch); ``across_seeds`` joins several runs.
"""

import numpy as np

from helpers.gan import objectives
from helpers.gan.history import History


def gap(history: History, halved: bool = False) -> np.ndarray:
    """|L_D - L_G| per epoch, the paper's gap; ``halved`` takes half of L_D, a mean over real and fake instead of a sum.

    The paper does not say which it means, and they disagree: at a GAN's equilibrium L_D = 2 ln 2 and L_G = ln 2, so the
    first is ln 2 = 0.693 there and the second 0.
    """
    return np.abs(history["d_loss"] * (0.5 if halved else 1) - history["g_loss"])


def distance_to_equilibrium(history: History) -> np.ndarray:
    """Distance of (L_D / L_D*, L_G / L_G*) from (1, 1) per epoch, where * marks the objective's own equilibrium.

    Unlike the gap it does not depend on how the losses are added up. NaN where the objective has no such values.
    """
    target = equilibrium(history)
    if not target.get("d_loss") or not target.get("g_loss"):
        return np.full(len(history), np.nan)
    return np.hypot(history["d_loss"] / target["d_loss"] - 1, history["g_loss"] / target["g_loss"] - 1)


def called_real(history: History) -> np.ndarray:
    """The share of D's inputs that it calls real, per epoch: (real called real + K x fake called real) / (1 + K).

    A D that is always right gives 1/2 with one generator and 1/3 with two: the paper's "real 1, fake 2" read this way
    asks for no equilibrium.
    """
    k = history.generators
    return (history["accuracy_real"] + k * (1 - history["accuracy_fake"])) / (1 + k)


def mean_answer(history: History) -> np.ndarray:
    """The mean of D over all of its inputs, per epoch: (D(x) + K D(G(z))) / (1 + K).

    Where D's last bias is stationary, the derivative of D's loss in it is 0. For summed fakes that is
    sum of D over all inputs = number of real ones, so this mean is 1/(1 + K) at any quality; for averaged fakes it is
    mean D(x) + mean D(G(z)) = 1.
    """
    k = history.generators
    return (history["d_real"] + k * history["d_fake"]) / (1 + k)


def push(history: History) -> np.ndarray:
    """The push on one generator, per epoch: the length of the gradient of its own loss in its own weights.

    What is recorded is the norm over the weights of all K generators together, of a loss in which each generator's own
    counts 1/K: sqrt(sum of |grad_k|^2) / K. Times sqrt(K) that is the root mean square of the K lengths |grad_k|. (So
    for generators with weights of their own; under Algorithm 1 a loss counts 1/K only where the real image wins.)
    """
    return history["g_grad_norm"] * history.generators**0.5


def equilibrium(history: History) -> dict[str, float]:
    """The known values of the history's objective where every generator matches the data and D is optimal."""
    described = dict(history.settings["objective"])
    return getattr(objectives, described.pop("name"))(**described).equilibrium(history.generators)


def smooth(curve: np.ndarray, window: int = 5) -> np.ndarray:
    """Centred moving average; near the ends it averages over what there is. A curve shorter than ``window`` stays."""
    weights = np.convolve(np.ones(len(curve)), np.ones(window), "same")
    return np.convolve(curve, np.ones(window), "same") / weights if len(curve) >= window else np.asarray(curve)


def oscillation(curve: np.ndarray, window: int = 5) -> float:
    """Standard deviation of what is left when the smoothed curve is taken off: jumps from epoch to epoch.

    The first ``window`` epochs are left out where there are twice as many: the fall at the start is no oscillation.
    NaN for a curve shorter than ``window``, which cannot be smoothed.
    """
    if len(curve) < window:
        return np.nan
    rest = curve - smooth(curve, window)
    return float(np.std(rest[window:] if len(rest) >= 2 * window else rest))


def convergence_epoch(curve: np.ndarray, band: float = 0.1, window: int = 5, final_share: float = 0.2) -> int | None:
    """The first epoch from which the smoothed curve stays within ``band`` of its final level; None if it never does.

    The final level is the mean of the smoothed curve over the last ``final_share`` of the epochs; ``band`` is a share
    of the distance between the curve's largest and smallest smoothed value. The paper names no rule, and the answer
    depends on all three: show it for several bands. A curve that never settles gets a late epoch; one that leaves the
    band at the end, or is not finite, gets None.
    """
    if not np.isfinite(curve).all():
        return None
    smoothed = smooth(np.asarray(curve, dtype=float), window)
    level = smoothed[-max(round(len(smoothed) * final_share), 1) :].mean()
    outside = np.abs(smoothed - level) > band * np.ptp(smoothed)
    if not outside.any():
        return 1
    last = int(np.flatnonzero(outside)[-1])
    return None if last == len(smoothed) - 1 else last + 2  # epochs count from 1, and the next one is inside


def final_level(curve: np.ndarray, final_share: float = 0.2) -> float:
    """Mean over the last ``final_share`` of the epochs."""
    return float(np.mean(curve[-max(round(len(curve) * final_share), 1) :]))


def drift(curve: np.ndarray) -> float:
    """How much the curve changes in its second half: the rise of the straight line that fits it best there."""
    half = np.asarray(curve, dtype=float)[len(curve) // 2 :]
    if len(half) < 2:
        return np.nan
    slope, _ = np.polyfit(np.arange(len(half)), half, 1)
    return float(slope * (len(half) - 1))


def across_seeds(values) -> tuple[float, float, float]:
    """Mean of one number per seed and its 95 % confidence interval (Student's t): (mean, low, high).

    One seed alone gives an interval of (nan, nan): it says nothing about the next.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), np.nan, np.nan
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
