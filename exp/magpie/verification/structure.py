r"""The shapes of answers: choices, congruences, names and values, sets of real numbers, lists, sets and tuples.

Pure and cheap: an answer in one spelling (`magpie.verification.normalize.plain`) is taken apart, nothing is compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from magpie.verification.normalize import elements, inside, key, separated, split
from magpie.verification.words import loose

MOST_PARTS = 60
"""Parts of a list or a union that are looked at one by one."""

_SYMBOL = r"(?:[a-zA-Z]|\\(?!text|frac|sqrt|sin|cos|tan|log|ln|pi(?![a-z]))[a-zA-Z]+)(?:\s?_\s?(?:\{[\w\\ ,+-]{1,12}\}|\w))?(?:\^\s?(?:\{[\w*'+\\]{1,6}\}|[*+]))?'{0,3}"
_SEGMENT = r"(?:m?\s?\\(?:angle|triangle|overline|overarc|vec|hat|bar)\s?)?(?:\{[A-Z]{1,4}\}|[A-Z]{1,4}(?:_\{?\w{1,3}\}?)?)"
_ONE = rf"(?:{_SYMBOL}(?:\s?\([^()=]{{1,20}}\))?|\|?{_SEGMENT}\|?|\\(?:sin|cos|tan)\s?\(?(?:[A-Z]|\\[a-z]+)\)?)"
NAME = re.compile(
    rf"{_ONE}|\\frac\{{{_SEGMENT}\}}\{{{_SEGMENT}\}}|{_ONE}(?:\s?[:/]\s?{_ONE}){{1,3}}|\\text\{{[^{{}}]{{1,60}}\}}(?:\s?{_SYMBOL})?"
)
NAMES = re.compile(rf"\(\s?({_SYMBOL}(?:\s?,\s?{_SYMBOL}){{1,6}})\s?\)")
EQUALS = re.compile(r"(?<![<>!\\:])=|\\approx(?![a-zA-Z])|\\implies(?![a-zA-Z])")
CHOICE = re.compile(
    r"(?:\\text\{\s?\(([A-J])\)\s?\}|\\text\{\s?([A-J])[.):]?\s?\}|\(([A-J])\)|([A-J])[.):](?=\s|$)|([A-J])(?=$|\s\\text\{[A-Z]))\s?[:.]?\s?(.{0,400})",
    re.DOTALL,
)


def choice(text: str) -> tuple[str, str] | None:
    """Return the letter of a choice and what stands behind it: "(C) 12"."""
    text = re.sub(r"^\\text\{\s?\(?([A-J])\)\s+", r"(\1) \\text{", text)
    match = CHOICE.fullmatch(re.sub(r"^\\text\{(?:option|choice|answer)\}\s?", "", text, flags=re.IGNORECASE).strip())
    return (next(group for group in match.groups()[:5] if group), match[6].strip()) if match else None


MODULUS = re.compile(
    r"\s?\(?\s?\\?(?:text\{\s?\(?|p|b)?mod(?:ulo)?\)?\}?\s?(?:\{\s?([^{}]{1,20})\s?\}|\(?(\w{1,12})\)?)\s?\)?\}?\)?"
)


def congruence(text: str) -> tuple[list[str], str] | None:
    """Return the residues and the modulus of "x ≡ 1, 4 (mod 5)", or None; what is no name before "≡" stays as it is."""
    found = {(match[1] or match[2]).strip() for match in MODULUS.finditer(text)} if "mod" in text else set()
    if len(found) != 1 or "\\not" in text or "\\ne" in text or ("\\mod" in text and "\\equiv" not in text):
        return None
    residues = []
    for part in elements(MODULUS.sub(" ", text)):
        left, _, right = part.rpartition("\\equiv")
        residues.append(right.strip() if not left or NAME.fullmatch(left.strip()) else part)
    return residues, found.pop()


PROGRESSION = re.compile(
    r"(?P<before>.*?)(?P<step>\d{0,9}|\d{0,9}\\pi|\\frac\{\d{0,4}\\pi\}\{\d{1,4}\})\s?(?P<index>[nkmjl])(?P<pi>\s?\\pi|\^\{?\\degrees\}?|\s?\\degrees|)(?P<after>.*)"
)


def progression(text: str) -> tuple[str, str, str] | None:
    r"""Return the step, the offset and the index of "5k + 2" or "\frac{\pi}{4} + n\pi": one value for every integer."""
    match = PROGRESSION.fullmatch(text.replace("\\cdot", "").strip())
    if not match:
        return None
    before, after = match["before"].strip(), match["after"].strip()
    if re.search(r"[a-zA-Z]|[*^(\d}]$", before.replace("\\frac", "").replace("\\pi", "")) or (
        before and before[-1] not in "+-"
    ):
        return None
    if after and (after[0] not in "+-" or re.search(r"[a-zA-Z^(]", after.replace("\\frac", "").replace("\\pi", ""))):
        return None
    sign = "-" if before.endswith("-") else ""
    return (
        f"{sign}{match['step'] or '1'}{match['pi']}",
        f"{before[:-1] if before[-1:] in ('+', '-') else before}{after}" or "0",
        match["index"],
    )


@dataclass(frozen=True)
class Solution:
    """Values with their names: `x=1, y=2`, `(x,y)=(1,2)`."""

    names: tuple[str, ...]
    values: tuple[str, ...]


def assigned(text: str) -> tuple[str, str]:
    r"""Return the name and the value of `x = 5`, `5 = x`, `f(x) = …`, `x \in …`; the name of anything else is empty."""
    if match := re.match(rf"({_SYMBOL}|\([a-zA-Z, ]+\))\s?\\in(?![a-zA-Z])", text):
        return match[1], text[match.end() :].strip()
    exact, *rounded = split(APPROX.sub("≈", text), "≈")
    equal = split(OTHER.sub(lambda m: m[0].replace("=", "≐"), exact), "=")
    if len(equal) + len(rounded) < 2 or not all((*equal, *rounded)):
        return "", text
    if len(equal) == 1:  # x ≈ 11, or 1/3 ≈ 0.33
        return (equal[0], rounded[0]) if NAME.fullmatch(equal[0]) else ("", equal[0])
    first, last = equal[0], equal[-1]
    if len(equal) == 2 and _is_letter(last) and not (NAMES.fullmatch(first) or _is_letter(first)):
        return last, first  # 5 = x
    if (NAME.fullmatch(first) or NAMES.fullmatch(first)) and not (len(equal) == 2 and _is_letter(first) and _is_letter(last)):
        return first, last
    if not _has_letters(first) and not _has_letters(last) or first.startswith("\\{"):
        return "", last  # 1+2+3=6
    return "", text


APPROX = re.compile(r"\\approx(?![a-zA-Z])")
OTHER = re.compile(r"[<>!:]=|\\ne\s?=")


def _has_letters(text: str) -> bool:
    return bool(re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+|(?<![a-zA-Z])[ei](?![a-zA-Z])", "", text)))


def _is_letter(text: str) -> bool:
    return bool(re.fullmatch(_SYMBOL, text)) and "\\pi" not in text and text not in ("e", "i")


def is_equation(text: str) -> bool:
    """Whether an answer, not a list, has two sides."""
    return "=" in text and len(elements(text)) == 1 and len(split(OTHER.sub("", text), "=")) > 1


def bare_name(name: str) -> str:
    r"""Return a name for comparison: without the mark of a segment or an angle's measure."""
    return re.sub(r"^m(?=\\angle)|\\overline|[{}|]", "", key(name))


