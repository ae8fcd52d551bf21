"""Claims and verdicts: computed from records, changed by a changed record, and right on constructed runs.

Records are made by hand here (nothing is trained): curves and quality numbers of which the answer is known.
"""

import json
import math

import numpy as np
import pytest
import torch

from helpers.evidence import claims, comparison, recorder, records, sheets
from helpers.evidence.claims import (
    DEPENDS,
    FAILS,
    HOLDS,
    NO_SEEDS,
    NOT_MEASURED,
    OPEN,
    TOO_SHORT,
    UNSETTLED,
    Claim,
    Finding,
)
from helpers.evidence.inference import Effect, Interval
from helpers.gan.history import History
from helpers.gan.systems import SYSTEMS

FID = {"gan": 30.0, "sngan": 25.0, "psg_average": 20.0, "psg_algorithm1": 28.0}


def make_record(system, seed, epochs=20, d_loss=1.2, g_loss=0.9, pick=None, fid=None, events=(), status="complete"):
    """A run whose curves stay at given levels, a little different for every seed."""
    names = SYSTEMS[system]
    shift = 0.01 * (seed - 1)
    count = 2 if system.startswith("psg") else 1
    row = {"d_loss": d_loss + shift, "g_loss": g_loss - shift, "pick_accuracy": (pick or 1 / (1 + count)) + shift}
    row |= {f"g{k}_loss": row["g_loss"] for k in range(1, count + 1)}
    row |= {"d_real": 0.5 + shift, "d_fake": 0.4, "accuracy_real": 0.6, "accuracy_fake": 0.7}
    row |= {"seconds": 5.0 * count + shift}
    rows = [{"epoch": epoch} | row | {"d_loss": row["d_loss"] + 0.5 / epoch} for epoch in range(1, epochs + 1)]
    objective = names.objective().describe()
    settings = {"seed": seed, "label": names.label, "objective": objective, "generators": count}
    history = History(settings, rows, {epochs: np.zeros((count, 4, 1, 28, 28), np.uint8)}, status, list(events))
    numbers = {"fid": (FID.get(system, 30.0) if fid is None else fid) + shift, "coverage": 0.5, "precision": 0.6}
    numbers |= {"recall": 0.4, "class_js": 0.01}
    quality = {epoch: {"mixture": numbers} for epoch in (1, 2, 5, 10, 20, 50, 100, 200) if epoch <= epochs}
    provenance = {"device": "cpu", "torch": "2", "threads": 1, "date": "2026", "revision": "abc", "command": "by hand"}
    return records.Record(None, history, provenance, quality)


def make_runs(systems=comparison.MAIN, seeds=(0, 1, 2), **options):
    return {system: [make_record(system, seed, **options) for seed in seeds] for system in systems}


def write(record, runs, system):
    """Put a constructed record on disk as the recorder would, checksum and all."""
    from types import SimpleNamespace

    folder = runs / "mnist" / system / f"seed{record.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    trainer = SimpleNamespace(history=record.history)
    name = {"system": system, "dataset": "mnist"}
    recorder._write_record(folder, name, trainer, record.provenance, record.quality, weights=False)


# ---- every number comes from the records ---------------------------------------------------------------------------


def test_a_changed_record_changes_the_table_and_the_verdict(tmp_path):
    for system, each in make_runs().items():
        for record in each:
            write(record, tmp_path, system)

    def everything():
        table = comparison.tabulate(comparison.read_all(runs=tmp_path), 20)
        return repr(sheets.claims_sheet(table)), repr(sheets.findings_sheet(table))

    before = everything()
    assert before == everything()  # and nothing else changes them
    for seed in range(3):
        write(make_record("psg_average", seed, fid=40.0), tmp_path, "psg_average")
    for old, new in zip(before, everything(), strict=True):
        assert old != new
    row = next(line for line in everything()[1].splitlines() if "average: FID" in line)
    assert row.endswith(f"3 and 3 | {FAILS}") and "| 1.6 [" in row and "MNIST, 20 epochs" in row
    assert next(line for line in before[1].splitlines() if "average: FID" in line).endswith(HOLDS)


def test_a_damaged_record_is_named_and_left_out(tmp_path):
    for record in make_runs(["gan"])["gan"]:
        write(record, tmp_path, "gan")
    path = tmp_path / "mnist" / "gan" / "seed1" / "record.json"
    path.write_text(path.read_text().replace('"seconds"', '"sekonds"', 1))
    with pytest.warns(UserWarning, match="seed1"):
        runs = comparison.read_all(runs=tmp_path)
    assert [run.seed for run in runs["gan"]] == [0, 2]


def test_without_records_nothing_is_found(tmp_path):
    assert comparison.read_all(runs=tmp_path) == {} and comparison.common_epochs({}) == 0


