"""Drop the problems that are in a benchmark, and certify the comparison.

    python exp/decontaminate.py --input_file data/job/job_ins_res.jsonl --benchmarks math500 aime24 my_tests.csv

X.jsonl → X_decontaminated.jsonl and X_decontaminated_dropped.jsonl. A dropped record names in `contamination` the benchmark
and its row, the method that found it and the score. X_decontaminated.certificate.json lists the benchmarks with their
revisions, rows and hits, for the dataset card; the run file has the same. A benchmark is a file (.jsonl, .json, .csv,
.parquet), a name in configs/benchmarks.yaml or a hub id. No benchmark text is written anywhere: a record dropped for a private
one (HLE) keeps nothing but its id. A record with HLE's canary string stops the run.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.common.files import write_atomically
from magpie.common.progress import StageBar
from magpie.compute.embedding import DEFAULT_EMBEDDING_MODEL, Embedder
from magpie.config.load import plain
from magpie.records.reading import read_rows
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, begins, open_rows, open_run
from magpie.runs.summary import show_summary
from magpie.similarity.config import load_benchmark_list, load_contamination
from magpie.similarity.contamination import Detector, Hit, certificate, refuse_canaries
from magpie.similarity.test_sets import load_benchmarks

SUFFIX = "_decontaminated"
BATCH = 256
"""Records compared at a time."""


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help=f"(default: the input's stem with {SUFFIX})")
    group = parser.add_argument_group("benchmarks")
    group.add_argument("--benchmarks", nargs="+", required=True, help="files, names in configs/benchmarks.yaml, or hub ids")
    group.add_argument(
        "--problem_column", help="column of the problem in files and other hub sets (default: problem, question, …)"
    )
    group.add_argument(
        "--config", type=Path, help="thresholds for a match with a benchmark (default configs/contamination.yaml)"
    )
    group.add_argument("--embedding_model", default=DEFAULT_EMBEDDING_MODEL, help=f"(default {DEFAULT_EMBEDDING_MODEL})")
    group.add_argument(
        "--embedding_cache", type=Path, help="file that caches embeddings (default: embeddings.sqlite next to the output)"
    )
    flags.add_run(parser)
    return parser.parse_args()


def work(run: Run, input_file: Path, detector: Detector) -> None:
    """Keep or drop every record that is not finished."""
    rows = open_rows(run, input_file)
    with StageBar("decontaminate", run.rows, run.closed) as bar:
        while batch := list(itertools.islice(rows, BATCH)):
            hits = detector.find([record["instruction"] or "" for _, record in batch])
            for (index, record), hit in zip(batch, hits, strict=True):
                if hit is None:
                    run.keep(index, record)
                else:
                    drop(run, index, record, hit)
            bar.update(closed=len(batch), dropped=run.totals.dropped.total())


def drop(run: Run, index: int, record: dict[str, Any], hit: Hit) -> None:
    """Drop a record with the evidence; without its text if that is a private benchmark's."""
    detail = f"{hit.benchmark}, row {hit.row}: {hit.method}, {hit.score:.2f}"
    if hit.private:
        record = {"id": record.get("id")}
        detail += f"; the text is left out, because {hit.benchmark} must not be copied"
    run.drop(index, record | {"contamination": hit.evidence(record.get("id"))}, "contaminated", detail)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    known, rules = load_benchmark_list(), load_contamination(args.config)
    options = flags.options_from(args, StageOptions)
    if args.input_file.exists() or not args.check:
        next(read_rows(args.input_file, None), None)  # a wrong path fails before the hub is queried
    benchmarks = load_benchmarks(args.benchmarks, known, args.problem_column)
    methods = {"embedding_model": args.embedding_model, **plain(rules)}
    arguments = {"benchmarks": {one.name: one.fingerprint for one in benchmarks}, **methods}
    files = {f"benchmarks {one.name}": one.path for one in benchmarks if one.path}
    run = open_run("decontaminate.py", options, SUFFIX, arguments, inputs=files)
    refuse_canaries(args.input_file, known.canaries)
    if not begins(run, overwrite=args.overwrite, check=args.check):
        return
    output = options.output(SUFFIX)
    certificate_file = output.with_suffix(".certificate.json")
    certificate_file.unlink(missing_ok=True)
    embedder = Embedder(args.embedding_model, cache=args.embedding_cache or output.with_name("embeddings.sqlite"))
    with run.session(overwrite=args.overwrite):
        work(run, args.input_file, Detector(benchmarks, rules, embedder.encode))
        run.notes["certificate"] = certificate(benchmarks, run.so_far(kept=False), methods)
        write_atomically(certificate_file, [json.dumps(run.notes["certificate"], indent=1, ensure_ascii=False).encode()])
        run.finish()
    for entry in run.notes["certificate"]["benchmarks"]:
        log.info("%s: %d problems, %d hits on %d of them", *(entry[key] for key in ("benchmark", "rows", "hits", "rows_hit")))
    show_summary(run.stage, run.paths, run.totals)


if __name__ == "__main__":
    run_program("decontaminate", main)
