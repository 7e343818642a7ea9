"""Findings on services elsewhere: the hub and the servers of MAGPIE_BASE_URL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

from magpie.client.address_files import checked_url
from magpie.common.console import MagpieError, printable
from magpie.doctor.finding import SET_UP, Finding, read_text

TIMEOUT_SECONDS = 5.0


def hub_home(environment: dict[str, str], home: Path) -> Path:
    """Return the folder in which the hub's client keeps its token and, below it, the models that it has downloaded."""
    return Path(environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface")


def check_login(environment: dict[str, str], home: Path) -> Iterator[Finding]:
    """Yield the finding on the login of the hub. It never shows the token."""
    folder = hub_home(environment, home)
    file = Path(environment.get("HF_TOKEN_PATH") or folder / "token")
    if environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        yield Finding("ok", "hub", "a token is in HF_TOKEN")
    elif file.is_file() and file.stat().st_size:
        yield Finding("ok", "hub", "logged in")
    else:
        remedy = "only for gated models (Llama, Gemma) and --push_to_hub: .venv/bin/hf auth login, or set HF_TOKEN"
        yield Finding("note", "hub", "not logged in", remedy)
    if environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        yield Finding(
            "note", "hub", "HF_HUB_OFFLINE is set: only models on this disk", "unset HF_HUB_OFFLINE to download others"
        )


def check_servers(listed: str, key: str) -> Iterator[Finding]:
    """Yield a finding on each server of MAGPIE_BASE_URL, which may name files that list them (@FILE): the models it serves."""
    urls: list[str] = []
    for part in filter(None, (each.strip() for each in listed.split(","))):
        if not part.startswith("@"):
            urls.append(part)
            continue
        lines = (line.partition("#")[0].strip() for line in read_text(part[1:]).splitlines())
        urls += (found := [line for line in lines if line])
        if not found:
            what = "lists no server" if Path(part[1:]).is_file() else "no such file"
            yield Finding(
                "problem", "server", f"{part[1:]}: {what}", "list the servers' URLs in it, one per line; it is reread"
            )
    for url in dict.fromkeys(url.rstrip("/") for url in urls):
        yield _server(url, key)


def _server(url: str, key: str) -> Finding:
    remedy = "check MAGPIE_BASE_URL (it usually ends in /v1), MAGPIE_API_KEY, and that the server is up"
    try:
        url = checked_url(url, "MAGPIE_BASE_URL")
    except MagpieError as error:  # the URL itself is not shown: it may hold a key
        return Finding("problem", "server", str(error), remedy)
    try:
        models = asyncio.run(_models_of(url, key.strip()))
    except ImportError as error:
        return Finding("note", "server", f"{url} is checked once the set-up is complete ({error.name} is missing)", SET_UP)
    except (MagpieError, ValueError, KeyError, TypeError) as error:
        return Finding("problem", "server", f"{url}: {str(error) or type(error).__name__}", remedy)
    return Finding("ok", "server", f"{url} serves {', '.join(models)}")


async def _models_of(url: str, key: str) -> list[str]:
    """Return the models that a server lists.

    Raises:
        MagpieError, ValueError, KeyError, TypeError: it lists none.
        ImportError: the HTTP client, which the set-up installs, is missing.
    """
    import aiohttp

    from magpie.client.http_session import HttpSession, one_line
    from magpie.client.replies import ServerUnusable, TransientError

    try:
        async with HttpSession(key, TIMEOUT_SECONDS) as http:
            reply = await http.get(f"{url}/models")
    except (aiohttp.ClientError, ServerUnusable, TransientError, OSError, TimeoutError) as error:
        raise MagpieError(str(error) if isinstance(error, ServerUnusable) else one_line(error)) from error
    if reply.status != 200:
        raise MagpieError(f"HTTP {reply.status}")
    return [printable(str(model["id"]), 100) for model in json.loads(reply.body)["data"]]
