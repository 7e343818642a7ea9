"""Sentences and formulas of a problem's text, so that cleaning never cuts into a formula.

One pass with a state machine, so that the time is linear in the length of any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MATH = "\ue000"
"""Stands for a character of a formula in a masked text (a private-use character)."""
_DELIMITER = re.compile(r"\\[()\[\]]|\$\$|\$|\[/?asy\]|\\(?:begin|end)\{([A-Za-z]{1,20}\*?)\}|\\[\\$]|\n[ \t]*\n")
_CLOSERS = {r"\(": r"\)", r"\[": r"\]", "$": "$", "$$": "$$", "[asy]": "[/asy]"}
_WORDS = re.compile(r"(?<![\\A-Za-z{])[a-z]{3,}")
_TEXT_ARGUMENT = re.compile(r"\\(?:text|mathrm|operatorname|mbox|textbf|textit)\s{0,2}\{[^{}]{0,200}\}")
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
"""The number of a list item, which is no sentence by itself."""


@dataclass(frozen=True)
class Sentence:
    """A sentence: its offsets in the text, and its masked words."""

    start: int
    end: int
    masked: str


@dataclass(frozen=True)
class Formulas:
    """Formulas of a text: `masked` has MATH for each of their characters; `open_at` is where one was left open, or -1."""

    masked: str
    open_at: int

    @property
    def any(self) -> bool:
        """True if there is a formula."""
        return MATH in self.masked


def find_formulas(text: str) -> Formulas:
    """Mask the content of `$…$`, `$$…$$`, `\\(…\\)`, `\\[…\\]` and environments; a `$` that means money stays."""
    marks = list(_DELIMITER.finditer(text))
    pieces: list[str] = []
    at, i, open_at = 0, 0, -1
    closers = _last_places(marks)
    while i < len(marks):
        mark = marks[i]
        j = _closing(text, marks, i, closers)
        if j is None:
            if _opens(mark) and not _is_money(text, mark) and open_at < 0:
                open_at = mark.start()
            i += 1
            continue
        start, end = mark.start(), marks[j].end()
        pieces += [text[at:start], _mask(text, start, marks[j].start(), end)]
        at, i = end, j + 1
    pieces.append(text[at:])
    return Formulas("".join(pieces), open_at)


def _opens(mark: re.Match[str]) -> bool:
    opener = mark[0]
    return opener in _CLOSERS or opener.startswith(r"\begin")


def _last_places(marks: list[re.Match[str]]) -> dict[str, int]:
    """Return each delimiter's last index, so that a formula without an end is not searched for to the end every time."""
    return {mark[0]: i for i, mark in enumerate(marks)}


def _closing(text: str, marks: list[re.Match[str]], i: int, last: dict[str, int]) -> int | None:
    """Return the index of the delimiter that closes the formula that `marks[i]` opens; None if it opens none."""
    opener = marks[i][0]
    if not _opens(marks[i]):
        return None
    closer = _CLOSERS.get(opener) or opener.replace("begin", "end", 1)
    if last.get(closer, -1) <= i:
        return None
    for j in range(i + 1, min(len(marks), i + MOST_TOKENS)):
        other = marks[j][0]
        if other == closer:
            single = opener == "$"
            return None if single and _is_prose(text[marks[i].end() : marks[j].start()]) else j
        if opener == "$" and not other.strip():
            return None  # no inline formula spans an empty line
        if opener in (r"\(", r"\[") and other == opener:
            return None
    return None


MOST_TOKENS = 400
"""Maximum delimiters and commands in one formula."""


def _is_prose(content: str) -> bool:
    """Return whether the text between two `$` is rather words between two sums of money."""
    if not content.strip():
        return True
    words = _WORDS.findall(_TEXT_ARGUMENT.sub(" ", content[:2000]))
    starts, ends = content[0].isdigit(), content[-1].isspace()
    return len(words) >= (1 if starts and ends else 3 if starts or ends else 8)


def _is_money(text: str, mark: re.Match[str]) -> bool:
    """Return whether a `$` that closes nothing is next to an amount: $5, $.25, 20$."""
    before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 3].lstrip(" .")
    return mark[0].startswith("$") and (after[:1].isdigit() or before.isdigit())


def _mask(text: str, start: int, content_end: int, end: int) -> str:
    """Return a formula's mask; a full stop at its end stays visible."""
    last = text[start:content_end].rstrip()[-1:]
    return MATH * (end - start - 1) + (last if last in ".?!" else MATH)


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
