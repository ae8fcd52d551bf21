"""The matrix names every recorded run, knows what is there and what the rest costs, and refuses lines without sense."""

import pytest

from helpers.evidence import comparison, matrix, records, replicate
from helpers.evidence.matrix import Run
from helpers.evidence.recorder import record_run

HEADER = "purpose, dataset, systems, seeds, epochs, weights\n"


def table(folder, *lines):
    path = folder / "matrix.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def make(runs, system="gan", seed=1, epochs=2, **settings):
    return record_run(system, "ring", seed, epochs, runs, progress=False, batch_size=5000, **settings)


def test_every_recorded_run_belongs_to_a_row_of_the_matrix():
    wanted = {run.folder() for run in matrix.all_runs(matrix.read_matrix())}
    recorded = {path.parent for path in records.RUNS.rglob("record.json")}
    assert not recorded - wanted, "data/matrix.csv has no line for these"
    assert matrix.read_matrix(matrix.SMOKE)


def test_a_notebook_takes_from_it_what_it_shows():
    assert matrix.systems("main comparison") == comparison.MAIN
    assert set(comparison.read_all(matrix.systems("counted modes", "grid"), "grid")) >= {"gan", "psg_4"}
    assert matrix.systems("seven losses")[-1] == "wgan_gp"  # two rows, one purpose
    with pytest.raises(ValueError, match="'main comparison', 'faces32'; allowed: .*'main comparison', 'mnist'"):
        matrix.systems("main comparison", "faces32")


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("x, moon, gan, 0, 5, yes", "dataset='moon'; allowed: mnist, "),
        ("x, ring, gun, 0, 5, yes", "system='gun'; allowed: gan, "),
        ("x, ring, , 0, 5, yes", "system=''; allowed: "),
        ("x, ring, gan, 0-, 5, yes, no", "cells=7; allowed: 6"),
        ("x, ring, gan, a-2, 5, yes", "seeds='a-2'; allowed: "),
        ("x, ring, gan, 2-0, 5, yes", "seeds='2-0'; allowed: "),
        ("x, ring, gan, 0, 0, yes", "epochs='0'; allowed: a whole number of at least 1"),
        ("x, ring, gan, 0, 5, perhaps", "weights='perhaps'; allowed: yes, no"),
    ],
)
def test_a_line_that_means_nothing_is_named(tmp_path, line, complaint):
    path = table(tmp_path, "x, ring, gan, 0, 5, yes", line)
    with pytest.raises(ValueError, match="line 3") as caught:
        matrix.read_matrix(path)
    assert complaint in str(caught.value) and str(path) in str(caught.value)


def test_another_first_line_is_refused(tmp_path):
    (tmp_path / "matrix.csv").write_text("dataset, seeds\n")
    with pytest.raises(ValueError, match="purpose, dataset, systems"):
        matrix.read_matrix(tmp_path / "matrix.csv")
    (tmp_path / "matrix.csv").write_text("")
    with pytest.raises(ValueError, match="purpose, dataset, systems"):
        matrix.read_matrix(tmp_path / "matrix.csv")


def test_a_run_that_two_rows_want_is_made_once_and_as_long_as_either_asks(tmp_path):
    rows = matrix.read_matrix(
        table(tmp_path, "a, ring, gan sngan, 0-1, 5, no", "", "b, ring, gan, 1-2, 7, yes", "c, ring, gan, 0, 2, no")
    )
    assert matrix.all_runs(rows) == [
        Run("ring", "gan", 0, 5, False),
        Run("ring", "sngan", 0, 5, False),
        Run("ring", "gan", 1, 7, True),
        Run("ring", "sngan", 1, 5, False),
        Run("ring", "gan", 2, 7, True),
    ]


def test_the_status_tells_complete_half_done_and_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(replicate, "RUNS", tmp_path)
    make(tmp_path, epochs=2)
    make(tmp_path, seed=2, epochs=3, pause=lambda: True)
    rows = matrix.read_matrix(table(tmp_path, "points, ring, gan, 1-3, 2, no", "longer, ring, gan psg_sn, 2, 4, no"))
    todo = matrix.all_runs(rows)
    assert matrix.survey(todo, tmp_path) == dict(zip(todo, (2, 1, 0, 0), strict=True))
    said = replicate.status(rows, tmp_path).splitlines()
    assert [line.split()[4:8] for line in said[1:3]] == [["2", "1", "1", "1"], ["4", "0", "1", "1"]]
    assert said[3].split()[4:7] == ["1", "1", "2"]
    assert "  ring gan seed 2: epoch 1 of 4" in said
    assert any("ring psg_sn as gan" in line for line in said)


def test_a_record_that_is_too_short_does_not_count(tmp_path):
    make(tmp_path, epochs=2)
    assert matrix.epochs_done(Run("ring", "gan", 1, 2), tmp_path) == 2
    assert matrix.epochs_done(Run("ring", "gan", 1, 1), tmp_path) == 1
    assert matrix.epochs_done(Run("ring", "gan", 1, 3), tmp_path) == 0


def test_a_damaged_checkpoint_counts_as_none_and_is_named(tmp_path):
    folder = make(tmp_path, pause=lambda: True)
    (folder / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="checkpoint.pt is damaged"):
        assert matrix.survey([Run("ring", "gan", 1, 2)], tmp_path) == {Run("ring", "gan", 1, 2): 0}


def test_prices_come_from_the_records_own_seconds(tmp_path):
    spent = [records.read_record(make(tmp_path, seed=seed)).provenance["seconds"] / 2 for seed in (1, 2, 3)]
    known = matrix.seconds_per_epoch(tmp_path)
    assert known == {("ring", "gan"): sorted(spent)[1]}
    assert matrix.price(Run("ring", "gan", 9, 50), known) == (sorted(spent)[1], "")


def test_without_a_record_the_most_similar_system_gives_the_price():
    known = {("mnist", "gan"): 9.0, ("mnist", "psg_average"): 14.0, ("mnist", "psg_sum"): 15.0, ("grid", "gan"): 0.5}
    known |= {("mnist", "psg_4"): 26.0}
    assert matrix.price(Run("mnist", "psg_sn", 0, 5), known) == (15.0, "psg_sum")  # as many weights; the dearer of two
    assert matrix.price(Run("mnist", "sngan", 0, 5), known) == (9.0, "gan")
    assert matrix.price(Run("ring", "gan", 0, 5), known) == (26.0, "mnist psg_4")
    assert matrix.price(Run("ring", "gan", 0, 5), {}) == (1.0, "a guess")


def test_free_workers_take_the_next_run():
    hours = [3.0, 1.0, 1.0, 2.0]
    assert [matrix.hours_on(n, hours) for n in (1, 2, 3, 100)] == [7.0, 4.0, 3.0, 3.0]
    assert matrix.hours_on(5, []) == 0
