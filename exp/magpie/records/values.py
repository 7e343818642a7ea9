"""From a value of a user's column to the record keys that it fills in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from magpie.text.reasoning import ReasoningFormat, split_written

USERS, ASSISTANTS = ("user", "human"), ("assistant", "gpt", "model", "chatgpt", "bot")
OPEN_THOUGHTS = ReasoningFormat(
    open="<|begin_of_thought|>", close="<|end_of_thought|>", wraps=("<|begin_of_solution|>", "<|end_of_solution|>")
)
_TURNS = re.compile(r'\s*\[\s*\{\s*"(?:role|from|content|value)"')
Reader = Callable[[str, str, Any], dict[str, Any]]
"""From a key, the column's name for messages, and its value, to the keys that it fills in."""


def turns_of(value: Any) -> list[dict[str, str]]:
    """Return the turns of a conversation as role and content, or nothing if it is not one; a text may be its JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed(value)
    turns = []
    for turn in value if isinstance(value, list) else [value] if isinstance(value, dict) else ():
        if not isinstance(turn, dict):
            return []
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(content, list):  # parts, of which the texts count
            content = "\n".join(
                part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        if not isinstance(role, str) or not isinstance(content, str):
            return []
        turns.append({"role": role, "content": content})
    return turns


def parsed(text: str) -> Any:
    """Return the JSON value of a text; None if it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def is_id(value: Any) -> bool:
    """Return whether a value can be an id."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def plain(key: str, name: str, value: Any) -> dict[str, Any]:
    """Return a value unchanged under its key; a dotted key goes into an object."""
    if value is None:
        return {}
    outer, _, inner = key.partition(".")
    return {outer: {inner: value}} if inner else {key: value}


def _problem(key: str, name: str, value: Any) -> dict[str, Any]:
    turns = turns_of(value)
    if isinstance(value, list) and not turns and all(isinstance(text, str) for text in value):
        value = "\n\n".join(filter(None, value))  # an instruction and its input
    if not turns:
        if not isinstance(value, str) or not value.strip():
            what = "has no text" if value is None or isinstance(value, str | list) else f"is no text ({type(value).__name__})"
            raise ValueError(f"{name} {what}, but is read as `instruction`")
        if _TURNS.match(value):
            raise ValueError(f"{name} is a conversation in broken JSON")
        return {key: value}
    first = next((place for place, turn in enumerate(turns) if turn["role"] in USERS), None)
    if first is None or not turns[first]["content"].strip():
        raise ValueError(f"{name} has no user turn" + ("" if first is None else " with text"))
    between = [turn for turn in turns[first + 1 :] if turn["role"] != "system"]
    if between and between[-1]["role"] in ASSISTANTS:
        between.pop()
    return {key: turns[first]["content"]} | ({"history": between} if between else {})


def _response(key: str, name: str, value: Any) -> dict[str, Any]:
    if turns := turns_of(value):
        value = turns[-1]["content"] if turns[-1]["role"] in ASSISTANTS else None
    elif isinstance(value, list):
        return _responses("responses", name, value)
    if value is None or value == "":
        return {}
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text, but is read as `response`")
    thought, solution = split_written(value, OPEN_THOUGHTS)
    return {key: solution} | ({"reasoning": thought} if thought else {})


def _responses(key: str, name: str, value: Any) -> dict[str, Any]:
    texts = [text for text in value or () if text is not None] if isinstance(value, list | None) else [value]
    if not texts:
        return {}
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} is not a list of texts, but is read as `responses`")
    parts = [split_written(text, OPEN_THOUGHTS) for text in texts]
    thoughts = [thought for thought, _ in parts]
    return {key: [solution for _, solution in parts]} | ({"reasoning": thoughts} if any(thoughts) else {})


def _reference(key: str, name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list) and len(value) == 1:
        [value] = value
    if value is None or value == "" or value != value:  # NaN
        return {}
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is neither a text nor a number, but is read as `{key}`")
    return {key: str(int(value) if isinstance(value, float) and value.is_integer() else value)}


def _messages(key: str, name: str, value: Any) -> dict[str, Any]:
    roles = dict.fromkeys(USERS, USERS[0]) | dict.fromkeys(ASSISTANTS, ASSISTANTS[0])
    turns = [{**turn, "role": roles.get(turn["role"], turn["role"])} for turn in turns_of(value)]
    if key == "prompt":
        turns = turns[: next((place for place, turn in enumerate(turns) if turn["role"] == ASSISTANTS[0]), None)]
    return {key: turns} if turns else plain(key, name, value)


def _identity(key: str, name: str, value: Any) -> dict[str, Any]:
    if not is_id(value):
        raise ValueError(f"{name} is neither a text nor a whole number, but is read as `{key}`")
    return {key: value}


READERS: dict[str, Reader] = {
    "instruction": _problem,
    "response": _response,
    "responses": _responses,
    "reference_answer": _reference,
    "majority_answer": _reference,
    "id": _identity,
    **dict.fromkeys(("prompt", "chosen", "rejected"), _messages),
}
