"""Servers that come and go: files of addresses, replicas that die, come back, or are not what they should be."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from conftest import program, rows
from magpie.cli.flags import Parser, add_model
from magpie.client import client as client_module
from magpie.client import endpoint as endpoint_module
from magpie.client import pool as pool_module
from magpie.client.address_files import Connection, parse_addresses, read_addresses
from magpie.client.client import Client
from magpie.client.endpoint import Endpoint
from magpie.client.replies import Refused
from magpie.common.console import MagpieError
from scripted_server import MODEL, Reply, ScriptedServer, completion
from test_client import at_last

SAMPLING = {"temperature": 0.5, "max_tokens": 7}


BACK_OFF_SECONDS = endpoint_module.BACK_OFF_SECONDS


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a client waits for takes a twenty-fifth of its time."""
    monkeypatch.setattr(client_module, "_pause", lambda attempts, error: 0.01)
    waits = (client_module, "NO_SERVER_SECONDS"), (pool_module, "POLL_SECONDS"), (endpoint_module, "BACK_OFF_SECONDS")
    for module, name in waits:
        monkeypatch.setattr(module, name, getattr(module, name) / 25)


def ask_all(
    connection: Connection,
    requests: int,
    *,
    window: int = 4,
    outage: float = 20.0,
    meanwhile: dict[int, Callable[[], object]] | None = None,
) -> Client:
    """Send so many requests, each once, and call what `meanwhile` holds for a number before that request; return the client.

    Until what it holds has ended there are more requests: what it waits for must not come too late for the run.
    """
    drawn, done, at_work = 0, Counter[int](), set(meanwhile or ())

    def numbers() -> Iterator[int]:
        nonlocal drawn
        for drawn in itertools.count():
            if drawn >= requests and not at_work:
                return
            yield drawn

    async def work() -> Client:
        async with Client(connection, MODEL, max_in_flight=window, outage=outage) as client:

            async def ask(number: int) -> None:
                if meanwhile and number in meanwhile:
                    await asyncio.to_thread(meanwhile[number])
                    at_work.discard(number)
                await client.complete([1, number], SAMPLING)
                done[number] += 1

            await client.for_each(numbers(), ask)
            return client

    client = asyncio.run(work())
    assert done == Counter(range(drawn)) and drawn >= requests
    return client


def of_file(file: Path) -> Connection:
    return Connection([], "", lambda: "", (file,))


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://a:1/v1\nhttp://b:1/v1/\n", ["http://a:1/v1", "http://b:1/v1"]),
        ("# two\n\n  http://a:1/v1  # the first\nhttp://a:1/v1\n", ["http://a:1/v1"]),
        ("http://a:1/v1", ["http://a:1/v1"]),
        ("", []),
    ],
)
def test_a_file_lists_one_url_a_line(tmp_path: Path, text: str, urls: list[str]) -> None:
    (tmp_path / "servers").write_text(text)
    assert read_addresses(tmp_path / "servers") == urls


def test_urls_and_files_may_be_given_together_and_several_times(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("http://b:1/v1\n")
    parser = Parser("")
    add_model(parser)
    args = parser.parse_args(["--model_path", "m", "--base_url", "http://a:1/v1,http://c:1/v1/", "--base_url", f"@{file}"])
    assert parse_addresses(args.base_url) == (["http://a:1/v1", "http://c:1/v1"], (file,))


def test_the_flag_takes_the_place_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGPIE_BASE_URL", "http://environment:1/v1")
    parser = Parser("")
    add_model(parser)
    assert parser.parse_args(["--model_path", "m"]).base_url == "http://environment:1/v1"
    assert parser.parse_args(["--model_path", "m", "--base_url", "http://flag:1/v1"]).base_url == "http://flag:1/v1"


@pytest.mark.parametrize("text", ["@/nowhere/servers", "http://me:secret@host/v1"])
def test_an_address_that_cannot_be_used_is_refused_without_repeating_a_password(text: str) -> None:
    with pytest.raises(MagpieError) as error:
        parse_addresses(text)
    assert "--base_url" in str(error.value) and "secret" not in str(error.value)


def wait_for(done: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_replica_that_is_added_to_the_file_gets_work_and_one_that_is_taken_out_gets_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="magpie")
    file = tmp_path / "servers"
    with ScriptedServer(default=Reply(delay=0.01)) as one, ScriptedServer(default=Reply(delay=0.01)) as two:
        file.write_text(f"{one.url}\n")
        left: list[int] = []

        def add_and_take_out() -> None:
            assert len(one.history) > 10 and not two.history
            file.write_text(f"{one.url}\n{two.url}\n")
            wait_for(lambda: len(two.history) > 5 and one.in_flight + two.in_flight > 4)  # more at a time than one takes
            file.write_text(f"{two.url}\n")
            wait_for(lambda: f"{one.url} is no longer listed" in caplog.text)
            more = len(two.history) + 50  # so that what was on its way to the other one has come
            wait_for(lambda: len(two.history) >= more and one.in_flight == 0)
            left.append(len(one.history))
            wait_for(lambda: len(two.history) >= more + 50)

        ask_all(of_file(file), 21, meanwhile={20: add_and_take_out})
    assert len(two.history) > 100
    assert len(one.history) == left[0], "it still got work when it was not listed any more"


def test_a_server_that_is_listed_again_gets_work_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="magpie")
    file = tmp_path / "servers"
    with ScriptedServer(default=Reply(delay=0.01)) as one, ScriptedServer(default=Reply(delay=0.01)) as two:
        file.write_text(f"{one.url}\n{two.url}\n")

        def take_out_and_add() -> None:
            file.write_text(f"{two.url}\n")
            wait_for(lambda: f"{one.url} is no longer listed" in caplog.text and one.in_flight == 0)
            before = len(one.history)
            file.write_text(f"{one.url}\n{two.url}\n")
            wait_for(lambda: len(one.history) > before + 5)

        ask_all(of_file(file), 21, meanwhile={20: take_out_and_add})


