"""The exercises of every notebook: each has hints and a folded solution with a reason, each solution passes, each blank
fails, and no cell gives its answer away or trains again on a retry.

For the proof a notebook runs once in the smoke profile, with a solved copy after every exercise; the same run proves
the notebook's code on Apple's GPU, which is not there (see fake_device.py). The checker and its keys are tested first.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import torch
from fake_device import IS_FAITHFUL
from watched_notebooks import printed, report, watch

from helpers.reader import exercises
from helpers.reader.keys import KEYS
from helpers.reader.questions import Choice, Design, Function, Number

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>(.*?)</details>", re.DOTALL)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


# ---- the checker ---------------------------------------------------------------------------------------------------


def verdict(capsys, check, *arguments, **options) -> str:
    assert check(*arguments, **options) is None  # a value would be shown as the cell's output
    return capsys.readouterr().out


def judged(capsys, question, answer, **measured) -> str:
    """What a reader sees whose answer meets a question."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exercises.KEYS, "test", question)
        return verdict(capsys, exercises.check, "test", answer, **measured)


def test_number(capsys):
    def check(answer, right, **options):
        return judged(capsys, Number(right, "why", **options), answer)

    assert check(..., 2.0).startswith("Not done yet")
    assert check(2.001, 2.0).startswith("[OK]")
    assert "too large" in check(2.5, 2.0)
    assert "too small" in check(torch.tensor(1.5), 2.0)
    assert "halved" in check(1.0, 2.0, mistakes={"you halved it": 1.0})
    assert "'two'" in check("two", 2.0)
    assert not check(float("nan"), 2.0).startswith("[OK]")


def test_choice(capsys):
    question = Choice("up", {"up": "it rises", "down": "it does not fall"})
    assert judged(capsys, question, ...).startswith("Not done yet")
    assert judged(capsys, question, "up") == "[OK] ✓ It rises.\n"
    assert judged(capsys, question, "down") == "Not right yet: it does not fall.\n"
    assert "'up', 'down'" in judged(capsys, question, "left")


def test_function(capsys):
    inputs = ((torch.tensor([1.0, -2.0]),), (torch.tensor([0.5]),))

    def blank(x): ...

    def check(answer, **options):
        return judged(capsys, Function(torch.square, inputs, "a square", **options), answer)

    assert check(blank).startswith("Not done yet")
    assert check(lambda x: x * x).startswith("[OK]")
    assert check(lambda x: x).startswith("Not right yet: -2 where 4 is right")
    assert "shape (1,) instead of (2,)" in check(lambda x: x[:1])
    assert "sign" in check(lambda x: -x * x, mistakes={"mind the sign": lambda x: -(x**2)})
    assert "raised ZeroDivisionError" in check(lambda x: 1 / 0)
    assert "'text'" in check(lambda x: "text")
    assert check(lambda x: x * float("nan")).startswith("Not right yet")


def test_questions_about_numbers(capsys):
    question = Number(2.0, "one and one", mistakes={"you added three": 3.0})
    assert judged(capsys, question, ...).startswith("Not done yet: put a number")
    assert judged(capsys, question, torch.tensor(2.001)) == "[OK] ✓ 2.001 is right: one and one.\n"
    assert judged(capsys, question, 3) == "Not right yet: you added three.\n"
    assert "sign is flipped" in judged(capsys, question, -2.0)
    assert "half" in judged(capsys, question, 1.0) and "twice" in judged(capsys, question, 4)
    assert "too large" in judged(capsys, question, 2.5) and "too small" in judged(capsys, question, 1.5)
    assert "'two'" in judged(capsys, question, "two")
    assert not judged(capsys, question, float("nan")).startswith("[OK]")
    assert judged(capsys, Number(16384, "2^14"), 16384) == "[OK] ✓ 16384 is right: 2^14.\n"
    asks = Number(2.0, "one and one", mistakes={"which of them?": 3.0})
    assert judged(capsys, asks, 3) == "Not right yet: which of them?\n"


