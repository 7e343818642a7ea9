"""What controls tell, in words."""

from __future__ import annotations

from typing import Any


def percent(share: float | None, interval: list[float] | None = None) -> str:
    """Return a share as a reader has it: 4.2% (2.3–7.8%)."""
    if share is None:
        return "no known share"
    ends = f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f}%)" if interval else ""
    return f"{100 * share:.1f}%{ends}"


def sentence(measured: dict[str, Any]) -> str:
    """Return what the controls say of the labels."""
    labels = measured["labels"]
    judged = labels["right"] + labels["wrong"]
    if not judged:
        return f"None of {measured['controls']} controls that passed the same filters has a label that could be judged."
    left = [(labels["not_judged"], "could not be judged"), (labels["without_label"], "have no label")]
    more = "".join(f"; {count} more {what}" for count, what in left if count)
    wrong = percent(labels["share"], labels["interval"])
    return f"Of {judged} controls that passed the same filters {wrong} carry a wrong label{more}."
