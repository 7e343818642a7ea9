"""The figures of a plan: assumed, measured in a job, or set by hand, in this order; each carries its source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from magpie.common.console import MagpieError, printable
from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import needed_gb
from magpie.planning.config import Assumption, load_planning
from magpie.runs.jobs import run_files
from magpie.runs.run_file import RunFile
from magpie.serving.parallelism import Wanted, described, layout

OF_A_MODEL = {
    "answer_tokens": "tokens an answer",
    "tokens_per_second": "tokens written/s a replica",
    "replica_gpus": "GPUs a replica",
}
"""Figures that only a model's own entry, a job or --set can give."""
SHARES = ("clean_share", "kept_share", "engine_share")
WHOLE = ("replica_gpus",)
MOST_NODES = 64
"""Most nodes tried for one replica; every model of configs/models fits on far fewer."""
Known = dict[str, Assumption]


def figures_of(
    preset: ModelPreset,
    *,
    gpus: int = 8,
    nodes: int | None = None,
    gpu_memory: float | None = None,
    job: Path | None = None,
    chosen: Iterable[str] = (),
) -> Known:
    """Return every figure of a plan with its source.

    Args:
        preset: the model.
        gpus: GPUs per node.
        nodes: number of nodes (None: as many as a replica needs).
        gpu_memory: GB of a GPU, as makers count them (None: as the replica was measured).
        job: a job's folder, whose own figures override the assumed ones.
        chosen: NAME=VALUE; these override all.

    Raises:
        MagpieError: an unknown name, an impossible value, a figure without a source, or a model that does not fit.
    """
    chosen = list(chosen)
    planning = load_planning()
    found = dict(planning.assumptions)
    for model in planning.models:
        if preset.model in model.names:
            found |= model.assumptions
    if gpu_memory is not None and not any(text.startswith("replica_gpus=") for text in chosen):
        found |= _replica(preset, found, gpus, nodes, gpu_memory)
    if job:
        found |= measured(job)
    found |= _set_by_hand(chosen, {**found, **{name: Assumption(1, unit, "") for name, unit in OF_A_MODEL.items()}})
    if absent := [name for name in OF_A_MODEL if name not in found]:
        raise MagpieError(
            f"nothing tells {', '.join(absent)} of {printable(preset.model, 80)}: name a job that it made (--job), or "
            f"{' '.join(f'--set {name}=…' for name in absent)}"
        )
    return found


def gpus_of_replica(preset: ModelPreset, gpus: int, nodes: int | None, gpu_memory: float) -> int:
    """Return the GPUs that a replica holds: those of serve.py's layout; over several nodes, all GPUs of these.

    Raises:
        MagpieError: it does not fit.
    """
    found = layout(preset, described(gpus, gpu_memory), Wanted(nodes=min(nodes or MOST_NODES, MOST_NODES)))
    return found.gpus if found.nodes == 1 else found.nodes * gpus


def _replica(preset: ModelPreset, found: Known, gpus: int, nodes: int | None, gpu_memory: float) -> Known:
    """Return the number of described GPUs that a replica takes, at least as many as its speed was measured on."""
    needed = needed_gb(preset, None)
    if needed is None:
        return {}
    measured_on = found.get("replica_gpus")
    least = int(measured_on.value) if measured_on else 1
    taken = gpus_of_replica(preset, gpus, nodes, gpu_memory)
    if measured_on and taken <= least:
        return {}
    source = f"{needed:.0f} GB on nodes of {gpus} GPUs of {gpu_memory:g} GB, as serve.py --dry_run lays it out"
    if measured_on:
        source += f"; its speed is taken to be that of the {least} GPUs it was measured on"
    return {"replica_gpus": Assumption(taken, OF_A_MODEL["replica_gpus"], source)}