FUNCTION = re.compile(r"([a-zA-Z](?:_\{?\w\}?)?'{0,3})\s?\(\s?([a-z])\s?\)")


def renamed(text: str, old: str, new: str) -> str:
    """Return a formula with one letter for another."""
    return re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda m: new if m[0] == old else m[0], text)


def solutions(text: str) -> list[Solution] | None:
    """Return what `x=1, y=2 or x=2, y=1` gives, or None where a part has no name."""
    if "=" not in text:
        return None
    found: list[list[tuple[str, str]]] = []
    for group in split(separated(text), ";"):
        current: list[tuple[str, str]] = []
        for part in split(group, ","):
            pairs = _pairs(part, current or (found[-1] if found else []))
            if pairs is None:
                return None
            if {name for name, _ in pairs} & {name for name, _ in current}:
                found.append(current)
                current = []
            current += pairs
        if current:
            found.append(current)
    return [Solution(tuple(name for name, _ in group), tuple(value for _, value in group)) for group in found]


def _pairs(part: str, before: list[tuple[str, str]]) -> list[tuple[str, str]] | None:
    name, value = assigned(part)
    if not name:
        if len(before) == 1 and not is_equation(part):  # x = 2, 3
            return [(before[0][0], part)]
        values = _tuple(part)
        return [(b[0], v) for b, v in zip(before, values, strict=True)] if before and len(values) == len(before) > 1 else None
    if NAMES.fullmatch(name):
        names, values = split(name.strip("()")), _tuple(value)
        return [(bare_name(n), v) for n, v in zip(names, values, strict=True)] if len(names) == len(values) else None
    return [(bare_name(name), value)] if not re.search(r"\\in(?![a-zA-Z])", part) else None


