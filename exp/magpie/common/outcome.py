"""A program's outputs, for the process that started it: `--result_file` gets a line of JSON per output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from magpie.common.files import write_atomically

_outputs: dict[str, dict[str, Any]] = {}
_file: list[Path] = []


def write_to(path: Path | None) -> None:
    """Name the file that `write` writes; None: nothing is written."""
    _file[:] = [path] if path else []
    _outputs.clear()


def is_asked() -> bool:
    """Return whether another process reads the outcome: then "nothing to do" need not be shown on the screen."""
    return bool(_file)


def note(output: Path, run_file: Path, status: str, rows: int | None = None) -> None:
    """Note the state in which an output was found: `fresh`, `stopped` or `complete` (with its rows); several passes add up."""
    if status != "complete" or str(output) not in _outputs:
        _outputs[str(output)] = {"output": str(output), "run_file": str(run_file), "status": status, "rows": rows}


def note_made(output: Path, run_file: Path, status: str, rows: int) -> None:
    """Note that an output was written, in full or in part."""
    _outputs.pop(str(output), None)
    note(output, run_file, status, rows)


def write() -> None:
    """Write the file, if one was named."""
    if _file:
        write_atomically(_file[0], [json.dumps(one).encode() for one in _outputs.values()])
