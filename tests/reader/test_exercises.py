"""The exercises of every notebook: each has hints and a folded solution, each solution passes, each blank fails.

For the proof a notebook runs once in the smoke profile, with a solved copy after every exercise. The checker itself is
tested first.
"""

import re
from pathlib import Path

import nbformat
import pytest
import torch

from helpers.reader import exercises

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>(.*?)</details>", re.DOTALL)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


# ---- the checker ---------------------------------------------------------------------------------------------------


def verdict(capsys, check, *arguments, **options) -> str:
    assert check(*arguments, **options) is None  # a value would be shown as the cell's output
    return capsys.readouterr().out


def test_number(capsys):
    check = exercises.check_number
    assert verdict(capsys, check, ..., 2.0).startswith("Not done yet")
    assert verdict(capsys, check, 2.001, 2.0).startswith("[OK]")
    assert "too large" in verdict(capsys, check, 2.5, 2.0)
    assert "too small" in verdict(capsys, check, torch.tensor(1.5), 2.0)
    assert "halved" in verdict(capsys, check, 1.0, 2.0, mistakes={"you halved it": 1.0})
    assert "'two'" in verdict(capsys, check, "two", 2.0)
    assert not verdict(capsys, check, float("nan"), 2.0).startswith("[OK]")


def test_choice(capsys):
    because = {"up": "it rises", "down": "it does not fall"}
    assert verdict(capsys, exercises.check_choice, ..., "up", because).startswith("Not done yet")
    assert verdict(capsys, exercises.check_choice, "up", "up", because) == "[OK] ✓ It rises.\n"
    assert verdict(capsys, exercises.check_choice, "down", "up", because) == "Not right yet: it does not fall.\n"
    assert "'up', 'down'" in verdict(capsys, exercises.check_choice, "left", "up", because)


def test_function(capsys):
    inputs = [(torch.tensor([1.0, -2.0]),), (torch.tensor([0.5]),)]

    def blank(x): ...

    def check(answer, **options):
        return verdict(capsys, exercises.check_function, answer, torch.square, inputs, **options)

    assert check(blank).startswith("Not done yet")
    assert check(lambda x: x * x).startswith("[OK]")
    assert check(lambda x: x).startswith("Not right yet: -2 where 4 is right")
    assert "shape (1,) instead of (2,)" in check(lambda x: x[:1])
    assert "sign" in check(lambda x: -x * x, mistakes={"mind the sign": lambda x: -(x**2)})
    assert "raised ZeroDivisionError" in check(lambda x: 1 / 0)
    assert "'text'" in check(lambda x: "text")
    assert check(lambda x: x * float("nan")).startswith("Not right yet")


# ---- the notebooks -------------------------------------------------------------------------------------------------


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def exercises_of(notebook) -> list[tuple[int, str, str]]:
    """(index of the code cell, question with hints and solution, source of the code cell) of each exercise."""
    cells = notebook.cells
    return [
        (index, cells[index - 1].source, cell.source)
        for index, cell in enumerate(cells)
        if "exercise" in cell.metadata.get("tags", [])
    ]


def solve(question: str, stub: str) -> str:
    """The stub's cell with the blank replaced by the solution."""
    (solution,) = CODE.findall(SOLUTION.search(question)[1])
    check = re.search(r"^exercises\..*", stub, re.MULTILINE | re.DOTALL)
    return solution + check[0]


def test_every_exercise_has_question_hints_and_solution(path):
    found = exercises_of(nbformat.read(path, as_version=4))
    assert len(found) >= 3, f"{path.name} has {len(found)} exercises"
    for index, question, stub in found:
        assert re.search(r"^#+ Exercise \d", question, re.MULTILINE), f"cell {index}: no heading before it"
        assert question.count("<summary>Hint") >= 2, f"cell {index}: hints come in steps"
        assert question.count("<details>") == question.count("</details>"), f"cell {index}: a fold is left open"
        compile(solve(question, stub), f"{path.name}, cell {index}", "exec")
        assert "..." in stub.split("exercises.")[0], f"cell {index}: the blank is missing"


@pytest.mark.slow
def test_every_solution_passes_and_every_blank_fails(path, tmp_path):
    from tools.build_notebooks import execute, kernel_environment

    notebook = nbformat.read(path, as_version=4)
    found = exercises_of(notebook)
    for index, question, stub in reversed(found):
        notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(solve(question, stub), id=f"solved-{index}"))
    execute(notebook, path.parent, kernel_environment("smoke"), timeout=600)
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in notebook.cells]
    for number, (index, _, _) in enumerate(found):
        blank, solved = printed[index + number], printed[index + number + 1]
        assert "Not done yet" in blank and "[OK]" not in blank, f"exercise {number + 1}: {blank!r}"
        assert "[OK]" in solved and "Not" not in solved.split("[OK]")[0], f"exercise {number + 1}: {solved!r}"
