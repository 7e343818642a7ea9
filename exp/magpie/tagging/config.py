"""Prompts for taggers and judges: `configs/prompts/tags.yaml` and `configs/prompts/same_answer.yaml`."""

from __future__ import annotations

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load


class TagTasks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each mission of a language model asks, and what the judge of clean_ins.py is asked."""

    difficulty: str
    quality: str
    classification: str
    domain: str
    judge: str


class TagPrompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/tags.yaml`: the frame of a question ({task}, {labels}, {shape}, {problem}) and the task of each mission.

    A problem of more than `most_characters` is shown up to there, with `cut_note` behind it.
    """

    most_characters: int
    cut_note: str
    question: str
    missions: TagTasks


def load_tag_prompts() -> TagPrompts:
    """Return what taggers are asked."""
    path = config_path("prompts", "tags.yaml")
    prompts = load(path, TagPrompts)
    if absent := [mark for mark in ("{task}", "{shape}", "{problem}") if mark not in prompts.question]:
        raise MagpieError(f"{path}: `question` lacks {', '.join(absent)}")
    return prompts


class SameAnswerPrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/same_answer.yaml`: what a judge of two answers is asked, and characters of the problem at most."""

    question: str
    most_characters: int


def load_same_answer() -> SameAnswerPrompt:
    """Return what a judge of two answers is asked."""
    return load(config_path("prompts", "same_answer.yaml"), SameAnswerPrompt)
