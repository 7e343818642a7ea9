"""Concatenate jobs or shards into one file.

    python exp/concat.py --inputs data/job_a data/job_b more.jsonl --stage ins_res --output_file data/both/both.jsonl
    python exp/concat.py --shards data/job/job_ins_res.jsonl

An input is a file, or a job's folder: then its file X_STAGE.jsonl is used (--stage; default: the only finished file that no
other stage has read). Every record gets `source`, the name of its job or file, unless it has one. With --ids prefix (the
default) ids become SOURCE/ID, and so do those that point to another record (`duplicate_of`, `min_similar_conversation_id`);
`original_id` keeps the earlier one. With --ids keep they stay, and an id that two inputs share is refused.

--shards FILE joins the shards of FILE (--shard 1/N … N/N of the stage that makes it) into the file, dropped file and run file
that a single worker would have written. A set that is incomplete, or from different runs, is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.common.progress import StageBar
from magpie.records.reading import checked_rows, fingerprint
from magpie.runs.merging import Source, join, labelled, refuse_shared_ids
from magpie.runs.one_pass import Stream, open_stream
from magpie.runs.run import Run
from magpie.runs.shards import join_shards, shard_set
from magpie.runs.stage import begins, malformed, named_columns, refuse_control, refuse_partial
from magpie.runs.summary import show_summary


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--inputs", nargs="+", type=Path, metavar="PATH", help="files and job folders, in order")
    what.add_argument("--shards", type=Path, metavar="FILE", help="the file whose shards to join")
    parser.add_argument("--output_file", type=Path, help="the file to write (.jsonl), with --inputs")
    flags.add_columns(parser)
    parser.add_argument("--stage", help="which file of a job's folder: the end of its name, like ins_res (default: the last)")
    parser.add_argument("--ids", choices=["prefix", "keep"], default="prefix", help="(default prefix: SOURCE/ID)")
    flags.add_keep_controls(parser)
    flags.add_skip_malformed(parser)
    flags.add_partial(parser)
    flags.add_run(parser)
    args = parser.parse_args()
    if args.inputs and not args.output_file:
        parser.error("--inputs needs --output_file")
    if args.shards and args.output_file:
        parser.error("--shards writes the file that it names: leave out --output_file")
    return args


def copy(source: Source, out: Stream, bar: StageBar, args: argparse.Namespace) -> None:
    """Write a source's records."""
    for row in checked_rows(source.path, skip_malformed=args.skip_malformed):
        if row.record is None:
            record, reason, detail = malformed(row)
            out.drop({"source": source.name} | record, reason, detail)
        else:
            refuse_control(row.record, keep=args.keep_controls)
            out.keep(join(row.record, source.name, row.line, prefix=args.ids == "prefix"))
        bar.update(closed=1, dropped=out.dropped)


def put_together(file: Path, *, overwrite: bool, check: bool) -> None:
    """Write the file that the shards belong to."""
    shards = shard_set(file)
    whole = shards.run_file()
    rows, arguments, inputs = whole.counts.read, whole.arguments, whole.inputs
    run = Run(whole.stage, file, rows=rows, arguments=arguments, inputs=inputs, input_files=tuple(shards.paths))
    if not overwrite and shards.is_newer():
        log.info("a shard has been rebuilt since %s was joined", file)
        overwrite = True
    if begins(run, overwrite=overwrite, check=check):
        join_shards(shards)
        log.info("%s: %d rows from %d shards, which can be deleted now", file, whole.counts.written, len(shards.paths))


def main() -> None:
    """Run the stage."""
    args = parse_args()
    if args.shards:
        put_together(args.shards, overwrite=args.overwrite, check=args.check)
    else:
        merge(args)


def merge(args: argparse.Namespace) -> None:
    """Write one file from several jobs or files."""
    sources = labelled(args.inputs, args.stage)
    for source in sources:
        refuse_partial(source.path, known=args.partial)
    arguments: dict[str, Any] = {"sources": [source.name for source in sources], "ids": args.ids} | named_columns(
        args.inputs[0]
    )
    prints = {f"inputs {source.name}": fingerprint(source.path) for source in sources}
    paths = tuple(source.path for source in sources)
    run = Run("concat.py", args.output_file, rows=0, arguments=arguments, inputs=prints, input_files=paths)
    run.sources = paths
    if not begins(run, overwrite=args.overwrite, check=args.check):
        return
    if args.ids == "keep":
        refuse_shared_ids(sources, skip_malformed=args.skip_malformed)
    with open_stream(run) as out, StageBar("concat", None, 0) as bar:
        for source in sources:
            copy(source, out, bar, args)
    show_summary(run.stage, run.paths, run.totals)


if __name__ == "__main__":
    run_program("concat", main)
