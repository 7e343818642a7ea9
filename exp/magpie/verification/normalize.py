r"""Answers as text: what can be told from one without computer algebra.

Cheap and pure: one spelling for one thing, numbers as exact fractions, lists and intervals split into their parts, what words
and units say, and which answers are too dangerous to be read at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from magpie.verification.config import load_answer_words
from magpie.verification.extract import braced, trimmed

LONGEST, DEEPEST = 1500, 15
"""Characters and nested brackets of an answer that is still read as mathematics."""
MOST_DIGITS, LARGEST_EXPONENT, LARGEST_FACTORIAL = 400, 10_000, 5_000

CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "×": "\\times ",
        "·": "\\cdot ",
        "÷": "/",
        "π": "\\pi ",
        "∞": "\\infty ",
        "≤": "\\le ",
        "≥": "\\ge ",
        "≠": "\\ne ",
        "±": "\\pm ",
        "°": "^\\circ ",
        "∪": "\\cup ",
        "∈": "\\in ",
        "∅": "\\emptyset ",
        "²": "^2",
        "³": "^3",
        "½": "\\frac{1}{2}",
        "¼": "\\frac{1}{4}",
        "¾": "\\frac{3}{4}",
        "θ": "\\theta ",
        "≡": "\\equiv ",
        "\u00a0": " ",
        "\0": " ",
        "，": ",",
        "（": "(",
        "）": ")",
        "\t": " ",
        "\n": " ",
        "\r": " ",
        "√": "\\sqrt ",
    }
)
_TEXT = r"\\(?:text|mbox|textbf|textrm|textit|mathrm|mathbf|textnormal|operatorname|mathit|emph|hbox|textsf|mathsf|rm|bf)\*?"
TEXT = re.compile(_TEXT + r"\s{0,3}\{([^{}]*)\}")
RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:left|right|big|Big|bigg|Bigg|[bB]ig{1,2}[lrm])(?![a-zA-Z])\.?", ""),
        (r"\\(?:displaystyle|textstyle|limits|nolimits|hfill|nonumber|bf|rm|it)(?![a-zA-Z])", ""),
        (r",\s{0,3}\\!\s{0,3}|\{,\}", ","),
        (r"(?<!\\)\\[,;:!> ]|\\q?quad(?![a-zA-Z])|~|\\(?:thinspace|enspace|hspace\{[^{}]{0,20}\})", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\dbinom(?![a-zA-Z])|\\tbinom(?![a-zA-Z])", r"\\binom"),
        (r"\\(?:geqslant|geq)(?![a-zA-Z])", r"\\ge "),
        (r"\\(?:leqslant|leq)(?![a-zA-Z])", r"\\le "),
        (r"\\neq(?![a-zA-Z])", r"\\ne "),
        (r"^\s*\\(?:approx|sim)(?![a-zA-Z])", ""),
        (r"\^\s?\{?\s?" + _TEXT + r"\{(?:st|nd|rd|th)\}\s?\}?", ""),
        (_TEXT + r"\{\s?only\s?\}|(?<![a-zA-Z])(?:[Oo]nly)(?![a-zA-Z])", ""),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\varnothing(?![a-zA-Z])|\\O(?![a-zA-Z])", r"\\emptyset "),
        (r"\^\s{0,3}\{?\s{0,3}\\(?:circ|degree)\s{0,3}\}?|\\degree(?![a-zA-Z])", r"\\degrees "),
        (r"\\%|(?<=[\d}])\s{0,3}(?:percent|pct)\b", "%"),
        (r"\\\$", "$"),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\frac\s{0,3}(\d)\s{0,3}(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s{0,3}(\d)\s{0,3}\{", r"\\frac{\1}{"),
        (r"(\\frac\{-?\d{1,20}\})\s{0,3}(\d)", r"\1{\2}"),
        (r"\\sqrt\s{0,3}(\d|[a-zA-Z])(?![a-zA-Z])", r"\\sqrt{\1}"),
        (r"\s+", " "),
    )
)


@cache
def _units() -> dict[str, str]:
    return {word: names[0] for names in load_answer_words().units for word in names}


def plain(answer: str) -> str:
    r"""Return an answer in one spelling: no formula delimiters, sizes, thin spaces; all text as `\text{}`."""
    text = trimmed(answer.translate(CHARACTERS))
    for pattern, new in RULES:
        text = pattern.sub(new, text)
    whole = TEXT.fullmatch(text)
    if whole and re.search(r"\d", whole[1]):
        text = whole[1].strip()
    text = TEXT.sub(lambda m: m[1] if len(m[1]) == 1 and not m[0].startswith("\\text") else f"\\text{{{m[1]}}}", text)
    text = _without_boxes(trimmed(text))
    return load_answer_words().synonyms.get(TEXT.sub(lambda m: m[1], text).strip(" .").lower(), text)


def _without_boxes(text: str) -> str:
    while text.startswith("{") and braced(text, 0) == len(text) > 2:
        text = text[1:-1].strip()
    for _ in range(3):
        start = text.find("\\boxed{")
        end = braced(text, start + 6) if start >= 0 else -1
        if end < 0:
            break
        text = text[:start] + text[start + 7 : end - 1] + text[end:]
    return text.strip()


def key(text: str) -> str:
    """Return what two answers in one spelling share if they differ only in spaces, braces of no use, and letters of words."""
    text = TEXT.sub(lambda m: m[1].lower(), text)
    text = re.sub(r"(?<=[\^_])\{(\w)\}", r"\1", text)
    text = re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])", r"\1\0", text)
    return (
        re.sub(r"\s+", "", text).rstrip(".") if not re.fullmatch(r"[A-Za-z ,.'-]{4,}", text) else " ".join(text.lower().split())
    )


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
    """Return why an answer is not to be read as mathematics at all, or an empty text."""
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
    """Whether numbers alone are raised to a power of a power."""
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


NUMBER = re.compile(r"(?P<sign>[-+]?)\s?(?:(?P<int>\d{1,3}(?:,\d{3})+|\d+)(?P<dec>\.\d*)?|(?P<bare>\.\d+))")
FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s?(?:(?P<whole>\d{1,20})?\s?\\frac\s?\{\s?(?P<up>-?\d{1,40})\s?\}\s?\{\s?(?P<down>-?\d{1,40})\s?\}|"
    r"(?:(?P<whole2>\d{1,20})\s)?(?P<up2>\d{1,40})\s?/\s?(?P<down2>\d{1,40}))"
)


REPEATING = re.compile(r"(?P<sign>[-+]?)(?P<int>\d{0,40})\.(?P<dec>\d{0,40})\s?\\(?:overline|bar)\s?\{?(?P<loop>\d{1,40})\}?")


@dataclass(frozen=True)
class Number:
    """An exact number and, of a decimal, the digits that it gives: after the point, and significant ones."""

    value: Fraction
    decimals: int = 0
    digits: int = 0


def number(text: str) -> Number | None:
    """Return a number that is written as such: an integer, a decimal, a fraction, a mixed number."""
    text = text.strip()
    if len(text) > MOST_DIGITS:
        return None
    if match := NUMBER.fullmatch(text):
        whole, decimals = (match["int"] or "0").replace(",", ""), (match["dec"] or match["bare"] or "").strip(".")
        value = Fraction(int(whole + decimals), 10 ** len(decimals))
        digits = len((whole + decimals).lstrip("0")) if decimals else 0
        return Number(-value if match["sign"] == "-" else value, len(decimals), digits)
    if match := REPEATING.fullmatch(text):
        scale = 10 ** len(match["dec"])
        value = Fraction(int(f"{match['int']}{match['dec']}" or 0), scale)
        value += Fraction(int(match["loop"]), scale * (10 ** len(match["loop"]) - 1))
        return Number(-value if match["sign"] == "-" else value)
    match = FRACTION.fullmatch(text)
    if not match:
        return None
    up, down = int(match["up"] or match["up2"]), int(match["down"] or match["down2"])
    if not down:
        return None
    value = Fraction(up, down) + int(match["whole"] or match["whole2"] or 0)
    return Number(-value if match["sign"] == "-" else value)


OPENING, CLOSING = "([{", ")]}"


def split(text: str, separators: str = ",;") -> list[str]:
    """Split at separators that stand outside every bracket; of an interval, whose brackets differ, too."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        char = text[i]
        if char == "\\" and i + 1 < len(text) and text[i + 1] not in "{}":
            i += 2
            continue
        depth += (char in OPENING) - (char in CLOSING)
        if char in separators and depth == 0:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [part.strip() for part in (*parts, text[start:])]


