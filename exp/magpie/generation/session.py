"""What the generating stages share: from checked arguments to a finished file."""

from __future__ import annotations

import argparse
import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from magpie.client.chat_prompt import HostedTemplate, Prompt
from magpie.client.client import Client
from magpie.client.rate_limit import Prices, RateLimits
from magpie.client.replies import Completion
from magpie.common.console import MagpieError, log
from magpie.common.progress import StageBar
from magpie.config.model_presets import ModelPreset, Sampling
from magpie.models.chat_template import ChatTemplate
from magpie.models.hardware import this_machine
from magpie.runs.run import Run
from magpie.runs.stage import begins, shard_of
from magpie.runs.summary import show_examples, show_summary
from magpie.serving.parallelism import layout
from magpie.serving.server import connect

T = TypeVar("T")
THINKING_ROOM = 4096
"""Tokens beside those of an answer that a program reads: nobody keeps a service's model from thinking first."""
Template = ChatTemplate | HostedTemplate


@dataclass
class Session:
    """What a stage's work on one record needs."""

    run: Run
    client: Client
    template: Template
    bar: StageBar
    prices: Prices | None = None

    @property
    def own_template(self) -> ChatTemplate:
        """The model's chat template, for what is written in token ids.

        Raises:
            MagpieError: only the server knows it.
        """
        return self.template.frame() if isinstance(self.template, HostedTemplate) else self.template

    def keep(self, index: int, record: dict[str, Any], completions: list[Completion]) -> None:
        """Write a finished record and show it in the bar."""
        self.run.keep(index, record, **_tokens(completions))
        self._tick(1)

    def keep_partial(self, index: int, place: int, completion: Completion) -> None:
        """Write one finished answer of a record whose others are missing, and show it in the bar."""
        answer = {"text": completion.text, "finish_reason": completion.finish_reason, **_tokens([completion])}
        self.run.keep_partial(index, place, answer, **_tokens([completion]))
        self._tick(0)

    def partials(self, index: int) -> dict[int, Completion]:
        """Return what earlier sessions have finished of a record, by place."""
        return {place: Completion(**answer, token_ids=None) for place, answer in self.run.partials(index).items()}

    def drop(
        self,
        index: int,
        record: dict[str, Any],
        reason: str,
        detail: str = "",
        *,
        completions: list[Completion] | None = None,
        replaced: bool = False,
    ) -> None:
        """Write a record to what is left out and show it in the bar."""
        completions = completions or []
        self.run.drop(index, record, reason, detail, replaced=replaced, **_tokens(completions))
        self._tick(int(not replaced))

    def _tick(self, closed: int) -> None:
        if self.prices:
            totals = self.run.totals
            cost = self.prices.cost(totals.prompt_tokens, totals.completion_tokens)
            totals.statistics["cost_in_dollars"] = round(cost, 6)
        run = self.run
        self.bar.update(closed=closed, dropped=run.totals.dropped.total(), answers=run.partials_there)

    def server_sampling(self, sampling: Sampling) -> dict[str, Any]:
        """Return the request's sampling settings, with the ends of a turn by id where the server knows that."""
        settings: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if self.client.is_vllm:
            # Special tokens are shown: one inside a text is a leak that somebody should see.
            settings["skip_special_tokens"] = False
            if sampling.top_k is not None:
                settings["top_k"] = sampling.top_k
        return settings | self._ends()

    def answer_to_read(
        self, prompt: Prompt, max_tokens: int, name: str = "", schema: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the settings of a request whose answer a program reads: greedy, and held to a JSON schema if there is one."""
        if self.client.chat:
            max_tokens += THINKING_ROOM
        if self.client.context:
            max_tokens = max(1, min(max_tokens, self.client.context - len(prompt)))
        settings = {"temperature": 0.0, "max_tokens": max_tokens, **self._ends()}
        if schema is None:
            return settings
        named = {"name": name, "schema": schema, "strict": True}
        return settings | {"response_format": {"type": "json_schema", "json_schema": named}}

    def _ends(self) -> dict[str, Any]:
        """Return what ends a turn: by id where the server knows that."""
        if isinstance(self.template, HostedTemplate):
            return {}
        if self.client.is_vllm:
            return {"stop_token_ids": self.template.stop_token_ids, "add_special_tokens": False}
        return {"stop": self.template.stop_strings}


def _tokens(completions: list[Completion]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(c.prompt_tokens for c in completions),
        "completion_tokens": sum(c.completion_tokens for c in completions),
    }


def generate(
    run: Run,
    preset: ModelPreset,
    args: argparse.Namespace,
    items: Iterable[T],
    work: Callable[[Session, T], Awaitable[None]],
    *,
    try_template: Callable[[Template], object],
) -> bool:
    """Do a generating stage: check, connect, work on every item, finish, show. Return whether anything was made.

    Args:
        run: the stage's run, not yet checked.
        preset: the model.
        args: the stage's arguments, with those of `flags.add_model` and `flags.add_run`.
        items: what there is to work on, drawn as places in the window become free.
        work: finishes one item with `Session.keep` or `Session.drop`.
        try_template: renders a prompt as `work` will, so that a template that cannot do it is refused before a model is loaded.
    """
    if not begins(run, overwrite=args.overwrite, check=args.check):
        return False
    if not args.base_url:
        layout(preset, this_machine())  # what does not fit is refused before anything is loaded
    template = open_template(preset, args)
    try_template(template)
    if preset.pre_query_template is None and isinstance(template, ChatTemplate):
        prefix = template.frame().pre_query
        log.info("pre-query prefix, derived from the tokenizer: %r, token ids %s", prefix, template.encode(prefix))
    with_server(run, preset, args, template, items, work, overwrite=args.overwrite, try_template=try_template)
    show_examples(run.paths.output)
    show_summary(run.stage, run.paths, run.totals)
    return True


def open_template(preset: ModelPreset, args: argparse.Namespace) -> Template:
    """Return the model's chat template, or what stands for it where only the server knows it (`--api chat`)."""
    if args.api == "chat":
        if not args.base_url:
            raise MagpieError("--api chat is for a server of somebody else's. Name it with --base_url (MAGPIE_BASE_URL)")
        return HostedTemplate()
    return ChatTemplate(preset, args.tokenizer)


def with_server(
    run: Run,
    preset: ModelPreset,
    args: argparse.Namespace,
    template: Template,
    items: Iterable[T],
    work: Callable[[Session, T], Awaitable[None]],
    *,
    overwrite: bool,
    try_template: Callable[[Template], object] = lambda _: None,
) -> None:
    """Connect to the server(s) of `args`, or start one, work on every item and finish the run's files.

    `try_template` is called again where the server turns out to have chat completions only.
    """
    shard = shard_of(args)
    # two shards' own servers must not write the same samples
    settings: dict[str, Any] = {
        "log_dir": run.paths.output.parent / "logs",
        "seed": args.seed,
        "replica": shard.number if shard else 0,
    }
    with connect(preset, args.base_url, **settings) as connection:
        client = Client(
            connection,
            args.served_model or preset.model,
            max_in_flight=args.max_in_flight,
            outage=args.outage,
            timeout=args.request_timeout,
            api=args.api,
            limits=RateLimits(args.requests_per_minute, args.tokens_per_minute),
        )
        prices = None
        if args.prompt_price is not None or args.completion_price is not None:
            prices = Prices(args.prompt_price or 0.0, args.completion_price or 0.0)

        async def work_on_all() -> None:
            async with client:  # the server has been met before anything earlier is overwritten
                known = template
                if client.chat and isinstance(template, ChatTemplate):
                    known = HostedTemplate()
                    try_template(known)
                run.notes["window"] = client.pool.capacity  # requests in flight at most, for who watches
                with run.session(overwrite=overwrite):
                    bar = StageBar(
                        run.stage.removesuffix(".py"),
                        run.rows,
                        run.closed,
                        each=getattr(args, "num_responses", 1),
                        answers=run.partials_there,
                        load=client.load,
                    )
                    with bar:
                        session = Session(run, client, known, bar, prices)
                        await client.for_each(items, functools.partial(work, session))
                    run.finish()
                for share in client.pool.shares():
                    log.info("%s", share)

        asyncio.run(work_on_all())
