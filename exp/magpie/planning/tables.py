"""Plans as tables, one column per workload, for the screen and for docs/SCALING.md."""

from __future__ import annotations

import math
from collections.abc import Callable

from magpie.planning.assumptions import Known
from magpie.planning.formulas import Plan

Line = tuple[str, list[str]]
INDENT = "  "
"""Prefix of the label of a line that explains the one above."""


def amount(number: float) -> str:
    """Return a number for people: 30000000000 → `30.0 billion`, 12345 → `12,345`, 0.5 → `0.5`."""
    for size, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if number >= size:
            return f"{number / size:,.1f}{word}"
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def hours(number: float) -> str:
    """Return hours for people: 0.01 → `36 s`, 0.5 → `30 min`, 3.25 → `3.2 h`, 240 → `240 h (10 days)`."""
    if number * 3600 < 59.5:
        return f"{number * 3600:.0f} s" if number * 3600 >= 0.5 else "under 1 s"
    if number * 60 < 59.5:
        return f"{number * 60:.0f} min"
    days = f" ({number / 24:,.0f} days)" if number >= 48 else ""
    return f"{number:.1f} h" if number < 100 else f"{number:,.0f} h{days}"


def size(gigabytes: float) -> str:
    """Return GB for people: 0.0005 → `0.5 MB`, 1500 → `1.5 TB`."""
    for unit, factor in (("PB", 1e-6), ("TB", 1e-3), ("GB", 1.0), ("MB", 1e3)):
        if gigabytes * factor >= 1 or unit == "MB":
            return f"{gigabytes * factor:,.1f} {unit}"
    raise AssertionError("unreachable")


def lines(plans: list[Plan], *, brief: bool = False) -> list[Line]:
    """Return the table's lines: a label and a cell for each plan; `brief` leaves out the lines that explain the one above."""

    def line(label: str, cell: Callable[[Plan], str]) -> Line:
        return label, [cell(plan) for plan in plans]

    first = plans[0]
    found = [
        line("samples drawn", lambda plan: amount(plan.samples)),
        line("rows of the data set", lambda plan: amount(plan.rows)),
        line("tokens written", lambda plan: amount(plan.tokens_written)),
        *(
            line(f"  {stage.name}", lambda plan, at=at: amount(plan.stages[at].tokens_written))  # type: ignore[misc]
            for at, stage in enumerate(first.stages)
            if stage.tokens_written
        ),
        line("tokens read", lambda plan: amount(plan.tokens_read)),
        line("GPU hours", lambda plan: amount(plan.gpu_hours)),
    ]
    if first.cost is not None:
        found.append(line("cost", lambda plan: amount(plan.cost or 0.0)))
    found += [
        line("on", lambda plan: f"{_many(plan.nodes, 'node')} of {plan.workload.gpus} GPUs, {_many(plan.replicas, 'replica')}"),
        line("hours, one stage after the other", lambda plan: hours(plan.hours)),
        *(
            line(f"  {stage.name}", lambda plan, at=at: hours(plan.stages[at].hours))  # type: ignore[misc]
            for at, stage in enumerate(first.stages)
        ),
    ]
    if first.workload.deadline is not None:
        found.append(line(f"nodes for {first.workload.deadline:g} hours", _deadline))
    found.append(line("disk at most", lambda plan: size(math.fsum(plan.disk.values()))))
    for kind in first.disk:
        if any(plan.disk[kind] for plan in plans):
            found.append(line(f"  {kind}", lambda plan, kind=kind: size(plan.disk[kind])))  # type: ignore[misc]
    for kind in first.memory:
        found.append(line(f"memory of {kind}", lambda plan, kind=kind: size(plan.memory[kind])))  # type: ignore[misc]
    return [one for one in found if not (brief and one[0].startswith(INDENT))]


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _deadline(plan: Plan) -> str:
    if plan.deadline_nodes is None:
        return "no number: the stages without a model take longer"
    return f"{plan.deadline_nodes:,}"


def heads(plans: list[Plan]) -> list[str]:
    """Return the table's first line: the problems of each plan."""
    return ["problems", *(f"{plan.workload.problems:,}" for plan in plans)]


def markdown(plans: list[Plan], *, brief: bool = False) -> str:
    """Return the table in Markdown; lines that explain the one above are indented."""
    rows = [heads(plans), ["---", *("---:" for _ in plans)]]
    rows += [[label.replace(INDENT, "&nbsp;&nbsp;", 1), *cells] for label, cells in lines(plans, brief=brief)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def figures_markdown(figures: Known) -> str:
    """Return the figures with their units and sources in Markdown."""
    rows = [["figure", "value", "unit", "source"], ["---", "---:", "---", "---"]]
    rows += [[f"`{name}`", f"{one.value:g}", one.unit, one.source] for name, one in figures.items()]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def show(plans: list[Plan], title: str, *, brief: bool = False) -> None:
    """Print the table on the screen."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_edge=False)
    for index, head in enumerate(heads(plans)):
        table.add_column(head, justify="right" if index else "left", overflow="fold")
    for label, cells in lines(plans, brief=brief):
        table.add_row(label, *cells)
    Console(highlight=False, markup=False, emoji=False, width=max(100, 36 + 34 * len(plans))).print(table)


def show_figures(figures: Known) -> None:
    """Print the figures on the screen."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    for head in ("figure", "value", "unit", "source"):
        table.add_column(head, justify="right" if head == "value" else "left", overflow="fold")
    for name, one in figures.items():
        table.add_row(name, f"{one.value:g}", one.unit, one.source)
    Console(highlight=False, markup=False, emoji=False, width=160).print(table)
