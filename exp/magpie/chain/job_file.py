"""JOB/job.json: a job's chains as requested, and the progress of each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import msgspec

from magpie.chain.config import Flags, Stage
from magpie.common.console import MagpieError
from magpie.common.files import write_atomically
from magpie.runs.provenance import Provenance
from magpie.runs.run_file import ENDING, RunFile, readable_run_files

JOB_FILE = "job.json"
Status = Literal["waiting", "running", "complete", "skipped", "failed", "stopped", "partial: ceiling"]


class Output(msgspec.Struct, kw_only=True):
    """What a stage program reports about one of its files; paths are relative to the job's folder where they are inside it."""

    output: str
    run_file: str = ""
    rows: int | None = None
    status: Literal["fresh", "stopped", "partial: ceiling", "complete"] = "complete"


class StageState(msgspec.Struct, kw_only=True):
    """One stage and its progress."""

    stage: Stage
    status: Status = "waiting"
    outputs: list[Output] = []
    exit_code: int | None = None
    seconds: float = 0.0


class Chain(msgspec.Struct, kw_only=True):
    """A launcher's chain of stages, with everything that decides their output."""

    kind: str
    job: str
    settings: dict[str, str]
    inputs: dict[str, str] = {}
    """The job's own files that the stages start from."""
    intro: str = ""
    done: str = ""
    report: str = ""
    serve: Flags = {}
    stages: list[StageState] = []
    status: Status = "waiting"
    message: str = ""
    """Why or how it ended."""
    command: str = ""
    """The command that resumes it."""
    updated: float = 0.0
    seconds: float = 0.0
    """Running time over all calls."""
    provenance: list[Provenance] = []
    """Provenance of its stages: one entry per different one."""
    tokens_per_kept_record: dict[str, float] = {}
    """Of the models, from the first stage to the last file written."""

    @property
    def key(self) -> str:
        """Its name in the file."""
        return chain_key(self.kind, int(self.settings.get("round") or 1))


def chain_key(kind: str, number: int) -> str:
    """Return the name of a chain; a later round has its number."""
    return kind if number == 1 else f"{kind}_round{number}"


class JobFile:
    """A job's file; every change is written at once.

    Args:
        path: job.json in the job's folder, or next to a file of problems.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        found = read_chains(path)
        self.chains: dict[str, Chain] = earlier_chains(path.parent) if found is None and path.name == JOB_FILE else found or {}

    def write(self, chain: Chain) -> None:
        """Write the file with the chain's current state."""
        chain.updated = time.time()
        self.chains[chain.key] = chain
        write_atomically(self.path, [msgspec.json.format(msgspec.json.encode(self.chains), indent=1)])

    def relative(self, path: str) -> str:
        """Return a path as stored in the file."""
        whole = Path(path).resolve()
        return str(whole.relative_to(self.folder.resolve())) if whole.is_relative_to(self.folder.resolve()) else str(whole)

    def absolute(self, path: str) -> Path:
        """Return the path that a stored one stands for."""
        return self.folder / path


def earlier_chains(folder: Path) -> dict[str, Chain]:
    """Return the chain of finished stages from the run files of a job that has no job file yet."""
    runs = sorted(folder.glob(f"*{ENDING}"))
    states = [
        StageState(
            stage=Stage(name=run.stem, program=run.stage.removesuffix(".py")),
            status="complete",
            outputs=[Output(output=_made(run), run_file=Path(run.path).name, rows=run.counts.written)],
            seconds=run.seconds,
        )
        for run in readable_run_files(runs)
        if run.status == "complete"
    ]
    if not states:
        return {}
    return {"earlier": Chain(kind="earlier", job=folder.resolve().name, settings={}, stages=states, status="complete")}


def _made(run: RunFile) -> str:
    return run.output.name if run.output.exists() else run.stem


def read_chains(path: Path) -> dict[str, Chain] | None:
    """Return a job file's chains by kind, or None if there is no such file.

    Raises:
        MagpieError: it is broken.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Chain])
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MagpieError(f"{path}: not a job file ({error}). Fix it, or delete it and rerun the launcher") from error
