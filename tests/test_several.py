"""Several models on one problem: appended responses, votes of each, filters and pairs of a weak and a strong one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, finished, program, rows
from magpie.chain.config import Stage
from magpie.chain.job_file import Chain, JobFile, Output, StageState
from magpie.chain.reuse import arranged
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.generation.appending import earlier_responses, with_more
from magpie.preferences.config import load_pair_settings
from magpie.preferences.pairs import NoPair, PairMaker
from magpie.reporting.rounds import rounds_of
from magpie.verification.annotate import verified, with_response
from magpie.verification.models import rates_of, weak_and_strong
from magpie.verification.pool import Judgement
from scripted_server import Call, Reply, ScriptedServer, completion

WEAK, STRONG = "made/weak", "made/strong"
REFERENCES = ("1", "2", "3")
EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"


def text_of(number: str) -> str:
    return f"What is 1 + {int(number) - 1}?"


def problems(path: Path, **more: Any) -> Path:
    lines = [{"id": f"p{n}", "instruction": text_of(n), "reference_answer": n} | more for n in REFERENCES]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class Model(ScriptedServer):
    """Answers so many of every four responses to a problem with its number, and the others with 0."""

    def __init__(self, name: str, right: int) -> None:
        super().__init__(by=self._answer, served=(name,))
        self.name, self.right, self.seen = name, right, dict.fromkeys(REFERENCES, 0)
        self._template = load_model("smollm2")

    def _answer(self, call: Call) -> Reply:
        number = next(n for n in REFERENCES if text_of(n) in self.text(call))
        self.seen[number] += 1
        said = number if (self.seen[number] - 1) % 4 < self.right else "0"
        return Reply(body=completion(f"Try {self.seen[number]} of {self.name}: it is \\boxed{{{said}}}."))

    def text(self, call: Call) -> str:
        from transformers import AutoTokenizer

        self._tokenizer = getattr(self, "_tokenizer", None) or AutoTokenizer.from_pretrained(self._template.path)
        return str(self._tokenizer.decode(call.body["prompt"]))


def flags(server: Model, source: Path, *more: object) -> list[object]:
    model = ["--model_path", server.name, "--tokenizer", load_model("smollm2").path, "--base_url", server.url]
    return ["--input_file", source, *model, "--temperature", 0.7, "--preflight", 0, *more]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with four responses of a weak and of a strong model to each problem, verified."""
    source = problems(tmp_path_factory.mktemp("both") / "p.jsonl", answer_type="closed", duplicate_of=None)
    with Model(WEAK, 1) as weak, Model(STRONG, 3) as strong:
        assert program("gen_res", *flags(weak, source, "--num_responses", 4)).returncode == 0
        first = source.with_name("p_4res.jsonl")
        done = program("gen_res", *flags(strong, first, "--num_responses", 4, "--append"))
        assert done.returncode == 0, done.stderr
    done = program("verify", "--input_file", source.with_name("p_4res_4more.jsonl"))
    assert done.returncode == 0, done.stderr
    assert f"mean pass rates: {WEAK} 0.250, {STRONG} 0.750; majorities differ on 3 of 3 problems" in done.stderr
    return source.with_name("p_4res_4more_verified.jsonl")


def test_appended_responses_stand_behind_those_that_were_there(both: Path) -> None:
    before = rows(both.with_name("p_4res.jsonl"))
    for old, row in zip(before, rows(both), strict=True):
        assert row["responses"][:4] == old["responses"] and len(row["responses"]) == 8
        assert row["response_models"] == [WEAK] * 4 + [STRONG] * 4 and row["asked_by_model"] == {WEAK: 4, STRONG: 4}
        assert len(row["reasoning"]) == len(row["finish_reason"]) == len(row["completion_tokens"]) == 8
        assert row["gen_response_configs"]["output_generator"] == STRONG
        assert row["previous"]["gen_response_configs"]["output_generator"] == WEAK
        votes = row["model_votes"]
        assert (votes[WEAK]["pass_rate"], votes[STRONG]["pass_rate"], row["pass_rate"]) == (0.25, 0.75, 0.5)
        assert (votes[WEAK]["majority_answer"], votes[STRONG]["majority_answer"]) == ("0", row["reference_answer"])
        assert row["models_agree"] is False


