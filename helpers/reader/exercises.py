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


def _not_done(todo: str) -> None:
    print(f"Not done yet: {todo}. The hints above are in steps.")


def _right(message: str) -> None:
    print(f"[OK] ✓ {message[0].upper()}{message[1:]}.")


def _wrong(message: str) -> None:
    print(f"Not right yet: {message}{'' if message.endswith(('?', '!')) else '.'}")
