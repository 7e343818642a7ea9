"""Prompts for a server that applies the chat template itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from magpie.common.console import MagpieError
from magpie.text.reasoning import CLOSE, OPEN, THINK, ReasoningFormat

SPECIAL_TOKEN_START = re.compile(rf"<(?=[|｜])|<(?={OPEN[1:]}|{CLOSE[1:]})")
"""The start of a special token in the usual templates: the service's own template is not known."""
CHARACTERS_PER_TOKEN = 2
"""A cautious guess without a tokenizer (English has about four, formulas fewer)."""


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt as messages; its length in tokens is an estimate."""

    messages: list[dict[str, str]]

    def __len__(self) -> int:
        return sum(len(message["content"]) for message in self.messages) // CHARACTERS_PER_TOKEN + 1


Prompt = list[int] | ChatPrompt
"""Token ids, or messages."""


class HostedTemplate:
    """The stand-in for a `ChatTemplate` if only the server knows the template.

    Args:
        reasoning: how the model writes its chain of thought, if the server leaves it in the text.
        variables: for the server to pass to its template.
    """

    forced_think = False
    left_off = unknown_tag = ""
    added_tokens: Sequence[str] = ()

    def __init__(self, reasoning: ReasoningFormat = THINK, variables: Mapping[str, Any] | None = None) -> None:
        self.reasoning, self.variables = reasoning, dict(variables or {})

    def prompt(self, user: str, system: str | None = None, *, thinking: bool = True) -> ChatPrompt:
        """Return a user's turn. `thinking` has no effect: the service decides about it."""
        first = [{"role": "system", "content": system}] if system else []
        return ChatPrompt([*first, {"role": "user", "content": user}])

    def escape_special_tokens(self, text: str) -> str:
        """Return the text without anything that looks like a chat-template token."""
        return SPECIAL_TOKEN_START.sub("< ", text)

    def frame(self, system: str | None = None) -> NoReturn:
        """Refuse to give a pre-query prefix.

        Raises:
            MagpieError: always.
        """
        raise MagpieError(
            "problems need /v1/completions: only there can a user's turn be left open, and this server has chat completions "
            "only. Make the problems with a server of your own (vLLM); this one can answer, tag and judge them"
        )
