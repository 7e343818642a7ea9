"""Flags that several programs share: declared once, checked while parsing, refused in one line."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from magpie.common.console import MagpieError
from magpie.config.model_presets import Sampling
from magpie.runs.shards import Shard


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that knows no abbreviations."""

    def __init__(self, doc: str) -> None:
        super().__init__(description=doc, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        if message.endswith("expected one argument"):
            message += " (one that begins with a dash goes behind an equals sign: --flag='--value')"
        raise MagpieError(f"{message}. See {self.prog} --help")


class Joined(argparse.Action):
    """A flag that may be given several times: what is given is joined by commas, and takes the default's place."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, flag: Any = None) -> None:
        """Add a value."""
        given = getattr(namespace, self.dest) if getattr(self, "_seen", None) is namespace else None
        self._seen = namespace
        setattr(namespace, self.dest, f"{given},{values}" if given is not None else values)


def number(
    kind: Callable[[str], float], *, above: float | None = None, least: float | None = None, most: float | None = None
) -> Callable[[str], float]:
    """Return an argparse type: a number within bounds."""
    limits = {"above": above, "at least": least, "at most": most}
    bounds = [f"{word} {limit:g}" for word, limit in limits.items() if limit is not None]
    words = "a whole number" if kind is int else "a number"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}") from None
        inside = (
            math.isfinite(value)
            and (above is None or value > above)
            and (least is None or value >= least)
            and (most is None or value <= most)
        )
        if not inside:
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {', '.join([words, *bounds])}")
        return value

    return parse


MOST_ROWS = 10**9
positive = number(int, least=1, most=MOST_ROWS)
not_negative = number(int, least=0, most=MOST_ROWS)


def add_model(parser: Parser, *, default: str | None = None) -> None:
    """--model_path and what finds its server; `default` says which model is taken if none is named."""
    group = parser.add_argument_group("model and server")
    which = "a file's name in configs/models (smollm2), a hub id or a folder"
    group.add_argument("--model_path", required=default is None, help=f"{which} (default: {default})" if default else which)
    group.add_argument("--served_model", help="the model's name on the server (default: its hub id)")
    group.add_argument("--tokenizer", help="folder or hub id of the tokenizer (default: the model's own)")
    group.add_argument(
        "--base_url",
        action=Joined,
        metavar="URL",
        default=os.environ.get("MAGPIE_BASE_URL") or None,
        help="server(s) to use, separated by commas or given several times, like http://host:8000/v1; @FILE lists them, one a "
        "line, and is read again when it changes; the key in MAGPIE_API_KEY (default: MAGPIE_BASE_URL, else a server is "
        "started here for this run)",
    )
    group.add_argument(
        "--max_in_flight", type=positive, default=512, help="requests in flight at most, at each server (default 512)"
    )
    group.add_argument("--outage", type=positive, default=1800, help="seconds to wait for a server that is down (default 1800)")
    group.add_argument(
        "--request_timeout", type=positive, default=14400, help="seconds that one request may take (default 14400)"
    )
    add_hosted(parser)


def add_hosted(parser: Parser) -> None:
    """What a service that belongs to somebody else needs: its interface, its limits, its prices."""
    group = parser.add_argument_group("hosted service")
    group.add_argument(
        "--api",
        choices=["auto", "completions", "chat"],
        default="auto",
        help="which interface of the server: chat needs no tokenizer, and can answer, tag and judge, not make problems "
        "(default auto: completions where there are some)",
    )
    group.add_argument("--requests_per_minute", type=positive, help="requests sent a minute at most (default: no limit)")
    group.add_argument("--tokens_per_minute", type=positive, help="tokens a minute at most, both ways (default: no limit)")
    price = number(float, least=0.0)
    group.add_argument("--prompt_price", type=price, help="US dollars for a million tokens read (default: no cost is counted)")
    group.add_argument("--completion_price", type=price, help="US dollars for a million tokens written (default: as above)")


def add_sampling(parser: Parser, which: str) -> None:
    """Sampling flags; None means the model's preset for `which` (problems or answers)."""
    group = parser.add_argument_group("sampling")
    preset = f"(default: the model's preset for {which})"
    group.add_argument("--temperature", type=number(float, least=0.0, most=2.0), help=f"0 is greedy, at most 2 {preset}")
    group.add_argument("--top_p", type=number(float, above=0.0, most=1.0), help=f"nucleus, above 0, at most 1 {preset}")
    group.add_argument("--max_tokens", type=positive, help=f"tokens at most {preset}")
    group.add_argument("--seed", type=int, default=0, help="seed of the run (default 0)")


def add_run(parser: Parser) -> None:
    """Flags of every run that can be stopped."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--overwrite",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="start afresh instead of going on or refusing (default off)",
    )
    group.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="check the arguments and the files, and stop before a model is needed (default off)",
    )


def shard(text: str) -> Shard:
    """Read `I/N`."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_shard(parser: Parser) -> None:
    """--shard, for stages whose work on a record is expensive."""
    parser.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="do only part I of N of the rows, for several workers on one file; concat.py --shards puts them together "
        "(default: all rows)",
    )


def add_ray(parser: Parser) -> None:
    """--ray: who does the work."""
    parser.add_argument_group("cluster").add_argument(
        "--ray",
        nargs="?",
        metavar="ADDRESS",
        const=os.environ.get("RAY_ADDRESS") or "new",
        default=os.environ.get("RAY_ADDRESS") or None,
        help="work on a Ray cluster: the one at HOST:6379, or `auto` for the one on this machine; without an address a new one "
        "of this machine alone; --ray '' takes none (default: RAY_ADDRESS, else no cluster)",
    )


def add_input(parser: Parser) -> None:
    """--input_file and what happens to its malformed lines."""
    group = parser.add_argument_group("input")
    group.add_argument(
        "--input_file",
        required=True,
        type=Path,
        help="JSON Lines or a JSON array, also .gz or .zst; needs `instruction`",
    )
    group.add_argument(
        "--skip_malformed",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="put malformed lines into the dropped file instead of refusing the input (default off)",
    )


def add_language(parser: Parser) -> None:
    """--language, of problems."""
    parser.add_argument(
        "--language",
        choices=["en", "any"],
        default="en",
        help="drop problems that are surely not English, or none (default en)",
    )


def language_of(args: argparse.Namespace) -> str | None:
    """Return the language that problems must be in, or None for any."""
    return None if args.language == "any" else str(args.language)


def sampling_of(args: argparse.Namespace, preset: Sampling) -> Sampling:
    """Return the preset's sampling settings with those of the command line over them."""
    chosen = {name: getattr(args, name) for name in ("temperature", "top_p", "max_tokens")} | {"top_k": None}
    settings = {name: getattr(preset, name) if value is None else value for name, value in chosen.items()}
    return Sampling(**settings)


def add_gpu_memory(group: argparse._ArgumentGroup, more: str) -> None:
    """The memory of a GPU: the same unit in every program."""
    group.add_argument(
        "--gpu_memory",
        type=number(float, above=0.0, most=10_000),
        help=f"GB of each GPU as its maker counts, which are GiB: 80 for an H100, 141 for an H200 ({more})",
    )
