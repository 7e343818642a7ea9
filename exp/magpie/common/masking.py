"""Our own keys: wherever a text from elsewhere is shown or stored, they are masked in it."""

from __future__ import annotations

import html
import json
import os
from functools import cache
from urllib.parse import quote, quote_plus

VARIABLES = ("MAGPIE_API_KEY", "VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SHORTEST = 6
"""Characters of a key that is masked: servers that need none are given `EMPTY`, `none`, `x`, which are words of texts too."""
MASK = "[key]"
_kept: set[str] = set()


def keep_secret(key: str) -> None:
    """Mask a key that is in none of VARIABLES."""
    _kept.add(key)


def masked(text: str) -> str:
    """Return the text without our keys, as they are or as JSON, URLs and HTML write them."""
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
