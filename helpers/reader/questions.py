"""The kinds of question an exercise can ask: a number, a choice, a function, an open design.

A question judges an answer and says (verdict, message): None for a blank, True for right, False for wrong. It never
raises over what a reader wrote. Where the right answer comes from a run, the notebook passes what was measured by name;
``right`` is then a function of it, and texts may quote it: ``"{counts[quick D]:.0f} of 8"``.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import signature

import torch

Verdict = tuple[bool | None, str]


@dataclass(frozen=True)
class Number:
    """One number. ``tolerance`` is absolute; mistakes: message -> the wrong number that deserves it.

    A flipped sign, half and twice the right number are recognised without being listed.
    """

    right: float | Callable
    because: str
    tolerance: float = 0.01
    mistakes: dict[str, float] = field(default_factory=dict)

    def judge(self, answer, **measured) -> Verdict:
        if is_blank(answer):
            return None, "put a number in place of the dots"
        try:
            value = float(answer)
        except (TypeError, ValueError):
            return False, f"a number is needed, this is {answer!r}"
        right = float(self.right(**measured) if callable(self.right) else self.right)
        if abs(value - right) <= self.tolerance:
            return True, f"{_shown(value)} is right: {self.because.format(**measured)}"
        common = {
            "the sign is flipped": -right,
            "that is half of it; averaged where a sum is asked?": right / 2,
            "that is twice as much; summed where an average is asked?": 2 * right,
        }
        for message, wrong in (self.mistakes | common).items():
            if abs(value - wrong) <= self.tolerance:
                return False, message.format(**measured)
        return False, f"{_shown(value)} is too {'small' if value < right else 'large'}"


@dataclass(frozen=True)
class Choice:
    """One of several named answers. because: each answer that can be chosen -> why it is right or wrong."""

    right: str | Callable
    because: dict[str, str]

    def judge(self, answer, **measured) -> Verdict:
        if is_blank(answer):
            return None, f"choose one of {', '.join(map(repr, self.because))}"
        meant = [each for each in self.because if isinstance(answer, str) and _plain(each) == _plain(answer)]
        if not meant:
            return False, f"{answer!r} is not among the answers: {', '.join(map(repr, self.because))}"
        right = self.right(**measured) if callable(self.right) else self.right
        return meant[0] == right, self.because[meant[0]].format(**measured)


@dataclass(frozen=True)
class Function:
    """A function, compared with a reference on several inputs (tuples of arguments); results are numbers or tensors.

    mistakes: message -> a wrong function that deserves it. A flipped sign, half and twice the value, an average where
    one value each is asked and the reverse are recognised without being listed.
    """

    reference: Callable
    inputs: tuple[tuple, ...]
    because: str
    tolerance: float = 1e-4
    mistakes: dict[str, Callable] = field(default_factory=dict)

    def judge(self, answer, **measured) -> Verdict:
        if is_blank(answer):
            return None, "replace the dots by your function"
        results = []
        for arguments in self.inputs:
            try:
                results.append(answer(*deepcopy(arguments)))  # one that works in place must not change the inputs
            except NotImplementedError:
                return None, "replace the dots by your code"
            except Exception as error:  # whatever the reader's code does wrong is shown, not raised
                return False, f"your function raised {type(error).__name__}: {error}"
            if is_blank(results[-1]):
                return None, "replace the dots by your code, and return a value"
        problem = self._difference(results, self.reference)
        if problem is None:
            return True, f"equal to the reference on {len(results)} input{'s' * (len(results) > 1)}: {self.because}"
        common = {
            "the sign is flipped": lambda right: -right,
            "that is half of it; averaged where a sum is asked?": lambda right: right / 2,
            "that is twice as much; summed where an average is asked?": lambda right: 2 * right,
            "that is the average over the batch; one value each is asked": lambda right: right.mean(),
        }
        for message, wrong in self.mistakes.items():
            if self._difference(results, wrong) is None:
                return False, message
        for message, change in common.items():
            if self._difference(results, self.reference, change) is None:
                return False, message
        if self._difference(results, self.reference, of_result=torch.mean) is None:
            return False, "one value each; the average over the batch is asked"
        return False, problem

    def _difference(self, results: list, reference: Callable, change=lambda x: x, of_result=lambda x: x) -> str | None:
        """What is wrong with the first result that differs from the (changed) reference's; None if all agree."""
        for result, arguments in zip(results, self.inputs, strict=True):
            try:
                found = of_result(torch.as_tensor(result).detach().cpu().double())
            except (TypeError, ValueError, RuntimeError):
                return f"a number or tensor is needed, your function returned {result!r}"
            wanted = change(torch.as_tensor(reference(*arguments)).detach().cpu().double())
            if found.shape != wanted.shape:
                return f"shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
            if not torch.allclose(found, wanted, rtol=self.tolerance, atol=self.tolerance):
                where = int((found - wanted).abs().nan_to_num(torch.inf).argmax())
                pair = found.flatten()[where].item(), wanted.flatten()[where].item()
                return f"{pair[0]:.4g} where {pair[1]:.4g} is right"
        return None


@dataclass(frozen=True)
class Design:
    """An open task: whatever reaches the goal is right. The answer is a value, or a function that makes it; a function
    that takes arguments is itself the design.

    missing: (value, **what the notebook passes) -> a sentence that says what is still missing, or None; it raises
    NotImplementedError where the dots were left in a function
    because: what is said of a design that reaches the goal, or a function of the same arguments that says it
    """

    missing: Callable
    because: str | Callable

    def judge(self, answer, **measured) -> Verdict:
        try:
            value = answer() if callable(answer) and not signature(answer).parameters else answer
            if is_blank(value):
                return None, f"put your {'own design' if callable(answer) else 'answer'} in place of the dots"
            problem = self.missing(value, **measured)
        except NotImplementedError:
            return None, "replace the dots by your code, and return a value"
        except Exception as error:  # the reader's design may be anything
            return False, f"your design raised {type(error).__name__}: {error}"
        if problem is not None:
            return False, problem
        return True, self.because(value, **measured) if callable(self.because) else self.because.format(**measured)


def is_blank(answer) -> bool:
    """Whether the dots were left in place."""
    return answer is None or answer is ...


def _shown(value: float) -> str:
    """A whole number as it is written, any other with four digits: 16384, 0.3333."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _plain(text: str) -> str:
    """An answer's text without what a reader may type otherwise: capitals and spaces."""
    return text.casefold().replace(" ", "")
