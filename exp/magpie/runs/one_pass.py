"""Stages that run in one quick pass: all their files appear together at the end, or none does.

A stopped pass leaves nothing behind, and earlier files stay intact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from magpie.common.files import replacing, replacing_folder, settle, write_atomically
from magpie.records.rows import Row, encode
from magpie.runs.part_file import PartFile, dropped_row
from magpie.runs.run import Run
from magpie.runs.totals import Totals

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Stream:
    """The output and dropped files of a one-pass stage, written in input order."""

    def __init__(self, output: BinaryIO | None, dropped: BinaryIO, totals: Totals) -> None:
        self._output, self._dropped, self._totals = output, dropped, totals
        self.row = Row(0, None)
        """The current row of the input."""

    def keep(self, record: dict[str, Any]) -> None:
        """Write a finished record."""
        self.keep_line(encode(record))

    def keep_unchanged(self) -> None:
        """Write the current row unchanged."""
        self.keep_line(self.unchanged())

    def unchanged(self) -> bytes:
        """Return the current row as one line, without the line end."""
        data = self.row.data
        line = data.strip()
        is_line = len(line) < len(data)  # an element of an array has no line end, and may be indented
        return encode(_decode(line)) if b"\r" in line or (not is_line and b"\n" in line) else line

    def mark(self, added: dict[str, Any]) -> None:
        """Add keys to the current row, or replace them."""
        self.row = msgspec.structs.replace(self.row, data=encode(_decode(self.row.data) | added))

    def keep_line(self, line: bytes) -> None:
        """Write a finished record that is already encoded."""
        assert self._output is not None, "what goes into a folder is written by its own writer"  # noqa: S101
        self._output.write(line)
        self._output.write(b"\n")
        self._totals.written += 1

    def keep_several(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows of one record, which counts once as written."""
        for row in rows:
            self.keep_line(encode(row))
        self._totals.written += 1 - len(rows)
        self._totals.rows = (self._totals.rows or 0) + len(rows)

    def note(self, statistics: dict[str, Any]) -> None:
        """Add a stage's own figures to the summary and the run file."""
        self._totals.statistics.update(statistics)

    def kept_elsewhere(self) -> None:
        """Count a finished record that was written into a folder."""
        self._totals.written += 1

    @property
    def written(self) -> int:
        """Records written so far."""
        return self._totals.written

    @property
    def dropped(self) -> int:
        """Rows dropped so far."""
        return self._totals.dropped.total()

    def drop_unchanged(self, reason: str, detail: str = "") -> None:
        """Write the current row with all its keys to the dropped file."""
        line = self.unchanged()
        if self.row.record is None or "drop_reason" in self.row.record or "drop_detail" in self.row.record:
            self.drop(_decode(line), reason, detail)
            return
        added = {"drop_reason": reason} | ({"drop_detail": detail} if detail else {})
        self._dropped.write(line[:-1] + b"," + encode(added)[1:] + b"\n")
        self._totals.dropped[reason] += 1

    def drop(self, record: dict[str, Any], reason: str, detail: str = "") -> None:
        """Write a record to the dropped file."""
        self._dropped.write(encode(dropped_row(record, reason, detail)))
        self._dropped.write(b"\n")
        self._totals.dropped[reason] += 1


@contextmanager
def open_stream(run: Run) -> Iterator[Stream]:
    """Yield the stream of a one-pass run into a file."""
    with _all_or_nothing(run), replacing(run.paths.output) as output, replacing(run.paths.dropped) as dropped:
        yield Stream(output, dropped, run.totals)
        settle(output)  # before the other one gets its name


@contextmanager
def open_folder_stream(run: Run) -> Iterator[tuple[Path, Stream]]:
    """Yield the folder to fill, and the stream for dropped records, of a one-pass run into a folder."""
    with _all_or_nothing(run), replacing(run.paths.dropped) as dropped, replacing_folder(run.paths.output) as folder:
        yield folder, Stream(None, dropped, run.totals)
        settle(dropped)  # before the folder gets its name


@contextmanager
def _all_or_nothing(run: Run) -> Iterator[None]:
    """Hold the run's `.part` file, and put the run file back if the pass fails."""
    paths = run.paths
    with PartFile.open(paths.part):
        earlier = paths.run.read_bytes() if paths.run.exists() else None
        run.begin_session()
        try:
            yield
        except BaseException:
            paths.run.unlink() if earlier is None else write_atomically(paths.run, [earlier.rstrip(b"\n")])
            raise
        else:
            run.end_session("complete")
        finally:
            paths.part.unlink(missing_ok=True)
