"""Mathematical tasks: whether a text gives something and asks for something mathematical."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from magpie.cleaning.leaks import PRESENTS, bare, rules
from magpie.cleaning.sentences import Text, read_text
from magpie.text.latex import MATH


class Task(IntEnum):
    """Certainty that a text sets a mathematical task."""

    NONE = 0
    DOUBTFUL = 1
    CERTAIN = 2


@lru_cache(maxsize=1)
def task_of(text: str) -> tuple[Task, str]:
    """Return how certain it is that a text sets a mathematical task, and the reason to drop it if it sets none.

    The reason is empty if the text asks for nothing at all: that is another defect.
    """
    problem = read_text(text)
    asking = [words for words in map(bare, problem.sentences) if rules().asks(words) and not PRESENTS.search(words)]
    if _CODE.search(problem.formulas.masked) or any(rules().programming.search(words) for words in asking):
        return Task.NONE, "not_math"
    if not asking:
        return Task.NONE, ""
    if all(_talks(words, problem) for words in asking):
        return Task.NONE, "no_task"
    asked = max(map(_asks_for, asking))
    if asked is Task.NONE:
        if not problem.formulas.any:
            return Task.NONE, "not_math"
        asked = Task.DOUBTFUL
    given = _gives(problem, asked)
    if given is Task.NONE or asked is given is Task.DOUBTFUL:
        return Task.NONE, "no_task"
    return min(asked, given), ""


def _talks(words: str, problem: Text) -> bool:
    """Return whether a sentence asks for a text or a talk about mathematics, or about something that is not there."""
    if rules().writing.search(words):
        return MATH not in words and not _QUANTITY.search(words)
    told = _COUNTED.sub(" ", problem.formulas.masked)
    if problem.formulas.any or _SIGNS.search(told) or _NUMBER.search(told):
        return False
    if absent := _ABSENT.search(words):
        return not re.search(rf"\b(?:an?|every|each|all|any)\s(?:[\w-]{{1,20}}\s){{0,3}}{absent[1]}", told, re.IGNORECASE)
    return bool(rules().talk.search(words) or (_ADVICE.search(words) and not rules().kinds["proof"].search(words)))


def _asks_for(words: str) -> Task:
    """Return how certain it is that a sentence that asks for something asks for something mathematical."""
    words = _COUNTED.sub(" ", words)
    clear = (
        "?" in words
        or _CLAUSE.search(words)
        or rules().left_blank.search(words)
        or any(kind.match(words) for kind in rules().kinds.values())
    )
    if _ARITHMETIC.match(words):
        return Task.CERTAIN
    if MATH in words or _SIGNS.search(words) or rules().quantities.search(words) or rules().kinds["proof"].search(words):
        return Task.CERTAIN if clear else Task.DOUBTFUL
    if clear and (rules().notions.search(words) or _COMPUTES.search(words)):
        return Task.DOUBTFUL if _ADVICE.search(words) else Task.CERTAIN
    definite = _DEFINITE.search(words) or _WANTED.search(words) or rules().kinds["closed"].match(words)
    return Task.DOUBTFUL if definite and not _ADVICE.search(words) else Task.NONE


def _gives(problem: Text, asked: Task) -> Task:
    """Return how certain it is that a text gives the data of a task: formulas, numbers, notions of mathematics, a story."""
    asking = [rules().asks(bare(sentence)) for sentence in problem.sentences]
    pairs = list(zip(problem.sentences, asking, strict=True))
    words = " ".join(_COUNTED.sub(" ", sentence.masked) if asks else sentence.masked for sentence, asks in pairs)
    if MATH in words or _SIGNS.search(words):
        return Task.CERTAIN
    numbers = len(_NUMBER.findall(words))
    held = numbers + len({notion.lower()[:STEM] for notion in rules().notions.findall(words)})
    if held > 2 and (numbers or asked is Task.CERTAIN):
        return Task.CERTAIN
    if asked is Task.CERTAIN and _DETERMINED.search(problem.formulas.masked) and _TURNS.search(problem.formulas.masked):
        return Task.DOUBTFUL
    told = asked is Task.CERTAIN and sum(len(sentence.masked) for sentence, asks in pairs if not asks) >= FEWEST_TOLD
    claimed = held and rules().kinds["proof"].search(words)
    return Task.DOUBTFUL if numbers or held == 2 or told or claimed else Task.NONE


STEM = 6
"""Characters that distinguish notions: derivative and derivatives, geometry and geometric are one."""
FEWEST_TOLD = 120
"""Characters of a story that may be data without a number or a notion, if what it asks for is certainly mathematical."""
_CLAUSE = re.compile(
    r"[,;:]\s(?:then\s|please\s)?(?:find|compute|calculate|evaluate|determine|solve|prove|show|express|what|how)\b"
    r"|\b(?:what (?:is|are)|what the|how (?:many|much|long|far|old)|which of)\b|^(?:can|could) you\b",
    re.IGNORECASE,
)
"""A question or an imperative inside a sentence."""
_COMPUTES = re.compile(
    r"\b(?:compute|calculate|evaluate|solve|simplify|factori[sz]e|factor|integrate|differentiate|determine)\b",
    re.IGNORECASE,
)
_ARITHMETIC = re.compile(
    r"(?:round|convert|divide|multiply|add|subtract|reduce|express|write|estimate)\s"
    r"(?:the (?:number|fraction|decimal|product|sum)s?\s|(?:it )?to the nearest [\w-]+(?: \w+)?:?\s)?[-−$(]{0,2}\d",
    re.IGNORECASE,
)
"""A request for arithmetic with a number in it."""
_WANTED = re.compile(r"\bto (?:compute|calculate|find|determine|evaluate)\s.{0,200}\d", re.IGNORECASE)
"""A wish to compute something, followed by numbers."""
_ADVICE = re.compile(
    r"^how (?:can|could|do|does|should|would) (?:i|you|we|one|people)\b(?! (?:\w+ )?(?:prove|show) that)"
    r"|\bwhat (?:is|are) (?:the|some) (?:\w+ ){0,2}(?:steps?|ways?|tips|advantages|benefits|approach|strategy)\b",
    re.IGNORECASE,
)
"""A question for advice."""
_DEFINITE = re.compile(
    r"\b(?:what|which)\s(?!(?:should|can|could|do|else|kind|means|to|i|you|we|they|it|this|that)\b)"
    r"|\bwho\b.{0,40}\b(?:most|more|least|less|first|last|fastest|oldest|youngest|wins?)\b"
    r"|\b(?:when|where)\s(?:does|do|did|will|is|are|was|were)\b|^(?:is|are|does|do|must)\b",
    re.IGNORECASE,
)
"""A question for one thing."""
_SIGNS = re.compile(
    r"(?:[\w)…]|\.{3})\s?[=<>^≤≥≡+*/×÷∑√π∈]\s?[\w(|−-]|\d\s?[-−]\s?\d|\d!|\b[a-zA-Z]\(\w\)|\w\(\d+\)|√|\\[a-zA-Z]{2,}"
)
_NUMBER = re.compile(
    r"\d+(?!-?D\b)|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand|million|half|"
    r"third|fourth|quarter|fifth|eighth|twice|thrice|double|triple|dozen)\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten)\s(?:\w+\s)?(?:steps?|sentences?|words?|questions?|problems?|examples?|"
    r"ideas?|paragraphs?|tips?)\b|\b(?:in|of)\s(?:\d+|one|two|three|four|five)\s(?:lines?|pages?)\b|\b(?:question|problem|exercise|grade|step|chapter|line|lesson)s?\s\d+",
    re.IGNORECASE,
)
"""Numbers that say how much to write: not data."""
_ABSENT = re.compile(
    r"\b(?:the|this|that|following|given|these)\s(equation|function|expression|series|sequence|polynomial|matrix|system|integral|"
    r"inequality|data ?set|event)\b(?!\s(?:of|that|which|whose|for|with|to|in|when|where|has|have)\b)",
    re.IGNORECASE,
)
"""An object about which nothing can be found unless it is given."""
_QUANTITY = re.compile(r"\bhow (?:many|much|old|long|far)\b|\bprobability that\b", re.IGNORECASE)
_DETERMINED = re.compile(
    r"\b(?:regular|equilateral|(?:penta|hexa|hepta|octa|nona|deca|dodeca)gon|(?:tetra|octa|dodeca|icosa)hedron|square|cube|"
    r"(?:chess|checker)board|letters of|deck|dice|die|coin|clock|compass|two|three|four|five|six|seven|eight|nine|ten|"
    r"twelve)\b",
    re.IGNORECASE,
)
"""What brings its numbers with it."""
_TURNS = re.compile(
    r"\b(?:degrees?|angles?|rotat\w{1,4}|turn(?:s|ed)?|diagonals?|edges?|faces?|vertices|symmetr\w{1,4}|regions?|parts|"
    r"probability|how many (?:ways|times|minutes)|many ways|number of ways|intersect\w{0,5})\b",
    re.IGNORECASE,
)
"""What is asked of such a thing."""
BLANK = re.compile(r"\\underline\{|\$\s?\\q?quad|\\\(\s?\\q?quad|\\_\s?\\_|_{3,}")
"""A blank to be filled in."""
_CODE = re.compile(
    r"```|\bdef \w{1,60}\(|#include\b|\bpublic (?:static|class)\b|\bconsole\.log\b|\bSELECT\b.{1,200}\bFROM\b|</\w{1,20}>"
    r"|^import \w|\bprint\(",
    re.MULTILINE,
)
