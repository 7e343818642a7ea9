"""What verifying adds to a record, and how one response is chosen from several."""

from __future__ import annotations

from typing import Any

from magpie.verification.pool import Job, Judgement
from magpie.verification.votes import choose, difficulty, vote

LISTS = ("responses", "reasoning", "finish_reason", "completion_tokens")
"""What gen_res.py writes as lists where there are several responses."""


def job_of(record: dict[str, Any]) -> Job | None:
    """Return what is to be judged of a record, or None if it has no response."""
    responses = record.get("responses") or ([record["response"]] if record.get("response") else [])
    return Job(list(responses), record.get("reference_answer") or None) if responses else None


def verified(record: dict[str, Any], judgement: Judgement) -> dict[str, Any]:
    """Return a record with what was found of its answers."""
    result = vote(judgement, has_reference=bool(record.get("reference_answer")))
    record = {key: value for key, value in record.items() if key not in ("answer_judgements", "response_index")}
    return record | {
        "answers": judgement.answers,
        "answer": result.answer,
        "answer_states": judgement.states,
        "answer_groups": judgement.groups,
        "agreement": result.agreement,
        "pass_rate": result.pass_rate,
        "pass_rate_interval": result.interval,
        "is_correct": judgement.correct,
        "difficulty_measured": difficulty(result.pass_rate),
    }


def with_response(record: dict[str, Any], *, keep_unverified: bool) -> tuple[dict[str, Any], str]:
    """Return a verified record with one of its `responses` as its `response`, and why it has none (else empty).

    Chosen is a right one where there is a reference answer, else a member of the majority. The lists go into `previous`.
    """
    responses = record.get("responses")
    if not responses:
        return record, ""
    if record.get("reference_answer"):
        candidates, reason = [i for i, right in enumerate(record["is_correct"]) if right], "no_right_answer"
    else:
        winner = record["answer_groups"][record["answers"].index(record["answer"])] if record["answer"] is not None else None
        groups = record["answer_groups"]
        candidates, reason = [i for i, group in enumerate(groups) if winner is not None and group == winner], "no_majority"
    index = choose(candidates or (range(len(responses)) if keep_unverified else []), record)
    if index is None:
        return record, reason
    previous = {key: record[key] for key in LISTS if record.get(key) is not None}
    earlier = {"previous": record["previous"]} if record.get("previous") else {}
    kept = {key: value for key, value in record.items() if key not in LISTS}
    chosen = {key: value[index] for key, value in previous.items() if isinstance(value, list) and len(value) == len(responses)}
    chosen["response"] = chosen.pop("responses")
    return kept | chosen | {"response_index": index, "previous": previous | earlier}, ""
