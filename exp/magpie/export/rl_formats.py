"""The formats for reinforcement learning and for process reward models: the content of a row.

The functions take what those of formats.py take; columns are declared as there.
"""

from __future__ import annotations

import json
from typing import Any

from magpie.export.preference_formats import MESSAGES, Row
from magpie.rewards.base import steps_of
from magpie.verification.annotate import stated

DATA_SOURCE, ABILITY, STYLE = "magpie", "math", "rule"
RIGHT_STEP = 0.5
"""A process reward model's probability from which a step is labelled right: more likely right than wrong."""

RLVR_COLUMNS: dict[str, Any] = {"id": "string", "prompt": MESSAGES, "ground_truth": "string", "answer_source": "string"}
VERL_COLUMNS: dict[str, Any] = {
    "data_source": "string",
    "prompt": MESSAGES,
    "ability": "string",
    "reward_model": {"style": "string", "ground_truth": "string"},
    "extra_info": {"index": "string", "answer_source": "string", "pass_rate": "double", "agreement": "double"},
}
"""As verl's docs/preparation/prepare_data.rst has them; `index` is the record's id."""
PRIME_RL_COLUMNS: dict[str, Any] = {"question": "string", "prompt": MESSAGES, "answer": "string", "info": "string"}
"""As verifiers' docs/environments has them; `info` may be JSON there. prime-rl's math environments ask for `question`."""
STEPWISE_COLUMNS: dict[str, Any] = {
    "id": "string",
    "prompt": "string",
    "completions": ["string"],
    "labels": ["bool"],
    "step_rewards": ["double"],
    "reward_model": "string",
}
"""As `Stepwise supervision` in TRL's docs/dataset_formats.md, and what the labels rest on."""


def user(record: dict[str, Any]) -> dict[str, str]:
    """Return the problem as a user's message."""
    return {"role": "user", "content": record["instruction"]}


def no_answer(record: dict[str, Any], options: object = None) -> str:
    """Return `no_answer` for a record without an answer to check against."""
    return "" if record.get("reference_answer") or record.get("majority_answer") else "no_answer"


def answer_of(record: dict[str, Any]) -> tuple[str, str]:
    """Return the answer to check against, the final one where a whole solution was given, and where it is from."""
    reference = record.get("reference_answer")
    return (stated(reference), "reference") if reference else (record["majority_answer"], "majority")


def rlvr(record: dict[str, Any], options: object = None) -> Row:
    """Return a record as a prompt and the answer that a program checks a completion against."""
    answer, source = answer_of(record)
    return {"id": record.get("id"), "prompt": [user(record)], "ground_truth": answer, "answer_source": source}


def verl(record: dict[str, Any], options: object = None) -> Row:
    """Return a record as a row of verl."""
    answer, source = answer_of(record)
    known = {key: record.get(key) for key in ("pass_rate", "agreement")}
    return {
        "data_source": DATA_SOURCE,
        "prompt": [user(record)],
        "ability": ABILITY,
        "reward_model": {"style": STYLE, "ground_truth": answer},
        "extra_info": {"index": _text(record.get("id")), "answer_source": source, **known},
    }


def prime_rl(record: dict[str, Any], options: object = None) -> Row:
    """Return a record as a row of a verifiers environment."""
    answer, source = answer_of(record)
    info = {"id": _text(record.get("id")), "answer_source": source}
    info |= {key: record[key] for key in ("pass_rate", "agreement", "domain", "difficulty") if record.get(key) is not None}
    return {
        "question": record["instruction"],
        "prompt": [user(record)],
        "answer": answer,
        "info": json.dumps(info, ensure_ascii=False),
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def stepwise(record: dict[str, Any], options: object = None) -> list[Row]:
    """Return the responses whose steps the record's first process reward model scored, one row each."""
    return [
        {
            "id": record.get("id"),
            "prompt": record["instruction"],
            "completions": steps,
            "labels": [score >= RIGHT_STEP for score in scores],
            "step_rewards": scores,
            "reward_model": model,
        }
        for model, steps, scores in _scored(record)
    ]


def _scored(record: dict[str, Any]) -> list[tuple[str, list[str], list[float]]]:
    responses = record.get("responses") or [record.get("response")]
    for model, scored in (record.get("step_rewards") or {}).items():
        pairs = [(steps_of(text), scores) for text, scores in zip(responses, scored or [], strict=False) if text and scores]
        return [(model, steps, scores) for steps, scores in pairs if len(steps) == len(scores)]
    return []


def no_steps(record: dict[str, Any], options: object = None) -> str:
    """Return `no_step_rewards` for a record of which no response has a score for each of its steps."""
    return "" if _scored(record) else "no_step_rewards"
