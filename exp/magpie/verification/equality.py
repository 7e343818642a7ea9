"""Whether two answers are equal, different, or undecided: by their texts first, then by the rules (rules.py)."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from magpie.verification.extract import stated
from magpie.verification.guards import LONGEST, danger
from magpie.verification.normalize import key, number, plain


class Verdict(StrEnum):
    """The result of a comparison."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    TIMED_OUT = "timed_out"


def compare(one: str, other: str) -> Verdict:
    """Return whether two answers are the same; `unparsed` if they could not both be read and compared.

    May run as long as SymPy takes: called only in the worker processes of pool.py.
    """
    from magpie.verification import rules  # SymPy takes a second to import

    verdict = cheaply(one, other)
    return _verdict(rules.same(spelling(one), spelling(other), 0)) if verdict is None else verdict


def cheaply(one: str, other: str) -> Verdict | None:
    """Return what the texts alone decide (equal texts, plain numbers, dangerous ones), or None if they must be parsed."""
    if (x := number(one)) and (y := number(other)):
        return _verdict(x.same(y))
    if one.strip() == other.strip() != "":
        return Verdict.RIGHT
    if max(len(stated(one)), len(stated(other))) > LONGEST:
        return Verdict.UNPARSED
    a, b = spelling(one), spelling(other)
    if a and key(a) == key(b):
        return Verdict.RIGHT
    if not a or not b or danger(stated(one)) or danger(stated(other)):
        return Verdict.UNPARSED
    x, y = (None, None) if "," in a + b else (number(a), number(b))
    return _verdict(x.same(y)) if x and y else None


def _verdict(same: bool | None) -> Verdict:
    return Verdict.UNPARSED if same is None else Verdict.RIGHT if same else Verdict.WRONG


@lru_cache(maxsize=4096)
def spelling(answer: str) -> str:
    """Return an answer, without the sentence around it, in one spelling."""
    return plain(stated(answer))
