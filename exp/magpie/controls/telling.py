"""What controls show, in words, tables and a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Table = tuple[str, list[str], list[tuple[Any, ...]]]
"""Title, columns, rows."""
ABOUT = (
    "Controls are problems of reasoning-gym with known answers. They were mixed in among the model's own problems, went "
    "through the same stages, and were taken out before this data was written. They are not the model's own problems: by "
    "family they are easier or harder, so this shows how well votes and filter separate right answers from wrong ones, not "
    "how many of these rows are wrong. Intervals are 95% Wilson intervals."
)


def percent(share: float | None, interval: list[float] | None = None) -> str:
    """Return a share for a reader: 4.2% (2.3–7.8%)."""
    if share is None:
        return "not known"
    ends = f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f}%)" if interval else ""
    return f"{100 * share:.1f}%{ends}"


def sentence(measured: dict[str, Any]) -> str:
    """Return what the controls show about labels and pairs."""
    found, pairs, again = measured["labels"], measured.get("pairs"), measured.get("reweighted")
    if pairs:
        text = f"In {_told(pairs)} of {pairs['judged']} pairs of controls the chosen response is right and the rejected one"
        return f"{text} wrong; {pairs['reversed']} are reversed, {pairs['pairs'] - pairs['judged']} could not be judged."
    judged = found["right"] + found["wrong"]
    if not judged:
        return f"None of {measured['controls']} controls that passed the same filters has a label that could be judged."
    left = [(found["not_judged"], "could not be judged"), (found["without_label"], "have no label")]
    more = "".join(f"; {count} more {what}" for count, what in left if count)
    text = f"Of {judged} controls that passed the same filters {_told(found)} carry a wrong label{more}."
    if again:
        covers = "" if again["covers"] == 1 else f", which is known for {percent(again['covers'])} of them"
        text += f" Weighted by the measured difficulty of the other records{covers}: {_told(again)}."
    return text


def _told(found: dict[str, Any]) -> str:
    return percent(found["share"], found.get("interval"))


def _reasons(row: dict[str, Any]) -> str | None:
    return ", ".join(f"{why} {count}" for why, count in row["reasons"].items()) or None


def tables(measured: dict[str, Any]) -> list[Table]:
    """Return the tables of measurements that have rows."""
    wrong_of = ["right", "wrong", "share of wrong labels"]
    curve = [
        (f"{row['agreement']:.4g}", row["controls"], _told(row), _told(row["from_here"])) for row in measured.get("curve", [])
    ]
    found: list[Table] = [
        ("Right labels by agreement", ["agreement", "controls", "right labels", "right labels from here on"], curve),
        (
            "Wrong labels by domain",
            ["domain", *wrong_of],
            [(name, row["right"], row["wrong"], _told(row)) for name, row in measured.get("domains", {}).items()],
        ),
    ]
    for key, name in (("pass_rate", "pass rate"), ("difficulty_measured", "measured difficulty")):
        rows = [
            (row["group"], row["controls"], percent(row["pass_rate"]), percent(row["right"])) for row in measured.get(key, [])
        ]
        head = [name, "controls", "pass rate by the votes", "responses that are right"]
        found.append((f"Is the {name} true?", head, rows))
    stages = [
        (row["stage"], row["read"], row["dropped"], row["right"] if row["right"] + row["wrong"] else None, _reasons(row))
        for row in measured.get("stages", [])
    ]
    found.append(
        ("Controls that stages dropped", ["stage", "read", "dropped", "of these with a right label", "reasons"], stages)
    )
    if scorers := measured.get("verifier"):
        head = ["answers", "verdicts that differ", "of these right by ours alone"]
        found.append(
            (
                "Our verdicts compared with reasoning-gym's",
                head,
                [(scorers["answers"], _told(scorers), scorers["only_ours_right"])],
            )
        )
    return [
        (title, head, [tuple("–" if cell is None else cell for cell in row) for row in rows])
        for title, head, rows in found
        if rows
    ]


def draw_curve(axes: Axes, curve: list[dict[str, Any]], color: str = "C0", dim: str = "0.6") -> None:
    """Draw the share of right labels by agreement, with intervals, and the diagonal on which both are equal."""
    known = [row for row in curve if row["share"] is not None]
    places, shares = [row["agreement"] for row in known], [row["share"] for row in known]
    below = [row["share"] - row["interval"][0] for row in known]
    above = [row["interval"][1] - row["share"] for row in known]
    axes.plot([0, 1], [0, 1], color=dim, linestyle="--")
    axes.errorbar(places, shares, [below, above], color=color, marker="o", capsize=3)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03))
    axes.set_xlabel("agreement of the votes", color=dim)
    axes.set_ylabel("share of right labels, 95%", color=dim)


def save_curve(curve: list[dict[str, Any]], path: Path) -> None:
    """Write that chart to a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    draw_curve(figure.add_subplot(), curve, dim="0.3")
    figure.savefig(path, dpi=120)
