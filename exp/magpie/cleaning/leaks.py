"""The end of a problem: where its solution, an explanation or another problem begins, in a text split into sentences."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import cache, lru_cache

from magpie.cleaning.config import load_cleaning
from magpie.cleaning.sentences import Sentence, Text
from magpie.records.schema import ANSWER_TYPES
from magpie.text.latex import MATH


def leak_start(problem: Text) -> int | None:
    """Return where the problem's text ends and its solution, an explanation or another problem begins; None: nowhere.

    What certainly begins a solution or repeats the text ends the problem. Any other statement after the question
    that is not a note, condition, wish or item of it ends the problem if nothing is asked after it.
    """
    asked, doubtful, level = "", None, Doubt.NONE
    repetitions, before = Repetitions(), ""
    for sentence in problem.sentences:
        words, text = bare(sentence), problem.text[sentence.start : sentence.end]
        repeats = repetitions.has(text)
        goes_on = before[-1:] not in ".?!" and (words[:1].islower() or not _WORD.search(words))
        before = text
        presents = not repeats and PRESENTS.search(words) and bool(asked)
        if presents and (_ANNOUNCES.search(asked) or not (rules().another.match(words) and _has_data(problem, sentence))):
            asked, doubtful, level = words, None, Doubt.NONE
            continue
        if (sentence.start and STEP_HEADING.match(sentence.masked)) or (asked and _begins_another(words, asked)):
            doubt = Doubt.CERTAIN
        elif not asked:
            asked = words if rules().asks(words) or PRESENTS.search(words) else ""
            continue
        elif repeats:
            doubt = Doubt.CERTAIN
        else:
            doubt = Doubt.NONE if goes_on or DRAWN.match(text) else rules().doubt(sentence, asked)
        if doubt is Doubt.CERTAIN:
            return sentence.start if doubtful is None else doubtful
        if rules().asks_clearly(words) or (max(level, doubt) < Doubt.SOLVES and rules().asks_too(words)):
            asked, doubtful, level = words, None, Doubt.NONE
        elif doubt > level and not (doubt is Doubt.STATES and _awaits_data(asked, problem, sentence)):
            doubtful, level = sentence.start if doubtful is None else doubtful, doubt
    return doubtful


class Repetitions:
    """The sentences of a text that were read so far, independent of their layout."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def has(self, sentence: str) -> bool:
        """Return whether a sentence was said before, and remember it."""
        said = _LAYOUT.sub("", sentence)
        first = next(iter(self._seen), said)
        fewest = FEWEST_REPEATED // 2 if said == first or said.endswith("?") else FEWEST_REPEATED
        found = said in self._seen and len(said) >= fewest
        self._seen[said] = None
        return found


_LAYOUT = re.compile(r"\\[()\[\]]|[$*#\s]")
FEWEST_REPEATED = 20
"""Minimum characters of a sentence that counts as repeated; shorter ones are choices, items, cells. Half as many are enough for
a question and for the first sentence."""


def _begins_another(words: str, asked: str) -> bool:
    return bool(rules().another.match(words)) and not _ANNOUNCES.search(asked)


def _awaits_data(asked: str, problem: Text, sentence: Sentence) -> bool:
    """Return whether what is asked for had no data yet: "Find the number of ways to dress. There are three hats and …"."""
    return rules().bids(asked) and not _has_data(problem, sentence)


def _has_data(problem: Text, sentence: Sentence) -> bool:
    """Return whether a number or a formula precedes a sentence."""
    return bool(_DATA.search(problem.formulas.masked, 0, sentence.start))


class Doubt(IntEnum):
    """Certainty that a sentence after the question is not part of the problem."""

    NONE = 0
    STATES = 1
    SOLVES = 2
    CERTAIN = 3


def bare(sentence: Sentence) -> str:
    """Return a sentence without the marks before its first word."""
    return sentence.masked.lstrip("*_#>\"'“(【[ -")


