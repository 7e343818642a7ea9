"""Letters as symbols: variables of formulas, and points of figures.

A variable becomes one character of a range unused in mathematics, so that the article "a" and the variable a stay
distinct when the text is lower-cased, and $ax$ is two variables but "ax" a tool.
"""

from __future__ import annotations

import re

from magpie.similarity.lexicon import lexicon
from magpie.text.latex import find_formulas

_BASE = 0xA000
VARIABLE = "".join(chr(_BASE + ord(letter)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzαβθλ")
"""The characters of variables, for a character class."""
_IN_SPAN = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|operatorname|mbox)\*? ?\{[^{}]{2,200}\}|\\(?:begin|end) ?\{[^{}]{1,30}\}"
    r"(?:\{[lcr| ]{0,40}\})?|\\[a-zA-Z]+|[a-zA-Z]+"
)
_BLACKBOARD = re.compile(r"\\(?:mathbb|Bbb) ?\{?([A-Z])\}?")
_FIGURES = frozenset(["tabular", "center", "enumerate", "itemize", "figure", "table", "tikzpicture"])
_CAPITALS = re.compile(r"(?<![\w\\])[A-Z]{2,5}(?![^\W_])")
_CAPITAL = re.compile(
    r"(?<![\w'\\])(?:(?!Q ?\d{1,3}[.:)])[B-HJ-Z](?![a-zA-Z']|\. ?[A-Z])|"
    r"A(?![a-zA-Z']| (?!and |is |to |be |with |such |or |if )[a-z])|I(?= ?[-+=^<>]))"
)
_SMALL = re.compile(
    r"(?<![a-zA-Z'\\])[b-hj-z](?![a-zA-Z'])|(?<![a-zA-Z'\\])[ai](?= ?[-+=/^<>|!*](?![a-zA-Z]))|"
    r"(?<=[-+=/^<>*|\d])[ai](?![a-zA-Z'])|(?<=[-+=/^<>*|] )[ai](?![a-zA-Z'])|(?<=[a-z]\()[ai](?=\))|"
    r"(?<![a-zA-Z'\\])a(?=(?:,| and| or| &) ?[b-hj-z](?![a-zA-Z']))"
)
_RUN = re.compile(r"(?<![a-zA-Z'\\])[a-z]{2,3}(?![a-zA-Z'{])")
_BESIDE = re.compile(r"[-+=/^<>*|()\d√]")
_WORDS_OF_CAPITALS = frozenset(["AM", "PM", "SL", "GL", "SO", "SU", "PSL", "PGL", "GCD", "LCM", "GCF", "HCF"])


GREEK = {name: chr(_BASE + ord(letter)) for name, letter in zip(("alpha", "beta", "theta", "lambda"), "αβθλ", strict=True)}
"""Greek letters that are only used as variables."""


def letter_of(character: str) -> str:
    """Return the letter of a variable."""
    return chr(ord(character) - _BASE)


def mark_variables(text: str) -> str:
    """Return a text with each of its variables as one character of VARIABLE."""
    text = _BLACKBOARD.sub(lambda found: f" bb{found[1].lower()} ", text)
    formulas = find_formulas(text)
    first, *others = formulas.outside()
    found = [_mark_prose(first)]
    for formula, prose in zip(formulas.found, others, strict=True):
        span = text[formula.start : formula.end]
        figure = formula.opener == "[asy]" or formula.environment in _FIGURES
        found += [span if figure else _IN_SPAN.sub(_in_formula, span), _mark_prose(prose)]
    marked = "".join(found)
    known = {letter_of(c) for c in set(marked) if c in VARIABLE}
    return _RUN.sub(lambda run: _product(run, known), marked)


def _in_formula(found: re.Match[str]) -> str:
    part = found[0]
    return part if part[0] == "\\" or part in lexicon().functions or part[:2] == "bb" else _variables(part)


def _variables(letters: str) -> str:
    return "".join(f" {chr(_BASE + ord(letter))} " if letter.isascii() and letter.isalpha() else letter for letter in letters)


def _mark_prose(text: str) -> str:
    """Return prose with its variables marked: single letters, and the points of figures (ABC)."""
    if not text.isupper():
        text = _CAPITALS.sub(lambda run: run[0] if run[0] in _WORDS_OF_CAPITALS else _variables(run[0]), text)
    text = _CAPITAL.sub(lambda one: _variables(one[0]), text)
    return _SMALL.sub(lambda one: _variables(one[0]), text)


def _product(run: re.Match[str], known: set[str]) -> str:
    """Return `ab` next to an operator as two variables, if both are variables of the text."""
    beside = run.string[max(run.start() - 2, 0) : run.start()] + run.string[run.end() : run.end() + 2]
    word = run[0] in lexicon().neutral or run[0] in lexicon().names
    split = not word and set(run[0]) - {"d"} <= known and _BESIDE.search(beside)
    return _variables(run[0]) if split else run[0]
