r"""Answers in one spelling, so that Math-Verify's parser can read them, and what can be decided without computer algebra.

Cheap and pure: `plain` writes words as `\text{}` and formulas as LaTeX that the parser knows; numbers become exact fractions;
lists are split at the separators outside their brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from magpie.verification.config import load_answer_words, load_spellings
from magpie.verification.extract import braced, trimmed

FONTS = re.compile(
    r"(\\(?:text(?:bf|rm|it|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|hbox|operatorname|emph|bm|boldsymbol))\*?"
    r"\s{0,3}\{((?:[^{}]|\{[^{}]{0,40}\}){0,200})\}"
)
TEXT = re.compile(r"\\text\{([^{}]*)\}")
FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|gcd|lcm|max|min|det|floor|ceil|cis|exp|sqrt"
SPELLINGS = load_spellings().rules
"""Rewritings that preserve the meaning, by name (configs/verify/spellings.yaml)."""
CHARACTERS = str.maketrans(load_spellings().characters)
JOINED = re.compile(r"(\\text\{[^{}]*)\}(?:\s?[-']?\s?)\\text\{")
WORDS = re.compile(
    r"\\text\{[^{}]*\}|_\s?\{[^{}]*\}|\\(?:begin|end|mathbb|mathcal)\s?\{[^{}]{0,20}\}(?:\{[clr|]{1,9}\})?|\\[a-zA-Z]+|"
    r"(?<![a-zA-Z])([a-zA-Z]{2,}(?:'[a-z]{1,2}|(?:-[a-z]{2,}){1,3})?)(?![a-zA-Z(])"
)


def rewritten(text: str, rules: Iterable[tuple[str, str]]) -> str:
    """Return a text with all patterns replaced in turn."""
    for pattern, new in rules:
        text = re.sub(pattern, new, text)
    return text


def plain(answer: str) -> str:
    r"""Return an answer in one spelling: no formula delimiters, colours, sizes; words as `\text{}`."""
    text = answer.replace("\\$", "＄").strip()
    if text.count("$") == 1:
        text = re.sub(r"^\$(?=[\d.][\d,.]*$)|(?<=\d)\$$", "＄", text)
    text = FONTS.sub(_font, trimmed(re.sub(r"(?<=\d)\s?(?:\.{3}|…)", r"\\ldots ", text.translate(CHARACTERS))))
    if (whole := TEXT.fullmatch(text.strip())) and re.search(r"\d", whole[1]):
        text = whole[1]
    for rules in SPELLINGS.values():
        text = rewritten(text, rules)
    text = trimmed(text.replace("$", "") if text.count("$") > 1 else text)
    text = text[:-1].rstrip("\\ ") if text.endswith("}") and text.count("}") > text.count("{") else text
    while text.startswith("{") and braced(text, 0) == len(text) > 2:
        text = text[1:-1].strip()
    text = _words_marked(_without_labels(" ".join(text.split())))
    if (first := re.match(r"\\text\{([^{}]+)\}", text)) and (found := number_in_words(first[1])):
        text = found[0] + (f" \\text{{{found[1]}}}" if found[1] else "") + text[first.end() :]
    return load_answer_words().synonyms.get(TEXT.sub(r"\1", text).strip(" .").lower(), text)


LABEL = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=[,;}]))(?:\\text\{\s?)?\(?(a|b|c|d|e|ii?i?|iv|v)\)[:.]?\s?\}?(?=[^,;])")
LABELS = ("abcde", "iiiiiiivv")


def _without_labels(text: str) -> str:
    """Return the answers to several parts, "(a) 3 (b) 5", as a tuple."""
    empty, *rest = LABEL.split(text) if text[:1] in "(abi\\" else [""]
    parts = [part.strip(" ,;") for part in rest[1::2]]
    if empty or len(parts) < 2 or not all(parts) or not any(names.startswith("".join(rest[::2])) for names in LABELS):
        return text
    return f"({', '.join(parts)})"


UNIT, AFTER_NUMBER = re.compile(r"~?([a-zA-Z]{1,3}(?:/[a-zA-Z]{1,3})?)\^\{?(-?\d)\}?"), re.compile(r"[\d}](?:\s|\\[,;: ]|~)*$")


def _font(match: re.Match[str]) -> str:
    """Return the content of a font command: words as `\\text{}`; formulas and single letters bare."""
    command, inner = match[1], match[2].strip()
    if command == "\\operatorname" and re.fullmatch(FUNCTIONS, inner):
        return f"\\{inner} "
    if command in ("\\mathbf", "\\boldsymbol", "\\bm") and inner in "ijk":
        return f"\\hat{{{inner}}}"
    if re.fullmatch(r"\([A-J]\)", inner):
        return f" {inner} "
    if unit := UNIT.fullmatch(inner):
        return f" \\text{{{unit[1]}}}" + (f"^{unit[2]}" if unit[2] else "")
    if inner in tuple("VWNJAKmgslhLΩ") and AFTER_NUMBER.search(match.string[max(0, match.start() - 12) : match.start()]):
        return f" \\text{{{inner}}}"
    if re.search(r"[\\$^_]", inner.replace("\\%", "").replace("\\ ", "")) or not re.search(r"[a-zA-Z]{2}|[a-z]\.", inner):
        return f" {inner} " if command in ("\\text", "\\mbox", "\\textbf") else f"{{{inner}}}"
    return f"\\text{{{match[2]}}}"


def _words_marked(text: str) -> str:
    r"""Return a text with its bare words as `\text{}`, neighbours joined: "5 cm long" is `5 \text{cm long}`."""
    short = load_answer_words().short_words

    def mark(match: re.Match[str]) -> str:
        word = match[1]
        name = (
            word
            and word.isupper()
            and len(word) < 5
            and word != text
            and word not in ("AM", "PM", "AND", "OR", "USD", "EUR", "GBP")
        )
        return f"\\text{{{word}}}" if word and not name and (len(word) > 3 or word.lower() in short) else match[0]

    text = WORDS.sub(mark, text)
    text = re.sub(r"(?<![a-zA-Z\\])[aA] (?=\\text\{(?!and\b|or\b)[a-z])", "", text)
    while (joined := JOINED.sub(r"\1 ", text)) != text:
        text = joined
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
    """Return a key shared by answers that differ only in spaces, redundant braces, and the case of words."""
    text = TEXT.sub(lambda m: " ".join(m[1].lower().split()).replace(" ", "\1"), text)
    text = re.sub(r"(?<=[\^_])\{(\w)\}", r"\1", text)
    return re.sub(r"\s+", "", re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])", r"\1\0", text)).rstrip(".")


FEWEST_DIGITS = 6
"""Significant digits from which a decimal may approximate a number that is not one."""
NUMBER = re.compile(
    r"([-+]?)\s?(?:(\d{1,20})\s(?=\d+/))?(?:(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?|(\d{1,40})\s?/\s?(-?\d{1,40}))"
    r"(?:\s?\\(?:overline|bar|dot)\s?\{?(\d{1,40})\}?)?"
)
REPEATED_DIGITS = re.compile(r"(?<=\.)(\d{0,40}?)(\d{1,6})\2{2,}\s?(?:\\[lc]?dots|\.\.\.|…)$")


@dataclass(frozen=True)
class Number:
    """An exact number and, of a decimal, its digits: after the point, and significant ones."""

    value: Fraction
    decimals: int = 0
    digits: int = 0

    def same(self, other: Number) -> bool:
        """Return whether two numbers are equal; a decimal of six or more digits may approximate a repeating fraction."""
        decimal, exact = (self, other) if self.digits >= FEWEST_DIGITS else (other, self)
        if self.value == other.value or decimal.digits < FEWEST_DIGITS or has_end(exact.value.denominator):
            return self.value == other.value
        return abs(self.value - other.value) * 10**decimal.decimals <= 1


def has_end(denominator: int) -> bool:
    """Return whether a fraction with this denominator is a terminating decimal."""
    return 10 ** denominator.bit_length() % denominator == 0


def number(text: str) -> Number | None:
    """Return a number that is written as such: an integer, a decimal, a fraction, a mixed number."""
    if len(text) > 400 or not re.search(r"\d", text):
        return None
    text = re.sub(r"\\frac\s?\{\s?(-?)(\d{1,40})\s?\}\s?\{\s?(-?\d{1,40})\s?\}", r" \1\2/\3", text).strip()
    match = NUMBER.fullmatch(REPEATED_DIGITS.sub(r"\1\\overline{\2}", re.sub(r"^-\s+(?=\d)", "-", text)))
    if not match:
        return None
    sign, mixed, whole, decimals, up, down, loop = match.groups()
    places = len(decimals or "")
    digits = (whole or "").replace(",", "") + (decimals or "")
    if up:
        value = Fraction(int(up), int(down)) if int(down) else None
    else:
        value = Fraction(int(digits or 0), 10**places) + (
            Fraction(int(loop), 10**places * (10 ** len(loop) - 1)) if loop else 0
        )
    if value is None or not (up or digits or loop) or (loop and decimals is None):
        return None
    value = (-1 if sign == "-" else 1) * (value + int(mixed or 0))
    return Number(value, places, 0 if loop or not places else len(digits.lstrip("0")))


OPENING, CLOSING = "([{", ")]}"


def _depth(char: str) -> int:
    return (char in OPENING) - (char in CLOSING)


def split(text: str, separators: str = ",;") -> list[str]:
    """Split at separators outside all brackets, including an interval's, which differ."""
    parts, depth = [""], 0
    for i, char in enumerate(text):
        escaped = text[i - 1 : i] == "\\" and char not in "{}"
        depth += 0 if escaped else _depth(char)
        if char in separators and not depth and not escaped:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


