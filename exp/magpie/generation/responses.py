"""Answers: one row at a time, split into chain of thought and solution, marked by how they ended."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from magpie.client.chat_prompt import ChatPrompt, Prompt
from magpie.client.replies import Completion, Refused
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import Sampling
from magpie.generation.config import load_response_styles
from magpie.generation.session import Session
from magpie.records.reading import Row, read_rows, stem_of
from magpie.runs.run import Run
from magpie.text.degeneration import ends_in_loop
from magpie.text.reasoning import split_reasoning

KEYS = (
    "response",
    "responses",
    "reasoning",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "gen_response_configs",
)


@dataclass(frozen=True)
class Answer:
    """One finished answer, or why there is none (`drop_reason`)."""

    completion: Completion
    reasoning: str | None
    solution: str
    finish_reason: str
    drop_reason: str = ""


def judge(completion: Completion, *, forced_think: bool) -> Answer:
    """Split a completion and say how it ended."""
    cut = completion.finish_reason == "length"
    finish = "repetition" if ends_in_loop(completion.text, cut=cut) else completion.finish_reason
    reasoning, solution = split_reasoning(completion.text, forced_think=forced_think)
    drop = "truncated_reasoning" if solution is None else "" if solution else "empty_response"
    return Answer(completion, reasoning, solution or "", finish, drop)


class Answerer:
    """Answers rows of the input."""

    def __init__(self, args: argparse.Namespace, model: str, sampling: Sampling) -> None:
        self._args, self._sampling = args, sampling
        self._style = load_response_styles()[args.response_style]
        self._configs = {
            "output_generator": model,
            "response_style": args.response_style,
            "system_prompt": args.system_prompt,
            **msgspec.structs.asdict(sampling),
            "retry_length": args.retry_length,
            "seed": args.seed,
        }

    def rows(self, run: Run) -> Iterator[tuple[int, Row]]:
        """Yield the input's rows that are not finished, each with its place."""
        for index, row in enumerate(read_rows(self._args.input_file)):
            if not run.is_closed(index):
                yield index, row

    async def answer(self, session: Session, item: tuple[int, Row]) -> None:
        """Finish one row."""
        index, row = item
        if row.record is None:
            session.drop(index, {"line": row.line, "raw": row.raw}, "malformed", row.problem)
            return
        record = self._with_id(row)
        if not record["instruction"].strip():
            session.drop(index, record, "empty_instruction")
            return
        user = f"{self._style.before}{record['instruction']}{self._style.after}"
        prompt = session.template.prompt(user, self._args.system_prompt)
        room = (session.client.context or 1 << 62) - len(prompt)
        if room < 1:
            session.drop(index, record, "prompt_too_long", f"{len(prompt)} tokens, the model takes {session.client.context}")
            return
        places = range(self._args.num_responses)
        earlier = session.partials(index)
        async with asyncio.TaskGroup() as group:
            missing = [place for place in places if place not in earlier]
            tasks = {place: group.create_task(self._one(session, prompt, room, index, place)) for place in missing}
        think = session.template.forced_think
        results = [judge(earlier[n], forced_think=think) if n in earlier else tasks[n].result() for n in places]
        answers = [result for result in results if isinstance(result, Answer)]
        refused = [result for result in results if isinstance(result, Refused)]
        if answers:
            self._write(session, index, record, answers, lost=len(refused))
        else:
            session.drop(index, record, refused[0].reason, refused[0].detail)

    def _with_id(self, row: Row) -> dict[str, Any]:
        assert row.record is not None  # noqa: S101
        if row.record.get("id") is not None:
            return row.record
        return {"id": f"{stem_of(self._args.input_file)}-{row.line:06d}"} | row.record

    async def _one(self, session: Session, prompt: Prompt, room: int, index: int, number: int) -> Answer | Refused:
        try:
            answer = await self._sample(session, prompt, room, index, number)
        except Refused as error:
            return error
        if self._args.num_responses > 1:  # the others may take hours yet
            session.keep_partial(index, number, answer.completion)
        return answer

    async def _sample(self, session: Session, prompt: Prompt, room: int, index: int, number: int) -> Answer:
        settings = session.server_sampling(self._sampling)
        settings["max_tokens"] = min(settings["max_tokens"], room)
        if self._args.request_seeds:
            settings |= {"seed": hashed_seed(self._args.seed, index, number)}
        completion = await session.client.complete(prompt, settings)
        answer = judge(completion, forced_think=session.template.forced_think)
        longer = min(self._args.retry_length or 0, room)
        if answer.finish_reason != "length" or longer <= settings["max_tokens"]:
            return answer
        try:
            longer_completion = await self._longer(session, prompt, settings, completion, longer)
        except Refused:
            return answer
        return judge(longer_completion, forced_think=session.template.forced_think)

    async def _longer(
        self, session: Session, prompt: Prompt, settings: dict[str, Any], cut: Completion, longer: int
    ) -> Completion:
        """Let a cut answer go on where it stopped; where the server gives no token ids, make a longer one anew."""
        if cut.token_ids is None or isinstance(prompt, ChatPrompt):
            whole = await session.client.complete(prompt, settings | {"max_tokens": longer})
            return replace(
                whole,
                prompt_tokens=cut.prompt_tokens + whole.prompt_tokens,
                completion_tokens=cut.completion_tokens + whole.completion_tokens,
            )
        left = longer - len(cut.token_ids)
        more = await session.client.complete(prompt + cut.token_ids, settings | {"max_tokens": left})
        ids = cut.token_ids + (more.token_ids or [])
        return replace(
            more,
            text=session.own_template.decode(ids),
            prompt_tokens=cut.prompt_tokens,
            completion_tokens=cut.completion_tokens + more.completion_tokens,
            token_ids=ids,
        )

    def _write(self, session: Session, index: int, record: dict[str, Any], answers: list[Answer], *, lost: int) -> None:
        completions = [answer.completion for answer in answers]
        uncounted = completions if self._args.num_responses == 1 else []  # of several each was counted when it was kept
        good = [answer for answer in answers if not answer.drop_reason]
        previous = {key: record[key] for key in KEYS if record.get(key) is not None}
        record = {key: value for key, value in record.items() if key not in KEYS}
        if previous:
            earlier = {"previous": record["previous"]} if record.get("previous") else {}
            record["previous"] = previous | earlier
        if not good:
            raw = {"raw_responses": [c.text for c in completions], "gen_response_configs": self._configs}
            session.drop(index, record | raw, answers[0].drop_reason, completions=uncounted)
            return
        prompt_tokens = {"prompt_tokens": completions[0].prompt_tokens}
        lists: dict[str, list[Any]] = {
            "response": [a.solution for a in good],
            "reasoning": [a.reasoning for a in good],
            "finish_reason": [a.finish_reason for a in good],
            "completion_tokens": [a.completion.completion_tokens for a in good],
        }
        if self._args.num_responses == 1:
            added: dict[str, Any] = {key: values[0] for key, values in lists.items()}
        else:
            added = {"responses": lists.pop("response"), **lists}
            if lost := lost + len(answers) - len(good):
                added["lost_responses"] = lost
        session.keep(index, record | added | prompt_tokens | {"gen_response_configs": self._configs}, uncounted)