def test_answers_that_come_from_a_run(capsys):
    number = Number(lambda found: found["a"], "measured: {found[a]:.0f}")
    assert judged(capsys, number, 7, found={"a": 7.0}) == "[OK] ✓ 7 is right: measured: 7.\n"
    choice = Choice(lambda found: max(found, key=found.get), {"a": "{found[a]} won", "b": "it has {found[b]}"})
    assert judged(capsys, choice, "a", found={"a": 2, "b": 1}) == "[OK] ✓ 2 won.\n"
    assert judged(capsys, choice, "b", found={"a": 2, "b": 1}) == "Not right yet: it has 1.\n"


def test_questions_with_a_choice(capsys):
    question = Choice("up", {"up": "it rises", "down": "it does not fall"})
    assert judged(capsys, question, None).startswith("Not done yet: choose one of 'up', 'down'")
    assert judged(capsys, question, "up") == "[OK] ✓ It rises.\n"
    assert judged(capsys, question, "down") == "Not right yet: it does not fall.\n"
    assert judged(capsys, question, " Up") == "[OK] ✓ It rises.\n"
    for other in ("left", 3, ["up"]):
        assert "'up', 'down'" in judged(capsys, question, other)


def test_questions_about_functions(capsys):
    inputs = ((torch.tensor([1.0, -2.0]),), (torch.tensor([0.5, 3.0]),))
    question = Function(torch.square, inputs, "a square", mistakes={"that is the cube": lambda x: x**3})

    def blank(x): ...

    def check(answer, **options):
        return judged(capsys, question, answer, **options)

    assert check(...).startswith("Not done yet") and check(blank).startswith("Not done yet")
    assert check(lambda x: x * x) == "[OK] ✓ Equal to the reference on 2 inputs: a square.\n"
    assert check(lambda x: x).startswith("Not right yet: -2 where 4 is right")
    assert "shape (1,) instead of (2,)" in check(lambda x: x[:1])
    assert "cube" in check(lambda x: x**3)
    assert "sign is flipped" in check(lambda x: -x * x)
    assert "half" in check(lambda x: x * x / 2) and "twice" in check(lambda x: 2 * x * x)
    assert "one value each is asked" in check(lambda x: (x * x).mean())
    assert "raised ZeroDivisionError" in check(lambda x: 1 / 0)
    assert "'text'" in check(lambda x: "text")
    assert check(lambda x: x * float("nan")).startswith("Not right yet")
    mean = Function(lambda x: x.square().mean(), inputs, "a mean square")
    assert "the average over the batch is asked" in judged(capsys, mean, torch.square)


def test_a_function_that_works_in_place_is_judged_by_its_value_and_changes_no_input(capsys):
    given = torch.tensor([1.0, -2.0])
    question = Function(lambda x: x.clamp(min=0), ((given,),), "a ramp")
    assert judged(capsys, question, lambda x: x.clamp_(min=0)).startswith("[OK]")
    assert judged(capsys, question, lambda x: x.add_(1)).startswith("Not right yet")
    assert given.tolist() == [1.0, -2.0]


def test_open_designs(capsys):
    question = Design(
        lambda answer, least: None if len(answer) >= least else f"{len(answer)} of {least}", "long enough"
    )
    assert "put your answer" in judged(capsys, question, ..., least=2)
    assert judged(capsys, question, [1, 2, 3], least=2) == "[OK] ✓ Long enough.\n"
    assert judged(capsys, question, [1], least=2) == "Not right yet: 1 of 2.\n"
    assert "raised TypeError" in judged(capsys, question, 5, least=2)
    assert judged(capsys, question, lambda: [1, 2], least=2).startswith("[OK]")
    told = Design(lambda answer: None, lambda answer: f"{answer} it is")
    assert judged(capsys, told, "seven") == "[OK] ✓ Seven it is.\n"
    assert "put your own design" in judged(capsys, question, lambda: None, least=2)
    assert "raised ZeroDivisionError" in judged(capsys, question, lambda: 1 / 0, least=2)


