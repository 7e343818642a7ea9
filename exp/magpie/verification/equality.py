r"""Whether two answers are equal, different, or nobody knows. Cheap readings first, Math-Verify's parser and algebra last.

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

from magpie.verification import structure
from magpie.verification import symbolic as algebra
from magpie.verification import words as w
from magpie.verification.extract import stated
from magpie.verification.guards import LONGEST, danger
from magpie.verification.measures import Measure, conversion, measure
from magpie.verification.normalize import TEXT, Number, elements, inside, key, number, number_in_words, plain, split, vector
from magpie.verification.structure import assigned, collection, is_equation
from magpie.verification.symbolic import every

DEEPEST, MOST_PARTS = 6, 60
"""Answers within answers, and parts of a list that are compared one by one."""
COORDINATES = frozenset("xyzr")


class Verdict(StrEnum):
    """What became of a comparison."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    TIMED_OUT = "timed_out"


def compare(one: str, other: str) -> Verdict:
    """Return whether two answers are the same; `unparsed` where they were not both understood and compared."""
    verdict = cheaply(one, other)
    return _verdict(_same(_spelling(one), _spelling(other), 0)) if verdict is None else verdict


def cheaply(one: str, other: str) -> Verdict | None:
    """Return what the texts alone tell, or None where they must be read: equal texts, plain numbers, what is too dangerous."""
    if (x := number(one)) and (y := number(other)):
        return _verdict(_same_numbers(x, y))
    if one.strip() == other.strip() != "":
        return Verdict.RIGHT
    one, other = stated(one), stated(other)
    if max(len(one), len(other)) > LONGEST:
        return Verdict.UNPARSED
    a, b = _spelling(one), _spelling(other)
    if a and key(a) == key(b):
        return Verdict.RIGHT
    if not a or not b or danger(one) or danger(other):
        return Verdict.UNPARSED
    if "," not in a + b and (x := number(a)) and (y := number(b)):
        return _verdict(_same_numbers(x, y))
    return None


def _verdict(same: bool | None) -> Verdict:
    return Verdict.UNPARSED if same is None else Verdict.RIGHT if same else Verdict.WRONG


@lru_cache(maxsize=4096)
def _spelling(answer: str) -> str:
    return plain(stated(answer))


def _same(a: str, b: str, depth: int) -> bool | None:
    """Whether two answers in one spelling are the same; None where neither rules nor algebra can tell."""
    if key(a) == key(b) or ("\\text" in a and "\\text" in b and w.skeleton(a) == w.skeleton(b) != ((), [])):
        return True
    if depth > DEEPEST or not a or not b:
        return None
    for rule in RULES.values():
        verdict = rule(a, b, depth + 1)
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
    x, y = structure.choice(a), structure.choice(b)
    if x and y:
        return x[0] == y[0]
    if x and x[1]:
        return _same(x[1], b, depth)
    return _same(a, y[1], depth) if y and y[1] else NEXT


def _none(a: str, b: str, depth: int) -> Said:
    x, y = w.nothing(a), w.nothing(b)
    if x is None and y is None:
        return NEXT
    if x is not None and y is not None:
        return True if x == y or not x or not y else None
    other = b if y is None else a
    return False if not w.is_wordy(other) and (collection(other)[0] or algebra.read(other) is not None) else None


def _yes_or_no(a: str, b: str, depth: int) -> Said:
    x, y = w.polarity(a), w.polarity(b)
    if x and y:
        return False if x[0] != y[0] else True if not x[1] or not y[1] or w.content(x[1]) == w.content(y[1]) else None
    if not x and not y:
        return NEXT
    (said, rest), other = (x, b) if x else (y or (True, ""), a)
    if number(other) and not rest:
        return False
    return _sure(w.content(TEXT.sub(r"\1", other)) == (w.content(rest) or ("true" if said else "false",)))


def _conditions(a: str, b: str, depth: int) -> Said:
    (x, x_condition), (y, y_condition) = w.split_condition(a), w.split_condition(b)
    if not x_condition and not y_condition:
        return NEXT
    one, two = w.narrows(x_condition), w.narrows(y_condition)
    domains = [set(re.findall(r"\\mathbb\{([A-Z])\}", condition)) for condition in (x_condition, y_condition)]
    if all(domains) and domains[0] != domains[1]:
        return None
    return _same(x, y, depth) if one == two else False if w.exclude(one, two) else None


