"""From generation to export: the runs that led to a job's data, and what each of them left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from magpie.records.reading import fingerprint, read_rows
from magpie.records.rows import known_keys
from magpie.records.schema import is_control
from magpie.records.source import Source
from magpie.reporting.samples import Record
from magpie.runs.run_file import RunFile
from magpie.verification.votes import is_right

if TYPE_CHECKING:
    from magpie.reporting.facts import Facts

STEPS = {
    "gen_ins.py": "generated",
    "concat.py": "merged",
    "clean_ins.py": "clean",
    "evolve_ins.py": "harder",
    "gen_res.py": "answered",
    "unitag.py": "tagged",
    "verify.py": "verified",
    "check_code.py": "checked by a program",
    "gen_dis.py": "unique",
    "decontaminate.py": "decontaminated",
    "gen_po_rewards.py": "rewarded",
    "filter.py": "kept",
    "measure.py": "without controls",
}
"""Stages whose outputs are records → the state of a record after each of them."""
EXPECTED = ("generated", "clean", "answered", "verified", "unique", "decontaminated", "kept")
MARKING = ("unitag.py", "gen_po_rewards.py", "check_code.py")
"""Stages that only add to records; without drops they are not a step of the funnel."""
_decode = known_keys(("raw", "line"))


@dataclass(frozen=True)
class Step:
    """A step of the funnel: read = count + reasons. Marked records are counted too; the filter decides."""

    name: str
    run: RunFile
    read: int
    count: int
    reasons: dict[str, int]
    marked: dict[str, int]


def line_of(runs: list[RunFile]) -> list[RunFile]:
    """Return the runs that led to the job's data: to the filtered file, else to the one with the most stages behind it."""
    done = [run for run in runs if run.is_made and run.stage in STEPS and run.stage != "measure.py" and not run.shard]
    last = {
        run.stem for run in done if run.stage == "filter.py" and not any(one.stem.startswith(f"{run.stem}_") for one in done)
    }

    def behind(end: RunFile) -> list[RunFile]:
        before = [run for run in done if end.stem == run.stem or end.stem.startswith(f"{run.stem}_")]
        return sorted(before, key=lambda run: len(run.stem))

    best = max(done, key=lambda run: (run.stem in last, len(behind(run)), run.updated), default=None)
    return behind(best) if best else []


def records_of(path: Path, facts: Facts | None = None) -> Iterator[Record]:
    """Yield a file's records except controls; unreadable rows are counted."""
    if not path.exists() and not isinstance(path, Source):
        return
    for row in read_rows(path, (), _decode):
        if row.record is not None:
            if not is_control(row.record):
                yield row.record
        elif facts:
            facts.unreadable += 1


def steps_of(line: list[RunFile], complete: list[RunFile]) -> list[Step]:
    """Return the funnel, from generation to export."""
    line = [*line, *(run for run in complete if run.stage == "measure.py" and line and run.stem == f"{line[-1].stem}_measured")]
    steps = [step_of(run) for run in line if run.stage not in MARKING or run.counts.dropped]
    exports = [run for run in complete if run.stage == "export.py" and line and run.counts.read == line[-1].counts.written]
    if line and exports and line[-1].output.exists():
        mark = fingerprint(line[-1].output)
        made = [run for run in exports if run.inputs.get("input_file") == mark]
        if made:
            run = max(made, key=lambda run: run.updated)
            steps.append(Step("in the dataset", run, run.counts.read, run.counts.written, run.counts.dropped, {}))
    return steps


def step_of(run: RunFile) -> Step:
    """Return a run's step of the funnel."""
    counts, marked = run.counts, {}
    marks: dict[str, tuple[str, Callable[[Record], bool]]] = {
        "verify.py": ("not verified", is_right),
        "gen_dis.py": ("duplicate of another", lambda record: record.get("duplicate_of") is None),
    }
    if run.stage in marks and run.output.exists():
        words, good = marks[run.stage]
        if bad := sum(not good(record) for record in records_of(run.output)):
            marked = {words: bad}
    return Step(STEPS[run.stage], run, counts.read, counts.written, counts.dropped, marked)