AND = re.compile(
    r"\\text\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\(?:lor|vee|land|wedge)(?![a-zA-Z])"
)
LAST_COMMA = re.compile(r",\s*;|;\s*,|;\s*;")


def elements(text: str) -> list[str]:
    """Return the parts of a list: "1, 2 and 3" has three. One part: not a list."""
    text = LAST_COMMA.sub(";", AND.sub(" ; ", text))
    return [part for part in split(text) if part]


def inside(text: str) -> tuple[str, str, str] | None:
    r"""Return (opening, content, closing) of a text that one pair of brackets encloses: (…), […), \{…\}."""
    text = text.strip()
    opening = "\\{" if text.startswith("\\{") else text[:1]
    closing = "\\}" if text.endswith("\\}") else text[-1:]
    if opening not in ("(", "[", "\\{", "{") or closing not in (")", "]", "\\}", "}") or len(text) < 2:
        return None
    depth, last = 0, len(text) - 1
    for i, char in enumerate(text):
        depth += (char in OPENING) - (char in CLOSING)
        if not depth and len(opening) <= i + 1 and i < last:
            return None
    return (opening, text[len(opening) : len(text) - len(closing)].strip(), closing) if not depth else None


VECTOR = re.compile(r"\\begin\{([a-zA-Z]?matrix|array)\}(?:\{[clr|]{1,9}\})?(.*?)\\end\{\1\}", re.DOTALL)