def _tuple(text: str) -> list[str]:
    found = inside(text)
    return split(found[1]) if found and found[0] in "([" else []


Range = tuple[str, str, str, str]  # opening bracket, from, to, closing bracket
CUP = re.compile(r"\\cup(?![a-zA-Z])|(?<=[)\]])\s?U\s?(?=[(\[])")
COMPARED = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|<|>)")
BUILDER = re.compile(r"\\\{\s?([a-z])(?:\s?\\in\s?(?:\\mathbb\{R\}|R))?\s?(?:\\mid|\\vert|\\colon|[|:])\s?(.+?)\\\}", re.DOTALL)


@dataclass(frozen=True)
class RealSet:
    """A union of ranges, what is left out of it, and the symbol it is said of; `condition`: a relation to be solved instead."""

    ranges: tuple[Range, ...]
    without: tuple[str, ...] = ()
    symbol: str = ""
    condition: str = ""


def real_set(text: str) -> RealSet | None:
    r"""Return a set of real numbers that is written with intervals, inequalities, `\{x \mid …\}`, `\ne` or `\setminus`."""
    if builder := BUILDER.fullmatch(text):
        return real_set(builder[2].strip()) if builder[1] in builder[2] else None
    name, value = assigned(text) if "\\in" in text else ("", text)
    if re.fullmatch(r"\\mathbb\{R\}|\\R|R", value.strip()):
        return RealSet((("(", "-\\infty", "\\infty", ")"),), symbol=name)
    if match := re.fullmatch(r"(.+?)\s?(?:\\setminus(?![a-zA-Z])|\\backslash|(?<=\})\s?-(?=\s?\\\{))\s?\\\{(.+)\\\}", value):
        whole = real_set(match[1])
        return RealSet(whole.ranges, tuple(elements(match[2])), name) if whole and not whole.without else None
    if COMPARED.search(text) or "\\ne" in text:
        return _relations(separated(text))
    pieces = [_interval(part) for part in CUP.split(value)]
    return (
        RealSet(tuple(piece for piece in pieces if piece), symbol=name) if all(pieces) and len(pieces) <= MOST_PARTS else None
    )


def _interval(text: str) -> Range | None:
    found = inside(text)
    parts = split(found[1]) if found else []
    if found and found[0] == "\\{" and len(parts) == 1:
        return ("[", parts[0], parts[0], "]")
    if found and len(parts) == 2 and found[0] in "([" and found[2] in ")]":
        return (found[0], parts[0], parts[1], found[2])
    return None


def _relations(text: str) -> RealSet | None:
    """Return the union of inequalities for one symbol, less the values that it must not have."""
    ranges: list[Range] = []
    without, symbols = [], set()
    for part in split(text):
        if "\\ne" in part and len(sides := re.split(r"\\ne(?![a-z])", part)) == 2:
            symbols.add(sides[0].strip())
            without.append(sides[1].strip())
            continue
        found = _inequality(part)
        if found is None:
            return RealSet((), condition=part) if len(split(text)) == 1 else None
        symbols.add(found[0])
        ranges.append(found[1])
    if len(symbols) != 1 or not SYMBOL.fullmatch(symbol := symbols.pop()):
        return None
    return RealSet(tuple(ranges) or (("(", "-\\infty", "\\infty", ")"),), tuple(without), symbol)


