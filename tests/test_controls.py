"""Controls: planted problems are like others until measure.py takes them out, and what they tell is true."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from conftest import clean_environment, finished, program, rows
from magpie.cleaning.clean import clean
from magpie.config.model_presets import load_model
from magpie.controls.gym import LEVELS, load_families, scored
from magpie.controls.planting import planted
from magpie.export.formats import FORMATS
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
            return Reply(body=completion(f"It is \\boxed{{{self.draw.choice([84, 84, 84, 85])}}}."))
        wrong = self.draw.random() < self.errors[control["difficulty"]]
        return Reply(body=completion(f"It is \\boxed{{{-self.draw.randint(71, 73) if wrong else control['answer']}}}."))


def controls_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return planted(count, seed, [], LEVELS)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Solver]]:
    """A main job with all that follows, and the pairs of the same job."""
    folder = tmp_path_factory.mktemp("controls")
    with Solver(controls_of(14), {"easy": 0.1, "medium": 0.4, "hard": 0.6}) as server:
        settings = {"PLANTED": "14", "VOTES": "3", "MISSIONS": "", "INS_FLAGS": "--no-openings", "MAGPIE_BASE_URL": server.url}
        env = clean_environment(DATA_DIR=str(folder), JOB_NAME="job", STOP_WHEN="never", JUDGE="false", **settings)
        for command in (["main", "--", "smollm2", "10", "--preflight", "0", "--all"], ["align", "--", "job"]):
            done = finished([*RUN_JOB, *command], env=env)
            assert done.returncode == 0, done.stderr
        yield folder / "job", server


def one(job: Path, pattern: str) -> Path:
    [found] = job.glob(pattern)
    return found


def test_controls_are_plain_problems_that_pass_cleaning_as_they_are() -> None:
    made = controls_of(126)
    assert made == controls_of(126) != controls_of(126, seed=1)
    assert len({control["instruction"] for control in made}) == 126
    assert {(c["control"]["family"], c["control"]["difficulty"]) for c in made} == {
        (name, level) for name in load_families() for level in LEVELS
    }
    for control in made:
        cleaned = clean(control["instruction"])
        assert (cleaned.text, cleaned.drop_reason, cleaned.answer_type) == (control["instruction"], "", "closed"), control
        assert scored(control["control"], control["control"]["answer"]) is True, control
        assert scored(control["control"], "-77") is False, control


def test_nothing_but_control_tells_a_planted_problem_and_no_prompt_has_its_answer(job: tuple[Path, Solver]) -> None:
    folder, server = job
    made = rows(folder / "job_ins.jsonl")
    planted_rows = [row for row in made if "control" in row]
    assert len(made) == 24 and len(planted_rows) == 14 and {row["id"] for row in made} == {f"job-{n:06d}" for n in range(24)}
    assert made[:14] != planted_rows != made[10:]
    [keys] = {tuple(key for key in row if key != "control") for row in made}
    assert "answer" not in keys and len({json.dumps(row["gen_input_configs"]) for row in made}) == 1
    without = {text: control for text, control in server.controls.items() if control["answer"] not in text}
    asked = [text for text in server.prompts if any(line in without for line in text.splitlines())]
    assert asked
    for text in asked:
        [(line, control)] = [(line, without[line]) for line in text.splitlines() if line in without]
        told = text.replace(line, "")
        assert "control" not in told and control["family"] not in told and str(control["seed"]) not in told
        assert len(control["answer"]) < 3 or control["answer"] not in told


def test_no_control_gets_into_any_data_of_a_job(job: tuple[Path, Solver]) -> None:
    folder, server = job
    names = ["*_res_measured_sharegpt", "*_sft_measured", "*_pairs_measured", "*_pairs_measured_dpo", "*_tagged_res_measured"]
    data = [json.dumps(rows(one(folder, f"{name}.jsonl"))) for name in names]
    data.append(json.dumps(pq.read_table(one(folder, "job_sft/data/*.parquet")).to_pylist()))
    for text in data:
        assert "apples" in text and not any(json.dumps(control)[1:-1] in text for control in server.controls)
    page = (folder / "report.html").read_text()
    assert "apples" in page and not any(html.escape(control) in page for control in server.controls)
    assert len(rows(one(folder, "*_res_measured_dropped.jsonl"))) == 14


FORMATS_OF = {"sharegpt": "res", "messages": "res", "alpaca": "res", "rlvr": "3res_verified", "verl": "3res_verified"} | {
    "prime-rl": "3res_verified",
    "dpo": "pairs",
    "sharegpt_dpo": "pairs",
    "kto": "pairs",
}


@pytest.mark.parametrize("how", [*FORMATS_OF, "folder", "hub", "concat", "pairs"])
def test_a_control_that_is_left_is_refused_with_what_to_do(how: str, job: tuple[Path, Solver], tmp_path: Path) -> None:
    folder, _ = job
    source = one(folder, f"*_{FORMATS_OF.get(how, '3res_verified')}.jsonl")
    out = tmp_path / "out.jsonl"
    if how == "concat":
        command: list[object] = ["concat", "--inputs", source, "--output_file", out]
    elif how == "pairs":
        command = ["gen_po_pairs", "--input_file", source, "--output_file", out]
    elif how in ("folder", "hub"):
        command = ["export", "--input_file", source, "--output_folder", tmp_path / "set"]
        command += ["--push_to_hub", "owner/name"] if how == "hub" else []
    else:
        command = ["export", "--input_file", source, "--format", how, "--output_file", out]
    refused = program(*map(str, command))
    assert refused.returncode == 2 and "is a control" in refused.stderr and "measure.py" in refused.stderr, refused.stderr
    assert not out.exists() and not (tmp_path / "set").exists()
    again = program(*map(str, command), "--keep_controls")
    if how == "hub":
        assert again.returncode == 2 and "exclude each other" in again.stderr
    else:
        assert again.returncode == 0, again.stderr


def test_every_format_is_tried() -> None:
    assert {*FORMATS_OF, "stepwise"} == {*FORMATS}  # stepwise needs a process reward model; the refusal is the same line


def test_shards_make_the_same_controls_as_one_worker(tmp_path: Path) -> None:
    whole, parts = tmp_path / "w" / "x_ins.jsonl", tmp_path / "p" / "x_ins.jsonl"
    flags = ["--model_path", SMOLLM, "--tokenizer", load_model("smollm2").path, "--total_prompts", 9, "--planted", 8]
    flags += ["--preflight", 0, "--no-openings"]
    with Solver([], {}) as server:
        for path, more in ((whole, []), (parts, ["--shard", "1/2"]), (parts, ["--shard", "2/2"])):
            done = program("gen_ins", *flags, "--output_file", path, "--base_url", server.url, *more)
            assert done.returncode == 0, done.stderr
    done = program("concat", "--shards", parts)
    assert done.returncode == 0, done.stderr
    first, second = ([(row["id"], row.get("control")) for row in rows(path)] for path in (whole, parts))
    assert first == second and sum(control is not None for _, control in first) == 8


def test_what_is_told_is_what_the_rows_say(job: tuple[Path, Solver]) -> None:
    folder, _ = job
    told = read_run_file(one(folder, "*_sft_measured.run.json")).measured
    passed = [row for row in rows(one(folder, "*_filtered_sft.jsonl")) if "control" in row]
    wrong = sum(row["majority_answer"] != row["control"]["answer"] for row in passed)
    interval = binomtest(wrong, len(passed)).proportion_ci(method="wilson")
    assert told["controls"] == len(passed) and told["labels"]["wrong"] == wrong
    assert told["labels"]["interval"] == pytest.approx([interval.low, interval.high], abs=1e-4)
    verified = [row for row in rows(one(folder, "*_3res_verified.jsonl")) if "control" in row]
    for row in told["curve"]:
        same = [one for one in verified if round(one["agreement"] or 0, 4) == row["agreement"] and one["majority_answer"]]
        right = sum(one["majority_answer"] == one["control"]["answer"] for one in same)
        assert (row["controls"], row["right"]) == (len(same), right) or row["agreement"] < 0.4
    assert told["stages"][0]["read"] == 14
    assert told["stages"][-1]["dropped"] == 14 - len(passed) and told["stages"][-1]["stage"] == "filter.py"
    assert told["verifier"]["differ"] == 0 and told["verifier"]["answers"] > 14
    pairs = read_run_file(one(folder, "*_pairs_measured.run.json")).measured["pairs"]
    made = [row for row in rows(one(folder, "*_pairs.jsonl")) if "control" in row]
    assert pairs["right"] == sum(
        row["answer_chosen"] == row["control"]["answer"] != row["answer_rejected"] for row in made
    ) and pairs["pairs"] == len(made)
