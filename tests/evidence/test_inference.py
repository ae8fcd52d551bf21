"""What a few seeds can say: against scipy, hand calculations and published examples."""

import math

import numpy as np
import pytest
from scipy import stats

from helpers.evidence import inference
from helpers.evidence.inference import Effect, Interval, Trend, holm


def test_interval_by_hand():
    interval = Interval.of([1.0, 2.0, 3.0, math.nan])
    assert interval.seeds == 3 and interval.mean == 2
    assert interval.high - 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert str(Interval.of([])) == "—" and str(Interval.of([0.5])) == "0.5"
    assert Interval.of([1.0, 2.0]).by_seed() == "1.5 (1, 2)" and Interval.of([]).by_seed() == "—"


def test_interval_by_logarithms_by_hand():
    interval = Interval.of([1.0, 2.0, 4.0, math.nan, 0.0], by_logarithms=True)
    assert interval.seeds == 3 and interval.values == (1, 2, 4), "what is not positive has no logarithm"
    assert interval.mean == pytest.approx(2), "the geometric mean"
    factor = 2 ** (4.3027 / math.sqrt(3))  # the logarithms, in units of ln 2, are 0, 1 and 2
    assert (interval.low, interval.high) == pytest.approx((2 / factor, 2 * factor), rel=1e-4)
    assert str(Interval.of([0.5], by_logarithms=True)) == "0.5" and not Interval.of([0.0], by_logarithms=True).seeds


@pytest.mark.parametrize("others", [[2.0, 4.0, 4.4], [2.0, 4.0], [1.5, 1.6, 1.4, 1.5]])
def test_a_difference_is_welch_s(others):
    values = [1.0, 2.0, 3.5, math.nan]
    found, expected = inference.effect(values, others), stats.ttest_ind(values[:3], others, equal_var=False)
    assert found.mean == pytest.approx(np.mean(values[:3]) - np.mean(others))
    assert found.p(0) == pytest.approx(expected.pvalue)
    assert found.ends == pytest.approx(tuple(expected.confidence_interval()))
    assert found.seeds == (3, len(others)) and found.enough == (len(others) >= 3)


def test_a_level_is_students():
    found = inference.level([0.3, 0.32, 0.37])
    assert found.p(1 / 3) == pytest.approx(stats.ttest_1samp([0.3, 0.32, 0.37], 1 / 3).pvalue)
    interval = Interval.of([0.3, 0.32, 0.37])
    assert found.ends == pytest.approx((interval.low, interval.high))


def test_ratio_and_reduction_are_taken_by_logarithms():
    ratio = inference.effect([1.0, 4.0], [2.0, 2.0], "ratio")
    assert ratio.mean == pytest.approx(1.0)  # half and double
    low, high = ratio.ends
    assert low * high == pytest.approx(1.0)
    reduction = inference.effect([1.0, 4.0], [2.0, 2.0], "reduction")
    assert reduction.ends == pytest.approx((1 - high, 1 - low))
    assert reduction.p(0.4) == pytest.approx(ratio.p(0.6)), "a border means the same in both units"
    assert inference.effect([0.0, 1.0], [1.0], "ratio").seeds == (1, 1), "what is not positive has no logarithm"


def test_earlier_turns_a_difference_round():
    earlier = inference.effect([75.0, 76.0, 80.0], [125.0, 120.0, 127.0], "earlier")
    plain = inference.effect([75.0, 76.0, 80.0], [125.0, 120.0, 127.0])
    assert earlier.mean == -plain.mean and earlier.ends == (-plain.ends[1], -plain.ends[0])
    assert earlier.p(25) == plain.p(-25)


def test_seeds_that_agree_to_the_last_digit_are_decided():
    found = inference.effect([9.0, 9.0, 9.0], [12.0, 12.0, 12.0], "earlier")
    assert found.ends == (3, 3) and found.p(0) == 0 and found.p(3) == 1


def test_one_seed_has_no_interval():
    found = inference.effect([1.0], [2.0])
    assert str(found) == "-1" and math.isnan(found.p(0)) and not found.enough
    assert str(inference.effect([], [2.0])) == "—"


def test_an_interval_decides_only_what_it_excludes():
    interval = Interval(2.0, 1.0, 3.0, 9)
    assert [interval.p(border) for border in (0.9, 1.0, 2.5, 3.1)] == [0, 1, 1, 0]
    assert Interval.of([2.0]).p(0) == Interval.of([]).p(0) == 1, "nothing is known"


def test_holm_by_hand_and_in_any_order():
    # Smallest times 4, next times 3, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.2]) == [0.2] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_errs_in_one_family_of_twenty():
    """Four true null hypotheses: without correction one of them is called in 18.5 % of families."""
    draw = np.random.default_rng(0).uniform(size=(20_000, 4))
    called = np.mean([min(holm(list(each))) < 0.05 for each in draw[:4000]])
    assert (draw.min(1) < 0.05).mean() == pytest.approx(1 - 0.95**4, abs=0.01)
    assert called == pytest.approx(1 - (1 - 0.05 / 4) ** 4, abs=0.012)


# ---- trends


def curves(slope, noise=0.01, seeds=3, epochs=100):
    """A fall to 1 within 20 epochs, and then a line: its change over the second half is about 50 slopes."""
    epoch = np.arange(1, epochs + 1)
    draw = np.random.default_rng(1)
    return [1 + np.exp(-epoch / 4) + slope * epoch + noise * draw.standard_normal(epochs) for _ in range(seeds)]


def test_a_trend_is_the_change_over_the_second_half():
    found = inference.trend(curves(0.01, noise=0))
    assert found.change.mean == pytest.approx(49 * 0.01, rel=1e-3)
    assert found.margin == pytest.approx(0.1 * np.ptp(inference.stability.smooth(curves(0.01, noise=0)[0])))


@pytest.mark.parametrize(("slope", "expected"), [(0.0, True), (0.0005, True), (0.01, False), (-0.004, False)])
def test_what_settles(slope, expected):
    assert inference.trend(curves(slope)).settles is expected


def test_few_or_scattered_seeds_cannot_tell():
    assert inference.trend(curves(0.01, seeds=2)).settles is None
    scattered = [curves(slope)[0] for slope in (-0.01, 0.0, 0.012)]
    assert inference.trend(scattered).settles is None
    assert "cannot be told" in str(inference.trend(scattered))
    assert Trend(Interval(0.2, 0.19, 0.21, 3), 0.1).settles is False
    assert Trend(Interval(0.05, -0.2, 0.3, 3), 0.1).settles is None


def test_an_effect_says_what_it_is():
    assert str(Effect("ratio", math.log(2), 0.0, 4, (3, 3))) == "2 [2, 2]"
