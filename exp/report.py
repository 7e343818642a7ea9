"""Show a job: one page about it, or the state while it runs.

    python exp/report.py data/job
    python exp/report.py data/job --watch
    python exp/report.py mine.parquet
    python exp/report.py data/job/job_ins_clean.jsonl --browse

JOB is a job's folder, or its name under data/. Writes JOB/report.html, a self-contained page that works offline: kept and
dropped problems with the reasons, domains, difficulty, lengths, votes, rewards, tokens and time per stage, and samples of
records, pairs and dropped records, with rendered mathematics. It only reads the job's files. For a FILE in any format that a
stage reads, or a dataset in a folder or on the hub: FILE_report.html beside it, without what only a job has.

--watch prints instead what a job is doing, from its files alone, every few seconds until it is done or you press Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from magpie.cli import flags
from magpie.common.console import MagpieError, log, run_program
from magpie.records.reading import read_rows, stem_of
from magpie.records.source import Source
from magpie.records.tables import splits_of
from magpie.runs.jobs import data_folder, folder_of
from magpie.runs.run_file import ENDING


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    parser.add_argument(
        "job", type=Path, metavar="JOB", help="a job's folder, its name under data/ (or DATA_DIR), a file or a dataset"
    )
    flags.add_columns(parser)
    parser.add_argument("--output_file", type=Path, help="the page (default: report.html in the job's folder)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of the records shown (default 0)")
    parser.add_argument("--watch", action="store_true", help="show a running job's state instead of writing a page")
    seconds = flags.number(float, least=0.2, most=3600.0)
    parser.add_argument(
        "--browse", action="store_true", help="serve all records of a file, searchable, on this machine only, until Ctrl-C"
    )
    port = flags.number(int, least=0, most=65535)
    parser.add_argument("--port", type=port, default=0, help="port for --browse (default: any free one)")
    parser.add_argument("--every", type=seconds, default=5.0, help="seconds between two updates with --watch (default 5)")
    return parser.parse_args()


def source_in(args: argparse.Namespace) -> Source | None:
    """Return the file, or the dataset in a folder or on the hub, that the argument names; None: it is a job."""
    source = flags.source_of(args, args.job)
    if args.columns or args.split or args.job.is_file() or source.spooled:
        return source
    if args.job.is_dir():
        return None if any(args.job.glob(f"*{ENDING}")) or not splits_of(args.job) else source
    return source if source.hub_id and not data_folder(args.job).is_dir() else None


def main() -> None:
    """Write the page, or watch."""
    args = parse_args()
    args.job = args.job if args.job.name else args.job.resolve()
    source = source_in(args)
    if source and not source.name:
        raise MagpieError(f"{args.job}: name a job, or a file of records, like data/JOB/JOB_ins_clean.jsonl")
    folder = args.job if source else folder_of(args.job)
    if args.browse:
        if not source:
            raise MagpieError(f"--browse {args.job}: name a file of records, like data/JOB/JOB_ins_clean.jsonl")
        from magpie.reporting.browse import browse

        browse(source, args.port)
        return
    if args.watch and not source:
        from magpie.reporting.watch import watch

        watch(folder, args.every)
        return
    from magpie.common.files import write_atomically
    from magpie.reporting.facts import read_file, read_job
    from magpie.reporting.page import page

    beside = source.with_name(f"{stem_of(source)}_report.html") if source else folder / "report.html"
    output = args.output_file or beside
    if os.path.lexists(output) and not is_report(output):
        raise MagpieError(f"--output_file {output} exists and is not a report. Name another file")
    if source:
        warn_without_problems(source)
    write_atomically(output, [page(read_file(source, args.seed) if source else read_job(folder, args.seed)).encode()])
    log.info("the report: %s", output.resolve())


def warn_without_problems(source: Source) -> None:
    """Say what to do about a file of which no column is read as the problem."""
    row = next(read_rows(source, ()), None)
    if row and row.record and not row.record.get("instruction"):
        log.warning(
            "%s: no column is read as the problem; there are %s. Name it: --columns instruction=COLUMN",
            source,
            ", ".join(row.record)[:300],
        )


def is_report(path: Path) -> bool:
    """Return whether this program wrote a file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<title>Report of " in file.read(2000)


if __name__ == "__main__":
    run_program("report", main)
