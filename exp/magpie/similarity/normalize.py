"""A problem's text as it is compared: its tokens in one writing, whatever the layout, LaTeX or Unicode they came in.

`read` brings `$…$` and `\\(…\\)`, `\\dfrac{1}{2}`, `½`, `1/2`, `0.5` and "one half" to one form, drops what only introduces a
problem or says how to answer, and sorts what is left into numbers, symbols and words. What it knows of words and symbols is
in `configs/likeness.yaml`. Everything is linear in the text's length; of a very long text only the beginning is read, and
the rest counts by its hash.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from magpie.similarity.lexicon import stem, tables
from magpie.similarity.tokenizer import pieces_of

LIMIT = 20_000
"""Characters that are read. A problem has hundreds, the longest of OlympiadBench 4,000."""

_SUPERSCRIPTS = str.maketrans(dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True)))
_SUBSCRIPTS = str.maketrans(dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢ", "0123456789+-ni", strict=True)))
_RAISED = re.compile(f"[{''.join(map(chr, _SUPERSCRIPTS))}]+")
_LOWERED = re.compile(f"[{''.join(map(chr, _SUBSCRIPTS))}]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_COMMAND = re.compile(r"\\(operatorname\*|[a-zA-Z]+|.)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end) ?\{[a-zA-Z*]{1,30}\} ?(?:\{[lcr| ]{0,40}\})?")
_THIN_SPACE = re.compile(r"(?<=\d)(?:\\[,;:! ]|\{,\})(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(r"(?<![\d.,(\[{|])(?<![\d.,(\[{|] )\d{1,3}(?:,\d{3})+(?![\d,])(?!\.?[)\]}|])")
_CAPITALS = re.compile(r"(?<![^\W_])[A-Z]{2,5}(?![^\W_])")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-+(?=[^\W_])|(?<=[^\W_])-+(?=[^\W\d_]{2})|(?<=\w)--+(?=\w)| -+ (?=[a-z]{2})")
_DIGITS = re.compile(r"\d+")
_SMALL = frozenset(["2", "3", "4"])
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_FORMULA_END = re.compile(r"(\$|\\\)|\\\])[ \t]+(?=(?:[A-Z][a-z]+|I)[ ,])")
_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({-])")
_SENTENCE_END = re.compile(r"(?<=[.?!:])\s+|\n+")
_MATHS = re.compile(r"[\d\\=^<>+{}_$]")


@dataclass(frozen=True)
class Reading:
    """What of a problem is compared.

    `key`: all that counts, in order, without spaces; `text`: the same to read. `runs`: its formulas; `figures`: the numbers
    that stand alone, in order; `letters`: the variables that stand alone; `symbols`: operators and functions in the formulas.
    `numbers`: how often each number stands anywhere;
    `soft`: numbers that a rewording may bring or lose ("first", "one"); `spelled`: small ones that stand there in words only
    ("the two cars"). `words`: stems of the words that say something.
    """

    key: str
    text: str
    runs: Counter[str]
    figures: tuple[str, ...]
    letters: Counter[str]
    symbols: frozenset[str]
    numbers: Counter[str]
    soft: frozenset[str]
    spelled: frozenset[str]
    words: Counter[str]


@lru_cache(maxsize=65_536)
def read(text: str) -> Reading:
    """Return what of a problem's text is compared."""
    plain = _plain(text[:LIMIT])
    digits = frozenset(_DIGITS.findall(plain))
    tokens = pieces_of(_problem_alone(plain))
    if len(tokens) < 3:
        tokens = pieces_of(plain)
    if len(text) > LIMIT:
        tokens.append("rest" + hashlib.blake2b(text[LIMIT:].encode("utf-8", "replace"), digest_size=16).hexdigest())
    return _sorted(tokens, digits)


# --- layout -------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Return the text in lower case with LaTeX commands and Unicode symbols in plain characters."""
    known = tables()
    text = _FORMULA_END.sub(r"\1\n", _THIN_SPACE.sub("", text))
    text = _POWER.sub("^", text).replace("**", "")
    text = _RAISED.sub(lambda found: "^{" + found[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda found: "_{" + found[0].translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]).replace("⁄", "/") + " ", text)
    text = text.translate(known.characters)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(_spelled(c) if ord(c) > 127 else c for c in text)
    text = _ENVIRONMENT.sub(" ", text).replace("{}", "")
    text = _COMMAND.sub(lambda found: _command(found[1], known.commands), text)
    if not text.isupper():
        text = _CAPITALS.sub(lambda found: " ".join(found[0]), text)
    text = text.replace("%", " percent ").replace("$", " ").replace("~", " ").replace("&", " ").lower()
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    text = known.phrases.sub(lambda found: known.config.phrases[found[0]], text)
    return _HYPHEN.sub(" ", text)