def _words(a: str, b: str, depth: int) -> Said:
    """Compare the words of two answers in their order, and the formulas between them one by one."""
    wordy = w.is_wordy(a), w.is_wordy(b)
    if not any(wordy):
        return None if all(re.fullmatch(r"[A-Z]{2,}", text) for text in (a, b)) else NEXT  # AB and BA, ABC and BAC
    (x, x_formulas), (y, y_formulas) = (w.skeleton(text) for text in (a, b))
    pairs = list(zip_longest(x_formulas, y_formulas, fillvalue=""))
    if x == y:
        return every(_same(one, other, depth) for one, other in pairs)
    if all(wordy):
        names = all(re.fullmatch(r"\\text\{[A-Z][a-z]+\}|[IVX]{1,3}", text) for text in (a, b))
        if names or (w.exclude(x, y) and all(_same(one, other, depth) for one, other in pairs)):
            return False
        return _sure(w.predicate(a) == y != () or w.predicate(b) == x != ())
    if number(b if wordy[0] else a) and (
        re.fullmatch(r"\\text\{[A-Z][a-z]+\}", a if wordy[0] else b) or w.exclusive(x if wordy[0] else y)
    ):
        return False  # a name, or one of several words, is no number
    return True if key(TEXT.sub(r"\1", a)) == key(TEXT.sub(r"\1", b)) else NEXT


# --- structure -------------------------------------------------------------------------------------------------------------


def _families(a: str, b: str, depth: int) -> Said:
    """Compare congruences and what has a value for every integer ("5k + 2") by step and offset, whatever the letter."""
    x, y = structure.congruence(a), structure.congruence(b)
    if x and y:
        return every((_same(x[1], y[1], depth), _unordered(x[0], y[0], depth)))
    (x_name, x_value), (y_name, y_value) = assigned(a), assigned(b)
    if x or y:
        (residues, modulus), other = (x, y_value) if x else (y or ([], ""), x_value)
        if (
            (theirs := algebra.family(other))
            and len(residues) == 1
            and (mine := algebra.family(f"({modulus})k+({residues[0]})"))
        ):
            return algebra.same_family(mine, theirs, shifted=True)
        return _sure(_unordered(residues, elements(other), depth))
    letters = [set(re.sub(r"\\[a-zA-Z]+|[^a-zA-Z]", "", text)) for text in (x_value, y_value)]
    if not all(letters) or not set("nkmjlCc") & (letters[0] | letters[1]):
        return NEXT
    if x_name and y_name and structure.bare_name(x_name) != structure.bare_name(y_name):
        return NEXT
    one, two = algebra.family(x_value), algebra.family(y_value)
    if one and two:
        return algebra.same_family(one, two, shifted=False)
    return algebra.same_up_to_constants(x_value, y_value) or NEXT


def _terms(a: str, b: str, depth: int) -> Said:
    """Compare times of day, ratios and remainders term by term; a ratio is a division only where the other is a fraction."""
    x, y = structure.terms(a), structure.terms(b)
    if x and y:
        if x[0] != y[0]:
            return None
        if x[0] == "ratio" and len(x[1]) == len(y[1]):
            first, second = x[1][0], y[1][0]
            return every(
                _same(f"({first})\\cdot({q})", f"({second})\\cdot({p})", depth) for p, q in zip(x[1][1:], y[1][1:], strict=True)
            )
        one, two = (term[1][:3] if x[0] == "time" and not (x[1][3] and y[1][3]) else term[1] for term in (x, y))
        return one == two
    if not x and not y:
        return NEXT
    (kind, terms), other = (x, b) if x else (y or ("", []), a)
    if kind != "ratio" or len(terms) != 2 or not ("frac" in other or "/" in other):
        return None if kind == "ratio" else NEXT
    return _sure(_same(f"\\frac{{{terms[0]}}}{{{terms[1]}}}", other, depth))


