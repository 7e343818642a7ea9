r"""Whether two answers are the same: equal, different, or not known. Cheap readings first, Math-Verify's parser and algebra last.

`compare` may run for as long as SymPy likes; it is called in the worker processes of pool.py alone. `cheaply` is what can be
told at once and in place. Every rule of `RULES` looks at both answers and says True, False, None (read, but nobody knows), or
`NEXT` (not its kind). Names, units, nouns, order and relations must match where both answers have them; one that only one
has is dropped where the rest is the only difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import zip_longest
from typing import TypeVar

from magpie.verification import symbolic as algebra
from magpie.verification.extract import stated
from magpie.verification.measures import ANGLE, Measure, conversion, measure
from magpie.verification.normalize import LONGEST, TEXT, Number, danger, elements, inside, key, number, plain, vector
from magpie.verification.structure import (
    BASED,
    EQUALS,
    FUNCTION,
    MOST_PARTS,
    REMAINDER,
    RealSet,
    assigned,
    bare_name,
    choice,
    clock,
    collection,
    congruence,
    is_equation,
    progression,
    ratio,
    real_set,
    renamed,
    solutions,
)
from magpie.verification.symbolic import every
from magpie.verification.words import (
    content,
    exclude,
    is_wordy,
    labelled,
    narrows,
    nothing,
    number_in_words,
    polarity,
    split_condition,
    without_reason,
)

DEEPEST = 6
T = TypeVar("T")


class Verdict(StrEnum):
    """What became of a comparison."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    TIMED_OUT = "timed_out"


def compare(one: str, other: str) -> Verdict:
    """Return whether two answers are the same; `unparsed` where they were not both understood and compared."""
    verdict = cheaply(one, other)
    if verdict is not None:
        return verdict
    same = _same(_spelling(one), _spelling(other), 0)
    if same is None:
        return Verdict.UNPARSED
    return Verdict.RIGHT if same else Verdict.WRONG


def cheaply(one: str, other: str) -> Verdict | None:
    """Return what the texts alone tell, or None where they must be read: equal texts, plain numbers, what is too dangerous."""
    if (x := number(one)) and (y := number(other)):
        return Verdict.RIGHT if _same_numbers(x, y) else Verdict.WRONG
    if one.strip() == other.strip() != "":
        return Verdict.RIGHT
    unread = danger(one) or danger(other)
    if max(len(one), len(other)) > LONGEST:
        return Verdict.UNPARSED
    a, b = _spelling(one), _spelling(other)
    if not a or not b:
        return Verdict.UNPARSED
    if key(a) == key(b):
        return Verdict.RIGHT
    if unread:
        return Verdict.UNPARSED
    if "," not in a + b and (x := number(a)) and (y := number(b)):
        return Verdict.RIGHT if _same_numbers(x, y) else Verdict.WRONG
    return None


@lru_cache(maxsize=4096)
def _spelling(answer: str) -> str:
    return plain(stated(answer))


def _same(a: str, b: str, depth: int) -> bool | None:
    """Whether two answers in one spelling are the same; None where neither rules nor algebra can tell."""
    if key(a) == key(b):
        return True
    if depth > DEEPEST or not a or not b:
        return None
    for rule in RULES.values():
        verdict = rule(a, b, depth)
        if not isinstance(verdict, _Next):
            return verdict
    return algebra.same(a, b)


class _Next:
    """A rule has nothing to say."""


NEXT = _Next()
Said = bool | None | _Next


def _sure(verdict: bool | None) -> bool | None:
    """Return True where it is, else that nobody knows."""
    return verdict or None


# --- words -----------------------------------------------------------------------------------------------------------------


def _choices(a: str, b: str, depth: int) -> Said:
    x, y = choice(a), choice(b)
    if x and y:
        return x[0] == y[0]
    if x and x[1]:
        return _same(x[1], b, depth + 1)
    if y and y[1]:
        return _same(a, y[1], depth + 1)
    return NEXT


def _none(a: str, b: str, depth: int) -> Said:
    x, y = nothing(a), nothing(b)
    if x is None and y is None:
        return NEXT
    if x is None or y is None:
        other = b if y is None else a
        return (
            False
            if not is_wordy(other) and (number(other) or collection(other)[0] or algebra.read(other) is not None)
            else None
        )
    return True if x == y or not x or not y else None


def _yes_or_no(a: str, b: str, depth: int) -> Said:
    x, y = polarity(a), polarity(b)
    if x and y:
        if x[0] != y[0]:
            return False
        return True if not x[1] or not y[1] or content(x[1]) == content(y[1]) else None
    if not x and not y:
        return NEXT
    (said, rest), other = (x, b) if x else (y or (True, ""), a)
    words = content(TEXT.sub(r"\1", other))
    return _sure(words == (content(rest) or ("true" if said else "false",)))


