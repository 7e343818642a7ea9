"""A job's folder: which of its files is meant, and which model made it.

`python -m magpie.runs.jobs data/job` prints the job's model, its problems' file and its answers' file, a line each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from magpie.common.console import MagpieError, run_program
from magpie.records.reading import stem_of


def job_file(folder: Path, stage: str | None) -> Path:
    """Return a job's finished file that `stage` names (the end of its name), or the last that the job made.

    Raises:
        MagpieError: the folder is not a job, or none or several files are meant.
    """
    outputs = list(finished(folder))
    names = ", ".join(sorted(output.name for output in outputs))
    if stage:
        wanted = [output for output in outputs if stem_of(output).endswith(f"_{stage.removeprefix('_')}")]
        if len(wanted) != 1:
            raise MagpieError(f"{folder}: {len(wanted)} finished files end in _{stage}. There are: {names}")
        return wanted[0]
    ends = [one for one in outputs if not any(stem_of(other).startswith(f"{stem_of(one)}_") for other in outputs)]
    if len(ends) != 1:
        raise MagpieError(f"{folder}: several files may be meant. Choose with --stage, or name a file. There are: {names}")
    return ends[0]


def finished(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return a job's finished record files with their run files' content: neither what was exported nor shards.

    Raises:
        MagpieError: there is none, so the folder is not a job.
    """
    if not folder.is_dir():
        raise MagpieError(f"{folder}: no such folder. Name a job under data/, or its folder")
    found = {}
    for run_file in sorted(folder.glob("*.run.json")):
        output = run_file.with_name(run_file.name.removesuffix(".run.json") + ".jsonl")
        try:
            run = msgspec.json.decode(run_file.read_bytes(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MagpieError(f"{run_file}: broken ({error}). Make its stage again, or name a file") from error
        of_records = run.get("stage") != "export.py" and "shard" not in (run.get("arguments") or {})
        if output.exists() and run.get("status") == "complete" and of_records:
            found[output] = run
    if not found:
        raise MagpieError(f"{folder}: this folder is not a job: no finished stage (.jsonl with its .run.json) is in it")
    return found


def main_files(folder: Path) -> tuple[str, Path, Path]:
    """Return the model of a finished main job, the file of its problems as they were answered, and that of its answers.

    Raises:
        MagpieError: the folder is not a job, or the job has no answers yet.
    """
    answered = {
        path: run
        for path, run in finished(folder).items()
        if run["stage"] == "gen_res.py" and run["arguments"].get("num_responses") == 1 and stem_of(path).endswith("_res")
    }
    if len(answered) != 1:
        raise MagpieError(
            f"{folder}: {len(answered)} files of answers (…_res.jsonl) are in it, and one is needed. Finish the main job"
        )
    [(answers, run)] = answered.items()
    problems = answers.with_name(f"{stem_of(answers).removesuffix('_res')}.jsonl")
    if not problems.exists():
        raise MagpieError(f"{problems}: the problems of {answers.name} are gone. Put them back, or name another job")
    return run["arguments"]["model_path"], problems, answers


def model_of(record: dict[str, Any]) -> str:
    """Return the model that answered a record's problem, else the one that made it, else an empty text."""
    answered, asked = record.get("gen_response_configs") or {}, record.get("gen_input_configs") or {}
    return str(answered.get("output_generator") or asked.get("input_generator") or "")


def main() -> None:
    """Print what scripts/sft.sh needs to know of a job."""
    print("\n".join(map(str, main_files(Path(sys.argv[1])))))


if __name__ == "__main__":
    run_program("sft", main)
