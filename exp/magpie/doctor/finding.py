"""One line of the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from magpie.common.console import printable

SET_UP = "bash scripts/setup.sh"
"""The remedy for an incomplete set-up."""


@dataclass(frozen=True)
class Finding:
    """A finding on one part of the machine.

    Attributes:
        state: `ok`, `note` (works, but worth knowing) or `problem`.
        part: the part of the machine or of the set-up.
        text: the finding.
        remedy: the remedy for a problem.
    """

    state: str
    part: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:8} {self.part:10} {printable(self.text)}"
        return f"{line}\n{'':19} -> {printable(self.remedy)}" if self.remedy else line


def read_text(path: str | Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
