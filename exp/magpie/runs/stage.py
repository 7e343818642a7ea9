"""What every stage over an input file shares: names, checks, resuming, and the pass over the records."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from magpie.common.console import log
from magpie.common.progress import StageBar
from magpie.records.reading import Decode, Row, check_input, checked_rows, fingerprint, read_rows, stem_of
from magpie.runs.one_pass import Stream, open_stream
from magpie.runs.run import Progress, Run
from magpie.runs.shards import Shard
from magpie.runs.summary import show_summary

INSTRUCTION = ("instruction",)
BAR_EVERY = 200
"""Rows of a quick pass between two looks at the clock."""
Work = Callable[[Stream, int, dict[str, Any]], None]


def output_of(args: argparse.Namespace, suffix: str) -> Path:
    """Return --output_file, or the input's stem with the stage's suffix beside the input; of a shard its own file."""
    named: Path | None = args.output_file
    source: Path = args.input_file
    whole = named or source.with_name(f"{stem_of(source)}{suffix}.jsonl")
    shard = shard_of(args)
    return shard.path(whole) if shard else whole


def shard_of(args: argparse.Namespace) -> Shard | None:
    """Return --shard, of stages that have it."""
    return getattr(args, "shard", None)


def begins(run: Run, *, overwrite: bool, check: bool) -> bool:
    """Whether there is work to do now; says so where the output is complete or only a check was asked for (--check)."""
    progress = run.check(overwrite=overwrite)
    if progress is Progress.COMPLETE:
        log.info("%s is complete already; --overwrite makes it again", run.paths.output)
        return False
    if check:
        log.info("the arguments are fine; output: %s (%s)", run.paths.output, progress.value)
        return False
    return True


def open_run(
    stage: str,
    args: argparse.Namespace,
    suffix: str,
    arguments: dict[str, Any],
    *,
    inputs: dict[str, Path] | None = None,
    required: tuple[str, ...] = INSTRUCTION,
) -> Run:
    """Check the whole input and return the stage's resumable run over it: for stages whose work is expensive.

    Args:
        stage: the program's name.
        args: with the flags of `flags.add_input`, `flags.add_run` and --output_file.
        suffix: what the output's name adds to the input's stem.
        arguments: what decides the output's content.
        inputs: flag → a further input file.
        required: the keys that every record must have.
    """
    summary = check_input(args.input_file, skip_malformed=args.skip_malformed, required=required)
    files = {name: path for name, path in (inputs or {}).items() if path}
    prints = {"input_file": summary.fingerprint} | {name: fingerprint(path) for name, path in files.items()}
    sources = (args.input_file, *files.values())
    settings: dict[str, Any] = {"arguments": arguments, "inputs": prints, "input_files": sources}
    return Run(stage, output_of(args, suffix), rows=summary.rows, shard=shard_of(args), **settings)


def open_rows(run: Run, path: Path, required: tuple[str, ...] = INSTRUCTION) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records that the run has not finished, each with its index; malformed rows are dropped on the way."""
    for index, row in enumerate(read_rows(path, required)):
        if run.is_closed(index):
            continue
        if row.record is None:
            run.drop(index, *malformed(row))
        else:
            yield index, row.record


def malformed(row: Row) -> tuple[dict[str, Any], str, str]:
    """Return a malformed row as the dropped file shows it: record, reason, detail."""
    return {"line": row.line, "raw": row.raw}, "malformed", row.problem


def stream(
    stage: str,
    args: argparse.Namespace,
    suffix: str,
    arguments: dict[str, Any],
    work: Work,
    *,
    inputs: dict[str, Path] | None = None,
    required: tuple[str, ...] = INSTRUCTION,
    known: Decode | None = None,
    at_end: Callable[[Stream], None] | None = None,
) -> Run | None:
    """Do a stage whose work on a record is quick, in one pass. Return its run, or None where there was nothing to do.

    Args:
        work: called with the stream, the row's index (malformed rows count) and the record; it keeps or drops.
        known: decodes the rows, where the record's known keys are enough (`records.known_keys`).
        at_end: called with the stream after the last row: for what can be decided only then.
        stage, args, suffix, arguments, inputs, required: as in `open_run`.
    """
    run = stream_run(stage, args, suffix, arguments, inputs=inputs)
    if not begins(run, overwrite=args.overwrite, check=args.check):
        return None
    stream_rows(run, args, work, required=required, known=known, at_end=at_end)
    return run


def stream_run(
    stage: str,
    args: argparse.Namespace,
    suffix: str,
    arguments: dict[str, Any],
    *,
    inputs: dict[str, Path] | None = None,
    folder: Path | None = None,
) -> Run:
    """Return the run of a stage that is done in one pass; see `stream`. `folder`: what it makes instead of a file."""
    files = {"input_file": args.input_file} | {name: path for name, path in (inputs or {}).items() if path}
    prints = {name: fingerprint(path) for name, path in files.items()}
    sources = tuple(files.values())
    output, makes_folder = folder or output_of(args, suffix), folder is not None
    return Run(stage, output, rows=0, arguments=arguments, inputs=prints, input_files=sources, makes_folder=makes_folder)


def stream_rows(
    run: Run,
    args: argparse.Namespace,
    work: Work,
    *,
    required: tuple[str, ...] = INSTRUCTION,
    known: Decode | None = None,
    at_end: Callable[[Stream], None] | None = None,
) -> None:
    """Make the one pass of such a run into its file; see `stream`."""
    with open_stream(run) as out:
        one_pass(run.stage, args, out, work, required=required, known=known)
        if at_end:
            at_end(out)
    show_summary(run.stage, run.paths, run.totals)


def one_pass(
    stage: str,
    args: argparse.Namespace,
    out: Stream,
    work: Work,
    *,
    required: tuple[str, ...] = INSTRUCTION,
    known: Decode | None = None,
) -> None:
    """Call `work` for every good row of --input_file, drop the malformed ones, and show how far it is."""
    shown = 0
    with StageBar(stage.removesuffix(".py"), None, 0) as bar:
        rows = checked_rows(args.input_file, skip_malformed=args.skip_malformed, required=required, known=known)
        for index, row in enumerate(rows):
            if row.record is None:
                out.drop(*malformed(row))
            else:
                out.row = row
                work(out, index, row.record)
            if index - shown >= BAR_EVERY:
                bar.update(closed=index - shown, dropped=out.dropped)
                shown = index
