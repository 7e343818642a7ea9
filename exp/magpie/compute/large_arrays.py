"""Arrays that may be larger than the memory: beyond a limit they are in a file, whose pages the kernel can write out.

The file has no name any more as soon as it is there, so it is gone with the process, however that ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

IN_MEMORY = 2 * 2**30
"""Bytes of an array up to which it is in memory."""
ROWS_AT_ONCE = 65_536


def room_for(shape: tuple[int, ...], dtype: Any, folder: Path | None) -> np.ndarray:
    """Return an array of zeros: in memory, or in a file in `folder` (by default where temporary files are).

    Raises:
        OSError: the disk has no room for it.
    """
    import numpy as np

    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # a page that finds no place on the disk later would end the process without a word
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            error.filename = str(folder or tempfile.gettempdir())
            raise
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def parts(count: int, size: int = ROWS_AT_ONCE) -> Iterator[slice]:
    """Yield slices that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
