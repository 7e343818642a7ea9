"""A job's folder: its runs, its files, and the model that made them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.records.reading import fingerprint, read_rows, stem_of
from magpie.runs.run_file import ENDING, RunFile, read_run_file, readable_run_files
from magpie.runs.shards import whole_of


def data_folder(name: str | Path) -> Path:
    """Return the folder for a job's name: under DATA_DIR, else under data/."""
    return Path(os.environ.get("DATA_DIR") or PROJECT / "data") / name


def folder_of(job: Path) -> Path:
    """Return the folder of a job, given the folder or the job's name.

    Raises:
        MagpieError: there is no such folder.
    """
    found = next((folder for folder in (job, data_folder(job)) if folder.is_dir()), None)
    if found is None:
        raise MagpieError(f"{job}: no such folder, and no such file. Name a job under data/, its folder, or a file")
    return found


def run_files(folder: Path, *, skip_broken: bool = False) -> list[RunFile]:
    """Return a job's runs in the order in which they began, whatever their state; without joined shards.

    Raises:
        MagpieError: the folder is not a job, or a run file is broken (`skip_broken`: that is a warning).
    """
    if not folder.is_dir():
        raise MagpieError(f"{folder}: no such folder. Name a job under data/, or its folder")
    paths = sorted(folder.glob(f"*{ENDING}"))
    runs = list(readable_run_files(paths)) if skip_broken else [read_run_file(path) for path in paths]
    if not runs:
        raise MagpieError(f"{folder}: this folder is not a job, or none of its stages has begun: there is no .run.json in it")
    whole = {run.stem for run in runs if run.status == "complete"}
    runs = [run for run in runs if not (run.shard and stem_of(whole_of(run.output)) in whole)]
    return sorted(runs, key=_began)


def finished(folder: Path) -> dict[Path, RunFile]:
    """Return a job's finished record files with their run files: without exports and shards.

    Raises:
        MagpieError: there is none, so the folder is not a job.
    """
    found = {
        run.output: run
        for run in run_files(folder)
        if run.is_made and run.stage != "export.py" and not run.shard and run.output.exists()
    }
    if not found:
        raise MagpieError(f"{folder}: this folder is not a job: no finished stage (.jsonl with its .run.json) is in it")
    return found


def job_file(folder: Path, stage: str | None) -> Path:
    """Return the finished file of a job whose name ends in `stage`, or the job's last one.

    Raises:
        MagpieError: the folder is not a job, or no or several files match.
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


def main_files(folder: Path) -> tuple[str, Path, Path]:
    """Return the model of a finished main job, the file of the answered problems, and that of their responses.

    Raises:
        MagpieError: the folder is not a job, or the job has no responses yet.
    """
    answered = {
        path: run
        for path, run in finished(folder).items()
        if run.stage == "gen_res.py" and run.arguments.get("num_responses") == 1 and stem_of(path).endswith("_res")
    }
    if len(answered) != 1:
        raise MagpieError(
            f"{folder}: {len(answered)} files of responses (…_res.jsonl) are in it, and one is needed. Finish the main job"
        )
    [(responses, run)] = answered.items()
    made = (path for path in finished(folder) if stem_of(responses).startswith(stem_of(path)) and path != responses)
    same = (path for path in made if fingerprint(path) == run.inputs.get("input_file"))
    problems = max(same, key=lambda path: len(path.name), default=None)  # a stage that changed nothing wrote an identical file
    if problems is None:
        raise MagpieError(f"{folder}: the problems of {responses.name} are gone. Put them back, or name another job")
    return run.arguments["model_path"], problems, responses


def lineage(path: Path) -> list[RunFile]:
    """Return the finished runs in a file's folder that led to it, the last one first, by the fingerprints of their inputs."""
    runs = [run for run in readable_run_files(sorted(path.parent.glob(f"*{ENDING}"))) if run.is_made]
    runs = [run for run in runs if run.output.exists()]
    found: list[RunFile] = []
    run = next((run for run in runs if run.output.resolve() == path.resolve()), None)
    while run is not None:
        found.append(run)
        wanted = run.inputs.get("input_file")
        same = [one for one in runs if wanted and one not in found and fingerprint(one.output) == wanted]
        run = max(same, key=_began, default=None)  # a stage that changed nothing wrote an identical file
    return found


