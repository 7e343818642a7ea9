"""A job that judges its problems: what is invalid costs no responses, and every token is counted once, over all stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, finished, program, rows
from magpie.config.model_presets import load_model
from magpie.runs.jobs import done_before, lineage
from magpie.runs.run_file import RunFile, find_run_file, read_run_file, spent_until
from scripted_server import MODEL, Reply, ScriptedServer, completion
from test_run_job import RUN_JOB, state
from test_validity import Judge

PER_CALL = {"prompt": 3, "completion": 2}
"""What the scripted server says that an answer took."""
FLAGS = ["--model_path", MODEL, "--tokenizer", load_model("smollm2").path]
TEXTS = [
    "How many apples are in 7 boxes of 12 apples each?",
    "Anna and Ben share 40 stamps, and both exactly 15 and exactly 16 are Anna's. How many are Ben's?",
    "Find $x$ such that $3x+5=20$.",
    "How many apples are in 7 boxes of 12 apples each?",
    "What is the area of a circle with radius 9?",
    "A triangle has both exactly two and exactly three right angles. What is the sum of its angles?",
    "How many ways are there to choose 3 of 8 different books?",
]
SENSELESS = "both exactly"


class Model(Judge):
    """Makes the problems above, finds those that contradict themselves, and answers what it is asked."""

    def __init__(self) -> None:
        super().__init__(served=("HuggingFaceTB/SmolLM2-135M-Instruct",))
        self.answered: list[str] = []
        self.made = 0

    async def _send(self, request: Any, reply: Reply) -> Any:
        if not request.path.endswith("/completions") or reply is not self.default:
            return await super()._send(request, reply)
        body = json.loads(await request.read())
        text = self._template.decode(body["prompt"])
        if "response_format" in body:
            return await super()._send(request, reply)
        if "assistant" in text[-20:]:
            self.answered.append(text)
            said = "It is \\boxed{84}."
        else:
            said = TEXTS[self.made % len(TEXTS)]
            self.made += 1
        return await ScriptedServer._send(self, request, Reply(body=completion(said)))

    def _verdict(self, text: str) -> str:
        return super()._verdict(text + "(data_contradict)" if SENSELESS in text else text)


def run_of(path: Path) -> RunFile:
    return read_run_file(path.with_suffix(".run.json"))


def times(calls: int) -> dict[str, int]:
    return {kind: calls * count for kind, count in PER_CALL.items()}


def test_no_response_is_asked_for_to_what_the_judge_calls_invalid_or_to_a_copy(tmp_path: Path) -> None:
    with Model() as server:
        settings = {"JUDGE": "true", "MISSIONS": "language", "INS_FLAGS": "--no-openings", "MAGPIE_BASE_URL": server.url}
        env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", **settings)
        done = finished([*RUN_JOB, "main", "--", "smollm2", str(len(TEXTS)), "--preflight", "0"], env=env)
        assert done.returncode == 0, done.stderr
        calls = len(server.history)
    job = tmp_path / "job"
    [valid] = job.glob("*_filtered_valid.jsonl")
    dropped = rows(valid.with_name(f"{valid.stem}_dropped.jsonl"))
    assert {row["drop_reason"] for row in dropped} == {"invalid"}
    assert {row["instruction"] for row in dropped} == {text for text in TEXTS if SENSELESS in text}
    assert all(row["validity_reasons"] == ["data_contradict"] for row in dropped)
    [responses] = job.glob("*_valid_res.jsonl")
    asked = [row["instruction"] for row in rows(responses)]
    assert len(asked) == len(set(asked)) == len(server.answered) == 4
    assert not any(SENSELESS in text for text in [*asked, *server.answered])
    # every answer of the server is in the figure, once
    run = run_of(responses)
    assert run.spent == times(calls) and run.tokens == times(4)
    assert run.tokens_per_kept_record == {kind: round(count / 4, 1) for kind, count in times(calls).items()}
    assert state(tmp_path)["tokens_per_kept_record"] == run.tokens_per_kept_record
    assert done_before(responses) == {"has_clean": "true", "has_unique": "true", "has_validity": "true", "has_controls": ""}


# --- tokens ------------------------------------------------------------------------------------------------------------


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": n, "instruction": text}) + "\n" for n, text in enumerate(texts)))
    return path


def tagged(path: Path, server: ScriptedServer, *flags: object) -> RunFile:
    done = program("unitag", "--input_file", path, "--base_url", server.url, *FLAGS, *flags)
    assert done.returncode == 0, done.stderr
    return run_of(path.with_name(f"{path.stem}_tagged.jsonl"))


def test_the_tokens_of_earlier_passes_stay_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", TEXTS[:3])
    with ScriptedServer(default=Reply(body=completion('{"reason": "so", "verdict": "yes"}'))) as server:
        first = tagged(path, server, "--tag_mission", "validity")
        asked = len(server.history)
        assert first.spent == first.tokens == times(asked) and first.earlier_tokens == {}
        second = tagged(path, server, "--tag_mission", "difficulty")
        third = tagged(path, server, "--tag_mission", "validity", "--retag", "--votes", "1")
        calls = len(server.history)
        assert tagged(path, server, "--tag_mission", "validity", "difficulty") == third and len(server.history) == calls
    assert second.earlier_tokens == times(asked)
    assert third.spent == times(calls) and third.tokens == times(12)
    assert third.tokens_per_kept_record == {kind: round(count / 3, 1) for kind, count in times(calls).items()}
    done = program(
        "filter", "--input_file", tmp_path / "x_tagged.jsonl", "--config", "valid", "--output_file", tmp_path / "y.jsonl"
    )
    assert done.returncode == 0 and spent_until(tmp_path / "y.jsonl") == times(calls)


def test_a_pass_that_is_stopped_forgets_no_tokens_of_the_one_before(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", TEXTS[:3])
    answer = Reply(body=completion('{"reason": "so", "verdict": "yes"}'))
    with ScriptedServer(default=answer) as server:
        tagged(path, server, "--tag_mission", "difficulty")
        first = len(server.history)
        server.script.extend([answer] * 12)
        server.default = Reply(401, {"error": "wrong key"})
        flags = ["--tag_mission", "validity", "--max_in_flight", 1]
        stopped = program("unitag", "--input_file", path, "--base_url", server.url, *FLAGS, *flags)
        assert stopped.returncode != 0
        half = find_run_file(tmp_path / "x_tagged.run.json")
        assert half and half.status == "stopped" and half.earlier_tokens == times(first)
        server.default = answer
        whole = tagged(path, server, "--tag_mission", "validity")
    assert whole.earlier_tokens == times(first) and whole.tokens == times(36) and whole.spent == times(first + 36)


def test_votes_have_cost_what_the_single_responses_to_their_problems_did_too(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", TEXTS[:3])
    flags = ["--model_path", MODEL, "--tokenizer", load_model("smollm2").path]
    with ScriptedServer(default=Reply(body=completion('{"verdict": "yes"}'))) as server:
        assert program("gen_res", "--input_file", path, *flags, "--base_url", server.url).returncode == 0
        tagged(path, server, "--tag_mission", "validity", "--votes", "1")
        votes = ["--input_file", tmp_path / "x_tagged.jsonl", "--num_responses", 2, "--temperature", 0.7]
        assert program("gen_res", *votes, *flags, "--base_url", server.url).returncode == 0
        calls = len(server.history)
    run = run_of(tmp_path / "x_tagged_2res.jsonl")
    assert run.beside_tokens == times(3) and run.tokens == times(6) and run.spent == times(calls)
    assert spent_until(tmp_path / "x_res.jsonl") == times(3)


def test_a_merged_file_has_cost_what_all_of_its_sources_have(tmp_path: Path) -> None:
    with ScriptedServer(default=Reply(body=completion('{"verdict": "yes"}'))) as server:
        for name in ("a", "b"):
            tagged(written(tmp_path / f"{name}.jsonl", TEXTS[:2]), server, "--tag_mission", "validity", "--votes", "1")
        sources = [tmp_path / f"{name}_tagged.jsonl" for name in ("a", "b")]
        done = program("concat", "--inputs", *sources, "--ids", "prefix", "--output_file", tmp_path / "c.jsonl")
        assert done.returncode == 0, done.stderr
    assert run_of(tmp_path / "c.jsonl").spent == times(len(server.history))


def test_shards_put_together_have_cost_what_one_worker_would_have_spent(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", TEXTS[:4])
    with ScriptedServer(default=Reply(body=completion('{"verdict": "yes"}'))) as server:
        tagged(path, server, "--tag_mission", "validity", "--votes", "1")
        for number in (1, 2):
            flags = ["--model_path", MODEL, "--tokenizer", load_model("smollm2").path, "--base_url", server.url]
            shard = program("gen_res", "--input_file", tmp_path / "x_tagged.jsonl", *flags, "--shard", f"{number}/2")
            assert shard.returncode == 0, shard.stderr
        whole = tmp_path / "x_tagged_res.jsonl"
        done = program("concat", "--shards", whole)
        assert done.returncode == 0, done.stderr
    assert run_of(whole).spent == times(len(server.history)) == times(4 * 4 + 4)
    assert run_of(whole).tokens_per_kept_record == {"prompt": 15.0, "completion": 10.0}


# --- what was done before ----------------------------------------------------------------------------------------------


def test_copies_are_dropped_with_their_reason_and_the_kept_one_stays_once_in_whatever_order(tmp_path: Path) -> None:
    kept = []
    for name, texts in (("forwards", list(enumerate(TEXTS))), ("backwards", list(enumerate(TEXTS))[::-1])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"id": n, "instruction": text}) + "\n" for n, text in texts))
        done = program("gen_dis", "--input_file", path, "--drop", "--cache", tmp_path / "cache.sqlite")
        assert done.returncode == 0, done.stderr
        output = tmp_path / f"{name}_distance.jsonl"
        [copy] = rows(tmp_path / f"{name}_distance_dropped.jsonl")
        assert (copy["drop_reason"], copy["instruction"]) == ("duplicate", TEXTS[0])
        assert copy["drop_detail"] == f"of {copy['duplicate_of']}"
        assert [row["id"] for row in rows(output)] == [n for n, _ in texts if n != copy["id"]]
        assert all(row["duplicate_of"] is None for row in rows(output))
        assert run_of(output).counts.dropped == {"duplicate": 1}
        kept.append({row["id"] for row in rows(output)})
    assert kept[0] == kept[1]


def test_what_a_file_has_behind_it_is_told_by_runs_whatever_the_files_are_called(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", TEXTS)
    assert (
        done_before(path) == {"has_clean": "", "has_unique": "", "has_validity": "", "has_controls": ""} and lineage(path) == []
    )
    clean, unique, judged = (tmp_path / name for name in ("one.jsonl", "two.jsonl", "three.jsonl"))
    program("clean_ins", "--input_file", path, "--output_file", clean)
    assert done_before(clean) == {"has_clean": "true", "has_unique": "", "has_validity": "", "has_controls": ""}
    marked = tmp_path / "marked.jsonl"
    program("gen_dis", "--input_file", clean, "--output_file", marked, "--cache", tmp_path / "c.sqlite")
    assert done_before(marked)["has_unique"] == ""  # copies are marked in it, not dropped
    program("gen_dis", "--input_file", clean, "--output_file", unique, "--drop", "--cache", tmp_path / "c.sqlite")
    with ScriptedServer(default=Reply(body=completion('{"verdict": "yes"}'))) as server:
        for mission in ("validity", "difficulty"):  # the second replaces the run file of the first
            flags = ["--output_file", judged, "--base_url", server.url, *FLAGS, "--votes", "1"]
            done = program("unitag", "--input_file", unique, "--tag_mission", mission, *flags)
            assert done.returncode == 0, done.stderr
    assert done_before(judged) == {"has_clean": "true", "has_unique": "true", "has_validity": "true", "has_controls": ""}
    assert [run.stage for run in lineage(judged)] == ["unitag.py", "gen_dis.py", "clean_ins.py"]
    unique.write_text(unique.read_text() + json.dumps({"id": 99, "instruction": "Find $y$."}) + "\n")
    assert done_before(judged) == {
        "has_clean": "",
        "has_unique": "",
        "has_validity": "true",
        "has_controls": "",
    }  # no longer made of it


@pytest.mark.parametrize(
    ("validity", "kept", "marks"),
    [("valid", True, None), (None, True, ["validity"]), (..., True, ["validity"]), ("invalid", False, None)],
)
def test_what_was_not_judged_is_kept_by_sft_and_marked(tmp_path: Path, validity: Any, kept: bool, marks: Any) -> None:
    record = {"id": 1, "instruction": "What is 1 + 1?", "response": "2", "duplicate_of": None, "agreement": 0.75}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(record | ({} if validity is ... else {"validity": validity})) + "\n")
    done = program("filter", "--input_file", path, "--config", "sft")
    assert done.returncode == 0, done.stderr
    out = rows(tmp_path / "x_filtered.jsonl")
    assert len(out) == kept and [row.get("not_judged") for row in out] == [marks] * kept