def _labels(a: str, b: str, depth: int) -> Said:
    (x, a_value), (y, b_value) = labelled(a), labelled(b)
    if not x and not y:
        return NEXT
    if x and y and content(x) != content(y):
        return None
    said = _same(a_value if x else a, b_value if y else b, depth + 1)
    return said if x and y or not is_wordy(a_value + b_value) else _sure(said)


def _reasons(a: str, b: str, depth: int) -> Said:
    x, y = without_reason(a), without_reason(b)
    return NEXT if (x, y) == (a, b) else _same(x, y, depth + 1)


def _conditions(a: str, b: str, depth: int) -> Said:
    (x, x_condition), (y, y_condition) = split_condition(a), split_condition(b)
    if not x_condition and not y_condition:
        return NEXT
    one, two = narrows(x_condition), narrows(y_condition)
    if one == two:
        return _same(x, y, depth + 1)
    return False if exclude(one, two) else None


def _words(a: str, b: str, depth: int) -> Said:
    """Compare the words of two answers in their order, and the formulas between them one by one."""
    (x, x_formulas), (y, y_formulas) = (_skeleton(text) for text in (a, b))
    if not is_wordy(a) and not is_wordy(b):
        letters = all(re.fullmatch(r"[A-Z]{2,}", text) for text in (a, b))
        return _sure(sorted(a) != sorted(b)) and False if letters else NEXT
    if x == y and len(x_formulas) == len(y_formulas):
        return every(_same(one, other, depth + 1) for one, other in zip(x_formulas, y_formulas, strict=True))
    if is_wordy(a) and is_wordy(b):
        if exclude(x, y) and all(
            _same(one, other, depth + 1) for one, other in zip_longest(x_formulas, y_formulas, fillvalue="")
        ):
            return False
        names = [re.fullmatch(r"\\text\{([A-Z][a-z]+|[IVX]{1,4})\}|[IVX]{1,3}", text.strip()) for text in (a, b)]
        return False if all(names) else _sure(_predicate(a, y) or _predicate(b, x))
    digits = [number_in_words(TEXT.sub(r"\1", text)) for text in (a, b)]
    one, other = ((found[0] if found and not found[1] else text) for found, text in zip(digits, (a, b), strict=True))
    return NEXT if (one, other) == (a, b) else _same(one, other, depth + 1)