def test_coverage_is_counted_from_the_records():
    runs = make_runs(["gan", "psg_4"], seeds=(0, 1))
    for each, modes in zip(runs.values(), ((6.0, 8.0), (8.0, 8.0)), strict=True):
        for run, reached in zip(each, modes, strict=True):
            run.quality[20]["mixture"] = {"modes_covered": reached, "high_quality": 0.5, "kl": 0.25}
    stacked = {"gan": [make_record("gan", 0)]}
    stacked["gan"][0].quality[20]["mixture"] = {"modes_reached": 700.0, "kl": 1.0}
    sheet = sheets.coverage_sheet({"ring": runs, "stacked_mnist": stacked}, {"ring": 8, "stacked_mnist": 1000})
    assert [row[:4] for row in sheet.rows] == [
        ["ring", "GAN", 2, 20],
        ["ring", "PSG-GAN, K = 4", 2, 20],
        ["stacked_mnist", "GAN", 1, 20],
    ]
    assert sheet.rows[0][4] == "7 (6, 8) of 8"
    assert sheet.rows[2][4:] == ["700 of 1000", "—", "1"]


# ---- which runs are compared, and after which epoch ----------------------------------------------------------------


def test_common_epochs_is_what_enough_runs_of_each_method_have():
    runs = make_runs(epochs=20)
    runs["sngan"][0] = make_record("sngan", 0, epochs=200)
    assert comparison.common_epochs(runs) == 20
    assert comparison.common_epochs({"sngan": runs["sngan"]}, seeds=1) == 200
    runs["psg_average"] = [make_record("psg_average", 0, epochs=5)]
    assert comparison.common_epochs(runs) == 5  # the only run there is decides


def test_longer_runs_count_as_they_stood_at_the_common_epoch():
    short, long = make_record("gan", 0, epochs=20), make_record("gan", 0, epochs=200)
    assert comparison.course_numbers(short, 20) == comparison.course_numbers(long, 20)
    assert comparison.course_numbers(long, 200)["d_loss"] < comparison.course_numbers(long, 20)["d_loss"]


def test_the_same_run_after_more_and_more_epochs():
    whole = {"gan": [make_record("gan", 1, epochs=200, fid=30.0)]}
    whole["gan"][0].quality[200] = {"mixture": {"fid": 12.0}}
    sheet = sheets.over_time_sheet(whole, {"d_loss": "L_D", "fid": "FID"}, (50, 200))
    assert sheet.header == ["system", "measure", "epoch 50", "epoch 200"]
    assert sheet.rows[1] == ["GAN", "FID", "30", "12"]
    # L_D is 1.2 + 0.5 / epoch; its final level the mean over the last fifth
    assert [float(cell) for cell in sheet.rows[0][2:]] == pytest.approx([1.2 + 0.5 / 45, 1.2 + 0.5 / 180], abs=0.005)


def test_short_runs_are_left_out_and_diverged_ones_counted():
    runs = make_runs(seeds=(0, 1, 2, 3))
    runs["gan"][2] = make_record("gan", 2, epochs=15, status="diverged")
    runs["gan"][3] = make_record("gan", 3, epochs=7)
    collapse = {"kind": "collapsed", "epoch": 4, "message": ""}
    runs["sngan"][1] = make_record("sngan", 1, events=[collapse])
    table = comparison.tabulate(runs, 20)
    assert table.seeds("gan") == [0, 1] and table.diverged["gan"] == [2]
    row = next(row for row in sheets.runs_sheet(runs, table).rows if row[0] == "GAN")
    assert row[2] == 1
    row = next(row for row in sheets.runs_sheet(runs, table).rows if row[0] == "SNGAN")
    assert row[2:4] == [0, "1"]
    assert set(comparison.curves(runs, 15)) == {names.label for names in map(SYSTEMS.get, comparison.MAIN)}
    assert len(comparison.curves(runs, 15)["GAN"]) == 2  # neither the short run nor the one that ended in NaN just then


def test_quality_belongs_to_one_epoch_that_all_compared_runs_have():
    runs = make_runs(["gan", "sngan"], epochs=20)
    runs["gan"][1].quality[10]["mixture"] = {"fid": 77.0}
    assert comparison.tabulate(runs, 20).value("gan", 1, "fid") == 30.0
    table = comparison.tabulate(runs, 19)
    assert table.judged == 10 and table.value("gan", 1, "fid") == 77.0  # the last with quality up to there
    del runs["sngan"][0].quality[20]
    table = comparison.tabulate(runs, 20)
    assert table.judged == 10 and table.value("gan", 1, "fid") == 77.0  # no comparison of epochs 20 and 10
    for run in runs["gan"]:
        for epoch in (1, 2, 5, 10):
            del run.quality[epoch]
    assert comparison.tabulate(runs, 20).judged == 0 and math.isnan(
        comparison.tabulate(runs, 20).value("gan", 1, "fid")
    )


