"""Free evidence about a problem from its responses: they call it unsolvable, have no answer, or never agree."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from magpie.text.latex import find_formulas
from magpie.text.reasoning import THINK
from magpie.verification.config import load_doubt_words
from magpie.verification.extract import final_answer
from magpie.verification.pool import Judgement
from magpie.verification.votes import FEWEST_ANSWERS, Vote
from magpie.verification.words import is_wordy

MOST_CHARACTERS, MOST_OF_SENTENCE = 20_000, 600
"""Only the end of a response, where conclusions are, and the beginning of a sentence are examined."""
WORDS_OF_FORMULA = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s?\{([^{}]{1,300})\}")
MARKUP = re.compile(r"\\boxed|\\[a-z]+|[*_#`>{}$\\()\[\]\"“”|]")
SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n+")
WORD = "<{}>"
MARKED = re.compile(r"\\f?box(?:ed)?\b|\banswer|####", re.IGNORECASE)
WORDS_ALONE = re.compile(r"[A-Za-z][a-z'-]+(?:[ ,]+[A-Za-z'-]+)*[ .]*")
ASKS_BACK = re.compile(r"\b(?:please|(?:could|can|would|will|do|did) you)\b")


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Return the patterns of `configs/verify/doubts.yaml` by kind."""
    found = load_doubt_words()
    words = {
        WORD.format(name): f"(?:{'|'.join(map(re.escape, sorted(some, key=len, reverse=True)))})"
        for name, some in found.words.items()
    }

    def compiled(patterns: list[str]) -> re.Pattern[str]:
        text = "|".join(f"(?:{pattern})" for pattern in patterns)
        for name, some in words.items():
            text = text.replace(name, rf"(?<![\w'’-]){some}(?![\w-])")
        return re.compile(text)

    return {kind: compiled(getattr(found, kind)) for kind in ("says", "lacks", "unless", "despite", "asked")}


def _plain(text: str) -> str:
    """Return a text in lower case without formulas and markup; words inside formulas stay."""
    formulas = find_formulas(text)
    first, *others = formulas.outside()
    read = (". ".join(WORDS_OF_FORMULA.findall(each.content)) or "x" for each in formulas.found)
    text = first + "".join(formula + other for formula, other in zip(read, others, strict=True))
    text = WORDS_OF_FORMULA.sub(r"\1", text).replace("’", "'")
    return MARKUP.sub("", text).lower()


def says_unsolvable(response: str, problem: str = "") -> bool:
    """Return whether a response says that its problem cannot be solved, contradicts itself or lacks data.

    False for a problem that asks whether something is possible, sufficient or consistent: there that is an answer.
    """
    patterns = _patterns()
    if patterns["asked"].search(problem[:MOST_CHARACTERS].lower()):
        return False
    solution = (THINK.split(response)[1] or "")[-MOST_CHARACTERS:]
    lacks = False
    for sentence in SENTENCE_END.split(_plain(solution)):
        text = " ".join(sentence[:MOST_OF_SENTENCE].split())
        is_question = text.endswith("?") and not ASKS_BACK.search(text)
        text = text.strip(" .!?;:,-–—")
        if is_question or patterns["unless"].search(text):
            continue
        if patterns["says"].search(text):
            return True
        if patterns["lacks"].search(text) and not patterns["despite"].search(text):
            lacks = True
    return lacks and not _is_answered(solution)


def _is_answered(solution: str) -> bool:
    """Return whether a solution marks a value, not words, as its answer."""
    answer = final_answer(solution) if MARKED.search(solution) else None
    return answer is not None and not is_wordy(answer) and not WORDS_ALONE.fullmatch(answer)


def doubts_of(record: dict[str, Any], judgement: Judgement, vote: Vote, asked: int) -> dict[str, float | bool | None]:
    """Return the doubts of the responses about their problem, as shares of all requested.

    `unsolvable`: they say so; `unparsed`: no final answer was found; `no_majority`: no answer has more votes than every other
    one (null for one response, which cannot agree with any).
    """
    responses = record.get("responses") or [record.get("response") or ""]
    problem = str(record.get("instruction") or "")
    return {
        "unsolvable": sum(says_unsolvable(response or "", problem) for response in responses) / asked,
        "unparsed": judgement.states.count("unparsed") / asked,
        "no_majority": vote.winner is None if asked >= FEWEST_ANSWERS else None,
    }