def single_responses(problems: Path) -> list[RunFile]:
    """Return the finished runs of a job with one response to each of these problems, or to those that they came from."""
    runs = readable_run_files(sorted(problems.parent.glob(f"*{ENDING}")))
    made = [run for run in runs if run.stage == "gen_res.py" and run.status == "complete"]
    single = [run for run in made if run.arguments.get("num_responses") == 1 and not run.arguments.get("append")]
    behind = {fingerprint(problems)} | {run.inputs.get("input_file", "") for run in lineage(problems)} if single else set()
    return [run for run in single if run.inputs.get("input_file") in behind]


def spent_on_single_responses(problems: Path) -> dict[str, int]:
    """Return the tokens of those responses."""
    total: Counter[str] = Counter()
    for run in single_responses(problems):
        total.update(run.tokens)
    return dict(total)


def _began(run: RunFile) -> float:
    return run.sessions[0].started if run.sessions else 0.0


def done_before(path: Path) -> dict[str, str]:
    """Return which stages a file's problems have passed: cleaned, deduplicated, judged; "true" or empty."""
    runs = lineage(path)

    def has(stage: str, *keys: str) -> bool:
        return any(run.stage == stage and all(_mentions(run, key) for key in keys) for run in runs)

    found = {
        "has_clean": has("clean_ins.py"),
        "has_unique": has("gen_dis.py", "drop"),
        "has_validity": has("unitag.py", "validity"),
        "has_controls": has("gen_ins.py", "planted"),
    }
    return {name: "true" if is_so else "" for name, is_so in found.items()}


def _mentions(run: RunFile, key: str) -> bool:
    missions = {**(run.arguments.get("tag_mission") or {}), **(run.arguments.get("done_before") or {})}
    return bool(run.arguments.get(key)) or key in missions


def responses_began(problems: Path, count: int) -> bool:
    """Return whether there is a run, in any state, with this many responses to each of these problems."""
    return was_read(problems, "gen_res.py", num_responses=count)


def was_read(path: Path, stage: str, **arguments: Any) -> bool:
    """Return whether there is a run of a stage, in any state, with these arguments and this input."""
    runs = [run for run in readable_run_files(sorted(path.parent.glob(f"*{ENDING}"))) if run.stage == stage]
    prints = [run.inputs.get("input_file") for run in runs if arguments.items() <= run.arguments.items()]
    return bool(prints) and fingerprint(path) in prints


def cleaned_file(folder: Path) -> Path | None:
    """Return the finished file of a job's clean problems, if there is one."""
    runs = readable_run_files(sorted(folder.glob(f"*{ENDING}")))
    return next(
        (run.output for run in runs if run.stage == "clean_ins.py" and run.status == "complete" and run.output.exists()), None
    )


def model_of(record: dict[str, Any]) -> str:
    """Return the model that answered a record's problem, else the one that wrote it, else an empty text."""
    answered, asked = record.get("gen_response_configs") or {}, record.get("gen_input_configs") or {}
    return str(answered.get("output_generator") or asked.get("input_generator") or "")


def model_name(configs: dict[str, Any]) -> str:
    """Return the name of the model of `gen_response_configs`; for a folder with a hash of its files. Empty: unknown."""
    name, digest = str(configs.get("output_generator") or ""), configs.get("model_hash")
    return f"{name}@{digest}" if name and digest else name


def model_of_file(path: Path) -> str:
    """Return the model that a file's first record names, or an empty text.

    Raises:
        MagpieError: there is no such file, or no record in it.
    """
    for row in read_rows(path):
        if row.record is not None:
            return model_of(row.record)
    raise MagpieError(f"{path}: no usable record in it. Name a job, or a file with `instruction`")
