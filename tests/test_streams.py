"""Responses that are streamed: loops are ended while they run, and nothing else is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from conftest import program
from magpie.client.replies import Stream, TransientError
from magpie.text.degeneration import RUNNING_TOKENS, LoopWatch
from scripted_server import MODEL, Reply, ScriptedServer
from test_texts import REGULAR, prose

BEFORE = prose(120) + ".\n"
LOOPS = {
    "a sentence": "Wait, that is not right, so let me check it again. " * 200,
    "a paragraph": (prose(60) + ". So x = 7.\n\n") * 30,
    "counted": "".join(f"{n}. The answer is the number 1.\n" for n in range(1, 400)),
    "digits": "So 1/3 = 0." + "3" * 3000,
    "cells": "0 & " * 900,
}


def pieces(text: str) -> list[str]:
    """The text in tokens of about four characters; digits by themselves."""
    rng, found, at = random.Random(0), [], 0
    while at < len(text):
        step = 1 if text[at].isdigit() else rng.randint(2, 6)
        found.append(text[at : at + step])
        at += step
    return found


def ended_at(text: str) -> int | None:
    watch = LoopWatch()
    return next((i for i, piece in enumerate(pieces(text), 1) if watch.loops(piece, 1)), None)


@pytest.mark.parametrize("what", LOOPS)
def test_a_loop_costs_at_most_400_tokens_more_than_the_text_before_it(what: str) -> None:
    at = ended_at(BEFORE + LOOPS[what])
    assert at is not None and 0.9 * RUNNING_TOKENS <= at - len(pieces(BEFORE)) <= 400


@pytest.mark.parametrize("what", REGULAR)
def test_a_regular_text_is_never_ended(what: str) -> None:
    assert ended_at(BEFORE + REGULAR[what] + BEFORE) is None and ended_at(REGULAR[what] + prose(300)) is None


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"x = {n}. This does not work.\n" for n in range(200)),
        "".join(f"Case {n}: no solution.\n" for n in range(200)),
        "".join(f"{n} mod 3 = {n % 3}, so it is not a multiple.\n" for n in range(1, 300, 3)),
        " + ".join(["1"] * 120) + " = 120. " + prose(300),
        r"\begin{pmatrix} " + r" \\ ".join([" & ".join("0" * 8)] * 8) + r" \end{pmatrix} " + prose(300),
        "\n".join(" ".join("HT"[n >> b & 1] for b in range(8)) for n in range(256)),
        (prose(40) + ". ") * 2 + prose(300),
        "\n".join(f"a_{n} = a_{n - 1} + a_{n - 2} = {n * n}" for n in range(2, 150)),
    ],
)
def test_what_only_looks_like_a_loop_for_a_while_is_not_ended(text: str) -> None:
    assert ended_at(BEFORE + text) is None


def event(text: str, finish: str | None = None, tokens: int = 1) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish, "token_ids": list(range(tokens))}]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def answered(tmp_path: Path, reply: Reply, *flags: str, api: str = "completions") -> tuple[list[Any], dict[str, Any], Any]:
    """What gen_res.py writes (or drops) for one problem, its run file, and the server."""
    (tmp_path / "p.jsonl").write_text('{"id": "a", "instruction": "What is 1 + 1?"}\n')
    out = tmp_path / "out.jsonl"
    route = "chat/completions" if api == "chat" else "completions"
    with ScriptedServer(default=reply, routes=(route,), owned_by="vllm" if api != "chat" else "else") as server:
        arguments = ["--model_path", "smollm2", "--served_model", MODEL, "--input_file", str(tmp_path / "p.jsonl")]
        arguments += ["--output_file", str(out), "--base_url", server.url, "--max_tokens", "3000", "--api", api, *flags]
        done = program("gen_res", *arguments)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for path in (out, tmp_path / "out_dropped.jsonl") for line in path.read_text().splitlines()]
    return rows, json.loads((tmp_path / "out.run.json").read_text()), server


def test_a_stream_gives_the_record_that_a_reply_gives(tmp_path: Path) -> None:
    events = [
        *(event(word) for word in ("So ", "it is ", "\\boxed{2}", ".")),
        event("", "stop"),
        usage(17, 5),
        b"data: [DONE]\n\n",
    ]
    [row], _, server = answered(tmp_path, Reply(events=events))
    assert (row["response"], row["finish_reason"]) == ("So it is \\boxed{2}.", "stop")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (17, 5)
    assert server.history[0].body["stream_options"]["include_usage"]


def test_a_loop_is_ended_while_it_runs_and_the_summary_says_what_that_saved(tmp_path: Path) -> None:
    loop = [event("Wait, that is wrong. ", tokens=6) for _ in range(400)]
    [row], run, server = answered(
        tmp_path, Reply(events=[event("Let me see. ", tokens=4), *loop, event("", "length")], beat=0.005)
    )
    assert row["finish_reason"] == "repetition" and row["completion_tokens"] <= 404
    assert server.history[0].events < 200  # the server was told by the closed connection
    statistics = run["statistics"]
    assert statistics == {"loops_ended": 1, "tokens_saved_at_most": 3000 - row["completion_tokens"]}


def test_a_thought_of_a_hosted_model_that_loops_was_never_closed(tmp_path: Path) -> None:
    said = [{"choices": [{"index": 0, "delta": {"reasoning_content": "Hmm, wait. "}}]} for _ in range(900)]
    [row], run, _ = answered(tmp_path, Reply(events=said), api="chat")
    assert row["drop_reason"] == "truncated_reasoning" and run["statistics"]["loops_ended"] == 1


def test_a_server_that_refuses_streams_is_asked_without(tmp_path: Path) -> None:
    from scripted_server import Call, completion

    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "{i}", "instruction": "What is 1 + 1?"}}\n' for i in range(3)))

    def reply(call: Call) -> Reply:
        return Reply(400, {"error": "stream_options: unknown"}) if "stream" in call.body else Reply(body=completion("2"))

    with ScriptedServer(by=reply) as server:
        arguments = ["--model_path", "smollm2", "--served_model", MODEL, "--input_file", tmp_path / "p.jsonl"]
        done = program("gen_res", *arguments, "--base_url", server.url, "--max_tokens", "3000", "--max_in_flight", "1")
        assert done.returncode == 0 and "does not accept requests for streams" in done.stderr
        assert ["stream" in call.body for call in server.history] == [True, False, False, False]


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"choices": [{"text": "half"}]}\n\n',
        b"data: {\n\n",
        b'data: {"error": {"message": "out of memory"}}\n\n',
        b'data: {"choices": [{"text": 3}]}\n\n',
        b'data: {"choices": [{"text": "\xff"}]}\n\n',
        b"",
    ],
)
def test_a_broken_stream_is_tried_again(body: bytes) -> None:
    stream = Stream()
    with pytest.raises(TransientError):
        stream.feed(body)
        stream.completion(1, 1)


def test_a_stream_may_arrive_in_any_pieces() -> None:
    body = b"".join(
        b": ping\r\n\r\ndata:%s\r\n\r\n" % json.dumps(each).encode() for each in [event("aé"), event("b", "stop"), usage(3, 2)]
    )
    for size in (1, 2, 7, 1000):
        stream = Stream()
        assert not any(stream.feed(body[at : at + size]) for at in range(0, len(body), size))
        found = stream.completion(0, 0)
        assert (found.text, found.finish_reason, found.completion_tokens, found.saved_tokens) == ("aéb", "stop", 2, 0)