# ---- verdicts ------------------------------------------------------------------------------------------------------


def far(centre, error=0.01, seeds=(3, 3), unit="difference"):
    """An effect with a small standard error."""
    return Effect(unit, centre, error, 4, seeds)


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (far(0.4), HOLDS),
        (far(0.4, error=0.2), OPEN),
        (far(0.1), FAILS),
        (far(0.8), FAILS),
        (far(0.19), OPEN),  # outside, but not clearly
        (far(0.4, seeds=(3, 2)), NO_SEEDS),
        (Effect("difference", math.nan, math.nan, 0, (1, 3)), NO_SEEDS),
        (Effect("difference", math.nan, math.nan, 0, (0, 3)), NOT_MEASURED),
        (Interval(0.4, 0.3, 0.5, 9), HOLDS),
        (Interval(0.4, 0.1, 0.5, 9), OPEN),
        (Interval(0.7, 0.65, 0.8, 9), FAILS),
    ],
)
def test_verdict_by_the_place_of_the_effect(effect, expected):
    def verdict(**changes):
        finding = Finding("average", effect, (0.2, 0.6), "here", "L_D", **changes)
        return Claim("text", "source", "how", {}, [finding]).verdicts()["average"]

    measured = expected not in (NOT_MEASURED, NO_SEEDS)
    assert verdict() == expected
    assert verdict(too_short=True) == (NOT_MEASURED if expected == NOT_MEASURED else TOO_SHORT)
    assert verdict(settles=False) == (UNSETTLED if measured else expected)
    assert verdict(settles=None) == (OPEN if measured else expected)


def find(table, word) -> claims.Claim:
    (found,) = (claim for claim in claims.paper_claims(table) if word in claim.text)
    return found


YES, NO, PERHAPS, NOTHING = far(1), far(-1), far(0.01), Effect("difference", math.nan, math.nan, 0, (0, 0))
MOVES = {"settles": False}


def claim_of(*readings):
    """A claim with these readings: (convention, part, effect, further words)."""
    findings = [
        Finding("average", effect, (0, math.inf), "here", convention, part, **(more[0] if more else {}))
        for convention, part, effect, *more in readings
    ]
    return Claim("text", "source", "how", {}, findings)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([("a", "", YES), ("b", "", YES)], HOLDS),
        ([("a", "", YES), ("b", "", NO)], DEPENDS),
        ([("a", "", YES), ("b", "", PERHAPS)], OPEN),
        ([("a", "", NO), ("b", "", PERHAPS)], OPEN),
        ([("a", "", NO), ("b", "", YES, MOVES)], UNSETTLED),
        ([("", "a", YES), ("", "b", YES)], HOLDS),
        ([("", "a", YES), ("", "b", NO)], FAILS),  # both parts would have to be true
        ([("", "a", NO), ("", "b", PERHAPS)], FAILS),
        ([("", "a", YES), ("", "b", PERHAPS)], OPEN),
        ([("", "a", NO), ("", "b", NOTHING)], NOT_MEASURED),  # not outvoted
        ([("", "a", NO), ("", "b", far(1, seeds=(2, 3)))], NO_SEEDS),
        ([("", "a", NO), ("", "b", YES, MOVES)], UNSETTLED),
        ([("a", "1", YES), ("a", "2", YES), ("b", "1", YES), ("b", "2", NO)], DEPENDS),
        ([("a", "1", YES), ("a", "2", NO), ("b", "1", NO), ("b", "2", NO)], FAILS),
    ],
)
def test_how_readings_of_a_claim_become_one_verdict(readings, expected):
    claim = claim_of(*readings)
    assert claim.verdicts() == {"average": expected}
    assert claim.describe("average").startswith(expected)
    assert ("(" in claim.describe("average")) == (expected == DEPENDS)
    assert claim.describe("Algorithm 1") == NOT_MEASURED


def test_many_readings_of_a_claim_are_corrected_for():
    """One reading just below 5 % decides alone, and no longer among four that say nothing."""
    from scipy.stats import t

    just = Effect("difference", float(t.ppf(1 - 0.04 / 2, 4)), 1.0, 4, (3, 3))
    assert Finding("average", just, (0, math.inf), "here").p == pytest.approx(0.04)
    assert claim_of(("a", "", just)).verdicts() == {"average": HOLDS}
    others = [(letter, "", PERHAPS) for letter in "bcd"]
    assert claim_of(("a", "", just), *others).verdicts() == {"average": OPEN}
    against = Effect("difference", -just.centre, 1.0, 4, (3, 3))
    assert claim_of(("", "a", against)).verdicts() == {"average": FAILS}
    assert claim_of(("", "a", against), ("", "b", YES), ("", "c", PERHAPS)).verdicts() == {"average": OPEN}


