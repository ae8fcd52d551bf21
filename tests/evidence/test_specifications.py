"""What is read off the multiverse, on constructed runs of which the answer is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.evidence import recorder, specifications
from helpers.gan import multiverse
from helpers.gan.history import History
from helpers.gan.multiverse import CHOICES, EPOCHS, SPECIFICATIONS, SYSTEMS
from helpers.gan.objectives import GAN, PSG


def write(root, name, system, fid, gap=0.5):
    """One constructed run: levels that do not move, a given FID and gap."""
    count = 2 if system == "psg_average" else 1
    row = {"d_loss": 1.2, "g_loss": 1.2 - gap, "pick_accuracy": 0.7, "d_real": 0.6, "d_fake": 0.4}
    row |= {f"g{k}_loss": row["g_loss"] for k in range(1, count + 1)} | {"accuracy_real": 0.6, "accuracy_fake": 0.6}
    objective = (PSG() if count == 2 else GAN()).describe()
    settings = {"seed": 0, "label": system, "objective": objective, "generators": count}
    rows = [{"epoch": epoch} | row for epoch in range(1, EPOCHS + 1)]
    grids = {EPOCHS: np.zeros((count, 1, 1, 28, 28), np.uint8)}
    trainer = SimpleNamespace(history=History(settings, rows, grids, "complete"))
    folder = root if name == "centre" else root / "multiverse" / name
    folder = folder / "mnist" / system / "seed0"
    folder.mkdir(parents=True)
    quality = {EPOCHS: {"mixture": {"fid": fid}}}
    recorder._write_record(folder, {}, trainer, {"specification": {}}, quality, weights=False)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """All specifications; dropout doubles PSG-GAN's FID, which is 0.8 of SNGAN's, and nothing else does anything."""
    root = tmp_path_factory.mktemp("runs")
    for name, specification in SPECIFICATIONS.items():
        for system in SYSTEMS:
            fid = 8.0 * (2 if specification.d_dropout else 1) if system == "psg_average" else 10.0
            write(root, name, system, fid, gap=0.3 if system == "psg_average" else 0.5)
    return specifications.read_outcomes(root)


def test_outcomes_are_sorted_and_say_what_was_chosen(outcomes):
    ratios = [outcome.fid_ratio for outcome in outcomes]
    assert ratios == sorted(ratios) and {round(ratio, 6) for ratio in ratios} == {0.8, 1.6}
    assert len(outcomes) == 13 and all(outcome.seeds == 1 for outcome in outcomes)
    high = specifications.high_levels
    assert high(outcomes[-1].name)["d_dropout"] and not high(outcomes[0].name)["d_dropout"]
    assert outcomes[0].reduction == pytest.approx(0.4)
    assert outcomes[0].reduction_halved == pytest.approx(1 - 0.3 / 0.1)


def test_agreement_counts_the_rows_of_the_design(outcomes):
    assert list(specifications.agreement(outcomes).values()) == [(6, 12), (12, 12), (0, 12), (0, 12)]


def ratio(outcome):
    return outcome.fid_ratio


def with_rest(size):
    """The ratio of FIDs, off by a factor that none of the choices explains.

    The design's seventh column is none of the choices, and orthogonal to them.
    """
    seventh = {name: row[6] for name, row in zip(multiverse.ROWS, multiverse.design(7), strict=True)}
    return lambda outcome: ratio(outcome) * math.exp(size if seventh[outcome.name] else -size)


def test_the_choice_that_decides_is_found_and_no_other(outcomes):
    effects = specifications.main_effects(outcomes, with_rest(0.01))
    assert {choice: effect.mean for choice, effect in effects.items()} == pytest.approx(
        dict.fromkeys(CHOICES, 1) | {"d_dropout": 2}
    )
    assert specifications.clear_choices(effects) == ["d_dropout"]


def test_an_effect_is_as_uncertain_as_what_the_model_leaves_over(outcomes):
    """By hand: twelve rows off by 0.3 each leave 12 * 0.09 over five degrees of freedom, a variance of 0.216; a
    difference of two means of six has a third of it.
    """
    effects = specifications.main_effects(outcomes, with_rest(0.3))
    for effect in effects.values():
        assert effect.error == pytest.approx(math.sqrt(0.216 / 3)) and effect.freedom == 5
    assert effects["d_dropout"].ends == pytest.approx([2 * math.exp(s * 2.5706 * 0.268328) for s in (-1, 1)], rel=1e-4)
    assert specifications.clear_choices(effects) == []  # 0.69 is 2.6 errors: p = 0.05, and six times that by Holm


def test_without_all_rows_there_are_no_main_effects(outcomes, tmp_path):
    assert specifications.main_effects(outcomes[:7], ratio) == {}
    assert specifications.read_outcomes(tmp_path) == []


def test_a_row_needs_the_two_that_are_compared_and_no_third(tmp_path):
    for name, system in (("pb05", "psg_average"), ("pb05", "sngan"), ("pb06", "sngan")):
        write(tmp_path, name, system, fid=10.0)
    (outcome,) = specifications.read_outcomes(tmp_path)
    assert outcome.name == "pb05" and outcome.fid_ratio == pytest.approx(1) and "gan" not in outcome.fids
    assert specifications.read_fids("pb06", tmp_path) == pytest.approx({"sngan": 10.0})
