"""What scripts/align.sh and scripts/magpie_po.sh have to know: which problems, and which model answers them.

`python -m magpie.runs.aligning JOB_FOLDER_OR_FILE     prints the problems' file and its model (or an empty line)
"""

from __future__ import annotations

import sys
from pathlib import Path

from magpie.common.console import MagpieError, run_program
from magpie.records.reading import read_rows
from magpie.runs.jobs import main_files, model_of


def problems_and_model(source: Path) -> tuple[Path, str]:
    """Return a job's problems with its model; or the file itself with the model that its first record names (or none).

    Raises:
        MagpieError: there is no such job or file, or the file has no record.
    """
    if source.is_dir():
        model, problems, _ = main_files(source)
        return problems, model
    for row in read_rows(source):
        if row.record is not None:
            return source, model_of(row.record)
    raise MagpieError(f"{source}: no usable record in it. Name a job, or a file with `instruction`")


def main() -> None:
    """Print both, a line each."""
    problems, model = problems_and_model(Path(sys.argv[1]))
    print(f"{problems}\n{model}")


if __name__ == "__main__":
    run_program("align", main)
