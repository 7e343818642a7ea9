r"""Formulas in a text: `$…$`, `$$…$$`, `\(…\)`, `\[…\]`, environments and `[asy]` drawings; except a `$` for money.

One pass with a state machine, so that the time is linear in the length of any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

MATH = "\ue000"
"""Stands for a character of a formula in a masked text (a private-use character)."""
MOST_TOKENS = 400
"""Maximum delimiters and commands in one formula."""
_DELIMITER = re.compile(r"\\[()\[\]]|\$\$|\$|\[/?asy\]|\\(?:begin|end)\{([A-Za-z]{1,20}\*?)\}|\\[\\$]|\n[ \t]*\n")
_CLOSERS = {r"\(": r"\)", r"\[": r"\]", "$": "$", "$$": "$$", "[asy]": "[/asy]"}
_FIRST_CHOICE = re.compile(r"\\(?:textbf|text|mathbf|mathrm|bf)\s?\{\s?\(A\)")
_UNKNOWN_AMOUNT = re.compile(r"[A-Za-z](?:[,.;)]|\s[a-z]{2})")
_WORDS = re.compile(r"(?<![\\A-Za-z{])[a-z]{3,}")
_TEXT_ARGUMENT = re.compile(r"\\(?:text|mathrm|operatorname|mbox|textbf|textit)\s{0,2}\{[^{}]{0,200}\}")


@dataclass(frozen=True)
class Formula:
    """A formula: where it starts and ends with its delimiters, the opening one, the content."""

    start: int
    end: int
    opener: str
    content: str

    @property
    def environment(self) -> str:
        """The name of its environment, or an empty text."""
        return self.opener[7:-1] if self.opener.startswith("\\begin") else ""


@dataclass(frozen=True)
class Formulas:
    """The formulas of a text in order, none inside another; `open_at` is where one was left open, or -1."""

    text: str
    found: list[Formula]
    open_at: int

    def outside(self) -> list[str]:
        """Return the text before, between and after the formulas: one piece more than formulas."""
        starts, ends = [each.start for each in self.found], [each.end for each in self.found]
        return [self.text[start:end] for start, end in zip([0, *ends], [*starts, len(self.text)], strict=True)]

    @property
    def any(self) -> bool:
        """True if there is a formula."""
        return bool(self.found)

    @cached_property
    def masked(self) -> str:
        """Return the text with MATH for each of the formulas' characters; a full stop at the end and a choice (A) stay."""
        first, *others = self.outside()
        masks = [_mask(each) for each in self.found]
        return first + "".join(mask + other for mask, other in zip(masks, others, strict=True))


def find_formulas(text: str) -> Formulas:
    """Find the formulas of a text."""
    marks = list(_DELIMITER.finditer(text))
    found: list[Formula] = []
    i, open_at = 0, -1
    last = {mark[0]: i for i, mark in enumerate(marks)}  # so that a missing end is not searched for repeatedly
    while i < len(marks):
        mark = marks[i]
        j = _closing(text, marks, i, last)
        if j is None:
            if _opens(mark) and not _is_money(text, mark) and open_at < 0:
                open_at = mark.start()
            i += 1
            continue
        found.append(Formula(mark.start(), marks[j].end(), mark[0], text[mark.end() : marks[j].start()]))
        i = j + 1
    return Formulas(text, found, open_at)


def _opens(mark: re.Match[str]) -> bool:
    opener = mark[0]
    return opener in _CLOSERS or opener.startswith(r"\begin")


def _closing(text: str, marks: list[re.Match[str]], i: int, last: dict[str, int]) -> int | None:
    """Return the index of the delimiter that closes the formula that `marks[i]` opens; None if it does not open one."""
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


def _is_prose(content: str) -> bool:
    """Return whether the text between two `$` is words between two sums of money."""
    if not content.strip():
        return True
    words = _WORDS.findall(_TEXT_ARGUMENT.sub(" ", content[:2000]))
    starts, ends = content[0].isdigit(), content[-1].isspace()
    return len(words) >= (1 if starts and ends else 3 if starts or ends else 8)


def _is_money(text: str, mark: re.Match[str]) -> bool:
    """Return whether a `$` that closes nothing is next to an amount: $5, $.25, 20$, $x in her purse."""
    before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 12]
    if mark[0] == "$" and before in (" ", "(", "") and _UNKNOWN_AMOUNT.match(after):
        return True
    return mark[0].startswith("$") and (after[:3].lstrip(" .")[:1].isdigit() or before.isdigit())


def _mask(formula: Formula) -> str:
    last = formula.content.rstrip()[-1:] or formula.opener[-1]
    mask = MATH * (formula.end - formula.start - 1) + (last if last in ".?!" else MATH)
    if not (choice := _FIRST_CHOICE.search(formula.content)):
        return mask
    at = len(formula.opener) + choice.end() - 3
    return f"{mask[:at]}(A){mask[at + 3 :]}"
