r"""Answers in one spelling, so that Math-Verify's parser can read them, and what can be told without computer algebra.

Cheap and pure: `plain` writes words as `\text{}` and formulas as LaTeX that the parser knows; numbers become exact fractions;
lists are split at the separators outside their brackets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from magpie.verification.config import load_answer_words, load_spellings
from magpie.verification.extract import braced, trimmed

FONTS = r"\\(?:text(?:bf|rm|it|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|hbox|operatorname|emph|bm|boldsymbol)\*?"
TEXT = re.compile(r"\\text\{([^{}]*)\}")
FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|gcd|lcm|max|min|det|floor|ceil|cis|exp|sqrt"
SPELLINGS = {name: [(re.compile(old), new) for old, new in rules] for name, rules in load_spellings().rules.items()}
"""Rewritings that change no meaning, by name (configs/verify/spellings.yaml)."""
CHARACTERS = str.maketrans(load_spellings().characters)
JOINED = re.compile(r"(\\text\{[^{}]*)\}(?:\s?[-']?\s?)\\text\{")
WORDS = re.compile(
    r"\\text\{[^{}]*\}|_\s?\{[^{}]*\}|\\(?:begin|end|mathbb|mathcal)\s?\{[^{}]{0,20}\}(?:\{[clr|]{1,9}\})?|\\[a-zA-Z]+|"
    r"(?<![a-zA-Z])([a-zA-Z]{2,}(?:'[a-z]{1,2}|(?:-[a-z]{2,}){1,3})?)(?![a-zA-Z(])"
)


def plain(answer: str) -> str:
    r"""Return an answer in one spelling: no formula delimiters, colours, sizes; words as `\text{}`."""
    text = answer.replace("\\$", "＄").strip()
    if text.count("$") == 1:
        text = re.sub(r"^\$(?=[\d.][\d,.]*$)|(?<=\d)\$$", "＄", text)
    text = trimmed(text.translate(CHARACTERS))
    text = re.sub(FONTS + r"\s{0,3}\{((?:[^{}]|\{[^{}]{0,40}\}){0,200})\}", _font, text)
    whole = TEXT.fullmatch(text.strip())
    text = whole[1] if whole and re.search(r"\d", whole[1]) else text
    for rules in SPELLINGS.values():
        for pattern, new in rules:
            text = pattern.sub(new, text)
    text = _words_marked(" ".join(_without_braces(trimmed(text.replace("$", "") if text.count("$") > 1 else text)).split()))
    if text.startswith("\\text{") and (found := number_in_words(text[6 : text.index("}")])):
        text = (
            f"{found[0]} \\text{{{found[1]}" + text[text.index("}") :] if found[1] else found[0] + text[text.index("}") + 1 :]
        )
    words = load_answer_words().synonyms.get(TEXT.sub(lambda m: m[1], text).strip(" .").lower())
    return words if words is not None else text


def _font(match: re.Match[str]) -> str:
    """Return what a font command holds: words as `\\text{}`; formulas and single letters bare."""
    inner, command = match[1].strip(), match[0].partition("{")[0].strip(" *")
    if command == "\\operatorname":
        return f"\\{inner} " if re.fullmatch(FUNCTIONS, inner) else f"\\text{{{inner}}}"
    if re.fullmatch(r"\([A-J]\)", inner):
        return f" {inner} "
    if command in ("\\mathbf", "\\boldsymbol", "\\bm") and inner in "ijk":
        return f"\\hat{{{inner}}}"
    if re.search(r"[\\$^_]", inner.replace("\\%", "").replace("\\ ", "")) or not re.search(r"[a-zA-Z]{2}|[a-z]\.", inner):
        return f" {inner} " if command in ("\\text", "\\mbox", "\\textbf") else f"{{{inner}}}"
    return f"\\text{{{match[1]}}}"


def _words_marked(text: str) -> str:
    r"""Return a text with its bare words as `\text{}`, neighbours joined: "5 cm long" is `5 \text{cm long}`."""
    short = load_answer_words().short_words

    def mark(match: re.Match[str]) -> str:
        word = match[1]
        name = word and word.isupper() and len(word) < 5 and word != text and word not in ("AM", "PM", "AND", "OR")
        return f"\\text{{{word}}}" if word and not name and (len(word) > 3 or word.lower() in short) else match[0]

    text = WORDS.sub(mark, text)
    if "\\text" not in text:
        return text
    text = re.sub(r"(?<![a-zA-Z\\])[aA] (?=\\text\{[a-z])", "", text)
    while (joined := JOINED.sub(r"\1 ", text)) != text:
        text = joined
    return text


def _without_braces(text: str) -> str:
    if text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1].rstrip("\\ ")
    while text.startswith("{") and braced(text, 0) == len(text) > 2:
        text = text[1:-1].strip()
    return text


def number_in_words(words: str) -> tuple[str, str] | None:
    """Return the number that a text begins with in words, as digits, and the rest: "twenty-five apples", "two thirds"."""
    values, total, current, used = load_answer_words().numbers, 0, 0, 0
    for match in re.finditer(r"[a-zA-Z]+", words):
        value = values.get(match[0].lower())
        if value is None:
            if part := used and load_answer_words().fractions.get(match[0].lower().removesuffix("s")):
                return f"\\frac{{{total + current}}}{{{part}}}", words[match.end() :].strip()
            if match[0] != "and" or not used:
                break
            continue
        if value < 100 and current % 100 and (current % 10 or value >= 10):
            return None
        current = current + value if value < 100 else max(current, 1) * value
        if value > 100:
            total, current = total + current, 0
        used = match.end()
    return (str(total + current), words[used:].strip()) if used and words[used : used + 1] != "-" else None


def key(text: str) -> str:
    """Return what two answers in one spelling share if they differ only in spaces, braces of no use, and letters of words."""
    text = TEXT.sub(lambda m: " ".join(m[1].lower().split()).replace(" ", "\1"), text)
    text = re.sub(r"(?<=[\^_])\{(\w)\}", r"\1", text)
    text = re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])", r"\1\0", text)
    return re.sub(r"\s+", "", text).rstrip(".")


NUMBER = re.compile(r"(?P<sign>[-+]?)\s?(?:(?P<int>\d{1,3}(?:,\d{3})+|\d+)(?P<dec>\.\d*)?|(?P<bare>\.\d+))")
FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s?(?:(?P<whole>\d{1,20})?\s?\\frac\s?\{\s?(?P<up>-?\d{1,40})\s?\}\s?\{\s?(?P<down>-?\d{1,40})\s?\}|"
    r"(?:(?P<whole2>\d{1,20})\s)?(?P<up2>\d{1,40})\s?/\s?(?P<down2>\d{1,40}))"
)


REPEATING = re.compile(
    r"(?P<sign>[-+]?)(?P<int>\d{0,40})\.(?P<dec>\d{0,40}?)(?:\s?\\(?:overline|bar|dot)\s?\{?(?P<loop>\d{1,40})\}?|"
    r"(?P<loop2>\d{1,6})(?P=loop2){2,}\s?(?:\\[lc]?dots|\.\.\.|…))"
)


@dataclass(frozen=True)
class Number:
    """An exact number and, of a decimal, the digits that it gives: after the point, and significant ones."""

    value: Fraction
    decimals: int = 0
    digits: int = 0


def number(text: str) -> Number | None:
    """Return a number that is written as such: an integer, a decimal, a fraction, a mixed number."""
    text = text.strip()
    if len(text) > 400:
        return None
    if match := NUMBER.fullmatch(text):
        whole, decimals = (match["int"] or "0").replace(",", ""), (match["dec"] or match["bare"] or "").strip(".")
        value = Fraction(int(whole + decimals), 10 ** len(decimals))
        digits = len((whole + decimals).lstrip("0")) if decimals else 0
        return Number(-value if match["sign"] == "-" else value, len(decimals), digits)
    if match := REPEATING.fullmatch(text):
        scale = 10 ** len(match["dec"])
        value = Fraction(int(f"{match['int']}{match['dec']}" or 0), scale)
        loop = match["loop"] or match["loop2"]
        value += Fraction(int(loop), scale * (10 ** len(loop) - 1))
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


CONNECTIVE = re.compile(r"(?:^|(?<=[\s,]))(and|or)(?=[\s,]|$)|,")
SIGN = re.compile(r"\\(lor|vee|land|wedge)(?![a-zA-Z])")
REPEATED = re.compile(r"[,;]\s*(?=[,;])|^\s*[,;]|[,;]\s*$")


def separated(text: str) -> str:
    """Return a text with "or" as a semicolon and "and" as a comma, in words too: "red and blue" are two."""

    def parted(match: re.Match[str]) -> str:
        pieces = CONNECTIVE.split(match[1])
        out = [f"\\text{{{pieces[0].strip()}}}"]
        for sign, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            out.append((" ; " if sign == "or" else " , ") + f"\\text{{{piece.strip()}}}")
        return "".join(out).replace("\\text{}", "")

    if " or" in text or "and" in text or "," in text:
        text = TEXT.sub(lambda m: parted(m) if CONNECTIVE.search(m[1]) else m[0], text)
    text = SIGN.sub(lambda m: ";" if m[1] in ("lor", "vee") else ",", text)
    if ";" in text:
        text = re.sub(r",\s*(?=;)", "", text)
    return REPEATED.sub("", text)


def elements(text: str) -> list[str]:
    """Return the parts of a list: "1, 2 and 3" has three. One part: not a list."""
    return [f"\\{part[:-1]}\\}}" if _is_braced(part) else part for part in split(separated(text)) if part]


def _is_braced(part: str) -> bool:
    return part.startswith("{") and braced(part, 0) == len(part) > 2


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
