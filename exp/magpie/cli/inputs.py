"""The flags of a stage's input: its file, format and column names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from magpie.config.columns import known_sets
from magpie.records.schema import Record
from magpie.records.source import Source

FORMS = (
    "JSON Lines, a JSON array, Parquet, CSV or TSV (also .gz or .zst), a dataset's folder or hub id, or - for the standard "
    "input; the problem in `instruction`, or as --columns says"
)
INPUTS = ("input_file", "inputs", "against")
"""The flags that name an input."""


def source_of(args: argparse.Namespace, path: Path) -> Source:
    """Return an input with its --columns and --split."""
    return Source.named(path, getattr(args, "columns", {}), getattr(args, "split", None), known_sets)


def take_sources(args: argparse.Namespace) -> None:
    """Turn the input paths of a parsed command line into sources."""
    for name in INPUTS:
        if given := getattr(args, name, None):
            setattr(args, name, source_of(args, given) if isinstance(given, Path) else [source_of(args, one) for one in given])


class ColumnNames(argparse.Action):
    """A flag with KEY=COLUMN pairs."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, flag: Any = None) -> None:
        """Read the pairs."""
        pairs = [pair.partition("=") for pair in values]
        if twice := [key for number, (key, _, _) in enumerate(pairs) if any(key == other[0] for other in pairs[:number])]:
            raise argparse.ArgumentError(self, f"`{twice[0]}` is named twice")
        for key, equals, _ in pairs:
            if not equals:
                raise argparse.ArgumentError(self, f"{key!r} is not KEY=COLUMN, like instruction=problem")
            if key not in Record.__annotations__:
                raise argparse.ArgumentError(
                    self, f"a record has no key `{key}`: instruction, response, reference_answer, id, …"
                )
        setattr(namespace, self.dest, {key: column for key, _, column in pairs})


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add --input_file, and --skip_malformed for its malformed lines."""
    group = parser.add_argument_group("input")
    group.add_argument("--input_file", required=True, type=Path, help=FORMS)
    add_columns(group)
    add_skip_malformed(group)
    add_partial(group)


def add_columns(group: argparse._ActionsContainer) -> None:
    """Add --columns and --split."""
    group.add_argument(
        "--columns",
        nargs="+",
        action=ColumnNames,
        default={},
        metavar="KEY=COLUMN",
        help="map input columns to a record's keys: instruction=problem reference_answer=answer response=solution; a "
        "dotted path reaches into objects, `id=` generates ids (default: usual names, and the datasets in configs/columns)",
    )
    group.add_argument("--split", help="split of a dataset in a folder or on the hub (default: the only one)")


def add_skip_malformed(group: argparse._ActionsContainer) -> None:
    """Add --skip_malformed."""
    group.add_argument(
        "--skip_malformed",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="put malformed lines into the dropped file instead of refusing the input (default off)",
    )


def add_partial(group: argparse._ActionsContainer) -> None:
    """Add --partial."""
    group.add_argument(
        "--partial",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="accept an input whose run stopped at its ceiling; the output is then marked partial too (default off)",
    )