CONNECTIVE = re.compile(r"(?:(?<=\{)|(?<=[\s,]))(and|or)(?=[\s,}])|,")
REPEATED = re.compile(r"[,;]\s*(?=[,;])|^\s*[,;]|[,;]\s*$")


def separated(text: str) -> str:
    """Return a text with "or" as a semicolon and "and" as a comma, in words too: "red and blue" are two."""
    text = TEXT.sub(lambda m: CONNECTIVE.sub(lambda c: "} ; \\text{" if c[1] == "or" else "} , \\text{", m[0]), text)
    return REPEATED.sub("", re.sub(r",\s*(?=;)", "", re.sub(r"\\text\{\s*\}", "", text)))


def elements(text: str) -> list[str]:
    """Return the parts of a list: "1, 2 and 3" has three. One part: not a list."""
    parts = [part for part in split(separated(text)) if part]
    return [f"\\{part[:-1]}\\}}" if part.startswith("{") and braced(part, 0) == len(part) > 2 else part for part in parts]


def inside(text: str) -> tuple[str, str, str] | None:
    r"""Return (opening, content, closing) of a text that one pair of brackets encloses: (…), […), \{…\}."""
    match = re.fullmatch(r"(\(|\[|\\?\{)(.*?)(\)|\]|\\?\})", text.strip(), re.DOTALL)
    depths = list(accumulate(map(_depth, match[2]))) if match else []
    return (match[1], match[2].strip(), match[3]) if match and min(depths, default=0) >= 0 == [0, *depths][-1] else None


def vector(text: str) -> str:
    """Return a row or column matrix as a tuple; any other text unchanged."""
    match = re.fullmatch(r"\\begin\{([a-zA-Z]?matrix|array)\}(?:\{[clr|]{1,9}\})?(.*?)\\end\{\1\}", text.strip(), re.DOTALL)
    rows = [row.split("&") for row in match[2].split("\\\\") if row.strip()] if match else []
    return f"({', '.join(cell.strip() for row in rows for cell in row)})" if 1 in map(len, [rows, *rows]) else text


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
    r"""Return `(3,-1)` as `(3)\hat{i}+(-1)\hat{j}`; anything else unchanged."""
    kind, parts = collection(text)
    return "+".join(f"({part})\\hat{{{unit}}}" for part, unit in zip(parts, "ijk", strict=False)) if kind == "tuple" else text
