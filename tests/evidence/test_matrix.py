"""The matrix names every recorded run, knows what is there and what the rest costs, and refuses lines without sense."""

import ast
import contextlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from helpers.evidence import claims, comparison, matrix, records, remedies
from helpers.evidence.matrix import Run
from helpers.evidence.recorder import record_run
from helpers.gan import multiverse

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

HEADER = ", ".join(matrix.COLUMNS) + "\n"


def table(folder, *lines):
    path = folder / "matrix.csv"
    full = [line if not line or line.count(",") > 5 else f"{line}, ours" for line in lines]
    path.write_text(HEADER + "".join(f"{line}\n" for line in full), encoding="utf-8")
    return path


def make(runs, system="gan", seed=1, epochs=2, **settings):
    return record_run(system, "ring", seed, epochs, runs, progress=False, batch_size=5000, **settings)


WANTED = {run.folder(): run for run in matrix.all_runs(matrix.read_matrix())}


def test_every_recorded_run_belongs_to_a_row_of_the_matrix():
    recorded = {path.parent for path in records.RUNS.rglob("record.json")}
    assert not recorded - WANTED.keys(), "data/matrix.csv has no line for these"
    assert matrix.read_matrix(matrix.SMOKE)


def test_what_the_evidence_is_judged_by_is_in_the_matrix():
    """Three seeds of each system that a verdict rests on, and the whole multiverse."""
    assert matrix.systems("main comparison") == comparison.MAIN
    asked = [Run("mnist", system, seed, 50) for system in (*claims.CONTROLS, *remedies.RACERS) for seed in range(3)]
    asked += [Run("mnist", system, seed, 500) for system in comparison.MAIN for seed in range(3)]
    asked += [
        Run("mnist", system, 0, multiverse.EPOCHS, specification=name)
        for system in multiverse.SYSTEMS
        for name in multiverse.ROWS
    ]
    lacking = [str(run) for run in asked if run.folder() not in WANTED or WANTED[run.folder()].epochs < run.epochs]
    assert not lacking


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_reads_is_in_the_matrix(path):
    """Where it names data set and systems in so many words, as in ``load_runs("gan", "ring")``."""
    allowed = {(run.dataset, run.system) for run in WANTED.values()}
    assert not read_by(path) - allowed, "data/matrix.csv has no line for these"


def read_by(path) -> set[tuple[str, str]]:
    """(data set, system) of every call that reads records and names both literally."""
    found = set()
    for cell in nbformat.read(path, as_version=4).cells:
        code = ast.parse(re.sub(r"^\s*[%!].*$", "pass", cell.source, flags=re.M)) if cell.cell_type == "code" else None
        for node in ast.walk(code) if code else ():
            called = getattr(getattr(node, "func", None), "attr", "")
            if called in ("load_runs", "read_all") and node.args:
                with contextlib.suppress(ValueError):  # a name, whose value only a run of the notebook knows
                    systems, dataset = (*map(ast.literal_eval, node.args[:2]), "mnist")[:2]
                    found |= {(dataset, name) for name in ([systems] if isinstance(systems, str) else systems)}
    return found


def test_the_check_of_notebooks_sees_what_they_read():
    assert ("ring", "psg_average") not in read_by(NOTEBOOKS[0]) and ("mnist", "gan") in read_by(NOTEBOOKS[0])


def test_a_notebook_takes_from_it_what_it_shows():
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
        ("x, ring, gan, 0-, 5, yes, ours, no", "cells=8; allowed: 7"),
        ("x, ring, gan, a-2, 5, yes", "seeds='a-2'; allowed: "),
        ("x, ring, gan, 2-0, 5, yes", "seeds='2-0'; allowed: "),
        ("x, ring, gan, 0, 0, yes", "epochs='0'; allowed: a whole number of at least 1"),
        ("x, ring, gan, 0, 5, perhaps", "weights='perhaps'; allowed: yes, no"),
        ("x, ring, gan, 0, 5, yes, theirs", "settings='theirs'; allowed: ours; all; pb01"),
        ("x, ring, gan, 0, 5, yes, ours all", "settings='ours all'; allowed: all alone, or several names"),
        ("x, ring, gan, 0, 5, yes, ", "settings=''; allowed: ours; all"),
        ("x, ring, gan began, 0, 5, yes, ours pb01", "system='began'; allowed: with these settings gan, "),
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


