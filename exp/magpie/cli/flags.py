"""Flags shared by several programs: declared once, checked while parsing, refused in one line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from magpie.cli.inputs import FORMS as FORMS
from magpie.cli.inputs import add_columns as add_columns
from magpie.cli.inputs import add_input as add_input
from magpie.cli.inputs import add_partial as add_partial
from magpie.cli.inputs import add_skip_malformed as add_skip_malformed
from magpie.cli.inputs import source_of as source_of
from magpie.cli.parser import Parser as Parser
from magpie.config.model_presets import WINDOW
from magpie.runs.shards import Shard

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)


RESERVED = ("messages", "add_generation_prompt")


class Joined(argparse.Action):
    """A flag that may be repeated: its values are joined by commas and replace the default."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, flag: Any = None) -> None:
        """Add a value."""
        given = getattr(namespace, self.dest) if getattr(self, "_seen", None) is namespace else None
        self._seen = namespace
        setattr(namespace, self.dest, f"{given},{values}" if given is not None else values)


class Variables(argparse.Action):
    """A flag with NAME=VALUE pairs: a value is read as JSON where it is JSON, else as text."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, flag: Any = None) -> None:
        """Read the pairs."""
        read = {}
        for pair in values:
            name, equals, value = pair.partition("=")
            if not equals or not name.isidentifier():
                raise argparse.ArgumentError(self, f"{pair!r} is not NAME=VALUE, like enable_thinking=true")
            if name in RESERVED:
                raise argparse.ArgumentError(self, f"{name} is set by the programs themselves")
            try:
                read[name] = json.loads(value)
            except ValueError:
                read[name] = value
        setattr(namespace, self.dest, read)


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
            (kind is int or math.isfinite(value))
            and (above is None or value > above)
            and (least is None or value >= least)
            and (most is None or value <= most)
        )
        if not inside:
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {', '.join([words, *bounds])}")
        return value

    return parse


def switch(group: argparse._ActionsContainer, flag: str, help: str, *, default: bool | None = False) -> None:
    """Add --flag and --no-flag. A default of None means that neither was given; `help` describes it."""
    shown = "" if default is None else f" (default {'on' if default else 'off'})"
    group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=help + shown)


def options_from(args: argparse.Namespace, kind: type[Options]) -> Options:
    """Return a dataclass filled with the arguments that are named like its fields.

    Raises:
        AttributeError: the parser has no such argument.
    """
    return kind(**{field.name: getattr(args, field.name) for field in dataclasses.fields(kind)})


MOST_ROWS = 10**9
positive = number(int, least=1, most=MOST_ROWS)
not_negative = number(int, least=0, most=MOST_ROWS)


def add_model(parser: Parser, *, default: str | None = None) -> None:
    """Add --model_path and the flags that find its server; `default` describes the model that is used if none is named."""
    group = parser.add_argument_group("model and server")
    which = "a name in configs/models (smollm2), a hub id or a folder"
    group.add_argument("--model_path", required=default is None, help=f"{which} (default: {default})" if default else which)
    group.add_argument("--served_model", help="the model's name on the server (default: its hub id)")
    group.add_argument("--tokenizer", help="folder or hub id of the tokenizer (default: the model's own)")
    group.add_argument(
        "--template_variables",
        nargs="+",
        action=Variables,
        default={},
        metavar="NAME=VALUE",
        help="variables of the chat template, such as its switch for thinking: enable_thinking=true, reasoning_effort=high "
        "(default: the model's preset, else the template's own)",
    )
    group.add_argument(
        "--base_url",
        action=Joined,
        metavar="URL",
        default=os.environ.get("MAGPIE_BASE_URL") or None,
        help="server(s) to use, separated by commas or given several times, like http://host:8000/v1; @FILE lists them, one "
        "per line, and is read again when it changes; the key in MAGPIE_API_KEY (default: MAGPIE_BASE_URL, else a server is "
        "started here for this run)",
    )
    group.add_argument(
        "--max_in_flight",
        type=positive,
        default=WINDOW,
        help=f"maximum concurrent requests per copy of the model (default {WINDOW})",
    )
    group.add_argument("--outage", type=positive, default=1800, help="seconds to wait for a server that is down (default 1800)")
    group.add_argument("--request_timeout", type=positive, default=14400, help="maximum seconds per request (default 14400)")
    add_hosted(parser)
    add_ceiling(parser)


def add_ceiling(parser: Parser) -> None:
    """Add the ceilings of a run, over all its sessions."""
    group = parser.add_argument_group(
        "ceiling", "When one is reached, the run ends with exit code 4 and what is finished; with a higher one it resumes."
    )
    group.add_argument(
        "--max_tokens_total", type=number(int, least=0, most=10**14), help="maximum tokens read and written (default: no limit)"
    )
    group.add_argument(
        "--max_seconds", type=number(float, least=0.0), help="maximum seconds, including start-up (default: no limit)"
    )
    group.add_argument(
        "--max_cost",
        type=number(float, least=0.0),
        help="maximum US dollars, by --prompt_price and --completion_price (default: no limit)",
    )


def add_hosted(parser: Parser) -> None:
    """Add the flags for a hosted service: its interface, limits and prices."""
    group = parser.add_argument_group("hosted service")
    group.add_argument(
        "--api",
        choices=["auto", "completions", "chat"],
        default="auto",
        help="interface of the server: chat needs no tokenizer, and can respond, tag and judge, but not generate problems "
        "(default auto: completions if the server has them)",
    )
    group.add_argument("--requests_per_minute", type=positive, help="maximum requests per minute (default: no limit)")
    group.add_argument(
        "--tokens_per_minute", type=positive, help="maximum tokens per minute, read and written (default: no limit)"
    )
    add_proxy(group)
    price = number(float, least=0.0)
    group.add_argument("--prompt_price", type=price, help="US dollars per million prompt tokens (default: no cost is counted)")
    group.add_argument("--completion_price", type=price, help="US dollars per million completion tokens (default: as above)")


def add_proxy(group: argparse._ActionsContainer) -> None:
    """Add --proxy."""
    group.add_argument(
        "--proxy",
        type=proxy,
        metavar="URL",
        help="HTTP proxy for every server that is not on this machine, like http://host:3128; '' for none (default: "
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, for services outside the local network)",
    )


def proxy(text: str) -> str:
    """Read a proxy's address; a password in it could be read by everybody on this machine."""
    if "@" in text:
        raise argparse.ArgumentTypeError("it holds a user name or password: put such a proxy into HTTPS_PROXY")
    if text and not re.fullmatch(r"https?://[\w.:\[\]-]+/?", text, re.ASCII):
        raise argparse.ArgumentTypeError("give a proxy like http://host:3128, or '' for none")
    return text