def test_a_remedy_of_the_readers_is_judged_by_what_was_predicted_of_it():
    nothing = {"modes": 7.0, "slope": 0.2}

    def judged_with(predicted, modes):
        return KEYS["07.6"].judge((predicted, {"modes": modes, "slope": 0.1}), nothing=nothing)

    for predicted, modes in (("more modes", 8.0), ("fewer modes", 2.0), ("as many modes", 7.0)):
        verdict, message = judged_with(predicted, modes)
        assert verdict and message.startswith(f"your prediction was right, {modes:.0f} modes beside 7"), message
    verdict, message = judged_with("fewer modes", 7.0)
    assert verdict, "a prediction that failed is a result, and not to be repaired afterwards"
    assert "your prediction was wrong, 7 modes beside 7 without a remedy: as many modes, not fewer modes" in message
    assert KEYS["07.6"].judge(("more modes", nothing), nothing=nothing)[0] is False, "nothing was changed"


def test_an_unknown_exercise_is_named():
    with pytest.raises(ValueError, match="exercise='09.1'; allowed: 00.1, "):
        exercises.check("09.1", 1)


# ---- the keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS)
def test_keys_know_right_from_wrong(name):
    key = KEYS[name]
    assert key.judge(...)[0] is None and key.because, "the blank"
    if isinstance(key, Choice):
        assert len(key.because) >= 2
        if not callable(key.right):
            verdicts = {answer: key.judge(answer)[0] for answer in key.because}
            assert [answer for answer, right in verdicts.items() if right] == [key.right]
    if isinstance(key, Number) and not callable(key.right):
        assert key.judge(key.right)[0] is True
        for message, wrong in key.mistakes.items():
            assert key.judge(wrong) == (False, message)
    if isinstance(key, Function):
        assert key.judge(key.reference)[0] is True
        for message, wrong in key.mistakes.items():
            assert key.judge(wrong) == (False, message)


def test_keys_help_with_what_readers_tried(capsys):
    """Answers that were given to these exercises, and met an error of Python's or a message that did not help."""
    said = {
        "05.7": KEYS["05.7"].judge(lambda: lambda scores: torch.tensor(1.0)),
        "06.5": KEYS["06.5"].judge(lambda: type("Lazy", (), {})),
        "04.4": KEYS["04.4"].judge("150", cuts={150: 0.3}),
        "04.1": KEYS["04.1"].judge(1 / 3),
    }
    assert all(verdict is False for verdict, _ in said.values())
    assert "does not depend on the scores" in said["05.7"][1] and "return an object of it: Lazy(...)" in said["06.5"][1]
    assert "without quotation marks" in said["04.4"][1] and "for two generators" in said["04.1"][1]
    assert KEYS["04.2"].judge("b,a")[0] is True

    def proof_with_names(next_k):
        assert abs(next_k(0.5, real_energy=1.0, fake_energy=0.2, gamma=0.5, rate=0.1) - 0.53) < 1e-9
        assert next_k(1.0, real_energy=1.0, fake_energy=0.0) <= 1 and next_k(0.0, real_energy=0.0, fake_energy=1.0) >= 0

    assert KEYS["05b.4"].judge(lambda: proof_with_names)[0] is True


# ---- the notebooks -------------------------------------------------------------------------------------------------

HEADING = re.compile(r"^#+ Exercise (\d+) \(([\w ]+)\): ", re.MULTILINE)


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
        reason = CODE.sub("", SOLUTION.search(question)[1])
        assert len(reason.split()) >= 6, f"cell {index}: the solution gives no reason"
        assert question.count("<summary>Hint") >= 2, f"cell {index}: hints come in steps"
        assert question.count("<details>") == question.count("</details>"), f"cell {index}: a fold is left open"
        compile(solve(question, stub), f"{path.name}, cell {index}", "exec")
        assert "..." in stub.split("exercises.")[0], f"cell {index}: the blank is missing"


