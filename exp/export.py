"""Write a dataset for trainers.

    python exp/export.py --format sharegpt --input_file data/job/job_ins_clean_res.jsonl
    python exp/export.py --format messages --input_file data/job/job_ins_clean_res.jsonl --output_folder data/job/job_sft

Formats for fine-tuning: `sharegpt` (conversations), `messages` (chat messages), `alpaca`; for reinforcement learning, a
prompt and the answer to check against: `rlvr` (TRL's GRPO), `verl`, `prime-rl` (and verifiers), with the rewards of
magpie.reward; `stepwise` from the rows of gen_po_rewards.py with a process reward model; `dpo`, `sharegpt_dpo` and `kto` from
those of gen_po_pairs.py. The chain of thought goes into <think>…</think> before the solution (--no-reasoning leaves it out). A
response that did not end by itself (`finish_reason` other than `stop`) is dropped unless --keep_unfinished; one that holds
tokens of a chat template, an unclosed thought or a second one is dropped in any case.

Without --output_folder: one JSON Lines file. With it: a folder that `datasets.load_dataset` reads, Parquet or JSON Lines under
an explicit schema, with a dataset card and, with --test_share, a test split: a group of duplicates is in one split, the same in
every later export. --push_to_hub puts it on the hub, private.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import MagpieError, run_program
from magpie.config.model_presets import load_model
from magpie.export.card import Card, Facts, write_card
from magpie.export.formats import FORMATS, METADATA, Options, group_of, metadata, shown_columns
from magpie.export.writer import FILE_TYPES, TableWriter, split_of
from magpie.records.reading import read_rows
from magpie.records.rows import known_keys
from magpie.runs.one_pass import Stream, open_folder_stream
from magpie.runs.run import Run
from magpie.runs.run_file import is_partial
from magpie.runs.stage import StageOptions, begins, one_pass, refuse_control, stream, stream_run
from magpie.runs.summary import show_summary

DECISIVE = ("format", "reasoning", "keep_unfinished")
DECISIVE_OF_FOLDERS = (*DECISIVE, "file_type", "test_share", "seed", "for_model", "license", "title")


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with the format's name)")
    parser.add_argument("--format", choices=list(FORMATS), default="sharegpt", help="(default sharegpt)")
    flags.switch(parser, "--reasoning", "put the chain of thought before the solution", default=True)
    flags.switch(parser, "--keep_unfinished", "keep responses that were cut or ended in a loop")
    flags.add_keep_controls(parser)
    group = parser.add_argument_group("dataset folder")
    group.add_argument("--output_folder", type=Path, help="write a dataset into this folder instead of one file")
    group.add_argument("--file_type", choices=FILE_TYPES, default="parquet", help="(default parquet)")
    share = flags.number(float, least=0.0, most=0.9)
    group.add_argument("--test_share", type=share, default=0.0, help="share of the rows in the test split (default 0: none)")
    group.add_argument("--seed", type=flags.not_negative, default=0, help="seed of the split (default 0)")
    group.add_argument("--for_model", help="the model to train: adds its training template if its own drops <think>")
    group.add_argument("--license", default="other", help="the dataset card's license, as the hub names it (default other)")
    group.add_argument("--title", help="the dataset card's title (default: the folder's name)")
    group.add_argument(
        "--push_to_hub", metavar="NAME", help="upload it as owner/name (token: HF_TOKEN or `.venv/bin/hf auth login`)"
    )
    flags.switch(
        group,
        "--private",
        "let only you and your organisation see it on the hub; an existing dataset keeps its visibility",
        default=True,
    )
    flags.add_run(parser)
    args = parser.parse_args()
    if args.keep_controls and args.push_to_hub:
        parser.error("--keep_controls and --push_to_hub exclude each other")
    if args.output_folder is None:
        for name in ("file_type", "test_share", "for_model", "license", "title", "push_to_hub", "private"):
            if getattr(args, name) != parser.get_default(name):
                parser.error(f"--{name} is for a dataset folder: give --output_folder")
    elif args.output_file:
        parser.error("--output_file and --output_folder exclude each other")
    return args


def require_pairs(args: argparse.Namespace) -> None:
    """Refuse a file without pairs for a format of pairs."""
    is_asked = "chosen" in FORMATS[args.format].needs and (args.input_file.exists() or not args.check)  # not yet made: no fault
    row = next(read_rows(args.input_file, ()), None) if is_asked else None
    if row and row.record and not row.record.get("prompt"):
        raise MagpieError(
            f"{args.input_file}: --format {args.format} takes pairs (`prompt`, `chosen`, `rejected`), and {row.place} has "
            "none. gen_po_pairs.py makes them of verified responses"
        )


def kept_controls(args: argparse.Namespace) -> dict[str, bool]:
    """Return the flag if it is given: exports made before it existed stay as they are."""
    return {"keep_controls": True} if args.keep_controls else {}


def to_file(args: argparse.Namespace, options: Options) -> None:
    """Write one JSON Lines file."""
    chosen = FORMATS[args.format]

    def work(out: Stream, index: int, record: dict[str, Any]) -> None:
        refuse_control(record, keep=args.keep_controls)
        if reason := chosen.refusal(record, options):
            out.drop_unchanged(reason)
        else:
            row = chosen.row(record, options)
            out.keep_several(row) if isinstance(row, list) else out.keep(row)

    arguments = {name: getattr(args, name) for name in DECISIVE} | kept_controls(args)
    known = known_keys(tuple(chosen.columns))
    stage = flags.options_from(args, StageOptions)
    stream("export.py", stage, f"_{args.format}", arguments, work, required=chosen.needs, known=known)


def open_folder(args: argparse.Namespace) -> Run:
    """Return the run that makes the folder; a folder that this program did not make is never replaced."""
    folder: Path = args.output_folder
    if not folder.name:
        raise MagpieError(f"--output_folder {folder}: choose a separate folder, like data/job/job_sft")
    arguments = {name: getattr(args, name) for name in DECISIVE_OF_FOLDERS} | kept_controls(args)
    run = stream_run("export.py", flags.options_from(args, StageOptions), "", arguments, folder=folder)
    if folder.exists() and (not run.paths.run.exists() or args.input_file.resolve().is_relative_to(folder.resolve())):
        raise MagpieError(f"--output_folder {folder} exists and was not made by export.py. Choose another")
    return run


def fill_folder(args: argparse.Namespace, options: Options, run: Run, template: str) -> None:
    """Write the rows, the card and the training template into the folder."""
    chosen, facts = FORMATS[args.format], Facts(args.seed)
    with open_folder_stream(run) as (folder, out):
        with TableWriter(folder, shown_columns(chosen), args.file_type) as table:

            def work(out: Stream, index: int, record: dict[str, Any]) -> None:
                refuse_control(record, keep=args.keep_controls)
                if reason := chosen.refusal(record, options):
                    out.drop_unchanged(reason)
                    return
                values = metadata(record)
                facts.add(record, values)
                split = split_of(group_of(record), args.test_share, args.seed) if args.test_share else "train"
                made = chosen.row(record, options)
                for row in made if isinstance(made, list) else [made]:
                    table.write(split, values | row)
                out.kept_elsewhere()

            known = known_keys((*chosen.columns, *METADATA))
            one_pass("export.py", flags.options_from(args, StageOptions), out, work, required=chosen.needs, known=known)
        if not table.counts:
            raise MagpieError(f"{args.input_file}: no record yields a row ({dict(run.totals.dropped)}). Nothing was written")
        if template:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        card = Card(
            title=args.title or args.output_folder.name,
            format=args.format,
            columns=table.columns,
            file_type=args.file_type,
            license=args.license,
            splits=table.counts,
            dropped=run.totals.dropped,
            template=bool(template),
            partial=is_partial(args.input_file),
        )
        write_card(folder, args.input_file, card, facts)
    show_summary(run.stage, run.paths, run.totals)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    options = Options(reasoning=args.reasoning, keep_unfinished=args.keep_unfinished)
    require_pairs(args)
    if args.output_folder is None:
        to_file(args, options)
        return
    template = load_model(args.for_model).training_template if args.for_model else ""
    run = open_folder(args)
    if begins(run, overwrite=args.overwrite, check=args.check):
        fill_folder(args, options, run, template)
    if args.push_to_hub and not args.check:
        from magpie.export.hub import push_folder

        push_folder(args.output_folder, args.push_to_hub, private=args.private)


if __name__ == "__main__":
    run_program("export", main)
