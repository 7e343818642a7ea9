"""check_code.py: on a scripted model that knows the answers, killed and resumed, without walls; what it says of a record."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, program, rows
from magpie.code_check.programs import Attempt, checked, program_in
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.models.chat_template import ChatTemplate
from magpie.verification.pool import Judgement
from scripted_server import MODEL, Reply, ScriptedServer, completion


class Programmer(ScriptedServer):
    """Writes a program for `What is A + B?`; the sums in `wrong` come out one too high, `mute` ones have no program."""

    def __init__(self, wrong: set[int] = frozenset(), mute: set[int] = frozenset(), **more: Any) -> None:  # type: ignore[assignment]
        super().__init__(**more)
        self.wrong, self.mute = wrong, mute
        self.asked: list[int] = []

    async def _send(self, request: Any, reply: Reply) -> Any:
        if request.path.endswith("/completions") and reply is self.default:
            text = tokenizer().decode(json.loads(await request.read())["prompt"])
            number = int(re.search(r"What is (\d+) \+ 1\?", text)[1])
            self.asked.append(number)
            code = f"print('so')\nprint({number} + {2 if number in self.wrong else 1})"
            said = "I would rather not." if number in self.mute else f"Here it is:\n```python\n{code}\n```\nIt adds."
            reply = Reply(body=completion(said), delay=reply.delay)
        return await super()._send(request, reply)


@functools.cache
def tokenizer() -> ChatTemplate:
    return ChatTemplate(load_model("smollm2"))


def write(path: Path, count: int, **more: Any) -> Path:
    lines = [
        {"id": f"p{n}", "instruction": f"What is {n} + 1?", "majority_answer": str(n + 1), "domain": "algebra"} | more
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def flags(server: ScriptedServer, path: Path, *more: object) -> list[object]:
    address = ["--base_url", server.url, "--model_path", MODEL, "--tokenizer", load_model("smollm2").path]
    return ["--input_file", path, *address, *more]


def test_programs_are_run_and_compared_with_the_votes(tmp_path):
    path = write(tmp_path / "x.jsonl", 8)
    path.write_text(path.read_text() + json.dumps({"id": "t", "instruction": "What is 9 + 1?", "majority_answer": None}) + "\n")
    with Programmer(wrong={2, 5}, mute={3}) as server:
        done = program("check_code", *flags(server, path))
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "x_coded.jsonl")
    assert [row["code_agrees"] for row in found] == [True, True, False, None, True, False, True, True, None]
    assert [row["code_answer"] for row in found] == ["1", "2", "4", None, "5", "7", "7", "8", "10"]
    assert [row["code_state"] for row in found] == ["ran"] * 3 + ["no_code"] + ["ran"] * 5
    assert found[0]["code"] == "print('so')\nprint(0 + 1)\n"
    assert {row["code_sandbox"] for row in found} == {"bubblewrap"}
    assert "agree with the majority in 5, differ in 2" in done.stderr

    kept = program("filter", "--config", "rlvr", "--enable", "nonsense", "--input_file", tmp_path / "x_coded.jsonl")
    assert (kept.returncode, "program_disagrees" in kept.stderr) == (2, True)
    more = {"duplicate_of": None, "answers": ["1"] * 4, "agreement": 1.0, "pass_rate": 0.9, "answer_type": "closed"}
    ready = tmp_path / "ready.jsonl"
    ready.write_text("".join(json.dumps(row | more) + "\n" for row in found))
    for enable, passed in (((), 8), (("--enable", "program_disagrees"), 5)):
        assert program("filter", "--config", "rlvr", *enable, "--input_file", ready, "--overwrite").returncode == 0
        assert len(rows(tmp_path / "ready_filtered.jsonl")) == passed


def test_killed_and_resumed_every_id_is_there_once(tmp_path):
    path = write(tmp_path / "x.jsonl", 60)
    with Programmer() as server:
        server.default.delay = 0.3
        command = [sys.executable, str(PROJECT / "exp" / "check_code.py"), *map(str, flags(server, path, "--max_in_flight", 3))]
        process = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        part, deadline = tmp_path / "x_coded.part", time.monotonic() + 120
        while not part.exists() or part.read_bytes().count(b"\n") < 10:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(server.asked)
        done = program("check_code", *flags(server, path))
        assert done.returncode == 0, done.stderr
    assert [row["id"] for row in rows(tmp_path / "x_coded.jsonl")] == [f"p{n}" for n in range(60)]
    assert before >= 10
    assert len(server.asked) - before <= 52


def test_several_programs_vote(tmp_path):
    path = write(tmp_path / "x.jsonl", 1)
    texts = ["```python\nprint(1)\n```", "```python\nprint(2)\n```", "```python\nprint(1.0)\n```", "no"]
    with ScriptedServer(*(Reply(body=completion(text)) for text in texts)) as server:
        done = program("check_code", *flags(server, path, "--num_programs", 4, "--temperature", 0.8))
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path / "x_coded.jsonl")
    assert row["code_agrees"] is True
    assert sorted(vote["state"] for vote in row["code_votes"]) == ["no_code", "ran", "ran", "ran"]


def test_what_was_not_verified_is_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": 1, "instruction": "What is 1 + 1?"}\n')
    with Programmer() as server:
        done = program("check_code", *flags(server, path))
    assert done.returncode == 2
    assert "verify.py first" in done.stderr


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("```py\nprint(1)\n```\nbetter:\n```python\nprint(2)\n```", "print(2)\n"),
        ("```\nprint(1)\n```", "print(1)\n"),
        ("  ```Python\n  print(1)\n  ```\n", "  print(1)\n"),
        ("```python\nprint(1)\n```\nIt prints\n```text\n1\n```", "print(1)\n"),
        ("```bash\nrm -rf /\n```", None),
        ("```python\nprint(1)", None),
        ("The answer is 4.", None),
        ("```python\n\n```", None),
    ],
)
def test_the_program_of_a_response(text, code):
    assert program_in(text) == code


def test_unknown_is_neither_agreement_nor_difference():
    record = {"majority_answer": "x"}
    apart = Judgement(["y"], ["unparsed"], [0], [None])
    assert checked(record, [Attempt("ran", "print('y')", "y")], apart, "weak")["code_agrees"] is None
    failed = checked(record, [Attempt("failed", "1/0")], Judgement([None], ["unparsed"], [None], [False]), "weak")
    assert (failed["code_agrees"], failed["code_answer"], failed["code_state"]) == (None, None, "failed")
    tie = Judgement(["1", "2"], ["parsed"] * 2, [0, 1], [True, False])
    tied = checked(record, [Attempt("ran", "a", "1"), Attempt("ran", "b", "2")], tie, "weak")
    assert (tied["code_answer"], tied["code_agrees"]) == (None, None)
