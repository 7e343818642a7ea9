"""Charts of the report: SVG images inside the page, without network or scripts, for light and dark mode.

An embedded image runs nothing and loads nothing, whatever its texts say; its alt text has the values in words.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from magpie.controls.telling import draw_curve, percent
from magpie.reporting.math_html import visible
from magpie.reporting.streaming_stats import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT, BAR, DIM, LIMIT = "#010101", "#020202", "#030303", "#040404"
"""Placeholder colours: matplotlib writes them, and the image's style maps each to a light and a dark value."""
LIGHT = {TEXT: "#1c2024", BAR: "#2563af", DIM: "#5d6670", LIMIT: "#a93226"}
DARK = {TEXT: "#e6e9ec", BAR: "#6ea8eb", DIM: "#9aa5b0", LIMIT: "#f08a7c"}
WIDTH, ROW_HEIGHT, LABEL_CHARACTERS = 3.7, 0.25, 26
"""A chart's width and a bar's height with its gap, in inches; maximum characters of a label."""
Row = tuple[str, int]


def bar_chart(title: str, rows: Sequence[Row], total: int) -> Markup:
    """Return horizontal bars, each as long as its share of `total`."""
    figure, axes = _axes(max(1, len(rows)) * ROW_HEIGHT + 0.1)
    places = range(len(rows), 0, -1)
    axes.barh(places, [count for _, count in rows], height=0.62, color=BAR)
    total = max(total, *(count for _, count in rows), 1)
    axes.set(xlim=(-0.62 * total, 1.42 * total), ylim=(0.4, len(rows) + 0.6))
    for place, (label, count) in zip(places, rows, strict=True):
        label = visible(label)
        short = label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…"
        axes.text(-0.02 * total, place, short, ha="right", va="center", color=TEXT, parse_math=False)
        text = f"{count:,} · {100 * count / total:.1f}%"
        axes.text(count + 0.02 * total, place, text, ha="left", va="center", color=DIM, parse_math=False)
    axes.set_axis_off()
    words = "; ".join(f"{label} {count:,}" for label, count in rows)
    return _image(figure, f"{title}, of {total:,}: {words}")


def histogram(title: str, numbers: Numbers, limit: float | None = None) -> Markup:
    """Return bars of equal width with lines at p10, p50 and p90, and at `limit` (maximum tokens of an answer)."""
    figure, axes = _axes(1.4, below=0.14)
    low, step, counts = numbers.histogram(limit)
    axes.bar([low + step * index for index in range(len(counts))], counts, width=step, align="edge", color=BAR)
    marks = {name: numbers.quantile(share) for name, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))}
    top = max([*counts, 1])
    for name, value in marks.items():
        axes.axvline(value, color=TEXT, linewidth=0.8, linestyle=":")
        axes.text(value, top * (1.17 if name == "p50" else 1.05), name, ha="center", va="bottom", color=DIM, fontsize=7)
    if limit:
        axes.axvline(limit, color=LIMIT, linewidth=1.2)
        axes.text(limit, top * 1.17, "limit", ha="right", va="bottom", color=LIMIT, fontsize=7)
    axes.set(ylim=(0, top * 1.35))
    axes.tick_params(colors=DIM, labelsize=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(DIM)
    axes.yaxis.set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    words = ", ".join(f"{name} {value:,.4g}" for name, value in marks.items())
    return _image(figure, f"{title}, {len(numbers):,} values: {words}, from {numbers.least:,.4g} to {numbers.most:,.4g}")


def reliability(curve: list[dict[str, Any]]) -> Markup:
    """Return the share of right labels of controls by agreement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    draw_curve(axes, curve, BAR, DIM)
    axes.tick_params(colors=DIM, labelsize=7)
    words = ", ".join(f"{row['agreement']:.4g}: {percent(row['share'])}" for row in curve)
    return _image(figure, f"Share of right labels by agreement: {words}")


def _axes(height: float, below: float = 0.0) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.02, below, 0.96, 1.0 - below))
    axes.patch.set_alpha(0)
    return figure, axes


@cache
def _style() -> str:
    names = {stand_in: f"--c{index}" for index, stand_in in enumerate(LIGHT)}
    light, dark = (";".join(f"{names[stand_in]}:{value}" for stand_in, value in colours.items()) for colours in (LIGHT, DARK))
    return f"<style>:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"


def _image(figure: Figure, description: str) -> Markup:
    import matplotlib as mpl

    written = io.StringIO()
    with (
        warnings.catch_warnings(),
        mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8, "svg.hashsalt": "report"}),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # rendered with the browser's fonts
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    for index, stand_in in enumerate(LIGHT):
        text = re.sub(rf"(?<=: ){stand_in}\b", f"var(--c{index})", text)
    text = re.sub(r"(<svg[^>]*>)", lambda found: found[1] + _style(), text, count=1)
    data = base64.b64encode(text.encode()).decode()
    return Markup(f'<img class="chart" alt="{escape(visible(description))}" src="data:image/svg+xml;base64,{data}">')  # noqa: S704
