"""The elements of a JSON array, read as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

_PIECE = re.compile(rb'"(?:[^"\\]+|\\.)*+"|[\[\]{},"]', re.DOTALL)


class SomethingBehind(ValueError):
    """The array ends before the stream does."""


def elements(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of each element of the JSON array in a stream.

    Raises:
        ValueError: the array is not closed, or is followed by something.
    """
    buffer, depth, start, at, first = b"", 0, 0, 0, True
    while chunk := stream.read(max(1 << 20, len(buffer))):
        buffer, at, start = buffer[start:] + chunk, at - start, 0
        while (found := _PIECE.search(buffer, at)) and (
            piece := found[0]
        ) != b'"':  # else: a string continues in the next chunk
            at = found.end()
            if piece in b"[{":
                depth += 1
                start = at if depth == 1 else start
            elif piece in b"]}" or (piece == b"," and depth == 1):
                if depth == 1:
                    if piece == b"}":
                        raise ValueError("it ends with }")
                    element = buffer[start : at - 1]
                    if element.strip() or piece == b"," or not first:
                        yield element
                    first, start = False, at
                depth -= piece != b","
                if not depth:
                    if buffer[at:].strip() or stream.read(4096).strip():
                        raise SomethingBehind("there is something after its end")
                    return
        at = found.start() if found else len(buffer)
    raise ValueError("it is not closed")