def test_runs_of_the_multiverse_lie_where_the_recorder_puts_them(tmp_path):
    (row,) = matrix.read_matrix(table(tmp_path, "m, ring, gan, 4, 1, yes, ours pb03"))
    ours, theirs = row.runs()
    assert ours == Run("ring", "gan", 4, 1) and theirs == Run("ring", "gan", 4, 1, True, "pb03")
    for run in (ours, theirs):
        folder = make(tmp_path, seed=4, epochs=1, specification=run.specification)
        assert folder == run.folder(tmp_path) and matrix.epochs_done(run, tmp_path) == 1
    known = matrix.seconds_per_epoch(tmp_path)
    assert known.keys() == {("ring", "gan", None), ("ring", "gan", "pb03")}
    assert matrix.price(theirs, known) == (known["ring", "gan", "pb03"], "")
    assert matrix.price(replace(theirs, specification="pb04"), known)[1] == "gan with our settings"
    assert len(matrix.read_matrix(table(tmp_path, "m, mnist, gan, 0, 1, no, all"))[0].runs()) == 12


def test_the_status_tells_complete_half_done_and_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "RUNS", tmp_path)
    make(tmp_path, epochs=2)
    make(tmp_path, seed=2, epochs=3, pause=lambda: True)
    rows = matrix.read_matrix(table(tmp_path, "points, ring, gan, 1-3, 2, no", "longer, ring, gan psg_sn, 2, 4, no"))
    todo = matrix.all_runs(rows)
    assert matrix.survey(todo, tmp_path) == dict(zip(todo, (2, 1, 0, 0), strict=True))
    said = matrix.status(rows, tmp_path).splitlines()
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
    assert known == {("ring", "gan", None): sorted(spent)[1]}
    assert matrix.price(Run("ring", "gan", 9, 50), known) == (sorted(spent)[1], "")


def test_without_a_record_the_most_similar_system_gives_the_price():
    known = {("mnist", "gan", None): 9.0, ("mnist", "psg_average", None): 14.0, ("mnist", "psg_sum", None): 15.0}
    known |= {("grid", "gan", None): 0.5, ("mnist", "psg_4", None): 26.0, ("mnist", "psg_sn", "pb01"): 99.0}
    assert matrix.price(Run("mnist", "psg_sn", 0, 5), known) == (15.0, "psg_sum")  # as many weights; the dearer of two
    assert matrix.price(Run("mnist", "sngan", 0, 5), known) == (9.0, "gan")
    assert matrix.price(Run("ring", "gan", 0, 5), known) == (26.0, "mnist psg_4")
    assert matrix.price(Run("ring", "gan", 0, 5), {}) == (1.0, "a guess")


def test_free_workers_take_the_next_run():
    hours = [3.0, 1.0, 1.0, 2.0]
    assert [matrix.hours_on(n, hours) for n in (1, 2, 3, 100)] == [7.0, 4.0, 3.0, 3.0]
    assert matrix.hours_on(5, []) == 0


def test_the_command_prints_the_status_of_the_whole_matrix():
    command = [sys.executable, "-m", "helpers.evidence.matrix", "--status"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[-6:] == ["half", "done", "missing", "core-h", "to", "go"]
    complete, half_done, missing = map(int, re.search(r"all, each run once +(\d+) +(\d+) +(\d+)", done.stdout).groups())
    assert complete + half_done + missing == len(WANTED)
    assert lines[-1].startswith("no number of workers is faster than the longest run: ")


def test_a_choice_that_leaves_nothing_is_named(capsys):
    for arguments, complaint in (
        (["--only", "moons"], "--only 'moons' leaves nothing"),
        (["--seeds", "0"], "--seeds 0; allowed: "),
        (["--matrix", "no.csv"], "the matrix cannot be read"),
    ):
        with pytest.raises(SystemExit, match=complaint):
            matrix.main(arguments)
