"""Prompts for taggers and judges: `configs/prompts/tags.yaml` and `configs/prompts/same_answer.yaml`."""

from __future__ import annotations

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load


class TagTasks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The task of each mission of a language model, and of the judge of clean_ins.py."""

    difficulty: str
    quality: str
    classification: str
    domain: str
    judge: str


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


class SameAnswerPrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/same_answer.yaml`: the prompt of a judge of two answers, and the problem's maximum characters in it."""

    question: str
    most_characters: int


def load_same_answer() -> SameAnswerPrompt:
    """Return the prompt of a judge of two answers."""
    return load(config_path("prompts", "same_answer.yaml"), SameAnswerPrompt)
