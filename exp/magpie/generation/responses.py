"""Responses: generated row by row, split into chain of thought and solution, with their finish reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from magpie.client.chat_prompt import ChatPrompt, Prompt
from magpie.client.replies import Completion, Refused
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import ModelPreset, Sampling
from magpie.generation.appending import Earlier, earlier_responses, with_more
from magpie.generation.config import load_response_styles
from magpie.generation.continuation import ThinkingBudget, continued
from magpie.generation.preflight import ResponsePreflight
from magpie.generation.session import Session, Template
from magpie.generation.waves import FirstVotes, Waves
from magpie.models.checkpoint import files_hash
from magpie.models.reasoning_formats import load_formats
from magpie.records.reading import identified, read_rows
from magpie.records.rows import Row
from magpie.runs.jobs import model_name, single_responses
from magpie.runs.paths import Paths
from magpie.runs.run import Run
from magpie.text.degeneration import ends_in_loop, response_defect
from magpie.verification.early_stop import ALL

KEYS = (
    *("response", "responses", "reasoning", "finish_reason", "prompt_tokens", "completion_tokens", "gen_response_configs"),
    *("lost_responses", "votes_asked", "stop_reason", "response_models", "asked_by_model"),
)


@dataclass(frozen=True)
class ResponseOptions:
    """Flags of gen_res.py: the input, its responses, the run's seed."""

    input_file: Path
    num_responses: int
    append: bool
    response_style: str
    system_prompt: str | None
    retry_length: int | None
    thinking_budget: int | None
    preflight: int
    request_seeds: bool
    template_variables: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Response:
    """One finished response, or why it is unusable (`drop_reason`)."""

    completion: Completion
    reasoning: str | None
    solution: str
    finish_reason: str
    drop_reason: str = ""

    def defect(self, template: Template) -> str:
        """Return why the response is not fit to train on, or an empty text."""
        if self.finish_reason != "stop":
            return "repeats itself" if self.finish_reason == "repetition" else "never ends"
        if self.drop_reason:
            return "thought without end" if self.drop_reason == "truncated_reasoning" else "empty"
        marks = [mark for form in load_formats().values() for mark in (form.open, form.close)]
        return response_defect(self.reasoning, self.solution, template.added_tokens, marks)


def has_reference(record: dict[str, Any]) -> bool:
    """Whether the right answer is known: then the share of right ones is wanted, and all votes are requested."""
    return record.get("reference_answer") not in (None, "")


def read_response(completion: Completion, template: Template) -> Response:
    """Split a completion into chain of thought and solution, and classify how it ended."""
    cut = completion.finish_reason == "length"
    finish = "repetition" if ends_in_loop(completion.text, cut=cut) else completion.finish_reason
    reasoning, solution = template.reasoning.split(completion.text, opened=template.forced_think)
    drop = "truncated_reasoning" if solution is None else "" if solution else "empty_response"
    return Response(completion, reasoning, solution or "", finish, drop)


def as_lists(responses: list[Response]) -> dict[str, list[Any]]:
    """Return responses as the keys of a record."""
    return {
        "responses": [each.solution for each in responses],
        "reasoning": [each.reasoning for each in responses],
        "finish_reason": [each.finish_reason for each in responses],
        "completion_tokens": [each.completion.completion_tokens for each in responses],
    }


