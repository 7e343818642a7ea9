"""Find duplicates: the same problem reformatted or reworded, in one file or in several.

    python exp/gen_dis.py --input_file data/job/job_ins_res.jsonl
    python exp/gen_dis.py --input_file X_sharegpt.jsonl --against data/earlier/earlier_sharegpt.jsonl

Reads records, or ShareGPT conversations, and writes each input's `X_distance.jsonl`: the same rows with `duplicate_of` (null:
this one is kept) and `duplicate_evidence`, and Magpie's `min_neighbor_distance`, `repeat_count` and
`min_similar_conversation_id`. Of each group the verified one is kept, then the one of better quality, then of higher reward,
then with the smaller id. The same words with other numbers are another problem. --drop drops the copies (drop_reason
`duplicate`); without it nothing is dropped, and filter.py can do that. With --ray a cluster does the work, with the same
result. Rerun the same command to resume with the embeddings computed so far.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import MagpieError, log, run_program
from magpie.compute.embedding import DEFAULT_EMBEDDING_MODEL, Embedder
from magpie.compute.executors import executor_at
from magpie.compute.index_folder import IndexFolder
from magpie.runs.one_pass import Stream
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, begins, stream_rows, stream_run
from magpie.similarity.compare_files import Compared, compare_files

DISTANCE = 0.05


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    group = parser.add_argument_group("input")
    group.add_argument(
        "--input_file",
        required=True,
        type=Path,
        nargs="+",
        help=f"one or several inputs to compare with each other, each with its own output: {flags.FORMS}",
    )
    flags.add_columns(group)
    group.add_argument(
        "--against", type=Path, nargs="+", default=[], help="earlier datasets: all their records are kept, none are written"
    )
    group.add_argument(
        "--index", type=Path, help="folder of the records kept in earlier runs; those kept now are added (default: none)"
    )
    flags.add_skip_malformed(group)
    flags.add_partial(group)
    parser.add_argument("--output_file", type=Path, help="of a single input (default: the input's stem with _distance)")
    parser.add_argument(
        "--embedding_model",
        default=DEFAULT_EMBEDDING_MODEL,
        help=f"sentence-transformers model: a folder or a hub id; Magpie's is sentence-transformers/all-mpnet-base-v2 (default "
        f"{DEFAULT_EMBEDDING_MODEL})",
    )
    parser.add_argument("--device", help="for the embeddings, as torch names it (default: a GPU if there is one)")
    parser.add_argument(
        "--cache", type=Path, help="file that caches embeddings (default: embeddings.sqlite next to the output)"
    )
    parser.add_argument(
        "--distance_threshold",
        type=flags.number(float, above=0.0, most=4.0),
        default=DISTANCE,
        help="squared distance below which a neighbour counts for repeat_count and min_similar_conversation_id; 0.05 is a "
        "cosine of 0.975 (default 0.05)",
    )
    flags.switch(parser, "--drop", "write the copies to X_distance_dropped.jsonl, with the drop_reason `duplicate`")
    flags.add_ray(parser)
    flags.add_run(parser)
    return parser.parse_args()


def runs_of(args: argparse.Namespace) -> list[tuple[StageOptions, Run]]:
    """Return each input's own options and its run, after checking that they fit together."""
    files: list[Path] = args.input_file
    if args.output_file and len(files) > 1:
        raise MagpieError("--output_file is for a single --input_file; several get their names from their inputs")
    everything = [Path(os.path.realpath(path)) for path in (*files, *args.against)]
    if twice := {path for path in everything if everything.count(path) > 1}:
        raise MagpieError(f"{min(twice)} is named twice. A file is compared with itself anyway")
    arguments = {name: getattr(args, name) for name in ("embedding_model", "distance_threshold")} | {
        "index": str(args.index) if args.index else None
    }
    if args.drop:  # files made before this flag existed can be resumed
        arguments["drop"] = True
    switches = {name: getattr(args, name) for name in ("skip_malformed", "partial", "overwrite", "check")}
    found = []
    for path in files:
        own = StageOptions(input_file=path, output_file=args.output_file, shard=None, **switches)
        others = {f"input_file {other.name}": other for other in files if other != path}
        others |= {f"against {other.name}": other for other in args.against}
        found.append((own, stream_run("gen_dis.py", own, "_distance", arguments, inputs=others)))
    if len({os.path.realpath(run.paths.output) for _, run in found}) < len(found):
        raise MagpieError("two inputs would have the same output. Rename one of them")
    return found


def write(run: Run, own: StageOptions, compared: Compared, *, drop: bool) -> None:
    """Write one input's records with their duplicates and distances."""
    copies = 0

    def work(out: Stream, index: int, record: dict[str, Any]) -> None:
        nonlocal copies
        row = record | compared.of(own.input_file, index)
        copies += row["duplicate_of"] is not None
        if drop and row["duplicate_of"] is not None:
            out.drop(row, "duplicate", f"of {row['duplicate_of']}")
        else:
            out.keep(row)

    stream_rows(run, own, work, required=())
    if copies and not drop:
        log.info("%s: %d copies (`duplicate_of`) are in it; --drop leaves them out", run.paths.output, copies)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    runs = runs_of(args)
    waiting = [(own, run) for own, run in runs if begins(run, overwrite=args.overwrite, check=args.check)]
    if not waiting:
        return
    folder = IndexFolder.open(args.index, args.embedding_model) if args.index else None
    cache = args.cache or runs[0][1].paths.output.with_name("embeddings.sqlite")
    with executor_at(args.ray) as executor:
        compared = compare_files(
            args.input_file,
            args.against,
            Embedder(args.embedding_model, cache=cache, device=args.device, executor=executor),
            folder,
            distance=args.distance_threshold,
            skip_malformed=args.skip_malformed,
            workers=executor,
        )
    if folder:
        folder.extend(*compared.new(), args.embedding_model)
    for own, run in waiting:
        write(run, own, compared, drop=args.drop)


if __name__ == "__main__":
    run_program("gen_dis", main)