def test_again_it_asks_for_nothing_and_for_more_of_its_own_only_for_those_that_are_missing(both: Path) -> None:
    with Model(STRONG, 3) as server:
        done = program("gen_res", *flags(server, both, "--num_responses", 4, "--append"))
        assert done.returncode == 0 and server.history == [], done.stderr
        same = rows(both.with_name("p_4res_4more_verified_4more.jsonl"))
        assert [row["model_votes"] for row in same] == [row["model_votes"] for row in rows(both)]
        assert program("gen_res", *flags(server, both, "--num_responses", 6, "--append")).returncode == 0
        assert len(server.history) == 2 * 3
    for row in rows(both.with_name("p_4res_4more_verified_6more.jsonl")):
        assert row["asked_by_model"] == {WEAK: 4, STRONG: 6} and len(row["responses"]) == 10
        assert "answers" not in row and len(row["previous"]["answers"]) == 8  # found of eight


def test_the_rates_decide_in_filters_and_pairs(both: Path) -> None:
    done = program("filter", "--input_file", both, "--config", "hle_gap")
    assert done.returncode == 0 and f"weak: {WEAK}; strong: {STRONG}" in done.stderr, done.stderr
    kept = rows(both.with_name(f"{both.stem}_filtered.jsonl"))
    assert kept == rows(both)  # unchanged
    out = both.with_name("turned.jsonl")
    names = ["--weak_model", "strong", "--strong_model", WEAK]
    rule = "{field: pass_rate_gap, op: above, value: 0, reason: no_gap, missing: drop}"
    (both.parent / "gap.yaml").write_text(f"rules: [{rule}]")
    done = program("filter", "--input_file", both, "--config", both.parent / "gap.yaml", "--output_file", out, *names)
    assert done.returncode == 0 and f"weak: {STRONG}; strong: {WEAK}" in done.stderr and rows(out) == []
    done = program("gen_po_pairs", "--input_file", both, "--strategy", "strong_weak", "--pairs_per_problem", 3)
    assert done.returncode == 0, done.stderr
    pairs = rows(both.with_name(f"{both.stem}_pairs.jsonl"))
    assert len(pairs) == 9
    for pair in pairs:
        assert (pair["model_chosen"], pair["model_rejected"], pair["why"]) == (STRONG, WEAK, "reference")
        assert STRONG in pair["chosen"][0]["content"] and pair["answer_rejected"] == "0" != pair["answer_chosen"]
        assert "response_models" not in pair
    out = both.with_name("unknown.jsonl")
    unknown = program("filter", "--input_file", both, "--config", "hle_gap", "--output_file", out, "--weak_model", "no")
    assert unknown.returncode == 2 and f"There are: {WEAK}, {STRONG}" in unknown.stderr


def test_a_file_of_one_model_has_no_weak_one(both: Path) -> None:
    source = both.with_name("p_4res.jsonl")
    assert program("verify", "--input_file", source).returncode == 0
    old = source.with_name("p_4res_verified.jsonl")
    assert "model_votes" not in rows(old)[0]
    for words in (["filter", "--config", "hle_gap"], ["gen_po_pairs", "--strategy", "strong_weak"]):
        done = program(*words, "--input_file", old)
        assert done.returncode == 2 and "gen_res.py --append" in done.stderr


def test_killed_while_it_appends_it_goes_on_without_asking_twice(tmp_path: Path) -> None:
    source = problems(tmp_path / "p.jsonl")
    with Model(WEAK, 1) as weak, Model(STRONG, 3) as strong:
        assert program("gen_res", *flags(weak, source, "--num_responses", 2)).returncode == 0
        arguments = flags(strong, tmp_path / "p_2res.jsonl", "--num_responses", 4, "--append", "--max_in_flight", 1)
        command = [sys.executable, str(PROJECT / "exp" / "gen_res.py"), *map(str, arguments)]
        held = strong.by
        strong.by = lambda call: Reply(body={}, delay=60) if len(strong.history) > 6 else held(call)  # type: ignore[misc]
        process = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(strong.history) < 7 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        strong.by = held
        done = program("gen_res", *arguments)
        assert done.returncode == 0, done.stderr
        assert len(strong.history) == 12 + 1  # the one that was in flight
    for row in rows(tmp_path / "p_2res_4more.jsonl"):
        assert row["response_models"] == [WEAK] * 2 + [STRONG] * 4 and len(set(row["responses"])) == 6
        assert row["asked_by_model"] == {WEAK: 2, STRONG: 4} and "lost_responses" not in row


# --- align: responses that are there, and rounds -----------------------------------------------------------------------------