class ResponseGenerator:
    """Generates the responses to the rows of the input.

    Args:
        options: the stage's flags.
        preset: the model.
        sampling: settings of a response.
        waves: requests the responses in waves, and stops early; None: all at once.
    """

    def __init__(self, options: ResponseOptions, preset: ModelPreset, sampling: Sampling, waves: Waves | None = None) -> None:
        self._options, self._sampling, self._waves = options, sampling, waves
        self._style = load_response_styles()[options.response_style]
        self.configs: dict[str, Any] = {
            "output_generator": preset.model,
            "response_style": options.response_style,
            "system_prompt": options.system_prompt,
            **msgspec.structs.asdict(sampling),
            "retry_length": options.retry_length,
            "seed": options.seed,
        }
        if digest := files_hash(preset):
            self.configs["model_hash"] = digest
        if variables := {**preset.template_variables, **options.template_variables}:
            self.configs["template_variables"] = variables
        self._budget = ThinkingBudget(options.thinking_budget) if options.thinking_budget else None
        if options.thinking_budget:
            self.configs["thinking_budget"] = options.thinking_budget
        self._vote_configs = {key: value for key, value in self.configs.items() if key != "seed"}
        if waves:
            self.configs |= {"num_responses": waves.rule.votes, "stop_when": waves.rule.name}
        self._preflight, self._first = ResponsePreflight(0), FirstVotes(())

    def rows(self, run: Run) -> Iterator[tuple[int, Row]]:
        """Yield the input's rows that are not finished, each with its index."""
        at_once = self._waves.first if self._waves else self._options.num_responses
        asked = (run.rows - run.closed) * at_once - run.partials_there
        if self._waves:
            self._waves.load()
            found = [Paths.beside(made.output) for made in single_responses(self._options.input_file)]
            self._first = FirstVotes(path for paths in found for path in (paths.output, paths.dropped))
        self._preflight = ResponsePreflight(max(0, min(self._options.preflight, asked)))
        for index, row in enumerate(read_rows(self._options.input_file)):
            if not run.is_closed(index):
                yield index, row

    async def work(self, session: Session, item: tuple[int, Row]) -> None:
        """Finish one row."""
        index, row = item
        if row.record is None:
            session.drop(index, {"line": row.line, "raw": row.raw}, "malformed", row.problem)
            return
        record = identified(row, self._options.input_file)
        if not record["instruction"].strip():
            session.drop(index, record, "empty_instruction")
            return
        prompt, room = self.prompt(session, record["instruction"])
        if room < 1:
            session.drop(index, record, "prompt_too_long", f"{len(prompt)} tokens, the context is {session.client.context}")
            return
        found: dict[int, Response | Refused] = {
            slot: read_response(completion, session.template) for slot, completion in session.partials(index).items()
        }
        if self._waves and (vote := self._own_vote(self._first.of(record), session.template)):
            found.setdefault(0, vote)
        earlier = earlier_responses(record) if self._options.append else None
        own = earlier.of(model_name(self.configs)) if earlier else 0
        waves = self._waves if not has_reference(record) else None
        reason = await self._ask(session, prompt, room, index, found, waves, own)
        responses = {slot: result for slot, result in sorted(found.items()) if isinstance(result, Response)}
        refused = [result for result in found.values() if isinstance(result, Refused)]
        if earlier:
            self._append(session, index, record, earlier, found)
        elif responses:
            votes = {"votes_asked": len(found), "stop_reason": reason} if self._waves else {}
            self._write(session, index, record, list(responses.values()), lost=len(refused), votes=votes)
        else:
            session.drop(index, record, refused[0].reason, refused[0].detail)

    def prompt(self, session: Session, problem: str) -> tuple[Prompt, int]:
        """Return the prompt for a problem, and the maximum tokens of a response."""
        prompt = session.template.prompt(f"{self._style.before}{problem}{self._style.after}", self._options.system_prompt)
        return prompt, (session.client.context or 1 << 62) - len(prompt)

    async def _ask(
        self,
        session: Session,
        prompt: Prompt,
        room: int,
        index: int,
        found: dict[int, Response | Refused],
        waves: Waves | None,
        own: int,
    ) -> str:
        """Request the responses from the `own`-th that are not in `found`, in waves if set; return the stop reason."""
        asked = max(waves.first, *(slot + 1 for slot in found), 0) if waves else self._options.num_responses
        while True:
            missing = [slot for slot in range(own, asked) if slot not in found]
            async with asyncio.TaskGroup() as group:
                tasks = {slot: group.create_task(self.one(session, prompt, room, index, slot)) for slot in missing}
            found |= {slot: task.result() for slot, task in tasks.items()}
            if waves is None:
                return ALL
            there = [each for _, each in sorted(found.items()) if isinstance(each, Response)]
            more, reason = await waves.next([each.solution for each in there if not each.drop_reason], asked)
            if reason:
                return reason
            asked += more

    def _own_vote(self, record: dict[str, Any], template: Template) -> Response | None:
        """Return the job's response in a record, if it was sampled like a vote: it is the first vote."""
        configs, tokens = record.get("gen_response_configs") or {}, record.get("completion_tokens")
        alike = all(configs.get(key) == value for key, value in self._vote_configs.items())
        solution, finish = record.get("response"), record.get("finish_reason")
        if alike and (raw := record.get("raw_responses")):  # it was lost, and so is the vote
            return read_response(Completion(raw[0], "length", 0, 0, token_ids=None), template)
        if not (alike and solution and isinstance(tokens, int) and isinstance(finish, str)):
            return None
        completion = Completion(solution, finish, record.get("prompt_tokens") or 0, tokens, token_ids=None)
        return Response(completion, record.get("reasoning"), solution, finish)

    async def one(self, session: Session, prompt: Prompt, room: int, index: int, slot: int) -> Response | Refused:
        """Return the response in a slot of a record; one of several is stored in the run immediately."""
        number = self._preflight.next_number()
        try:
            response = await self._sample(session, prompt, room, index, slot)
        except Refused as error:
            self._preflight.judge(number, "", f"refused: {error.detail}")
            return error
        self._preflight.judge(number, response.completion.text, response.defect(session.template))
        if self._options.num_responses > 1:  # the others may still take hours
            session.keep_partial(index, slot, response.completion)
        return response

    async def _sample(self, session: Session, prompt: Prompt, room: int, index: int, slot: int) -> Response:
        settings = session.server_sampling(self._sampling)
        settings["max_tokens"] = min(settings["max_tokens"], room)
        if self._options.request_seeds:
            settings |= {"seed": hashed_seed(self._options.seed, index, slot)}
        if self._budget:
            completion = await self._budget.complete(session, prompt, settings, slot)
        else:
            completion = await session.client.complete(prompt, settings, end_loops=True, slot=slot)
        response = read_response(completion, session.template)
        limit = min(self._options.retry_length or 0, room)
        if response.finish_reason != "length" or limit <= settings["max_tokens"]:
            return response
        try:
            return read_response(await self._longer(session, prompt, settings, completion, limit), session.template)
        except Refused:
            return response

    async def _longer(
        self, session: Session, prompt: Prompt, settings: dict[str, Any], cut: Completion, limit: int
    ) -> Completion:
        """Continue a cut response up to `limit` tokens; if the server returns no token ids, generate a longer one."""
        if cut.token_ids is None or isinstance(prompt, ChatPrompt):
            whole = await session.client.complete(prompt, settings | {"max_tokens": limit}, end_loops=True)
            return replace(
                whole,
                prompt_tokens=cut.prompt_tokens + whole.prompt_tokens,
                completion_tokens=cut.completion_tokens + whole.completion_tokens,
            )
        return await continued(session, prompt, cut, settings, limit)

    def _write(
        self,
        session: Session,
        index: int,
        record: dict[str, Any],
        responses: list[Response],
        *,
        lost: int,
        votes: dict[str, Any],
    ) -> None:
        completions = [response.completion for response in responses]
        uncounted = completions if self._options.num_responses == 1 else []  # each of several was counted when it was kept
        good = [response for response in responses if not response.drop_reason]
        previous = {key: record[key] for key in KEYS if record.get(key) is not None}
        record = {key: value for key, value in record.items() if key not in KEYS}
        if previous:
            earlier = {"previous": record["previous"]} if record.get("previous") else {}
            record["previous"] = previous | earlier
        if not good:
            raw = {"raw_responses": [c.text for c in completions], "gen_response_configs": self.configs}
            session.drop(index, record | raw, responses[0].drop_reason, completions=uncounted)
            return
        prompt_tokens = {"prompt_tokens": completions[0].prompt_tokens}
        lists = as_lists(good)
        if self._options.num_responses == 1:
            added: dict[str, Any] = {key.removesuffix("s") if key == "responses" else key: v[0] for key, v in lists.items()}
        else:
            added = {**lists, **votes}
            if lost := lost + len(responses) - len(good):
                added["lost_responses"] = lost
        session.keep(index, record | added | prompt_tokens | {"gen_response_configs": self.configs}, uncounted)

    def _append(
        self, session: Session, index: int, record: dict[str, Any], earlier: Earlier, found: dict[int, Response | Refused]
    ) -> None:
        """Write a record with its earlier responses and the new ones."""
        made = [result for _, result in sorted(found.items()) if isinstance(result, Response)]
        uncounted = [each.completion for each in made] if self._options.num_responses == 1 else []
        lists = as_lists([each for each in made if not each.drop_reason])
        whole = with_more(record, earlier, lists, model_name(self.configs), len(found), self.configs)
        if whole["responses"]:
            session.keep(index, whole, uncounted)
        else:
            session.drop(index, whole, "no_response", completions=uncounted)
