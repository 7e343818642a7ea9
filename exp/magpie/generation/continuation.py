"""Continued responses: one that was cut, and one whose chain of thought is ended at a limit (budget forcing)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from magpie.client.chat_prompt import HostedTemplate, Prompt
from magpie.client.replies import Completion, Refused
from magpie.common.console import MagpieError, log
from magpie.common.masking import masked
from magpie.generation.session import Session, Template
from magpie.models.reasoning_formats import load_last_thought

FIELD = "thinking_token_budget"
"""vLLM's own limit (0.32; it wants --reasoning-parser or --reasoning-config). Older versions accept and ignore it."""
TRIAL_TOKENS = 64
"""The probe: a thought of one token, and the words with which a server may end it."""


async def continued(
    session: Session, prompt: list[int], cut: Completion, settings: dict[str, Any], limit: int, ending: str = ""
) -> Completion:
    """Return a cut response, continued after `ending` up to `limit` tokens in total."""
    template = session.own_template
    added = template.encode(ending) if ending else []
    ids = (template.encode(cut.text) if cut.token_ids is None else cut.token_ids) + added
    if len(ids) >= limit:
        return cut
    more = await session.client.complete(prompt + ids, settings | {"max_tokens": limit - len(ids)}, end_loops=True)
    whole = None if None in (cut.token_ids, more.token_ids) else ids + (more.token_ids or [])
    return replace(
        more,
        text=cut.text + ending + more.text if whole is None else masked(template.decode(whole)),
        prompt_tokens=cut.prompt_tokens,
        completion_tokens=cut.completion_tokens + more.completion_tokens,
        token_ids=whole,
    )


class ThinkingBudget:
    """A limit on the tokens of a chain of thought, after which the model has to answer.

    A server that shows that it obeys `FIELD` ends the thought itself. Elsewhere the response is cut there, its thought is ended
    with `load_last_thought`, and it is continued.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens, self._trial = tokens, asyncio.Lock()
        self._server_obeys: bool | None = None

    @staticmethod
    def check(template: Template) -> None:
        """Refuse a template that only the server knows: nothing can be continued after it."""
        if isinstance(template, HostedTemplate):
            raise MagpieError(
                "--thinking_budget needs /v1/completions: this server has chat completions only, which cannot end a thought "
                "early. Leave it out, and use the service's own setting: --template_variables reasoning_effort=low"
            )

    async def complete(self, session: Session, prompt: Prompt, settings: dict[str, Any], slot: int) -> Completion:
        """Return a response whose chain of thought is within the limit."""
        assert isinstance(prompt, list)  # noqa: S101 - see `check`
        obeys, own, form = await self._is_obeyed(session, prompt, settings), session.own_template, session.template.reasoning
        limit = {FIELD: self._tokens} if obeys else {"max_tokens": min(self._tokens, settings["max_tokens"])}
        first = await session.client.complete(prompt, settings | limit, end_loops=True, slot=slot)
        ids = own.encode(first.text) if first.token_ids is None else first.token_ids
        thought, solution = form.split(first.text, opened=own.forced_think)
        if obeys and len(own.encode(thought or "")) > self._tokens + TRIAL_TOKENS:
            log.warning("the server let a thought exceed --thinking_budget: from now on thoughts are ended from here")
            self._server_obeys, solution, ids = False, None, ids[: self._tokens]
        elif first.finish_reason == "repetition" or (solution is not None and (obeys or first.finish_reason != "length")):
            return first
        ending = ""
        if solution is None:
            session.count("thoughts_ended", 1)
            ending = f"\n\n{load_last_thought()}{form.ending}"
        ids = ids[:-1] if ids and ids[-1] in own.ends.ids else ids
        cut = replace(first, text=own.decode(ids), token_ids=ids, finish_reason="length")
        return await continued(session, prompt, cut, settings, settings["max_tokens"], ending)

    async def _is_obeyed(self, session: Session, prompt: list[int], settings: dict[str, Any]) -> bool:
        """Return whether the server ends a thought at a limit, by trying a limit of one token at the start."""
        async with self._trial:
            if self._server_obeys is None:
                self._server_obeys = session.client.is_vllm and await self._try(session, prompt, settings)
                by = "the server" if self._server_obeys else "this program, which then asks for the answer"
                log.info("thoughts are ended at %d tokens by %s", self._tokens, by)
        return self._server_obeys

    async def _try(self, session: Session, prompt: list[int], settings: dict[str, Any]) -> bool:
        try:
            shown = await session.client.complete(prompt, settings | {FIELD: 1, "max_tokens": TRIAL_TOKENS})
        except Refused:
            return False
        form = session.template.reasoning
        return bool(form.close) and form.close in shown.text