def numbered(path) -> str:
    """ "04" of 04_comparison: exercises are called "04.1" and so on."""
    return path.stem.partition("_")[0]


def test_exercises_are_numbered_experiments(path):
    """Numbered from 1 without gaps; at least one prediction, one changed line and one open design."""
    found = [HEADING.search(question) for _, question, _ in exercises_of(nbformat.read(path, as_version=4))]
    assert all(found), "a heading reads '### Exercise 2 (prediction): which covers the most?'"
    assert [int(heading[1]) for heading in found] == list(range(1, len(found) + 1))
    kinds = {heading[2] for heading in found}
    assert kinds <= set(exercises.KINDS), kinds
    assert kinds >= {"prediction", "change a line", "open design"}, kinds


def test_a_cell_holds_the_blank_and_the_check_and_nothing_else(path):
    """So no cell gives its answer away, and a retry trains nothing again."""
    for number, (index, _, stub) in enumerate(exercises_of(nbformat.read(path, as_version=4)), 1):
        *blanks, last = ast.parse(stub).body
        assert ast.unparse(last).startswith(f"exercises.check('{numbered(path)}.{number}', "), f"cell {index}"
        assert f"{numbered(path)}.{number}" in KEYS, f"cell {index}: its key is missing"
        given = [*last.value.args[1:], *(keyword.value for keyword in last.value.keywords)]
        assert not any(isinstance(part, ast.Call) for each in given for part in ast.walk(each)), (
            f"cell {index}: pass what an earlier cell has measured"
        )
        for blank in blanks:
            body = blank.body if isinstance(blank, (ast.FunctionDef, ast.ClassDef)) else [blank]
            rest = [each for each in body if not isinstance(getattr(each, "value", None), ast.Constant)]
            assert not rest, f"cell {index}: {ast.unparse(rest[0])!r} belongs into an earlier cell"


def test_every_key_belongs_to_an_exercise():
    asked = {
        f"{numbered(path)}.{number}"
        for path in NOTEBOOKS
        for number in range(1, 1 + len(exercises_of(nbformat.read(path, as_version=4))))
    }
    assert set(KEYS) == asked


def test_the_open_game_of_notebook_0_takes_no_way_around_its_pace(capsys):
    played = {"play": lambda **design: 8}
    assert verdict(capsys, exercises.check, "00.3", {"count": 4}, **played).startswith("[OK]")
    for design, word in (({"pace": 5}, "pace"), ({"preset": "quick D"}, "preset"), ({"data": "grid of 25"}, "data")):
        said = verdict(capsys, exercises.check, "00.3", design, **played)
        assert said.startswith("Not") and word in said


found_on_mps = {}  # notebook -> what its run found, for the last test


@pytest.mark.slow
def test_every_solution_passes_and_every_blank_fails(path, warm_kernels):
    from tools.build_notebooks import execute, kernel_environment

    notebook = nbformat.read(path, as_version=4)
    found = exercises_of(notebook)
    for index, question, stub in reversed(found):
        notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(solve(question, stub), id=f"solved-{index}"))
    watch(notebook, "mps")
    found_on_mps[path] = "it does not run to its end"
    execute(notebook, path.parent, kernel_environment("smoke"), timeout=600)
    found_on_mps[path] = report(notebook)
    cells = notebook.cells[1:-1]
    for number, (index, _, _) in enumerate(found):
        blank, solved = printed(cells[index + number]), printed(cells[index + number + 1])
        assert "Not done yet" in blank and "[OK]" not in blank, f"exercise {number + 1}: {blank!r}"
        assert "[OK]" in solved and "Not" not in solved.split("[OK]")[0], f"exercise {number + 1}: {solved!r}"


@pytest.mark.slow
@pytest.mark.skipif(not IS_FAITHFUL, reason="the fake devices need a newer torch")
def test_notebook_runs_on_mps(path, warm_kernels):
    if path not in found_on_mps:
        test_every_solution_passes_and_every_blank_fails(path, warm_kernels)
    assert found_on_mps[path] == "no findings"