def _spelled(character: str) -> str:
    """Return a character outside ASCII as it counts: Greek letters by name, marks and odd spaces not at all."""
    category = unicodedata.category(character)
    if category in ("Cf", "Zs", "Cc"):
        return " " if category != "Cf" else ""
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " LETTER " in name:
        return f" {name.split(' LETTER ')[1].split()[-1].lower()} ".replace(" lamda ", " lambda ")
    return character


def _command(name: str, commands: dict[str, str]) -> str:
    if name in commands:
        symbol = commands[name]
        return f"\\{symbol} " if symbol in ("frac", "binom", "choose") else f" {symbol} "
    if name in ("(", ")", "[", "]") or not name.isalnum():
        return " "  # delimiters of formulas, spacing, line ends, set braces, a dollar
    return f" {name} "


def _problem_alone(plain: str) -> str:
    """Return the text without what introduces the problem and what says how to write the answer."""
    known = tables()
    for _ in range(3):
        found = known.introductions.match(plain)
        if not found or not found.end():
            break
        plain = plain[found.end() :]
    plain = known.formats.sub(" ", plain)
    sentences = [sentence for sentence in _SENTENCE_END.split(plain) if sentence.strip()]
    first, last = 0, len(sentences)
    while last - first > 1 and _is_chatter(sentences[first]):
        first += 1
    while last - first > 1 and _is_chatter(sentences[last - 1]):
        last -= 1
    plain = "\n".join(sentences[first:last])
    found = known.introductions.match(plain)
    return plain[found.end() :] if found else plain


def _is_chatter(sentence: str) -> bool:
    """Whether a sentence speaks only of asking and answering."""
    return (
        len(sentence) < 200 and not _MATHS.search(sentence) and all(word in tables().meta for word in _WORD.findall(sentence))
    )


# --- what the tokens are ------------------------------------------------------------------------------------------


def _is_variable(tokens: list[str], at: int) -> bool:
    """Whether a single letter is a variable: `a` and `i` only beside a number or an operator."""
    if tokens[at] not in ("A", "I"):
        return True
    near = tokens[max(at - 1, 0) : at] + tokens[at + 1 : at + 2]
    return any(piece in ("+", "-", "^", "=", "/", "<", ">", "<=", ">=") for piece in near) or (
        at > 0 and tokens[at - 1].isdigit() and tokens[at] == "I"
    )


def _kind(pieces: list[str], at: int) -> str:
    piece, known = pieces[at], tables()
    if piece in (",", "in"):
        return "stop"
    if piece[0] == "~":
        return "soft"
    if piece[0].isdigit():
        return "number"
    if piece in known.names or not piece[0].isalpha():
        return "symbol"
    if piece.isupper():
        return "variable" if _is_variable(pieces, at) else "stop"
    return "stop" if piece.partition("'")[0] in known.neutral else "word"


def _labelled(pieces: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, piece): words as stems, variables in lower case; stops are what formulas end at, and count for nothing."""
    known = tables()
    for at, piece in enumerate(pieces):
        kind = _kind(pieces, at)
        if kind == "word":
            root = piece if piece in known.unstemmed else stem(piece)
            yield kind, known.synonyms.get(piece) or known.synonyms.get(root) or root
        else:
            yield kind, piece.lower()


def _runs(labelled: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Yield the stretches of numbers, symbols and variables."""
    run: list[str] = []
    for kind, piece in [*labelled, ("stop", "")]:
        if kind in ("number", "symbol", "variable"):
            run.append(piece)
        elif run:
            yield [part for part in run if part not in "()"] if run.count("(") != run.count(")") else run
            run = []


def _sorted(pieces: list[str], digits: frozenset[str]) -> Reading:
    labelled = list(_labelled(pieces))
    counted = [piece for kind, piece in labelled if kind != "stop"]
    numbers = Counter(piece for kind, piece in labelled if kind == "number")
    runs, figures, letters = Counter[str](), [], Counter[str]()
    for run in _runs(labelled):
        if all(piece[0].isdigit() for piece in run):
            figures += run
        elif len(run) == 1 and run[0].isalpha():
            letters.update(run)
        elif any(piece.isalnum() for piece in run):
            runs[_compact(run)] += 1
    return Reading(
        key=_compact(counted),
        text=" ".join(counted),
        runs=runs,
        figures=tuple(figures),
        letters=letters,
        symbols=frozenset(piece for kind, piece in labelled if kind == "symbol"),
        numbers=numbers,
        soft=frozenset(piece[1:] for kind, piece in labelled if kind == "soft"),
        spelled=frozenset(number for number in numbers if number in _SMALL and number not in digits),
        words=Counter(piece for kind, piece in labelled if kind == "word"),
    )


def _compact(tokens: Iterable[str]) -> str:
    """Return the tokens without spaces, except between two numbers."""
    parts: list[str] = []
    for piece in tokens:
        if parts and parts[-1][-1].isdigit() and piece[0].isdigit():
            parts.append(" ")
        parts.append(piece)
    return "".join(parts)
