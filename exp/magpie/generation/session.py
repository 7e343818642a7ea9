"""A stage that queries a model: from its checked arguments, through a server, to its finished file."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from magpie.client.address_files import parse_addresses
from magpie.client.ceiling import Ceiling, Limits, recorded
from magpie.client.chat_prompt import HostedTemplate, Prompt
from magpie.client.client import Client
from magpie.client.rate_limit import Prices, RateLimits
from magpie.client.replies import Completion
from magpie.common.console import CeilingReached, MagpieError, again, log
from magpie.common.progress import StageBar
from magpie.config.model_presets import ModelPreset, Sampling
from magpie.models.chat_template import ChatTemplate
from magpie.models.hardware import this_machine
from magpie.models.reasoning_formats import format_named
from magpie.runs.run import Run
from magpie.runs.stage import RunOptions, begins
from magpie.runs.summary import show_examples, show_summary
from magpie.serving.parallelism import layout
from magpie.serving.server import connect
from magpie.text.reasoning import THINK

T = TypeVar("T")
THINKING_TOKENS = 4096
"""Added to the limit of machine-readable responses: a service's model cannot be kept from thinking first."""
Template = ChatTemplate | HostedTemplate


@dataclass(frozen=True)
class ModelOptions:
    """Flags of a model and its server (`cli.flags.add_model`), and the run's seed."""

    served_model: str | None
    tokenizer: str | None
    base_url: str | None
    max_in_flight: int
    outage: int
    request_timeout: int
    api: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    proxy: str | None
    prompt_price: float | None
    completion_price: float | None
    max_tokens_total: int | None
    max_seconds: float | None
    max_cost: float | None
    template_variables: dict[str, Any]
    seed: int

    @property
    def prices(self) -> Prices | None:
        """The service's prices, if one was given."""
        if self.prompt_price is None and self.completion_price is None:
            return None
        return Prices(self.prompt_price or 0.0, self.completion_price or 0.0)

    def __post_init__(self) -> None:
        """Refuse a limit of cost without a price."""
        if self.max_cost is not None and not self.prices:
            raise MagpieError("--max_cost needs the prices of the tokens: --prompt_price and --completion_price")

    @property
    def limits(self) -> Limits:
        """The run's ceiling."""
        return Limits(self.max_tokens_total, self.max_seconds, self.max_cost, self.prices)

    @property
    def client_settings(self) -> dict[str, Any]:
        """Settings of `client.Client`."""
        return {
            "max_in_flight": self.max_in_flight,
            "outage": self.outage,
            "timeout": self.request_timeout,
            "api": self.api,
            "proxy": self.proxy,
            "limits": RateLimits(self.requests_per_minute, self.tokens_per_minute),
        }


@dataclass(frozen=True)
class SamplingOptions:
    """Flags of sampling (`cli.flags.add_sampling`); None means the model's preset."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None

    def over(self, preset: Sampling) -> Sampling:
        """Return the preset's settings, overridden by these."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return msgspec.structs.replace(preset, **given)


