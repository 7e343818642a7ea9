r"""The shapes of answers: choices, congruences, names and values, intervals and inequalities, lists, sets and tuples.

Pure and cheap: an answer in one spelling (`magpie.verification.normalize.plain`) is taken apart, nothing is compared.
"""

from __future__ import annotations

import re

from magpie.verification.normalize import elements, inside, key, split
from magpie.verification.words import loose

MOST_PARTS = 60
"""Parts of a list or a union that are looked at one by one."""

NAME = re.compile(
    r"(?:\\?[a-zA-Z]+|\\angle\s?[A-Za-z ]{1,6}|\|?[A-Z]{1,4}\|?)(?:_\{?[\w\\ ]{1,12}\}?)?(?:\^\{?[\w*']{1,4}\}?|'{1,3})?"
    r"(?:\s?\([\w, ]{1,20}\))?|\(\s?[a-zA-Z](?:_\{?\w\}?)?(?:\s?,\s?[a-zA-Z](?:_\{?\w\}?)?){1,6}\s?\)|"
    r"\\text\{[^{}]{1,60}\}|[a-zA-Z ]{1,60}"
)
EQUALS = re.compile(r"(?<![<>!\\:])=")
CHOICE = re.compile(
    r"(?:\\text\{\s?\(([A-J])\)\s?\}|\\text\{\s?([A-J])[.):]?\s?\}|\(([A-J])\)|([A-J])[.):](?=\s|$)|([A-J])$)\s?[:.]?\s?(.{0,400})",
    re.DOTALL,
)


def choice(text: str) -> tuple[str, str] | None:
    """Return the letter of a choice and what stands behind it: "(C) 12"."""
    match = CHOICE.fullmatch(re.sub(r"^(?:\\text\{\s?)?(?:option|choice|answer)\s", "", text, flags=re.IGNORECASE).strip())
    return (next(group for group in match.groups()[:5] if group), match[6].strip()) if match else None


MODULUS = re.compile(
    r"(?:\\pmod|\(\s?\\text\{\s?mod\s?\}|\(\s?\\?b?mod|\\bmod|\\mod|\\text\{\s?\(?mod(?:ulo)?\s?\}|(?<![a-z\\])mod(?:ulo)?(?![a-z]))"
    r"\{?\s?([\w^+\-*]{1,12})\s?\}?\)?\}?"
)


def congruence(text: str) -> tuple[list[str], str] | None:
    """Return the residues and the modulus of "x ≡ 1, 4 (mod 5)", or None; what is no name before "≡" stays as it is."""
    found = MODULUS.findall(text)
    if not found or len(set(found)) > 1 or "\\not" in text or "\\ne" in text:
        return None
    residues = []
    for part in elements(MODULUS.sub(" ", text)):
        left, _, right = part.rpartition("\\equiv")
        residues.append(right.strip() if not left or NAME.fullmatch(left.strip()) else part)
    return residues, found[0]


def reduced(residues: list[str], modulus: str) -> list[str]:
    """Return residues between 0 and the modulus, where both are numbers."""
    if not modulus.isdigit() or not int(modulus):
        return residues
    return [str(int(r) % int(modulus)) if re.fullmatch(r"-?\d{1,40}", r) else r for r in residues]


def arithmetic_progression(parts: list[str]) -> tuple[str, str] | None:
    """Return (modulus, residue) of "5k + 2"."""
    match = re.fullmatch(r"(\d{1,9})\s?[a-zA-Z](?:\s?([+-])\s?(\d{1,9}))?", parts[0]) if len(parts) == 1 else None
    return (match[1], f"{(match[2] or '').strip('+')}{match[3] or 0}") if match else None


def assigned(text: str) -> tuple[str, str]:
    """Return the name and the value of `x = 5`, `f(x) = …`, `x \\in …`; the name of anything else is empty."""
    if len(elements(text)) > 1:
        return "", text
    pieces = EQUALS.split(text)
    if len(pieces) > 1 and NAME.fullmatch(pieces[0].strip()):
        last = pieces[-1].strip()
        if last and (len(pieces) == 2 or not NAME.fullmatch(last)):
            return pieces[0].strip(), last
    if (match := re.match(r"(?:[a-zA-Z]|\\[a-z]+|\([a-zA-Z, ]+\))\s?\\in(?![a-zA-Z])", text)) and text[match.end() :].strip():
        return match[0].split("\\in")[0].strip(), text[match.end() :].strip()
    return "", text


def bare_name(name: str) -> str:
    """Return a name for comparison: f(x) and y are the same curve's."""
    name = key(name)
    return "y" if re.fullmatch(r"[a-zA-Z]\([a-z]\)", name) else name


