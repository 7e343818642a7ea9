"""Diagnose what this machine can run, with a remedy for what it cannot.

    python3 exp/doctor.py

Checks Python, GPUs and driver, memory, disk, the installed packages against the locks, the embedded model, the login of the
hub, the servers of MAGPIE_BASE_URL, and for every model of configs/models if it fits here and with what settings. Works before
the set-up; changes nothing, downloads nothing. Each line is ok, note or problem, with a remedy after an arrow.
Exit code: 0, or 1 if there is a problem.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from magpie.common.console import run_program
from magpie.doctor.diagnose import PROJECT, diagnose


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments; not magpie.cli.flags, which needs what the set-up installs."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--problems",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="show only findings with a remedy (default off)",
    )
    return parser.parse_args(arguments)


def use_the_set_up() -> None:
    """Continue in .venv's own Python if it works, so that the findings are those of the stages."""
    python = PROJECT / ".venv" / "bin" / "python"
    if Path(sys.prefix).resolve() == (PROJECT / ".venv").resolve() or not python.exists():
        return
    if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:  # noqa: S603
        os.execv(python, [str(python), *sys.argv])  # noqa: S606


def main() -> int:
    """Run the program."""
    args = parse_args()
    use_the_set_up()
    problems = 0
    for finding in diagnose():
        problems += finding.state == "problem"
        if finding.remedy or not args.problems:
            print(finding, flush=True)
    print(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    return int(problems > 0)


if __name__ == "__main__":
    run_program("doctor", main)