def _real_sets(a: str, b: str, depth: int) -> Said:
    if not algebra.IS_SET.search(a) and not algebra.IS_SET.search(b):
        return NEXT
    one, two = inside(a), inside(b)
    if one and two and len(split(one[1])) == len(split(two[1])) == 2:
        return every(((one[0], one[2]) == (two[0], two[2]), _ordered(split(one[1]), split(two[1]), depth)))
    x, y = algebra.real_set(a), algebra.real_set(b)
    if x and y:
        same = algebra.same_sets(x[0], y[0])
        return None if same and x[1] and y[1] and x[1] != y[1] else same
    return False if (x or y) and number(b if x else a) else NEXT


def _solutions(a: str, b: str, depth: int) -> Said:
    """Match named values by their names: `x=1, y=2`; against values without names in the order of the alphabet."""
    x, y = structure.solutions(a), structure.solutions(b)
    if not any(len(s) > 1 or (s and len(s[0]) > 1) for s in (x, y)):
        return NEXT
    if x and y:
        return _same(_tuples(x), _tuples(y), depth) if {frozenset(s) for s in x} == {frozenset(s) for s in y} else None
    named, other = (x, b) if x else (y, a)
    kind, parts = collection(vector(other))
    if len(named) == 1 and kind == "list" and not w.is_wordy(other):
        other = f"({', '.join(parts)})"
    verdicts = [_same(text, vector(other), depth) for text in (_tuples(named), _tuples(named, as_written=True))]
    if verdicts[0] or (verdicts[1] and kind == "list"):
        return True
    return None if any(verdicts) or None in verdicts or kind == "list" else False


def _tuples(solutions: Sequence[structure.Solution], *, as_written: bool = False) -> str:
    """Return the values of solutions, each a tuple in the order of the names' alphabet or as they were written."""
    found = [", ".join(s[name] for name in (s if as_written else sorted(s))) for s in solutions]
    return " ; ".join(f"({values})" if len(solution) > 1 else values for values, solution in zip(found, solutions, strict=True))


def _collections(a: str, b: str, depth: int) -> Said:
    if ("\\hat" in a) != ("\\hat" in b):
        size = len(collection(vector(b if "\\hat" in a else a))[1])
        a, b = (algebra.components(text, size) or text for text in (a, b))
    column = ("matrix}" in a) != ("matrix}" in b) or "{array}" in a + b
    a, b = (vector(text) for text in (a, b)) if column else (a, b)
    a, b = (value if collection(value := assigned(text)[1])[0] else text for text in (a, b))
    (x_kind, x), (y_kind, y) = collection(a), collection(b)
    kinds = {x_kind, y_kind}
    if kinds == {""} or (number(measure(a).value) and number(measure(b).value)):  # 10,080: thousands, not a list
        return NEXT
    if "dots" in a + b or re.search(r"\\text\{[^{}]*\b(?:order|then|respectively)\b", a + b):
        return _sure(_ordered(x, y, depth)) if "dots" in a + b else NEXT
    if len(x) != len(y) or "" in kinds:
        if w.is_wordy(a + b) and "set" not in kinds:
            return NEXT if "" in kinds else None
        if len(x) == len(y) == 1 and depth == 1:  # {5} and 5
            return _same(x[0], y[0], depth)
        return NEXT if "matrix}" in a + b else False
    if len(x) > MOST_PARTS:
        return _sure(sorted(map(key, x)) == sorted(map(key, y)))
    if "tuple" not in kinds:
        return _unordered(x, y, depth)
    brackets = [(found[0], found[2]) for text in (a, b) if (found := inside(text))]
    apart = "set" in kinds or (kinds == {"tuple"} and not column and brackets[0] != brackets[1])
    return False if apart else _ordered(x, y, depth)


def _ordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    return every(_same(one, other, depth) for one, other in zip(x, y, strict=True)) if len(x) == len(y) else False