def launched(kind: str, server: Model, tmp_path: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    settings = {"MISSIONS": "language", "FILTER": "finished", "MAGPIE_BASE_URL": server.url, "DATA_DIR": str(tmp_path)} | more
    command = [sys.executable, str(PROJECT / "exp" / "run_job.py"), kind, "--", "job", *map(str, arguments)]
    return finished(command, env=clean_environment(**settings))


def chains(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "job" / "job.json").read_text())


def output_of(tmp_path: Path, kind: str, stage: str) -> list[dict[str, Any]]:
    state = next(one for one in chains(tmp_path)[kind]["stages"] if one["stage"]["name"] == stage)
    return rows(tmp_path / "job" / state["outputs"][0]["output"]) if state["status"] == "complete" else []


def main_job(tmp_path: Path, server: Model) -> None:
    """Make a job with a single response to each problem, on a server that also has a model called `trained`."""
    server.models = Reply(body={"object": "list", "data": [{"id": EMBEDDED}, {"id": "trained"}]})
    source = problems(tmp_path / "job" / "job_ins.jsonl")
    clean, unique = (source.with_name(f"job_ins_clean{more}.jsonl") for more in ("", "_distance"))
    assert program("clean_ins", "--input_file", source).returncode == 0
    assert program("gen_dis", "--input_file", clean, "--drop", "--cache", tmp_path / "c.sqlite").returncode == 0
    model = ["--model_path", "smollm2", "--base_url", server.url, "--preflight", 0]
    assert program("gen_res", "--input_file", unique, *model).returncode == 0


def test_align_takes_the_votes_that_are_there_and_rounds_are_kept_apart(tmp_path: Path) -> None:
    with Model(EMBEDDED, 2) as server:
        main_job(tmp_path, server)
        calls = [len(server.history)]

        def asked(kind: str, *arguments: object, **more: str) -> int:
            done = launched(kind, server, tmp_path, *arguments, **more)
            assert done.returncode == 0, done.stderr
            calls.append(len(server.history))
            return calls[-1] - calls[-2]

        assert asked("sft", "--votes", 4) == 3 * 4  # with a reference answer all votes are asked for
        votes = output_of(tmp_path, "sft", "voted")
        assert asked("align", "--num_responses", 4) == 0
        assert [row["responses"] for row in output_of(tmp_path, "align", "verified")] == [row["responses"] for row in votes]
        pairs = output_of(tmp_path, "align", "pairs")
        assert len(pairs) == 3
        trained = tmp_path / "trained"
        shutil.copytree(load_model("smollm2").path, trained)
        server.right = 3
        assert asked("align", "--num_responses", 4, "--round", 2, "--model", trained) == 3 * 4
        first, second = rounds_of(tmp_path / "job")
        assert "Rounds of preference training" in (tmp_path / "job" / "report.html").read_text()
        assert asked("align", "--num_responses", 6) == 3 * 2  # two more
        assert len(output_of(tmp_path, "align", "verified")[0]["responses"]) == 6
    later = output_of(tmp_path, "align_round2", "verified")
    [digest] = {row["gen_response_configs"]["model_hash"] for row in later}
    assert {row["id"] for row in later} == {f"p{n}" for n in REFERENCES} and len(digest) == 12
    assert (first.model, second.model) == (EMBEDDED, f"trained@{digest}")
    assert (second.common, second.before, second.now) == (3, first.mean, second.mean) and second.now > second.before
    assert not list((tmp_path / "job").glob("*.part"))


def chain_of(kind: str, status: Any, made: str = "", **settings: str) -> Chain:
    name = {"align": "responses", "sft": "voted"}[kind]
    outputs = [Output(output=made)] if made else []
    state = StageState(stage=Stage(name=name, program="gen_res"), status=status, outputs=outputs)
    return Chain(kind=kind, job="job", settings=settings, stages=[state], status=status)


def test_votes_after_pairs_have_names_of_their_own(tmp_path: Path) -> None:
    file, settings = JobFile(tmp_path / "job.json"), {"votes": "5", "model": "smollm2", "vote_flags": ""}
    assert arranged("sft", file, {}, settings) == {}
    file.chains["align"] = chain_of("align", "stopped")
    assert arranged("sft", file, {}, settings) == {"own": "_sft"}
    file.chains["sft"] = chain_of("sft", "complete", **settings)
    assert set(arranged("sft", file, {}, settings).values()) == {""}  # begun before: it goes on