def test_what_is_measured_elsewhere_has_a_verdict_of_its_own():
    findings = [
        Finding("average", YES, (0, math.inf), "MNIST, 500 epochs"),
        Finding("average", NO, (0, math.inf), "ring of 8, 50 epochs"),
    ]
    claim = Claim("text", "source", "how", {}, findings)
    assert claim.places == ["MNIST, 500 epochs", "ring of 8, 50 epochs"]
    assert claim.verdicts() == {"average": HOLDS} and claim.verdicts("ring of 8, 50 epochs") == {"average": FAILS}


def test_a_gap_that_depends_on_the_convention_is_called_so():
    runs = make_runs(["gan", "sngan", "psg_average", "psg_algorithm1"])
    for seed in range(3):  # 40 % smaller with L_D as it is (0.30 to 0.18), larger with it halved (0.30 to 0.42)
        runs["sngan"][seed] = make_record("sngan", seed, d_loss=1.2, g_loss=0.9)
        for system in ("psg_average", "psg_algorithm1"):
            runs[system][seed] = make_record(system, seed, d_loss=1.2, g_loss=1.02)
    table = comparison.tabulate(runs, 20)
    assert table.interval("sngan", "gap_halved").mean == pytest.approx(0.3, abs=0.03)
    for words in ("smaller gap", "40 %"):
        gap = find(table, words)
        assert {verdict for f, verdict in gap.verdict_of.items() if f.reading == "L_D/2"} == {FAILS}
        assert {verdict for f, verdict in gap.verdict_of.items() if f.reading == "L_D"} == {HOLDS}
        assert gap.describe("average") == f"{DEPENDS} (L_D {HOLDS}, L_D/2 {FAILS})"


def falling_until(epoch, epochs, column="d_loss"):
    """Runs of SNGAN whose curve falls linearly until about that epoch."""
    each = [make_record("sngan", seed, epochs=epochs) for seed in range(3)]
    for seed, record in enumerate(each):
        for row in record.history.rows:
            row[column] = 1 + max(epoch + seed - row["epoch"], 0) / 100
    return each


def test_convergence_needs_runs_as_long_as_the_paper_s():
    for epochs in (50, 159):
        table = comparison.tabulate(make_runs(epochs=epochs), epochs)
        assert set(find(table, "losses converge").verdicts().values()) == {TOO_SHORT}
    runs = make_runs(epochs=400) | {"sngan": falling_until(150, 400)}  # the others are done at 10
    claim = find(comparison.tabulate(runs, 400), "losses converge")
    assert set(claim.verdicts().values()) == {HOLDS}
    effects = {f.reading: f.effect.mean for f in claim.findings if f.method == "average"}
    assert effects["band 5%"] > effects["band 20%"] > 100


def paper_s_own(epochs):
    """Runs whose curves are the paper's: SNGAN's fall until epoch 125, PSG-GAN's until 75."""
    runs = make_runs(epochs=epochs)
    for column in ("d_loss", "pick_accuracy"):
        for system, at in (("sngan", 125), ("psg_average", 75), ("psg_algorithm1", 75)):
            for record, course in zip(runs[system], falling_until(at, epochs, column), strict=True):
                for row, falling in zip(record.history.rows, course.history.rows, strict=True):
                    row[column] = falling[column]
    return runs


def test_the_paper_s_own_curves_would_hold_at_its_length_and_not_at_less_than_twice_their_fall():
    for epochs, expected in ((500, HOLDS), (350, HOLDS), (200, UNSETTLED)):
        table = comparison.tabulate(paper_s_own(epochs), epochs)
        for words in ("losses converge", "accuracy converges"):
            assert set(find(table, words).verdicts().values()) == {expected}, (words, epochs)


def test_a_curve_that_still_moves_has_no_verdict_and_says_so():
    runs = paper_s_own(500)
    for system, each in runs.items():
        for record in each:
            for row in record.history.rows:
                row["g_loss"] += 0.001 * (1 + record.seed / 10) * (-1) ** row["epoch"]
                row["d_loss"] -= row["epoch"] / 1000 * (system == "psg_average")
    table = comparison.tabulate(runs, 500)
    assert table.settles(("psg_average",), "d_loss") is False and table.settles(("sngan",), "d_loss") is True
    for words in ("smaller gap", "40 %", "losses converge", "large or sudden"):
        verdicts = find(table, words).verdicts()
        assert verdicts["average"] == UNSETTLED, words
        assert verdicts["Algorithm 1"] != UNSETTLED, words
    assert find(table, "0.33").verdicts()["average"] != UNSETTLED, "the accuracy's curve is another"


