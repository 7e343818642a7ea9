"""The checks of a rewritten problem before any vote: no solution in it, complete, and not its parent in other words."""

from __future__ import annotations

import re

from magpie.cleaning.clean import Cleaned, clean
from magpie.similarity.normalize import NormalizedProblem, normalize
from magpie.similarity.same_problem import numbers_agree, same_formulas

CARRIES_SOLUTION, REWORDED = "carries_solution", "same_as_parent"
_MARKED = re.compile(r"<problem>(.{0,40000}?)(?:</problem>|\Z)", re.IGNORECASE | re.DOTALL)
_SOLVES = re.compile(
    r"\\boxed|\bthe (?:final |correct )?(?:answer|result|solution) (?:is|equals|would be)\s?:?\s?[$\\(\d-]"
    r"|\b(?:answer|solution|hint)\s?[:=]|\(\s?(?:answer|ans|solution|hint)\b|####|\bstep 1\b"
    r"|\b(?:thus|so|hence|then|therefore),? (?:we|one) (?:gets?|obtains?|finds?|concludes?|sees?)\b",
    re.IGNORECASE,
)
LEAST_SHARED, FEWEST_NEW = 0.8, 2
"""A child with its parent's numbers and formulas is a new problem only if it has most of the parent's words and adds to
them: the least share of them, and the fewest new ones."""


def written_problem(reply: str) -> str:
    """Return the problem in a model's reply: the last text between the marks, else all of it."""
    marked = [found[1].strip() for found in _MARKED.finditer(reply)]
    return next((text for text in reversed(marked) if text), reply.strip())


def gated(reply: str, parents: list[str], language: str) -> tuple[Cleaned, str]:
    """Return the problem in a model's reply, cleaned, and why it is dropped (empty: it is not)."""
    text = written_problem(reply)
    cleaned = clean(text, language=language)
    if cleaned.drop_reason == "solution" or "leak" in cleaned.defects or _SOLVES.search(text):
        return cleaned, CARRIES_SOLUTION
    if cleaned.drop_reason:
        return cleaned, cleaned.drop_reason
    return cleaned, REWORDED if any(is_reworded(cleaned.text, parent) for parent in parents) else ""


def is_reworded(child: str, parent: str) -> bool:
    """Return whether a child is its parent in other words: the same numbers and formulas, and nothing added."""
    one, other = normalize(child), normalize(parent)
    if one.key == other.key:
        return True
    if not (numbers_agree(one, other) and same_formulas(one, other)):
        return False
    return not _adds(one, other)


def _adds(child: NormalizedProblem, parent: NormalizedProblem) -> bool:
    shared = len(child.words.keys() & parent.words.keys())
    new = len(child.words.keys() - parent.words.keys())
    return new >= FEWEST_NEW and 0 < LEAST_SHARED * len(parent.words) <= shared
