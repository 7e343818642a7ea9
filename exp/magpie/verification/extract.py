r"""The final answer out of a response: the last `\boxed{}`, else what "the answer is" introduces, a named choice, or the
conclusion that a finished response ends with.

Every step looks at a bounded piece of text, and every pattern is linear or bounded, so no input takes long.
"""

from __future__ import annotations

import re

TAIL = 20_000
"""Characters at a response's end that are looked at: a final answer stands there."""
LONGEST = 20_000
"""Characters of an answer at most (one inside a box may fill all that is looked at)."""
LONGEST_LINE = 300
"""Characters of an answer outside a box at most."""

BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s{0,5}")
BARE_BOX = re.compile(r"-?[\w.]{1,40}|\\[a-zA-Z]{1,20}")
BETWEEN_BOXES = re.compile(
    r"(?:[\s$*.;]|\\[()\[\]]|\\quad|\\qquad|\\,)*(?:,|and|or|,\s{0,3}and|,\s{0,3}or|\\text\{\s{0,3}(?:and|or)\s{0,3}\})"
    r"(?:[\s$*]|\\[()\[\]]|\\quad|\\qquad|\\,)*(?:[a-zA-Z](?:_\{?\w\}?)?\s{0,3}=\s{0,3})?(?:[\s$])*"
)
ANSWER_IS = re.compile(
    r"\banswer(?:s|\s{0,3}\*{1,2})?(?:\s(?:to|of|for)\s[^.\n:]{0,100}?)?\s{0,3}(?::\s{0,3}\*{0,2}|\bis\b:?|\bare\b:?|\bbe\b:?|=|"
    r"\\[a-zA-Z]{1,10}row)",
    re.IGNORECASE,
)
CHOICE_IS = re.compile(
    r"\b(?:option|choice)(?:\s(?:is|are))?\s{0,3}:?\s{0,3}\*{0,2}\(?([A-J])\b\)?|\*{0,2}\(([A-J])\)\*{0,2}\s(?:is|must be)\s"
    r"(?:the\s)?(?:correct|right)",
)
CONCLUDES = re.compile(
    r"\b(?:therefore|thus|hence|so|consequently|accordingly|we conclude|in conclusion|conclusion|it follows that|finally|"
    r"this means)\b",
    re.IGNORECASE,
)
PREDICATE = re.compile(
    r"\s(?:is|are|equals|equal to|must be|be)(?=[\s:])\s?:?\s{0,3}|(?<![<>!\\])=|\s(?=there\s(?:is|are)\sno\b)"
)
DISPLAY = re.compile(r"\s{0,20}(?:\$\$(.{1,300}?)\$\$|\\\[(.{1,300}?)\\\]|\$(.{1,300}?)\$)", re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?])(?:\*{0,2})\s+(?=[A-Z\\$(*#])|\n\s{0,20}\n|\n(?=\s{0,8}(?:[-*#]|\d{1,3}\.)\s)")
HEDGES = re.compile(
    r"^(?:(?:indeed|therefore|thus|also|then|given by|equal to|exactly|simply|just|as follows)\b[\s:,]{0,3})+", re.I
)
ENDED = (".", "!", "$", ")", "]", "*", "}")


def final_answer(response: str) -> str | None:
    """Return the final answer as the response writes it, or None if it gives none."""
    tail = response.rpartition("</think>")[2][-TAIL:]
    for find in (_boxed, _introduced, _chosen, _concluded):
        answer = find(tail)
        if answer:
            return answer[:LONGEST]
    return None


def braced(text: str, at: int) -> int:
    """Return where the group that opens at `at` ends (after its brace), or -1 if it never does."""
    depth, i = 0, at
    while i < len(text):
        char = text[i]
        if char == "\\":
            i += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                return i + 1
        i += 1
    return -1


def _boxed(text: str) -> str:
    r"""Return the content of the last complete `\boxed{}`, with those that it is listed with ("\boxed{1} and \boxed{2}")."""
    boxes = [box for match in list(BOX.finditer(text))[-20:] if (box := _box(text, match))]
    if not boxes:
        return ""
    start, _, content = boxes.pop()
    contents = [content]
    while boxes and boxes[-1][1] <= start and _joined(text[boxes[-1][1] : start]):
        start, _, content = boxes.pop()
        contents.append(content)
    return ", ".join(reversed(contents))


def _joined(between: str) -> bool:
    return len(between) <= 60 and bool(BETWEEN_BOXES.fullmatch(between))


def _box(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """Return where a box starts and ends and what it holds; None if it holds nothing or was cut off."""
    at = match.end()
    if text[at : at + 1] == "{":
        end = braced(text, at)
        content = text[at + 1 : end - 1].strip() if end > 0 else ""
    else:
        bare = BARE_BOX.match(text, at)
        end, content = (bare.end(), bare[0]) if bare else (-1, "")
    return (match.start(), end, content) if content else None


def _introduced(text: str) -> str:
    """Return what the last "the answer is" introduces: the rest of its line, or the formula that follows it."""
    matches = list(ANSWER_IS.finditer(text))
    for match in reversed(matches[-5:]):
        rest = text[match.end() : match.end() + 2 * LONGEST_LINE]
        if answer := _formula_or_line(rest):
            return answer
    return ""


def _formula_or_line(rest: str) -> str:
    display = DISPLAY.match(rest)
    line = rest.lstrip(" *:").partition("\n")[0]
    if display and (not line.strip() or not _goes_on(rest[display.end() :])):
        return trimmed(next(group for group in display.groups() if group))
    return trimmed(_first_sentence(line if line.strip() else rest.lstrip()[:LONGEST_LINE].partition("\n")[0]))


def _goes_on(rest: str) -> bool:
    """Whether a sentence goes on after a formula, other than to say where it holds."""
    return bool(re.match(r"\s{0,3}(?:,\s{0,3}\$|,?\s{0,3}(?:and|or|%|[a-z°])\b)", rest))


def _first_sentence(line: str) -> str:
    return re.split(r"(?<=[^\d\s])[.!](?:\s|$)|(?<=\d)\.(?:\s|$)", line[:LONGEST_LINE], maxsplit=1)[0]


def _chosen(text: str) -> str:
    """Return the letter of a choice that is named as the right one."""
    matches = list(CHOICE_IS.finditer(text[-2000:]))
    return next((group for group in matches[-1].groups() if group), "") if matches else ""


def _concluded(text: str) -> str:
    """Return the predicate of the concluding sentence that a finished response ends with."""
    text = text.rstrip()
    if not text.endswith(ENDED):
        return ""
    sentence = SENTENCE_END.split(text[-1500:])[-1].strip()
    if len(sentence) > 600 or not CONCLUDES.search(sentence):
        return ""
    pieces = PREDICATE.split(sentence.replace("\n", " "))
    if len(pieces) < 2:
        return ""
    answer = trimmed(HEDGES.sub("", pieces[-1]))
    return answer if len(answer) <= LONGEST_LINE else ""


def trimmed(text: str) -> str:
    """Return a text without the marks around it: emphasis, formula delimiters, a full stop."""
    text = text.strip()
    while text != (shorter := _shorter(text)):
        text = shorter
    return text


def _shorter(text: str) -> str:
    text = text.strip().rstrip(".,;").strip()
    for left, right in (("**", "**"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"), ('"', '"')):
        inner = text[len(left) : len(text) - len(right)]
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and left not in inner:
            return inner
    for mark in ("\\)", "\\]", "$$", "$", "**"):  # the other one of the pair stands before what was cut out
        opening = mark.replace(")", "(").replace("]", "[")
        if text.endswith(mark) and opening not in text[: -len(mark)]:
            return text[: -len(mark)]
        if text.startswith(opening) and mark not in text[len(opening) :]:
            return text[len(opening) :]
    return text
