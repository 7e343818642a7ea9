"""The keys that verification adds to a record, and the choice of one response from several."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from magpie.common.console import MagpieError
from magpie.verification.doubts import doubts_of
from magpie.verification.early_stop import rule_of
from magpie.verification.extract import final_answer
from magpie.verification.models import model_votes
from magpie.verification.pool import Job, Judgement
from magpie.verification.votes import FEWEST_ANSWERS, asked_for, choose, difficulty, vote

LISTS = ("responses", "reasoning", "finish_reason", "completion_tokens", "response_models")
"""Keys that gen_res.py writes as lists if there are several responses."""
REFERENCE = "reference_answer"
OWN_KEYS = (
    *("answers", "majority_answer", "answer_states", "answer_groups", "agreement", "answered", "pass_rate"),
    *("pass_rate_interval", "is_correct", "difficulty_measured", "doubts", "answer_judgements", "response_index"),
    *("model_votes", "models_agree"),
)
"""Keys that verify.py writes; `answer_groups` marks a verified record."""


def with_reference(record: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a record whose `reference_answer` is the value of its `key`, as text; an existing one goes into `previous`.

    Raises:
        MagpieError: the value is neither a text nor a number.
    """
    if key == REFERENCE:
        return record
    value = record.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
        raise MagpieError(
            f"the record {record.get('id')!r}: `{key}` is neither a text nor a number, so it is not a reference answer. "
            "Name another key with --reference_key"
        )
    reference = "" if value is None else stated(str(value).strip())
    if reference == (record.get(REFERENCE) or ""):
        return record
    record = put_aside(record, [REFERENCE])
    return record | {REFERENCE: reference} if reference else record


def stated(reference: str) -> str:
    """Return the final answer of a reference that is a whole solution (GSM8K's end in `#### 42`); any other unchanged."""
    is_solution = "\n" in reference or "####" in reference
    return (final_answer(reference) or reference) if is_solution else reference


def job_of(record: dict[str, Any]) -> Job | None:
    """Return a record's job for the verifier, or None if it has no response."""
    responses = record.get("responses") or ([record["response"]] if record.get("response") else [])
    reference = record.get(REFERENCE)
    return Job(list(responses), stated(reference) if reference else None) if responses else None


def verified(record: dict[str, Any], judgement: Judgement) -> dict[str, Any]:
    """Return a record with the results on its answers.

    Earlier results are replaced. A user's own value under such a key, in a record that was not verified before, goes
    into `previous`.
    """
    count = len(judgement.answers)
    asked = asked_for(record, count) if record.get("responses") else count
    rule = rule_of(record) if record.get("responses") else None
    result = vote(judgement, has_reference=bool(record.get(REFERENCE)), asked=asked, rule=rule)
    if "answer_groups" in record:
        record = {key: value for key, value in record.items() if key not in OWN_KEYS}
    else:
        record = put_aside(record, OWN_KEYS)
    return record | {
        "answers": judgement.answers,
        "majority_answer": result.majority_answer,
        "answer_states": judgement.states,
        "answer_groups": judgement.groups,
        "agreement": result.agreement,
        "answered": result.answered,
        "pass_rate": result.pass_rate,
        "pass_rate_interval": result.interval,
        "is_correct": judgement.correct,
        "difficulty_measured": difficulty(result.pass_rate if asked >= FEWEST_ANSWERS else None),
        "doubts": doubts_of(record, judgement, result, asked),
        **model_votes(record, judgement, result.winner),
    }


def with_response(record: dict[str, Any], *, keep_unverified: bool) -> tuple[dict[str, Any], str]:
    """Return a verified record with one of its `responses` as its `response`, and why it has none (else empty).

    A right one is chosen if there is a reference answer, else a member of the majority. The lists go into `previous`.
    """
    responses = record.get("responses")
    if not responses:
        return record, ""
    if record.get(REFERENCE):
        candidates, reason = [i for i, right in enumerate(record["is_correct"]) if right], "no_right_answer"
    else:
        answer, groups = record["majority_answer"], record["answer_groups"]
        winner = groups[record["answers"].index(answer)] if answer is not None else None
        candidates, reason = [i for i, group in enumerate(groups) if winner is not None and group == winner], "no_majority"
    index = choose(candidates or (range(len(responses)) if keep_unverified else []), record)
    if index is None:
        return record, reason
    lists = {key: record[key] for key in LISTS if isinstance(record.get(key), list) and len(record[key]) == len(responses)}
    chosen = {key: value[index] for key, value in lists.items()}
    chosen["response"] = chosen.pop("responses")
    if "response_models" in chosen:
        chosen["response_models"] = [chosen["response_models"]]
    return put_aside(record, LISTS) | chosen | {"response_index": index}, ""


def put_aside(record: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return a record with the values of some keys moved into `previous`; an older `previous` is nested in it."""
    previous = {key: record[key] for key in keys if record.get(key) is not None}
    kept = {key: value for key, value in record.items() if key not in keys}
    if not previous:
        return kept
    earlier = {"previous": record["previous"]} if record.get("previous") else {}
    return kept | {"previous": previous | earlier}
