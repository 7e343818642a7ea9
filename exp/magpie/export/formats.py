"""The formats of exported datasets: the content of a row, and which records are refused.

A column's type is "string", "double", "int64" or "bool"; [type] is a list, {name: type} an object. They are declared, not
inferred: a column in which every value happens to be null keeps its type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from magpie.common.console import MagpieError
from magpie.export import preference_formats, rl_formats, snippets
from magpie.export.preference_formats import MESSAGES, NEEDS, TURN, Row
from magpie.export.rl_formats import user
from magpie.records.values import USERS
from magpie.runs.jobs import model_name
from magpie.text.degeneration import training_defect
from magpie.text.reasoning import CLOSE, OPEN

Columns = dict[str, Any]
NOT_JUDGED = "not judged"

METADATA: Columns = {
    "answer": "string",
    "answer_source": "string",
    "majority_answer": "string",
    "pass_rate": "double",
    "agreement": "double",
    "domain": "string",
    "difficulty": "string",
    "difficulty_measured": "string",
    "validity": "string",
    "input_quality": "string",
    "language": "string",
    "answer_type": "string",
    "instruct_reward": "double",
    "source": "string",
    "problem_model": "string",
    "answer_model": "string",
}
"""Columns that every format adds; null if no stage set them, omitted if null in all rows."""
PROBLEMS = ("instruction", "question", "prompt", "messages", "conversations")
ANSWERS = ("ground_truth", "answer", "pass_rate")
"""The columns that the hub shows first: the first of PROBLEMS that a format has, then these."""


@dataclass(frozen=True)
class Options:
    """The options that decide how records become rows."""

    reasoning: bool = True
    keep_unfinished: bool = False


@dataclass(frozen=True)
class Format:
    """A format: its description in the card, its columns, its rows, and why a record is refused (empty: it is not).

    `row` returns one row or a list of them; `needs` are the keys that every record must have. `axolotl` and `llama_factory`:
    what those programs' documentation wants in their configurations to read it; `snippet`: how another trainer takes it.
    """

    about: str
    columns: Columns
    row: Callable[[dict[str, Any], Options], Row | list[Row]]
    refusal: Callable[[dict[str, Any], Options], str]
    axolotl: dict[str, Any] | None = None
    llama_factory: dict[str, Any] | None = None
    snippet: str = ""
    needs: tuple[str, ...] = ("instruction",)


def of_response(record: dict[str, Any], key: str) -> Any:
    """Return a response's own value of a key, which is a list if the record has several responses."""
    value, responses = record.get(key), record.get("responses")
    if isinstance(value, list) and responses and record.get("response") in responses:
        index = responses.index(record["response"])
        return value[index] if index < len(value) else None
    return value


def response_text(record: dict[str, Any], options: Options) -> str:
    """Return the response, after its chain of thought if there is one and it is wanted."""
    thought = of_response(record, "reasoning") if options.reasoning else None
    return f"{OPEN}\n{thought}\n{CLOSE}\n\n{record['response']}" if thought else str(record["response"])


def between(record: dict[str, Any]) -> list[dict[str, str]]:
    """Return the turns between a conversation's first and its last; none where gen_res.py responded to the first alone."""
    if record.get("gen_response_configs"):
        return []
    turns = [turn for turn in record.get("history") or [] if isinstance(turn.get("content"), str)]
    return [{"role": "user" if turn.get("role") in USERS else "assistant", "content": turn["content"]} for turn in turns]


def conversation(record: dict[str, Any], options: Options) -> list[dict[str, str]]:
    """Return a record's turns: the problem, what was said between, the response."""
    return [user(record), *between(record), {"role": "assistant", "content": response_text(record, options)}]


def unfit_single(record: dict[str, Any], options: Options) -> str:
    """Return the same as `unfit_response` for a format with one turn of each side."""
    return unfit_response(record, options) or ("several_turns" if between(record) else "")


def unfit_response(record: dict[str, Any], options: Options) -> str:
    """Return why a record has no response to train on, or an empty text."""
    if not record.get("response"):
        if record.get("responses"):
            raise MagpieError(
                f"the record {record.get('id')!r} has several responses, and this format takes one: use a file made with "
                "--num_responses 1, or let verify.py choose one (--choose)"
            )
        return "no_response"
    finish = of_response(record, "finish_reason")
    if finish not in (None, "stop") and not options.keep_unfinished:
        return f"unfinished_{finish}"
    return training_defect(response_text(record, options))


def sharegpt(record: dict[str, Any], options: Options) -> Row:
    """Return a record as a ShareGPT conversation."""
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names[turn["role"]], "value": turn["content"]} for turn in conversation(record, options)]
    return {"conversation_id": record.get("id"), "conversations": turns}


def messages(record: dict[str, Any], options: Options) -> Row:
    """Return a record as chat messages."""
    return {"id": record.get("id"), "messages": conversation(record, options)}


def alpaca(record: dict[str, Any], options: Options) -> Row:
    """Return a record as an instruction and its output."""
    return {"id": record.get("id"), "instruction": record["instruction"], "input": "", "output": response_text(record, options)}


