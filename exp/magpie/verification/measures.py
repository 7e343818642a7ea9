r"""Answers with a unit, a currency, a percent sign or a noun: `12 \text{ cm}^2`, `\$5`, "3 apples", "1 hour 30 minutes"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import pint

from magpie.verification.config import load_answer_words
from magpie.verification.words import content, is_wordy

CURRENCY = re.compile(r"(-?)\s?([＄€£¥₹])\s?([\d.].*)")
SIGN = re.compile(r"(.*?[^\s\\])\s*\\?([＄€£¥₹¢%]|\\degrees)")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|cis)(?![a-z])")
SUFFIX = re.compile(
    r"(.*?[^\s\\{])\s*(\\text\{[^{}]{1,80}\}(?:\s?/\s?(?:\\text\{[^{}]{1,20}\}|[hs](?![a-z])))?|(?<=[\d}])\s[mglshL](?:/[sh])?)"
    r"(?:\s?\^\s?\{?\s?(-?\d)\s?\}?)?",
    re.DOTALL,
)
PIECE = re.compile(r"(-?[\d.]+(?:/\d+)?)\s*\\text\{\s*([^{}\d]{1,30}?)(?:,|\s+and)?\s*\}\s*(?:\\text\{\s*and\s*\}|,)?\s*")
NO_NOUN = re.compile(
    r"^(?:or|if|is|are|to|not|of|than|does|do|has|remainder|and|then|with|for|where|when|such|in|am|pm|at)\b|"
    r"\b(?:or (?:more|less|fewer)|remainder|to)\b|[=<>]"
)


BARE_WORD = re.compile(r"\s*[A-Za-z]{3,}\s*")
"""Not a value but the beginning of a sentence: "see the solution"."""


@dataclass(frozen=True)
class Measure:
    """An answer's value, its unit in pint's words (empty: none known), and the counted noun."""

    value: str
    unit: str = ""
    noun: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def measure(text: str) -> Measure:
    """Return an answer's value apart from its unit and noun; "1 hour 30 minutes" is a sum in the last unit."""
    text, known = text.strip(), load_answer_words().units
    if match := CURRENCY.fullmatch(text):
        found, unit = measure(match[3]), known[match[2]]
        return Measure(match[1] + found.value, unit, () if found.unit == unit else found.noun)
    if (match := SIGN.fullmatch(text)) and not TRIGONOMETRY.search(match[1]):
        return Measure(match[1], known.get(match[2], "degree"))
    pieces = PIECE.findall(text)
    units = [unit_of(words.strip().lower(), "")[0] for _, words in pieces]
    if len(pieces) == len(set(units)) > 1 and all(units) and not PIECE.sub("", text).strip():
        factors = [conversion(unit, units[-1]) for unit in units]
        if all(factors):
            return Measure("+".join(f"({n})\\cdot ({f})" for (n, _), f in zip(pieces, factors, strict=True)), units[-1])
    match = SUFFIX.fullmatch(text)
    words = re.sub(r"\\text\{|\}", "", match[2]).strip(" .,").lower() if match else ""
    if not match or not words or is_wordy(match[1]) or BARE_WORD.fullmatch(match[1]) or NO_NOUN.search(words):
        return Measure(text)
    unit, noun = unit_of(words, match[3] or "")
    value = match[1].strip(" ,")
    inner = measure(value) if value.endswith(("%", "\\degrees")) or value[:1] in "＄€£¥₹" else Measure(value)
    return Measure(inner.value, inner.unit or unit, noun)


@lru_cache(maxsize=4096)
def unit_of(words: str, power: str) -> tuple[str, tuple[str, ...]]:
    """Return the unit that words name, in pint's spelling, or else the noun."""
    known = load_answer_words().units
    spelled = re.sub(r"\b(sq|cu)(?:uare|bic)?\b\.?\s+([a-z]+)", lambda m: f"{m[2]}{'2' if m[1] == 'sq' else '3'}", words)
    tokens = re.findall(r"[a-zµ%¢]+|/|\d", re.sub(r"(?<=[a-z\d])\s(?:per|an?)\s(?=[a-z])", "/", spelled))
    units = [f"**{t}" if t.isdigit() else t if t == "/" else known.get(t) or known.get(t.removesuffix("s")) for t in tokens]
    if units and units[0] not in ("/", None) and None not in units:
        return "".join(f" {unit}" if unit and unit[0].isalpha() else str(unit) for unit in units).strip() + (
            f"**{power}" if power else ""
        ), ()
    return "", () if re.search(r"\bunits?\b", words) else content(words)


EXACT = {
    ("degree", "radian"): "\\pi/180",
    ("radian", "degree"): "180/\\pi",
    ("cent", "dollar"): "1/100",
    ("dollar", "cent"): "100",
}


@lru_cache(maxsize=1024)
def conversion(unit: str, other: str) -> str:
    """Return one unit in terms of another, or an empty text if they measure different things."""
    try:
        exact = "1" if unit == other else EXACT.get((unit, other))
        return exact or str(Fraction(pint.Quantity(1.0, unit).to(other).magnitude).limit_denominator(10**7))
    except (pint.errors.PintError, AttributeError, TypeError, ValueError, ZeroDivisionError):
        return ""
