"""A job's report as one page of HTML: no script, no network, no markup of what models wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from magpie.common.progress import duration
from magpie.controls import telling
from magpie.records.schema import ANSWER_TYPES, DIFFICULTIES, DOMAIN_TAGS, QUALITIES, SAFETIES
from magpie.reporting.facts import SOUNDNESS, Report
from magpie.reporting.math_html import MathText, visible
from magpie.reporting.streaming_stats import Numbers
from magpie.runs.run_file import RunFile

TEMPLATE = Path(__file__).with_name("page.html")
MATH_BYTES, MATH_SECONDS = 1_500_000, 20.0
"""Limits of formulas: their share of the page, and of the time to make it; the rest is shown as LaTeX."""
ORDER = (*DIFFICULTIES, *reversed(QUALITIES), *ANSWER_TYPES, *SAFETIES, *DOMAIN_TAGS)
MOST_ROWS = 15
Share = tuple[str, int, float]
"""A label, its count, and its length as a bar: percent of the longest."""


def page(report: Report) -> str:
    """Return the report as HTML."""
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
        "bars": bars,
        "shares": shares,
        "grid": grid,
    }
    made = datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
    values = {"report": report, "made": made, "tokens": tokens_of(report.runs), "maths": maths}
    values |= {"soundness": SOUNDNESS, "told": telling}
    text = environment.get_template(TEMPLATE.name).render(values)
    return text.encode("utf-8", "replace").decode()


def shares(counts: Iterable[tuple[str, int]]) -> list[Share]:
    """Return counts with their bars' lengths."""
    counts = list(counts)
    longest = max((count for _, count in counts), default=0) or 1
    return [(label, count, round(100 * count / longest, 2)) for label, count in counts]


def bars(counted: Counter[str] | Numbers) -> list[Share]:
    """Return the bars of labels, in their own order where they have one, else the most frequent first; or those of numbers."""
    if isinstance(counted, Numbers):
        return shares(counted.bars())
    ranked = counted.most_common()
    if set(counted) <= set(ORDER):
        ranked.sort(key=lambda pair: ORDER.index(pair[0]))
    others = sum(count for _, count in ranked[MOST_ROWS:])
    return shares([*ranked[:MOST_ROWS], *([(f"{len(ranked) - MOST_ROWS} others", others)] if others else [])])


def grid(counts: Counter[tuple[str, str]]) -> tuple[list[str], list[tuple[str, list[Share]]]]:
    """Return a table of pairs of labels: the columns, and the rows with their cells; how dark a cell is goes by its count."""
    by_row, by_column = Counter[str](), Counter[str]()
    for (row, column), count in counts.items():
        by_row[row] += count
        by_column[column] += count
    columns = [label for label, _, _ in bars(by_column) if label in by_column]
    rows = [label for label, _, _ in bars(by_row) if label in by_row]
    darkest = max(counts.values())
    return columns, [
        (row, [(column, counts[row, column], round(counts[row, column] / darkest, 2)) for column in columns]) for row in rows
    ]


def tokens_of(runs: list[RunFile]) -> int:
    """Return the number of tokens written in all."""
    return sum(run.tokens_in_all["completion"] for run in runs)


def size(number: float) -> str:
    """Return a number as a person reads it: 1234567 → `1,234,567`, 0.12345 → `0.123`."""
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
