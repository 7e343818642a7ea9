"""Clean problems: cut what leaked after the problem, detect what is broken, give the reason.

A model often writes the problem, then the start of its solution, then template tokens. A text is read sentence by sentence
(`sentences.py`): once it has asked for something, a sentence that solves or explains ends the problem. Every check is a pure
function; the words that it looks for are in `configs/cleaning.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from magpie.cleaning.config import load_cleaning
from magpie.cleaning.leaks import CONCEPT, PRESENTS, STEP_HEADING, bare, leak_start, rules
from magpie.cleaning.sentences import Text, read_text
from magpie.cleaning.tasks import BLANK, Task, task_of
from magpie.domains.classifier import LEAST_CONFIDENCE, OTHER_DOMAIN
from magpie.text.language import has_english, looks_english
from magpie.text.latex import MATH, find_formulas

if TYPE_CHECKING:
    from magpie.domains.classifier import DomainTagger

TEMPLATE_TOKEN = re.compile(
    r"[|}\s]{0,4}<[!|]{0,2}[|｜][!/]?[^\W\d][\w▁ /.:-]{0,60}(?:[|｜]{0,2}[>}]|[|｜]|$)"  # <|eot_id|>, <!|begin_x|>, <|begin_of_
    r"|<[/!]{0,2}(?:begin|end|start|stop|eot|eos|bos|im|header|system|user|assistant|response|solution|answer|think|message)"
    r"(?:_\w{0,40})?(?:[|>]|$)"
    r"|\|(?:begin|end|start|stop|eot|eom|im|header|header_id|system|user|assistant)(?:_\w{1,40})?[|}>]"
    r"|</?s>|\[/?INST\]|<</?SYS>>|^(?:system|user|assistant|model)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass
class Cleaned:
    """A problem after cleaning: the problem alone, its defects, and why it is dropped (empty: it is kept)."""

    text: str
    defects: list[str] = field(default_factory=list)
    drop_reason: str = ""
    answer_type: str | None = None


def clean(raw: str, *, language: str = "en", is_other: Callable[[str], bool] | None = None) -> Cleaned:
    """Return the problem in a model's text, in time and memory linear in its length.

    Args:
        raw: the model's text.
        language: "en" drops what is clearly not English; "any" drops nothing for its language.
        is_other: tells whether a text is of no domain of mathematics (`other_sign`); called only if the rules are in doubt.
    """
    limit = load_cleaning().limits.looked_at
    text, defects = raw[:limit].strip(), []
    foreign = language != "en" and not (looks_english(raw[:4000]) and has_english(raw[:4000]))  # the lists of words are English
    for name, repair in REPAIRS.items():
        if foreign and name == "leak":
            continue
        if (repaired := repair(text)) != text:
            text = repaired
            defects.append(name)
    problem = read_text(text)
    checks = CHECKS if language == "en" else OF_ANY_LANGUAGE if foreign else OF_ENGLISH
    found = [name for name, check in checks.items() if check(problem)]
    if len(raw) > limit and not set(defects) & {"leak", "template_tokens"}:
        found = sorted({*found, "too_long"}, key=list(CHECKS).index)
    if is_other and not found and task_of(problem.text)[0] is Task.DOUBTFUL and is_other(text):
        found = ["not_math"]
    if "leak" in defects and rules().left_blank.search(problem.formulas.masked[-40:]):
        found = [name for name in found if name != "truncated"]  # a statement to be completed, and the solution behind it
    reason = found[0] if found else ""
    return Cleaned(text, defects + found, reason, None if reason or foreign else answer_type(problem))


def other_sign(tagger: DomainTagger) -> Callable[[str], bool]:
    """Return `is_other` for `clean`: the domain classifier says "other", and is not merely unsure."""

    def is_other(text: str) -> bool:
        domain, probability = tagger.tag_with_confidence([text])[0]
        return domain == OTHER_DOMAIN and probability >= LEAST_CONFIDENCE

    return is_other


# --- repairs -------------------------------------------------------------------------------------------------------------


def cut_template_tokens(text: str) -> str:
    """Return the text up to its first template token, even a malformed one; tokens at the beginning are removed."""
    while mark := TEMPLATE_TOKEN.match(text):
        text = text[mark.end() :].lstrip()
    if not (found := list(TEMPLATE_TOKEN.finditer(text))):
        return text
    masked = find_formulas(text).masked
    mark = next((mark for mark in found if masked[mark.start()] != MATH), None)
    return _DEBRIS.sub("", text[: mark.start()]).rstrip() if mark else text


_DEBRIS = re.compile(r"(?<=[\s.?!)])(?:(?<=[.?!]):)?[\s|}{<>#*_`~%\[-]{1,80}$")
"""Debris between a problem and the template tokens after it."""


def strip_heading(text: str) -> str:
    """Return the text without a heading such as "Problem:", "**Question 3.**" or "Here is the new problem:" before it."""
    mark = rules().heading.match(text)
    return text[mark.end() :].lstrip() if mark and text[mark.end() :].strip() and not rules().asks(mark[0]) else text


def cut_leak(text: str) -> str:
    """Return the text up to where its solution, an explanation or another problem begins."""
    end = leak_start(read_text(text))
    return text if end is None else text[:end].rstrip()


REPAIRS: dict[str, Callable[[str], str]] = {
    "template_tokens": cut_template_tokens,
    "heading": strip_heading,
    "leak": cut_leak,
}
"""Name of a defect → its repair."""

# --- defects -------------------------------------------------------------------------------------------------------------

_PICTURES = "figure|diagram|picture|image|graph|chart|plot|drawing|illustration|table"
_MISSING_THING = re.compile(
    rf"\b(?:(?:the|following)\s(?:{_PICTURES})\s(?:below|above|shown|at right)"
    rf"|the\sfollowing\s(?:{_PICTURES})\b(?![^.]{{0,80}}:\s?\S)"
    rf"|(?:shown|pictured|depicted|illustrated|drawn)\s(?:below|in the (?:{_PICTURES}))|in the (?:figure|diagram)\b"
    rf"|(?:graph|figure|diagram)\b[^.]{{0,30}}\sis (?:shown|drawn|given|pictured)"
    rf"|the\s(?:accompanying|attached)\s(?:{_PICTURES})"
    rf"|the\s(?:\w+\s)?(?:chart|diagram|histogram|picture|figure|plot)\s(?:shows|displays|depicts|illustrates)\b(?=[^\d{MATH}]*$))",
    re.IGNORECASE,
)
_DANGLING = re.compile(
    r"(?:^|\s)(?:a|an|the|of|to|in|on|at|by|for|from|with|and|or|but|nor|that|which|whose|where|when|if|then|than|as|is|are|was|were|"
    r"be|been|has|have|had|such|let|let's|we|into|over|under|between|satisfying|satisfies|satisfy|given|using|following|"
    r"called|denoted|defined|equals|its|their|this|these|each|every|any|some|not|both|either|can|could|will|would|should|must|may|"
    r"because|since|while|so|does|do|with respect)$",
    re.IGNORECASE,
)
_FOLLOWING = re.compile(rf"\bwhich (?:one )?of the following\b[^:{MATH}\n.?]*\?$", re.IGNORECASE)
"""A choice of what does not follow."""
_MISSING_FORMULA = re.compile(
    r"\b(?:the|following|this)\s(?:\w+\s){0,2}(?:equations?|series|system|expressions?|inequality|inequalities|formula|identity|relation|"
    r"congruences?|recurrence|integral|conditions?|function|polynomial|sequence|set|sum|product|limit|matrix|conjecture|statement)$",
    re.IGNORECASE,
)
_DRAWN = re.compile(r"\[asy\]|\\begin\{(?:tikzpicture|tabular|array|asy)|\|\s*:?-{2,}|^\s*\|.*\|\s*$", re.MULTILINE)
_LINK = re.compile(r"!\[|https?://|\bwww\.|\\includegraphics")
_ROW = re.compile(rf"\n[ \t]*[-\d{MATH}]")
_OPERATES = re.compile(
    r"(?:\w+,?\s)?(?:divide|multiply|add|subtract|apply|combine|isolate|rearrange|substitute)\b", re.IGNORECASE
)
"""A step of a calculation, which is not a question."""
_EXAMPLE = re.compile(r"\b(?:examples?|such as|like the (?:one|ones))\W{0,2}\Z", re.IGNORECASE)
_LAST_FORMULA = re.compile(r"(?:\$\$?|\\[(\[])(?:(?!\s[a-z]{2,}[\s,])[^\n$]){1,400}(?:[.?!]|\\[)\]])", re.IGNORECASE)
"""A formula left open at the end of a text that otherwise ends properly: a typo, and nothing is missing."""
_BRACE = re.compile(r"(?<!\\)[{}]")


def _empty(problem: Text) -> bool:
    return not _WORD.search(problem.formulas.masked)


def _too_short(problem: Text) -> bool:
    return len(problem.text) < load_cleaning().limits.fewest_characters


def _too_long(problem: Text) -> bool:
    return len(problem.text) > load_cleaning().limits.most_characters


def _not_english(problem: Text) -> bool:
    return not looks_english(problem.formulas.masked[:4000].replace(MATH, " "))


def _solution(problem: Text) -> bool:
    """Return whether the text is a solution instead of a problem: it begins as one, and no question follows."""
    if not problem.sentences:
        return False
    if STEP_HEADING.match(problem.sentences[0].masked):
        return True
    return rules().opens_solution(problem.sentences[0]) and not any(
        rules().asks_clearly(bare(sentence)) and not _OPERATES.match(bare(sentence)) for sentence in problem.sentences[1:]
    )


def _not_math(problem: Text) -> bool:
    return task_of(problem.text)[1] == "not_math"


def _no_task(problem: Text) -> bool:
    return task_of(problem.text)[1] == "no_task"


def _unbalanced(problem: Text) -> bool:
    braces = _BRACE.findall(problem.text)
    left_open = problem.formulas.open_at >= 0 and not _LAST_FORMULA.fullmatch(problem.text, problem.formulas.open_at)
    return left_open or braces.count("{") != braces.count("}")


def _truncated(problem: Text) -> bool:
    return any(check(problem) for check in (_ends_open, _asks_nothing))


def _ends_open(problem: Text) -> bool:
    """Return whether the text breaks off: at a colon, a comma, or a word that must be followed by another."""
    end = problem.formulas.masked.rstrip(" \n\t*_\"'”’")
    if end.endswith(
        (":", ",", "\uff1a", "\uff0c", "\u3001", "(", "[", "=", "+", "-", "–", "—", "\\", "/", "<", "^", "&", "...,")
    ):
        return True
    if _FOLLOWING.search(end[-200:]):
        return True
    return bool(end[-1:].isalpha() and (_DANGLING.search(end[-40:]) or _MISSING_FORMULA.search(end[-80:])))


def _needs_picture(problem: Text) -> bool:
    """Return whether a picture, table or page is mentioned and missing: no drawing, no rows of numbers or formulas after it."""
    if _LINK.search(problem.text):
        return True
    mention = _MISSING_THING.search(problem.formulas.masked)
    if mention and _EXAMPLE.search(problem.formulas.masked[max(0, mention.start() - 20) : mention.start()]):
        return False  # an illustration
    return bool(mention and not _DRAWN.search(problem.text) and not _ROW.search(problem.formulas.masked, mention.end()))


def _asks_nothing(problem: Text) -> bool:
    asking = (words for words in map(bare, problem.sentences) if rules().asks(words))
    return all(PRESENTS.search(words) for words in asking) and not BLANK.search(problem.text)


# the first of several defects in this order is the drop reason
CHECKS: dict[str, Callable[[Text], bool]] = {
    "empty": _empty,
    "too_long": _too_long,
    "not_english": _not_english,
    "solution": _solution,
    "needs_picture": _needs_picture,
    "truncated": _truncated,
    "not_math": _not_math,
    "no_task": _no_task,
    "unbalanced": _unbalanced,
    "too_short": _too_short,
}


OF_ENGLISH = {name: check for name, check in CHECKS.items() if name != "not_english"}
"""The checks of a text that may be in any language, and is in English."""
OF_ANY_LANGUAGE: dict[str, Callable[[Text], bool]] = {
    "empty": _empty,
    "too_long": _too_long,
    "truncated": _ends_open,
    "unbalanced": _unbalanced,
}
"""The checks that need no English words."""


# --- type of the answer --------------------------------------------------------------------------------------------------


def answer_type(problem: Text) -> str:
    """Return the type of answer that a problem's words ask for: a proof if one is asked for anywhere, else the first."""
    first = ""
    for sentence in problem.sentences:
        words = bare(sentence)
        if _PROOF.search(words):
            return "proof"
        first = first or _asked_kind(words)
    return first or "open"


