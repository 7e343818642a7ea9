"""Services with chat completions only: answers, tags, limits a minute and prices; no problems."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from conftest import program, rows
from magpie.client.address_files import Connection
from magpie.client.chat_prompt import ChatPrompt, HostedTemplate
from magpie.client.client import Client
from magpie.client.rate_limit import Prices, RateLimits
from magpie.client.replies import Refused
from magpie.records.schema import DIFFICULTIES
from magpie.text.reasoning import machine_readable
from scripted_server import MODEL, Reply, ScriptedServer, chat

T = TypeVar("T")
CHAT = ("chat/completions",)
PROMPT = ChatPrompt([{"role": "user", "content": "What is 1 + 1?"}])


def ask(server: ScriptedServer, requests: int = 1, *, settings: dict[str, Any] | None = None, **more: Any) -> list[Any]:
    """Send the same question so many times; a refusal is returned."""

    async def work() -> list[Any]:
        connection = Connection([server.url], "key", lambda: "")
        async with Client(connection, MODEL, max_in_flight=8, **more) as client:

            async def one(_: int) -> Any:
                try:
                    return await client.complete(PROMPT, {"max_tokens": 100} | (settings or {}))
                except Refused as error:
                    return error

            return await asyncio.gather(*map(one, range(requests)))

    return asyncio.run(work())


@pytest.mark.parametrize("owned_by", ["somebody", "vllm"])
def test_the_interface_that_is_asked_for_is_used(owned_by: str) -> None:
    with ScriptedServer(routes=CHAT, default=Reply(body=chat("2")), owned_by=owned_by) as server:
        [answer] = ask(server, api="chat")
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("2", 5, 7)
    assert server.history[0].body == {"model": MODEL, "messages": PROMPT.messages, "max_tokens": 100}


def test_a_server_without_completions_is_found_out_and_one_with_them_too() -> None:
    with ScriptedServer(routes=CHAT, default=Reply(body=chat("2")), owned_by="somebody") as server:
        assert ask(server)[0].text == "2"
    with ScriptedServer(owned_by="somebody") as server:
        connection = Connection([server.url], "", lambda: "")

        async def uses_chat() -> bool:
            async with Client(connection, MODEL, max_in_flight=1) as client:
                return client.chat

        assert not asyncio.run(uses_chat())


def test_a_service_that_lists_no_models_can_be_used_with_api_chat() -> None:
    with ScriptedServer(routes=CHAT, default=Reply(body=chat("2")), models=Reply(404, b"no")) as server:
        assert ask(server, api="chat")[0].text == "2"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat("2", reasoning_content="one and one"), "<think>\none and one\n</think>\n\n2"),
        (chat("2", reasoning="one and one"), "<think>\none and one\n</think>\n\n2"),
        (chat(None, "length", reasoning_content="one and"), "<think>\none and"),
        (chat("2", reasoning_content=None), "2"),
        (chat(None), ""),
    ],
)
def test_the_chain_of_thought_comes_in_its_tags_wherever_the_service_puts_it(body: dict[str, Any], text: str) -> None:
    with ScriptedServer(routes=CHAT, default=Reply(body=body)) as server:
        assert ask(server, api="chat")[0].text == text


def test_a_service_without_json_schemas_is_asked_without_one_from_then_on() -> None:
    refusal = Reply(400, {"error": {"message": "This response_format type is unavailable now"}})
    settings = {"response_format": {"type": "json_schema"}}
    with ScriptedServer(refusal, routes=CHAT, default=Reply(body=chat("{}"))) as server:
        answers = ask(server, settings=settings, api="chat") + ask(server, settings=settings, api="chat")
    assert [answer.text for answer in answers] == ["{}", "{}"]
    assert ["response_format" in call.body for call in server.history] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('<think>\nhm, {"a": 2}\n</think>\n\n{"a": 1}', '{"a": 1}'),
        ("<think>\nnever ends", ""),
    ],
)
def test_what_a_program_reads_is_without_thoughts_and_fences(text: str, read: str) -> None:
    assert machine_readable(text) == read


@pytest.mark.parametrize("token", ["<|im_end|>", "<｜User｜>", "<think>", "</think>"])
def test_nothing_in_a_problem_looks_like_a_template_s_token(token: str) -> None:
    escape = HostedTemplate().escape_special_tokens
    assert token not in escape(f"a {token} b") and "a < b" in escape("a < b")


def test_limits_a_minute_hold_over_all_requests() -> None:
    """At 1200 requests a minute, after a second's worth of them four take four pauses of 0.05 s, whatever the window is."""
    with ScriptedServer(routes=CHAT, default=Reply(body=chat("2"))) as server:
        started = time.monotonic()
        ask(server, 24, api="chat", limits=RateLimits(requests=1200))
        seconds = time.monotonic() - started
    assert seconds > 0.15
    assert all(call.at - started > 0.05 * (number - 19) - 0.01 for number, call in enumerate(server.history))


