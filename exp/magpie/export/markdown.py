"""Markdown of a dataset card: text from models and users stays plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from magpie.common.console import printable

MARKUP = re.compile(r"[!&<>\[\]|`*~\\$]|_(?!\w)|(?<!\w)_|(?<=:)/|@(?=\w)|(?<=www)\.")
"""Characters that could be markup, an address or a mention; inside a cell they are written by their numbers."""


def cell(value: Any) -> str:
    """Return a value as a cell's text: nothing in it is Markdown, HTML, a link or an image."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(printable(str(value), 200).split()))


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table of values."""
    lines = [[cell(value) for value in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(title: str, head: list[str], rows: list[tuple[Any, ...]], text: str = "") -> str:
    """Return a heading, a text and a table."""
    return f"## {title}\n\n{text + chr(10) * 2 if text else ''}{table(head, rows)}"


def block(text: str, language: str = "text") -> str:
    """Return a text as a code block that it cannot close."""
    return f"```{language}\n{text.replace('```', chr(39) * 3)}\n```"
