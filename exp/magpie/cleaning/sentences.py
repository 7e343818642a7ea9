"""Sentences of a problem's text with its formulas masked, so that cleaning never cuts into a formula."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from magpie.text.latex import Formulas, find_formulas

_ENDS = re.compile(
    r"[.?!][\"'”’)\]}*_]{0,4}(?=[ \t]*\n|\s*$|\s+[\"'“‘(\[*_#]{0,4}[A-Z0-9\ue000\\【\u4e00-\u9fff])"
    r"|[?!][*_]{0,2}(?=[A-Z][a-z]{0,15}\b)"
    r"|(?<=[a-z\d)\]\ue000])[ \t](?=(?:To|We|Let's|Let us|Given|First,|Certainly[!,.]|Sure[!,.]|Since)[ ])"
    r"|\n[ \t]*\n|\n(?=[ \t]*(?:[-*#>]|\d{1,2}[.)]|\(?[a-zA-Z][.)]|[A-Z]))"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:i\.?e|e\.?g|etc|vs|cf|resp|viz|dr|mrs?|ms|st|prof|fig|figs|eq|eqs|no|nos|approx|thm|def|prop|ch|sec|p|pp"
    r"|rs|jr|sr|inc|ft|lbs?|oz|hrs?|sq|a\.m|p\.m|u\.s|w\.r\.t|w\.l\.o\.g)\.$",
    re.IGNORECASE,
)


_NUMBER = re.compile(r"\s*\(?(?:\d{1,2}|[a-zA-Z])\.")
"""The number of a list item, which is not a sentence by itself."""


@dataclass(frozen=True)
class Sentence:
    """A sentence: its offsets in the text, and its masked words."""

    start: int
    end: int
    masked: str


@dataclass(frozen=True)
class Text:
    """A text with its formulas and sentences."""

    text: str
    formulas: Formulas
    sentences: list[Sentence]


@lru_cache(maxsize=1)
def read_text(text: str) -> Text:
    """Return a text's formulas and sentences; the last result is cached, for a text that is read twice."""
    formulas = find_formulas(text)
    return Text(text, formulas, split_sentences(formulas.masked))


def split_sentences(masked: str) -> list[Sentence]:
    """Split a masked text into sentences and items of lists; white space belongs to none."""
    sentences: list[Sentence] = []
    start = 0
    for mark in _ENDS.finditer(masked):
        if mark[0].startswith(".") and _ABBREVIATION.search(masked[max(start, mark.start() - 8) : mark.start() + 1]):
            continue
        if _NUMBER.fullmatch(masked, start, mark.end()):
            continue
        _add(sentences, masked, start, mark.end())
        start = mark.end()
    _add(sentences, masked, start, len(masked))
    return sentences


def _add(sentences: list[Sentence], masked: str, start: int, end: int) -> None:
    piece = masked[start:end]
    stripped = piece.strip()
    if stripped:
        begin = start + len(piece) - len(piece.lstrip())
        sentences.append(Sentence(begin, begin + len(stripped), stripped))
