"""A stage's end on the screen: a table of its run, and the first finished records."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from magpie.common.console import file_log, printable
from magpie.common.progress import duration
from magpie.runs.paths import Paths
from magpie.runs.totals import Totals

EXAMPLES = 3
EXAMPLE_CHARACTERS = 600


def show_summary(stage: str, paths: Paths, totals: Totals, more: Iterable[tuple[str, str]] = ()) -> None:
    """Print the table at a stage's end: read, written, dropped by reason, the stage's own rows, tokens, time, the files."""
    from rich.console import Console
    from rich.table import Table

    dropped = sum(totals.dropped.values())
    rows = [("read", f"{totals.written + dropped:,}"), ("written", f"{totals.written:,}")]
    rows += [] if totals.rows is None else [("  rows", f"{totals.rows:,}")]
    rows.append(("dropped", f"{dropped:,}"))
    rows += [(f"  {reason}", f"{count:,}") for reason, count in totals.dropped.most_common()]
    rows += more
    if totals.completion_tokens:
        rows.append(("tokens", f"{totals.prompt_tokens:,} read, {totals.completion_tokens:,} written"))
        rows.append(("tokens/s", f"{totals.tokens_per_second:,.0f}"))
    if each := totals.tokens_per_kept_record:
        rows.append(
            (
                "tokens per kept record",
                f"{each['prompt']:,.0f} read, {each['completion']:,.0f} written, over all stages",
            )
        )
    rows += [(name.replace("_", " "), str(value)) for name, value in totals.statistics.items()]
    rows.append(("time", duration(totals.seconds)))
    rows += [("output", str(paths.output)), ("run file", str(paths.run))]
    if dropped:
        rows.append(("dropped rows", str(paths.dropped)))
    rows = [(printable(name), printable(value)) for name, value in rows]  # a reason may contain a server's text
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"  {name}", value)
    # as wide as needed: a folded path cannot be copied
    screen = Console(file=sys.stderr, highlight=False, markup=False, emoji=False, width=1000)
    screen.print(stage)
    screen.print(table)
    file_log.info("finished: %s", ", ".join(f"{name.strip()} {value}" for name, value in rows))


def show_examples(path: Path) -> None:
    """Print the first finished records of an output: the problem, and the beginning of the response if there is one."""
    from rich import box
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    width = min(shutil.get_terminal_size().columns, 200)  # COLUMNS may have any value
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False, width=width)
    with path.open("rb") as lines:
        for line in itertools.islice(lines, EXAMPLES):
            record = msgspec.json.decode(line)
            parts = [Text(printable(record["instruction"], EXAMPLE_CHARACTERS), style="bold")]
            if response := _first_response(record):
                parts += [Text(""), Text(printable(response, EXAMPLE_CHARACTERS))]
            console.print(Panel(Group(*parts), title=Text(printable(str(record["id"]))), box=box.ROUNDED))


def _first_response(record: dict[str, Any]) -> str:
    responses = record.get("responses") or [record.get("response")]
    return responses[0] or ""
