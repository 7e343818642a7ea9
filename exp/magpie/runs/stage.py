"""Common parts of all stages over an input file: names, checks, resuming and the pass over the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie.common import outcome
from magpie.common.console import MagpieError, NothingToDo, log
from magpie.common.progress import StageBar
from magpie.records.reading import check_input, checked_rows, fingerprint, read_rows, stem_of
from magpie.records.rows import Decode, Row
from magpie.records.schema import is_control
from magpie.runs.earlier import Progress
from magpie.runs.one_pass import Stream, open_stream
from magpie.runs.run import Run
from magpie.runs.run_file import is_partial
from magpie.runs.shards import Shard
from magpie.runs.summary import show_summary

INSTRUCTION = ("instruction",)
BAR_EVERY = 200
"""Rows of a quick pass between two updates of the progress bar."""
Work = Callable[[Stream, int, dict[str, Any]], None]


@dataclass(frozen=True)
class RunOptions:
    """Flags of every resumable run (`cli.flags.add_run`, `cli.flags.add_shard`)."""

    overwrite: bool
    check: bool
    shard: Shard | None


@dataclass(frozen=True)
class StageOptions(RunOptions):
    """Flags of a stage over an input file (`cli.flags.add_input`, `cli.flags.add_run`, --output_file)."""

    input_file: Path
    output_file: Path | None
    skip_malformed: bool
    partial: bool

    def output(self, suffix: str) -> Path:
        """Return --output_file, or the input's stem with the stage's suffix, next to the input; for a shard, its own file."""
        whole = self.output_file or self.input_file.with_name(f"{stem_of(self.input_file)}{suffix}.jsonl")
        return self.shard.path(whole) if self.shard else whole


def require_input(options: StageOptions, suffix: str) -> None:
    """End a check (--check) of a stage whose input does not exist yet; its other arguments are fine.

    Raises:
        MagpieError: the input is partial, and --partial is not set.
    """
    path = options.input_file
    waits = is_partial(path) and not options.partial
    if options.check and (waits or not path.exists()):
        output = options.output(suffix)
        outcome.note(output, output.with_suffix(".run.json"), Progress.FRESH.value)
        if outcome.is_asked() or not waits:
            raise NothingToDo("" if outcome.is_asked() else "the arguments are fine; there is no input yet")
    refuse_partial(path, known=options.partial)


def refuse_partial(path: Path, *, known: bool) -> None:
    """Raise a MagpieError for a file whose run stopped at a ceiling, unless that is `known`."""
    if is_partial(path) and not known:
        raise MagpieError(
            f"{path} is partial: a run stopped at a ceiling. Raise it and rerun its stage, or use what is there with --partial"
        )


def named_columns(path: Path) -> dict[str, Any]:
    """Return --columns and --split of an input, as arguments of a run."""
    given = {"columns": dict(getattr(path, "columns", {})), "split": getattr(path, "split", None)}
    return {name: value for name, value in given.items() if value}


def begins(run: Run, *, overwrite: bool, check: bool) -> bool:
    """Return whether there is work to do now; log why not: the output is complete, or only a check was requested (--check)."""
    progress = run.check(overwrite=overwrite)
    quiet = check and outcome.is_asked()
    if progress is Progress.COMPLETE:
        if not quiet:
            log.info("%s is already complete; --overwrite rebuilds it", run.paths.output)
        return False
    if check:
        if not quiet:
            log.info("the arguments are fine; output: %s (%s)", run.paths.output, progress.value)
        return False
    return True


def open_run(
    stage: str, options: StageOptions, suffix: str, arguments: dict[str, Any], *, inputs: dict[str, Path] | None = None
) -> Run:
    """Check the whole input and return the stage's resumable run over it, for stages whose work is expensive.

    Args:
        stage: the program's name.
        options: the stage's files, and how to run it.
        suffix: appended to the input's stem for the output's name.
        arguments: settings that decide the output's content.
        inputs: flag → a further input file.
    """
    require_input(options, suffix)
    arguments = arguments | named_columns(options.input_file)
    summary = check_input(options.input_file, skip_malformed=options.skip_malformed, required=INSTRUCTION)
    files = {name: path for name, path in (inputs or {}).items() if path}
    prints = {"input_file": summary.fingerprint} | {name: fingerprint(path) for name, path in files.items()}
    sources = (options.input_file, *files.values())
    settings: dict[str, Any] = {"arguments": arguments, "inputs": prints, "input_files": sources}
    return Run(stage, options.output(suffix), rows=summary.rows, shard=options.shard, **settings)


def open_rows(run: Run, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records that the run has not finished, each with its index; malformed rows are dropped on the way."""
    return ((index, row.record) for index, row in open_lines(run, path) if row.record is not None)


