"""Normalisation of a problem's text: a canonical token sequence, independent of markup.

`normalize` maps `$…$` and `\\(…\\)`, `\\dfrac{1}{2}`, `½`, `1/2`, `0.5` and "one half" to one form, drops introductions and
answer instructions, and sorts the rest into numbers, symbols and words. The words and symbols are in `configs/likeness.yaml`.
Everything is linear in the text's length; of a very long text only the beginning is parsed, and the rest enters as a hash.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from magpie.similarity.formula_values import as_equation, functions_of, value_of
from magpie.similarity.framing import strip_framing, without_options
from magpie.similarity.letters import GREEK, VARIABLE, letter_of, mark_variables
from magpie.similarity.lexicon import lexicon, stem
from magpie.similarity.persons import persons_of
from magpie.similarity.tokenizer import tokenize

MAX_CHARACTERS = 20_000
"""Maximum characters parsed. A problem has hundreds, the longest of OlympiadBench 4,000."""

_SUPERSCRIPTS = str.maketrans(dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True)))
_SUBSCRIPTS = str.maketrans(dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢ", "0123456789+-ni", strict=True)))
_RAISED = re.compile(f"[{''.join(map(chr, _SUPERSCRIPTS))}]+")
_LOWERED = re.compile(f"[{''.join(map(chr, _SUBSCRIPTS))}]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_COMMAND = re.compile(r"\\(operatorname\*|[a-zA-Z]+|.)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end) ?\{[a-zA-Z*]{1,30}\} ?(?:\{[lcr| ]{0,40}\})?")
_THIN_SPACE = re.compile(r"(?<=\d)(?:\\[,;:! ]|\{,\})(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(r"(?<![\d.,(\[{|])(?<![\d.,(\[{|] )\d{1,3}(?:,\d{3})+(?![\d,])(?!\.?[)\]}|])")
_MATRIX = re.compile(r"\\begin ?\{([pbvV]?matrix|array)\}((?:(?!\\(?:begin|end)).){0,2000})\\end ?\{\1\}", re.DOTALL)
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-+(?=[^\W_])|(?<=[^\W_])-+(?=[^\W\d_]{2})|(?<=\w)--+(?=\w)| -+ (?=[a-z]{2})")
_LETTER_HYPHEN = re.compile(rf"(?<=[{VARIABLE}]) ?-(?=[a-z]{{2}})")
_CHOOSE = re.compile(rf"\(? ?(\d{{1,9}}|[{VARIABLE}]) +choose +(\d{{1,9}}|[{VARIABLE}]) ?\)?")
_DEGREES = re.compile(r"\^ ?\{? ?degree ?\}?")
_BULLET = re.compile(r"^[ \t]{0,8}[-*•] +(?=[A-Za-z]{2})", re.MULTILINE)
_CENTS = re.compile(r"(?<![\d.,])(\d{1,6}) ?(?:cents?\b|¢)")
_GREEK = re.compile(rf"(?<![^\W_])(?:{'|'.join(GREEK)})(?![^\W_])")
_SIGN = re.compile(rf"(?<=[$,a-z]) {{0,6}}([{VARIABLE}]) {{0,2}}(>=|>|<) {{0,2}}0(?= {{0,6}}(?:[$,a-z]|\.(?!\d)))")
_SIGNS = {">": "positive", "<": "negative", ">=": "nonnegative"}
_DIGITS = re.compile(r"\d+")
_SMALL = frozenset(["2", "3", "4"])
_FORMULA_END = re.compile(r"(\$|\\\)|\\\])[ \t]+(?=(?:[A-Z][a-z]+|I)[ ,])")
_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({-])")


ROOT = stem("root")
NAMED_BY_LETTER = frozenset(map(stem, ("axis", "axes", "intercept", "coordinate", "plane", "direction", "score", "value")))
"""Things named by a letter: the x-axis is not the y-axis, whatever the letters of the formula are."""
_OF_FORMULAS = frozenset(["number", "symbol", "variable"])


@dataclass(frozen=True)
class Reading:
    """A text with formulas as values: the relevant tokens in order, and the values with their counts."""

    sequence: tuple[tuple[str, str], ...]
    values: Counter[str]


@dataclass(frozen=True)
class NormalizedProblem:
    """A problem's form for comparison with others.

    Attributes:
        key: all content tokens in order, without spaces: equal keys are the same problem.
        text: the same without words that carry little, separated by spaces.
        sequence: (kind, token) of what may not differ between near copies, in order; variables as characters of VARIABLE.
        formulas: runs of numbers, symbols and variables, without spaces, with their counts.
        lone_numbers: numbers outside formulas, in order.
        lone_variables: variables outside formulas, with their counts.
        symbols: operators and functions.
        numbers: all numbers, with their counts.
        optional_numbers: numbers that a paraphrase may add or omit ("first", "one").
        spelled_numbers: small numbers that occur in words only ("the two cars").
        words: stems of the content words, with their counts.
        tokens: (kind, token) of all tokens.
        called: variables that are functions.
        persons: stems of the names of persons.
    """

    key: str
    text: str
    sequence: tuple[tuple[str, str], ...]
    formulas: Counter[str]
    lone_numbers: tuple[str, ...]
    lone_variables: Counter[str]
    symbols: frozenset[str]
    numbers: Counter[str]
    optional_numbers: frozenset[str]
    spelled_numbers: frozenset[str]
    words: Counter[str]
    tokens: tuple[tuple[str, str], ...]
    called: frozenset[str]
    persons: frozenset[str] = frozenset()

    @cached_property
    def by_value(self) -> Reading:
        """The text with its formulas as their values, variables by their names."""
        return _reading(self, ranked=False)

    @cached_property
    def by_value_ranked(self) -> Reading:
        """The same with variables by the order of their first use."""
        return _reading(self, ranked=True)


def normalize(text: str) -> NormalizedProblem:
    """Return the normalised form of a problem's text."""
    plain = _plain_text(without_options(text[:MAX_CHARACTERS]))
    digits = frozenset(_DIGITS.findall(plain))
    tokens = tokenize(strip_framing(plain))
    if len(tokens) < 3:
        tokens = tokenize(plain)
    if len(text) > MAX_CHARACTERS:
        tokens.append("rest" + hashlib.blake2b(text[MAX_CHARACTERS:].encode("utf-8", "replace"), digest_size=16).hexdigest())
    return replace(_classify(tokens, digits, functions_of(plain)), persons=persons_of(text[:MAX_CHARACTERS]))


