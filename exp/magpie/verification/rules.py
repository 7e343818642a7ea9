"""The rules for answers in one spelling, applied in order; what none decides is left to Math-Verify's parser and algebra.

A rule gets both answers and returns True, False, None (read, but undecided), or `NEXT` (not its kind). Names, units, nouns,
order and relations must match if both answers have them; one that only one has is dropped if that is
the only difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from types import EllipsisType

from magpie.verification import symbolic as algebra
from magpie.verification import words as w
from magpie.verification.measures import conversion, measure
from magpie.verification.normalize import (
    TEXT,
    collection,
    elements,
    inside,
    key,
    number,
    number_in_words,
    split,
    vector,
    with_unit_vectors,
)
from magpie.verification.symbolic import every
from magpie.verification.words import assigned, is_equation

DEEPEST, MOST_PARTS = 6, 60
"""Maximum nesting of answers, and list parts compared one by one."""
FUNCTION = re.compile(r"([a-zA-Z](?:_\{?\w\}?)?'{0,3})\s?\(\s?([a-z])\s?\)")
CHOICE = re.compile(
    r"(?:\\text\{(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\}\s?)?(?=\W*(?:text\{)?\W*([A-J]))"
    r"(?:\\text\{\s?\(?[A-J][.):]?\s?\}|\([A-J]\)|[A-J][.):](?=\s|$)|[A-J](?=$|\s\\text\{[A-Z])|(?=\\text\{\s?\([A-J]\)\s))\s?[:.]?\s?(.{0,400})",
    re.DOTALL,
)
CHOICES = re.compile(r"(?=.*[A-J].*[A-J])(?:\s|,|;|\\text\{\s?(?:and|&)?\s?\}|\(?[A-J]\)?){2,12}")
DECIMAL_COMMA, POINT = re.compile(r"-?\d+,\d{1,2}"), re.compile(r"\([^()]*,[^()]*\)")
BASED = re.compile(r"\(?([0-9A-F.]{1,60})\)?\s?_\s?\{?\s?(?:\\text\{)?(\d{1,2}|[a-z]+)\}?\}?")
RATIO = re.compile(r"(?!\\\{)(?!.*\\text)[\w\\{}./ ]+(?:\s?:\s?[\w\\{}./ ]+)+")


Said = bool | EllipsisType | None
NEXT = ...


def same(a: str, b: str, depth: int) -> bool | None:
    """Return whether two answers in one spelling are the same; None if neither rules nor algebra can decide."""
    if key(a) == key(b):
        return True
    if depth > DEEPEST or not a or not b:
        return None
    for rule in RULES.values():
        for one, other in ((a, b), (b, a)):
            verdict = rule(one, other, depth + 1)
            if not isinstance(verdict, EllipsisType):
                return verdict
    return algebra.same(a, b)


def _choices(a: str, b: str, depth: int) -> Said:
    if CHOICES.fullmatch(a) and b.isalpha() and len(elements(a)) == len(b):  # "A, C" and AC; AC and CA are not the same
        return re.findall(r"[A-J](?![a-z])", a) == list(b) or None
    x, y = (CHOICE.fullmatch(text) for text in (a, b))
    if not x or not (y or x[2].strip()) or x[2].lstrip().startswith((",", ";")):
        return NEXT
    return x[1] == y[1] if y else same(x[2].strip(), b, depth)


def _none(a: str, b: str, depth: int) -> Said:
    x, y = w.nothing(a), w.nothing(b)
    if x is None or y is not None:
        return NEXT if x is None else x == y or not x or not y or None
    return False if not w.is_wordy(b) and (collection(b)[0] or algebra.read(b) is not None) else None


def _yes_or_no(a: str, b: str, depth: int) -> Said:
    x, y = w.polarity(a), w.polarity(b)
    if x and y:
        return x[0] == y[0] and (not x[1] or not y[1] or w.content(x[1]) == w.content(y[1]) or None)
    return (w.content(TEXT.sub(r"\1", b)) == (w.content(x[1]) or (str(x[0]).lower(),)) or None) if x else NEXT


def _conditions(a: str, b: str, depth: int) -> Said:
    (x, x_condition), (y, y_condition) = w.split_condition(a), w.split_condition(b)
    if not x_condition and not y_condition:
        return NEXT
    one, two = w.narrows(x_condition), w.narrows(y_condition)
    return same(x, y, depth) if one == two else False if w.exclude(one, two) else None


def _families(a: str, b: str, depth: int) -> Said:
    """Compare general solutions whatever the letters of their constants; a residue is equal only to itself."""
    return None if "\\mod" in a + b else algebra.same_up_to_names(assigned(a)[1], assigned(b)[1]) or NEXT


def _ratios(a: str, b: str, depth: int) -> Said:
    """Compare ratios term by term with their first; one is a division only if the other is a fraction."""
    if not RATIO.fullmatch(a):
        return NEXT
    if all(re.fullmatch(r"\d{1,2}(:\d{2}){1,2}", text) for text in (a, b)):
        return False  # times of day
    x, y = a.split(":"), b.split(":")
    if RATIO.fullmatch(b):
        return _ordered([f"({term})/({x[0]})" for term in x], [f"({term})/({y[0]})" for term in y], depth)
    return (len(x) == 2 and re.search("frac|/", b) and same(f"({x[0]})/({x[1]})", b, depth)) or None


def _solutions(a: str, b: str, depth: int) -> Said:
    """Match named values by their names: `x=1, y=2`; against values without names in alphabetical order."""
    x, y = w.solutions(a), w.solutions(b)
    if x and y:
        return _unordered(_tuples(x), _tuples(y), depth) if {*map(frozenset, x)} == {*map(frozenset, y)} else None
    kind, parts = collection(vector(b))
    if len(x) != 1 or kind != "list":
        return same(" ; ".join(_tuples(x)), vector(b), depth) if x else NEXT
    values = [[x[0][name] for name in names] for names in (sorted(x[0]), x[0])]  # alphabetically, or as written
    return any(_ordered(one, parts, depth) for one in values) or None


def _tuples(solutions: Sequence[w.Solution]) -> list[str]:
    return [f"({', '.join(s[name] for name in sorted(s))})" if len(s) > 1 else "".join(s.values()) for s in solutions]


def _equations(a: str, b: str, depth: int) -> Said:
    if len(elements(a)) > 1 or len(elements(b)) > 1:
        return NEXT
    (x_name, x), (y_name, y) = assigned(a), assigned(b)
    if x_name and y_name:
        return _named(w.bare_name(x_name), x, w.bare_name(y_name), y, depth)
    if ((x, y) == (a, b) and is_equation(a) == is_equation(b)) or (is_equation(a) and is_equation(b)):
        return NEXT
    if is_equation(x) or is_equation(y):
        return False if algebra.read(b if is_equation(a) else a) is not None else None
    said = same(x, y, depth)
    return said or (None if w.is_wordy(x + y) else said)


def _named(x_name: str, x: str, y_name: str, y: str, depth: int) -> bool | None:
    f, g = FUNCTION.fullmatch(x_name), FUNCTION.fullmatch(y_name)
    if f and g and f[1].lower() == g[1].lower():
        return same(x, re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda m: f[2] if m[0] == g[2] else m[0], y), depth)
    said = same(x, y, depth)
    if x_name.lower() == y_name.lower() or (f and y_name == "y") or (g and x_name == "y"):
        return said
    return False if {x_name, y_name} <= frozenset("xyzr") or (said is False and " " not in x_name + y_name) else None


def _real_sets(a: str, b: str, depth: int) -> Said:
    if not algebra.IS_SET.search(a):
        return NEXT
    one, two = inside(a), inside(b)
    if one and two and len(split(one[1])) == len(split(two[1])) == 2:
        return every(((one[0], one[2]) == (two[0], two[2]), _ordered(split(one[1]), split(two[1]), depth)))
    x, y = algebra.real_set(a), algebra.real_set(b)
    if not x or not y:
        return NEXT
    if x[0].free_symbols | y[0].free_symbols or (x[1] and y[1] and x[1] != y[1]):
        return None
    return bool(x[0] == y[0] or x[0].symmetric_difference(y[0]).is_empty)


def _collections(a: str, b: str, depth: int) -> Said:
    column = ("matrix}" in a) != ("matrix}" in b) or "{array}" in a + b
    a, b = (vector(text) for text in (a, b)) if column else (a, b)
    if ("\\hat" in a) != ("\\hat" in b):
        return algebra.same(with_unit_vectors(a), with_unit_vectors(b))
    a, b = (value if collection(value := assigned(text)[1])[0] else text for text in (a, b))
    (x_kind, x), (y_kind, y) = collection(a), collection(b)
    kinds = {x_kind, y_kind}
    if kinds == {""} or (number(measure(a).value) and number(measure(b).value)):  # 10,080: thousands, not a list
        return NEXT
    if "dots" in a + b or re.search(r"\\text\{[^{}]*\b(?:order|then|respectively)\b", a + b):
        return None if "dots" in a + b else NEXT
    if "" in kinds and kinds & {"list", "tuple"}:
        said = _one_value(*((a, b) if x_kind else (b, a)), depth)
        if not isinstance(said, EllipsisType):
            return said
    if len(x) != len(y) or "" in kinds:
        if len(x) == len(y) == depth == 1 and "tuple" not in kinds:  # {5} and 5
            return same(x[0], y[0], depth)
        if w.is_wordy(a + b) and "set" not in kinds:
            return NEXT if "" in kinds else None
        return NEXT if "matrix}" in a + b else False
    if "tuple" not in kinds:
        return _unordered(x, y, depth)
    brackets = {(found[0], found[2]) for text in (a, b) if (found := inside(text))}
    return _ordered(x, y, depth) if "set" not in kinds and (len(brackets) == 1 or column or "list" in kinds) else False


def _one_value(several: str, value: str, depth: int) -> Said:
    """Compare what looks like several values with one: 2,000,000 and 2 million; 2,74 and 2.74; (5, 1) and (3, 1) + t(1, 2)."""
    found = number(several)
    if not found and number(value) and DECIMAL_COMMA.fullmatch(several):
        found = number(several.replace(",", "."))
    return same(str(found.value), value, depth) if found else None if POINT.search(value) else NEXT


def _ordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    return every(same(one, other, depth) for one, other in zip(x, y, strict=True)) if len(x) == len(y) else False


def _unordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    """Return whether every part of one has its own equal in the other; None if that is undecided for a part."""
    if len(x) != len(y) or len(x) > MOST_PARTS:
        return False if len(x) != len(y) else sorted(map(key, x)) == sorted(map(key, y)) or None
    left, unsure = list(y), False
    for one in x:
        verdicts = [same(one, other, depth) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None not in verdicts:
            return False
        else:
            unsure = True
    return None if unsure else True


def _measures(a: str, b: str, depth: int) -> Said:
    """Compare values with their units and nouns; a percent or a degree that only one has is dropped, or a factor."""
    x, y = measure(a), measure(b)
    if (x.value, y.value) == (a, b):
        return NEXT
    if (x.unit or x.noun) and (y.unit or y.noun):
        if bool(x.unit) != bool(y.unit) or (x.noun and y.noun and x.noun != y.noun):
            return False if w.exclude(x.noun, y.noun) else None
        factor = conversion(x.unit, y.unit)
        return same(f"({x.value})\\cdot ({factor})" if factor != "1" else x.value, y.value, depth) if factor else False
    if w.is_wordy(x.value + y.value) or y.unit:
        return NEXT
    said, factor = same(x.value, y.value, depth), {"percentage": "1/100", "degree": "\\pi/180"}.get(x.unit, "")
    return same(f"({x.value})\\cdot ({factor})", b, depth) if factor and not said else said


def _words(a: str, b: str, depth: int) -> Said:
    """Compare the words of two answers in their order, and the formulas between them one by one."""
    if not w.is_wordy(a):
        return None if all(re.fullmatch(r"[A-Z]{2,}", text) for text in (a, b)) else NEXT  # AB and BA, ABC and BAC
    (x, x_formulas), (y, y_formulas) = w.skeleton(a), w.skeleton(b)
    formulas = [same(one, other, depth) for one, other in zip_longest(x_formulas, y_formulas, fillvalue="")]
    if x == y:
        return every(formulas)
    if not w.is_wordy(b):
        return True if key(TEXT.sub(r"\1", a)) == key(TEXT.sub(r"\1", b)) else NEXT
    return False if w.other_names(a, b) or (w.exclude(x, y) and all(formulas)) else None


def _numbers(a: str, b: str, depth: int) -> Said:
    if (x := number(a)) and (y := number(b)):
        return x.same(y)
    one, two = BASED.fullmatch(a), BASED.fullmatch(b)
    if not one:
        return NEXT
    bases = {found[0] if (found := number_in_words(m[2])) else m[2] for m in (one, two) if m}
    equal = one[1] == (two[1] if two else b)
    return equal if len(bases) == 1 else False if equal else None


RULES: dict[str, Callable[[str, str, int], Said]] = {
    rule.__name__.strip("_"): rule
    for rule in (
        *(_choices, _none, _yes_or_no, _conditions, _families, _solutions, _equations),
        *(_ratios, _real_sets, _collections, _measures, _words, _numbers),
    )
}
