"""The end of a problem: where its solution, an explanation or another problem begins, in a text split into sentences."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import cache

from magpie.cleaning.config import load_cleaning
from magpie.cleaning.sentences import MATH, Sentence
from magpie.records.schema import ANSWER_TYPES


def leak_start(sentences: list[Sentence]) -> int | None:
    """Return where the problem's text ends and its solution, an explanation or another problem begins; None: nowhere.

    A sentence that certainly begins a solution ends the problem. One that may begin a solution does so if nothing is asked
    after it.
    """
    asked, doubtful, level = "", None, Doubt.NONE
    for sentence in sentences:
        words = bare(sentence)
        if not asked or PRESENTS.search(words):
            asked, doubtful, level = (words if rules().asks(words) or PRESENTS.search(words) else ""), None, Doubt.NONE
            continue
        doubt = Doubt.NONE if _PARENTHESIS.match(sentence.masked) else rules().doubt(words, asked)
        if doubt is Doubt.CERTAIN:
            return sentence.start if doubtful is None else doubtful
        if rules().asks_clearly(words) or (max(level, doubt) < Doubt.SOLVES and rules().asks_too(words)):
            asked, doubtful, level = words, None, Doubt.NONE
        elif doubt > level:
            doubtful, level = sentence.start if doubtful is None else doubtful, doubt
    return doubtful


def broken_explanation_start(sentences: list[Sentence]) -> int | None:
    """Return where an explanation begins after a complete question, in a text that breaks off; None: there is none."""
    last = max((i for i, sentence in enumerate(sentences) if rules().asks_clearly(bare(sentence))), default=None)
    if last is None or last + 1 == len(sentences) or AWAITS.search(sentences[last].masked):
        return None
    if rules().belongs(bare(sentences[last + 1])):
        return None
    return None if any(rules().asks_too(bare(sentence)) for sentence in sentences[last + 2 :]) else sentences[last + 1].start


class Doubt(IntEnum):
    """Certainty that a sentence after the question is no part of the problem."""

    NONE = 0
    EXPLAINS = 1
    SOLVES = 2
    CERTAIN = 3


def bare(sentence: Sentence) -> str:
    """Return a sentence without the marks before its first word."""
    return sentence.masked.lstrip("*_#>\"'“( -")


class Rules:
    """Patterns built from the words in configs/cleaning.yaml. Each is linear: no repetition inside a repetition."""

    def __init__(self) -> None:
        config = load_cleaning()
        closed, proof, open_ = (_either(getattr(config.asking, kind)) for kind in ANSWER_TYPES)
        verbs = f"(?:{closed}|{proof}|{open_})"
        headings = _either(config.problem_headings)
        self.heading = _compiled(
            rf"[*_#\s]{{0,8}}(?:{headings})\s{{0,2}}(?:\d{{1,3}})?\s?"
            r"(?:[*_]{0,2}[:.)][*_]{0,2}|[*_]{1,2}\s?\n|\n)\s*"
        )
        self.another = _compiled(rf"(?:{headings})\s{{0,2}}(?:\d{{1,3}}\s?[:.)]|\d{{0,3}}\s?[*_]{{0,2}}:)")
        self._asks = _compiled(_asking(verbs))
        self._asks_first = _compiled(
            rf"(?:(?:please|also|then|finally|hence|and|additionally|furthermore),?\s)?(?:{closed}|{proof})\b(?!')"
        )
        self._blank = _compiled(
            r"_{2,}|\\(?:underline|qquad|boxed)|\(\s?\)|\bwhich (?:of|one|is|number)\b"
            r"|\b(?:is|are|equals?|equal to)\s?[:.…]{0,3}$"
            r"|\bhow (?:many|much|far|long|fast|old|tall|large|big|often)\b|\bwhat (?:is|are|was|were|will|would|must|can)\b"
            r"|\b(?:help with|i need help|i want to know|i(?:'m| am) (?:curious|wondering)|i wonder|the question is)\b"
        )
        self.kinds = {
            kind: _compiled(_asking(f"(?:{verbs_of})"))
            for kind, verbs_of in zip(ANSWER_TYPES, (closed, proof, open_), strict=True)
        }
        self._interjection = _compiled(rf"(?:{_either(config.interjections)})\b(?:\s\w+){{0,3}}\s?[,!.…:—–-]")
        self._answer_heading = _compiled(
            rf"(?:{_either(config.answer_headings)})\s{{0,2}}#?\d{{0,2}}\s?[*_]{{0,2}}(?:[:.](?!\d)|\)|\s*\n|\s*$|—|–)"
        )
        self._infinitive = _compiled(
            rf"(?:(?:in order|so as|now)\s)?to\s(?:\w+ly\s)?(?!(?:{_either(config.no_verbs)})\b)[a-z]{{2,}}\b"
        )
        self._we = _compiled(
            r"(?:^|\W)(?:let's|let us|let me|allow me|i'll|i will|i would|i'd|we'll|we will|we've|we're"
            rf"|we\s(?:\w+ly\s|also\s|first\s|now\s|then\s|still\s)?(?!(?:{_either(config.we_state)})\b)[a-z]+)\b"
        )
        self._ordinal = _compiled(r"(?:first(?:ly)?|to begin with|step\s(?:\d|one))\b[,:\s]")
        self._you = _compiled(
            r"\b(?:your (?:answer|response|solution|explanation|final|proof|work)|you (?:must|may|should|will|are))\b"
        )
        self._keeps = _compiled(rf"(?:{_either(config.still_problem)})\b")
        self._announces = _compiled(rf"(?:{_either(config.announces)})\b")
        self._explains = _compiled(rf"\b(?:{_either(config.explains)})\b")

    def asks(self, words: str) -> bool:
        """Return whether a sentence asks for something."""
        return bool("?" in words or self._asks.search(words) or self._blank.search(words))

    def asks_too(self, words: str) -> bool:
        """Return whether a sentence after the question asks for something more; a blank to fill in is no sign of that."""
        return bool("?" in words or self._asks.search(words))

    def asks_clearly(self, words: str) -> bool:
        """Return whether a sentence is a question or begins with a verb that asks, as no step of a solution does."""
        return words.endswith("?") or bool(self._asks_first.match(words))

    def belongs(self, words: str) -> bool:
        """Return whether a sentence begins like a note, a condition or a wish of the problem."""
        return bool(self._keeps.match(words))

    def doubt(self, words: str, asked: str) -> Doubt:
        """Return how certain it is that a sentence after the one that `asked` is no longer part of the problem."""
        awaits = AWAITS.search(asked) or PRESENTS.search(asked)
        if self._interjection.match(words) or self._answer_heading.match(words) or (self.another.match(words) and not awaits):
            return Doubt.CERTAIN
        if words.endswith("?") or awaits:
            return Doubt.NONE
        if self._infinitive.match(words) and not self._you.search(words):
            return Doubt.CERTAIN if _MAIN_CLAUSE.search(words) else Doubt.SOLVES
        if self._announces.match(words):
            return Doubt.SOLVES
        if _CONDITION_SOLVES.match(words):
            return Doubt.SOLVES
        if self.belongs(words):
            return Doubt.NONE
        if self._ordinal.match(words) or self._we.search(words):
            return Doubt.SOLVES
        concept = self.kinds["open"].search(asked) or CONCEPT.search(asked)
        states = self._explains.search(words) or (concept and _STATES.search(words))
        if states and not _USER.search(words) and not self._you.search(words):
            return Doubt.EXPLAINS
        return Doubt.NONE


_MAIN_CLAUSE = re.compile(
    r"\b(?:we|we'll|let|let's|you|i|i'll|one|first|begin|start|use|using|need|consider|recall|note|notice|follow|apply|it|this|"
    r"the (?:key|first|following))\b",
    re.IGNORECASE,
)
"""Continuations of "To solve this, …"."""
_CONDITION_SOLVES = re.compile(
    r"(?:given|if|since|when|suppose|assuming|considering|for|a|an|two)\b.{0,600}?\bwe\s(?:\w+ly\s|first\s|now\s)?"
    r"(?:need to|can|start|begin|proceed|have|will|must|use|apply|analyze|know|see|get|obtain|find|note)\b",
    re.IGNORECASE | re.DOTALL,
)
"""A sentence that repeats the problem's conditions and goes on to solve it."""
_PARENTHESIS = re.compile(r"\((?:hint|note|answer|tip)\b", re.IGNORECASE)
"""A remark that follows a problem in a textbook."""
_STATES = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|may|could|will|would|states?|says?|plays?|provides?|describes?|refers?|involves?|"
    r"allows?|asserts?|relates?|helps?|gives?|shows?|means?|forms?|serves?|makes?|uses?|occurs?|arises?|exists?|become|becomes|"
    r"lies?|comes?|includes?|consists?|follows?|tells?|ensures?|offers?|enables?|remains?|began|dates?)\b",
    re.IGNORECASE,
)
"""Verbs that make a sentence a statement; a wish or a condition beside a question about a concept has none."""
_USER = re.compile(r"\b(?:i|i'm|i've|me|my)\b", re.IGNORECASE)
AWAITS = re.compile(r":$|\bfollowing\b[^:]{0,200}$")
"""A question whose object follows in later sentences."""
PRESENTS = re.compile(
    r"\b(?:help|assist|solve)\s(?:me\s)?(?:with\s|to\s)?(?:\w+\s){0,2}(?:an?|this|the|my|some|these|it)\b[^?]{0,60}\b"
    r"(?:problems?|questions?|exercises?|puzzles?|tasks?|homework|assignment)\b[^?:]{0,40}\?$"
    r"|^(?:so\s|now\s)?here(?:'s| is| are)\s(?:the|a|an|my|one|some)\s[^.?]{0,40}\b"
    r"(?:problem|question|equation|exercise|puzzle)s?\b[^.?:]{0,40}[:.]?$",
    re.IGNORECASE,
)
"""A sentence that only announces a question that follows in later sentences."""
CONCEPT = re.compile(
    r"^(?:can|could|would|will)\s+(?:you|someone|anyone)\s(?!prove|find|determine|compute|calculate|solve|show)|\bwhy\b|"
    r"\bhow\s+(?:can|could|do|does|did|would|might|this|these|is|are|has|have|should)\b|"
    r"\bwhat\s+(?:is|are)\s+(?:the\s)?(?:significance|importance|difference|relationship|properties|concept|connection|role|"
    r"main|best)\b|\bwhat\s+(?:\w+\s)?(?:can|could|might|properties|role)\b|\binsights?\b",
    re.IGNORECASE,
)
"""A request for an explanation rather than for an answer."""


def _asking(verbs: str) -> str:
    """Return the pattern of a verb where it asks: at the beginning of a sentence or a clause, or after a wish."""
    return (
        r"(?:^|[,;:.)\]]\s{0,3}[\"“'‘]?|[*_]{1,3}|\b(?:and|then|please|also|or|but|must|should|not|help me|kindly|finally|"
        r"hence|thus|"
        r"(?:tasks?|goal|aim|job|challenge|wants?|needs?|wish|like|love|asked|required|try|trying|is|are|you|us|me|has|have|how)\sto|"
        r"additionally|furthermore|moreover|next|first|further|therefore|otherwise|instead|\w+ly)[,\s]\s{0,2}"
        rf"|[{MATH}]\s{{0,2}}|\(?[a-z\d]{{1,3}}[.)]\s{{0,3}})(?:\w+ly\s)?{verbs}\b(?!')"
    )


def _either(phrases: str | tuple[str, ...]) -> str:
    words = phrases.split(",") if isinstance(phrases, str) else phrases
    return "|".join(sorted((re.escape(" ".join(word.split())) for word in words), key=len, reverse=True))


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


@cache
def rules() -> Rules:
    """Return the patterns, compiled once."""
    return Rules()
