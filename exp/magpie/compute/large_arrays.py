"""Arrays that may be larger than main memory: above a limit they are memory-mapped, backed by an unlinked temporary file.

The file disappears with the process, however it ends.
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
"""Bytes up to which an array is kept in memory."""
ROWS_AT_ONCE = 65_536


def zeros(shape: tuple[int, ...], dtype: Any, folder: Path | None) -> np.ndarray:
    """Return an array of zeros, in memory or memory-mapped.

    Args:
        shape: its shape.
        dtype: its type.
        folder: where the file of a large array goes (default: the folder of temporary files).

    Raises:
        OSError: the disk has no room for it.
    """
    import numpy as np

    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # without this, a full disk would later kill the process with SIGBUS
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            error.filename = str(folder or tempfile.gettempdir())
            raise
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def slices(count: int, size: int = ROWS_AT_ONCE) -> Iterator[slice]:
    """Yield slices that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
