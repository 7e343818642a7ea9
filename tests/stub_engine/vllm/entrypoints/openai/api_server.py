"""`python -m vllm.entrypoints.openai.api_server --model FOLDER …`: an HTTP server, and an engine core without which it dies.

STUB_DELAY: seconds that every answer takes (default 0.01).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

CORE = "import time; time.sleep(3600)  # the engine core"
SUM = re.compile(r"What is (\d+) \+ (\d+)\?")


class Engine:
    """What the server answers from."""

    def __init__(self, args: argparse.Namespace) -> None:
        from tokenizers import Tokenizer

        self.args = args
        self.tokenizer = Tokenizer.from_file(str(Path(args.model) / "tokenizer.json"))
        self.chance = random.Random(args.seed)
        self.delay = float(os.environ.get("STUB_DELAY", "0.01"))
        self.key = os.environ.get("VLLM_API_KEY", "")

    def write(self, prompt: str, body: dict[str, Any]) -> str:
        """Return what a model would write: a problem in a user's turn, JSON under a schema, the solution of a sum elsewhere."""
        if schema := body.get("response_format", {}).get("json_schema", {}).get("schema"):
            return json.dumps(made(schema))
        if turn := re.search(r"user\W*(\w[\w ]*)?$", prompt[-80:], re.I):  # empty, or opened by some words
            return (" this: " if turn[1] else "") + f"What is {self.chance.randint(2, 999)} + {self.chance.randint(2, 999)}?"
        found = SUM.search(prompt)
        total = sum(map(int, found.groups())) + (self.chance.random() < 0.25) if found else 0
        return f"I add the two numbers, attempt {self.chance.randint(1, 10**6)}. The answer is \\boxed{{{total}}}."

    async def complete(self, request: web.Request) -> web.Response:
        """Answer as vLLM does."""
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "wrong key"}, status=401)
        body = await request.json()
        if not body:
            return web.json_response({"error": "no model"}, status=400)
        chat = request.path.endswith("/chat/completions")
        ids = body.get("prompt", [])
        prompt = body["messages"][-1]["content"] if chat else self.tokenizer.decode(ids, skip_special_tokens=False)
        await asyncio.sleep(self.delay)
        text = self.write(prompt, body)
        written = self.tokenizer.encode(text, add_special_tokens=False).ids
        cut = len(written) > body["max_tokens"]
        if cut:
            written = written[: body["max_tokens"]]
            text = self.tokenizer.decode(written, skip_special_tokens=False)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if cut else "stop", "token_ids": written}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(written)}
        return web.json_response({"id": "c", "choices": [choice], "usage": usage})

    async def models(self, _: web.Request) -> web.Response:
        """List the one model."""
        model = {"id": self.args.served_model_name, "owned_by": "vllm", "max_model_len": self.args.max_model_len}
        return web.json_response({"object": "list", "data": [model]})


def made(schema: dict[str, Any]) -> Any:
    """Return the plainest value that a JSON schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: made(inner) for name, inner in schema["properties"].items()}
    return {"array": [], "integer": 1, "number": 1.0, "boolean": True}.get(schema.get("type", ""), "made")


async def serve(args: argparse.Namespace, core: subprocess.Popen[bytes]) -> None:
    """Serve until killed, or until the engine core is gone."""
    engine = Engine(args)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_get("/health", lambda _: asyncio.sleep(0, web.Response()))
    app.router.add_get("/v1/models", engine.models)
    for route in ("completions", "chat/completions"):
        app.router.add_post(f"/v1/{route}", engine.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, args.host, args.port).start()
    print(f"{time.time():.0f} the stub engine serves {args.served_model_name} on port {args.port}", flush=True)
    while core.poll() is None:  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(0.05)
    raise RuntimeError("the engine core is dead")


def main() -> None:
    """Read the flags that matter here, and leave the others alone."""
    parser = argparse.ArgumentParser()
    for name in ("model", "served-model-name", "host"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("port", 8000), ("seed", 0), ("max-model-len", 4096)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args, _ = parser.parse_known_args()
    if args.max_model_len > 100_000:
        sys.exit("ValueError: max_model_len is larger than the model's")
    asyncio.run(serve(args, subprocess.Popen([sys.executable, "-c", CORE])))


if __name__ == "__main__":
    main()
