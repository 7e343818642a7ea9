"""Responses appended to those that a record has, of any models: gen_res.py --append."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from magpie.runs.jobs import model_name
from magpie.verification.annotate import OWN_KEYS, put_aside
from magpie.verification.votes import asked_for

UNKNOWN = "unknown"
LISTS = ("responses", "reasoning", "finish_reason", "completion_tokens", "response_models")
STALE = (
    *OWN_KEYS,
    "rewards",
    "rewards_by_model",
    "step_rewards",
    "reward_model",
    "stop_reason",
    "votes_asked",
    "lost_responses",
)
"""Results that describe the earlier responses only."""


@dataclass(frozen=True)
class Earlier:
    """The responses of a record, as lists of equal length, and how many were requested from each model."""

    lists: dict[str, list[Any]]
    asked: dict[str, int]

    def of(self, model: str) -> int:
        """Return how many are from a model."""
        return self.lists["response_models"].count(model)


def earlier_responses(record: dict[str, Any]) -> Earlier:
    """Return the responses of a record; without `response_models` all are from the model of `gen_response_configs`."""
    single = record.get("responses") is None
    responses = ([record["response"]] if record.get("response") else []) if single else record["responses"]
    count, model = len(responses), model_name(record.get("gen_response_configs") or {}) or UNKNOWN

    def values(key: str) -> list[Any]:
        value = record.get(key)
        if single:
            return [value] * count
        return value if isinstance(value, list) and len(value) == count else [None] * count

    lists = {key: list(values(key)) for key in LISTS[1:-1]}
    models = record.get("response_models")
    models = models if isinstance(models, list) and len(models) == count else [model] * count
    asked = record.get("asked_by_model") or ({model: asked_for(record, count)} if count else {})
    return Earlier({"responses": list(responses), **lists, "response_models": models}, asked)


def with_more(
    record: dict[str, Any], earlier: Earlier, made: dict[str, list[Any]], model: str, asked: int, configs: dict[str, Any]
) -> dict[str, Any]:
    """Return a record with further responses of a model after its earlier ones.

    Args:
        made: the lists of gen_res.py, for the further ones only.
        asked: number of further ones requested, including lost ones.
    """
    lists = earlier.lists | {"response_models": [*earlier.lists["response_models"], *[model] * len(made["responses"])]}
    lists |= {key: [*lists[key], *values] for key, values in made.items()}
    total = earlier.asked | {model: earlier.asked.get(model, 0) + asked}
    if asked and record.get("gen_response_configs") not in (None, configs):
        record = put_aside(record, ["gen_response_configs"])
    if asked:
        record = put_aside(record, [key for key in STALE if key in record]) | {"gen_response_configs": configs}
    record = {key: value for key, value in record.items() if key not in ("response", "lost_responses", "votes_asked")}
    lost = sum(total.values()) - len(lists["responses"])
    return record | lists | {"asked_by_model": total} | ({"lost_responses": lost} if lost else {})
