"""Controls: planted problems are like others until measure.py takes them out, and what they tell is true."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, finished, program, rows
from magpie.cleaning.clean import clean
from magpie.config.model_presets import load_model
from magpie.controls.gym import LEVELS, load_families, scored
from magpie.controls.planting import planted
from magpie.models.chat_template import ChatTemplate
from magpie.runs.run_file import read_run_file
from scripted_server import Call, Reply, ScriptedServer, completion
from test_run_job import RUN_JOB

TEMPLATE = ChatTemplate(load_model("smollm2"))
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"


class Solver(ScriptedServer):
    """Makes problems, and answers controls rightly but for a share of each difficulty."""

    def __init__(self, controls: list[dict[str, Any]], errors: dict[str, float], seed: int = 0) -> None:
        super().__init__(served=(SMOLLM,), by=self._reply)
        self.controls = {control["instruction"]: control["control"] for control in controls}
        self.errors, self.draw, self.made = errors, random.Random(seed), 0
        self.prompts: list[str] = []

    def _reply(self, call: Call) -> Reply:
        text = TEMPLATE.decode(call.body["prompt"])
        self.prompts.append(text)
        if "assistant" not in text[-20:]:
            self.made += 1
            return Reply(body=completion(f"How many apples are in {self.made + 1} boxes of {self.made * 7 + 3} apples each?"))
        control = next((self.controls[line] for line in text.splitlines() if line in self.controls), None)
        if control is None:
            return Reply(body=completion("It is \\boxed{84}."))
        wrong = self.draw.random() < self.errors[control["difficulty"]]
        return Reply(body=completion(f"It is \\boxed{{{-self.draw.randint(71, 73) if wrong else control['answer']}}}."))



def controls_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return planted(count, seed, [], LEVELS)


def has_control(path: Path) -> bool:
    return b'"control"' in path.read_bytes()


def test_controls_stay_until_they_are_measured_and_get_into_no_data(tmp_path: Path) -> None:
    controls = controls_of(14)
    texts = {control["instruction"] for control in controls}
    with Solver(controls, {"easy": 0.1, "medium": 0.3, "hard": 0.6}) as server:
        settings = {"PLANTED": "14", "VOTES": "3", "MISSIONS": "", "INS_FLAGS": "--no-openings", "MAGPIE_BASE_URL": server.url}
        env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", STOP_WHEN="never", JUDGE="false", **settings)
        done = finished([*RUN_JOB, "main", "--", "smollm2", "10", "--preflight", "0", "--all"], env=env)
        assert done.returncode == 0, done.stderr
    print(done.stderr)
    job = tmp_path / "job"
    for path in sorted(job.rglob("*")): print(path, path.stat().st_size)