@dataclass
class Session:
    """A run with its server, for the work on one record."""

    run: Run
    client: Client
    template: Template
    bar: StageBar
    prices: Prices | None = None

    @property
    def own_template(self) -> ChatTemplate:
        """The model's chat template, for prompts in token ids.

        Raises:
            MagpieError: only the server knows the template.
        """
        return self.template.frame() if isinstance(self.template, HostedTemplate) else self.template

    def keep(self, index: int, record: dict[str, Any], completions: list[Completion]) -> None:
        """Write a finished record and update the bar."""
        self.run.keep(index, record, **_tokens(completions))
        self._tick(1, completions)

    def keep_partial(self, index: int, slot: int, completion: Completion) -> None:
        """Write one finished response of a record that still lacks others, and update the bar."""
        response = {"text": completion.text, "finish_reason": completion.finish_reason, **_tokens([completion])}
        self.run.keep_partial(index, slot, response, **_tokens([completion]))
        self._tick(0, [completion])

    def partials(self, index: int) -> dict[int, Completion]:
        """Return the responses to a record that earlier sessions finished, by slot."""
        return {slot: Completion(**response, token_ids=None) for slot, response in self.run.partials(index).items()}

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
        """Write a record to the dropped file and update the bar."""
        completions = completions or []
        self.run.drop(index, record, reason, detail, replaced=replaced, **_tokens(completions))
        self._tick(int(not replaced), completions)

    def _tick(self, closed: int, completions: list[Completion]) -> None:
        recorded()
        for each in completions:
            if each.saved_tokens:
                self.count("loops_ended", 1)
                self.count("tokens_saved_at_most", each.saved_tokens)
        if self.prices:
            totals = self.run.totals
            cost = self.prices.cost(totals.prompt_tokens, totals.completion_tokens)
            totals.statistics["cost_in_dollars"] = round(cost, 6)
        run = self.run
        self.bar.update(closed=closed, dropped=run.totals.dropped.total(), answers=run.partials_there)

    def count(self, name: str, more: int) -> None:
        """Add to one of the run's own figures, which the summary shows."""
        figures = self.run.totals.statistics
        figures[name] = figures.get(name, 0) + more

    def server_sampling(self, sampling: Sampling, *, users_turn: bool = False) -> dict[str, Any]:
        """Return a request's sampling settings, and what ends the turn: an assistant's, or a user's."""
        settings: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if self.client.is_vllm:
            # Special tokens are kept: one inside a text is a leak that cleaning should see.
            settings["skip_special_tokens"] = False
        if sampling.top_k is not None and (self.client.is_vllm or self.client.pool.info.is_llama_cpp):
            settings["top_k"] = sampling.top_k
        return settings | self._ends(users_turn=users_turn)

    def greedy_settings(
        self, prompt: Prompt, max_tokens: int, name: str = "", schema: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the settings for a machine-readable response, constrained to a JSON schema if given."""
        if self.client.chat:
            max_tokens += THINKING_TOKENS
        if self.client.context:
            max_tokens = max(1, min(max_tokens, self.client.context - len(prompt)))
        settings = {"temperature": 0.0, "max_tokens": max_tokens, **self._ends()}
        if schema is None:
            return settings
        named = {"name": name, "schema": schema, "strict": True}
        return settings | {"response_format": {"type": "json_schema", "json_schema": named}}

    def _ends(self, *, users_turn: bool = False) -> dict[str, Any]:
        """Return what ends a turn: token ids for vLLM, else strings; a service gets the variables of its template."""
        if isinstance(self.template, HostedTemplate):
            return {"chat_template_kwargs": self.template.variables} if self.template.variables else {}
        ends = self.template.user_ends if users_turn else self.template.ends
        if self.client.is_vllm:
            return {"stop_token_ids": ends.ids, "add_special_tokens": False}
        return {"stop": ends.texts}


def _tokens(completions: list[Completion]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(c.prompt_tokens for c in completions),
        "completion_tokens": sum(c.completion_tokens for c in completions),
    }


def generate(
    run: Run,
    preset: ModelPreset,
    model: ModelOptions,
    options: RunOptions,
    items: Iterable[T],
    work: Callable[[Session, T], Awaitable[None]],
    *,
    try_template: Callable[[Template], object],
    responses: int = 1,
) -> bool:
    """Run a generating stage: check, connect, work on every item, finish, show. Return whether anything was generated.

    Args:
        run: the stage's run, not yet checked.
        preset: the model.
        model: where the model is served, and how.
        options: how to run the stage.
        items: the items to work on, drawn as slots of the window become free.
        work: finishes one item with `Session.keep` or `Session.drop`.
        try_template: renders a prompt as `work` will, so that a template that cannot do so is refused before a model is loaded.
        responses: responses per record, for the bar.
    """
    if model.base_url:
        parse_addresses(model.base_url)
    if not begins(run, overwrite=options.overwrite, check=options.check):
        return False
    if not model.base_url:
        layout(preset, this_machine())  # a model that does not fit is refused before anything is loaded
    template = open_template(preset, model)
    try_template(template)
    if preset.pre_query_template is None and isinstance(template, ChatTemplate):
        prefix = template.frame().pre_query
        log.info("pre-query prefix, derived from the tokenizer: %r, token ids %s", prefix, template.encode(prefix))
    with_server(run, preset, model, options, template, items, work, try_template=try_template, responses=responses)
    show_examples(run.paths.output)
    show_summary(run.stage, run.paths, run.totals)
    return True


def open_template(preset: ModelPreset, model: ModelOptions) -> Template:
    """Return the model's chat template, or its stand-in if only the server knows it (`--api chat`)."""
    if model.api == "chat":
        if not model.base_url:
            raise MagpieError("--api chat is for someone else's server. Name it with --base_url (MAGPIE_BASE_URL)")
        return hosted_template(preset, model)
    return ChatTemplate(preset, model.tokenizer, model.template_variables)


def hosted_template(preset: ModelPreset, model: ModelOptions) -> HostedTemplate:
    """Return the stand-in for the template of a server that applies its own."""
    named = format_named(preset.reasoning, preset.model) if preset.reasoning else THINK
    return HostedTemplate(named, {**preset.template_variables, **model.template_variables})


def with_server(
    run: Run,
    preset: ModelPreset,
    model: ModelOptions,
    options: RunOptions,
    template: Template,
    items: Iterable[T],
    work: Callable[[Session, T], Awaitable[None]],
    *,
    try_template: Callable[[Template], object] = lambda _: None,
    responses: int = 1,
) -> None:
    """Connect to the server(s) of `model`, or start one, work on every item and finish the run's files; see `generate`.

    `try_template` is called again if the server turns out to have chat completions only.
    """

    async def work_on_all(client: Client) -> None:
        async with client:  # the server has been probed before an earlier run's files are overwritten
            known = template
            if client.chat and not isinstance(template, HostedTemplate):  # it applies its own template
                try_template(known := hosted_template(preset, model))
            run.notes["ceiling"] = model.limits.named
            run.notes["window"] = client.pool.capacity  # the maximum in flight, for --watch
            with run.session(overwrite=options.overwrite):
                with _bar(run, client, responses) as bar:
                    session = Session(run, client, known, bar, model.prices)
                    ceiling.begin(*run.taken)
                    why = await _work_on_all(run, client, items, functools.partial(work, session))
                if client.other_models:
                    run.totals.statistics["answered_by_other_models"] = dict(client.other_models)
                run.finish(partial=bool(why))
            for share in client.pool.shares():
                log.info("%s", share)
            if why:
                show_summary(run.stage, run.paths, run.totals)
                raise CeilingReached(why)

    ceiling = Ceiling(model.limits)
    ceiling.begin(*run.taken)
    ceiling.require_room()

    # two shards' own servers must not write the same samples
    replica = options.shard.number if options.shard else 0
    logs = run.paths.output.parent / "logs"
    with connect(preset, model.base_url, log_dir=logs, seed=model.seed, replica=replica) as connection:
        run.made_with = connection.made_with
        client = Client(connection, model.served_model or preset.model, ceiling=ceiling, **model.client_settings)
        asyncio.run(work_on_all(client))


async def _work_on_all(run: Run, client: Client, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> str:
    """Work on every item, and return the ceiling that kept some from being done.

    If the server refused every request, the rows are not done, and are requested again.

    Raises:
        MagpieError: see `Client`; or all requests were refused.
    """
    try:
        await client.for_each(items, work)
        if (refusal := client.all_refused) and not run.totals.completion_tokens:
            raise MagpieError(f"every request was refused ({refusal}). Check the settings and the server's log, then {again()}")
    except MagpieError:
        if client.all_refused and not run.totals.completion_tokens:
            run.forget()
        raise
    except CeilingReached:  # the time is up
        pass
    return client.ceiling.reached if run.closed < run.rows else ""


def _bar(run: Run, client: Client, responses: int) -> StageBar:
    before, ceiling = run.spent_before(), run.notes["ceiling"]
    name, there = run.stage.removesuffix(".py"), run.partials_there

    def words() -> list[str]:
        return run.totals.words(before, ceiling, run.taken[2])

    return StageBar(name, run.rows, run.closed, each=responses, answers=there, load=client.load, more=words)