def open_lines(run: Run, path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the same as rows, with their line numbers."""
    for index, row in enumerate(read_rows(path, INSTRUCTION)):
        if run.is_closed(index):
            continue
        if row.record is None:
            run.drop(index, *malformed(row))
        else:
            yield index, row


def refuse_control(record: dict[str, Any], *, keep: bool) -> None:
    """Raise a MagpieError for a planted problem, unless controls are kept."""
    if is_control(record) and not keep:
        raise MagpieError(
            f"the record {record.get('id')!r} is a control, a planted problem, which must not get into data. Remove them "
            "with measure.py, and use its …_measured.jsonl (--keep_controls lets them pass)"
        )


def malformed(row: Row) -> tuple[dict[str, Any], str, str]:
    """Return a malformed row for the dropped file: record, reason, detail."""
    return {"line": row.line, "raw": row.raw}, "malformed", row.problem


def stream(
    stage: str,
    options: StageOptions,
    suffix: str,
    arguments: dict[str, Any],
    work: Work,
    *,
    required: tuple[str, ...] = INSTRUCTION,
    known: Decode | None = None,
    at_end: Callable[[Stream], None] | None = None,
) -> Run | None:
    """Run a stage whose work on a record is quick, in one pass. Return its run, or None if there was nothing to do.

    Args:
        work: called with the stream, the row's index (malformed rows count) and the record; it keeps or drops.
        known: decoder of the rows, where the record's known keys are enough (`records.reading.known_keys`).
        at_end: called with the stream after the last row, for decisions that need all rows.
        required: the keys that every record must have.
        stage, options, suffix, arguments: as in `open_run`.
    """
    run = stream_run(stage, options, suffix, arguments)
    if not begins(run, overwrite=options.overwrite, check=options.check):
        return None
    stream_rows(run, options, work, required=required, known=known, at_end=at_end)
    return run


def stream_run(
    stage: str,
    options: StageOptions,
    suffix: str,
    arguments: dict[str, Any],
    *,
    inputs: dict[str, Path] | None = None,
    folder: Path | None = None,
) -> Run:
    """Return the run of a one-pass stage; see `stream`. `folder` is its output instead of a file."""
    require_input(options, suffix)
    arguments = arguments | named_columns(options.input_file)
    files = {"input_file": options.input_file} | {name: path for name, path in (inputs or {}).items() if path}
    prints = {name: fingerprint(path) for name, path in files.items()}
    sources = tuple(files.values())
    output, makes_folder = folder or options.output(suffix), folder is not None
    return Run(stage, output, rows=0, arguments=arguments, inputs=prints, input_files=sources, makes_folder=makes_folder)


def stream_rows(
    run: Run,
    options: StageOptions,
    work: Work,
    *,
    required: tuple[str, ...] = INSTRUCTION,
    known: Decode | None = None,
    at_end: Callable[[Stream], None] | None = None,
) -> None:
    """Do the one pass of such a run into its file; see `stream`."""
    with open_stream(run) as out:
        one_pass(run.stage, options, out, work, required=required, known=known)
        if at_end:
            at_end(out)
    show_summary(run.stage, run.paths, run.totals)


def one_pass(
    stage: str,
    options: StageOptions,
    out: Stream,
    work: Work,
    *,
    required: tuple[str, ...] = INSTRUCTION,
    known: Decode | None = None,
) -> None:
    """Call `work` for every good row of --input_file, drop the malformed ones, and show the progress."""
    shown = 0
    with StageBar(stage.removesuffix(".py"), None, 0) as bar:
        rows = checked_rows(options.input_file, skip_malformed=options.skip_malformed, required=required, known=known)
        for index, row in enumerate(rows):
            if row.record is None:
                out.drop(*malformed(row))
            else:
                out.row = row
                work(out, index, row.record)
            if index - shown >= BAR_EVERY:
                bar.update(closed=index - shown, dropped=out.dropped)
                shown = index
