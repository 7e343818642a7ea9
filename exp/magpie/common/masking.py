"""Our own keys: masked in every foreign text that is shown or stored."""

from __future__ import annotations

import html
import json
import os
from functools import cache
from urllib.parse import quote, quote_plus

VARIABLES = ("MAGPIE_API_KEY", "VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SHORTEST = 6
"""Minimum characters of a masked key: servers that need none get `EMPTY`, `none`, `x`, which also occur in texts."""
MASK = "[key]"
_kept: set[str] = set()


def keep_secret(key: str) -> None:
    """Also mask a key that is not in VARIABLES."""
    _kept.add(key)


def masked(text: str) -> str:
    """Return the text without our keys, plain or escaped as in JSON, URLs and HTML."""
    for secret in _kept | {os.environ.get(name, "").strip() for name in VARIABLES}:
        if len(secret) >= SHORTEST:
            for spelling in _spellings(secret):
                text = text.replace(spelling, MASK)
    return text


@cache
def _spellings(secret: str) -> list[str]:
    in_json = json.dumps(secret)[1:-1]
    found = {secret, in_json, in_json.replace("/", "\\/"), quote(secret, safe=""), quote_plus(secret), html.escape(secret)}
    return sorted(found, key=len, reverse=True)
