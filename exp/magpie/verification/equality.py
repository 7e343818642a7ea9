r"""Whether two answers are the same: cheap readings first (text, choices, words, lists, intervals, numbers), algebra last.

`compare` may run for as long as SymPy likes; it is called in the worker processes of pool.py alone. `cheaply` is what
can be told at once and in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from magpie.verification import symbolic as algebra
from magpie.verification.normalize import Number, danger, elements, inside, is_known_unit, key, measure, number, plain, vector
from magpie.verification.structure import (
    EQUALS,
    MOST_PARTS,
    Range,
    arithmetic_progression,
    assigned,
    bare_name,
    choice,
    collection,
    congruence,
    is_everything,
    may_unite,
    ranges,
    reduced,
    values,
    without_shared_name,
)
from magpie.verification.words import excludes, is_wordy, loose, narrows, predicate, same_words, says_nothing, split_condition

DEEPEST = 6
T = TypeVar("T")


class Verdict(StrEnum):
    """What became of a comparison."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    TIMED_OUT = "timed_out"


def compare(one: str, other: str) -> Verdict:
    """Return whether two answers are the same; `unparsed` where one of them cannot be read and the texts differ."""
    verdict = cheaply(one, other)
    if verdict is not None:
        return verdict
    same = _same(plain(one), plain(other), 0)
    if same is None:
        return Verdict.UNPARSED
    return Verdict.RIGHT if same else Verdict.WRONG


def cheaply(one: str, other: str) -> Verdict | None:
    """Return what the texts alone tell, or None where they must be read: equal texts, plain numbers, what is too dangerous."""
    if (x := number(one)) and (y := number(other)):
        return Verdict.RIGHT if _same_numbers(x, y) else Verdict.WRONG
    if danger(one) or danger(other):
        return Verdict.RIGHT if one.strip() == other.strip() != "" else Verdict.UNPARSED
    a, b = plain(one), plain(other)
    if not a or not b:
        return Verdict.UNPARSED
    if key(a) == key(b):
        return Verdict.RIGHT
    if (x := number(a)) and (y := number(b)) and not _may_be_list(a, b):
        return Verdict.RIGHT if _same_numbers(x, y) else Verdict.WRONG
    return None


def _may_be_list(a: str, b: str) -> bool:
    return "," in a or "," in b


def _same(a: str, b: str, depth: int) -> bool | None:
    """Whether two answers in one spelling are the same; None where neither rules nor algebra can read them."""
    if key(a) == key(b):
        return True
    if depth > DEEPEST:
        return None
    for rule in RULES:
        verdict = rule(a, b, depth)
        if verdict is not NEXT:
            return verdict  # type: ignore[return-value]
    return algebra.same(a, b)


class _Next:
    """A rule has nothing to say."""


NEXT = _Next()
Said = bool | None | _Next

# --- multiple choice -----------------------------------------------------------------------------------------------------


def _choices(a: str, b: str, depth: int) -> Said:
    x, y = choice(a), choice(b)
    if x and y:
        return x[0] == y[0]
    if x and x[1]:
        return _same(x[1], b, depth + 1)
    if y and y[1]:
        return _same(a, y[1], depth + 1)
    return NEXT


# --- congruences -----------------------------------------------------------------------------------------------------------


def _congruences(a: str, b: str, depth: int) -> Said:
    x, y = congruence(a), congruence(b)
    if not x and not y:
        return NEXT
    if x and y:
        return _same(x[1], y[1], depth + 1) and _unordered(reduced(*x), reduced(*y), depth)
    (residues, modulus), other = (x, b) if x else (y or ([], ""), a)
    parts = elements(assigned(other)[1])
    if progression := arithmetic_progression(parts):
        return (
            _unordered(reduced(residues, modulus), reduced([progression[1]], progression[0]), depth)
            and modulus == progression[0]
        )
    return _unordered(residues, parts, depth)


# --- conditions and words --------------------------------------------------------------------------------------------------