class Rules:
    """Patterns built from the words in configs/cleaning.yaml. Each is linear: no repetition inside a repetition."""

    def __init__(self) -> None:
        config = load_cleaning()
        closed, proof, open_ = (_either(getattr(config.asking, kind)) for kind in ANSWER_TYPES)
        verbs = f"(?:{closed}|{proof}|{open_})"
        headings = _either(config.problem_headings)
        presented = r"(?:[\w'’-]{1,20}[,!]?\s){1,7}(?:problem|question|exercise|puzzle|task)(?:\sfor you)?\s?\d{0,3}[*_]{0,2}:"
        self.heading = _compiled(
            rf"[*_#\s]{{0,8}}(?:(?:{headings})\s{{0,2}}(?:\d{{1,3}})?\s?(?:[*_]{{0,2}}[:.)][*_]{{0,2}}|[*_]{{1,2}}\s?\n|\n)"
            rf"|{presented})[*_\s]*"
        )
        self.notions = _compiled(rf"\b(?:{_either(config.mathematics)})s?\b")
        self.quantities = _compiled(rf"\b(?:{_either(config.quantities)})s?\b")
        self.talk = _compiled(rf"\b(?:{_either(config.talk)})\b")
        self.writing = _compiled(rf"\b(?:{_either(config.writing)})s?\b")
        self.programming = _compiled(rf"(?<!\w)(?:{_either(config.programming)})(?!\w)")
        self.another = _compiled(rf"(?:{headings})\s{{0,2}}(?:\d{{1,3}}\s?[:.)]|\d{{0,3}}\s?[*_]{{0,2}}(?::|$))|{presented}$")
        request = _compiled(_asking(verbs))
        self._has_request = lru_cache(maxsize=256)(lambda words: bool(request.search(words)))
        self._asks_first = _compiled(
            rf"(?:(?:please|also|then|finally|hence|and|additionally|furthermore),?\s)?(?:{closed}|{proof})\b(?!')"
        )
        self._blank = _compiled(
            r"_{2,}|\\(?:underline|qquad|boxed)|\(\s?\)|^which\b|\bwhich (?:of|one|number)\b"
            rf"|\(A\)|{_LEFT_BLANK}|^(?:can|could|would|will)\s(?:you|someone|anyone)\b"
            r"|\bhow (?:many|much|far|long|fast|old|tall|large|big|often)\b|\bwhat (?:is|are|was|were|will|would|must|can)\b"
            r"|\b(?:help with|i need help|i want to know|i(?:'m| am) (?:curious|wondering)|i wonder|the question is)\b"
            r"|\btrue or false\b"
        )
        self.left_blank = _compiled(_LEFT_BLANK)
        self.kinds = {
            kind: _compiled(_asking(f"(?:{verbs_of})"))
            for kind, verbs_of in zip(ANSWER_TYPES, (closed, proof, open_), strict=True)
        }
        self._interjection = _compiled(rf"(?:{_either(config.interjections)})\b(?:\s\w+){{0,3}}\s?[,!.…:—–-]")
        self._answer_heading = _compiled(
            rf"(?:{_either(config.answer_headings)})\s{{0,2}}#?\d{{0,2}}\s?[*_]{{0,2}}(?:[:.](?!\d)|\)|\s*\n|\s*$|—|–)"
        )
        self._we = _compiled(
            r"(?:^|\W)(?:let's|let us|let me|allow me|i'll|i will|i would|i'd|we'll|we will|we've|we're"
            rf"|we\s(?:\w+ly\s|also\s|first\s|now\s|then\s|still\s)?(?!(?:{_either(config.we_state)})\b)[a-z]+)\b"
        )
        self._ordinal = _compiled(r"(?:first(?:ly)?|to begin with|step\s(?:\d|one))\b[,:\s]")
        self._keeps = _compiled(rf"(?:{_either(config.still_problem)})\b")
        self._announces = _compiled(rf"(?:{_either(config.announces)})\b")

    def asks(self, words: str) -> bool:
        """Return whether a sentence asks for something."""
        return self.asks_too(words) or bool(self._blank.search(words))

    def asks_too(self, words: str) -> bool:
        """Return whether a sentence after the question asks for something more; a blank to fill in is not a sign of that."""
        return "?" in words or self._has_request(words)

    def asks_clearly(self, words: str) -> bool:
        """Return whether a sentence is a question or begins with a verb that asks, as no step of a solution does."""
        return words.endswith("?") or self.asks_first(words) or bool(_QUESTION.match(words))

    def asks_first(self, words: str) -> bool:
        """Return whether a sentence begins with a verb that asks."""
        return bool(self._asks_first.match(words))

    def bids(self, words: str) -> bool:
        """Return whether a sentence begins with a verb that asks for something other than a proof."""
        return self.asks_first(words) and not self.kinds["proof"].search(words)

    def belongs(self, words: str) -> bool:
        """Return whether a sentence begins like a note, a condition or a wish of the problem."""
        return bool(self._keeps.match(words))

    def opens_solution(self, sentence: Sentence) -> bool:
        """Return whether the first sentence of a text begins a solution rather than a problem."""
        words = bare(sentence)
        if self._interjection.match(words) or self._answer_heading.match(words) or _TAKES_UP.match(words):
            return True
        return bool(self._announces.match(words) or self._ordinal.match(words))

    def doubt(self, sentence: Sentence, asked: str) -> Doubt:
        """Return how certain it is that a sentence after the one that `asked` is no longer part of the problem."""
        words = bare(sentence)
        awaits = AWAITS.search(asked) or PRESENTS.search(asked)
        if _REMARK.match(sentence.masked):
            return Doubt.NONE
        if self._interjection.match(words) or self._answer_heading.match(words) or _SHORT_ANSWER.match(words):
            return Doubt.CERTAIN
        if _CHOSEN.match(words) or _COUNTER.fullmatch(sentence.masked):
            return Doubt.CERTAIN
        if _POINTS.search(words):
            return Doubt.NONE
        if words.endswith("?") or awaits:
            return Doubt.NONE
        if self._announces.match(words) or _CONDITION_SOLVES.match(words) or _ABOUT.search(words):
            return Doubt.SOLVES
        if self.belongs(words):
            return Doubt.NONE
        if (
            self._ordinal.match(words)
            or self._we.search(words)
            or _RULE.match(sentence.masked)
            or (_FIRST_ITEM.match(sentence.masked) and asked[-1:] in ".?!")
        ):
            return Doubt.SOLVES
        return Doubt.NONE if _ITEM.match(sentence.masked) else Doubt.STATES


