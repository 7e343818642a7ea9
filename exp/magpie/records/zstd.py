"""zstd-compressed input as a stream."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import zstandard


class ZstdFile(io.RawIOBase):
    """A zstd file of one or several frames; unlike zstandard's reader, a frame without its end is an error."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._raw, self._decompressor = raw, zstandard.ZstdDecompressor()
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = self._output = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill `target` with decompressed bytes, and return their number; 0 at the end."""
        while not self._output:
            data = self._input or self._raw.read(1 << 17)
            if not data:
                if self._frame is not None:
                    raise EOFError("a zstd frame ends in the middle")
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._output, self._input = self._frame.decompress(data), b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        taken = self._output[: len(target)]
        target[: len(taken)] = taken
        self._output = self._output[len(taken) :]
        return len(taken)