def test_a_run_waits_for_the_first_server_of_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="magpie")
    file = tmp_path / "servers"
    file.write_text("# none yet\n")
    with ScriptedServer() as server:

        def list_it() -> None:
            wait_for(lambda: "waiting for the first server" in caplog.text)
            file.write_text(f"{server.url}\n")

        listing = threading.Thread(target=list_it)
        listing.start()
        ask_all(of_file(file), 10)
        listing.join()
    assert len(server.history) == 10


def test_a_file_that_stays_empty_ends_the_run_after_the_outage(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("")
    started = time.monotonic()
    with pytest.raises(MagpieError, match="no server is listed"):
        ask_all(of_file(file), 1, outage=0.3)
    assert 0.3 < time.monotonic() - started < 60


def test_a_file_that_becomes_empty_ends_the_run_after_the_outage(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    emptied: list[float] = []

    def empty() -> None:
        emptied.append(time.monotonic())
        file.write_text("")

    with ScriptedServer(default=Reply(delay=0.05)) as server:
        file.write_text(f"{server.url}\n")
        with pytest.raises(MagpieError, match="no server has answered"):
            ask_all(of_file(file), 10_000, outage=0.3, meanwhile={20: empty})
    assert 0.3 < time.monotonic() - emptied[0] < 60


def test_a_server_of_several_that_is_down_at_the_start_is_waited_for_and_used_when_it_comes() -> None:
    with ScriptedServer(default=Reply(delay=0.02)) as one:
        two = ScriptedServer(default=Reply(delay=0.02))
        two.start()
        two.stop()

        def come() -> None:
            two.start()
            wait_for(lambda: len(two.history) > 50)

        try:
            ask_all(Connection([one.url, two.url], "", lambda: ""), 11, meanwhile={10: come})
        finally:
            two.stop()
    assert len(two.history) > 50 and len(one.history) > 50


@pytest.mark.parametrize(
    ("newcomer", "why"),
    [
        (lambda: ScriptedServer(served=("other/model",)), "does not serve"),
        (lambda: ScriptedServer(owned_by="somebody"), "is not a vLLM server"),
        (lambda: ScriptedServer(context=512), "has a context of 512 tokens"),
    ],
)
def test_a_newcomer_that_cannot_do_the_work_is_excluded_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, newcomer: Callable[[], ScriptedServer], why: str
) -> None:
    file = tmp_path / "servers"
    with ScriptedServer(default=Reply(delay=0.01)) as one, newcomer() as two:
        file.write_text(f"{one.url}\n")

        def add() -> None:
            file.write_text(f"{one.url}\n{two.url}\n")
            wait_for(lambda: bool(two.model_calls) and why in caplog.text)
            more = len(one.history) + 100
            wait_for(lambda: len(one.history) >= more)

        ask_all(of_file(file), 21, meanwhile={20: add})
    assert not two.history and why in caplog.text


def test_equal_replicas_do_equal_work_and_the_run_says_what_each_did() -> None:
    answers, lock, ends = [0, 0], threading.Lock(), time.monotonic() + 60

    def in_step(server: int) -> bool:
        """Whether a server may answer one more: equally fast are two that answer all that they have whenever both are full."""
        with lock:
            if not any(answers) and one.in_flight == two.in_flight == 8:
                answers[:] = 8, 8
            answers[server] -= (free := answers[server] > 0)
        return free or time.monotonic() > ends

    replies = [Reply(hold=partial(in_step, server)) for server in (0, 1)]
    with ScriptedServer(default=replies[0]) as one, ScriptedServer(default=replies[1]) as two:
        client = ask_all(Connection([one.url, two.url], "", lambda: ""), 160, window=8)
    assert abs(len(one.history) - len(two.history)) <= 24  # 15%
    assert [share.split(" ")[0] for share in client.pool.shares()] == [f"{one.url}:", f"{two.url}:"]


def test_a_request_goes_where_the_fewest_are_in_flight() -> None:
    all_are_there = at_last(lambda: len(one.history) + len(two.history) == 8)
    with ScriptedServer(default=Reply(hold=all_are_there)) as one, ScriptedServer(default=Reply(hold=all_are_there)) as two:
        ask_all(Connection([one.url, two.url], "", lambda: ""), 8, window=8)
    assert len(one.history) == len(two.history) == 4


def test_every_copy_behind_an_address_has_a_window() -> None:
    both_windows_are_full = at_last(lambda: server.in_flight == 8)
    with ScriptedServer(default=Reply(hold=both_windows_are_full), engines=2) as server:
        client = ask_all(Connection([server.url], "", lambda: ""), 20, window=4)
    assert client.pool.capacity == server.max_in_flight == 8


def test_a_load_balancer_one_of_whose_servers_is_dead_loses_nothing_and_is_reported_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other request gets the balancer's 502 at once."""
    monkeypatch.setattr(endpoint_module, "BACK_OFF_SECONDS", BACK_OFF_SECONDS)  # what is down for less is not told
    turns = [Reply(502, b"no upstream") if number % 2 else Reply() for number in range(60)]
    caplog.set_level("INFO", logger="magpie")
    with ScriptedServer(*turns, default=Reply()) as balancer:
        ask_all(Connection([balancer.url], "", lambda: ""), 40)
    assert len(balancer.history) >= 60 and caplog.text.count("is down") <= 1 and "up again" not in caplog.text


def test_a_stage_reads_its_servers_from_a_file(tmp_path: Path) -> None:
    with ScriptedServer(default=Reply(body=completion("What is 1 + 1?")), key="of the file") as server:
        (tmp_path / "servers").write_text(f"{server.url}  # the only one\n")
        arguments = ("--model_path", "smollm2", "--served_model", MODEL, "--total_prompts", 3, "--preflight", 0)
        done = program(
            "gen_ins",
            *arguments,
            *("--output_file", tmp_path / "x_ins.jsonl", "--base_url", f"@{tmp_path / 'servers'}"),
            env={"MAGPIE_API_KEY": "of the file"},
        )
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "x_ins.jsonl")) == len(server.history) == 3