_LEFT_BLANK = r"\b(?:is|are|equals?|equal to|(?:is|are) (?:called|known as)(?: an?| the)?)(?:\s?(?:[:…]|\.{2,4})|\s\.)?$"
"""The end of a statement that is to be completed."""
_QUESTION = re.compile(r"(?:what (?:is|are|was|were)|how (?:many|much|long|far|old))\b", re.IGNORECASE)
_DATA = re.compile(rf"[\d{MATH}]")
_SHORT_ANSWER = re.compile(r"a(?:ns)?:\s(?!.{0,200}\bb:)", re.IGNORECASE | re.DOTALL)
_CHOSEN = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s)?the\s(?:(?:correct|right|best|final|only)\s)?(?:answer|option|choice)\s"
    r"(?:is|would be)\b",
    re.IGNORECASE,
)
"""What names the answer, also after choices."""
_COUNTER = re.compile(r"#\d{1,3}")
_POINTS = re.compile(
    r"\b(?:the|this)\s(?:\w+\s)?(?:figure|diagram|picture|grid|graph|table|array|chart|image)\s"
    r"(?:below|above|shown|shows|to the right|is an? (?:example|illustration))\b",
    re.IGNORECASE,
)
"""A sentence that points at a drawing belongs to the problem."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_REMARK = re.compile(r"\((?!(?:the )?(?:answer|solution)).*\)[.\s]*$", re.IGNORECASE | re.DOTALL)
"""Parentheses belong to the question before them."""
_ITEM = re.compile(rf"[*\-•\s]{{0,4}}[(\[]?(?:[A-Ja-j]|\d{{1,2}}|[ivx]{{1,4}})[.)\]][\s{MATH}].{{0,120}}$|[|*•-]", re.DOTALL)
"""A choice, an item of a list or a row of a table."""
_TAKES_UP = re.compile(
    r"the (?:problem|question|task)\s(?:is|asks|wants|requires|involves|gives|states|says|provides)\b"
    r"|(?:so,?\s)?we(?:'re|\sare)?\s(?:asked|told|tasked|looking|trying)\b|(?:so,?\swe|so,?\si|we)\s(?:need|have|must)\s(?:to\s)?"
    r"|let's|let us|in this (?:section|lesson|chapter|tutorial|article|video|course)\b"
    r"|to\s\w[^.?]{0,200}\b(?:we|you)\s(?:first\s)?(?:use|can|need|must|should|apply|start|begin|have|will|multiply|divide)\b",
    re.IGNORECASE,
)
"""How a solution restates the problem that it solves."""
_ANNOUNCES = re.compile(r"\b(?:problem|question|exercise|puzzle|help|it)\b|:$|\bfollowing\b", re.IGNORECASE)
_FIRST_ITEM = re.compile(r"1[.)]\s")
_RULE = re.compile(r"```|(?:[-_=]\s?|\*\s?){3,}$")
_ABOUT = re.compile(r"\b(?:this|the above)\s(?:\w+\s)?(?:problem|question|exercise)\s(?!statement|set)[a-z]+", re.IGNORECASE)
"""What talks about the problem is not part of it."""
STEP_HEADING = re.compile(r"[#*>][#*>\s]{0,6}step\s{0,2}\d", re.IGNORECASE)
DRAWN = re.compile(r"\[/?[a-z]{3,5}\]|(?:\$\$?|\\\[)?\s?\\(?:begin\{|(?:text(?:bf)?|math(?:rm|bf))\{\s?\(?A)|\|")
"""A drawing, a table, an array, choices set as a formula: part of the question before it."""
_CONDITION_SOLVES = re.compile(
    r"(?:given|if|since|when|suppose|assuming|considering|for|a|an|two)\b.{0,600}?\bwe\s(?:\w+ly\s|first\s|now\s)?"
    r"(?:need to|can|start|begin|proceed|have|will|must|use|apply|analyze|know|see|get|obtain|find|note)\b",
    re.IGNORECASE | re.DOTALL,
)
"""A sentence that repeats the problem's conditions and goes on to solve it."""
AWAITS = re.compile(r":$|\b(?:following|below)\b[^:]{0,200}$")
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
