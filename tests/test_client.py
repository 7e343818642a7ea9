"""The client against servers that fail in every way a server can fail."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from magpie.client import client as client_module
from magpie.client import endpoint as endpoint_module
from magpie.client import pool as pool_module
from magpie.client.address_files import Connection
from magpie.client.client import Client
from magpie.client.replies import Completion, Refused, TransientError
from magpie.common.console import MagpieError
from scripted_server import MODEL, Reply, ScriptedServer, completion

SAMPLING = {"temperature": 0.5, "max_tokens": 7}


def connection(*servers: ScriptedServer, key: str = "secret-key", gone: Callable[[], str] = lambda: "") -> Connection:
    return Connection([server.url for server in servers], key, gone)


def run(
    *servers: ScriptedServer,
    requests: int = 1,
    window: int = 4,
    key: str = "secret-key",
    gone: Callable[[], str] = lambda: "",
    **settings: Any,
) -> list[Completion | Refused]:
    """Send so many requests, each with its own prompt, and return what became of them, in the order of their prompts."""
    results: dict[int, Completion | Refused] = {}

    async def work() -> None:
        async with Client(connection(*servers, key=key, gone=gone), MODEL, max_in_flight=window, **settings) as client:

            async def one(number: int) -> None:
                try:
                    results[number] = await client.complete([1, number], SAMPLING)
                except Refused as error:
                    results[number] = error

            await client.for_each(range(requests), one)

    asyncio.run(work())
    return [results[number] for number in range(requests)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client waits for a server that is down takes a twenty-fifth of its time."""
    waits = (client_module, "NO_SERVER_SECONDS"), (pool_module, "POLL_SECONDS"), (endpoint_module, "BACK_OFF_SECONDS")
    for module, name in waits:
        monkeypatch.setattr(module, name, getattr(module, name) / 25)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_pause", lambda attempts, error: 0.01)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a client would take before it tries again; those of seconds it takes, the others are cut to a tenth."""
    taken: list[float] = []
    original = client_module._pause

    def pause(attempts: int, error: TransientError) -> float:
        taken.append(original(attempts, error))
        return taken[-1] if taken[-1] >= 1 else taken[-1] / 10

    monkeypatch.setattr(client_module, "_pause", pause)
    return taken


def at_last(condition: Callable[[], object], seconds: float = 60.0) -> Callable[[], bool]:
    """Hold a reply back until the condition has been true; if it never is, for so long: then the test says so."""
    ends, was = time.monotonic() + seconds, False

    def reached() -> bool:
        nonlocal was
        was = was or bool(condition()) or time.monotonic() > ends
        return was

    return reached


def wait_for(condition: Callable[[], object]) -> None:
    reached = at_last(condition)
    while not reached():
        time.sleep(0.01)


def test_a_completion_comes_back_whole_and_the_request_is_what_was_asked_for() -> None:
    with ScriptedServer(Reply(body=completion("1 + 1?", "length"))) as server:
        answer = run(server)[0]
    assert answer == Completion("1 + 1?", "length", 3, 2, [1, 2])
    assert server.history[0].body == {"model": MODEL, "prompt": [1, 0], **SAMPLING, "return_token_ids": True}


def test_what_only_vllm_knows_is_not_sent_to_other_servers() -> None:
    plain = {"choices": [{"text": "fine", "finish_reason": None}]}
    with ScriptedServer(Reply(body=plain), owned_by="someone") as server:
        answer = run(server)[0]
    assert server.history[0].body == {"model": MODEL, "prompt": [1, 0], **SAMPLING}
    assert answer == Completion("fine", "unknown", 0, 0, None)


@pytest.mark.parametrize(("key", "sent"), [("secret-key", "Bearer secret-key"), ("", None)])
def test_the_key_goes_as_a_bearer_token_or_not_at_all(key: str, sent: str | None) -> None:
    with ScriptedServer() as server:
        run(server, key=key)
    assert [call.headers.get("Authorization") for call in [*server.model_calls, *server.history]] == [sent, sent]


