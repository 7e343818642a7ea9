"""What leaves this machine and what comes in: keys, redirects, proxies, bodies without an end, replies that break off."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest

from conftest import clean_environment, finished, process, program, rows
from hostile_server import HostileServer, Request, bomb, endless
from scripted_server import MODEL, Reply, ScriptedServer, chat, completion
from test_bad_input import command

KEY = "sk-planted/0123+456789"


def source(folder: Path, count: int = 2, **more: object) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"id": i, "instruction": f"What is {i} + 1?"} | more) + "\n" for i in range(count)))
    return path


def ask(folder: Path, url: str, *flags: object, key: str = KEY, count: int = 2, **environment: str):
    output = folder / "out.jsonl"
    arguments = ("--model_path", "smollm2", "--served_model", MODEL, "--input_file", source(folder, count))
    env = {"MAGPIE_BASE_URL": url, "MAGPIE_API_KEY": key, "MAGPIE_LOG": str(folder / "job.log")} | environment
    return program("gen_res", *arguments, "--output_file", output, "--api", "chat", *flags, env=env)


def score(folder: Path, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    file = source(folder, 2, responses=["2", "3"])
    env = {"MAGPIE_API_KEY": KEY, "MAGPIE_LOG": str(folder / "job.log")} | environment
    return program(
        "gen_po_rewards", "--reward_model", url, "--input_file", file, "--output_file", folder / "out.jsonl", env=env
    )


def diagnose(folder: Path, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment(MAGPIE_BASE_URL=url, MAGPIE_API_KEY=KEY, **environment)
    return finished(command("doctor", "--problems"), env=env, timeout=100)


CALLERS = (ask, score, diagnose)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_and_the_prompt_follow_no_redirect_to_another_server(caller, status, tmp_path):
    with HostileServer(lambda request: request.reply(completion())) as thief:

        def lead_away(request: Request) -> None:
            request.reply({}, f"{status} Moved", Location=f"{thief.url}{request.path}")

        with HostileServer(lead_away, lists=False) as server:
            done = caller(tmp_path, server.url)
    assert not thief.requests
    told = done.stderr + done.stdout
    assert "another server" in told and "Traceback" not in told
    assert done.returncode == (1 if caller is diagnose else 2)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_prompt_follows_no_redirect_but_one_to_the_same_server(tmp_path):
    def lead(request: Request) -> None:
        if request.path == "/v1/chat/completions":
            request.reply({}, "307 Moved", Location="/v1/chat/completions/")
        else:
            request.reply(chat("it is 4"))

    with HostileServer(lead) as server:
        assert ask(tmp_path, server.url).returncode == 0
        assert json.loads(server.requests[-1].body)["messages"]
    assert [row["response"] for row in rows(tmp_path / "out.jsonl")] == ["it is 4"] * 2


@pytest.mark.parametrize("caller", CALLERS)
def test_no_proxy_is_between_us_and_this_machine(caller, tmp_path):
    with HostileServer(lambda request: request.reply({}, "502 Bad Gateway")) as proxy:
        address = proxy.url.removesuffix("/v1")
        variables = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), address)
        with HostileServer(lambda request: request.reply(chat() | {"data": [{"probs": [1.0]}]})) as server:
            done = caller(tmp_path, server.url, **variables)
        assert not proxy.requests
    assert done.returncode == 0 or (caller is diagnose and "problem  server" not in done.stdout), done.stderr


@pytest.mark.parametrize(
    ("url", "flags", "through"),
    [
        ("http://service.example/v1", (), True),
        ("http://service.example/v1", ("--proxy", ""), False),
        ("http://node17:8000/v1", (), False),
        ("http://10.1.2.3:9/v1", (), False),
    ],
)
def test_a_service_elsewhere_is_reached_through_the_proxy(url, flags, through, tmp_path):
    with HostileServer(lambda request: request.reply(chat("by proxy")), lists=False) as proxy:
        address = proxy.url.removesuffix("/v1")
        done = ask(tmp_path, url, *flags, "--outage", "1", http_proxy=address, no_proxy="") if not through else None
        if through:
            proxied = HostileServer(lambda request: request.reply(chat("by proxy")))
            with proxied:
                done = ask(tmp_path, url, http_proxy=proxied.url.removesuffix("/v1"), no_proxy="")
            assert done.returncode == 0, done.stderr
            assert {request.path for request in proxied.requests} >= {f"{url}/chat/completions"}
        else:
            assert not proxy.requests and done.returncode == 2


def test_a_named_proxy_is_for_every_server_that_is_not_here(tmp_path):
    with HostileServer(lambda request: request.reply(chat("by proxy"))) as proxy:
        done = ask(tmp_path, "http://node17:8000/v1", "--proxy", proxy.url.removesuffix("/v1"))
        assert done.returncode == 0, done.stderr
    for wrong, says in (("socks5://h:1", "http://host:3128"), ("http://a:secretword@h:1", "HTTPS_PROXY")):
        done = ask(tmp_path, "http://node17:8000/v1", "--proxy", wrong)
        assert done.returncode == 2 and says in done.stderr and "secretword" not in done.stderr


# --- replies that break off ---------------------------------------------------------------------------------------------


def short_body(request: Request) -> None:
    request.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"data"')


def no_status(request: Request) -> None:
    request.send(b"\x00\xff garbage\r\n\r\n")


def no_key(request: Request) -> None:
    request.reply({"data": [{"score": 1}]})


def no_number(request: Request) -> None:
    request.reply({"data": [{"probs": ["1"]}]})


def deep(request: Request) -> None:
    request.reply(b"[" * 100_000)


BROKEN = (short_body, no_status, no_key, no_number, deep)


@pytest.mark.parametrize("how", BROKEN)
def test_a_reward_server_that_breaks_off_is_asked_again(how, tmp_path):
    left = [how] * 3

    def answer(request: Request) -> None:
        left.pop()(request) if left and "use_activation" in request.body.decode() else request.reply(
            {"data": [{"probs": [2.5]}]}
        )

    with HostileServer(answer) as server:
        done = score(tmp_path, server.url)
    assert done.returncode == 0, done.stderr
    assert not left and [row["rewards"] for row in rows(tmp_path / "out.jsonl")] == [[2.5, 2.5]] * 2


def test_a_reward_server_that_never_answers_well_ends_the_run_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("magpie.rewards.remote.LONGEST_PAUSE", 0.05)
    with HostileServer(no_key) as server:
        done = score(tmp_path, server.url)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "does not answer like a reward server" in done.stderr


@pytest.mark.parametrize("how", [bomb, endless])
@pytest.mark.parametrize("caller", CALLERS)
def test_a_body_without_an_end_is_given_up(how, caller, tmp_path, monkeypatch):
    monkeypatch.setattr("magpie.client.client.MAX_ATTEMPTS", 2)
    monkeypatch.setattr("magpie.rewards.remote.MAX_ATTEMPTS", 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with HostileServer(how, lists=caller is not diagnose) as server:
        done = caller(tmp_path, server.url)
    assert "bytes" in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert done.returncode == (1 if caller is diagnose else 2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_the_limit_of_a_reply_follows_from_max_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr("magpie.client.client.MAX_ATTEMPTS", 1)
    text = " ".join(map(str, range(400_000)))
    with ScriptedServer(default=Reply(body=chat(text)), owned_by="x", routes=("chat/completions",), context=10**5) as server:
        assert "1,074,176 bytes" in ask(tmp_path, server.url, "--max_tokens", "100", count=1).stderr
        ask(tmp_path, server.url, "--max_tokens", "12000", "--overwrite", count=1)
        assert rows(tmp_path / "out.jsonl")[0]["response"] == text


# --- our key in what a server says --------------------------------------------------------------------------------------


def echo(status: str, *, body: bool = True, header: bool = False):
    def answer(request: Request) -> None:
        told = request.headers.get("authorization", "")
        escaped = told.replace("/", "\\/")
        content = f'{{"error": {{"message": "you sent {told} and {escaped}"}}}}'.encode() if body else b"{}"
        more = {"Retry_After": "1", "X_Key": told, "Location": f"http://127.0.0.1:1/{told.split()[-1]}"} if header else {}
        request.reply(content, status, **more)

    return answer


def echo_in_the_text(request: Request) -> None:
    told = request.headers.get("authorization", "")
    content = chat(f"your key is {told}", told, reasoning=f"hm {told}") | {"model": told}
    request.reply(content)


def key_of_the_status(request: Request) -> None:
    request.reply({}, f"418 {request.headers.get('authorization', '')}")


def key_that_breaks_the_json(request: Request) -> None:
    request.reply(f'{{"choices": "{request.headers.get("authorization", "")}"}}'.encode())


ECHOES = {
    "400": echo("400 Bad Request"),
    "401": echo("401 Unauthorized"),
    "404": echo("404 Not Found"),
    "422": echo("422 Unprocessable"),
    "429": echo("429 Too Many Requests", header=True),
    "500": echo("500 Internal Server Error"),
    "503": echo("503 Unavailable"),
    "302": echo("302 Found", header=True),
    "text": echo_in_the_text,
    "status": key_of_the_status,
    "json": key_that_breaks_the_json,
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.long] * (how == "503")) for how in ECHOES])
@pytest.mark.parametrize("lists", [True, False])
def test_a_key_that_a_server_echoes_is_nowhere(caller, how, lists, tmp_path, monkeypatch):
    if caller is diagnose and lists:
        pytest.skip("it asks for nothing but the list")
    monkeypatch.setattr("magpie.client.client.MAX_ATTEMPTS", 2)
    monkeypatch.setattr("magpie.client.client.MAX_RATE_LIMITED", 2)
    monkeypatch.setattr("magpie.client.client.MAX_OUTAGES", 2)
    monkeypatch.setattr("magpie.client.endpoint.BACK_OFF_SECONDS", 0.1)
    monkeypatch.setattr("magpie.rewards.remote.MAX_ATTEMPTS", 2)
    monkeypatch.setattr("magpie.rewards.remote.FIRST_WAIT", 1)
    monkeypatch.setattr("magpie.rewards.remote.OUTAGE", 1)
    with HostileServer(ECHOES[how], lists=lists) as server:
        done = caller(tmp_path, server.url, *(("--outage", "1") if caller is ask else ()))
        assert any(KEY in request.headers.get("authorization", "") for request in server.requests), "it was not sent"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    shown = (done.stdout + done.stderr).encode() + written
    for spelling in (KEY, KEY.replace("/", "\\/"), KEY[:12]):
        assert spelling.encode() not in shown, done.stderr
    assert b"Traceback" not in shown, done.stderr


SECRET_URLS = (
    "http://127.0.0.1:9/v1?api_key=sk-hidden-1",
    "http://user:sk-hidden-1@127.0.0.1:9/v1",
    "http://127.0.0.1:9/v1#sk-hidden-1",
    "http://127.0.0.1:9/v1,http://user:sk-hidden-1@127.0.0.1:9/v1",
)


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("caller", CALLERS)
def test_an_address_that_holds_a_key_is_refused_and_not_shown(caller, url, tmp_path):
    done = caller(tmp_path, url)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-hidden" not in done.stdout + done.stderr and b"sk-hidden" not in written
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert not (tmp_path / "out.part").exists()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/\x1b[31mv1", "http://127.0.0.1:9/v 1", "http://[::1/v1", "http://h:99999/v1"]
)
@pytest.mark.parametrize("caller", CALLERS)
def test_an_address_that_is_none_is_refused(caller, url, tmp_path):
    done = caller(tmp_path, url)
    assert done.returncode != 0 and "Traceback" not in done.stderr and "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize("key", ["sk-one\r\nX-Evil: 1", "sk-\x1b[31m", "sk-schlüssel"])
def test_a_key_with_a_line_break_is_refused(key, tmp_path):
    with ScriptedServer(owned_by="x", routes=("chat/completions",)) as server:
        done = ask(tmp_path, server.url, key=key)
    assert done.returncode == 2 and "MAGPIE_API_KEY" in done.stderr and "Traceback" not in done.stderr
    assert not server.model_calls and not server.history


def test_the_key_is_in_no_command_line(tmp_path):
    import psutil

    seen: list[str] = []

    def look(request: Request) -> None:
        for each in psutil.process_iter(["cmdline"]):
            seen.extend(each.info["cmdline"] or [])
        request.reply(chat())

    with HostileServer(look) as server:
        arguments = ("--model_path", "smollm2", "--served_model", MODEL, "--input_file", source(tmp_path), "--api", "chat")
        environment = {"MAGPIE_BASE_URL": server.url, "MAGPIE_API_KEY": KEY}
        done = process("gen_res", *arguments, "--output_file", tmp_path / "out.jsonl", env=environment)
    assert done.returncode == 0, done.stderr
    assert seen and not [word for word in seen if KEY in word]


def test_another_model_in_the_answer_is_told(tmp_path):
    bodies = [chat("a") | {"model": f"{MODEL}-2026-01-01"}, chat("b") | {"model": "cheap/other\x1b[31m"}]
    with ScriptedServer(*(Reply(body=body) for body in bodies), owned_by="x", routes=("chat/completions",)) as server:
        done = ask(tmp_path, server.url, "--max_in_flight", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("but the server reports cheap/other") == 1 and "\x1b[31m" not in done.stderr
    statistics = json.loads((tmp_path / "out.run.json").read_text())["statistics"]
    assert list(statistics["answered_by_other_models"].values()) == [1]


@pytest.mark.parametrize("count", [-1, 10**12, 10**23])
def test_a_count_of_tokens_that_cannot_be_true_is_not_added_up(count, tmp_path, monkeypatch):
    monkeypatch.setattr("magpie.client.client.MAX_ATTEMPTS", 1)
    body = chat() | {"usage": {"prompt_tokens": 3, "completion_tokens": count}}
    with ScriptedServer(default=Reply(body=body), owned_by="x", routes=("chat/completions",)) as server:
        done = ask(tmp_path, server.url)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out.run.json").read_text())["tokens"]["completion"] == 0