def _unordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    """Whether every part of one has its own equal in the other; None where it is not known of a part that has none."""
    if len(x) != len(y):
        return False
    left, unsure = list(y), False
    for one in x:
        verdicts = [_same(one, other, depth) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None not in verdicts:
            return False
        else:
            unsure = True
    return None if unsure else True


# --- equations ---------------------------------------------------------------------------------------------------------------


def _equations(a: str, b: str, depth: int) -> Said:
    if len(elements(a)) > 1 or len(elements(b)) > 1:
        return NEXT
    (x_name, x), (y_name, y) = assigned(a), assigned(b)
    if (x, y) == (a, b) and is_equation(a) == is_equation(b):
        return NEXT
    if x_name and y_name:
        return _named((structure.bare_name(x_name), x), (structure.bare_name(y_name), y), depth)
    if is_equation(a) and is_equation(b):
        return NEXT
    if not (is_equation(x) or is_equation(y)):
        said = _same(x, y, depth)
        return said if not w.is_wordy(x + y) else _sure(said)
    other = b if is_equation(a) else a
    return False if algebra.read(other) is not None else None


def _named(one: tuple[str, str], other: tuple[str, str], depth: int) -> bool | None:
    (x_name, x), (y_name, y) = one, other
    functions = structure.FUNCTION.fullmatch(x_name), structure.FUNCTION.fullmatch(y_name)
    if functions[0] and functions[1] and functions[0][1].lower() == functions[1][1].lower():
        return _same(x, structure.renamed(y, functions[1][2], functions[0][2]), depth)
    said = _same(x, y, depth)
    if x_name.lower() == y_name.lower() or (functions[0] and y_name == "y") or (functions[1] and x_name == "y"):
        return said
    apart = {x_name, y_name} <= COORDINATES or x_name.strip("'") == y_name.strip("'")
    return False if apart or (said is False and " " not in x_name + y_name) else None


# --- units and numbers -------------------------------------------------------------------------------------------------------


def _measures(a: str, b: str, depth: int) -> Said:
    x, y = measure(a), measure(b)
    if (x.unit or x.noun) and (y.unit or y.noun):
        return _both_measured(x, y, depth)
    if (x.value, y.value) == (a, b) or w.is_wordy(x.value + y.value):
        return NEXT
    said = _same(x.value, y.value, depth)
    (unit, value), other = ((x.unit, x.value), b) if x.unit else ((y.unit, y.value), a)
    if not said and unit == "percent":
        return _same(f"\\frac{{{value}}}{{100}}", other, depth)
    if not said and unit == "degree" and "\\pi" in other and "\\pi" not in value:
        return _same(f"\\frac{{({value})\\pi}}{{180}}", other, depth)
    return said


def _both_measured(x: Measure, y: Measure, depth: int) -> bool | None:
    if x.unit and y.unit:
        if {x.unit, y.unit} == {"degree", "radian"}:
            x, y = (Measure(f"\\frac{{({m.value})\\pi}}{{180}}" if m.unit == "degree" else m.value) for m in (x, y))
        factor = conversion(x.unit, y.unit)
        if factor is None:
            return False
        one = x.value if factor == 1 else f"({x.value})\\cdot\\frac{{{factor.numerator}}}{{{factor.denominator}}}"
        said = _same(one, y.value, depth)
        return said if x.noun == y.noun or not x.noun or not y.noun else False if w.exclude(x.noun, y.noun) else None
    if x.noun == y.noun:
        return _same(x.value, y.value, depth)
    return (
        False if w.exclude(x.noun, y.noun) and not (x.unit or y.unit) and _same(x.value, y.value, depth) is not None else None
    )


def _numbers(a: str, b: str, depth: int) -> Said:
    if (x := number(a)) and (y := number(b)):
        return _same_numbers(x, y)
    based = structure.BASED.fullmatch(a), structure.BASED.fullmatch(b)
    if not any(based):
        return NEXT
    bases = {found[0] if (found := number_in_words(m[2])) else m[2] for m in based if m}
    digits = [m[1] if m else text for m, text in zip(based, (a, b), strict=True)]
    return digits[0] == digits[1] if len(bases) == 1 else False if digits[0] == digits[1] else None


def _same_numbers(x: Number, y: Number) -> bool:
    """Exact, but a decimal of six or more digits stands for the fraction without an end that it rounds or cuts off."""
    decimal, other = (x, y) if x.digits >= algebra.FEWEST_DIGITS else (y, x)
    if x.value == y.value or decimal.digits < algebra.FEWEST_DIGITS or algebra.has_end(other.value.denominator):
        return x.value == y.value
    return bool(abs(x.value - y.value) * 10**decimal.decimals <= 1)


RULES: dict[str, Callable[[str, str, int], Said]] = {
    "choices": _choices,
    "none": _none,
    "yes or no": _yes_or_no,
    "conditions": _conditions,
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
