"""Differences in what servers accept."""

from __future__ import annotations

from typing import Any

from magpie.client.replies import Refused

OPTIONAL = {"response_format": "JSON schemas", "stream": "requests for streams"}
"""Optional fields, and those whose names begin like them."""


def translate_for_llama_cpp(body: dict[str, Any]) -> None:
    """Translate a request for llama.cpp's server.

    Its samplers are on unless a request says otherwise (top_k 40, min_p 0.05), and completions take a JSON schema under
    another key; under `response_format` they ignore it.
    """
    body.setdefault("top_k", 0)
    body.setdefault("min_p", 0.0)
    if "prompt" in body and (form := body.pop("response_format", None)):
        body["json_schema"] = form["json_schema"]["schema"]


def optional(body: dict[str, Any], error: Refused) -> str | None:
    """Return the field of a request that the server refuses, if it is optional."""
    is_about = error.detail if error.reason == "request_refused" else ""
    return next((name for name in OPTIONAL if name in body and name in is_about), None)