def test_a_window_that_a_rate_limit_closed_opens_for_all_that_wait() -> None:
    """The rows are fewer than the places: nobody draws a new one, so each that is done must wake more than one."""
    limited = [Reply(429, b"", {"Retry-After": "0"}) for _ in range(300)]  # they halve the window until it is one
    with ScriptedServer(*limited, default=Reply(delay=0.02)) as server:
        ask_all(Connection([server.url], "", lambda: ""), 60, window=80)
    seen = [call.in_flight for call in server.history[300:]]
    assert seen[0] <= 2 and max(seen) >= 5


def test_a_burst_of_refusals_halves_the_window_once() -> None:
    endpoint = Endpoint("http://a", max_window=64)
    endpoint.in_flight = 64
    sent = time.monotonic()
    for _ in range(8):
        endpoint.rate_limited(sent)
    assert endpoint.window == 32
    endpoint.rate_limited(time.monotonic())
    assert endpoint.window == 16


def test_a_server_that_is_up_again_is_filled_at_once_and_not_with_one_request(caplog: pytest.LogCaptureFixture) -> None:
    """Its first answer takes long, and so do those of the other one: the requests that wait must not wait for them."""
    with ScriptedServer(default=Reply(delay=0.02)) as one, ScriptedServer(default=Reply(delay=0.02)) as two:
        answers: list[int] = []

        def stop_and_start() -> None:
            two.stop()
            wait_for(lambda: "is down" in caplog.text)
            one.default.hold = two.default.hold = lambda: bool(answers and answers.pop())
            time.sleep(2 * endpoint_module.BACK_OFF_SECONDS)  # now one is full, and all others wait
            two.history.clear()
            two.model_calls.clear()
            two.start()
            try:
                for _ in range(300):  # the other one's next answer makes somebody look
                    if not two.model_calls:
                        answers.append(1)
                        time.sleep(0.1)
                wait_for(lambda: two.history and two.max_in_flight >= 6, 30)
            finally:
                one.default.hold = two.default.hold = lambda: True

        ask_all(Connection([one.url, two.url], "", lambda: ""), 120, window=8, meanwhile={20: stop_and_start})
    assert two.max_in_flight >= 6, "it got one request, and the others only when one was answered"


def test_a_gateway_without_patience_costs_attempts_and_not_the_night() -> None:
    with ScriptedServer(default=Reply(504, b"")) as server, pytest.raises((Refused, MagpieError)):
        ask_all(Connection([server.url], "", lambda: ""), 1)
    assert len(server.history) == client_module.MAX_ATTEMPTS


def test_a_gateway_whose_server_is_not_up_yet_is_waited_for_beside_the_others() -> None:
    with ScriptedServer() as one, ScriptedServer(models=Reply(503, b"starting")) as two:
        ask_all(Connection([one.url, two.url], "", lambda: ""), 20)
    assert len(one.history) == 20 and not two.history