def test_responses_serve_where_model_and_sampling_are_what_is_asked_for(tmp_path: Path) -> None:
    votes, file = tmp_path / "x_4res.jsonl", JobFile(tmp_path / "job.json")
    votes.touch()
    run = {"stage": "gen_res.py", "arguments": {"model_path": EMBEDDED, "num_responses": 4, "temperature": 0.7}}
    (tmp_path / "x_4res.run.json").write_text(json.dumps(run))
    file.chains["sft"] = chain_of("sft", "complete", votes.name)
    asked = {"model": EMBEDDED, "num_responses": "4", "temperature": "", "res_flags": "", "round": "1"}

    def found(**more: str) -> tuple[dict[str, str], str]:
        inputs = {"problems": tmp_path / "x.jsonl"}
        names = arranged("align", file, inputs, asked | more)
        return names, inputs["problems"].name

    there = {"own": "_align", "own_verified": "_align", "has_responses": "true"}
    assert found() == (there, votes.name) == found(temperature="0.7") == found(num_responses="3")
    assert found(num_responses="6") == ({"own": "_align", "append": "true"}, votes.name)
    others: list[dict[str, str]] = [
        {"temperature": "0.8"},
        {"res_flags": "--top_p 1"},
        {"model": "deepseek-r1"},
        {"template_variables": "a=1"},
    ]
    assert [found(**other) for other in others] == [({"own": "_align"}, "x.jsonl")] * 4
    file.chains["align"] = chain_of("align", "complete", **asked)  # begun before there were such names
    assert found() == (dict.fromkeys(there | {"append": ""}, ""), "x.jsonl")


def test_a_round_needs_the_one_before(tmp_path: Path) -> None:
    file, asked = JobFile(tmp_path / "job.json"), {"model": "smollm2", "round": "2"}
    with pytest.raises(MagpieError, match=r"round 1 is not done. Finish it first: bash scripts/align.sh JOB …"):
        arranged("align", file, {}, asked)
    first = file.chains["align"] = chain_of("align", "complete", "x_4res.jsonl")
    first.inputs = {"problems": "x.jsonl"}
    inputs: dict[str, Path] = {}
    assert arranged("align", file, inputs, asked) == {"own": "_round2"} and inputs == {"problems": tmp_path / "x.jsonl"}
    with pytest.raises(MagpieError, match=r"round 2 is not done.*--round 2 …"):
        arranged("align", file, {}, asked | {"round": "3"})


# --- records -------------------------------------------------------------------------------------------------------------


def judged(groups: list[int | None], correct: list[bool | None] | None = None) -> Judgement:
    answers = [None if group is None else str(group) for group in groups]
    states = ["unparsed" if group is None else "parsed" for group in groups]
    return Judgement(answers, states, groups, correct or [None] * len(groups))


def test_a_single_response_and_one_of_an_unknown_model_are_taken_along() -> None:
    made = {"responses": ["b", "c"], "reasoning": [None, "t"], "finish_reason": ["stop"] * 2, "completion_tokens": [1, 2]}
    single = {"response": "a", "reasoning": "r", "finish_reason": "stop", "completion_tokens": 5}
    configs = {"output_generator": "m"}
    row = with_more(single, earlier_responses(single), made, "m", 3, configs)
    assert row["responses"] == ["a", "b", "c"] and row["reasoning"] == ["r", None, "t"] and "response" not in row
    assert row["response_models"] == ["unknown", "m", "m"] and row["asked_by_model"] == {"unknown": 1, "m": 3}
    assert row["lost_responses"] == 1 and row["completion_tokens"] == [5, 1, 2]
    early = {
        "responses": ["a"] * 3,
        "votes_asked": 5,
        "stop_reason": "settled",
        "gen_response_configs": {"output_generator": "o"},
    }
    row = with_more(early, earlier_responses(early), made, "m", 2, configs)
    assert row["asked_by_model"] == {"o": 5, "m": 2} and row["lost_responses"] == 2 and "votes_asked" not in row
    assert row["previous"]["stop_reason"] == "settled" and row["finish_reason"] == [None] * 3 + ["stop"] * 2