def _set_by_hand(chosen: Iterable[str], known: Known) -> Known:
    found = {}
    for text in chosen:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            wanted = f"one of {', '.join(sorted(known))}" if equals else "NAME=VALUE"
            raise MagpieError(f"--set {printable(text, 60)}: {wanted} is expected. plan.py --assumptions explains each name")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        limit = 1.0 if name in SHARES else math.inf
        if not (1e-12 <= number <= min(limit, 1e18)) or (name in WHOLE and number != int(number)):
            kind = (
                "a share above 0, at most 1"
                if name in SHARES
                else "a whole number from 1"
                if name in WHOLE
                else "between 1e-12 and 1e18"
            )
            raise MagpieError(f"--set {printable(text, 60)}: the value must be {kind}")
        found[name] = Assumption(number, known[name].unit, "--set")
    return found


# --- from a job -------------------------------------------------------------------------------------------------------


def finished_runs(folder: Path) -> list[RunFile]:
    """Return a job's finished runs by name; shards that have been put together count once, as the whole.

    Raises:
        MagpieError: the folder is not a job, a run file is broken, or no run is complete.
    """
    found = [run for run in run_files(folder) if run.status == "complete"]
    if not found:
        raise MagpieError(f"--job {folder}: no finished stage (a complete .run.json) is in it, so nothing is measured")
    return sorted(found, key=lambda run: run.path)


def model_of(folder: Path) -> str:
    """Return the model that made a job's problems and responses.

    Raises:
        MagpieError: none or several did.
    """
    named = {str(run.arguments.get("model_path")) for run in finished_runs(folder) if run.stage in ("gen_ins.py", "gen_res.py")}
    if len(named) != 1:
        raise MagpieError(f"--job {folder}: {len(named)} models made its problems and responses. Name one by --model_path")
    return named.pop()


def measured(folder: Path) -> Known:
    """Return the figures that a job's run files give, in place of the assumed ones.

    `problem_tokens`: tokens written / samples; `clean_share`: clean problems / samples, over gen_ins.py and clean_ins.py;
    `answer_tokens`: tokens written / responses; `tokens_per_second`: tokens written / seconds of all gen_res.py runs, on the
    servers that the job had, programs included (`engine_share` 1); `kept_share`: of filter.py.
    """
    runs = finished_runs(folder)
    problems = [run for run in runs if run.stage == "gen_ins.py" and run.counts.read]
    responses = [run for run in runs if run.stage == "gen_res.py" and run.counts.read]
    found: dict[str, tuple[float, str, list[RunFile]]] = {}
    if problems:
        samples = sum(run.counts.read for run in problems)
        cleaned = [run for run in runs if run.stage == "clean_ins.py" and run.counts.read]
        found["problem_tokens"] = (_tokens(problems, "completion") / samples, "tokens a sample", problems)
        found["problem_prompt_tokens"] = (_tokens(problems, "prompt") / samples, "tokens read a sample", problems)
        share = _share(problems) * (_share(cleaned) if cleaned else 1.0)
        if cleaned or all(run.arguments.get("clean") for run in problems):
            found["clean_share"] = (share, "clean problems a sample", problems + cleaned)
    if responses:
        count = sum(run.counts.read * int(run.arguments.get("num_responses") or 1) for run in responses)
        seconds = sum(run.seconds for run in responses)
        found["answer_tokens"] = (_tokens(responses, "completion") / count, "tokens an answer", responses)
        found["answer_prompt_tokens"] = (_tokens(responses, "prompt") / count, "tokens read an answer", responses)
        if seconds:
            speed = _tokens(responses, "completion") / seconds
            found["tokens_per_second"] = (speed, "tokens written/s of the job's servers", responses)
            found["engine_share"] = (1.0, "the speed above is the programs' own", responses)
    kept = [run for run in runs if run.stage == "filter.py" and run.counts.read]
    if kept:
        found["kept_share"] = (_share(kept), "rows of the data set a problem", kept)
    return {
        name: Assumption(value, unit, f"measured: {', '.join(Path(run.path).name for run in of)}")
        for name, (value, unit, of) in found.items()
        if value > 0
    }


def _tokens(runs: list[RunFile], kind: str) -> int:
    return sum(run.tokens.get(kind, 0) for run in runs)


def _share(runs: list[RunFile]) -> float:
    return sum(run.counts.written for run in runs) / sum(run.counts.read for run in runs)
