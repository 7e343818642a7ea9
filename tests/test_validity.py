"""Validity by votes: on a scripted judge that is wrong now and then, so that what voting is worth can be counted."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, program, rows
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.models.chat_template import ChatTemplate
from magpie.tagging.config import load_validity
from magpie.tagging.validity import Judging, ValidityJudge
from scripted_server import MODEL, Reply, ScriptedServer, completion

QUESTIONS = load_validity().questions
OTHER = {"yes": "no", "no": "yes"}


class Judge(ScriptedServer):
    """Finds what is wrong with a problem that ends in (question), and errs in a share of its votes."""

    def __init__(self, wrong: float = 0.0, **more: Any) -> None:
        super().__init__(**more)
        self._wrong, self._template = wrong, ChatTemplate(load_model("smollm2"))
        self._seen: dict[str, int] = {}
        self.texts: list[str] = []

    async def _send(self, request: Any, reply: Reply) -> Any:
        if request.path.endswith("/completions") and reply is self.default:
            text = self._template.decode(json.loads(await request.read())["prompt"])
            self.texts.append(text)
            reply = Reply(body=completion(json.dumps({"reason": "so", "verdict": self._verdict(text)})))
        return await super()._send(request, reply)

    def _verdict(self, text: str) -> str:
        name = next(name for name, question in QUESTIONS.items() if question.ask.split("?")[0] in text)
        right = QUESTIONS[name].passes if f"({name})" not in text else OTHER[QUESTIONS[name].passes]
        time_asked = self._seen[text] = self._seen.get(text, 0) + 1
        drawn = int(hashlib.sha256(f"{text}{time_asked}".encode()).hexdigest()[:8], 16) / 16**8
        return OTHER[right] if drawn < self._wrong else right


def write(path: Path, problems: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": n, "instruction": text}) + "\n" for n, text in enumerate(problems)))
    return path


def judged(path: Path, server: ScriptedServer, *arguments: object, missions: tuple[str, ...] = ("validity",)) -> list[dict]:
    flags = ["--base_url", server.url, "--model_path", MODEL, "--tokenizer", load_model("smollm2").path]
    done = program("unitag", "--input_file", path, "--tag_mission", *missions, *flags, *arguments)
    assert done.returncode == 0, done.stderr
    return rows(path.with_name(f"{path.stem}_tagged.jsonl"))


def test_every_question_is_asked_under_its_schema_and_a_failed_one_makes_a_problem_invalid(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ["Sound.", *(f"Not sound ({name})." for name in QUESTIONS)])
    with Judge() as server:
        found = judged(path, server, "--votes", 2)
    assert [r["validity"] for r in found] == ["valid", *["invalid"] * len(QUESTIONS)]
    assert [r["validity_reasons"] for r in found] == [[], *([name] for name in QUESTIONS)]
    assert found[0]["validity_votes"] == {name: [2, 0, 0] if q.passes == "yes" else [0, 2, 0] for name, q in QUESTIONS.items()}
    assert len(server.history) == 2 * len(QUESTIONS) * len(found) and found[0]["tagged_by"] == {"validity": MODEL}
    for call in server.history:
        schema = call.body["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["verdict"]["enum"] == ["yes", "no"] and schema["required"] == ["reason", "verdict"]
        assert call.body["temperature"] == load_validity().temperature
    head = load_validity().prompt.split("{problem}")[0]
    assert all(text.index(head) < text.index("ound") < text.index("this one point alone") for text in server.texts)


def test_one_vote_is_greedy_and_without_a_reason_if_none_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ["Sound."])
    with Judge() as server:
        [record] = judged(path, server, "--votes", 1, "--no-explain")
    assert record["validity"] == "valid"
    [one, *_] = server.history
    assert one.body["temperature"] == 0 and one.body["max_tokens"] < 50
    assert one.body["response_format"]["json_schema"]["schema"]["required"] == ["verdict"]


@pytest.mark.parametrize(("votes", "problems"), [(1, 120), (5, 120)])
def test_voting_beats_one_vote_by_what_the_binomial_says(votes: int, problems: int, tmp_path: Path) -> None:
    """A judge that errs in a fifth of its votes errs in 20% of the questions with one vote, in 5.8% with five."""
    path = write(tmp_path / "x.jsonl", [f"Sound number {n}." for n in range(problems)])
    with Judge(wrong=0.2) as server:
        found = judged(path, server, "--votes", votes)
    expected = sum(math.comb(votes, k) * 0.2**k * 0.8 ** (votes - k) for k in range(votes // 2 + 1, votes + 1))
    asked = problems * len(QUESTIONS)
    share = sum(len(r["validity_reasons"]) for r in found) / asked
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / asked), (share, expected)
    whole = (1 - expected) ** len(QUESTIONS)
    valid = sum(r["validity"] == "valid" for r in found) / problems
    assert abs(valid - whole) < 4 * math.sqrt(whole * (1 - whole) / problems), (valid, whole)


@pytest.mark.parametrize(
    ("tallies", "validity", "reasons"),
    [
        ({"terms_defined": [3, 0, 0], "data_contradict": [1, 2, 0]}, "valid", []),
        ({"terms_defined": [1, 1, 0], "data_contradict": [0, 2, 0]}, None, []),
        ({"terms_defined": [1, 1, 0], "data_contradict": [2, 0, 0]}, "invalid", ["data_contradict"]),
        ({"terms_defined": [1, 0, 2], "data_contradict": [0, 3, 0]}, None, []),
        ({"terms_defined": [2, 1, 2], "data_contradict": [0, 5, 0]}, None, []),
        ({"terms_defined": [0, 3, 0], "data_contradict": [3, 0, 0]}, "invalid", ["terms_defined", "data_contradict"]),
    ],
)
def test_more_than_half_of_all_that_were_asked_for_decide(
    tallies: dict[str, list[int]], validity: str | None, reasons: list[str]
) -> None:
    found = ValidityJudge(Judging()).decided(tallies)
    assert (found["validity"], found["validity_reasons"]) == (validity, reasons)


def test_what_cannot_be_read_is_no_verdict_and_a_tie_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ["Sound.", "", "Long. " * 3000])
    texts = ["{", '{"verdict": "perhaps"}', *['{"verdict": "no"}'] * 4, *['{"verdict": "Yes"}'] * 2]
    with ScriptedServer(*(Reply(body=completion(text)) for text in texts)) as server:
        one, empty, long = judged(path, server, "--votes", 2, "--max_in_flight", 1)
        again = judged(path, server, "--votes", 2)
    assert len(server.history) == len(texts) and again == [one, empty, long]
    assert one["validity"] is None and sum(sum(tally) for tally in one["validity_votes"].values()) == 8
    assert sum(tally[2] for tally in one["validity_votes"].values()) == 2
    for record, why in ((empty, "empty_instruction"), (long, "prompt_too_long")):
        assert record["validity"] is record["validity_votes"] is None and record["tag_failures"] == {"validity": why}


def test_refused_votes_leave_the_problem_unjudged_and_say_why(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ["Sound.", "Sound."])
    good = [Reply(body=completion('{"verdict": "yes"}')) for _ in QUESTIONS]
    with ScriptedServer(*good, default=Reply(400, {"error": "no"})) as server:
        judged_one, refused = judged(path, server, "--votes", 1, "--max_in_flight", 1)
    assert judged_one["validity"] == "invalid"
    assert refused["validity"] is None and refused["tag_failures"] == {"validity": "request_refused"}


def test_killed_in_the_middle_it_goes_on_with_every_problem_once(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [f"Sound number {n}." for n in range(20)])
    flags = ["--model_path", MODEL, "--tokenizer", load_model("smollm2").path, "--max_in_flight", "2"]
    command = [
        sys.executable,
        str(PROJECT / "exp" / "unitag.py"),
        "--input_file",
        str(path),
        "--tag_mission",
        "validity",
        *flags,
    ]
    with Judge() as server:
        server.default.hold = lambda: len(server.history) <= 100
        killed = subprocess.Popen([*command, "--base_url", server.url], env=clean_environment(), stderr=subprocess.DEVNULL)
        part, deadline = tmp_path / "x_tagged.part", time.monotonic() + 120
        while not (part.exists() and part.read_bytes().count(b"\n") >= 4):
            assert time.monotonic() < deadline and killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
        server.default.hold = lambda: True
        found = judged(path, server, "--max_in_flight", 2)
        asked = 3 * len(QUESTIONS)
        assert len(server.history) <= asked * 20 + 3 * asked
    assert [r["id"] for r in found] == list(range(20)) and {r["validity"] for r in found} == {"valid"}