@pytest.mark.parametrize(
    "fault",
    [
        Reply(500, {"error": "out of memory"}),
        Reply(503, {"error": "busy"}),
        Reply(408, b""),
        Reply(reset=True),
        Reply(body=b'{"choices": [{"text": "cut'),
        Reply(body=b"\xff\xfe"),
        Reply(body={"choices": []}),
        Reply(body={"choices": [{"text": None}]}),
        Reply(body={"object": "error"}),
        Reply(429, b""),
        Reply(429, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        Reply(429, b"", {"Retry-After": "nan"}),
        Reply(429, b"", {"Retry-After": "-5"}),
    ],
    ids=lambda reply: f"{reply.status}-{str(reply.body)[:20]}-{reply.reset}-{reply.headers.get('Retry-After', '')[:5]}",
)
def test_a_transient_error_is_retried(fault: Reply, pauses: list[float]) -> None:
    with ScriptedServer(fault) as server:
        started = time.monotonic()
        answer = run(server)[0]
        assert time.monotonic() - started < 60
    assert all(math.isfinite(pause) and 0 <= pause <= 1 for pause in pauses), pauses
    assert isinstance(answer, Completion) and answer.text == "fine"
    assert [call.body["prompt"] for call in server.history] == [[1, 0], [1, 0]]


def test_an_answer_slower_than_the_timeout_is_asked_for_again(short_pauses: None) -> None:
    with ScriptedServer(Reply(delay=600)) as server:
        started = time.monotonic()
        answer = run(server, timeout=1)[0]
        assert time.monotonic() - started < 60
    assert isinstance(answer, Completion) and len(server.history) == 2


def test_retry_after_is_honoured(pauses: list[float]) -> None:
    seconds = "1"
    with ScriptedServer(Reply(429, b"", {"Retry-After": seconds})) as server:
        run(server)
    first, second = server.history
    assert float(seconds) <= second.at - first.at and pauses == [1.0]


def test_a_rate_limit_halves_the_window_and_successes_open_it_again(pauses: list[float]) -> None:
    late = [Reply(hold=lambda: pauses) for _ in range(7)]  # when the client has taken note of the rate limit
    limited = Reply(429, b"", {"Retry-After": "0"}, hold=lambda: len(server.history) >= 8)
    soon = [Reply(delay=0.02) for _ in range(60)]
    open_again = at_last(lambda: server.history[-1].in_flight == 8)
    with ScriptedServer(limited, *late, *soon, default=Reply(hold=open_again)) as server:
        results = run(server, requests=100, window=8)
    assert all(isinstance(result, Completion) for result in results)
    seen = [call.in_flight for call in server.history]
    assert seen[:8] == list(range(1, 9)), "the window was not full before the rate limit"
    after = [call.in_flight for call in server.history[8:14]]
    assert max(after) <= 6, f"the window stayed as wide as before: {after}"
    assert max(seen[50:]) == 8, "the window never opened again"


def test_a_rate_limit_costs_no_attempt(short_pauses: None) -> None:
    limited = [Reply(429, b"", {"Retry-After": "0"}) for _ in range(12)]
    with ScriptedServer(*limited, Reply(500), Reply(500)) as server:
        answer = run(server)[0]
    assert isinstance(answer, Completion), answer
    assert len(server.history) == 15


def test_eight_failures_drop_the_row_with_the_last_one_as_its_detail(short_pauses: None) -> None:
    with ScriptedServer(*[Reply(500, b"out of memory")] * 8) as server:
        first, second = run(server, requests=2, window=1)
    assert isinstance(first, Refused) and first.reason == "server_error"
    assert "500" in first.detail and "out of memory" in first.detail
    assert isinstance(second, Completion)
    assert len(server.history) == 9


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_not_tried_again(status: int) -> None:
    with ScriptedServer(Reply(status, {"error": "too long \x1b[31m"})) as server:
        first, second = run(server, requests=2, window=1)
    assert isinstance(first, Refused) and first.reason == "request_refused"
    assert str(status) in first.detail and "too long" in first.detail and "\x1b" not in first.detail
    assert isinstance(second, Completion)
    assert len(server.history) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_refused_in_the_middle_ends_the_run(status: int) -> None:
    with ScriptedServer(Reply(), Reply(), Reply(status)) as server, pytest.raises(MagpieError, match="MAGPIE_API_KEY") as error:
        run(server, requests=10, window=1)
    assert len(server.history) == 3
    assert "secret-key" not in str(error.value)


def test_twenty_refusals_without_a_success_end_the_run() -> None:
    refusal = Reply(400, b"unknown parameter")
    with ScriptedServer(default=refusal) as server, pytest.raises(MagpieError, match="unknown parameter"):
        run(server, requests=30, window=1)
    assert len(server.history) == 20


def test_refusals_between_successes_are_rows_and_not_the_end() -> None:
    replies = [reply for _ in range(30) for reply in (Reply(400), Reply())]
    with ScriptedServer(*replies) as server:
        results = run(server, requests=60, window=1)
    assert sum(isinstance(result, Refused) for result in results) == 30


def test_refusals_in_a_row_end_the_run_after_a_success_too() -> None:
    with ScriptedServer(Reply(), default=Reply(400)) as server, pytest.raises(MagpieError, match="in a row"):
        run(server, requests=30, window=1)


@pytest.mark.parametrize("status", [402, 404])
def test_a_model_that_is_no_longer_served_ends_the_run(status: int) -> None:
    with ScriptedServer(Reply(), default=Reply(status)) as server, pytest.raises(MagpieError, match="can no longer be used"):
        run(server, requests=10, window=1)
    assert len(server.history) == 2


@pytest.mark.parametrize("status", [401, 402, 404])
def test_one_of_several_that_can_no_longer_be_used_is_excluded_and_costs_no_row(
    status: int, short_pauses: None, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(Reply(), default=Reply(status, b"no model")) as one, ScriptedServer(default=Reply(delay=0.02)) as two:
        results = run(one, two, requests=40, window=4)
    assert all(isinstance(result, Completion) for result in results)
    assert len(one.history) <= 5 and len(two.history) >= 39, "it was asked again and again"
    assert caplog.text.count("it is excluded") == 1 and one.url in caplog.text and str(status) in caplog.text


def test_the_last_one_of_several_that_can_no_longer_be_used_ends_the_run(short_pauses: None) -> None:
    servers = ScriptedServer(Reply(), default=Reply(404)), ScriptedServer(Reply(), Reply(), default=Reply(404))
    with servers[0], servers[1], pytest.raises(MagpieError, match="can no longer be used"):
        run(*servers, requests=40, window=2)


@pytest.mark.parametrize("status", [502, 503])
def test_a_gateway_without_its_server_is_an_outage_and_costs_no_row(status: int) -> None:
    with ScriptedServer(Reply(), *[Reply(status)] * (client_module.MAX_ATTEMPTS + 2)) as server:
        results = run(server, requests=3, window=1)
    assert all(isinstance(result, Completion) for result in results)


def test_a_server_that_goes_and_comes_back_loses_nothing(short_pauses: None) -> None:
    back = threading.Event()
    with ScriptedServer(default=Reply(hold=lambda: len(server.history) <= 5 or back.is_set())) as server:

        async def work() -> list[int]:
            done: list[int] = []
            some_are_done = asyncio.Event()
            async with Client(connection(server), MODEL, max_in_flight=2) as client:

                async def one(number: int) -> None:
                    await client.complete([1, number], SAMPLING)
                    done.append(number)
                    if len(done) == 4:
                        some_are_done.set()

                async def outage() -> None:
                    await some_are_done.wait()
                    await asyncio.to_thread(server.stop)
                    await asyncio.to_thread(wait_for, lambda: any(one.down_since for one in client.pool._endpoints))
                    assert len(done) < 20, "the server was not down while the run was going on"
                    await asyncio.sleep(0.2)
                    back.set()
                    await asyncio.to_thread(server.start)

                await asyncio.gather(client.for_each(range(20), one), outage())
            return done

        done = asyncio.run(work())
    assert sorted(done) == list(range(20))


def test_errors_of_a_dying_server_cost_no_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = 0
    with ScriptedServer(*[Reply(500, b"engine dead")] * 7) as server:

        def pause(attempts: int, error: TransientError) -> float:
            nonlocal failures
            failures += 1
            if failures == 7:  # the server goes away after its seventh failure, and comes back failing as often again
                server.stop()
                threading.Timer(0.2, come_back).start()
            return 0.01

        def come_back() -> None:
            server.script.extend([Reply(500, b"engine dead")] * 7)
            server.start()

        monkeypatch.setattr(client_module, "_pause", pause)
        [answer] = run(server)
    assert isinstance(answer, Completion), answer
    assert failures == 14


def test_a_server_gone_for_longer_than_the_outage_ends_the_run() -> None:
    async def work(server: ScriptedServer) -> None:
        async with Client(connection(server), MODEL, max_in_flight=2, outage=0.5) as client:
            await asyncio.to_thread(server.stop)
            await client.complete([1], SAMPLING)

    with ScriptedServer() as server:
        started = time.monotonic()
        with pytest.raises(MagpieError, match="rerun the same command"):
            asyncio.run(work(server))
        assert 0.5 < time.monotonic() - started < 60


def test_a_server_known_to_be_gone_for_good_is_not_waited_for() -> None:
    async def work(server: ScriptedServer) -> None:
        there = connection(server, gone=lambda: "the server died 4 times in a row")
        async with Client(there, MODEL, max_in_flight=2) as client:
            await asyncio.to_thread(server.stop)
            await client.complete([1], SAMPLING)

    with ScriptedServer() as server, pytest.raises(MagpieError, match="died 4 times"):
        asyncio.run(work(server))


def test_the_window_is_filled_and_never_exceeded() -> None:
    full = at_last(lambda: len(server.history) >= 5)
    with ScriptedServer(default=Reply(hold=full, delay=0.05)) as server:
        run(server, requests=40, window=5)
    assert server.max_in_flight == 5
    assert sorted(call.body["prompt"][1] for call in server.history) == list(range(40))


def test_items_are_drawn_only_as_places_become_free() -> None:
    drawn: list[int] = []

    def source() -> Any:
        for number in range(50):
            drawn.append(number)
            yield number

    async def work(server: ScriptedServer) -> None:
        async with Client(connection(server), MODEL, max_in_flight=3) as client:

            async def one(number: int) -> None:
                assert len(drawn) <= number + 3, "items are drawn before there is a place for them"
                await client.complete([1, number], SAMPLING)

            await client.for_each(source(), one)

    with ScriptedServer() as server:
        asyncio.run(work(server))
    assert drawn == list(range(50))


def test_several_servers_share_the_window_and_the_faster_one_does_more() -> None:
    much_is_done = at_last(lambda: len(fast.history) >= 50)
    both_are_full = at_last(lambda: len(slow.history) >= 4 and len(fast.history) >= 4)
    replies = Reply(hold=much_is_done), Reply(hold=both_are_full, delay=0.02)
    with ScriptedServer(default=replies[0]) as slow, ScriptedServer(default=replies[1]) as fast:
        run(slow, fast, requests=60, window=4)
    assert (slow.max_in_flight, fast.max_in_flight) == (4, 4), "every server is kept full"
    assert len(fast.history) > 2 * len(slow.history)
    assert slow.history, "the slower server got no work"


def test_when_one_of_two_servers_goes_the_other_does_its_work(short_pauses: None) -> None:
    with ScriptedServer() as one, ScriptedServer() as two:

        async def work() -> None:
            async with Client(connection(one, two), MODEL, max_in_flight=4) as client:
                await asyncio.to_thread(one.stop)

                async def ask(number: int) -> None:
                    await client.complete([1, number], SAMPLING)

                await client.for_each(range(20), ask)

        asyncio.run(work())
    assert {call.body["prompt"][1] for call in two.history} == set(range(20))


def test_a_server_that_came_back_gets_work_again(short_pauses: None) -> None:
    """One of two replicas that is started again must not stay idle for the rest of the run."""
    with ExitStack() as stack:
        one = stack.enter_context(ScriptedServer(default=Reply(delay=0.05)))
        two = stack.enter_context(ScriptedServer(default=Reply(delay=0.05)))

        async def work() -> int:
            async with Client(connection(one, two), MODEL, max_in_flight=4) as client:

                async def ask(number: int) -> None:
                    await client.complete([1, number], SAMPLING)

                await asyncio.to_thread(one.stop)
                await client.for_each(range(12), ask)
                await asyncio.to_thread(one.start)
                before, deadline = len(one.history), time.monotonic() + 60
                while len(one.history) == before and time.monotonic() < deadline:
                    await client.for_each(range(8), ask)
                return len(one.history) - before

        assert asyncio.run(work()) > 0, "a server that is back was never asked again in 60 s"


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (Reply(body={"data": [{"id": "other/model"}, {"id": "third"}]}), "other/model, third"),
        (Reply(body={"data": []}), "nothing"),
        (Reply(401), "MAGPIE_API_KEY"),
        (Reply(403), "MAGPIE_API_KEY"),
        (Reply(404, b"not here"), "/v1"),
        (Reply(body=b"<html>"), "not an OpenAI-compatible server"),
        (Reply(reset=True), "--base_url"),
    ],
    ids=["other models", "no models", "401", "403", "404", "a web page", "reset"],
)
def test_a_server_that_cannot_do_the_work_is_refused_before_any_is_sent(models: Reply, says: str) -> None:
    with ScriptedServer(models=models) as server, pytest.raises(MagpieError) as error:
        run(server)
    assert says in str(error.value) and "secret-key" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not server.history


def test_no_address_at_all_is_an_error_and_not_an_endless_wait() -> None:
    async def work() -> None:
        async with Client(Connection([], "", lambda: ""), MODEL, max_in_flight=1) as client:
            await asyncio.wait_for(client.complete([1], SAMPLING), 3)

    with pytest.raises(MagpieError):
        asyncio.run(work())


def test_what_the_work_raises_first_ends_the_rest() -> None:
    started: list[int] = []

    async def work(server: ScriptedServer) -> None:
        async with Client(connection(server), MODEL, max_in_flight=2) as client:

            async def one(number: int) -> None:
                started.append(number)
                await client.complete([1, number], SAMPLING)
                if number == 5:
                    raise MagpieError("enough")

            await client.for_each(range(100), one)

    with ScriptedServer() as server, pytest.raises(MagpieError, match="enough"):
        asyncio.run(work(server))
    assert 5 in started and len(started) < 15
