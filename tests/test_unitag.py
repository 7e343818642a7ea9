"""unitag.py: with the real engine on problems that break naive taggers; with scripted servers for faults, kills and guards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

import made_tokenizers
import unitag
from conftest import clean_environment, rows
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.models.chat_template import ChatTemplate
from scripted_server import MODEL, Reply, ScriptedServer, completion

ANSWERS = {
    "difficulty": {"intent": "a sum", "knowledge": "sums", "difficulty": "easy"},
    "quality": {"quality_explanation": "clear", "input_quality": "good"},
    "classification": {"task_category": "Math", "other_task_category": []},
    "domain": {"domain": "discrete"},
}


def write(path: Path, problems: list[str], **more: Any) -> Path:
    """Write problems as records with an id."""
    lines = [json.dumps({"id": f"p{i}", "instruction": text, **more}) for i, text in enumerate(problems)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class MissionServer(ScriptedServer):
    """Answers every mission by the name of its schema; `wrong` answers come first."""

    def __init__(self, *wrong: str, **more: Any) -> None:
        super().__init__(**more)
        self.wrong = list(wrong)

    async def _send(self, request: Any, reply: Reply) -> Any:
        if request.path.endswith("/completions") and reply is self.default:
            body = json.loads(await request.read())
            name = body.get("response_format", {}).get("json_schema", {}).get("name")
            text = self.wrong.pop() if self.wrong else json.dumps(ANSWERS[name])
            reply = Reply(body=completion(text))
        return await super()._send(request, reply)

    def asked(self) -> list[str]:
        """The missions of the requests that came."""
        return [call.body["response_format"]["json_schema"]["name"] for call in self.history]


@pytest.fixture
def tag(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """Run unitag.py in this process."""
    caplog.set_level("INFO", logger="magpie")
    for name in ("MAGPIE_BASE_URL", "MAGPIE_API_KEY", "MAGPIE_SERVE_PID"):
        monkeypatch.delenv(name, raising=False)

    def run(path: Path, *arguments: object, server: ScriptedServer | None = None) -> list[dict[str, Any]]:
        flags = ["--base_url", server.url, "--model_path", MODEL, "--tokenizer", load_model("smollm2").path] if server else []
        monkeypatch.setattr(sys, "argv", ["unitag.py", "--input_file", str(path), *map(str, arguments), *flags])
        unitag.main()
        output = path.with_name(f"{path.stem}_tagged.jsonl")
        return rows(output) if output.exists() else []

    return run


def test_another_mission_is_added_and_nothing_is_tagged_twice(tmp_path, tag, caplog):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?"])
    with MissionServer() as server:
        first = tag(path, "--tag_mission", "difficulty", server=server)
        assert server.asked() == ["difficulty"] * 3
        second = tag(path, "--tag_mission", "domain", "difficulty", "language", server=server)
        assert server.asked()[3:] == ["domain"] * 3
        again = tag(path, "--tag_mission", "difficulty", "domain", server=server)
        assert len(server.history) == 6
    for old, new in zip(first, second, strict=True):
        assert new == old | {"domain": "discrete", "language": "en"} | {"tagged_by": new["tagged_by"]}
        assert new["tagged_by"] == {"difficulty": MODEL, "domain": MODEL, "language": "lingua"}
    assert again == second
    assert "already has these: difficulty, domain" in caplog.text
    run = json.loads((tmp_path / "x_tagged.run.json").read_text())
    assert run["status"] == "complete" and run["counts"]["read"] == 3
    assert run["arguments"]["done_before"] == {"difficulty": MODEL}


def test_tags_of_the_input_are_kept_unless_retag_and_without_work_no_server_is_needed(tmp_path, tag):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?"], domain="geometry", tagged_by={"domain": "a person"})
    [kept] = tag(path, "--tag_mission", "domain", "--model_path", "smollm2", "--base_url", "http://127.0.0.1:9/v1")
    assert kept["domain"] == "geometry" and kept["tagged_by"] == {"domain": "a person"}
    with MissionServer() as server:
        [new] = tag(path, "--tag_mission", "domain", "--retag", server=server)
    assert new["domain"] == "discrete" and new["tagged_by"] == {"domain": MODEL}


def test_an_unreadable_answer_is_asked_for_again_and_then_recorded(tmp_path, tag, capsys):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?"])
    with MissionServer("{", '{"domain": "Algebra"}') as server:
        [good] = tag(path, "--tag_mission", "domain", server=server)
        assert [call.body["temperature"] for call in server.history] == [0, 0.7, 0.7]
        assert good["domain"] == "discrete" and "tag_failures" not in good
        server.wrong = ["{"] * 3
        [bad] = tag(path, "--tag_mission", "quality", server=server)
    assert bad["domain"] == "discrete"
    assert bad["input_quality"] is None and bad["quality_explanation"] is None
    assert bad["tag_failures"]["quality"].startswith("not_json: ")
    said = capsys.readouterr().err
    assert "2 responses could not be read at first" in said
    assert "failed 1 of 1, 100.0% (not_json 1)" in said


def test_a_request_that_is_refused_is_recorded_and_the_other_missions_are_done(tmp_path, tag):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?"])
    with MissionServer() as server:
        server.script.append(Reply(400, {"error": "no"}))
        [record] = tag(path, "--tag_mission", "domain", "classification", server=server)
    [(failed, why)] = record["tag_failures"].items()
    assert why.startswith("request_refused") and failed in ("domain", "classification")
    assert len(record["tagged_by"]) == 1


def test_a_problem_too_long_for_the_context_is_cut_and_says_so(tmp_path, tag):
    path = write(tmp_path / "x.jsonl", ["Compute 数学 " * 3000, "What is 1 + 1?"])
    with MissionServer() as server:
        tag(path, "--tag_mission", "difficulty", server=server)
    template = ChatTemplate(load_model("smollm2"))
    texts = sorted((template.decode(call.body["prompt"]) for call in server.history), key=len)
    assert "left out here" in texts[1] and "left out here" not in texts[0]
    for call in server.history:
        assert len(call.body["prompt"]) + call.body["max_tokens"] <= 4096


def test_malformed_lines_go_into_the_dropped_file_and_stay_there(tmp_path, tag):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?", "What is 2 + 2?"])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{{broken\n{second}\n")
    with MissionServer() as server:
        assert len(tag(path, "--tag_mission", "domain", "--skip_malformed", server=server)) == 2
        tagged = tag(path, "--tag_mission", "difficulty", "--skip_malformed", server=server)
    assert [r["difficulty"] for r in tagged] == ["easy", "easy"] and [r["domain"] for r in tagged] == ["discrete"] * 2
    assert [r["drop_reason"] for r in rows(tmp_path / "x_tagged_dropped.jsonl")] == ["malformed"]
    assert json.loads((tmp_path / "x_tagged.run.json").read_text())["counts"]["read"] == 3


@pytest.mark.parametrize("adding", [False, True])
def test_killed_in_the_middle_it_goes_on_with_every_record_once(tmp_path, tag, adding):
    path = write(tmp_path / "x.jsonl", [f"What is {n} + {n}?" for n in range(40)])
    output = tmp_path / "x_tagged.jsonl"
    missions = ["domain", "quality"]
    flags = ["--model_path", MODEL, "--tokenizer", load_model("smollm2").path, "--max_in_flight", "2"]
    with MissionServer() as server:
        if adding:
            tag(path, "--tag_mission", "difficulty", "--max_in_flight", 2, server=server)
        before = len(server.history)
        server.default.hold = lambda: len(server.history) <= before + 14  # so that it is killed in the middle
        command = [
            sys.executable,
            str(PROJECT / "exp" / "unitag.py"),
            "--input_file",
            str(path),
            "--base_url",
            server.url,
            *flags,
        ]
        killed = subprocess.Popen([*command, "--tag_mission", *missions], env=clean_environment(), stderr=subprocess.DEVNULL)
        part = tmp_path / "x_tagged.part"
        deadline = time.monotonic() + 300
        while not (part.exists() and part.read_bytes().count(b"\n") >= 5):
            assert time.monotonic() < deadline and killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
        assert output.exists() == adding
        server.default.hold = lambda: True
        with pytest.raises(MagpieError, match="--tag_mission was"):
            tag(path, "--tag_mission", "classification", server=server)
        tagged = tag(path, "--tag_mission", *missions, "--max_in_flight", 2, server=server)
        assert len(server.history) - before <= 2 * 40 + 2 * 3
    assert [r["id"] for r in tagged] == [f"p{i}" for i in range(40)]
    assert all(r["domain"] == "discrete" and r["input_quality"] == "good" for r in tagged)
    assert all(("difficulty" in r) == adding for r in tagged)
    assert not part.exists()


@pytest.mark.parametrize("form", ["qwen3guard", "llama-guard-3"])
def test_a_guard_model_on_its_own_server_tags_safety_after_the_language_model(tmp_path, tag, form):
    guard = {"qwen3guard": "Qwen3Guard-Gen-made", "llama-guard-3": "Llama-Guard-3-made"}[form]
    folder = made_tokenizers.make_guard(form, tmp_path / guard)
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?", "How do I pick a lock in $n$ steps?"])
    verdicts = {
        "qwen3guard": ["Safety: Safe\nCategories: None", "Safety: Unsafe\nCategories: Non-violent Illegal Acts"],
        "llama-guard-3": ["\n\nsafe", "\n\nunsafe\nS2"],
    }[form]
    replies = [Reply(body=completion(text)) for text in verdicts]
    with MissionServer() as server, ScriptedServer(*replies, served=(guard,)) as guards:
        flags = ["--guard_model", folder, "--guard_url", guards.url, "--max_in_flight", 1]
        safe, unsafe = tag(path, "--tag_mission", "safety", "domain", *flags, server=server)
        assert tag(path, "--tag_mission", "safety", "domain", *flags, server=server) == [safe, unsafe]
    assert len(server.history) == len(guards.history) == 2
    assert all("response_format" not in call.body for call in guards.history)
    prompt = ChatTemplate(load_model(str(folder))).decode(guards.history[0].body["prompt"])
    assert prompt.count("What is 1 + 1?") == 1 and prompt.count("</think>") == (form == "qwen3guard")
    assert (safe["safety"], safe["safety_categories"], safe["domain"]) == ("safe", [], "discrete")
    assert unsafe["safety"] == "unsafe" and unsafe["safety_categories"][0].lower().startswith("non-violent")
    assert unsafe["tagged_by"] == {"domain": MODEL, "safety": guard}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["reward"], "no reward model given"),
        (["reward", "--reward_model", "a/b"], "records with one `response`"),
        (["safety"], "no guard model given"),
        (["safety", "--guard_model", "smollm2"], "is not a guard model"),
        (["domain"], "does not say which model wrote it"),
        (["domain", "--model_path", "qwen3guard-gen-8b", "--base_url", "http://127.0.0.1:9/v1"], "is a guard model"),
        (["domain", "--model_path", "deepseek-r1"], "does not fit"),
        (["taste"], "invalid choice"),
    ],
)
def test_a_mission_that_is_named_and_cannot_be_done_is_refused(tmp_path, tag, arguments, word):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?"])
    with pytest.raises(MagpieError, match=word) as error:
        tag(path, "--tag_mission", *arguments)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["x.jsonl"]


def test_all_does_what_needs_no_model_where_none_can_be_had(tmp_path, tag, caplog):
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?"])
    [record] = tag(path, "--tag_mission", "all", "--model_path", "deepseek-r1")
    assert record == {"id": "p0", "instruction": "What is 1 + 1?", "language": "en", "tagged_by": {"language": "lingua"}}
    assert "left out: difficulty (deepseek-ai/DeepSeek-R1 does not fit" in caplog.text


def test_a_thinking_model_answers_behind_an_empty_thought(tmp_path, tag):
    folder = made_tokenizers.make("deepseek-r1", tmp_path / "R1-made")
    path = write(tmp_path / "x.jsonl", ["What is 1 + 1?"])
    with MissionServer(served=("R1-made",)) as server:
        [record] = tag(path, "--tag_mission", "domain", "--model_path", folder, "--base_url", server.url)
    assert record["domain"] == "discrete"
    prompt = ChatTemplate(load_model(str(folder))).decode(server.history[0].body["prompt"])
    assert prompt.endswith("plain English.<think>\n\n</think>\n\n")


def test_rewards_go_to_the_records_with_one_response_and_the_others_say_why_not(tmp_path, tag, monkeypatch):
    seen = []

    class RewardModel:
        def __init__(self, name, *, trust_remote_code):
            seen.append((name, trust_remote_code))

        def score(self, conversations):
            return [None if len(turns[1]["content"]) > 9 else float(len(turns[1]["content"])) for turns in conversations]

    monkeypatch.setitem(sys.modules, "magpie.rewards.model", types.SimpleNamespace(RewardModel=RewardModel))
    answers = [
        {"response": "four"},
        {"responses": ["a", "b"]},
        {"response": "is it ten?"},
        {"response": "x", "instruct_reward": -3.5},
    ]
    lines = [json.dumps({"id": i, "instruction": "What is 1 + 1?"} | answer) for i, answer in enumerate(answers)]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines) + "\n")
    tagged = tag(path, "--tag_mission", "reward", "--reward_model", "owner/reward")
    assert [r["instruct_reward"] for r in tagged] == [4.0, None, None, -3.5]
    assert [r.get("tag_failures") for r in tagged] == [None, {"reward": "no_response"}, {"reward": "too_long"}, None]
    assert tagged[0]["tagged_by"] == {"reward": "owner/reward"}
    assert seen == [("owner/reward", False)]
