"""Records and preference pairs as a report shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEXT_CHARACTERS, SHORT_CHARACTERS = 4000, 400
"""Characters shown of a text, and of a small one (a final answer, a label)."""
SHOWN_LABELS = (
    *("majority_answer", "reference_answer", "answer_chosen", "answer_rejected", "agreement", "answered", "pass_rate"),
    *("parent_ids", "concepts", "rationale"),
    *("vote_margin", "why", "score_chosen", "score_rejected", "domain", "target_domain"),
    *("difficulty", "difficulty_measured", "input_quality", "code_answer", "code_state"),
    *("language", "safety", "answer_type", "finish_reason", "min_neighbor_distance", "duplicate_of", "drop_reason"),
    "drop_detail",
)
Record = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A record as it is shown: its labels, and its texts, each with its full length in characters."""

    title: str
    labels: list[tuple[str, str]]
    texts: list[tuple[str, str, int]]


def sample_of(record: Record, *, short: bool = False) -> Sample:
    """Return a record as it is shown; `short` gives less of it, and no responses."""
    texts = [("problem", record.get("instruction") or record.get("raw") or content_of(record.get("prompt")))]
    if not short:
        for parent in (record.get("evolution") or {}).get("parents") or ():
            texts += [
                (f"made out of {_short(parent.get('id'))}, pass rate {parent.get('pass_rate')}", parent.get("instruction"))
            ]
        texts += [("chain of thought", _first(record.get("reasoning")))]
        texts += [_solution(record)]
    return _sample(record, texts, TEXT_CHARACTERS // 2 if short else TEXT_CHARACTERS)


def pair_sample(record: Record) -> Sample:
    """Return a preference pair as it is shown."""
    texts = [("problem", content_of(record.get("prompt")) or record.get("instruction") or "")]
    texts += [(side, content_of(record.get(side))) for side in ("chosen", "rejected")]
    return _sample(record, texts, TEXT_CHARACTERS)


def content_of(messages: Any) -> str:
    """Return the last message's text; some older data sets have the text itself."""
    if isinstance(messages, str):
        return messages
    last = messages[-1] if messages else {}
    return str(last.get("content") or "")


def _sample(record: Record, texts: list[tuple[str, Any]], limit: int) -> Sample:
    labels = [
        (name.replace("_", " "), _short(record[name])) for name in SHOWN_LABELS if record.get(name) not in (None, "", [], {})
    ]
    shown = [(name, text[:limit], len(text)) for name, text in texts if isinstance(text, str) and text]
    return Sample(_short(record.get("id")), labels, shown)


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else ", ".join(map(str, listed(value)))
    return text if len(text) <= SHORT_CHARACTERS else text[:SHORT_CHARACTERS] + " …"


def _solution(record: Record) -> tuple[str, Any]:
    if record.get("response") or not record.get("responses"):
        return "solution", record.get("response")
    return f"solution, the first of {len(record['responses'])}", record["responses"][0]


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, list) else value


def listed(value: Any) -> list[Any]:
    """Return a value's elements, or the value as the only one; nulls are left out."""
    return [] if value is None else [one for one in value if one is not None] if isinstance(value, list) else [value]
