"""A preview's finished rows, in the terminal and as a page, and the predicted cost of the whole job."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
from markupsafe import Markup

from magpie.chain.job_file import Chain
from magpie.common.console import printable
from magpie.common.files import write_atomically
from magpie.common.progress import duration
from magpie.planning.prediction import Prediction, Range
from magpie.records.reading import read_rows
from magpie.reporting.math_html import MathText, visible
from magpie.reporting.samples import Sample, sample_of

CHARACTERS = 1200
"""Maximum characters of a text in the terminal; the page shows more."""
TEMPLATE = Path(__file__).with_name("preview.html")


def show(folder: Path, chain: Chain, prediction: Prediction) -> Path:
    """Print a preview's finished rows, dropped problems and prediction; return the same as a page."""
    from rich import box
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    rows, dropped = finished(folder, chain), left_out(folder, chain)
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    for row in rows:
        parts = [Text(printable(text, CHARACTERS), style="bold" if name == "problem" else "") for name, text, _ in row.texts]
        labels = "; ".join(f"{name}: {value}" for name, value in row.labels)
        console.print(
            Panel(Group(*parts, Text(printable(labels), style="dim")), title=Text(printable(row.title)), box=box.ROUNDED)
        )
    for row in dropped:
        console.print(Text(printable(f"dropped: {row.title} ({dict(row.labels).get('drop reason', '')})", 200)))
    for name, value in lines_of(prediction):
        console.print(Text(f"  {name:<40}{value}"), soft_wrap=True)
    page = folder / "preview.html"
    write_atomically(page, [_page(chain, rows, dropped, prediction).encode("utf-8", "replace")])
    return page


def finished(folder: Path, chain: Chain) -> list[Sample]:
    """Return the chain's final rows, before export."""
    outputs = [one for state in chain.stages if state.stage.program != "export" for one in state.outputs[:1]]
    files = [folder / output.output for output in outputs if not output.output.startswith("speed")]
    rows = read_rows(files[-1]) if files and files[-1].exists() else []
    return [sample_of(row.record) for row in rows if row.record is not None]


def left_out(folder: Path, chain: Chain) -> list[Sample]:
    """Return the problems that a stage dropped, except replaced samples."""
    outputs = [one for state in chain.stages if state.stage.program not in ("gen_ins", "export") for one in state.outputs[:1]]
    files = [(folder / one.output).with_name(f"{Path(one.output).stem}_dropped.jsonl") for one in outputs]
    rows = [row for path in files if path.exists() and not path.name.startswith("speed") for row in read_rows(path)]
    return [sample_of(row.record, short=True) for row in rows if row.record is not None]


def lines_of(prediction: Prediction) -> list[tuple[str, str]]:
    """Return a prediction as lines of name and value."""
    lines = [(f"Predicted for {prediction.problems:,} problems", "(in brackets: 80% of cases)")]
    lines += [
        (name if "samples" in name else f"records after {name}", _shown(found)) for name, found in prediction.rows.items()
    ]
    for name, found in prediction.figures.items():
        lines.append(("time", _shown(found.times(3600), seconds=True)) if name == "hours" else (name, _shown(found)))
    if "cost in dollars" not in prediction.figures:
        lines.append(("cost in dollars", "no price is given (PROMPT_PRICE, COMPLETION_PRICE)"))
    return lines


def _shown(found: Range, *, seconds: bool = False) -> str:
    def one(number: float) -> str:
        return duration(number) if seconds else f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

    return f"{one(found.mid)} ({one(found.low)} to {one(found.high)})"


def _page(chain: Chain, rows: list[Sample], dropped: list[Sample], prediction: Prediction) -> str:
    maths = MathText(most_bytes=1_500_000, most_seconds=20.0)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["maths"] = lambda text: Markup(maths.html(text))  # noqa: S704 - it escapes all but its own MathML
    template = environment.get_template(TEMPLATE.name)
    return template.render(job=chain.job, rows=rows, dropped=dropped, lines=lines_of(prediction))
