"""Numbers in words: "twenty-one", "2.5 million", "two thirds", "twice", "first". The words are in `configs/likeness.yaml`."""

from __future__ import annotations

from fractions import Fraction

from magpie.similarity.config import NumberWords

MAX_WORDS = 12
"""Maximum number of words in one number: "one hundred twenty-three million four hundred fifty-six thousand" has 9."""


def replace_number_words(tokens: list[str], words: NumberWords) -> list[str]:
    """Return the tokens with number words as digits; `~2` is a number that a paraphrase may add or omit."""
    found: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        length = _length(tokens, at, words)
        if length:
            value = _value(tokens[at : at + length], words)
            found.append("~1" if tokens[at : at + length] == ["one"] else str(value))
            at += length
            continue
        at += 1
        if token in words.multiples:
            found += [str(words.multiples[token]), "times"]
        elif token in words.fractions or token in words.ordinals:
            _append_fraction(found, token, words)
        else:
            found.append(token)
    return found


def _append_fraction(found: list[str], token: str, words: NumberWords) -> None:
    """Append "thirds", "half" or "third": a fraction after a number, else an optional number."""
    before = found[-1].lstrip("~") if found else ""
    denominator = words.fractions.get(token)
    if denominator and before.isdigit():
        found[-1] = f"{before}/{denominator}"
    elif denominator:
        found.append(f"1/{denominator}" if token in ("half", "quarter") else f"~1/{denominator}")
    elif found and found[-1] == "~1" and token not in words.never_parts:
        found[-1] = f"1/{words.ordinals[token]}"
    else:
        found.append(f"~{words.ordinals[token]}")


def _length(tokens: list[str], at: int, words: NumberWords) -> int:
    """Return the length in tokens of the number that starts at `at`, or 0."""
    before, end = "", at
    while end < min(len(tokens), at + MAX_WORDS):
        kind = _kind(tokens[end], words)
        following = _kind(tokens[end + 1], words) if end + 1 < len(tokens) else ""
        fits = {
            "unit": before in ("", "ten", "scale"),
            "teen": before in ("", "scale"),
            "ten": before in ("", "scale"),
            "scale": True,
            "digits": not before and following == "scale",
            "and": before == "scale" and following in ("unit", "teen", "ten"),
        }
        if not fits.get(kind, False):
            break
        before, end = ("scale" if kind == "and" else kind), end + 1
    return end - at


def _kind(token: str, words: NumberWords) -> str:
    if token in words.units:
        return "unit" if 0 < words.units[token] < 10 else "teen"
    if token in words.tens:
        return "ten"
    if token in words.scales:
        return "scale"
    if token == "and":
        return "and"
    return "digits" if token[:1].isdigit() and "/" not in token and len(token) <= 30 else ""


def _value(tokens: list[str], words: NumberWords) -> Fraction:
    """Return the value of the tokens of one number."""
    total, current = Fraction(0), Fraction(0)
    for token in tokens:
        scale = words.scales.get(token)
        if scale and scale < 1000:
            current = (current or Fraction(1)) * scale
        elif scale:
            total, current = total + (current or Fraction(1)) * scale, Fraction(0)
        elif token != "and":
            current += words.units.get(token) or words.tens.get(token) or (Fraction(token) if token[0].isdigit() else 0)
    return total + current


def is_optional(number: str) -> bool:
    """Return True for numbers that a paraphrase may add or omit: small ones ("second", "both"), and "a third"."""
    return len(number) == 1 or number in ("10", "100") or number.startswith("1/")
