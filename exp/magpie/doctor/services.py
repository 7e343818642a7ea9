"""Findings on services elsewhere: the hub and the servers of MAGPIE_BASE_URL."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from magpie.doctor.finding import Finding, read_text

TIMEOUT_SECONDS = 5


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
        yield Finding("note", "hub", "HF_HUB_OFFLINE is set: only models on this disk", "unset HF_HUB_OFFLINE to get others")


def check_servers(listed: str, key: str) -> Iterator[Finding]:
    """Yield a finding on each server of MAGPIE_BASE_URL, which may name files that list them (@FILE): the models it serves."""
    urls: list[str] = []
    for part in filter(None, (each.strip() for each in listed.split(","))):
        if not part.startswith("@"):
            urls.append(part.rstrip("/"))
            continue
        lines = (line.partition("#")[0].strip() for line in read_text(part[1:]).splitlines())
        urls += (found := [line.rstrip("/") for line in lines if line])
        if not found:
            what = "lists no server" if Path(part[1:]).is_file() else "no such file"
            yield Finding(
                "problem", "server", f"{part[1:]}: {what}", "list the servers' URLs in it, one per line; it is reread"
            )
    for url in dict.fromkeys(urls):
        yield _server(url, key)


def _server(url: str, key: str) -> Finding:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError("no URL")
        request = urllib.request.Request(f"{url}/models", headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310
            models = [str(model["id"]) for model in json.loads(reply.read(10**6))["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "check MAGPIE_BASE_URL (it usually ends in /v1), MAGPIE_API_KEY, and that the server is up"
        return Finding("problem", "server", f"{url}: {error or type(error).__name__}", remedy)
    return Finding("ok", "server", f"{url} serves {', '.join(models)}")