# --- markup -------------------------------------------------------------------------------------------------------


def _plain_text(text: str) -> str:
    """Return the text in lower case with LaTeX commands and Unicode symbols in plain characters."""
    known = lexicon()
    text = _FORMULA_END.sub(r"\1\n", _THIN_SPACE.sub("", text))
    text = _POWER.sub("^", _BULLET.sub("", text)).replace("**", "")
    text = _RAISED.sub(lambda found: "^{" + found[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda found: "_{" + found[0].translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]).replace("⁄", "/") + " ", text)
    text = text.translate(known.characters)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(_ascii_name(c) if ord(c) > 127 else c for c in text)
    text = _MATRIX.sub(_tuple, text)
    text = _ENVIRONMENT.sub(" ", mark_variables(text)).replace("{}", "")
    text = _COMMAND.sub(lambda found: _command(found[1], known.commands), text)
    text = _GREEK.sub(lambda found: f" {GREEK[found[0]]} ", text)
    text = _SIGN.sub(lambda found: f" {_SIGNS[found[2]]} {found[1]} ", text)
    text = _CENTS.sub(lambda found: f"{int(found[1]) / 100:.2f} dollar", text)
    text = text.replace("%", " percent ").replace("$", " ").replace("~", " ").replace("&", " ").lower()
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    text = known.phrases.sub(lambda found: known.config.phrases[found[0]], text)
    text = _CHOOSE.sub(r" \\binom{\1}{\2} ", _DEGREES.sub(" degree ", text))
    return _HYPHEN.sub(" ", _LETTER_HYPHEN.sub(" ", text))


def _tuple(found: re.Match[str]) -> str:
    """Return a matrix as its entries in round brackets: a column and a tuple are written for the same vector."""
    entries = found[2].replace("&", " , ").replace("\\\\", " , ")
    if found[1] == "array":  # its brackets are written around it
        return re.sub(r"^ ?\{[lcr| ]{0,40}\}", " ", entries)
    return f"({entries})" if found[1][0] in "pb" else f"|{entries}|" if found[1][0] in "vV" else f" {entries} "


def _ascii_name(character: str) -> str:
    """Return the replacement of a character outside ASCII: the name of a Greek letter, a space or nothing for odd spaces."""
    category = unicodedata.category(character)
    if category in ("Cf", "Zs", "Cc"):
        return " " if category != "Cf" else ""
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " LETTER " in name:
        return f" \\{name.split(' LETTER ')[1].split()[-1].lower()} ".replace("lamda ", "lambda ")
    return character


def _command(name: str, commands: dict[str, str]) -> str:
    if name in commands:
        symbol = commands[name]
        return f"\\{symbol} " if symbol in ("frac", "binom", "choose") else f" {symbol} "
    if name in ("(", ")", "[", "]") or not name.isalnum():
        return " "  # formula delimiters, spacing, line ends, set braces, a dollar
    return f" {name} "


# --- kinds of tokens ----------------------------------------------------------------------------------------------


def _kind(token: str) -> str:
    known = lexicon()
    if token in (",", "in"):
        return "stop"
    if token[0] == "~":
        return "optional"
    if token[0].isdigit():
        return "number"
    if token in known.names or not token[0].isalpha():
        return "symbol"
    if token in VARIABLE:
        return "variable"
    word = token.partition("'")[0]
    return "light" if word in known.telling else "stop" if word in known.neutral or stem(word) in known.asking else "word"


