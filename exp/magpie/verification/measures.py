r"""Answers with a unit, a currency, a percent sign or a noun: `12 \text{ cm}^2`, `\$5`, "3 dozen", "1 hour 30 minutes"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from magpie.verification.config import load_answer_words
from magpie.verification.normalize import number
from magpie.verification.words import content, is_wordy

SUFFIX = re.compile(
    r"^(?P<value>.*?[^\s\\{])\s*(?P<words>\\text\{[^{}]{1,80}\}(?:\s?/\s?\\text\{[^{}]{1,20}\})?)(?:\s?\^\s?\{?\s?(?P<power>-?\d)\s?\}?)?$",
    re.DOTALL,
)
LETTER = re.compile(r"^(?P<value>.*\d\}?)\s(?P<words>[mglshL](?:/[sh])?)(?:\s?\^\s?\{?\s?(?P<power>[23])\s?\}?)?$")
SIGNED = re.compile(
    r"^(?P<sign>-?)\s?(?P<unit>[＄€£¥₹])\s?(?P<value>[\d.].*)$|^(?P<value2>-?[\d.][^＄€£¥₹¢]*?)\s?(?P<unit2>[＄€£¥₹¢])$"
)
PIECE = re.compile(r"(-?[\d.]+(?:/\d+)?)\s*\\text\{\s*([^{}\d]{1,30}?)(?:,|\s+and)?\s*\}\s*(?:\\text\{\s*and\s*\}|,)?\s*")
NO_NOUN = re.compile(
    r"^(?:or|if|is|are|to|not|of|than|does|do|has|remainder|and|then|with|for|where|when|such|in|am|pm|a\.m|p\.m|at)\b|"
    r"\b(?:or (?:more|less|fewer)|remainder|to)\b|[=<>]"
)
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|cis)(?![a-z])")


@dataclass(frozen=True)
class Measure:
    """An answer's value, its unit in pint's words (empty: none known), and the noun that is counted."""

    value: str
    unit: str = ""
    noun: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def measure(text: str) -> Measure:
    """Return an answer's value apart from its unit and noun."""
    text = text.strip()
    if match := SIGNED.match(text):
        found = measure((match["value"] or match["value2"]).strip())
        unit = load_answer_words().units[match["unit"] or match["unit2"]]
        return Measure((match["sign"] or "") + found.value, unit, () if found.unit == unit else found.noun)
    for sign, unit in (("%", "percent"), ("\\degrees", "degree")):
        if (
            text.endswith(sign)
            and (value := text.removesuffix(sign).strip().removesuffix("\\"))
            and not TRIGONOMETRY.search(value)
        ):
            return Measure(value, unit)
    if compound := _compound(text):
        return compound
    match = SUFFIX.match(text) or LETTER.match(text)
    if not match or is_wordy(match["value"]):
        return Measure(text)
    words = re.sub(r"\\text\{|\}", "", match["words"]).strip(" .,").lower()
    if not words or NO_NOUN.search(words):
        return Measure(text)
    factor, words = _multiplier(words)
    value = match["value"].strip(" ,") if factor == 1 else f"({match['value'].strip()})\\cdot {factor}"
    plain_number = number(match["value"].strip())
    if factor != 1 and plain_number:
        value = str(plain_number.value * factor)
    unit, noun = unit_of(words, match["power"] or "")
    inner = measure(value) if value.endswith(("%", "\\degrees")) or value[:1] in "＄€£¥₹" else Measure(value)
    return Measure(inner.value, inner.unit or unit, noun)


def _compound(text: str) -> Measure | None:
    """Return the sum of "1 hour 30 minutes", in the last unit."""
    pieces = PIECE.findall(text)
    if len(pieces) < 2 or PIECE.sub("", text).strip():
        return None
    units = [unit_of(words.strip().lower(), "")[0] for _, words in pieces]
    factors = [conversion(unit, units[-1]) if unit and units[-1] else None for unit in units]
    if not all(factors) or len(set(units)) < len(units):
        return None
    total = sum((Fraction(n) * f for (n, _), f in zip(pieces, factors, strict=True) if f), Fraction(0))
    return Measure(str(total), units[-1])


def _multiplier(words: str) -> tuple[int, str]:
    factor, rest = 1, words.split()
    while rest and (times := load_answer_words().multipliers.get(rest[0].rstrip("s"))):
        factor, rest = factor * times, rest[1:]
    return factor, " ".join(rest).removeprefix("of ")


@lru_cache(maxsize=4096)
def unit_of(words: str, power: str) -> tuple[str, tuple[str, ...]]:
    """Return the unit that words name, as pint writes it, or else the noun that they are."""
    known = load_answer_words().units
    powers = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
    out: list[str] = []
    after = ""
    for token in re.findall(r"[a-zµ%¢]+|/|\^?\d", words):
        if token in powers and not after:
            after = powers[token]
        elif token in ("per", "/", "a") and out:
            out.append("/")
        elif token.strip("^").isdigit() and out:
            out[-1] += f"**{token.strip('^')}"
        elif unit := known.get(token) or known.get(token.removesuffix("s")):
            out.append(f"{unit}**{after}" if after else unit)
            after = ""
        else:
            noun = content(words)
            return "", () if "unit" in noun and {*noun} <= {"unit", "square", "cubic", "sq"} else noun
    unit = re.sub(r"(?<=\w) (?=\w)", "*", " ".join(out))
    return (f"{unit}**{power}" if power and unit else unit), () if unit else content(words)


@cache
def _registry() -> Any:
    import pint

    registry = pint.UnitRegistry(cache_folder=None)
    for line in (
        "dollar = [usd]",
        "cent = 0.01 dollar",
        "euro = [eur]",
        "sterling = [gbp]",
        "yen = [jpy]",
        "yuan = [cny]",
        "rupee = [inr]",
    ):
        registry.define(line)
    registry.define("percent_sign = [percent]")
    return registry


@lru_cache(maxsize=1024)
def conversion(unit: str, other: str) -> Fraction | None:
    """Return how many of another unit one unit is, or None if they measure different things."""
    if unit == other:
        return Fraction(1)
    import pint

    one, two = ("percent_sign" if u == "percent" else u for u in (unit, other))
    try:
        factor = _registry().Quantity(1.0, one).to(two).magnitude
    except (pint.errors.PintError, AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None
    exact = Fraction(factor).limit_denominator(10**7)
    return exact if abs(float(exact) - factor) <= 1e-12 * factor else Fraction(factor)
