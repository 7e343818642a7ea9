"""What stands for a chat template where a server has it to itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from magpie.common.console import MagpieError
from magpie.text.reasoning import CLOSE, OPEN

if TYPE_CHECKING:
    pass
MARKS = re.compile(rf"<(?=[|｜])|<(?={OPEN[1:]}|{CLOSE[1:]})")
"""What opens a special token of the usual templates: nobody knows the service's own."""
CHARACTERS_A_TOKEN = 2
"""A cautious guess where there is no tokenizer (English has about four, formulas fewer)."""


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt as messages; its length is a guess of its tokens."""

    messages: list[dict[str, str]]

    def __len__(self) -> int:
        return sum(len(message["content"]) for message in self.messages) // CHARACTERS_A_TOKEN + 1


Prompt = list[int] | ChatPrompt


class HostedTemplate:
    """What stages ask of a chat template, for a server that has the template to itself (`templates.ChatTemplate` otherwise)."""

    forced_think = False
    added_tokens: Sequence[str] = ()

    def prompt(self, user: str, system: str | None = None, *, thinking: bool = True) -> ChatPrompt:
        """Return one user's turn. Whether the model thinks first is the service's affair."""
        first = [{"role": "system", "content": system}] if system else []
        return ChatPrompt([*first, {"role": "user", "content": user}])

    def harmless(self, text: str) -> str:
        """Return a text in which nothing looks like a token of a chat template."""
        return MARKS.sub("< ", text)

    def frame(self, system: str | None = None) -> NoReturn:
        """Refuse: there is no prefix to write a problem from."""
        raise MagpieError(
            "problems need /v1/completions: only there can a user's turn be left open, and this server has chat completions "
            "only. Make the problems with a server of your own (vLLM); it can answer, tag and judge them"
        )