def _asked_kind(words: str) -> str:
    if PRESENTS.search(words):
        return ""
    if CONCEPT.search(words) or _EXAMPLES.search(words):
        return "open"
    found = {
        kind: mark.start() for kind, pattern in rules().kinds.items() if (mark := pattern.search(words)) and kind != "proof"
    }
    if found:
        return min(found, key=lambda kind: found[kind])
    return "closed" if rules().asks(words) else ""


_PROOF = re.compile(
    r"\b(?:dis)?prove\b|\b(?:show|demonstrate|verify|establish|deduce|justify)\s(?:that|there|if|why|the existence)\b|"
    rf"\b(?:show|demonstrate)\s[{MATH}]",
    re.IGNORECASE,
)
_EXAMPLES = re.compile(r"\b(?:an|some|give|provide|any|few)\s(?:\w+\s)?(?:examples?|ideas?|insights?)\b", re.IGNORECASE)


# --- records -------------------------------------------------------------------------------------------------------------


def raw_text(record: dict[str, Any]) -> str:
    """Return the model's own text."""
    return str(record.get("raw_instruction") or record["instruction"])


def as_record(record: dict[str, Any], cleaned: Cleaned) -> dict[str, Any]:
    """Return a record with the problem alone; the model's own text stays in `raw_instruction`."""
    added = {"instruction": cleaned.text, "raw_instruction": raw_text(record), "defects": cleaned.defects}
    return record | added | ({"answer_type": cleaned.answer_type} if cleaned.answer_type else {})