def _skeleton(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the words of an answer, with a mark for every formula between them, and the formulas."""
    formulas, words, at = [], [], 0
    for match in TEXT.finditer(text):
        if formula := text[at : match.start()].strip(" ,.()"):
            formulas.append(formula)
            words.append("#")
        words += content(match[1])
        at = match.end()
    if formula := text[at:].strip(" ,.()"):
        formulas.append(formula)
        words.append("#")
    return tuple(words), formulas


def _predicate(text: str, words: tuple[str, ...]) -> bool:
    """Whether an answer says of something that it is what the words say: "29 is a prime number"."""
    said = re.split(r"\b(?:is|are)\b", TEXT.sub(r" \1 ", text), maxsplit=1)
    return len(said) == 2 and content(said[1]) == words != ()


# --- structure -------------------------------------------------------------------------------------------------------------


def _congruences(a: str, b: str, depth: int) -> Said:
    x, y = congruence(a), congruence(b)
    if not x and not y:
        return NEXT
    if x and y:
        return every((_same(x[1], y[1], depth + 1), _unordered(_reduced(*x), _reduced(*y), depth)))
    (residues, modulus), other = (x, b) if x else (y or ([], ""), a)
    if step := progression(assigned(other)[1]):
        return every(
            (_same(modulus, step[0], depth + 1), _unordered(_reduced(residues, modulus), _reduced([step[1]], modulus), depth))
        )
    return _sure(_unordered(residues, elements(assigned(other)[1]), depth))


def _reduced(residues: list[str], modulus: str) -> list[str]:
    """Return residues between 0 and the modulus, where both are numbers."""
    if not modulus.isdigit() or not int(modulus):
        return residues
    return [str(int(r) % int(modulus)) if re.fullmatch(r"[-+]?\s?\d{1,40}", r) else r for r in residues]


def _families(a: str, b: str, depth: int) -> Said:
    """Compare what has a value for every integer ("5k + 2") by step and offset, whatever the letter."""
    x, y = (progression(assigned(text)[1]) for text in (a, b))
    if not x or not y or assigned(a)[0] and assigned(b)[0] and bare_name(assigned(a)[0]) != bare_name(assigned(b)[0]):
        return NEXT if algebra.same_up_to_constants(a, b) is not True else True
    same = every((_same(x[0], y[0], depth + 1), _same(x[1], y[1], depth + 1)))
    if same or x[2] == y[2] or algebra.same(x[0], y[0]) is not True:
        return same
    return None if algebra.same(f"({x[1]}-({y[1]}))/({x[0]})", "0") is None else _shifted(x, y)


def _shifted(x: tuple[str, str, str], y: tuple[str, str, str]) -> bool | None:
    """Whether two offsets differ by a multiple of the step; None if they do, for nobody said that the index is any integer."""
    steps = algebra.read(f"\\frac{{{x[1]}-({y[1]})}}{{{x[0]}}}")
    return None if steps is None or steps.is_integer is not False else False


def _terms(a: str, b: str, depth: int) -> Said:
    """Compare times of day, ratios and remainders term by term: "2:3" is never a division unless the other is a fraction."""
    times, terms, rests = ([read(text) for text in (a, b)] for read in (clock, ratio, REMAINDER.fullmatch))
    if times[0] and times[1] and (times[0][3] or times[1][3] or not all(terms)):
        return times[0][:3] == times[1][:3] and (
            times[0][3] == times[1][3] or None if "" in (times[0][3], times[1][3]) else times[0][3] == times[1][3]
        )
    if rests[0] and rests[1]:
        return rests[0].groups() == rests[1].groups()
    if not any(terms):
        return NEXT
    x, y = terms
    if x and y:
        if len(x) != len(y):
            return times[0][:3] == times[1][:3] if times[0] and times[1] else False
        ordered = _ordered(x, y, depth)
        scaled = every(
            _same(f"({x[0]})\\cdot ({two})", f"({y[0]})\\cdot ({one})", depth + 1)
            for one, two in zip(x[1:], y[1:], strict=True)
        )
        return ordered or (scaled if not (times[0] and times[1]) else False if scaled is False else ordered)
    term, other = (x, b) if x else (y or [], a)
    return _sure(
        len(term) == 2
        and "frac" in other + "\\frac" * ("/" in other)
        and _same(f"\\frac{{{term[0]}}}{{{term[1]}}}", other, depth + 1)
    )


def _real_sets(a: str, b: str, depth: int) -> Said:
    x, y = real_set(a), real_set(b)
    if not (x and _is_set(a)) and not (y and _is_set(b)):
        return NEXT
    if not x or not y:
        other = b if x else a
        return NEXT if is_equation(other) or "\\{" in other else False if number(other) else NEXT
    if not x.condition and not y.condition and len(x.ranges) == len(y.ranges):
        equal = every(
            (
                _matched(x.ranges, y.ranges, lambda one, two: _same_range(one, two, depth)),
                _unordered(x.without, y.without, depth),
            )
        )
        if equal:
            return None if x.symbol and y.symbol and bare_name(x.symbol) != bare_name(y.symbol) else True
    sets = [algebra.as_set(s.ranges, s.without, s.condition) for s in (x, y)]
    if None in sets:
        return (
            NEXT
            if x.condition or y.condition
            else False
            if len(x.ranges) == len(y.ranges) == 1 and not equal and equal is not None
            else None
        )
    return bool(sets[0] == sets[1])


def _is_set(text: str) -> bool:
    """Whether an answer is certainly a set of real numbers, and not a point."""
    return bool(re.search(r"[<>]|\\(?:le|ge|ne|cup|in|infty|setminus|mid)(?![a-zA-Z])|mathbb|^\(.*\]$|^\[.*[\])]$|^\\R$", text))


def _same_range(one: Sequence[str], two: Sequence[str], depth: int) -> bool | None:
    if (one[0], one[3]) != (two[0], two[3]):
        return False
    return every(_same(one[i], two[i], depth + 1) for i in (1, 2))


def _solutions(a: str, b: str, depth: int) -> Said:
    """Match named values by their names: `x=1, y=2`; against values without names in the order of the alphabet."""
    x, y = solutions(a), solutions(b)
    many = [bool(s) and (len(s) > 1 or len(s[0].names) > 1) for s in (x, y)]
    if not any(many):
        return NEXT
    if x and y:
        if {frozenset(s.names) for s in x} != {frozenset(s.names) for s in y}:
            return None
        return _matched(
            [tuple(v for _, v in sorted(zip(s.names, s.values, strict=True))) for s in x],
            [tuple(v for _, v in sorted(zip(s.names, s.values, strict=True))) for s in y],
            lambda one, two: _ordered(one, two, depth),
        )
    named, other = (x, b) if x else (y or [], a)
    if len(named[0].names) == 1:
        return (
            _unordered([s.values[0] for s in named], collection(other)[1], depth)
            if all(len(s.names) == 1 for s in named)
            else None
        )
    kind, parts = collection(vector(other))
    orders = [[tuple(v for _, v in pairs) for pairs in table] for table in _orders(named)]
    theirs = (
        [tuple(parts)]
        if len(named) == 1 and len(parts) == len(named[0].names) and kind in ("tuple", "list")
        else [_tuple(p) for p in parts]
    )
    verdicts = [_matched(order, theirs, lambda one, two: _ordered(one, two, depth)) for order in orders]
    if verdicts[0] or (verdicts[1] and kind == "list"):
        return True
    return None if any(verdicts) or None in verdicts or kind == "list" else False


def _orders(named: Sequence[object]) -> list[list[list[tuple[str, str]]]]:
    """Return the pairs of every solution in the order of the alphabet, and as they were written."""
    written = [list(zip(s.names, s.values, strict=True)) for s in named]  # type: ignore[attr-defined]
    return [[sorted(pairs) for pairs in written], written]


def _tuple(text: str) -> tuple[str, ...]:
    kind, parts = collection(text)
    return tuple(parts) if kind == "tuple" else (text,)


def _collections(a: str, b: str, depth: int) -> Said:
    column = ("matrix}" in a) != ("matrix}" in b) or "{array}" in a + b
    if column:
        a, b = vector(a), vector(b)
    a, b = (assigned(text)[1] if collection(assigned(text)[1])[0] else text for text in (a, b))
    (x_kind, x), (y_kind, y) = collection(a), collection(b)
    kinds = {x_kind, y_kind}
    if not x_kind and not y_kind:
        return NEXT
    if number(measure(a).value) and number(measure(b).value):
        return NEXT  # 10,080: thousands, not a list
    if re.search(r"dots(?![a-z])|\\text\{[^{}]*\b(?:order|then|respectively)\b", a + b) and not (
        len(x) == len(y) and kinds == {"tuple"}
    ):
        return _sure(_ordered(x, y, depth)) if "dots" in a + b else NEXT
    if len(x) != len(y) or "" in kinds:
        return _of_one(x_kind, x, y_kind, y, depth)
    if len(x) > MOST_PARTS:
        return _sure(sorted(map(key, x)) == sorted(map(key, y)))
    if "tuple" in kinds:
        return (
            False
            if "set" in kinds or (kinds == {"tuple"} and not column and not _same_brackets(a, b))
            else _ordered(x, y, depth)
        )
    return _unordered(x, y, depth)


def _of_one(x_kind: str, x: list[str], y_kind: str, y: list[str], depth: int) -> Said:
    """Compare a set of one with its element, at the outermost level alone; a list is not what is no list."""
    if is_wordy("".join((*x, *y))) and "set" not in (x_kind, y_kind):
        return NEXT if len(x) == 1 or len(y) == 1 else None
    if len(x) == len(y) == 1 and not depth:
        return _same(x[0], y[0], depth + 1)
    return NEXT if "matrix}" in "".join((*x, *y)) else False


def _same_brackets(a: str, b: str) -> bool:
    x, y = inside(a), inside(b)
    return bool(x and y and x[0] == y[0] and x[2] == y[2])


def _ordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    return every(_same(one, other, depth + 1) for one, other in zip(x, y, strict=True)) if len(x) == len(y) else False


def _unordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    return _matched(x, y, lambda one, other: _same(one, other, depth + 1))


def _matched(x: Sequence[T], y: Sequence[T], equal: Callable[[T, T], bool | None]) -> bool | None:
    """Whether every part of one has its own equal in the other; None where it is not known of a part that has none."""
    if len(x) != len(y):
        return False
    left, unsure = list(y), []
    for one in x:
        verdicts = [True if one == other else equal(one, other) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            unsure.append(one)
        else:
            return False
    return None if unsure else True


# --- equations ---------------------------------------------------------------------------------------------------------------

COORDINATES = frozenset("xyzr")


def _equations(a: str, b: str, depth: int) -> Said:
    if not EQUALS.search(a + b) or len(elements(a)) > 1 or len(elements(b)) > 1:
        return NEXT
    (x_name, x), (y_name, y) = assigned(a), assigned(b)
    if (x, y) == (a, b) and is_equation(a) == is_equation(b):
        return NEXT
    if x_name and y_name:
        return _named((bare_name(x_name), x), (bare_name(y_name), y), depth)
    if is_equation(x) and is_equation(y):
        return algebra.same(x, y)
    if (x, y) != (a, b) and not (is_equation(x) or is_equation(y)):
        return _same(x, y, depth + 1)
    if is_equation(a) and is_equation(b):
        return NEXT
    other = b if is_equation(a) else a
    return False if number(other) or algebra.read(other) is not None else None


def _named(one: tuple[str, str], other: tuple[str, str], depth: int) -> bool | None:
    (x_name, x), (y_name, y) = one, other
    functions = FUNCTION.fullmatch(x_name), FUNCTION.fullmatch(y_name)
    if functions[0] and functions[1] and functions[0][1] == functions[1][1]:
        return _same(x, renamed(y, functions[1][2], functions[0][2]), depth + 1)
    said = _same(x, y, depth + 1)
    if x_name == y_name:
        return said
    if (functions[0] and y_name == "y") or (functions[1] and x_name == "y"):
        return said
    return False if said is False or {x_name, y_name} <= COORDINATES or x_name.strip("'") == y_name.strip("'") else None


# --- units and numbers -------------------------------------------------------------------------------------------------------


def _measures(a: str, b: str, depth: int) -> Said:
    x, y = measure(a), measure(b)
    if (x.unit or x.noun) and (y.unit or y.noun):
        return _both_measured(x, y, depth)
    if (x.value, y.value) == (a, b):
        return NEXT
    if is_wordy(x.value + y.value):
        return NEXT
    said = _same(x.value, y.value, depth + 1)
    (unit, value), other = ((x.unit, x.value), b) if x.unit else ((y.unit, y.value), a)
    if not said and unit == "percent":
        return _same(f"\\frac{{{value}}}{{100}}", other, depth + 1)
    if not said and unit == "degree" and "\\pi" in other and "\\pi" not in value:
        return _same(f"\\frac{{({value})\\pi}}{{180}}", other, depth + 1)
    return said


def _both_measured(x: Measure, y: Measure, depth: int) -> bool | None:
    if x.unit and y.unit:
        if {x.unit, y.unit} == ANGLE:
            x, y = (Measure(f"\\frac{{({m.value})\\pi}}{{180}}") if m.unit == "degree" else Measure(m.value) for m in (x, y))
        factor = conversion(x.unit, y.unit) if x.unit != y.unit else 1
        if factor is None:
            return False
        said = _same(
            x.value if factor == 1 else f"({x.value})\\cdot\\frac{{{factor.numerator}}}{{{factor.denominator}}}",
            y.value,
            depth + 1,
        )
        return said if x.noun == y.noun or not x.noun or not y.noun else False if exclude(x.noun, y.noun) else None
    said = _same(x.value, y.value, depth + 1)
    if x.noun == y.noun:
        return said
    return False if exclude(x.noun, y.noun) and not (x.unit or y.unit) else None


def _numbers(a: str, b: str, depth: int) -> Said:
    if (x := number(a)) and (y := number(b)):
        return _same_numbers(x, y)
    based = BASED.fullmatch(a), BASED.fullmatch(b)
    if not any(based):
        return NEXT
    (x_digits, x_base), (y_digits, y_base) = (_digits(text) for text in (a, b))
    if x_base and y_base and x_base != y_base:
        return None if x_digits != y_digits else False
    return x_digits == y_digits


def _digits(text: str) -> tuple[str, str]:
    match = BASED.fullmatch(text)
    if not match:
        return text, ""
    base = number_in_words(match[2])
    return match[1], base[0] if base else match[2]


def _same_numbers(x: Number, y: Number) -> bool:
    """Exact, but a decimal of six or more digits stands for the fraction without an end that it rounds or cuts off."""
    if x.value == y.value:
        return True
    decimal, other = (x, y) if x.digits >= algebra.FEWEST_DIGITS else (y, x)
    if decimal.digits < algebra.FEWEST_DIGITS or algebra.has_end(other.value.denominator):
        return False
    return bool(abs(x.value - y.value) * 10**decimal.decimals <= 1)


RULES: dict[str, Callable[[str, str, int], Said]] = {
    "choices": _choices,
    "none": _none,
    "yes or no": _yes_or_no,
    "reasons": _reasons,
    "labels": _labels,
    "conditions": _conditions,
    "congruences": _congruences,
    "families": _families,
    "solutions": _solutions,
    "equations": _equations,
    "terms": _terms,
    "real sets": _real_sets,
    "collections": _collections,
    "measures": _measures,
    "words": _words,
    "numbers": _numbers,
}
"""The rules in the order in which they are asked; what none of them decides is left to Math-Verify's parser and algebra."""
