"""What responses tell for nothing about their problem: some say that it cannot be solved, have no answer, or never agree."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from magpie.text.latex import find_formulas
from magpie.text.reasoning import THINK
from magpie.verification.config import load_doubt_words
from magpie.verification.pool import Judgement
from magpie.verification.votes import FEWEST_ANSWERS, Vote

MOST_CHARACTERS, MOST_OF_SENTENCE = 20_000, 600
"""A response's end is looked at, where conclusions are, and a sentence's beginning."""
WORDS_OF_FORMULA = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s?\{([^{}]{1,300})\}")
MARKUP = re.compile(r"\\boxed|\\[a-z]+|[*_#`>{}$\\()\[\]\"“”|]")
SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n+")
WORD = "<{}>"


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return what says it, what takes it back, and what problems ask for it."""
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

    return compiled(found.says), compiled(found.unless), compiled(found.asked)


def _plain(text: str) -> str:
    """Return a text in small letters without formulas and mark-up; words inside formulas stay."""
    formulas = find_formulas(text)
    first, *others = formulas.outside()
    read = (". ".join(WORDS_OF_FORMULA.findall(each.content)) or "x" for each in formulas.found)
    text = first + "".join(formula + other for formula, other in zip(read, others, strict=True))
    text = WORDS_OF_FORMULA.sub(r"\1", text).replace("’", "'")
    return MARKUP.sub("", text).lower()


def says_unsolvable(response: str, problem: str = "") -> bool:
    """Return whether a response says that its problem cannot be solved, contradicts itself or lacks data.

    Not one to a problem that asks whether something is possible, sufficient or consistent: there that is an answer.
    """
    says, unless, asked = _patterns()
    if asked.search(problem[:MOST_CHARACTERS].lower()):
        return False
    solution = THINK.split(response)[1] or ""
    for sentence in SENTENCE_END.split(_plain(solution[-MOST_CHARACTERS:])):
        text = " ".join(sentence[:MOST_OF_SENTENCE].split())
        is_question = text.endswith("?") and not re.search(r"\b(?:please|could you|can you|would you)\b", text)
        text = text.strip(" .!?;:,-–—")
        if not is_question and says.search(text) and not unless.search(text):
            return True
    return False


def doubts_of(record: dict[str, Any], judgement: Judgement, vote: Vote, asked: int) -> dict[str, float | bool | None]:
    """Return what the responses say against their problem, as shares of all that were asked for.

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