def test_convergence_that_depends_on_the_run_s_length_does_not_count():
    """L_D falls ever more slowly: within the margin, and yet it always seems to converge late in the run."""
    runs = paper_s_own(500)
    for record in runs["psg_average"]:
        for row in record.history.rows:
            row["d_loss"] = 1 + 1 / (1 + row["epoch"] / 20) + 0.001 * record.seed
    table = comparison.tabulate(runs, 500)
    name = comparison.convergence("d_loss", 0.05)
    assert table.settles(("psg_average", "sngan"), "d_loss") is True
    assert not table.same_when_halved("psg_average", name) and table.same_when_halved("sngan", name)
    claim = find(table, "losses converge")
    assert UNSETTLED in {v for f, v in claim.verdict_of.items() if f.method == "average" and f.convention == "band 5%"}
    assert claim.verdicts() == {"average": UNSETTLED, "Algorithm 1": HOLDS}


def test_readings_of_a_third_that_need_no_equilibrium():
    """A discriminator that has won gives the paper's number in one reading: the claim depends on the convention."""
    runs = make_runs()
    for system in ("psg_average", "psg_algorithm1"):
        for record in runs[system]:
            for row in record.history.rows:
                row |= {"accuracy_real": 1.0, "accuracy_fake": 1.0, "pick_accuracy": 0.99}
                row |= {"d_real": 0.99, "d_fake": 0.01}
    claim = find(comparison.tabulate(runs, 20), "0.33")
    verdicts = {finding.reading: verdict for finding, verdict in claim.verdict_of.items()}
    assert verdicts["share called real"] == verdicts["mean of all answers"] == HOLDS
    assert verdicts["pick"] == verdicts["threshold 1/2"] == verdicts["mean D(x)"] == FAILS
    assert claim.verdicts()["average"] == DEPENDS


def test_pick_accuracy_at_one_third_holds_and_the_threshold_accuracy_does_not():
    claim = find(comparison.tabulate(make_runs(), 20), "0.33")
    verdicts = {finding.reading: verdict for finding, verdict in claim.verdict_of.items()}
    assert verdicts["pick"] == HOLDS
    assert verdicts["threshold 1/2"] == FAILS  # 0.65 in these runs
    assert claim.verdicts()["average"] == DEPENDS


def test_oscillation_is_compared_with_the_gan_too():
    runs = make_runs(epochs=200)
    for system, size in (("gan", 0.05), ("sngan", 0.001), ("psg_average", 0.01), ("psg_algorithm1", 0.01)):
        for record in runs[system]:
            for row in record.history.rows:
                step = size * (1 + record.seed / 20) * (-1) ** row["epoch"]
                row |= {"d_loss": 1.2 + step, "g_loss": 0.9 + step}
    claim = find(comparison.tabulate(runs, 200), "large or sudden")
    verdicts = {f.reading: verdict for f, verdict in claim.verdict_of.items() if f.method == "average"}
    assert verdicts == {
        "against SNGAN, L_D": FAILS,
        "against SNGAN, L_G": FAILS,
        "against the GAN, L_D": HOLDS,
        "against the GAN, L_G": HOLDS,
    }
    assert claim.verdicts()["average"] == DEPENDS


def test_better_digits_must_be_better_in_every_way():
    runs = make_runs()
    for record in runs["psg_average"]:
        record.quality[20]["mixture"] |= {"coverage": 0.8, "precision": 0.9, "recall": 0.1}
    claim = find(comparison.tabulate(runs, 20), "digits are better")
    assert claim.verdicts()["average"] == FAILS
    for record in runs["psg_average"]:
        record.quality[20]["mixture"] |= {"recall": 0.7 + record.seed / 100}
    assert find(comparison.tabulate(runs, 20), "digits are better").verdicts()["average"] == HOLDS


def test_modes_that_can_be_counted_have_a_verdict_beside_that_on_mode_collapse():
    runs, ring = make_runs(), make_runs(["gan", "psg_average"])
    for record in runs["psg_average"]:
        record.quality[20]["mixture"] |= {"class_js": 0.001, "coverage": 0.6 + record.seed / 1000}
    for system, modes in (("gan", 2.0), ("psg_average", 8.0)):
        for record in ring[system]:
            record.quality[20]["mixture"] = {"modes_covered": modes + record.seed}

    def claim():
        table = comparison.tabulate(runs, 20)
        counted = {"ring": comparison.tabulate(ring, 20, "ring")}
        (found,) = (c for c in claims.paper_claims(table, counted) if "mode collapse" in c.text)
        return found

    assert claim().places == ["MNIST, 20 epochs", "ring of 8, 20 epochs"]
    assert claim().verdicts()["average"] == HOLDS
    assert claim().verdicts("ring of 8, 20 epochs") == {"average": HOLDS, "Algorithm 1": NOT_MEASURED}
    assert claim().shown["ring of 8, 20 epochs"]["gan"].mean == 3
    for record in ring["psg_average"]:
        record.quality[20]["mixture"] = {"modes_covered": 0.0 + record.seed / 100}
    assert claim().verdicts("ring of 8, 20 epochs")["average"] == FAILS
    assert claim().verdicts()["average"] == HOLDS, "a ring outvotes no digits"


