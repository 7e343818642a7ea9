"""Prompts for taggers and judges: `tags.yaml`, `validity.yaml` and `same_answer.yaml` of `configs/prompts`."""

from __future__ import annotations

from typing import Literal

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load


class TagTasks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The task of each mission of a language model."""

    difficulty: str
    quality: str
    classification: str
    domain: str


class TagPrompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/tags.yaml`: the prompt template ({task}, {labels}, {shape}, {problem}) and the task of each mission.

    A problem is cut at `most_characters`, followed by `cut_note`.
    """

    most_characters: int
    cut_note: str
    question: str
    missions: TagTasks


def load_tag_prompts() -> TagPrompts:
    """Return the prompts of taggers.

    Raises:
        MagpieError: `question` lacks a placeholder.
    """
    path = config_path("prompts", "tags.yaml")
    prompts = load(path, TagPrompts)
    if missing := [placeholder for placeholder in ("{task}", "{shape}", "{problem}") if placeholder not in prompts.question]:
        raise MagpieError(f"{path}: `question` lacks {', '.join(missing)}")
    return prompts


class ValidityQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pointed question about a problem, and the passing verdict."""

    ask: str
    passes: Literal["yes", "no"]


class ValidityPrompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/validity.yaml`: the questions by name, the prompt around each of them, and how it is asked."""

    temperature: float
    reason_characters: int
    prompt: str
    questions: dict[str, ValidityQuestion]


def load_validity() -> ValidityPrompts:
    """Return the questions about a problem's validity.

    Raises:
        MagpieError: there is no question, or `prompt` lacks a placeholder.
    """
    path = config_path("prompts", "validity.yaml")
    prompts = load(path, ValidityPrompts)
    if missing := [name for name in ("{problem}", "{question}", "{shape}") if prompts.prompt.count(name) != 1]:
        raise MagpieError(f"{path}: `prompt` must have {', '.join(missing)} once")
    if not prompts.questions:
        raise MagpieError(f"{path}: there must be a question")
    return prompts


class SameAnswerPrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/same_answer.yaml`: the prompt of a judge of two answers, and the problem's maximum characters in it."""

    question: str
    most_characters: int


def load_same_answer() -> SameAnswerPrompt:
    """Return the prompt of a judge of two answers."""
    return load(config_path("prompts", "same_answer.yaml"), SameAnswerPrompt)
