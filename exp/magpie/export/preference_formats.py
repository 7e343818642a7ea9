"""The formats of exported preference data: the content of a row. Their input are the rows of gen_po_pairs.py.

The functions take what those of formats.py take; the chain of thought is in the pairs as requested from gen_po_pairs.py.
Columns are declared as there: "string", "double", "int64" or "bool"; [type] is a list, {name: type} an object.
"""

from __future__ import annotations

from typing import Any

from magpie.text.degeneration import training_defect

Row = dict[str, Any]
NEEDS = ("prompt", "chosen", "rejected")
MESSAGES = [{"role": "string", "content": "string"}]
TURN = {"from": "string", "value": "string"}
EVIDENCE: dict[str, Any] = {
    "why": "string",
    "answer_chosen": "string",
    "answer_rejected": "string",
    "score_chosen": "double",
    "score_rejected": "double",
    "agreement": "double",
    "vote_margin": "double",
    "pair_weight": "double",
    "chosen_index": "int64",
    "rejected_index": "int64",
}
"""The evidence for a pair; trainers ignore these columns."""

DPO_COLUMNS: dict[str, Any] = {"id": "string", "pair": "int64", **dict.fromkeys(NEEDS, MESSAGES), **EVIDENCE}
SHAREGPT_DPO_COLUMNS = {"conversation_id": "string", "conversations": [TURN], "chosen": TURN, "rejected": TURN}
KTO_COLUMNS: dict[str, Any] = {"id": "string", "prompt": MESSAGES, "completion": MESSAGES, "label": "bool"}

LLAMA_FACTORY = {
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
}
"""`sharegpt_dpo` in LLaMA-Factory's dataset_info.json, as its data/README.md says."""
AXOLOTL = {
    "type": "chat_template.default",
    "field_messages": "conversations",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "message_property_mappings": {"role": "from", "content": "value"},
    "roles": {"user": ["human"], "assistant": ["gpt"]},
}
"""`sharegpt_dpo` as an entry of axolotl's `datasets` under `rl: dpo`, as its docs/rlhf.qmd says."""
AXOLOTL_OF_DPO = {
    "type": "chat_template.default",
    "field_messages": "prompt",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
}


def dpo(record: dict[str, Any], options: object = None) -> Row:
    """Return a pair in TRL's explicit-prompt conversational preference format."""
    row = {"id": record.get("id"), "pair": record.get("pair")}
    return row | {key: record[key] for key in NEEDS} | {key: record.get(key) for key in EVIDENCE}


def sharegpt_dpo(record: dict[str, Any], options: object = None) -> Row:
    """Return a pair as a ShareGPT conversation with two endings, which LLaMA-Factory and axolotl read."""
    turns = [{"from": "human", "value": message["content"]} for message in record["prompt"]]
    ends = {side: {"from": "gpt", "value": record[side][-1]["content"]} for side in ("chosen", "rejected")}
    return {"conversation_id": record.get("id"), "conversations": turns, **ends}


def kto(record: dict[str, Any], options: object = None) -> list[Row]:
    """Return a pair as two unpaired rows of TRL: a desirable completion and an undesirable one.

    With several pairs per problem, a response that is in more than one of them is repeated.
    """
    return [
        {"id": record.get("id"), "prompt": record["prompt"], "completion": record[side], "label": side == "chosen"}
        for side in ("chosen", "rejected")
    ]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def not_a_pair(record: dict[str, Any], options: object = None) -> str:
    """Return why a record cannot be exported as a preference, or an empty text."""
    if not all(isinstance(record.get(key), list) and record[key] and all(map(_is_message, record[key])) for key in NEEDS):
        return "not_a_pair"
    return training_defect(record["chosen"][-1]["content"]) or training_defect(record["rejected"][-1]["content"])