def test_garments_say_nothing_about_cost():
    garments = comparison.tabulate(make_runs(), 20, "fashion_mnist")
    assert not any("computation" in claim.text for claim in claims.paper_claims(garments))
    assert all("Fashion-MNIST, 20 epochs" in c.places for c in claims.paper_claims(garments) if "fitting" not in c.text)


def test_another_method_is_judged_by_the_same_rules_and_changes_no_other():
    runs = make_runs((*comparison.MAIN, "psg_sn"))
    runs["psg_sn"] = runs["psg_average"]
    table = comparison.tabulate(runs, 20)
    both = claims.paper_claims(table, methods=claims.METHODS | {"psg_sn": "with SN"})
    for claim, alone in zip(both, claims.paper_claims(table), strict=True):
        verdicts = claim.verdicts()
        assert verdicts.get("with SN", verdicts["average"]) == verdicts["average"]
        assert {name: word for name, word in verdicts.items() if name != "with SN"} == alone.verdicts()
    only = claims.paper_claims(table, methods={"psg_sn": "with SN"})
    assert len(only) == len(both) - 1, "its cost was not measured"


def test_what_a_shorter_run_would_have_said():
    sheet = sheets.length_sheet(paper_s_own(500), (100, 500))
    assert [row[0] for row in sheet.rows] == [100, 500]
    long = dict(zip(sheet.header, sheet.rows[1], strict=True))
    assert int(float(long["L_D of SNGAN converges at epoch"].split()[0])) in range(100, 126)
    assert "settles" in sheets.trends_sheet(comparison.tabulate(paper_s_own(500), 500), {"d_loss": "L_D"}).rows[0][1]


def test_a_system_without_a_run_of_that_length_is_left_out():
    runs = make_runs(["sngan", "psg_average"]) | {"gan": []}
    assert set(comparison.tabulate(runs, 20).labels) == {"sngan", "psg_average"}
    runs["sngan"] = [make_record("sngan", 0, epochs=10)]
    (row,) = sheets.length_sheet(runs, (20,)).rows
    assert row[:3] == [20, "—", "—"] and row[4] == "—" and row[3] != "—"


def test_the_leader_of_a_measure_is_named_with_its_epoch():
    table = comparison.tabulate(make_runs(), 20)
    assert table.leader("fid") == "lowest mean at epoch 20: PSG-GAN, average"
    assert table.leader("fid", max) == "highest mean at epoch 20: GAN"
    assert table.leader("density").endswith("not measured")


def give_fids(runs, **fids):
    for system, each in fids.items():
        for record, fid in zip(runs[system], each, strict=True):
            record.quality[20]["mixture"]["fid"] = fid


def test_a_system_s_fid_and_oscillation_are_averaged_by_logarithms():
    runs = make_runs()
    give_fids(runs, gan=(50.0, 100.0, 200.0))
    table = comparison.tabulate(runs, 20)
    interval, factor = table.interval("gan", "fid"), 2 ** (4.3027 / math.sqrt(3))
    assert (interval.mean, interval.low, interval.high) == pytest.approx((100, 100 / factor, 100 * factor), rel=1e-4)
    assert table.describe("fid", systems=["gan"]) == "GAN 100 [17.9, 559]"
    oscillation = table.values("gan", "oscillation_d")
    assert table.interval("gan", "oscillation_d").mean == pytest.approx(np.exp(np.mean(np.log(oscillation))))
    assert table.interval("gan", "coverage").mean == pytest.approx(np.mean(table.values("gan", "coverage")))


def test_controls_differ_by_a_ratio_of_fids_and_by_a_difference_of_shares():
    runs = make_runs()
    give_fids(runs, gan=(80.0, 100.0, 125.0), psg_average=(40.0, 50.0, 62.5))
    sheet = sheets.contrasts_sheet(comparison.tabulate(runs, 20), {"fid": "FID", "recall": "recall"})
    assert sheet.header == ["question", "compared", "FID (ratio)", "recall (difference)"]
    whole = sheet.rows[0]
    half = math.exp(2.7764 * math.log(1.25) * math.sqrt(2 / 3))  # 4 degrees of freedom
    assert whole[2] == f"0.5 [{0.5 / half:.3g}, {0.5 * half:.3g}]: better"
    assert whole[3].endswith("no clear difference")


