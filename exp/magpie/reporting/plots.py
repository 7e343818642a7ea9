"""Plots of records and jobs, for the notebooks: lengths, labels, votes, distances, what a filter removes, the funnel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from magpie.records.reading import read_rows
from magpie.records.schema import DIFFICULTIES, QUALITIES
from magpie.reporting.funnel import Step, line_of, steps_of
from magpie.runs.jobs import run_files
from magpie.runs.paths import Paths
from magpie.runs.run_file import read_run_file
from magpie.verification.votes import votes_meant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = list[dict[str, Any]]


def load(path: Path) -> Records:
    """Return a file's records."""
    return [row.record for row in read_rows(path, ()) if row.record]


def lengths(records: Records, by: str | None = None) -> Figure:
    """Plot how long problems and responses are, in characters; `by`: one line per value of this key."""
    figure, (left, right) = _axes(2)
    for name, group in _groups(records, by).items():
        for axes, key in ((left, "instruction"), (right, "response")):
            sizes = [len(record[key]) for record in group if record.get(key)]
            if sizes:
                axes.hist(sizes, bins=_bins(sizes), histtype="step", label=name)
    left.set(title="problems", xlabel="characters", ylabel="records")
    right.set(title="responses", xlabel="characters")
    if by and records:
        left.legend()
    return figure


def labels(records: Records, rows: str, columns: str) -> Figure:
    """Plot how many records have each pair of two labels."""
    counts = Counter((_label(record, rows), _label(record, columns)) for record in records)
    down, across = (sorted({pair[side] for pair in counts}, key=_rank) for side in (0, 1))
    figure, (axes,) = _axes(1)
    if not counts:
        axes.set(title=f"{rows} × {columns}: no records")
        return figure
    axes.imshow([[counts[row, column] for column in across] for row in down], cmap="Blues", aspect="auto")
    axes.set(title=f"{rows} × {columns}", xticks=range(len(across)), yticks=range(len(down)))
    axes.set_xticklabels(across, rotation=30, ha="right")
    axes.set_yticklabels(down)
    dark = max(counts.values()) / 2
    for (row, column), count in counts.items():
        color = "white" if count > dark else "black"
        axes.text(across.index(column), down.index(row), str(count), ha="center", va="center", color=color)
    return figure


def distances(records: Records) -> Figure:
    """Plot the distance to the nearest neighbour, of kept records and of duplicates."""
    figure, (axes,) = _axes(1)
    known = [record for record in records if record.get("min_neighbor_distance") is not None]
    for name, wanted in (("kept", True), ("duplicates", False)):
        values = [r["min_neighbor_distance"] for r in known if (r.get("duplicate_of") is None) is wanted]
        if values:
            axes.hist(values, bins=_bins(values), histtype="step", label=f"{name} ({len(values)})")
    title = "squared distance to the nearest neighbour" if known else "no record has min_neighbor_distance: run gen_dis.py"
    axes.set(title=title, xlabel="distance", ylabel="records")
    if known:
        axes.legend()
    return figure


def votes(records: Records) -> Figure:
    """Plot the readable answers per problem, and their agreement."""
    figure, (left, right) = _axes(2)
    asked = max((votes_meant(record, len(record.get("answer_groups") or ())) for record in records), default=0)
    readable = [sum(group is not None for group in record.get("answer_groups") or ()) for record in records]
    left.hist(readable, bins=[size - 0.5 for size in range(asked + 2)], rwidth=0.8)
    left.set(title=f"answers that could be read, of {asked}", xlabel="answers", ylabel="problems")
    agreements = [record["agreement"] for record in records if record.get("agreement") is not None]
    right.hist(agreements, bins=[share / 10 for share in range(12)], rwidth=0.8, align="left")
    right.set(title="agreement", xlabel="the most frequent answer's share of all", xlim=(-0.05, 1.05))
    return figure


def funnel(job: Path) -> Figure:
    """Plot the problems left after each stage of a job, and why the others were dropped."""
    runs = run_files(job, skip_broken=True)
    steps = steps_of(line_of(runs), [run for run in runs if run.status == "complete"])
    figure, (axes,) = _axes(1)
    figure.set_size_inches(11, 0.45 * len(steps) + 1.2)
    names, left = [step.name for step in steps], [step.count for step in steps]
    drawn = axes.barh(names, left, color="tab:green")
    axes.bar_label(drawn, [_summary(step) for step in steps], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.set(title="records left after each stage", xlim=(0, 2 * max((step.read for step in steps), default=1)))
    return figure


def _summary(step: Step) -> str:
    """Return a step's count, and the reasons of the others."""
    parts = (("dropped", step.reasons), ("marked", step.marked))
    words = [f"{how}: " + ", ".join(f"{why} {count}" for why, count in counts.items()) for how, counts in parts if counts]
    return f"{step.count}   {'; '.join(words)}"[:120]


def counts(output: Path) -> dict[str, Any]:
    """Return the numbers of records that a stage read, wrote and dropped by reason, from the run file of its output."""
    found: dict[str, Any] = msgspec.to_builtins(read_run_file(Paths.beside(output).run).counts)
    return found


def removed(output: Path) -> Figure:
    """Plot what a stage kept and what each of its reasons removed."""
    found = counts(output)
    bars = {"kept": found["written"], **dict(sorted(found["dropped"].items(), key=lambda item: -item[1]))}
    figure, (axes,) = _axes(1)
    drawn = axes.barh(list(bars), list(bars.values()), color=["tab:green", *["tab:red"] * (len(bars) - 1)])
    axes.bar_label(drawn)
    axes.invert_yaxis()
    axes.locator_params(axis="x", integer=True)
    axes.set(title=f"of {found['read']} records", xlabel="records")
    return figure


def _rank(label: str) -> tuple[int, str]:
    """Return a sort key for labels: those with an order first, others alphabetically."""
    order = (*DIFFICULTIES, *QUALITIES)
    return (order.index(label) if label in order else len(order)), label


def _groups(records: Records, by: str | None) -> dict[str, Records]:
    groups: dict[str, Records] = {}
    for record in records:
        groups.setdefault(_label(record, by) if by else "all", []).append(record)
    return groups


def _label(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return "(none)" if value is None else str(value)[:40]


def _bins(values: list[Any]) -> int:
    """Return the number of bars for a number of values."""
    return min(40, 6 + len(values) // 5)


def _axes(count: int) -> tuple[Figure, Iterable[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(5.5 * count, 3.6), layout="constrained", squeeze=False)
    for one in axes[0]:
        one.locator_params(axis="y", integer=True)  # counts are whole numbers
    return figure, axes[0]
