"""Records and preference pairs as shown in a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

TEXT_CHARACTERS, SHORT_CHARACTERS, VOTE_CHARACTERS, MOST_VOTES = 4000, 400, 600, 8
"""Characters shown of a text, of a small one (a final answer, a label), and of a response that voted; votes shown."""
SHOWN_LABELS = (
    *(
        "validity",
        "answers",
        "majority_answer",
        "reference_answer",
        "answer_chosen",
        "answer_rejected",
        "agreement",
        "answered",
        "pass_rate",
    ),
    *("parent_ids", "concepts", "rationale"),
    *("vote_margin", "why", "score_chosen", "score_rejected", "domain", "target_domain"),
    *("difficulty", "difficulty_measured", "input_quality", "code_answer", "code_state"),
    *("language", "safety", "answer_type", "finish_reason", "min_neighbor_distance", "duplicate_of", "drop_reason"),
    "drop_detail",
)
Record = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A record as shown: its labels, and its texts, each with its full length in characters."""

    title: str
    labels: list[tuple[str, str]]
    texts: list[tuple[str, str, int]]
    votes: list[tuple[str, str, int]] = field(default_factory=list)
    """Each response, named by its final answer, if there are several."""
    chips: list[tuple[str, str, str]] = field(default_factory=list)
    """Coloured labels: name, value, and `good`, `bad` or nothing."""

    @property
    def beside(self) -> bool:
        """Whether it is a pair, whose sides are shown next to each other."""
        return any(name == "chosen" for name, _, _ in self.texts)


def sample_of(record: Record, *, short: bool = False) -> Sample:
    """Return a record as shown; with `short` less of it, and no responses."""
    texts = [("problem", record.get("instruction") or record.get("raw") or content_of(record.get("prompt")))]
    if not short:
        for parent in (record.get("evolution") or {}).get("parents") or ():
            texts += [
                (f"made out of {_short(parent.get('id'))}, pass rate {parent.get('pass_rate')}", parent.get("instruction"))
            ]
        texts += [("chain of thought", _first(record.get("reasoning")))]
        texts += [_solution(record)]
    return _sample(record, texts, TEXT_CHARACTERS // 2 if short else TEXT_CHARACTERS, [] if short else _votes(record))


def _votes(record: Record) -> list[tuple[str, str, int]]:
    before = record.get("previous")
    responses = record.get("responses") or (before.get("responses") if isinstance(before, dict) else None)
    answers = record.get("answers")
    if not isinstance(responses, list) or not isinstance(answers, list) or len(responses) != len(answers):
        return []
    pairs = [(answer, text) for answer, text in zip(answers, responses, strict=True) if isinstance(text, str)]
    return [
        ("no final answer" if answer is None else _short(answer), text[:VOTE_CHARACTERS], len(text))
        for answer, text in pairs[:MOST_VOTES]
    ]


def _chips(record: Record) -> list[tuple[str, str, str]]:
    chips = []
    for reason in dict.fromkeys(listed(record.get("finish_reason"))):
        chips.append(("finish reason", _short(reason), "good" if reason == "stop" else "bad"))
    agreement = record.get("agreement")
    if isinstance(agreement, float | int):
        chips.append(("agreement", f"{agreement:.2f}", "good" if agreement > 0.5 else "bad"))  # as in the filter `sft`
    if domain := record.get("domain") or record.get("target_domain"):
        chips.append(("domain", _short(domain), ""))
    if record.get("duplicate_of") is not None:
        chips.append(("repeated", "a copy of another", "bad"))
    return chips


def pair_sample(record: Record) -> Sample:
    """Return a preference pair as shown."""
    texts = [("problem", content_of(record.get("prompt")) or record.get("instruction") or "")]
    texts += [(side, content_of(record.get(side))) for side in ("chosen", "rejected")]
    return _sample(record, texts, TEXT_CHARACTERS)


def content_of(messages: Any) -> str:
    """Return the last message's text; some older datasets have the text itself."""
    if isinstance(messages, str):
        return messages
    last = messages[-1] if messages else {}
    return str(last.get("content") or "")


def _sample(record: Record, texts: list[tuple[str, Any]], limit: int, votes: Sequence[tuple[str, str, int]] = ()) -> Sample:
    labels = [
        (name.replace("_", " "), _short(record[name])) for name in SHOWN_LABELS if record.get(name) not in (None, "", [], {})
    ]
    shown = [(name, text[:limit], len(text)) for name, text in texts if isinstance(text, str) and text]
    return Sample(_short(record.get("id")), labels, shown, list(votes), _chips(record))


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
    """Return a value's elements, or the value as the only one, without nulls."""
    return [] if value is None else [one for one in value if one is not None] if isinstance(value, list) else [value]