def _conditions(a: str, b: str, depth: int) -> Said:
    (x, x_condition), (y, y_condition) = split_condition(a), split_condition(b)
    if not x_condition and not y_condition:
        return NEXT
    if x_condition and y_condition and narrows(x_condition) != narrows(y_condition):
        return False if _same(x, y, depth + 1) is not None else None
    if not (x_condition and y_condition) and (excludes(x_condition) or excludes(y_condition)):
        return False
    if is_wordy(x) and is_wordy(y):
        return same_words(a, b) or same_words(x, y)
    return _same(x, y, depth + 1)


def _in_words(a: str, b: str, depth: int) -> Said:
    x, y = _wordy(a), _wordy(b)
    if says_nothing(a) or says_nothing(b):
        return same_words(a, b)
    if (not x and not y) or is_everything(a) or is_everything(b):
        return NEXT
    if x and y:
        return same_words(a, b) or _predicates(a, b, depth)
    words, other = (a, b) if x else (b, a)
    if loose(words) == loose(other):
        return True
    said = predicate(words)
    if said and said != words and not is_wordy(said):
        return _same(said, other, depth + 1)
    return same_words(words, other)


def _predicates(a: str, b: str, depth: int) -> bool:
    x, y = predicate(a), predicate(b)
    return bool(x and y and not is_wordy(x) and not is_wordy(y) and _same(x, y, depth + 1))


def _wordy(text: str) -> bool:
    """Whether words say something, beyond a unit behind a number."""
    bare = measure(text)
    return is_wordy(bare.bare if bare.unit and not is_wordy(bare.bare) else text)


# --- what is assigned --------------------------------------------------------------------------------------------------------

COORDINATES = frozenset("xyzr")


def _assignments(a: str, b: str, depth: int) -> Said:
    if len(EQUALS.findall(a)) + len(EQUALS.findall(b)) > 2 and ("," in a or "," in b or is_wordy(a) or is_wordy(b)):
        return NEXT  # lists of assignments: their parts come here
    (x_name, x), (y_name, y) = assigned(a), assigned(b)
    if not x_name and not y_name:
        return NEXT
    if x_name and y_name:
        named = bare_name(x_name), bare_name(y_name)
        if named[0] != named[1] and set(named) <= COORDINATES:
            return False
        return _same(x, y, depth + 1)
    if "=" in a and "=" in b:  # a line in two forms
        return NEXT
    return _same(x, y, depth + 1)


# --- intervals and inequalities ----------------------------------------------------------------------------------------------


def _intervals(a: str, b: str, depth: int) -> Said:
    x, y = ranges(a), ranges(b)
    if not x or not y:
        return False if (x and x[0][1] != x[-1][2] and number(b)) or (y and y[0][1] != y[-1][2] and number(a)) else NEXT
    if len(x) != len(y):
        return NEXT if may_unite(a, b) else False

    def equal(one: Range, other: Range) -> bool:
        return one[0] == other[0] and one[3] == other[3] and all(bool(_same(one[i], other[i], depth + 1)) for i in (1, 2))

    return _matched(x, y, equal)


# --- lists, sets, tuples -----------------------------------------------------------------------------------------------------


def _collections(a: str, b: str, depth: int) -> Said:
    if ("matrix}" in a) != ("matrix}" in b):
        a, b = vector(a), vector(b)
    a_list, b_list = (without_shared_name(text) for text in (a, b))
    (x_kind, x), (y_kind, y) = collection(a_list), collection(b_list)
    if not x_kind and not y_kind:
        return NEXT
    if (one := number(a)) and (two := number(b)) and _same_numbers(one, two):
        return True  # 10,080: thousands, not a list
    if len(x) != len(y):
        return _of_one(x_kind, x, y_kind, y, depth)
    if len(x) > MOST_PARTS:
        return sorted(map(key, x)) == sorted(map(key, y))
    kinds = {x_kind, y_kind}
    if "tuple" in kinds and kinds != {"tuple"}:
        return "set" not in kinds and _ordered(values(x), values(y), depth)
    if kinds == {"tuple"}:
        return _same_brackets(a_list, b_list) and _ordered(x, y, depth)
    if any(re.search(r"\\(?:l|c)?dots", part) for part in (*x, *y)):
        return _ordered(x, y, depth)
    if all(EQUALS.search(part) for part in x) != all(EQUALS.search(part) for part in y):
        x, y = values(x), values(y)
    return _unordered(x, y, depth)


