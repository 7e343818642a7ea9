"""The rules about answers in one spelling, asked in their order; what none decides is left to Math-Verify's parser and algebra.

A rule looks at both answers and says True, False, None (read, but nobody knows), or `NEXT` (not its kind). Names, units, nouns,
order and relations must match where both answers have them; one that only one has is dropped where the rest is the only
difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

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
"""Answers within answers, and parts of a list that are compared one by one."""
COORDINATES = frozenset("xyzr")


FUNCTION = re.compile(r"([a-zA-Z](?:_\{?\w\}?)?'{0,3})\s?\(\s?([a-z])\s?\)")
CHOICE = re.compile(
    r"(?:\\text\{\s?\(?([A-J])[.):]?\s?\}|\(([A-J])\)|([A-J])[.):](?=\s|$)|([A-J])(?=$|\s\\text\{[A-Z]))\s?[:.]?\s?(.{0,400})",
    re.DOTALL,
)
MODULUS = re.compile(
    r"\s?\(?\s?\\?(?:text\{\s?\(?|p|b)?mod(?:ulo)?\s?\)?\}?\s?(?:\{\s?([^{}]{1,20})\s?\}|\(?(\w{1,12})\)?)\s?\)?\}?\)?"
)
BASED = re.compile(r"\(?([0-9A-F.]{1,60})\)?\s?_\s?\{?\s?(?:\\text\{)?(\d{1,2}|[a-z]+)\}?\}?")
RATIO = re.compile(r"(?!\\\{)(?!.*\\text)[\w\\{}./ ]+(?:\s?:\s?[\w\\{}./ ]+)+")


class _Next:
    """A rule has nothing to say."""


NEXT = _Next()
Said = bool | None | _Next


def same(a: str, b: str, depth: int) -> bool | None:
    """Return whether two answers in one spelling are the same; None where neither rules nor algebra can tell."""
    if key(a) == key(b):
        return True
    if depth > DEEPEST or not a or not b:
        return None
    for rule in RULES.values():
        verdict = rule(a, b, depth + 1)
        if not isinstance(verdict, _Next):
            return verdict
    return algebra.same(a, b)


def _choices(a: str, b: str, depth: int) -> Said:
    x, y = choice(a), choice(b)
    if x and y:
        return x[0] == y[0]
    if x and x[1]:
        return same(x[1], b, depth)
    return same(a, y[1], depth) if y and y[1] else NEXT


def choice(text: str) -> tuple[str, str] | None:
    """Return the letter of a choice and what stands behind it: "(C) 12"."""
    text = re.sub(r"^\\text\{\s?\(?([A-J])\)\s+", r"(\1) \\text{", text)
    match = CHOICE.fullmatch(re.sub(r"^\\text\{(?:option|choice|answer)\}\s?", "", text, flags=re.IGNORECASE).strip())
    return (next(group for group in match.groups()[:4] if group), match[5].strip()) if match else None


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
    return w.content(TEXT.sub(r"\1", other)) == (w.content(rest) or ("true" if said else "false",)) or None


def _conditions(a: str, b: str, depth: int) -> Said:
    (x, x_condition), (y, y_condition) = w.split_condition(a), w.split_condition(b)
    if not x_condition and not y_condition:
        return NEXT
    one, two = w.narrows(x_condition), w.narrows(y_condition)
    return same(x, y, depth) if one == two else False if w.exclude(one, two) else None


def congruence(text: str) -> tuple[list[str], str] | None:
    """Return the residues and the modulus of "x ≡ 1, 4 (mod 5)", or None; what is no name before "≡" stays as it is."""
    found = {(match[1] or match[2]).strip() for match in MODULUS.finditer(text)} if "mod" in text else set()
    if len(found) != 1 or "\\not" in text or "\\ne" in text or ("\\mod" in text and "\\equiv" not in text):
        return None
    modulus, residues = found.pop(), []
    for part in elements(MODULUS.sub(" ", text)):
        left, _, right = part.rpartition("\\equiv")
        residue = right.strip() if not left or w.NAME.fullmatch(left.strip()) else part
        numbers = modulus.isdigit() and int(modulus) and re.fullmatch(r"[-+]?\s?\d{1,40}", residue)
        residues.append(str(int(residue.replace(" ", "")) % int(modulus)) if numbers else residue)
    return residues, modulus


def _congruences(a: str, b: str, depth: int) -> Said:
    x, y = (congruence(text) or algebra.family(assigned(text)[1]) for text in (a, b))
    if (x and y) and "mod" in a + b:
        return every((same(x[1], y[1], depth), _unordered(x[0], y[0], depth)))
    if "mod" not in a + b or not (x or y):
        return algebra.same_up_to_names(*(assigned(text)[1] for text in (a, b))) or NEXT
    (residues, _), other = (x, b) if x else (y or ([], ""), a)
    return _unordered(residues, elements(assigned(other)[1]), depth) or None


def _ratios(a: str, b: str, depth: int) -> Said:
    """Compare ratios term by term with their first; one is a division only where the other is a fraction."""
    x, y = (text.split(":") if RATIO.fullmatch(text) else [] for text in (a, b))
    if not x and not y:
        return NEXT
    if all(re.fullmatch(r"\d{1,2}(:\d{2}){1,2}", text) for text in (a, b)):
        return False  # times of day
    if x and y:
        return _ordered(*([f"({term})/({terms[0]})" for term in terms] for terms in (x, y)), depth)
    terms, other = (x, b) if x else (y, a)
    return (len(terms) == 2 and "frac" in other and same(f"\\frac{{{terms[0]}}}{{{terms[1]}}}", other, depth)) or None


def _solutions(a: str, b: str, depth: int) -> Said:
    """Match named values by their names: `x=1, y=2`; against values without names in the order of the alphabet."""
    x, y = w.solutions(a), w.solutions(b)
    if x and y:
        return _unordered(_tuples(x), _tuples(y), depth) if {*map(frozenset, x)} == {*map(frozenset, y)} else None
    if not x and not y:
        return NEXT
    named, other = (x, vector(b)) if x else (y, vector(a))
    kind, parts = collection(other)
    if len(named) > 1 or kind != "list":
        return same(" ; ".join(_tuples(named)), other, depth)
    values = [[s[name] for name in names] for s in named for names in (sorted(s), s)]  # 1, 2: by the alphabet, or as written
    return any(_ordered(one, parts, depth) for one in values) or None


def _tuples(solutions: Sequence[w.Solution]) -> list[str]:
    return [f"({', '.join(s[name] for name in sorted(s))})" if len(s) > 1 else "".join(s.values()) for s in solutions]


def _equations(a: str, b: str, depth: int) -> Said:
    if len(elements(a)) > 1 or len(elements(b)) > 1:
        return NEXT
    (x_name, x), (y_name, y) = assigned(a), assigned(b)
    if x_name and y_name:
        return _named((w.bare_name(x_name), x), (w.bare_name(y_name), y), depth)
    if ((x, y) == (a, b) and is_equation(a) == is_equation(b)) or (is_equation(a) and is_equation(b)):
        return NEXT
    if not (is_equation(x) or is_equation(y)):
        said = same(x, y, depth)
        return said or (None if w.is_wordy(x + y) else said)
    return False if algebra.read(b if is_equation(a) else a) is not None else None


def _named(one: tuple[str, str], other: tuple[str, str], depth: int) -> bool | None:
    (x_name, x), (y_name, y) = one, other
    f, g = FUNCTION.fullmatch(x_name), FUNCTION.fullmatch(y_name)
    if f and g and f[1].lower() == g[1].lower():
        return same(x, re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda m: f[2] if m[0] == g[2] else m[0], y), depth)
    said = same(x, y, depth)
    if x_name.lower() == y_name.lower() or (f and y_name == "y") or (g and x_name == "y"):
        return said
    apart = {x_name, y_name} <= COORDINATES or x_name.strip("'") == y_name.strip("'")
    return False if apart or (said is False and " " not in x_name + y_name) else None


def _real_sets(a: str, b: str, depth: int) -> Said:
    if not algebra.IS_SET.search(a) and not algebra.IS_SET.search(b):
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
        return algebra.same(*(text if "\\hat" in text else with_unit_vectors(text) for text in (a, b)))
    a, b = (value if collection(value := assigned(text)[1])[0] else text for text in (a, b))
    (x_kind, x), (y_kind, y) = collection(a), collection(b)
    kinds = {x_kind, y_kind}
    if kinds == {""} or (number(measure(a).value) and number(measure(b).value)):  # 10,080: thousands, not a list
        return NEXT
    if "dots" in a + b or re.search(r"\\text\{[^{}]*\b(?:order|then|respectively)\b", a + b):
        return None if "dots" in a + b else NEXT
    if len(x) != len(y) or "" in kinds:
        if w.is_wordy(a + b) and "set" not in kinds:
            return NEXT if "" in kinds else None
        if len(x) == len(y) == 1 and depth == 1:  # {5} and 5
            return same(x[0], y[0], depth)
        return NEXT if "matrix}" in a + b else False
    if "tuple" not in kinds:
        return _unordered(x, y, depth)
    one, two = inside(a), inside(b)
    brackets = column or (one and two and (one[0], one[2]) == (two[0], two[2]))
    return _ordered(x, y, depth) if (kinds == {"tuple"} and brackets) or kinds == {"tuple", "list"} else False


def _ordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    return every(same(one, other, depth) for one, other in zip(x, y, strict=True)) if len(x) == len(y) else False


def _unordered(x: Sequence[str], y: Sequence[str], depth: int) -> bool | None:
    """Return whether every part of one has its own equal in the other; None where it is not known of a part that has none."""
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
    if w.is_wordy(x.value + y.value):
        return NEXT
    said, (one, other) = same(x.value, y.value, depth), (x, b) if x.unit else (y, a)
    factor = {"percentage": "1/100", "degree": "\\pi/180"}.get(one.unit, "")
    return same(f"({one.value})\\cdot ({factor})", other, depth) if factor and not said else said


def _words(a: str, b: str, depth: int) -> Said:
    """Compare the words of two answers in their order, and the formulas between them one by one."""
    wordy = w.is_wordy(a), w.is_wordy(b)
    if not any(wordy):
        return None if all(re.fullmatch(r"[A-Z]{2,}", text) for text in (a, b)) else NEXT  # AB and BA, ABC and BAC
    (x, x_formulas), (y, y_formulas) = (w.skeleton(text) for text in (a, b))
    formulas = [same(one, other, depth) for one, other in zip_longest(x_formulas, y_formulas, fillvalue="")]
    if x == y:
        return every(formulas)
    if all(wordy):
        names = all(re.fullmatch(r"\\text\{[A-Z][a-z]+\}", text) for text in (a, b))
        return (
            False if names or (w.exclude(x, y) and all(formulas)) else y in (w.predicate(a), ()) or x == w.predicate(b) or None
        )
    return True if key(TEXT.sub(r"\1", a)) == key(TEXT.sub(r"\1", b)) else NEXT


def _numbers(a: str, b: str, depth: int) -> Said:
    if (x := number(a)) and (y := number(b)):
        return x.same(y)
    based = BASED.fullmatch(a), BASED.fullmatch(b)
    if not any(based):
        return NEXT
    bases = {found[0] if (found := number_in_words(m[2])) else m[2] for m in based if m}
    digits = [m[1] if m else text for m, text in zip(based, (a, b), strict=True)]
    return digits[0] == digits[1] if len(bases) == 1 else False if digits[0] == digits[1] else None


RULES: dict[str, Callable[[str, str, int], Said]] = {
    "choices": _choices,
    "none": _none,
    "yes or no": _yes_or_no,
    "conditions": _conditions,
    "families": _congruences,
    "solutions": _solutions,
    "equations": _equations,
    "ratios": _ratios,
    "real sets": _real_sets,
    "collections": _collections,
    "measures": _measures,
    "words": _words,
    "numbers": _numbers,
}
