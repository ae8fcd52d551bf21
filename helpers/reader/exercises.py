"""Checks a reader's answer to an exercise: a tick, a message that helps, or "Not done yet" for a blank.

A check prints and never raises over an answer, so a notebook with blank exercises still runs from top to bottom.

How an exercise stands in a notebook (tests/reader/test_exercises.py reads it, and solves every exercise):

1. a markdown cell with a heading such as ``### Exercise 2 (code): write the loss``, its kind one of KINDS; the
   question; at least two hints and the solution, all folded: ``<details><summary>Hint 1</summary> ... </details>`` and
   ``<details><summary>Solution</summary>`` with a reason in words and exactly one ```` ```python ```` block
2. right after it a code cell tagged ``exercise``: the blank (``prediction = ...``, or a function whose body is ``...``)
   and the check, ``exercises.check("04.2", prediction)``, and nothing else, so that a retry does not train again

The key is kept in ``helpers/reader/keys``, a module per notebook. Where the right answer comes from a run, an earlier
cell runs it and the check passes what was measured by name: ``exercises.check("01.2", prediction, counts=counts)``.
The solution's code replaces everything before the check. A stored notebook keeps the blank and its "Not done yet".
"""

from collections.abc import Callable

import torch

from helpers.reader.keys import KEYS

KINDS = ("prediction", "by hand", "code", "change a line", "open design")


def check(exercise: str, answer, **measured) -> None:
    """Judge the answer to an exercise, "04.2" say: print a tick, a message that helps, or "Not done yet".

    measured: what the question needs from this notebook's runs, by the names that its key has
    """
    if exercise not in KEYS:
        raise ValueError(f"exercise={exercise!r}; allowed: {', '.join(KEYS)}")
    verdict, message = KEYS[exercise].judge(answer, **measured)
    {None: _not_done, True: _right, False: _wrong}[verdict](message)


# The checks of notebooks that still hold their keys themselves.


def check_number(answer, expected: float, tolerance: float = 0.01, mistakes: dict[str, float] | None = None) -> None:
    """Compare one number; ``tolerance`` is absolute. mistakes: message -> the wrong number that deserves it."""
    if _blank(answer):
        return _not_done("put a number in place of the dots")
    try:
        value = float(answer)
    except (TypeError, ValueError):
        return _wrong(f"a number is needed, this is {answer!r}")
    if abs(value - expected) <= tolerance:
        return _right(f"{value:.4g} is right")
    for message, wrong in (mistakes or {}).items():
        if abs(value - wrong) <= tolerance:
            return _wrong(message)
    _wrong(f"{value:.4g} is too {'small' if value < expected else 'large'}")


def check_choice(answer, right: str, because: dict[str, str]) -> None:
    """Compare a choice among named answers. because: each answer that can be chosen -> why it is right or wrong."""
    if _blank(answer):
        return _not_done(f"choose one of {', '.join(map(repr, because))}")
    if answer not in because:
        return _wrong(f"{answer!r} is not among the answers: {', '.join(map(repr, because))}")
    (_right if answer == right else _wrong)(because[answer])


def check_function(
    answer: Callable,
    reference: Callable,
    inputs: list[tuple],
    tolerance: float = 1e-4,
    mistakes: dict[str, Callable] | None = None,
) -> None:
    """Compare a function with a reference on several inputs (tuples of arguments); results are numbers or tensors.

    mistakes: message -> a wrong function that deserves it, tried when the answer is wrong.
    """
    results = []
    for arguments in inputs:
        try:
            results.append(answer(*arguments))
        except NotImplementedError:
            return _not_done("replace the dots by your code")
        except Exception as error:  # whatever the reader's code does wrong is shown, not raised
            return _wrong(f"your function raised {type(error).__name__}: {error}")
        if _blank(results[-1]):
            return _not_done("replace the dots by your code, and return a value")

    problem = _difference(results, reference, inputs, tolerance)
    if problem is None:
        return _right(f"equal to the reference on {len(inputs)} input{'s' * (len(inputs) > 1)}")
    for message, wrong in (mistakes or {}).items():
        if _difference(results, wrong, inputs, tolerance) is None:
            return _wrong(message)
    _wrong(problem)


def _difference(results: list, reference: Callable, inputs: list[tuple], tolerance: float) -> str | None:
    """What is wrong with the first result that differs from the reference's; None if all agree."""
    for result, arguments in zip(results, inputs, strict=True):
        try:
            found = torch.as_tensor(result).detach().cpu().double()
        except (TypeError, ValueError, RuntimeError):
            return f"a number or tensor is needed, your function returned {result!r}"
        wanted = torch.as_tensor(reference(*arguments)).detach().cpu().double()
        if found.shape != wanted.shape:
            return f"shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
        if not torch.allclose(found, wanted, rtol=tolerance, atol=tolerance):
            where = int((found - wanted).abs().nan_to_num(torch.inf).argmax())
            pair = found.flatten()[where].item(), wanted.flatten()[where].item()
            return f"{pair[0]:.4g} where {pair[1]:.4g} is right"
    return None


def _blank(answer) -> bool:
    return answer is None or answer is ...


def _not_done(todo: str) -> None:
    print(f"Not done yet: {todo}. The hints above are in steps.")


def _right(message: str) -> None:
    print(f"[OK] ✓ {message[0].upper()}{message[1:]}.")


def _wrong(message: str) -> None:
    print(f"Not right yet: {message}.")
