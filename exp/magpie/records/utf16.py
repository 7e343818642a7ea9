"""UTF-16 input as a stream of UTF-8."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import Any, BinaryIO

from magpie.common.console import MagpieError

MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_utf16(head: bytes) -> bool:
    """Return whether a file begins with UTF-16's byte order mark (and not UTF-32's)."""
    return head.startswith(MARKS) and not head.startswith(codecs.BOM_UTF32_LE)


class Utf16File(io.RawIOBase):
    """A stream of UTF-16 with a byte order mark, as UTF-8 without one."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self._path, self._raw, self._output = path, raw, b""
        self._decoder, self._ended = codecs.getincrementaldecoder("utf-16")(), False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill `target` with recoded bytes, and return their number; 0 at the end."""
        while not self._output and not self._ended:
            data = self._raw.read(1 << 17)
            self._ended = not data
            try:
                self._output = self._decoder.decode(data, self._ended).encode()
            except UnicodeError as error:
                raise MagpieError(f"{self._path}: broken UTF-16 ({error}). Save it as UTF-8") from error
        taken = self._output[: len(target)]
        target[: len(taken)] = taken
        self._output = self._output[len(taken) :]
        return len(taken)
