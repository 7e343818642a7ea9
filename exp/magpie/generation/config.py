"""Steering and response prompts: `configs/domains`, `configs/prompts/steering.yaml` and `configs/prompts/responses.yaml`."""

from __future__ import annotations

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.records.schema import DOMAINS


class TaskTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task template, in English."""

    id: str
    text: str


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/domains`. `{topic}` in a system prompt is replaced by one of the topics."""

    domain: str
    topics: list[str]
    system_prompts: list[str]
    task_templates: list[TaskTemplate]


class Steering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/steering.yaml`: system prompts by control task, and the sentence that holds a task template."""

    control_tasks: dict[str, list[str]]
    with_template: str


class ResponseStyle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A style of `configs/prompts/responses.yaml`: the text before and after the problem in the user's turn."""

    before: str = ""
    after: str = ""


def load_domain(name: str) -> Domain:
    """Return a domain by its name.

    Raises:
        MagpieError: it is unknown, or its file names another domain.
    """
    domain = load(config_path("domains", f"{name}.yaml"), Domain)
    if domain.domain != name or name not in DOMAINS:
        raise MagpieError(f"configs/domains/{name}.yaml: `domain` is '{domain.domain}', expected one of {', '.join(DOMAINS)}")
    return domain


def load_steering() -> Steering:
    """Return the system prompts of the control tasks."""
    return load(config_path("prompts", "steering.yaml"), Steering)


def load_response_styles() -> dict[str, ResponseStyle]:
    """Return the response styles by name."""
    return load(config_path("prompts", "responses.yaml"), dict[str, ResponseStyle])