Range = tuple[str, str, str, str]  # opening bracket, from, to, closing bracket
CUP = re.compile(r"\\cup(?![a-zA-Z])|(?<=[)\]])\s?U\s?(?=[(\[])")
COMPARED = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|<|>)")
EVERYTHING = frozenset(
    {"\\mathbb{R}", "R", "\\R", "allrealnumbers", "allreals", "allrealnumber", "\\mathbf{R}", "all real numbers", "all reals"}
)


def ranges(text: str) -> list[Range] | None:
    """Return the pieces of a union of intervals, or of inequalities for one symbol; None if it is neither."""
    if is_everything(text):
        return [("(", "-\\infty", "\\infty", ")")]
    if COMPARED.search(text):
        pieces = [_inequality(part) for part in elements(text)]
    else:
        pieces = [_interval(part) for part in CUP.split(assigned(text)[1])]
    return [piece for piece in pieces if piece] if all(pieces) and len(pieces) <= MOST_PARTS else None


def is_everything(text: str) -> bool:
    """Whether an answer is all real numbers."""
    return key(text) in EVERYTHING or loose(text) in EVERYTHING


def _interval(text: str) -> Range | None:
    found = inside(text)
    parts = split(found[1]) if found else []
    if found and found[0] == "\\{" and len(parts) == 1:
        return ("[", parts[0], parts[0], "]")
    if found and len(parts) == 2 and found[0] in "([" and found[2] in ")]":
        return (found[0], parts[0], parts[1], found[2])
    return None


def _inequality(text: str) -> Range | None:
    pieces = [piece.strip() for piece in COMPARED.split(text)]
    symbol = re.compile(r"\\?[a-zA-Z]+(?:_\{?\w\}?)?")
    if len(pieces) == 3 and symbol.fullmatch(pieces[2]) and not symbol.fullmatch(pieces[0]):
        pieces = [pieces[2], _flipped(pieces[1]), pieces[0]]
    if len(pieces) == 3 and symbol.fullmatch(pieces[0]):
        strict = pieces[1] in "<>"
        if pieces[1] in (">", "\\ge"):
            return ("(" if strict else "[", pieces[2], "\\infty", ")")
        return ("(", "-\\infty", pieces[2], ")" if strict else "]")
    if len(pieces) == 5 and symbol.fullmatch(pieces[2]):
        if {pieces[1], pieces[3]} <= {">", "\\ge"}:
            pieces = [pieces[4], _flipped(pieces[3]), pieces[2], _flipped(pieces[1]), pieces[0]]
        if {pieces[1], pieces[3]} <= {"<", "\\le"}:
            return ("(" if pieces[1] == "<" else "[", pieces[0], pieces[4], ")" if pieces[3] == "<" else "]")
    return None


def _flipped(sign: str) -> str:
    return {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[sign]


def may_unite(a: str, b: str) -> bool:
    """Whether a union may be written with another number of pieces."""
    return bool(CUP.search(a) or CUP.search(b))


def collection(text: str) -> tuple[str, list[str]]:
    r"""Return the kind of a collection ("tuple", "set", "list", or empty) and its parts, with ± written out."""
    text = text.strip()
    found = inside(text)
    if found and (found[0], found[2]) == ("\\{", "\\}"):
        return "set", _with_signs(elements(found[1]))
    if found and found[0] in "([" and found[2] in ")]" and len(parts := split(found[1])) > 1:
        return "tuple", parts
    parts = _with_signs(elements(text))
    return ("list", parts) if len(parts) > 1 else ("", parts)


def _with_signs(parts: list[str]) -> list[str]:
    out = []
    for part in parts:
        if re.search(r"\\pm|\\mp", part):
            out += [re.sub(r"\\pm ?", "+", re.sub(r"\\mp ?", "-", part)), re.sub(r"\\pm ?", "-", re.sub(r"\\mp ?", "+", part))]
        else:
            out.append(part)
    return [re.sub(r"^\s?\+|(?<=[=(,])\s?\+", "", part) for part in out]


def without_shared_name(text: str) -> str:
    """Return "2, 3" for "x = 2, 3", and for "x = 2, x = 3" too."""
    parts = elements(text)
    if len(parts) < 2:
        return assigned(text)[1]
    names = [assigned(part)[0] for part in parts]
    if names[0] and not any(names[1:]):
        return text[text.index("=") + 1 :].strip() if "=" in parts[0] else text
    if names[0] and len({key(name) for name in names}) == 1:
        return " ; ".join(assigned(part)[1] for part in parts)
    return text


def values(parts: list[str]) -> list[str]:
    """Return the values of parts that may be named."""
    return [assigned(part)[1] for part in parts]