def vector(text: str) -> str:
    """Return a row or a column of a matrix as a tuple; any other text as it is."""
    match = VECTOR.fullmatch(text.strip())
    if not match:
        return text
    rows = [row.split("&") for row in match[2].split("\\\\") if row.strip()]
    if len(rows) > 1 and any(len(row) > 1 for row in rows):
        return text
    return f"({', '.join(cell.strip() for row in rows for cell in row)})"


UNITS_END = re.compile(r"((?:\s|\\text\{[^{}]*\})+(?:\^\s?\{?\d\}?)?)$")
BARE_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}(?![a-zA-Z])")


@dataclass(frozen=True)
class Measure:
    """An answer without its unit, and the unit: a name, `%`, `degrees`, `$`, or an empty text."""

    bare: str
    unit: str


def measure(text: str) -> Measure:
    """Return an answer and its unit apart."""
    text = text.strip()
    if text.endswith("%"):
        return Measure(text[:-1].strip(), "%")
    if text.startswith(("$", "-$")) and text.count("$") == 1:
        return Measure(text.replace("$", "").strip(), "dollar")
    if "\\degrees" in text and text.endswith("\\degrees"):
        return Measure(text.removesuffix("\\degrees").strip(), "degrees")
    if (match := UNITS_END.search(text)) and match.start() and "\\text" in match[1]:
        words = "".join(TEXT.findall(match[1]))
    elif match := re.search(r"(?<=[\d}])\s?([a-zA-Z]{2,20}\.?(?: [a-zA-Z]{1,20}){0,2})(?:\^\s?\{?\d\}?)?$", text):
        words = match[1]
        if (
            words.split()[0].rstrip("s.").lower() not in _units()
            and words.lower() not in ("degrees", "degree")
            and " " not in text
        ):
            return Measure(text, "")
    else:
        return Measure(text, "")
    if _is_condition(words) or re.search(r"\d|=", words):
        return Measure(text, "")
    return Measure(text[: match.start()].strip(), unit_name(words))


def _is_condition(words: str) -> bool:
    found = words.lower().split()
    return not found or found[0] in (
        "for",
        "where",
        "with",
        "if",
        "when",
        "is",
        "are",
        "such",
        "and",
        "or",
        "mod",
        "does",
        "do",
        "has",
    )


def unit_name(words: str) -> str:
    """Return a unit's name, `degrees`, or the words in lower case if no unit is known by them."""
    first = words.lower().replace("square", "").replace("cubic", "").replace("per", "").strip(" .").split()
    if not first:
        return ""
    word = first[0].strip(".,")
    if word in ("degree", "degrees", "deg"):
        return "degrees"
    singular = word[:-1] if len(word) > 2 and word.endswith("s") else word
    return _units().get(word) or _units().get(singular) or f"?{singular}"


def is_known_unit(unit: str) -> bool:
    """Whether a unit's name is one of the configuration's."""
    return bool(unit) and not unit.startswith("?")
