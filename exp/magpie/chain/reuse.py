"""What a chain finds in its job: responses to reuse, names that are taken, and the previous round."""

from __future__ import annotations

from pathlib import Path

from magpie.chain.job_file import Chain, JobFile, chain_key
from magpie.common.console import MagpieError
from magpie.config.model_presets import load_model
from magpie.models.checkpoint import files_hash
from magpie.runs.run_file import ENDING, find_run_file

STAGE = {"align": "responses", "sft": "voted", "main": "voted"}
"""The stage of a chain that requests several responses."""
OTHERS = {"align": ("main", "sft"), "sft": ("align",), "main": ("align",)}
NAMES = ("own", "own_verified", "has_responses", "append")
"""Derived settings: the part of its own files' names, whether responses exist, whether more are added to them."""
DECIDES = ("model", "num_responses", "votes", "temperature", "template_variables", "res_flags", "vote_flags")
BEFORE_RESPONSES = ("valid", "judged", "decontaminated", "unique", "clean")


def arranged(kind: str, file: JobFile, inputs: dict[str, Path], settings: dict[str, str]) -> dict[str, str]:
    """Return the settings NAMES; responses that can be reused take the role `problems`.

    Raises:
        MagpieError: the previous round of preference training is not finished.
    """
    if kind not in OTHERS:
        return {}
    if (number := int(settings.get("round") or 1)) > 1:
        return _later_round(number, file, inputs, settings)
    earlier = file.chains.get(kind)
    if earlier and _has_begun(earlier) and all(earlier.settings.get(key) == settings.get(key) for key in DECIDES):
        if earlier.settings.get("own") and kind == "align":
            inputs["problems"] = file.absolute(earlier.inputs["problems"])
        return {name: earlier.settings.get(name, "") for name in NAMES}
    others = [file.chains[name] for name in OTHERS[kind] if name in file.chains]
    if not any(map(_has_begun, others)):
        return {}
    for chain in others if kind == "align" else []:
        votes = _output(file, chain, STAGE[chain.kind])
        if votes and (count := _votes_that_serve(votes, chain.settings, settings)):
            inputs["problems"] = votes
            enough = count >= int(settings["num_responses"])
            return {"own": "_align"} | ({"own_verified": "_align", "has_responses": "true"} if enough else {"append": "true"})
    return {"own": f"_{kind}"}


def _later_round(number: int, file: JobFile, inputs: dict[str, Path], settings: dict[str, str]) -> dict[str, str]:
    before = file.chains.get(chain_key("align", number - 1))
    if before is None or before.status != "complete":
        last = f" --round {number - 1}" if number > 2 else ""
        raise MagpieError(
            f"--round {number}: round {number - 1} is not done. Finish it first: bash scripts/align.sh JOB{last} …"
        )
    first = file.chains[chain_key("align", 1)]
    made = (_output(file, first, stage) for stage in BEFORE_RESPONSES)
    inputs["problems"] = next((path for path in made if path), file.absolute(first.inputs["problems"]))
    digest = files_hash(load_model(settings["model"]))
    return {"own": f"_round{number}" + (f"_{digest[:6]}" if digest else "")}


def _has_begun(chain: Chain) -> bool:
    stages = (STAGE[chain.kind], "verified")
    return any(state.stage.name in stages and state.status not in ("waiting", "skipped") for state in chain.stages)


def _output(file: JobFile, chain: Chain, stage: str) -> Path | None:
    """Return the output of a finished stage of a chain, if it exists."""
    state = next((one for one in chain.stages if one.stage.name == stage and one.status == "complete" and one.outputs), None)
    path = file.absolute(state.outputs[0].output) if state else None
    return path if path and path.exists() else None


def _votes_that_serve(votes: Path, theirs: dict[str, str], settings: dict[str, str]) -> int:
    """Return how many responses per problem can be reused at most; 0 for another model or sampling."""
    run = find_run_file(votes.with_suffix(ENDING))
    if run is None or settings["res_flags"]:
        return 0
    asked = run.arguments
    alike = asked.get("model_path") == load_model(settings["model"]).model
    alike = alike and theirs.get("template_variables", "") == settings.get("template_variables", "")
    if settings["temperature"] and float(settings["temperature"]) != asked.get("temperature"):
        alike = False
    return int(asked.get("num_responses") or 0) if alike else 0
