"""The discussion of notebook 04 stands or falls with the records: each changed record fails its sentence, and flips a
verdict on the board.

The notebook's own code is run, without its figures and exercises, on records of which something has been changed.
"""

import contextlib
import copy
import functools
from pathlib import Path

import nbformat
import pytest

from helpers.evidence import records

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "04_comparison.ipynb"
READ = functools.cache(records.load_runs)  # read once, copied for each change


def code_until_the_discussion() -> list[str]:
    """Sources of the cells that compute and assert, in order; the last is the discussion's."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    cells = [cell for cell in cells if cell.cell_type == "code" and not cell.metadata.get("jupyter", {})]
    sources = [cell.source for cell in cells if "figures.show(" not in cell.source]
    (last,) = (place for place, source in enumerate(sources) if "Six sentences" in source)
    return sources[: last + 1]


BOARD = "judged = claims.paper_claims(table, comparison.read_others())"


@pytest.fixture
def discussion(monkeypatch):
    """A function that reads the notebook's evidence with ``change(run)`` done to every run of ``system``.

    It gives the verdicts, claim -> average's verdict, and what the discussion's assertions say: None, or the line
    that failed.
    """

    def read(system: str | None = None, change=lambda run: None):
        def load_runs(name, *arguments, **options):
            runs = copy.deepcopy(READ(name, *arguments, **options))
            for run in runs if name == system else ():
                change(run)
            return runs

        monkeypatch.setattr(records, "load_runs", load_runs)
        *cells, last = code_until_the_discussion()
        space = {}
        for source in cells:
            with contextlib.suppress(AssertionError):  # a section's own may fail as well; the discussion is asked
                exec(compile(source, "cell", "exec"), space)
        exec(BOARD, space)
        verdicts = {claim.text: claim.verdicts()["average"] for claim in space["judged"]}
        try:
            exec(compile(last, "discussion", "exec"), space)
        except AssertionError as error:
            line = error.__traceback__.tb_next.tb_lineno
            return verdicts, last.splitlines()[line - 1]
        return verdicts, None

    return read


def hold_still(column: str):
    """From epoch 200 on the curve stays where it was."""

    def change(run):
        for row in run.history.rows[200:]:
            row[column] = run.history.rows[199][column]

    return change


def scale(name: str, factor: float):
    def change(run):
        for each in run.quality.values():
            if name in each["mixture"]:  # not of points
                each["mixture"][name] *= factor

    return change


def never_wrong_about_fakes(run):
    for row in run.history.rows:
        row["accuracy_real"], row["accuracy_fake"] = 1.0, 0.5


@pytest.fixture(scope="module")
def cells_exist():
    assert len(code_until_the_discussion()) > 8


def test_the_records_support_all_sentences(discussion, cells_exist):
    verdicts, failed = discussion()
    assert failed is None
    assert verdicts["PSG-GAN's digits are better than SNGAN's"] == "does not hold"


@pytest.mark.parametrize(
    ("system", "change", "sentence"),
    [
        ("psg_average", hold_still("d_loss"), "1"),
        ("psg_average", never_wrong_about_fakes, "3"),
        ("psg_average", scale("fid", 0.01), "4"),
        ("gan", scale("fid", 0.1), "5"),
        ("gan", scale("coverage", 2), "5"),
    ],
    ids=["a loss that settles", "an accuracy elsewhere", "good digits", "a good GAN", "a varied GAN"],
)
def test_a_changed_record_fails_its_sentence(discussion, system, change, sentence):
    _, failed = discussion(system, change)
    assert failed is not None and failed.rstrip().endswith(f"# {sentence}"), failed


def test_a_changed_record_flips_a_verdict(discussion):
    claim = "PSG-GAN overcomes mode collapse"
    as_recorded, _ = discussion()
    with_a_varied_gan, _ = discussion("gan", scale("class_js", 0.01))
    assert (as_recorded[claim], with_a_varied_gan[claim]) == ("holds", "does not hold")