def add_sampling(parser: Parser, which: str) -> None:
    """Add the sampling flags; None means the model's preset for `which` (problems or responses)."""
    group = parser.add_argument_group("sampling")
    preset = f"(default: the model's preset for {which})"
    group.add_argument("--temperature", type=number(float, least=0.0, most=2.0), help=f"0 to 2; 0 is greedy {preset}")
    group.add_argument(
        "--top_p", type=number(float, above=0.0, most=1.0), help=f"nucleus sampling, above 0, at most 1 {preset}"
    )
    group.add_argument("--max_tokens", type=positive, help=f"maximum tokens {preset}")
    group.add_argument("--seed", type=number(int), default=0, help="seed of the run (default 0)")


def add_run(parser: Parser) -> None:
    """Add the flags of every resumable run."""
    parser.set_defaults(shard=None)  # for stages without --shard
    group = parser.add_argument_group("run")
    switch(group, "--overwrite", "start afresh instead of resuming or refusing")
    switch(group, "--check", "check the arguments and the files, and stop before a model is needed")
    group.add_argument(
        "--result_file",
        type=result_file,
        metavar="FILE",
        help="new file, named like x.result, for a line of JSON about the output (default: none)",
    )
    group.add_argument(
        "--events",
        type=Path,
        metavar="FILE",
        help="file to append events to, one line of JSON each: docs/events.md (default: none)",
    )


def result_file(text: str) -> Path:
    """Check that the name is neither an input nor an output, and is not taken."""
    if Path(text).suffix != ".result" or os.path.lexists(text):
        raise argparse.ArgumentTypeError("give the name of a new file that ends in .result")
    return Path(text)


def shard(text: str) -> Shard:
    """Read `I/N`."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_shard(parser: Parser) -> None:
    """Add --shard, for stages whose work on a record is expensive."""
    parser.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="process only shard I of N of the rows, for several workers on one file; concat.py --shards joins them "
        "(default: all rows)",
    )


def add_ray(parser: Parser) -> None:
    """Add --ray, which decides where the work runs."""
    parser.add_argument_group("cluster").add_argument(
        "--ray",
        nargs="?",
        metavar="ADDRESS",
        const=os.environ.get("RAY_ADDRESS") or "new",
        default=os.environ.get("RAY_ADDRESS") or None,
        help="use a Ray cluster: the one at HOST:6379, or `auto` for the one on this machine; without an address, a new one "
        "of this machine alone; --ray '' uses none (default: RAY_ADDRESS, else no cluster)",
    )


def add_keep_controls(parser: Any) -> None:
    """Add --keep_controls."""
    switch(parser, "--keep_controls", "let controls (planted problems) pass, which are otherwise refused: see measure.py")


def add_two_models(group: argparse._ActionsContainer, about: str) -> None:
    """Add --weak_model and --strong_model; `about` continues after "the weak"."""
    for which in ("weak", "strong"):
        group.add_argument(f"--{which}_model", metavar="NAME", default="", help=f"the {which} {about}")


def add_language(parser: Parser) -> None:
    """Add --language, the language of problems."""
    parser.add_argument(
        "--language",
        choices=["en", "any"],
        default="en",
        help="en drops problems that are clearly not English, any drops none for their language (default en)",
    )


def add_gpu_memory(group: argparse._ArgumentGroup, more: str) -> None:
    """Add --gpu_memory, in the same unit in every program."""
    group.add_argument(
        "--gpu_memory",
        type=number(float, above=0.0, most=10_000),
        help=f"GB per GPU as vendors count (GiB): 80 for an H100, 141 for an H200 ({more})",
    )