def test_each_models_share_is_of_all_that_it_was_asked_for() -> None:
    record = {"instruction": "?", "responses": [""] * 5, "response_models": ["a", "a", "b", "b", "b"]}
    record |= {"asked_by_model": {"a": 4, "b": 4}, "lost_responses": 3}
    found = verified(record, judged([0, 1, 0, 0, None]))  # without a reference answer the majority of all is right
    assert found["majority_answer"] == "0"
    assert found["model_votes"]["a"] == {
        "asked": 4,
        "answered": 0.5,
        "majority_answer": None,
        "agreement": 0.25,
        "pass_rate": 0.25,
    }
    assert found["model_votes"]["b"]["pass_rate"] == 0.5 and found["models_agree"] is None
    tie = verified(record, judged([0, 0, 1, 1, None]))
    assert [one["pass_rate"] for one in tie["model_votes"].values()] == [None, None] and tie["models_agree"] is False
    known = verified(record | {"reference_answer": "1"}, judged([0, 1, 1, 1, None], [False, True, True, True, False]))
    assert [one["pass_rate"] for one in known["model_votes"].values()] == [0.25, 0.5]
    chosen, reason = with_response(found, keep_unverified=False)
    assert reason == "" and chosen["response_models"] == ["a"]


def test_which_is_weak_is_measured_or_named() -> None:
    def record(a: float | None, b: float | None) -> dict[str, Any]:
        return {"model_votes": {"x/a": {"pass_rate": a}, "x/b@12": {"pass_rate": b, "agreement": 1.0}}}

    some = [record(0.5, 0.25), record(0.5, None)]
    assert weak_and_strong(some) == ("x/b@12", "x/a") and weak_and_strong(some, weak="A") == ("x/a", "x/b@12")
    assert weak_and_strong(some, strong="x/b") == ("x/a", "x/b@12")
    for wrong, words in (([], "0 models"), ([record(0.5, 0.5)], "the same mean"), ([record(0.5, None)], "1 models")):
        with pytest.raises(MagpieError, match=words):
            weak_and_strong(wrong)
    with pytest.raises(MagpieError, match="Name two"):
        weak_and_strong(some, weak="a", strong="a")
    assert rates_of(record(0.5, 0.75), "x/a", "x/b@12") == {
        "weak_pass_rate": 0.5,
        "strong_pass_rate": 0.75,
        "pass_rate_gap": 0.25,
        "strong_agreement": 1.0,
    }
    assert set(rates_of({}, "x/a", "x/b").values()) == {None}


def pair_of(strategy: Any, lengths: list[int], groups: list[int], models: list[str], **more: Any) -> tuple[int, int] | str:
    texts = [" ".join(map(str, range(1000)))[:length] for length in lengths]
    correct = [group == 0 for group in groups]
    record = {"id": 1, "instruction": "?", "responses": texts, "response_models": models, "is_correct": correct}
    record |= {"answers": [str(group) for group in groups], "answer_groups": groups, "reference_answer": "0"} | more
    try:
        [pair] = PairMaker(strategy, load_pair_settings(strategy), models=("a", "b")).pairs(record)
    except NoPair as refusal:
        return refusal.reason
    return pair.chosen.index, pair.rejected.index


def test_concise_pairs_are_of_one_model_and_both_right() -> None:
    assert pair_of("concise", [300, 100, 200, 50], [0, 0, 0, 1], ["a"] * 4) == (1, 0)
    assert pair_of("concise", [300, 100, 110, 290], [0, 0, 0, 0], ["a", "b", "b", "a"]) == "other_model"
    assert pair_of("concise", [300, 100, 130, 290], [0, 0, 0, 0], ["a", "b", "b", "a"]) == (1, 2)
    assert pair_of("concise", [100, 101], [0, 0], ["a", "a"]) == "lengths_alike"
    assert pair_of("concise", [100, 300], [0, 0], ["a", "a"], finish_reason=["stop", "length"]) == "lengths_alike"
    assert pair_of("concise", [100, 300], [1, 2], ["a", "a"]) == "none_right"


def test_strong_weak_pairs_are_right_against_wrong_with_lengths_alike() -> None:
    assert pair_of("strong_weak", [100, 110, 120], [0, 0, 1], ["a", "b", "a"]) == (1, 2)
    assert pair_of("strong_weak", [100, 110, 120], [0, 1, 1], ["a", "b", "a"]) == "strong_not_right"
    assert pair_of("strong_weak", [100, 110, 120], [0, 0, 1], ["a", "b", "b"]) == "weak_not_wrong"
    assert pair_of("strong_weak", [100, 900], [1, 0], ["a", "b"]) == "lengths_apart"
