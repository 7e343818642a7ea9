"""What a stage that is done in one pass writes to, and what every run counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgspec

from magpie.records.reading import Row, encode

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass
class Totals:
    """What was counted: of the whole run, over all its sessions."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Rows of the dropped file by reason."""
    written: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    rows: int | None = None
    """Rows of the output, where a record may give several (or the output's rows are no records)."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """What a stage tells of its output beside the counts, by name."""

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens a second of running time."""
        return self.completion_tokens / self.seconds if self.seconds else 0.0


class Stream:
    """The two files of a stage that is done in one pass, written in input order."""

    def __init__(self, output: BinaryIO | None, dropped: BinaryIO, totals: Totals) -> None:
        self._output, self._dropped, self._totals = output, dropped, totals
        self.row = Row(0, None)
        """The input's row that is being worked on."""

    def keep(self, record: dict[str, Any]) -> None:
        """Write a finished record."""
        self.keep_line(encode(record))

    def keep_unchanged(self) -> None:
        """Write the row that is being worked on as it stands in the input."""
        self.keep_line(self.unchanged())

    def unchanged(self) -> bytes:
        """Return the row that is being worked on as one line, without its end."""
        line = self.row.data.strip()
        return encode(_decode(line)) if b"\n" in line or b"\r" in line else line  # an element of an array may be indented

    def keep_line(self, line: bytes) -> None:
        """Write a finished record that is encoded already."""
        assert self._output is not None, "what goes into a folder is written by its own writer"  # noqa: S101
        self._output.write(line)
        self._output.write(b"\n")
        self._totals.written += 1

    def keep_several(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows that one record gives; the record counts once as written."""
        for row in rows:
            self.keep_line(encode(row))
        self._totals.written += 1 - len(rows)
        self._totals.rows = (self._totals.rows or 0) + len(rows)

    def note(self, statistics: dict[str, Any]) -> None:
        """Put a stage's own figures into the summary and the run file."""
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
        """Write the row that is being worked on, all its keys, to what is left out."""
        line = self.unchanged()
        if b"drop_" in line:  # it may have been dropped before
            self.drop(_decode(line), reason, detail)
            return
        added = {"drop_reason": reason} | ({"drop_detail": detail} if detail else {})
        self._dropped.write(line[:-1] + b"," + encode(added)[1:] + b"\n")
        self._totals.dropped[reason] += 1

    def drop(self, record: dict[str, Any], reason: str, detail: str = "") -> None:
        """Write a record to what is left out."""
        self._dropped.write(encode(dropped_row(record, reason, detail)))
        self._dropped.write(b"\n")
        self._totals.dropped[reason] += 1


def dropped_row(record: dict[str, Any], reason: str, detail: str = "") -> dict[str, Any]:
    """Return a record as the dropped file has it."""
    return record | {"drop_reason": reason} | ({"drop_detail": detail} if detail else {})
