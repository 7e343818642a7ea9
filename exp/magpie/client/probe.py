"""Probing a server before any work is sent to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from magpie.client.http_session import HttpSession, one_line
from magpie.client.replies import ServerUnusable, TransientError
from magpie.common.console import MagpieError, log, printable

Api = Literal["auto", "completions", "chat"]
"""Which of OpenAI's interfaces to use; `auto`: completions, unless the server has chat completions only."""
PROBE_TIMEOUT = 30.0
NO_SUCH_ROUTE = (404, 405, 501)
ENGINE = re.compile(rb'^vllm:num_requests_running\{[^}]*engine="(\d{1,5})"', re.MULTILINE)
"""A line in vLLM's metrics for each engine behind the address."""
MOST_COPIES = 64


class Unreachable(Exception):
    """No server answers at an address; the message is for the user."""


@dataclass(frozen=True)
class ServerInfo:
    """What a server can do.

    Attributes:
        chat: prompts go to it as messages (chat completions).
        is_vllm: it is vLLM, and takes parameters that only vLLM knows.
        is_llama_cpp: it is llama.cpp's server, which takes other parameters.
        copies: copies of the model behind the address, each with its own window of requests.
        context: of the model in tokens, prompt and completion together; None: unknown.
    """

    chat: bool
    is_vllm: bool = False
    context: int | None = None
    is_llama_cpp: bool = False
    copies: int = 1


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    meta: _Meta | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


async def probe(http: HttpSession, url: str, model: str, api: Api) -> ServerInfo:
    """Return what the server at a base URL can do with a model.

    Raises:
        Unreachable: no server answers.
        MagpieError: the server cannot do the work.
    """
    where = f"{printable(url)}/models"
    status, body = await _get(http, f"{url}/models")
    if status in (401, 403):
        raise MagpieError(f"{where} refuses the key (HTTP {status}). Put the right one into MAGPIE_API_KEY")
    if status == 429 or status >= 500:
        raise Unreachable(f"{where} answers HTTP {status}. Is the server behind it up?")
    if status in NO_SUCH_ROUTE and api == "chat":
        return ServerInfo(chat=True)  # a service need not list its models
    found = _find_model(status, body, model, where)
    is_vllm = found.owned_by == "vllm"
    chat = api == "chat" or (api == "auto" and not is_vllm and await _has_only_chat(http, url))
    is_llama_cpp = found.owned_by == "llamacpp"
    if is_llama_cpp and not chat:
        log.info(
            "%s is llama.cpp's server: it returns no token ids (a cut response is regenerated, not continued; no "
            "--first_token_temperature, no --ban_markdown), and shows special tokens only if started with --special",
            printable(url),
        )
    context = found.max_model_len or (found.meta.n_ctx if found.meta else None)
    return ServerInfo(chat, is_vllm and not chat, context, is_llama_cpp, await _copies(http, url) if is_vllm else 1)


async def _copies(http: HttpSession, url: str) -> int:
    """Return the number of engines behind a vLLM server's address; 1 if it does not say."""
    try:
        _, body = await _get(http, f"{url.removesuffix('/v1')}/metrics")
    except (MagpieError, Unreachable):
        return 1
    return min(len(set(ENGINE.findall(body))) or 1, MOST_COPIES)


async def _get(http: HttpSession, url: str) -> tuple[int, bytes]:
    """Return the status and the body of a page.

    Raises:
        Unreachable: no server answers.
        MagpieError: it is not a URL.
    """
    import aiohttp

    try:
        reply = await http.get(url, seconds=PROBE_TIMEOUT)
        return reply.status, reply.body
    except ServerUnusable as error:
        raise MagpieError(f"{printable(url)} cannot be used ({error})") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        base_url = printable(url.removesuffix("/models"))
        raise MagpieError(f"'{base_url}' is not a URL. Give --base_url like http://host:8000/v1") from error
    except (aiohttp.ClientError, TransientError, TimeoutError, OSError) as error:
        raise Unreachable(
            f"no server answers at {printable(url)} ({one_line(error)}). "
            "Check --base_url (MAGPIE_BASE_URL), and that the server is up"
        ) from error


def _find_model(status: int, body: bytes, name: str, where: str) -> _Model:
    """Return a model from the list of those served.

    Raises:
        MagpieError: there is no such list, or the model is not in it.
    """
    try:
        if status != 200:
            raise msgspec.DecodeError(f"HTTP {status}")
        models = msgspec.json.decode(body, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MagpieError(
            f"{where} is not an OpenAI-compatible server ({printable(str(error), 200)}). --base_url usually ends in /v1"
        ) from error
    served = {model.id: model for model in models}
    if name not in served:
        names = printable(", ".join(served) or "nothing", 300)
        raise MagpieError(
            f"{where} does not serve {name}, but {names}. Name one of those with --model_path, or with "
            "--served_model if it is the same model under another name"
        )
    return served[name]


async def _has_only_chat(http: HttpSession, url: str) -> bool:
    """Return whether a server has no route for completions: one that has it rejects an empty request, not the route."""
    import aiohttp

    try:
        missing = (await http.post(f"{url}/completions", {}, seconds=PROBE_TIMEOUT)).status in NO_SUCH_ROUTE
    except (aiohttp.ClientError, ServerUnusable, TransientError, TimeoutError, OSError):
        return False
    if missing:
        log.info("%s has chat completions only", printable(url))
    return missing
