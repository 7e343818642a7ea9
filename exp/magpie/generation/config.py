"""Steering and response prompts: `configs/domains`, `configs/openings.yaml`, two files of `configs/prompts`."""

from __future__ import annotations

import math

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


class Concepts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How several topics are combined: the words between them, weights of the same and of other domains, the rationale."""

    joined: str
    own: float
    neighbours: dict[str, dict[str, float]]
    rationale: str
    with_rationale: str

    def __post_init__(self) -> None:
        """Refuse weights that cannot be used for drawing."""
        for domain, weights in self.neighbours.items():
            if {domain, *weights} - set(DOMAINS) or not all(0 < weight < math.inf for weight in (self.own, *weights.values())):
                raise ValueError(f"`neighbours` of {domain}: domains ({', '.join(DOMAINS)}) and weights above 0 are expected")

    def weights(self, domain: str) -> dict[str, float]:
        """Return how often a further topic comes from which domain."""
        return {domain: self.own} | self.neighbours.get(domain, {})


class Steering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/steering.yaml`: system prompts by control task, the text around a task template, combined topics."""

    control_tasks: dict[str, list[str]]
    with_template: str
    concepts: Concepts


class Openings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/openings.yaml`: words that open a problem → their weight, for any mathematics and for a domain."""

    math: dict[str, float]
    domains: dict[str, dict[str, float]]

    def __post_init__(self) -> None:
        """Refuse openings that cannot be drawn."""
        if strange := self.domains.keys() - set(DOMAINS):
            raise ValueError(f"`domains` has {', '.join(sorted(strange))}, expected {', '.join(DOMAINS)}")
        for words, weight in [pair for weights in (self.math, *self.domains.values()) for pair in weights.items()]:
            if not words or words != words.strip() or not 0 < weight < math.inf:
                raise ValueError(
                    f"'{words}: {weight}' is not an opening: words without spaces around them, and a weight above 0"
                )
        if not all((self.math, *self.domains.values())):
            raise ValueError("a list of openings is empty")

    def of(self, domain: str | None) -> dict[str, float]:
        """Return the openings of a domain; the general ones if it has none of its own."""
        return self.domains.get(domain or "", self.math)


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


def load_openings() -> Openings:
    """Return the openings of problems."""
    return load(config_path("openings.yaml"), Openings)


def load_response_styles() -> dict[str, ResponseStyle]:
    """Return the response styles by name."""
    return load(config_path("prompts", "responses.yaml"), dict[str, ResponseStyle])
