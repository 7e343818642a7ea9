"""Answers that are too dangerous to parse as mathematics: huge powers and factorials, deep nesting, programs."""

from __future__ import annotations

import re

from magpie.verification.extract import braced, trimmed

LONGEST, DEEPEST = 1500, 15
"""Maximum characters and nested brackets of an answer that is parsed as mathematics."""
MOST_DIGITS, LARGEST_EXPONENT, LARGEST_FACTORIAL = 400, 10_000, 5_000

DIGITS = re.compile(r"\d+")
EXPONENT = re.compile(r"(?:\^|\*\*)\s*\{?\s*[-+(]?\s*(\d+)")
FACTORIAL = re.compile(r"(\d+)\s*!")
NESTED_FACTORIAL = re.compile(r"!\s*(?:[)}\]]|\\right){1,3}\s*!|!\s*!\s*!|(?:\d{4,}|[\^!][^()]{0,40})\)\s*!")
POWER = re.compile(r"\^|\*\*")
WIDE = re.compile(r"\\(?:sum|prod|int|iint|iiint|oint|lim|bigcup|bigcap|coprod)(?![a-zA-Z])")
CODE = re.compile(
    r"__|\\(?:input|include|write|immediate|openout|openin|read|def|catcode|usepackage|csname|loop)(?![a-zA-Z])|\blambda\b.*:|import\b"
)


def danger(text: str) -> str:
    """Return why an answer must not be parsed as mathematics, or an empty text."""
    if len(text) > LONGEST:
        return "too long"
    text = trimmed(text)
    if any(len(digits) > MOST_DIGITS for digits in DIGITS.findall(text)):
        return "too many digits"
    if _depth(text) > DEEPEST:
        return "nested too deeply"
    if CODE.search(text):
        return "not an answer but a program"
    if any(int(exponent) > LARGEST_EXPONENT for exponent in EXPONENT.findall(text)) or _tower(text):
        return "too large a power"
    if "!" in text and (NESTED_FACTORIAL.search(text) or any(int(n) > LARGEST_FACTORIAL for n in FACTORIAL.findall(text))):
        return "too large a factorial"
    return ""


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _tower(text: str) -> bool:
    """Whether a plain number is raised to a power of a power."""
    for match in POWER.finditer(text):
        at = match.end()
        while at < len(text) and text[at] == " ":
            at += 1
        end = braced(text, at) if text[at : at + 1] == "{" else at
        exponent = text[at:end] if end > at else text[at : at + 12]
        inner = POWER.search(exponent)
        if inner and re.search(r"\d", exponent[: inner.start()]) and not re.search(r"[a-zA-Z]", exponent.replace("\\cdot", "")):
            parts = [int(number) for number in DIGITS.findall(exponent)[:2]]
            if len(parts) < 2 or len(POWER.findall(exponent)) > 1 or parts[0] ** min(parts[1], 64) > LARGEST_EXPONENT:
                return True
    return False