FORMATS = {
    "sharegpt": Format(
        about="one conversation per problem: `conversations`, each turn `from` (human, gpt) and `value`",
        columns={"conversation_id": "string", "conversations": [TURN]},
        row=sharegpt,
        refusal=unfit_response,
        snippet=snippets.SFT,
        axolotl={
            "type": "chat_template",
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
        },
        llama_factory={"formatting": "sharegpt", "columns": {"messages": "conversations"}},
    ),
    "messages": Format(
        about="chat messages, one list per problem: `messages`, each `role` (user, assistant) and `content`",
        columns={"id": "string", "messages": MESSAGES},
        row=messages,
        refusal=unfit_response,
        snippet=snippets.SFT,
        axolotl={"type": "chat_template", "field_messages": "messages"},
        llama_factory={
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
        },
    ),
    "rlvr": Format(
        about="a prompt and the answer to check against, as TRL's GRPO takes them: `prompt` (messages), `ground_truth`, and "
        "its origin in `answer_source` (`reference`: given; `majority`: a vote, which can be wrong)",
        columns=rl_formats.RLVR_COLUMNS,
        row=rl_formats.rlvr,
        refusal=rl_formats.no_answer,
        snippet=snippets.GRPO,
    ),
    "verl": Format(
        about="verl's rows: `prompt` (messages), `reward_model` with the answer to check against (`ground_truth`), and in "
        "`extra_info` the id (`index`), the pass rate and the origin of the answer (`majority`: a vote, which can be wrong)",
        columns=rl_formats.VERL_COLUMNS,
        row=rl_formats.verl,
        refusal=rl_formats.no_answer,
        snippet=snippets.VERL,
    ),
    "prime-rl": Format(
        about="rows of a verifiers environment, as prime-rl takes them: `question`, the same as `prompt` (messages), the "
        "`answer` to check against, and in `info` (JSON) the id, the pass rate and the origin of the answer",
        columns=rl_formats.PRIME_RL_COLUMNS,
        row=rl_formats.prime_rl,
        refusal=rl_formats.no_answer,
        snippet=snippets.VERIFIERS,
    ),
    "stepwise": Format(
        about="one response per row, for process reward models: `prompt`, `completions` (its steps) and `labels`: whether each "
        "is right, which is the opinion of `reward_model` (at least 0.5 in `step_rewards`), not the truth",
        columns=rl_formats.STEPWISE_COLUMNS,
        row=rl_formats.stepwise,
        refusal=rl_formats.no_steps,
    ),
    "alpaca": Format(
        about="one instruction per row: `instruction`, `input` (empty) and `output`",
        columns={"id": "string", "instruction": "string", "input": "string", "output": "string"},
        row=alpaca,
        refusal=unfit_single,
        snippet=snippets.ALPACA,
        axolotl={"type": "alpaca"},
        llama_factory={
            "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output"},
        },
    ),
    "dpo": Format(
        about="one preference per row: `prompt`, `chosen` and `rejected` (messages), and what it rests on",
        columns=preference_formats.DPO_COLUMNS,
        row=preference_formats.dpo,
        refusal=preference_formats.not_a_pair,
        axolotl=preference_formats.AXOLOTL_OF_DPO,
        snippet=snippets.DPO,
        needs=NEEDS,
    ),
    "sharegpt_dpo": Format(
        about="one conversation with two endings per row: `conversations`, `chosen`, `rejected`, each turn `from` and `value`",
        columns=preference_formats.SHAREGPT_DPO_COLUMNS,
        row=preference_formats.sharegpt_dpo,
        refusal=preference_formats.not_a_pair,
        axolotl=preference_formats.AXOLOTL,
        llama_factory=preference_formats.LLAMA_FACTORY,
        needs=NEEDS,
    ),
    "kto": Format(
        about="one completion per row: `prompt` and `completion` (messages), `label`: whether it is desirable",
        columns=preference_formats.KTO_COLUMNS,
        row=preference_formats.kto,
        refusal=preference_formats.not_a_pair,
        snippet=snippets.KTO,
        needs=NEEDS,
    ),
}
"""Every format by its name. A further one needs its row and refusal functions above, and its entry here."""


def shown_columns(chosen: Format) -> Columns:
    """Return a format's columns followed by METADATA, in the hub's display order: the problem first."""
    columns = METADATA | chosen.columns
    problem = next(name for name in PROBLEMS if name in columns)
    first = (problem, *(name for name in ANSWERS if name in columns))
    return {name: columns[name] for name in dict.fromkeys((*first, *chosen.columns, *METADATA))}


def metadata(record: dict[str, Any]) -> Row:
    """Return the values of METADATA."""
    row = dict(zip(METADATA, map(record.get, METADATA), strict=True))
    for name in ("domain", "difficulty"):  # users' labels may be lists and numbers
        if (value := row[name]) is not None and not isinstance(value, str):
            row[name] = "; ".join(value) if isinstance(value, list) else str(value)
    row["validity"] = record.get("validity") or ("undecided" if record.get("validity_votes") else NOT_JUDGED)
    row["answer"], row["answer_source"] = (None, None) if rl_formats.no_answer(record) else rl_formats.answer_of(record)
    if row["answer_source"] != "reference":  # it is the answer
        row["majority_answer"] = None
    row["problem_model"] = (record.get("gen_input_configs") or {}).get("input_generator")
    row["answer_model"] = model_name(record.get("gen_response_configs") or {}) or None
    return row


def group_of(record: dict[str, Any]) -> str:
    """Return the key of a record's group of duplicates: the id of the kept one, or its own."""
    group = record.get("duplicate_of")
    if group is None:
        group = record.get("id")
    return f"{type(group).__name__}:{group}" if group is not None else f"text:{record['instruction']}"