def test_what_the_row_above_says_is_not_repeated():
    others = {"ring": comparison.tabulate(make_runs(), 20, "ring")}
    sheet = sheets.claims_sheet(comparison.tabulate(make_runs(), 20), others)
    (place,) = (place for place, row in enumerate(sheet.rows) if "overcomes mode collapse" in row[0])
    assert sheet.rows[place + 1][:4] == ["", "", "", "ring of 8, 20 epochs"]
    assert all(row[0] for row in sheet.rows[: place + 1])
    rows = sheets.findings_sheet(comparison.tabulate(make_runs(), 20), others).rows
    first = next(place for place, row in enumerate(rows) if "overcomes mode collapse" in row[0])
    assert [row[:2] for row in rows[first : first + 6]] == [
        ["PSG-GAN overcomes mode collapse", "MNIST, 20 epochs"],
        *[["", ""]] * 3,
        ["", "ring of 8, 20 epochs"],
        ["", ""],
    ]


def test_overfitting_is_judged_by_the_runs_on_few_images():
    runs, few = make_runs(), make_runs()
    for system, auc in {"gan": 0.8, "sngan": 0.6, "psg_average": 0.7, "psg_algorithm1": 0.5}.items():
        for record in few[system]:
            record.quality[20]["mixture"]["membership_auc"] = auc + 0.01 * record.seed

    def claim(others):
        (found,) = (c for c in claims.paper_claims(comparison.tabulate(runs, 20), others) if "overfitting" in c.text)
        return found

    measured = claim({claims.FEW_DIGITS: comparison.tabulate(few, 20, claims.FEW_DIGITS)})
    assert measured.verdicts() == {"average": DEPENDS, "Algorithm 1": HOLDS}
    assert measured.shown["1,000 digits, 20 epochs"]["sngan"].mean == pytest.approx(0.61)
    assert set(claim({}).verdicts().values()) == {NOT_MEASURED}


def test_a_generator_that_draws_one_digit_is_counted_though_the_mixture_looks_well():
    record = make_record("psg_average", 1)
    equal, ones = {f"share_{digit}": 0.1 for digit in range(10)}, {f"share_{digit}": 0.0 for digit in range(10)}
    record.quality[20] = {"mixture": equal, "generator 1": equal, "generator 2": ones | {"share_1": 1.0}}
    assert comparison.one_digit_generators(record) == 1
    runs = {"psg_average": [record]}
    sheet = sheets.runs_sheet(runs, comparison.tabulate(runs, 20))
    assert dict(zip(sheet.header, sheet.rows[0], strict=True))["generators of one digit"] == 1
    single = make_record("gan", 1)
    assert comparison.one_digit_generators(single) == 0
    single.quality[20] = {"mixture": ones | {"share_1": 1.0}}
    assert comparison.one_digit_generators(single) == 1


def test_cost_is_judged_by_the_benchmark(tmp_path):
    names = {"gan/ours": 4.0, "sngan/ours": 5.0, "psg_2/ours": 6.0}
    measures = [{"name": name, "value": v, "low": v - 0.1, "high": v + 0.1} for name, v in names.items()]
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"cpu": {"measures": measures, "settings": {"rounds": 9}}}))
    claim = next(c for c in claims.paper_claims(comparison.Table(1), None, results) if "computation" in c.text)
    assert claim.verdicts() == {"average": FAILS}
    assert claim.findings[0].effect == Interval(1.2, 5.9 / 5.1, 6.1 / 4.9, 9)
    assert claim.shown["benchmark on cpu"]["psg_average"].mean == 6
    results.write_text(json.dumps({"cpu": {"measures": measures, "settings": {"rounds": 1}}}))
    claim = next(c for c in claims.paper_claims(comparison.Table(1), None, results) if "computation" in c.text)
    assert claim.verdicts() == {"average": NO_SEEDS}
    (claim,) = (c for c in claims.paper_claims(comparison.Table(1), None, tmp_path / "none") if "computation" in c.text)
    assert claim.verdicts() == {"average": NOT_MEASURED}


def test_a_diverged_run_shortens_no_comparison_and_counts_as_long_as_it_lived():
    runs = make_runs(["gan", "sngan"], seeds=(0, 1, 2))
    runs["gan"][1] = make_record("gan", 1, epochs=7, status="diverged")
    assert comparison.common_epochs(runs) == 20
    table = comparison.tabulate(runs, 20)
    assert table.diverged["gan"] == [1] and table.seeds("gan") == [0, 2]
    assert comparison.tabulate(runs, 5).seeds("gan") == [0, 1, 2]  # then it was still well