def simulated(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it by a clock that moves only while the loop waits, and then at once to where it waits for."""
    loop, now = asyncio.SelectorEventLoop(), 0.0
    select = loop._selector.select

    def wait(timeout: float) -> Any:
        nonlocal now
        now += timeout
        return select(0)

    loop.time, loop._selector.select = lambda: now, wait  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


def test_limits_a_minute_are_spread_evenly() -> None:
    """After a second's worth of requests one comes every 0.2 s."""
    limits, times = RateLimits(requests=300), []

    async def before() -> None:
        await limits.reserve(1, 1)
        times.append(asyncio.get_running_loop().time())

    async def work() -> None:
        await asyncio.gather(*(before() for _ in range(10)))

    simulated(work)
    assert times == pytest.approx([0] * 5 + [0.2, 0.4, 0.6, 0.8, 1.0])


def test_tokens_a_minute_are_those_that_were_written() -> None:
    """Prompts of 50 tokens and completions of 150, at 12,000 a minute: 200 tokens a second, once the guess is paid for."""
    limits = RateLimits(tokens=12_000)

    async def tokens_in(seconds: float) -> int:
        clock = asyncio.get_running_loop().time
        paid, end = 0, clock() + seconds
        while clock() < end:
            before = await limits.reserve(50, 100_000)
            limits.settle(before, 150)
            paid += 200
        assert before == (1000 if paid == 200 else 150)  # the guess, then the mean of those that have come
        return paid

    async def work() -> tuple[int, float]:
        first = await tokens_in(0.1)
        return first, await tokens_in(60.0) / 60

    first, rate = simulated(work)
    assert first == 200 and rate == pytest.approx(200, rel=0.05), f"{rate:.0f} tokens a second, 200 are allowed"


def test_what_is_written_beyond_the_mean_is_paid_with_the_next_request() -> None:
    """Each answer is longer than the last: never is more spent than 200 tokens a second, and a second's worth at the start."""
    limits = RateLimits(tokens=12_000)

    async def work() -> list[float]:
        spent, beyond = 0, []
        for length in range(100, 2100, 100):
            paid = await limits.reserve(50, 100)
            beyond.append(spent + 50 - 200 * (1 + asyncio.get_running_loop().time()))
            limits.settle(paid, length)
            spent += 50 + length
        return beyond

    assert max(simulated(work)) < 1


def test_a_price_is_for_a_million_tokens() -> None:
    assert Prices(0.55, 2.19).cost(2_000_000, 500_000) == pytest.approx(2 * 0.55 + 0.5 * 2.19)


# --- the programs ------------------------------------------------------------------------------------------------------


def problems(path: Path, count: int = 3) -> Path:
    path.write_text("".join(json.dumps({"id": f"p-{i}", "instruction": f"What is {i} + {i}?"}) + "\n" for i in range(count)))
    return path


def test_answers_from_a_service_need_no_tokenizer_and_cost_is_counted(tmp_path: Path) -> None:
    body = chat("It is $\\boxed{4}$.", reasoning_content="2 + 2")
    with ScriptedServer(routes=CHAT, default=Reply(body=body), owned_by="somebody", served=("deepseek-reasoner",)) as server:
        done = program(
            "gen_res",
            *("--model_path", "owner/hosted-only", "--served_model", "deepseek-reasoner", "--api", "chat"),
            *("--base_url", server.url, "--input_file", problems(tmp_path / "x.jsonl")),
            *("--prompt_price", 0.55, "--completion_price", 2.19),
        )
    assert done.returncode == 0, done.stderr
    records = rows(tmp_path / "x_res.jsonl")
    assert [(r["response"], r["reasoning"]) for r in records] == [("It is $\\boxed{4}$.", "2 + 2")] * 3
    run = json.loads((tmp_path / "x_res.run.json").read_text())
    assert run["statistics"]["cost_in_dollars"] == pytest.approx((15 * 0.55 + 21 * 2.19) / 1e6, abs=1e-6)
    assert "cost in dollars" in done.stderr
    [system_free] = {len(call.body["messages"]) for call in server.history}
    assert system_free == 1 and "boxed" in server.history[0].body["messages"][0]["content"]


def test_tags_from_a_service(tmp_path: Path) -> None:
    said = {"intent": "to add", "knowledge": "sums", "difficulty": DIFFICULTIES[0]}
    body = chat(f"```json\n{json.dumps(said)}\n```", reasoning_content="easy")
    with ScriptedServer(routes=CHAT, default=Reply(body=body), owned_by="somebody") as server:
        done = program(
            "unitag",
            *("--tag_mission", "difficulty", "--model_path", MODEL, "--api", "chat", "--base_url", server.url),
            *("--input_file", problems(tmp_path / "x.jsonl")),
        )
    assert done.returncode == 0, done.stderr
    assert [record["difficulty"] for record in rows(tmp_path / "x_tagged.jsonl")] == [DIFFICULTIES[0]] * 3


@pytest.mark.parametrize("api", ["chat", "auto"])
def test_problems_from_a_service_are_refused_with_the_reason(tmp_path: Path, api: str) -> None:
    with ScriptedServer(routes=CHAT, default=Reply(body=chat()), owned_by="somebody", served=(MODEL,)) as server:
        done = program(
            "gen_ins",
            *("--model_path", "smollm2", "--served_model", MODEL, "--api", api, "--base_url", server.url),
            *("--total_prompts", 3, "--output_file", tmp_path / "x_ins.jsonl"),
        )
    assert done.returncode != 0 and "/v1/completions" in done.stderr and "Traceback" not in done.stderr
    assert not server.history and not (tmp_path / "x_ins.jsonl").exists()