SYMBOL = re.compile(rf"{_SYMBOL}(?:\s?\([a-z]\))?|")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}


def _inequality(text: str) -> tuple[str, Range] | None:
    pieces = [piece.strip() for piece in COMPARED.split(text)]
    if len(pieces) == 3 and _is_letter(pieces[2]) and not _is_letter(pieces[0]):
        pieces = [pieces[2], FLIPPED[pieces[1]], pieces[0]]
    if len(pieces) == 3 and SYMBOL.fullmatch(pieces[0]) and pieces[2]:
        strict = pieces[1] in "<>"
        if pieces[1] in (">", "\\ge"):
            return pieces[0], ("(" if strict else "[", pieces[2], "\\infty", ")")
        return pieces[0], ("(", "-\\infty", pieces[2], ")" if strict else "]")
    if len(pieces) == 5 and SYMBOL.fullmatch(pieces[2]) and pieces[2]:
        if {pieces[1], pieces[3]} <= {">", "\\ge"}:
            pieces = [pieces[4], FLIPPED[pieces[3]], pieces[2], FLIPPED[pieces[1]], pieces[0]]
        if {pieces[1], pieces[3]} <= {"<", "\\le"}:
            return pieces[2], ("(" if pieces[1] == "<" else "[", pieces[0], pieces[4], ")" if pieces[3] == "<" else "]")
    return None


def collection(text: str) -> tuple[str, list[str]]:
    r"""Return the kind of a collection ("tuple", "set", "list", or empty) and its parts, with ± written out."""
    text = text.strip()
    found = inside(text)
    if found and (found[0], found[2]) == ("\\{", "\\}"):
        return "set", _with_signs(elements(found[1]))
    if found and found[0] in "([" and found[2] in ")]" and len(parts := split(found[1])) > 1:
        return "tuple", parts
    parts = _with_signs(elements(text))
    if len(parts) > 2 and all(part.startswith("(") for part in parts):
        parts = list(dict.fromkeys(map(key, parts)))
    return ("list", parts) if len(parts) > 1 else ("", parts)


def _with_signs(parts: list[str]) -> list[str]:
    out = []
    for part in parts:
        if re.search(r"\\pm|\\mp", part):
            out += [re.sub(r"\\pm ?", "+", re.sub(r"\\mp ?", "-", part)), re.sub(r"\\pm ?", "-", re.sub(r"\\mp ?", "+", part))]
        else:
            out.append(part)
    return [re.sub(r"^\s?\+|(?<=[=(,{])\s?\+", "", part) for part in out]


TIME = re.compile(r"(\d{1,2})(?:\s?:\s?(\d{2}))?(?:\s?:\s?(\d{2}))?\s?(?:\\text\{\s?([ap])\.?\s?m\.{0,2}\s?\})?", re.IGNORECASE)


def clock(text: str) -> tuple[int, int, int, str] | None:
    """Return hour, minute, second and half of the day of "3:30 p.m."; None of what need not be a time."""
    match = TIME.fullmatch(text.strip())
    if not match or not (match[2] or match[4]):
        return None
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), (match[4] or "").lower()


def ratio(text: str) -> list[str] | None:
    """Return the terms of "2:3" or "2 to 3"."""
    text = re.sub(r"\s?\\text\{\s?to\s?\}\s?", ":", text)
    if text.startswith("\\{"):
        return None
    return [part.strip() for part in text.split(":")] if re.fullmatch(r"[\w\\{}./ ]+(?:\s?:\s?[\w\\{}./ ]+)+", text) else None


REMAINDER = re.compile(
    r"(\d{1,12})\s?(?:R|r|\\text\{\s?(?:R|r|with remainder|remainder|rem)\s?\}|\\text\{\s?with a remainder of\s?\})\s?(\d{1,12})"
)
BASED = re.compile(r"\(?([0-9A-F.]{1,60})\)?\s?_\s?\{?\s?(?:\\text\{)?(\d{1,2}|[a-z]+)\}?\}?")


def is_everything(text: str) -> bool:
    """Whether an answer is all real numbers."""
    return loose(text) in ("\\mathbb{r}", "r", "\\r")
