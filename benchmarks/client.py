"""The client's cost per answer: CPU time of gen_res.py against a server that answers at once.

    python benchmarks/client.py [--tokens 400] [--answers 3000] [--rounds 3] [--other OTHER_CHECKOUT]

The server is a separate process that sends prepared bytes in vLLM's format; consecutive answers differ. Each round requests
few and many answers, so that start-up cancels out: the difference in CPU time is divided by that in answers. With
--other the same is done, in turns, with another checkout's programs. Target: below 1 ms for 400 tokens, on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
FEW = 200
TEXT = """the sum of first two terms gives us a value we can put into equation and solve for $x$ = so that $n^2 + 1$ is even
hence each side must be equal to \\frac{3}{4} times which leaves remainder by then factor area triangle"""
WORDS = TEXT.split()


def answer(number: int, tokens: int) -> str:
    """Return a unique text of about so many tokens, with sentences and paragraphs."""
    draw = random.Random(number)
    words = [draw.choice(WORDS) + draw.choice(("", "", "", "", ",", ".", ".\n\n")) for _ in range(int(tokens / 1.4))]
    return f"{' '.join(words)} The answer is \\boxed{{{number}}}."


def reply(number: int, tokens: int, *, with_ids: bool) -> bytes:
    """Return a complete HTTP reply as vLLM sends it."""
    choice = {"index": 0, "text": answer(number, tokens), "logprobs": None, "finish_reason": "stop", "stop_reason": 2}
    if with_ids:
        draw = random.Random(number)
        choice |= {"token_ids": [draw.randrange(49_000) for _ in range(tokens)], "prompt_token_ids": list(range(500, 560))}
    usage = {"prompt_tokens": 60, "total_tokens": 60 + tokens, "completion_tokens": tokens, "prompt_tokens_details": None}
    body = {
        "id": f"cmpl-{number}",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return http(json.dumps(body).replace('"m"', '"HuggingFaceTB/SmolLM2-135M-Instruct"').encode())


def http(body: bytes, status: str = "200 OK") -> bytes:
    """Return a reply around a body."""
    return (
        f"HTTP/1.1 {status}\r\ndate: Fri, 27 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\n"
        "content-type: application/json\r\n\r\n"
    ).encode() + body


class Instant(asyncio.Protocol):
    """Answers every request on a connection at once, with prepared bytes."""

    ready: dict[bool, list[bytes]]
    models: bytes
    sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin without anything read."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport, self._read = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._read) < end + 4 + length:
                return
            body, self._read = self._read[end + 4 : end + 4 + length], self._read[end + 4 + length :]
            self._transport.write(self._answer(head, body))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"get"):
            return Instant.models
        if len(body) < 3:  # the probe for the route
            return http(b'{"error": "no model"}', "400 Bad Request")
        Instant.sent += 1
        ready = Instant.ready[b'"return_token_ids":true' in body]
        return ready[Instant.sent % len(ready)]


def serve(tell: Connection, tokens: int) -> None:
    """Serve until killed; report the port."""
    Instant.ready = {with_ids: [reply(n, tokens, with_ids=with_ids) for n in range(500)] for with_ids in (False, True)}
    listed = {"id": "HuggingFaceTB/SmolLM2-135M-Instruct", "owned_by": "vllm", "max_model_len": 8192}
    Instant.models = http(json.dumps({"object": "list", "data": [listed]}).encode())

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def processor_seconds(project: Path, port: int, folder: Path, answers: int, window: int, profile: Path | None = None) -> float:
    """Run a checkout's gen_res.py on a number of problems and return its CPU time, user and system."""
    given, made = folder / f"{answers}.jsonl", folder / "made.jsonl"
    rows = ({"id": f"p-{n:06d}", "instruction": f"What is {n} + {n * 7}, and is it a prime number?"} for n in range(answers))
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        *(["-m", "cProfile", "-o", str(profile)] if profile else []),
        str(project / "exp" / "gen_res.py"),
    ]
    command += ["--model_path", "smollm2", "--base_url", f"http://127.0.0.1:{port}/v1", "--overwrite", "--preflight", "0"]
    command += ["--input_file", str(given), "--output_file", str(made), "--max_tokens", "1024", "--max_in_flight", str(window)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
    environment["PYTHONPATH"] = str(project / "exp")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr  # noqa: S101
    said = process.stderr.read().decode("utf-8", "replace")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or made.read_bytes().count(b"\n") != answers:
        raise SystemExit(f"gen_res.py failed: {said[-3000:]}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the rounds and print milliseconds of CPU time per answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=400, help="tokens per answer (default 400)")
    parser.add_argument("--answers", type=int, default=3000, help="answers per round (default 3000)")
    parser.add_argument("--window", type=int, default=256, help="requests in flight (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    parser.add_argument("--other", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--profile", type=Path, help="write cProfile's figures of one run to this file, and do nothing else")
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, args.tokens), daemon=True)
    server.start()
    projects = {"this": PROJECT} | ({"other": args.other.resolve()} if args.other else {})
    found: dict[str, list[float]] = {name: [] for name in projects}
    with tempfile.TemporaryDirectory() as name:
        port, folder = ours.recv(), Path(name)
        if args.profile:
            processor_seconds(PROJECT, port, folder, args.answers, args.window, args.profile)
            return
        for number in range(args.rounds):
            for which, project in projects.items():
                few = processor_seconds(project, port, folder, FEW, args.window)
                many = processor_seconds(project, port, folder, FEW + args.answers, args.window)
                found[which].append(1000 * (many - few) / args.answers)
                print(f"round {number + 1}, {which}: {found[which][-1]:.2f} ms per answer", flush=True)
    server.terminate()
    middle = {which: statistics.median(values) for which, values in found.items()}
    for which, value in middle.items():
        print(f"{which}: {value:.2f} ms of CPU time per answer of {args.tokens} tokens ({1000 / value:,.0f}/s a core)")
    if args.other:
        print(f"this by other: {middle['this'] / middle['other']:.2f}")


if __name__ == "__main__":
    main()
