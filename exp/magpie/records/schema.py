"""The record: every key that a stage writes, with its type, and the allowed labels."""

from __future__ import annotations

from typing import Any, TypedDict

DOMAINS = ("algebra", "calculus", "geometry", "statistics", "number_theory", "discrete")
DOMAIN_TAGS = (*DOMAINS, "other")
"""Labels of `domain`; those of `target_domain` are DOMAINS."""
ANSWER_TYPES = ("closed", "proof", "open")
"""The kind of answer that a problem asks for: one definite answer, a proof, or neither. Only closed ones can be verified."""
DIFFICULTIES = ("very easy", "easy", "medium", "hard", "very hard")
QUALITIES = ("very poor", "poor", "average", "good", "excellent")
TASK_CATEGORIES = (
    *("Information seeking", "Reasoning", "Planning", "Editing", "Coding & Debugging", "Math", "Role playing"),
    *("Data analysis", "Creative writing", "Advice seeking", "Brainstorming", "Others"),
)
"""Magpie's labels, as in its datasets."""
VALID, INVALID = "valid", "invalid"
SAFETIES = ("safe", "controversial", "unsafe")


CONTROL = {"family": str, "difficulty": str, "seed": int, "answer": str}
"""What `control` has in a planted problem."""
OLD_VOTE = "answer"
"""The former name of verify.py's `majority_answer`. Now it is the user's own key."""
REFERENCE_COLUMNS = ("answer", "expected_answer", "ground_truth", "solution", "final_answer")
"""Keys under which datasets have reference answers; verify.py reads them only if told to (--reference_key)."""


class Record(TypedDict, total=False):
    """Every key that a stage writes. Other keys pass through untouched; null always means "not known"."""

    id: str | int | None
    # any stage, of a user's conversation: the turns between the first of the user and the last of the assistant
    history: list[dict[str, Any]] | None
    # gen_ins.py
    instruction: str
    pre_query_template: str | None
    opening: str | None
    target_domain: str | None
    control: dict[str, Any] | None
    template_id: str | None
    concepts: list[str] | None
    rationale: str | None
    gen_input_configs: dict[str, Any] | None
    created: int | None
    # gen_res.py: one response, or lists as long as `responses`
    response: str | None
    responses: list[str] | None
    reasoning: str | list[str | None] | None
    finish_reason: str | list[str] | None
    prompt_tokens: int | None
    completion_tokens: int | list[int] | None
    gen_response_configs: dict[str, Any] | None
    lost_responses: int | None
    votes_asked: int | None
    stop_reason: str | None
    response_models: list[str] | None
    asked_by_model: dict[str, int] | None
    previous: dict[str, Any] | None
    # clean_ins.py
    raw_instruction: str | None
    defects: list[str] | None
    answer_type: str | None
    # evolve_ins.py
    parent_ids: list[str] | None
    evolution: dict[str, Any] | None
    # unitag.py
    validity: str | None
    validity_votes: dict[str, list[int]] | None
    validity_reasons: list[str] | None
    input_quality: str | None
    quality_explanation: str | None
    difficulty: str | float | None
    intent: str | None
    knowledge: str | None
    task_category: str | None
    other_task_category: list[str] | None
    domain: str | list[str] | None
    safety: str | None
    safety_categories: list[str] | None
    instruct_reward: float | None
    language: str | None
    tag_failures: dict[str, str] | None
    tagged_by: dict[str, str] | None
    # verify.py: lists as long as `responses`, or of one
    answers: list[str | None] | None
    majority_answer: str | None
    answer_states: list[str] | None
    answer_groups: list[int | None] | None
    agreement: float | None
    answered: float | None
    pass_rate: float | None
    pass_rate_interval: list[float] | None
    is_correct: list[bool | None] | None
    reference_answer: str | None
    difficulty_measured: str | None
    doubts: dict[str, float | bool | None] | None
    answer_judgements: list[dict[str, Any]] | None
    model_votes: dict[str, dict[str, Any]] | None
    models_agree: bool | None
    # check_code.py
    code: str | None
    code_answer: str | None
    code_state: str | None
    code_agrees: bool | None
    code_sandbox: str | None
    code_votes: list[dict[str, Any]] | None
    response_index: int | None
    # gen_dis.py
    min_neighbor_distance: float | None
    repeat_count: int | None
    min_similar_conversation_id: str | int | None
    duplicate_of: str | int | None
    duplicate_evidence: dict[str, Any] | None
    # decontaminate.py
    contamination: dict[str, Any] | None
    # filter.py
    not_judged: list[str] | None
    # gen_po_rewards.py
    rewards: list[float | None] | None
    reward_model: str | None
    rewards_by_model: dict[str, list[float | None]] | None
    # concat.py
    source: str | None
    original_id: str | int | None
    step_rewards: dict[str, list[list[float] | None]] | None
    # gen_po_pairs.py: one row per pair; the first three are texts in some older datasets
    pair: int | None
    prompt: str | list[dict[str, Any]] | None
    chosen: str | list[dict[str, Any]] | None
    rejected: str | list[dict[str, Any]] | None
    chosen_index: int | None
    rejected_index: int | None
    answer_chosen: str | None
    answer_rejected: str | None
    score_chosen: float | None
    score_rejected: float | None
    votes_chosen: int | None
    votes_rejected: int | None
    vote_margin: float | None
    pair_weight: float | None
    why: str | None
    model_chosen: str | None
    model_rejected: str | None
    # any stage, in its …_dropped file
    drop_reason: str | None
    drop_detail: str | None


def is_control(record: dict[str, Any]) -> bool:
    """Return whether a record is a planted problem (gen_ins.py --planted) rather than a model's."""
    control = record.get("control")
    return isinstance(control, dict) and all(isinstance(control.get(key), kind) for key, kind in CONTROL.items())


def read_old_vote(record: dict[str, Any]) -> None:
    """Rename, in place, the majority's answer of a record verified by an older version."""
    if OLD_VOTE in record and "answer_groups" in record and "majority_answer" not in record:
        record["majority_answer"] = record.pop(OLD_VOTE)