def test_two_that_never_settle_are_not_told_apart():
    numbers = {"a": {0: {"convergence x": 21.0}}, "b": {0: {"convergence x": 21.0}, 1: {"convergence x": 21.0}}}
    table = comparison.Table(20, {}, numbers | {"c": {1: {"convergence x": 9.0}}})
    assert min(table.effect("a", "b", "convergence x").seeds) == 0
    assert table.effect("a", "c", "convergence x").mean == 12  # one that settled is earlier than one that did not


def test_two_seeds_give_no_verdict_and_missing_systems_are_said(tmp_path):
    table = comparison.tabulate(make_runs(["gan", "sngan", "psg_average"], seeds=(0, 1)), 20)
    found = claims.paper_claims(table, None, tmp_path / "no benchmark")
    verdicts = {verdict for claim in found for verdict in claim.verdict_of.values()}
    assert verdicts == {NO_SEEDS, NOT_MEASURED, TOO_SHORT}
    assert all(claims.direction(table.effect(a, b, "fid")) in (NO_SEEDS, NOT_MEASURED) for _, a, b in claims.CONTRASTS)


def test_contrasts_name_known_systems_and_read_the_right_way():
    assert all({a, b} <= set(SYSTEMS) for _, a, b in claims.CONTRASTS)
    assert claims.direction(far(1.0)) == "higher"
    assert claims.direction(far(-1.0)) == "lower"
    assert claims.direction(far(0.01)) == "no clear difference"
    assert claims.direction(far(1.0), "fid") == "worse"
    assert claims.direction(far(1.0), "recall") == "better"
    assert claims.direction(far(-1.0), "recall") == "worse"
    assert claims.direction(far(0.01), "recall") == "no clear difference"


# Weights by layer; a step is taken on 100 images.
OF_D, OF_G = (784 * 512, 512 * 256, 256), (100 * 256, 256 * 512, 512 * 784)


@pytest.mark.parametrize(
    ("system", "generators", "head"),
    [("gan", 1, 0), ("sngan", 1, 0), ("psg_average", 2, 0), ("psg_4", 4, 0), ("mgan_sn", 2, 2 * 256)],
)
def test_the_work_of_a_step_by_hand(system, generators, head):
    """A pass through a layer takes a multiplication per weight and image, the way back two: for the gradients of its
    weights and of its inputs. A network's first layer needs no gradient of its inputs, a D that teaches none of its
    weights. A head that tells generators apart sends the fakes through D once more, and to it instead of the score.
    """
    d, g = sum(OF_D), sum(OF_G)
    lesson, teaching = 3 * d - OF_D[0], 2 * d
    work = (1 + generators) * lesson + generators * (3 * g - OF_G[0] + teaching)
    if head:
        work += generators * (lesson + teaching + (3 + 2) * (head - OF_D[-1]))
    assert comparison.multiplications(system) == 100 * work


def test_the_work_of_a_step_on_points_by_hand():
    d, g = 2 * 512 + 512 * 256 + 256, 100 * 256 + 256 * 512 + 512 * 2
    work = {count: (3 * d - 2 * 512) * (1 + count) + count * (3 * g - 100 * 256 + 2 * d) for count in (1, 4)}
    assert [comparison.multiplications(name, (2,)) for name in ("gan", "psg_4")] == [100 * work[1], 100 * work[4]]


def test_work_is_counted_without_touching_the_callers_random_numbers():
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    comparison.multiplications.__wrapped__("cgan")
    assert torch.equal(torch.rand(3), wanted)


def test_a_gradient_of_a_gradient_is_counted():
    """By hand: D's way there and back to the image, the gradients of that for its weights, and for what lies between.

    Each takes one multiplication per weight and image; nothing lies above the score, so the last is one layer short.
    """
    step = {name: comparison.multiplications(name) for name in ("wgan", "wgan_gp")}
    weights, last = sum(OF_D), OF_D[-1]
    assert step["wgan_gp"] - step["wgan"] == 5 * 100 * (4 * weights - last)  # five critic steps of 100 images


def test_generators_that_share_no_digit_differ_by_ln_2():
    record = make_record("psg_average", 1)
    one = {f"share_{digit}": 0.2 * (digit < 5) for digit in range(10)} | {"fid": 50.0, "modes_covered": 5.0}
    two = {f"share_{digit}": 0.2 * (digit >= 5) for digit in range(10)} | {"fid": 60.0, "modes_covered": 4.0}
    record.quality[20] |= {"generator 1": one, "generator 2": two}
    assert sheets.generator_parts(record) == ["50, 60", "20", "5, 4", "0.693 of 0.693"]
    assert sheets.generator_parts(make_record("gan", 1)) is None


def test_a_sheet_escapes_what_html_would_read():
    html = sheets.Sheet(["a < b"], [["<script>"]])._repr_html_()
    assert "a &lt; b" in html and "<script>" not in html
