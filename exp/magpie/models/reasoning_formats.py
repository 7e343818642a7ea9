"""Formats of chains of thought: `configs/reasoning.yaml`, and which of them a model's template uses."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.text.reasoning import NONE, THINK, ReasoningFormat


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    last_thought: str
    formats: dict[str, ReasoningFormat]


def load_last_thought() -> str:
    """Return the closing words of a thought that is ended at a limit."""
    return load(config_path("reasoning.yaml"), _File).last_thought


@cache
def load_formats() -> dict[str, ReasoningFormat]:
    """Return the formats by name, in the order in which they are tried; `none` is no chain of thought.

    Raises:
        MagpieError: the file is broken.
    """
    path = config_path("reasoning.yaml")
    formats = load(path, _File).formats
    for name, form in formats.items():
        for key in ("close_pattern", "aside"):
            try:
                re.compile(getattr(form, key))
            except re.error as error:
                raise MagpieError(f"{path}: `{key}` of {name} is not a regular expression ({error})") from error
    return {**formats, "none": NONE}


def format_named(name: str, model: str) -> ReasoningFormat:
    """Return the format that a model's preset names.

    Raises:
        MagpieError: there is no such format.
    """
    formats = load_formats()
    if name not in formats:
        raise MagpieError(f"{model}: no reasoning format '{name}' in configs/reasoning.yaml; there are {', '.join(formats)}")
    return formats[name]


def detect_format(template: str, added_tokens: Collection[str]) -> tuple[ReasoningFormat, bool]:
    """Return the format that a model uses, and whether it thinks.

    What its template handles comes first. A vocabulary may have thinking tokens although the model was not trained on
    them (Mistral's instruct models); they are a sign only for the common tags.
    """
    formats = [form for form in load_formats().values() if form.signs]
    for form in formats:
        if all(sign in template for sign in form.signs):
            return form, True
    for form in formats:
        if all(sign in added_tokens for sign in form.signs):
            return form, form.open == THINK.open
    return THINK, False
