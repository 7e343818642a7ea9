r"""The shapes of answers: choices, congruences, names and values, lists, sets and tuples.

Pure and cheap: an answer in one spelling (`magpie.verification.normalize.plain`) is taken apart, nothing is compared.
"""

from __future__ import annotations

import re

from magpie.verification.normalize import elements, inside, key, separated, split
from magpie.verification.words import content, labelled

LETTER = r"(?:[a-zA-Z]|\\(?!text|frac|sqrt|sin|cos|tan|log|ln|pi(?![a-z]))[a-zA-Z]+)"
SYMBOL = (
    rf"{LETTER}(?:\s?_\s?(?:\{{[\w\\ ,+-]{{1,12}}\}}|\w))?(?:\^\s?(?:\{{\s?(?:[*+']|\\prime|\\ast)\s?\}}|[*+]|\\ast))?'{{0,3}}"
)
SEGMENT = (
    r"(?:m?\s?\\(?:angle|triangle|over(?:line|rightarrow|arc)|vec|hat|bar)\s?)?(?:\{[A-Z]{1,4}\}|[A-Z]{1,4}(?:_\{?\w{1,3}\}?)?)"
)
ONE = rf"(?:{SYMBOL}(?:\s?\([^()=]{{1,20}}\))?|\|?{SEGMENT}\|?|\\(?:sin|cos|tan)\s?\(?(?:[A-Z]|\\[a-z]+)\)?)"
NAME = re.compile(
    rf"{ONE}|\\frac\{{{SEGMENT}\}}\{{{SEGMENT}\}}|{ONE}(?:\s?[:/]\s?{ONE}){{1,3}}|\\text\{{[^{{}}]{{1,60}}\}}(?:\s?{SYMBOL})?"
)
NAMES = re.compile(rf"\(\s?{SYMBOL}(?:\s?,\s?{SYMBOL}){{1,6}}\s?\)")
MEMBER = re.compile(rf"({SYMBOL}|\([a-zA-Z, ]+\))\s?\\in(?![a-zA-Z])")
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


def choice(text: str) -> tuple[str, str] | None:
    """Return the letter of a choice and what stands behind it: "(C) 12"."""
    text = re.sub(r"^\\text\{\s?\(?([A-J])\)\s+", r"(\1) \\text{", text)
    match = CHOICE.fullmatch(re.sub(r"^\\text\{(?:option|choice|answer)\}\s?", "", text, flags=re.IGNORECASE).strip())
    return (next(group for group in match.groups()[:4] if group), match[5].strip()) if match else None


def congruence(text: str) -> tuple[list[str], str] | None:
    """Return the residues and the modulus of "x ≡ 1, 4 (mod 5)", or None; what is no name before "≡" stays as it is."""
    found = {(match[1] or match[2]).strip() for match in MODULUS.finditer(text)} if "mod" in text else set()
    if len(found) != 1 or "\\not" in text or "\\ne" in text or ("\\mod" in text and "\\equiv" not in text):
        return None
    modulus, residues = found.pop(), []
    for part in elements(MODULUS.sub(" ", text)):
        left, _, right = part.rpartition("\\equiv")
        residue = right.strip() if not left or NAME.fullmatch(left.strip()) else part
        numbers = modulus.isdigit() and int(modulus) and re.fullmatch(r"[-+]?\s?\d{1,40}", residue)
        residues.append(str(int(residue.replace(" ", "")) % int(modulus)) if numbers else residue)
    return residues, modulus


def assigned(text: str) -> tuple[str, str]:
    r"""Return the name and the value of `x = 5`, `5 = x`, `f(x) = …`, `x \in …`, `\text{Area: } 5`; else no name."""
    if match := MEMBER.match(text):
        return match[1], text[match.end() :].strip()
    exact, *rounded = split(re.sub(r"\\approx(?![a-zA-Z])", "≈", text), "≈")
    equal = split(re.sub(r"([<>!:])=", r"\1≐", exact), "=")
    first, last = equal[0], equal[-1]
    if len(equal) + len(rounded) < 2 or not all((*equal, *rounded)):
        return labelled(text)
    names = NAME.fullmatch(first) or NAMES.fullmatch(first)
    if len(equal) == 1:  # x ≈ 11, or 1/3 ≈ 0.33
        return (first, rounded[0]) if names else ("", first)
    letters = [bool(re.fullmatch(SYMBOL, side)) and side not in ("e", "i") for side in (first, last)]
    if (len(equal) == 2 and letters[1] and not names) or all(letters):
        return ("", text) if letters[0] else (last, first)  # x = y; 5 = x
    if names:
        return first, last
    numbers = not re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+|(?<![a-zA-Z])[ei](?![a-zA-Z])", "", first + last))
    return "", last if numbers or first.startswith("\\{") else text  # 1+2+3=6


def is_equation(text: str) -> bool:
    """Return whether an answer, not a list, has two sides."""
    return len(elements(text)) == 1 and bool(re.search(r"(?<![<>!:])=(?!=)", re.sub(r"\\ne\s?=|_\{[^{}]*\}", "", text)))


def bare_name(name: str) -> str:
    r"""Return a name for comparison: a label's words, or a symbol without the mark of a segment or of an angle's measure."""
    words = " ".join(content(name.removeprefix("\\text{"))) if "\\text" in name else ""
    return words or re.sub(r"^m(?=\\angle)|\\overline|[{}|]", "", key(name))


Solution = dict[str, str]


def solutions(text: str) -> list[Solution]:
    """Return names and values of what `x=1, y=2 or (x,y)=(2,1)` gives; none where a part has no name, or all have one name."""
    found: list[Solution] = []
    for group in split(separated(text), ";") if "=" in text or "\\text" in text else ():
        found.append({})
        for part in split(group, ","):
            name, value = assigned(part)
            several = inside(value) if NAMES.fullmatch(name) else None
            names, values = (split(name.strip("()")), split(several[1])) if several else ([name], [value])
            if not name or len(names) != len(values) or MEMBER.match(part):
                return []
            pairs = dict(zip(map(bare_name, names), values, strict=True))
            if found[-1].keys() & pairs.keys():
                found.append({})
            found[-1] |= pairs
    return found if any(len(solution) > 1 for solution in found) else []


def collection(text: str) -> tuple[str, list[str]]:
    r"""Return the kind of a collection ("tuple", "set", "list", or empty) and its parts, with ± written out."""
    found = inside(text)
    if found and (found[0], found[2]) == ("\\{", "\\}"):
        return "set", _with_signs(elements(found[1]))
    if found and found[0] in "([" and found[2] in ")]" and len(parts := split(found[1])) > 1:
        return "tuple", parts
    parts = _with_signs(elements(text))
    parts = list(dict.fromkeys(map(key, parts))) if all(part.startswith("(") for part in parts) else parts
    return ("list" if len(parts) > 1 else ""), parts


def _with_signs(parts: list[str]) -> list[str]:
    both = [
        (part, part)
        if "\\pm" not in part and "\\mp" not in part
        else tuple(re.sub(r"\\pm ?", a, re.sub(r"\\mp ?", b, part)) for a, b in ("+-", "-+"))
        for part in parts
    ]
    return [re.sub(r"^\s?\+|(?<=[=(,{])\s?\+", "", part) for pair in both for part in dict.fromkeys(pair)]


def with_unit_vectors(text: str) -> str:
    r"""Return `(3,-1)` as `(3)\hat{i}+(-1)\hat{j}`; anything else as it is."""
    kind, parts = collection(text)
    return "+".join(f"({part})\\hat{{{unit}}}" for part, unit in zip(parts, "ijk", strict=False)) if kind == "tuple" else text
