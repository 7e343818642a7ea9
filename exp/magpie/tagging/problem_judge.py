"""A model's opinion of problems that rules have cleaned: its verdict is recorded beside theirs, and decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from magpie.cleaning.clean import as_record, clean, raw_text
from magpie.client.replies import Completion
from magpie.config.model_presets import ModelPreset
from magpie.generation.session import Session, Template
from magpie.records.reading import read_rows
from magpie.runs.paths import Paths
from magpie.tagging.missions import EMPTY, JUDGE
from magpie.tagging.taggers import Asker

QUESTIONS = ("complete", "self_contained", "definite_answer")


class ProblemJudge:
    """Cleans a record by rules, asks the model about what is left, and keeps or drops it as the rules say."""

    def __init__(self, preset: ModelPreset, language: str) -> None:
        self._asker, self._model, self._language = Asker(preset), preset.model, language

    def try_template(self, template: Template) -> None:
        """Render a prompt."""
        template.prompt("1 + 1?", thinking=False)

    async def work(self, session: Session, item: tuple[int, dict[str, Any]]) -> None:
        """Finish one record."""
        index, record = item
        cleaned = clean(raw_text(record), language=self._language)
        completions: list[Completion] = []
        result = await self._asker.ask(session, JUDGE, cleaned.text, completions) if cleaned.drop_reason != "empty" else EMPTY
        verdict = {"failure": result} if isinstance(result, str) else {**result, "model": self._model}
        row = as_record(record, cleaned) | {"judge_verdict": verdict}
        if cleaned.drop_reason:
            session.drop(index, row, cleaned.drop_reason, completions=completions)
        else:
            session.keep(index, row, completions)


def agreement_rows(paths: Paths) -> list[tuple[str, str]]:
    """Return the agreement of rules and judge, as rows of the summary."""
    return [(f"judge on {name}", _counts(path)) for name, path in (("kept", paths.output), ("dropped", paths.dropped))]


def _counts(path: Path) -> str:
    counts = Counter(kind for verdict in _verdicts(path) for kind in _kinds(verdict))
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common()) or "nothing"


def _kinds(verdict: dict[str, Any]) -> list[str]:
    if "failure" in verdict:
        return ["no verdict"]
    lacking = [f"not {question}" for question in QUESTIONS if verdict[question] == "no"]
    return lacking or ["whole"]


def _verdicts(path: Path) -> Iterator[dict[str, Any]]:
    for row in read_rows(path, ()):
        if row.record and row.record.get("judge_verdict"):
            yield row.record["judge_verdict"]
