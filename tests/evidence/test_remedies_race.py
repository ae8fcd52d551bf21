"""The race of notebook 07: equal work, one rule for all racers; on constructed records of which the answer is known."""

import math
from types import SimpleNamespace

import pytest

from helpers.evidence import remedies
from helpers.evidence.claims import FAILS, HOLDS, NO_SEEDS, NOT_MEASURED, OPEN
from helpers.evidence.comparison import multiplications
from helpers.gan.systems import SYSTEMS


def run(fids: dict[int, float]):
    return SimpleNamespace(quality={epoch: {"mixture": {"fid": fid}} for epoch, fid in fids.items()})


def test_equal_work_of_the_reference_is_its_own_epoch():
    assert remedies.at_equal_work(run({20: 90.0, 50: 30.0}), "sngan", 50) == pytest.approx(30)
    assert remedies.at_equal_work(run({20: 90.0, 50: 30.0}), "sngan", 20) == pytest.approx(90)


def test_two_generators_have_fewer_epochs_for_the_same_work():
    worth = 50 * multiplications("sngan") / multiplications("psg_sn")
    assert worth == pytest.approx(50 / 1.77, rel=0.01)
    # FID = 1000 / epoch is a straight line in logarithms, so the interpolation is exact
    found = remedies.at_equal_work(run({20: 50.0, 50: 20.0}), "psg_sn", 50)
    assert found == pytest.approx(1000 / worth)


def test_work_that_was_never_spent_is_not_made_up():
    assert math.isnan(remedies.at_equal_work(run({20: 50.0}), "sngan", 50))
    assert math.isnan(remedies.at_equal_work(run({20: 50.0, 50: 9.0}), "sngan", 10))
    assert math.isnan(remedies.at_equal_work(run({}), "sngan", 50))


def seeds(*at_50):
    """Runs whose FID stays the same from epoch 5 on, so that equal work changes nothing."""
    return [run({5: fid, 20: fid, 50: fid}) for fid in at_50]


def test_the_rule_of_the_race():
    runs = {
        "sngan": seeds(30, 31, 32),
        "psg_sn": seeds(10, 10.5, 11),
        "mgan_sn": seeds(90, 91, 95),
        "psg_std": seeds(29, 40, 27),
        "gan_std": seeds(30, 31),
    }
    found = remedies.race(runs, 50)
    assert {system: found[system].verdict for system in runs if system != "sngan"} == {
        "psg_sn": HOLDS,
        "mgan_sn": FAILS,
        "psg_std": OPEN,
        "gan_std": NO_SEEDS,
    }
    assert found["psg_sn_std"].verdict == NOT_MEASURED
    assert found["psg_sn"].effect.mean == pytest.approx((10 * 10.5 * 11 / (30 * 31 * 32)) ** (1 / 3))


def test_a_verdict_does_not_change_because_another_remedy_is_recorded():
    """All that are tried make the family of tests from the start, recorded or not."""
    few = {"sngan": seeds(30, 31, 32), "psg_sn": seeds(26.5, 27, 28)}
    more = few | {"mgan_sn": seeds(30, 40, 33), "gan_std": seeds(33, 29, 31), "sngan_std": seeds(30, 33, 29)}
    assert remedies.race(few, 50)["psg_sn"].effect.p(1) < 0.05 / 5, "enough for a family of five"
    assert remedies.race(few, 50)["psg_sn"].verdict == remedies.race(more, 50)["psg_sn"].verdict == OPEN


def test_every_racer_is_a_system_and_its_counterpart_has_one_generator():
    for single, double in remedies.PAIRS.values():
        assert len(SYSTEMS[single].networks((1, 28, 28), 0)[0]) == 1
        assert len(SYSTEMS[double].networks((1, 28, 28), 0)[0]) > 1