def _with_kinds(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, token): words as stems, variables in lower case; a stop ends a formula and is not compared."""
    known = lexicon()
    for token in tokens:
        kind = _kind(token)
        if kind in ("word", "light"):
            root = token if token in known.unstemmed else stem(token)
            yield kind, known.synonyms.get(token) or known.synonyms.get(root) or root
        else:
            yield kind, token


def _formulas(with_kinds: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Yield the formulas: maximal runs of numbers, symbols and variables."""
    formula: list[str] = []
    for kind, token in [*with_kinds, ("stop", "")]:
        if kind in _OF_FORMULAS:
            formula.append(token)
        elif formula:
            yield [token for token in formula if token not in "()"] if formula.count("(") != formula.count(")") else formula
            formula = []


def _classify(tokens: list[str], digits: frozenset[str], called: frozenset[str]) -> NormalizedProblem:
    with_kinds = list(_with_kinds(tokens))
    content = [token for kind, token in with_kinds if kind != "stop"]
    numbers = Counter(token for kind, token in with_kinds if kind == "number")
    formulas, lone_numbers, lone_variables = Counter[str](), [], Counter[str]()
    for formula in _formulas(with_kinds):
        if all(token[0].isdigit() for token in formula):
            lone_numbers += formula
        elif len(formula) == 1 and formula[0].isalpha():
            lone_variables.update([_letters(formula[0])])
        elif any(token.isalnum() for token in formula):
            formulas[_compact(formula)] += 1
    return NormalizedProblem(
        key=_compact(content),
        text=" ".join(_letters(token) for kind, token in with_kinds if kind not in ("stop", "light")),
        sequence=_sequence(with_kinds),
        formulas=formulas,
        lone_numbers=tuple(lone_numbers),
        lone_variables=lone_variables,
        symbols=frozenset(token for kind, token in with_kinds if kind == "symbol"),
        numbers=numbers,
        optional_numbers=frozenset(token[1:] for kind, token in with_kinds if kind == "optional"),
        spelled_numbers=frozenset(number for number in numbers if number in _SMALL and number not in digits),
        words=Counter(token for kind, token in with_kinds if kind == "word"),
        tokens=tuple(with_kinds),
        called=called,
    )


def _reading(problem: NormalizedProblem, *, ranked: bool) -> Reading:
    """Return a text with each formula that has a value as one token."""
    variables = dict.fromkeys(token for kind, token in problem.tokens if kind == "variable")
    names = {variable: str(at) if ranked else variable for at, variable in enumerate(variables)}
    counts = Counter(token for kind, token in problem.tokens if kind == "variable")
    rooted = problem.words[ROOT] == 1  # the roots of an expression are the solutions of an equation
    found: list[tuple[str, str]] = []
    values = Counter[str]()
    run: list[tuple[str, str]] = []
    for kind, token in [*problem.tokens, ("stop", "")]:
        if kind in _OF_FORMULAS:
            run.append((kind, token))
            continue
        if run and run[0][1] in problem.called and counts[run[0][1]] == 1 and ("symbol", "=") in run[:5]:
            del run[: run.index(("symbol", "=")) + 1]  # a name that is not used
        value = value_of([part for _, part in run], names, problem.called) if run else None
        if value is not None:
            value = as_equation(value) if rooted else value
            values[value] += 1
            found.append(("formula", value))
        elif len(run) == len(counts) == 1 and run[0][0] == "variable":
            pass  # "solve for x" says no more than "solve"
        else:
            found += [(part, names.get(name, name)) for part, name in run]
        run = []
        if kind != "stop" and not (rooted and token == ROOT):
            found.append((kind, token))
    return Reading(tuple(found), values)


def _sequence(with_kinds: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the relevant tokens in order, without brackets around a list.

    A text's only variable counts only in formulas: "solve for x" says no more than "solve", but the x-axis is not the y-axis.
    """
    single = len({token for kind, token in with_kinds if kind == "variable"}) == 1
    around = [("stop", ""), *with_kinds, ("stop", "")]
    found: list[tuple[str, str]] = []
    opened = -1
    for at, (kind, token) in enumerate(with_kinds, 1):
        beside = {around[at - 1][0], around[at + 1][0]}
        lone = kind == "variable" and not beside & _OF_FORMULAS and around[at + 1][1] not in NAMED_BY_LETTER
        if kind == "stop" or (lone and single and letter_of(token) not in "ei"):
            continue
        found.append((kind, token))
        if token == "(":
            opened = len(found) - 1
        elif token == ")" and opened >= 0:
            del found[-1], found[opened]
            opened = -1
        elif kind not in ("number", "variable"):
            opened = -1
    return tuple(found)


def _letters(token: str) -> str:
    """Return a token with letters for variables."""
    return letter_of(token) if token in VARIABLE else token


def _compact(tokens: Iterable[str]) -> str:
    """Return the tokens without spaces, except between two numbers."""
    parts: list[str] = []
    for token in tokens:
        if parts and parts[-1][-1].isdigit() and token[0].isdigit():
            parts.append(" ")
        parts.append(_letters(token))
    return "".join(parts)
