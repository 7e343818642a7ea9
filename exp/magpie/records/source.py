"""A user's input: a file of any format, a folder or hub id of a dataset, or the standard input."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magpie.common.console import MagpieError

if TYPE_CHECKING:
    from magpie.records.shapes import KnownSet

STDIN = "-"


def _none() -> Sequence[KnownSet]:
    return ()


class Source(type(Path())):  # type: ignore[misc]
    """The path of an input, and how its rows become records. A plain path is a file of records as stages write it.

    `columns`: key of a record → the user's column (empty: none). `split`: of a dataset. `known`: gives the datasets whose
    columns are known (configs/columns). `spooled`: the standard input was written there.
    """

    columns: Mapping[str, str] = {}
    split: str | None = None
    known: Callable[[], Sequence[KnownSet]] = staticmethod(_none)
    spooled: bool = False

    @classmethod
    def named(
        cls, path: Path, columns: Mapping[str, str], split: str | None, known: Callable[[], Sequence[KnownSet]]
    ) -> Source:
        """Return the source that a user names; the standard input is read to its end.

        Raises:
            MagpieError: the standard input is a terminal.
        """
        spooled = str(path) == STDIN
        source = cls(_spool() if spooled else path)
        source.columns, source.split, source.known, source.spooled = columns, split, known, spooled
        return source

    @property
    def hub_id(self) -> str:
        """The id (`owner/name` or `owner/name:config`) of a hub dataset, else an empty text."""
        name = str(self)
        is_id = name.count("/") == 1 and not name.startswith((".", "~", "/")) and not self.suffix[1:].isalpha()
        return name if is_id and not self.exists() and not self.parent.exists() else ""

    def with_name(self, name: str) -> Path:
        """Return the path of a file next to it, or in the current folder if it is not a file."""
        return Path(name) if self.spooled or self.hub_id else Path(self).with_name(name)


def _spool() -> Path:
    if sys.stdin.isatty():
        raise MagpieError("--input_file - reads the standard input, and this is a terminal. Pipe a file into it")
    folder = Path(tempfile.mkdtemp(prefix="magpie-stdin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path
