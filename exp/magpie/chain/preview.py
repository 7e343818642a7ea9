"""A preview: a main job's chain on a few problems, in a separate folder, whose completions the real run reuses."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from magpie.chain.config import Flags, Stage
from magpie.chain.job_file import JOB_FILE, Chain, JobFile, StageState
from magpie.client.recordings import TAKE_OVER
from magpie.common.console import MagpieError
from magpie.config.model_presets import WINDOW

SPEED = "speed"
SPEED_TOKENS = 64
"""The stage that shows the server's speed under full load, and its tokens per response."""


def take_over(folder: Path) -> None:
    """Let all stages that this process starts reuse the completions of a job's previews."""
    if found := sorted(folder.glob("preview_*/completions/*.jsonl")):
        os.environ[TAKE_OVER] = os.pathsep.join(map(str, found))


def preview_of(file: JobFile, chain: Chain, count: int) -> tuple[JobFile, Chain]:
    """Return the file and the chain of a preview on `count` problems.

    Raises:
        MagpieError: the job has no more problems than that.
    """
    total = int(chain.settings["total"])
    if count >= total:
        raise MagpieError(f"--preview {count}: the whole has {total} problems. Preview fewer, or leave out --preview")
    small = msgspec.convert(msgspec.to_builtins(chain), Chain)
    small.settings["total"], small.seconds, small.done = str(count), 0.0, "The preview is done"
    each = min(WINDOW, total) // count
    paid = chain.settings.get("prompt_price") or chain.settings.get("completion_price")
    if each > 1 and not paid:
        small.stages.append(StageState(stage=_speed(chain, each)))
    inside = JobFile(file.folder / f"preview_{count}" / JOB_FILE)
    if earlier := inside.chains.get(chain.kind):
        small.seconds = earlier.seconds
    return inside, small


def _speed(chain: Chain, each: int) -> Stage:
    responses = next(state.stage for state in chain.stages if state.stage.program == "gen_res")
    flags: Flags = {
        "model_path": "{model}",
        "num_responses": str(each),
        "max_tokens": str(SPEED_TOKENS),
        "preflight": "0",
        "output_file": f"{{folder}}/{SPEED}.jsonl",
    }
    return Stage(name=SPEED, program="gen_res", server=True, input=responses.input, flags=flags)