def _of_one(x_kind: str, x: list[str], y_kind: str, y: list[str], depth: int) -> Said:
    """A set of one against its element; a list against something that is none may be a matrix or a product."""
    if len(x) == 1 and x_kind == "set":
        return _same(x[0], y[0], depth + 1) if len(y) == 1 else False
    if len(y) == 1 and y_kind == "set":
        return _same(x[0], y[0], depth + 1) if len(x) == 1 else False
    return NEXT if "matrix}" in "".join((*x, *y)) else False


def _same_brackets(a: str, b: str) -> bool:
    x, y = inside(a), inside(b)
    return bool(x and y and x[0] == y[0] and x[2] == y[2])


def _ordered(x: list[str], y: list[str], depth: int) -> bool:
    return len(x) == len(y) and all(bool(_same(one, other, depth + 1)) for one, other in zip(x, y, strict=True))


def _unordered(x: list[str], y: list[str], depth: int) -> bool:
    return _matched(x, y, lambda one, other: bool(_same(one, other, depth + 1)))


def _matched(x: list[T], y: list[T], equal: Callable[[T, T], bool]) -> bool:
    """Whether every part of one has its own equal in the other."""
    if len(x) != len(y):
        return False
    left = list(y)
    for one in x:
        at = next((i for i, other in enumerate(left) if one == other), None)
        if at is None:
            at = next((i for i, other in enumerate(left) if equal(one, other)), None)
        if at is None:
            return False
        del left[at]
    return True


# --- units and numbers -------------------------------------------------------------------------------------------------------


def _measures(a: str, b: str, depth: int) -> Said:
    x, y = measure(a), measure(b)
    if not x.unit and not y.unit:
        return NEXT
    if x.unit and y.unit:
        return (
            _same(x.bare, y.bare, depth + 1)
            if x.unit == y.unit or not (is_known_unit(x.unit) and is_known_unit(y.unit))
            else False
        )
    (bare, unit), other = (((x.bare, x.unit)), b) if x.unit else ((y.bare, y.unit), a)
    if _same(bare, other, depth + 1):
        return True
    if unit == "%":
        return _same(f"\\frac{{{bare}}}{{100}}", other, depth + 1)
    if unit == "degrees" and "\\pi" in other and "\\pi" not in bare:
        return _same(f"\\frac{{({bare})\\pi}}{{180}}", other, depth + 1)
    return False


BASED = re.compile(r"(?:\(?\\text\{)?([0-9A-Fa-f.]{1,60})\}?\)?\s?_\s?\{?\s?(?:\\text\{)?(\d{1,2}|[a-z]+)\}?\}?")
BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}


def _numbers(a: str, b: str, depth: int) -> Said:
    if (x := number(a)) and (y := number(b)):
        return _same_numbers(x, y)
    based = BASED.fullmatch(a), BASED.fullmatch(b)
    if not any(based):
        return NEXT
    (x_digits, x_base), (y_digits, y_base) = (
        (m[1], BASES.get(m[2], m[2])) if m else (t, "") for m, t in zip(based, (a, b), strict=True)
    )
    return key(x_digits) == key(y_digits) and (x_base == y_base or not x_base or not y_base)


def _same_numbers(x: Number, y: Number) -> bool:
    """Exact, but a decimal of six or more digits stands for what it rounds or cuts off."""
    if x.value == y.value:
        return True
    decimals = [n.decimals for n in (x, y) if n.digits >= algebra.FEWEST_DIGITS]
    return bool(decimals) and abs(x.value - y.value) * 10 ** min(decimals) <= 1


def _ratios(a: str, b: str, depth: int) -> Said:
    """ "2:3" is a ratio, and 4:30 a time: parts alike, never a division."""
    pattern = r"[\w\\{}./ ]+(?:\s?:\s?[\w\\{}./ ]+)+"
    x, y = (text.split(":") if re.fullmatch(pattern, text) else None for text in (a, b))
    if x is None and y is None:
        return NEXT
    return x is not None and y is not None and _ordered(x, y, depth)


RULES: tuple[Callable[[str, str, int], Said], ...] = (
    *(_choices, _congruences, _conditions, _in_words, _assignments, _intervals, _collections, _measures, _numbers, _ratios),
)
