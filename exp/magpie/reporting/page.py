"""A job's report as one HTML page: no network, no markup from models, one small script to find records."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from magpie.common.progress import duration
from magpie.controls import telling
from magpie.records.schema import ANSWER_TYPES, DIFFICULTIES, DOMAIN_TAGS, QUALITIES, SAFETIES
from magpie.reporting.charts import Row, bar_chart, histogram, reliability
from magpie.reporting.facts import SOUNDNESS, Report
from magpie.reporting.math_html import MathText, visible
from magpie.runs.run_file import RunFile

TEMPLATE, SCRIPT = Path(__file__).with_name("page.html"), Path(__file__).with_name("page.js")
MATH_BYTES, MATH_SECONDS = 1_500_000, 20.0
"""Limits of a page's formulas, in bytes and seconds; the rest is shown as LaTeX."""
ORDER = (*DIFFICULTIES, *reversed(QUALITIES), *ANSWER_TYPES, *SAFETIES, *DOMAIN_TAGS)
MOST_ROWS, TITLE_CHARACTERS = 15, 140
Cell = tuple[str, int, float]
"""A column, a count, and its shade."""


def open_templates() -> tuple[jinja2.Environment, MathText]:
    """Return the templates with their filters, and the renderer of formulas within a page's limits."""
    maths = MathText(most_bytes=MATH_BYTES, most_seconds=MATH_SECONDS)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "maths": lambda text: Markup(maths.html(text)),  # noqa: S704 - it escapes all but the MathML that it writes itself
        "time": duration,
        "size": size,
        "counted": lambda number, word: f"{size(number)} {word}{'' if number == 1 else 's'}",
        "rows": rows,
        "without": lambda stem, name: stem.removeprefix(name) if len(stem) > len(name) else stem,
        "short": lambda text: text if len(text) <= TITLE_CHARACTERS else f"{text[:TITLE_CHARACTERS]} …",
        "grid": grid,
    }
    return environment, maths


def page(report: Report) -> str:
    """Return the report as HTML."""
    environment, maths = open_templates()
    made = datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
    script = SCRIPT.read_text(encoding="utf-8")
    values = {
        "report": report,
        "made": made,
        "tokens": tokens_of(report.runs),
        "maths": maths,
        "soundness": SOUNDNESS,
        "lineage": ("made harder by",),
        "told": telling,
        "reliability": reliability,
        "bar_chart": bar_chart,
        "histogram": histogram,
        "funnel": [(step.name, step.count) for step in report.steps],
        "contents": contents(report),
        "is_job": report.is_job,
        "script": Markup(script),  # noqa: S704 - our own
        "script_hash": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    }
    text = environment.get_template(TEMPLATE.name).render(values)
    return text.encode("utf-8", "replace").decode()


def contents(report: Report) -> list[tuple[str, str]]:
    """Return the page's sections: the id and the title of each."""
    records = report.facts is not None and report.facts.records > 0
    sections = [
        ("way", "from the model to the data", report.is_job),
        ("stage-list", "stages", report.is_job),
        ("records", "the records", records),
        ("soundness", "validity and doubts", records and report.facts is not None and report.facts.has_soundness),
        ("pairs", "pairs", bool(report.pairs)),
        ("controls", "how wrong it is", bool(report.measured)),
        ("samples", "records to read", records),
        ("edge", "at the edge of the filter", bool(report.edge[0] or report.edge[1])),
        ("dropped", "dropped records", bool(report.dropped)),
    ]
    return [(name, title) for name, title, there in sections if there]


def rows(counted: Counter[str]) -> list[Row]:
    """Return labels with their counts, in their own order if they have one, else the most frequent first."""
    ranked = counted.most_common()
    if set(counted) <= set(ORDER):
        ranked.sort(key=lambda pair: ORDER.index(pair[0]))
    others = sum(count for _, count in ranked[MOST_ROWS:])
    return [*ranked[:MOST_ROWS], *([(f"{len(ranked) - MOST_ROWS} others", others)] if others else [])]


def grid(counts: Counter[tuple[str, str]]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Return a table of pairs of labels: the columns, and the rows with their cells, shaded by count."""
    by_row, by_column = Counter[str](), Counter[str]()
    for (row, column), count in counts.items():
        by_row[row] += count
        by_column[column] += count
    columns = [label for label, _ in rows(by_column) if label in by_column]
    names = [label for label, _ in rows(by_row) if label in by_row]
    darkest = max(counts.values())
    return columns, [
        (row, [(column, counts[row, column], round(counts[row, column] / darkest, 2)) for column in columns]) for row in names
    ]


def tokens_of(runs: list[RunFile]) -> int:
    """Return the total number of tokens written."""
    return sum(run.tokens_in_all["completion"] for run in runs)


def size(number: float) -> str:
    """Return a number in readable form: 1234567 → `1,234,567`, 0.12345 → `0.123`."""
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
