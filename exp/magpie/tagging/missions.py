"""The missions, and for those of a language model the prompt, the JSON schema and the parser of the response.

A mission is one question about a record. It writes all its keys, or a reason under `tag_failures`: never a silent null.
Labels come from records/schema.py, so the prompt, the schema that constrains the model and the check of its response agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from magpie.records.schema import DIFFICULTIES, DOMAIN_TAGS, QUALITIES, TASK_CATEGORIES
from magpie.tagging.config import TagPrompts

TOKENS_PER_CHARACTER = 4
"""Maximum tokens per character of a response: an emoji is four bytes, and so at most four tokens."""
SPARE_TOKENS = 200
"""Tokens for keys, labels, quotes and white space: the longest response without texts has 60."""
VALIDITY = "validity"
"""The mission for a language model that takes votes (`validity.py`)."""
NOT_JSON, WRONG_ANSWER, CUT, EMPTY = "not_json", "wrong_answer", "cut", "empty_instruction"


@dataclass(frozen=True)
class Field:
    """A key that a language model fills in: one of `labels`, up to `several` of them, or a text of at most `characters`."""

    key: str
    labels: tuple[str, ...] = ()
    several: int = 0
    characters: int = 0

    @property
    def schema(self) -> dict[str, Any]:
        """The key's part of the JSON schema."""
        if not self.labels:
            return {"type": "string", "minLength": 1, "maxLength": self.characters}
        label = {"type": "string", "enum": list(self.labels)}
        return {"type": "array", "items": label, "maxItems": self.several} if self.several else label

    @property
    def shape(self) -> str:
        """The key's part of the shape that the prompt asks for."""
        if self.several:
            return f'"{self.key}": a list of up to {self.several} other labels, or []'
        return f'"{self.key}": one of the labels' if self.labels else f'"{self.key}": a text'

    def read(self, value: Any) -> Any:
        """Return the checked value.

        Raises:
            ValueError: the value does not follow the schema.
        """
        if self.several:
            labels = list(value) if isinstance(value, list) else [None]
            if any(label not in self.labels for label in labels):
                raise ValueError(f"{self.key}: not a list of labels")
            return list(dict.fromkeys(labels))[: self.several]
        if not isinstance(value, str) or not value.strip() or (self.labels and value not in self.labels):
            raise ValueError(f"{self.key}: {'no such label' if self.labels else 'no text'}")
        return value if self.labels else value.strip()[: self.characters]


@dataclass(frozen=True)
class Mission:
    """One question about a record; `fields` if a language model is asked, in the order in which it fills them in.

    `nullable`: keys that may be null in a tagged record.
    """

    name: str
    keys: tuple[str, ...]
    fields: tuple[Field, ...] = ()
    nullable: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a response."""
        return {
            "type": "object",
            "properties": {field.key: field.schema for field in self.fields},
            "required": [field.key for field in self.fields],
            "additionalProperties": False,
        }

    @property
    def most_tokens(self) -> int:
        """Upper bound on the tokens of a response under the schema."""
        return SPARE_TOKENS + TOKENS_PER_CHARACTER * sum(field.characters for field in self.fields)

    @property
    def least_tokens(self) -> int:
        """Tokens of a response in plain English with the longest texts: the room that a prompt must leave."""
        return SPARE_TOKENS + sum(field.characters for field in self.fields)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels to choose from."""
        return next((field.labels for field in self.fields if field.labels), ())

    def missing(self, record: dict[str, Any]) -> bool:
        """Return whether a record lacks this mission's tags."""
        return any(record.get(key) is None for key in self.keys if key not in self.nullable)


def _asked(name: str, *fields: Field) -> Mission:
    return Mission(name, tuple(field.key for field in fields), fields)


MISSIONS = {
    mission.name: mission
    for mission in (
        # explanations come before labels, so that the label follows from the explanation
        _asked(
            "difficulty", Field("intent", characters=240), Field("knowledge", characters=240), Field("difficulty", DIFFICULTIES)
        ),
        _asked("quality", Field("quality_explanation", characters=360), Field("input_quality", QUALITIES)),
        _asked(
            "classification", Field("task_category", TASK_CATEGORIES), Field("other_task_category", TASK_CATEGORIES, several=3)
        ),
        _asked("domain", Field("domain", DOMAIN_TAGS)),
        Mission(VALIDITY, ("validity", "validity_votes", "validity_reasons"), nullable=("validity",)),
        Mission("safety", ("safety", "safety_categories")),
        Mission("reward", ("instruct_reward",)),
        Mission("language", ("language",)),
    )
}
ASKED = tuple(name for name, mission in MISSIONS.items() if mission.fields)
"""Missions that a language model answers in one response."""


def question(mission: Mission, prompts: TagPrompts, problem: str) -> str:
    """Return the question for the tagger. The problem is inserted last: it may contain anything, even our own placeholders."""
    shape = "{" + ", ".join(field.shape for field in mission.fields) + "}"
    words = {
        "task": getattr(prompts.missions, mission.name),
        "labels": ", ".join(f'"{label}"' for label in mission.labels),
        "shape": shape,
    }
    text = prompts.question
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value.strip())
    before, mark, after = text.partition("{problem}")
    assert mark, "load_tag_prompts has checked it"  # noqa: S101
    return f"{before}{problem}{after}"


def read_tags(mission: Mission, text: str) -> dict[str, Any]:
    """Return the tags in a language model's response.

    Raises:
        ValueError: (reason, detail): it is not the JSON that was requested.
    """
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(NOT_JSON, str(error)) from error
    if not isinstance(found, dict):
        raise ValueError(WRONG_ANSWER, "not an object")
    try:
        tags = {field.key: field.read(found.get(field.key)) for field in mission.fields}
    except ValueError as error:
        raise ValueError(WRONG_ANSWER, str(error)) from error
    if "other_task_category" in tags:
        tags["other_task_category"] = [label for label in tags["other_task_category"] if label != tags["task_category"]]
    return tags


def with_tags(record: dict[str, Any], results: dict[str, dict[str, Any] | str], taggers: dict[str, str]) -> dict[str, Any]:
    """Return a record with the results of its missions: tags, or the reason why there are none.

    Args:
        record: the record; its tags of other missions stay.
        results: mission → its tags, or a reason.
        taggers: mission → name of its tagger.
    """
    failures = {name: why for name, why in (record.get("tag_failures") or {}).items() if name not in results}
    tagged_by = {name: tagger for name, tagger in (record.get("tagged_by") or {}).items() if name not in results}
    added: dict[str, Any] = {}
    for name, result in results.items():
        if isinstance(result, str):
            failures[name] = result
            added |= dict.fromkeys(MISSIONS[name].keys)
        else:
            added |= result
            tagged_by[name] = taggers[name]
    record = {key: value for key, value in record.items() if key not in ("tag_failures", "tagged_by")} | added
    for key, value in (("tagged_by", tagged_by), ("tag_failures", failures)):
        if value:
            record[key] = value
    return record
