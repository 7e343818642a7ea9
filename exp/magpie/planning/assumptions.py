"""The figures of a plan: assumed (`configs/planning.yaml`), measured in a job, or set by hand; the last takes precedence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from magpie.common.console import MagpieError, printable
from magpie.config.load import config_path, load
from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import needed_gb
from magpie.runs.jobs import run_files
from magpie.runs.run_file import RunFile
from magpie.serving.parallelism import Wanted, described, layout

MOST_NODES = 64
"""Most nodes tried for one replica; every model of configs/models fits on far fewer."""


class Assumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure behind a plan, and its source."""

    value: Annotated[float, msgspec.Meta(gt=0)]
    source: str


class Planning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/planning.yaml`: the unit of every figure, and the assumptions, in general and by a model's hub id."""

    units: dict[str, str]
    general: dict[str, Assumption]
    models: dict[str, dict[str, Assumption]]


def load_planning() -> Planning:
    """Return the assumptions of plans."""
    return load(config_path("planning.yaml"), Planning)


def figures_of(
    preset: ModelPreset, replica_gpus: int | None, job: Path | None, chosen: Mapping[str, float]
) -> dict[str, Assumption]:
    """Return every figure of a plan with its source.

    Args:
        preset: the model.
        replica_gpus: GPUs that a replica takes (None: those that its speed was measured on).
        job: a job's folder, whose own figures override the assumed ones.
        chosen: values that override all, by name.

    Raises:
        MagpieError: an unknown name, an impossible share, or a figure without a source.
    """
    planning = load_planning()
    found = planning.general | planning.models.get(preset.model, {})
    if replica_gpus and ("replica_gpus" not in found or replica_gpus > found["replica_gpus"].value):
        found["replica_gpus"] = Assumption(replica_gpus, "the layout of serve.py")  # its speed was not measured on fewer
    if job:
        found |= measured(job)
    for name, value in chosen.items():
        if name not in planning.units or (name.endswith("_share") and value > 1):
            raise MagpieError(
                f"--set {printable(name, 60)}={value:g}: a share is at most 1, and the figures are {', '.join(planning.units)}"
            )
        found[name] = Assumption(value, "--set")
    if absent := [name for name in planning.units if name not in found]:
        ways = [] if job else ["name a finished job of that model (--job)"]
        if "replica_gpus" in absent and not replica_gpus:
            ways.append("give the memory of a GPU (--gpu_memory)")
        chosen_by_hand = " ".join(f"--set {name}=…" for name in absent)
        raise MagpieError(
            f"no value of {', '.join(absent)} for {printable(preset.model, 80)}{', in the job neither' if job else ''}: "
            f"{' and '.join(ways)}{', or ' if ways else ''}{chosen_by_hand}"
        )
    return found


def gpus_of_replica(preset: ModelPreset, gpus: int, nodes: int | None, gpu_memory: float) -> int | None:
    """Return the GPUs that a replica takes: those of serve.py's layout; over several nodes, all GPUs of these.

    None: the model's memory is unknown.

    Raises:
        MagpieError: it does not fit.
    """
    if needed_gb(preset, None) is None:
        return None
    found = layout(preset, described(gpus, gpu_memory), Wanted(nodes=min(nodes or MOST_NODES, MOST_NODES), data_parallel=1))
    return found.gpus if found.nodes == 1 else found.nodes * gpus


def finished_runs(folder: Path) -> list[RunFile]:
    """Return a job's finished runs; joined shards count once, as the whole.

    Raises:
        MagpieError: the folder is not a job, a run file is broken, or no run is complete.
    """
    found = [run for run in run_files(folder) if run.status == "complete" and run.counts.read]
    if not found:
        raise MagpieError(f"--job {folder}: no finished stage (a complete .run.json) is in it, so nothing is measured")
    return found


def model_of(folder: Path) -> str:
    """Return the model that made a job's problems and responses.

    Raises:
        MagpieError: none or several did.
    """
    named = {str(run.arguments.get("model_path")) for run in finished_runs(folder) if run.stage in ("gen_ins.py", "gen_res.py")}
    if len(named) != 1:
        raise MagpieError(f"--job {folder}: {len(named)} models made its problems and responses. Name one by --model_path")
    return named.pop()


def measured(folder: Path) -> dict[str, Assumption]:
    """Return the figures that a job's run files give.

    Raises:
        MagpieError: as `finished_runs`.
    """
    finished = finished_runs(folder)
    problems, cleaned, responses, kept = (
        [run for run in finished if run.stage == stage] for stage in ("gen_ins.py", "clean_ins.py", "gen_res.py", "filter.py")
    )
    samples = sum(run.counts.read for run in problems)
    whole = [run for run in responses if "stop_when" not in run.arguments]  # the others' number of votes is not recorded
    count = sum(run.counts.read * _responses_each(run) for run in whole)
    was_cleaned = cleaned or all(run.arguments.get("clean") for run in problems)
    clean_share = _share(problems) * (_share(cleaned) if cleaned else 1.0) if was_cleaned else 0.0
    found = {
        "clean_share": (clean_share, problems + cleaned),
        "problem_tokens": (_tokens_per(samples, problems, "completion"), problems),
        "problem_prompt_tokens": (_tokens_per(samples, problems, "prompt"), problems),
        "response_tokens": (_tokens_per(count, whole, "completion"), whole),
        "response_prompt_tokens": (_tokens_per(count, whole, "prompt"), whole),
        "tokens_per_second": (_tokens_per(sum(run.seconds for run in responses), responses, "completion"), responses),
        "kept_share": (_share(kept), kept),
    }
    return {
        name: Assumption(value, f"measured: {', '.join(Path(run.path).name for run in runs)}")
        for name, (value, runs) in found.items()
        if value > 0
    }


def _responses_each(run: RunFile) -> int:
    asked = run.arguments.get("num_responses", 1)
    if not isinstance(asked, int) or asked < 1:
        raise MagpieError(f"{run.path}: broken (num_responses is {printable(str(asked), 60)}). Rerun its stage")
    return asked


def _tokens_per(count: float, runs: list[RunFile], kind: str) -> float:
    return sum(run.tokens.get(kind, 0) for run in runs) / (count or math.inf)


def _share(runs: list[RunFile]) -> float:
    return sum(run.counts.written for run in runs) / (sum(run.counts.read for run in runs) or math.inf)
