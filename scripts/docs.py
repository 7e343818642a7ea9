"""The generated parts of docs/, written by `bash scripts/docs.sh`.

Between two comments, `<!-- flags: gen_ins -->` and `<!-- end of flags -->`, are a program's flags from its --help;
between `<!-- plan: ARGUMENTS -->` and `<!-- end of plan -->` the plan that `exp/plan.py ARGUMENTS` prints.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn
from unittest import mock

PROJECT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"<!-- flags: (\w+) -->\n.*?<!-- end of flags -->", re.DOTALL)
PLANNED = re.compile(r"<!-- plan: (.*?) -->\n.*?<!-- end of plan -->", re.DOTALL)
ADDED_BY_PYTHON = re.compile(r" \(default: (True|False)\)$")
"""Python before 3.13 adds this to every switch; ours say it themselves."""


class _HelpAsked(Exception):
    """Carries the parser whose --help was requested."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def loaded(path: Path) -> ModuleType:
    """Return a program as a module."""
    spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return the parser behind `exp/PROGRAM.py --help`."""
    path = PROJECT / "exp" / f"{program}.py"
    module = loaded(path)

    def asked(parser: argparse.ArgumentParser) -> NoReturn:
        raise _HelpAsked(parser)

    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", asked),
        mock.patch.object(sys, "argv", [path.name, "--help"]),
        mock.patch.dict(os.environ, {"MAGPIE_BASE_URL": "", "RAY_ADDRESS": ""}),
    ):
        try:
            module.parse_args()
        except _HelpAsked as found:
            return found.parser
    raise ValueError(f"{path} has no --help")


def flags_of(program: str) -> str:
    """Return a program's description and a table of its flags, in Markdown."""
    parser = parser_of(program)
    rows = []
    for group in parser._action_groups:
        rows += [_row(action, parser.prog) for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
    table = "\n".join(["| flag | what |", "|---|---|", *rows]) if rows else "It has no flags."
    return f"```text\n{(parser.description or '').strip()}\n```\n\n{table}"


def _row(action: argparse.Action, program: str) -> str:
    """Return a flag's line."""
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        value = "|".join(map(str, action.choices))
    if action.nargs == 0:
        value = ""
    elif action.nargs in ("+", "*"):
        value += " …"
    elif action.nargs == "?":
        value = f"[{value}]"
    name = ", ".join(action.option_strings) or action.dest
    text = (action.help or "") % {**vars(action), "prog": program}
    need = " **required.**" if action.required and action.option_strings else ""
    said = ADDED_BY_PYTHON.sub("", " ".join(text.split()))
    shown = f"{name} {value}".strip() if action.option_strings else name
    cells = (cell.replace("|", "\\|") for cell in (f"`{shown}`", said + need))
    return f"| {' | '.join(cells)} |"


def pages() -> Iterator[Path]:
    """Yield the pages with generated parts."""
    for path in sorted((PROJECT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if MARKED.search(text) or PLANNED.search(text):
            yield path


def written(text: str) -> str:
    """Return a page with its current flags and plans."""
    text = MARKED.sub(lambda found: f"<!-- flags: {found[1]} -->\n{flags_of(found[1])}\n<!-- end of flags -->", text)
    return PLANNED.sub(lambda found: f"<!-- plan: {found[1]} -->\n\n{plan_of(found[1])}\n<!-- end of plan -->", text)


def plan_of(arguments: str) -> str:
    """Return the plan that `exp/plan.py ARGUMENTS` prints."""
    return str(loaded(PROJECT / "exp" / "plan.py").page(shlex.split(arguments)))


def main() -> None:
    """Rewrite every page."""
    for path in pages():
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
