"""The check of one record: its programs are requested, run in the sandbox, compared with its votes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from magpie.client.chat_prompt import Prompt
from magpie.client.replies import Completion, Refused
from magpie.code_check.programs import NO_CODE, Attempt, checked, job_of, load_code_prompt, program_in
from magpie.common.console import MagpieError
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import Sampling
from magpie.generation.session import Session, Template
from magpie.runs.run import Run
from magpie.runs.stage import open_rows
from magpie.sandbox.sandbox import Sandbox
from magpie.verification.pool import Job, Judgement, Verifier

Item = tuple[int, dict[str, Any]]


def require_votes(record: dict[str, Any]) -> None:
    """Refuse a record that was not verified.

    Raises:
        MagpieError: it was not.
    """
    if "majority_answer" not in record:
        raise MagpieError(
            f"the record {record.get('id')!r} has no `majority_answer`: a program's answer is compared with the votes. "
            "Run verify.py first, on a file with several responses per problem"
        )


class CodeChecker:
    """Checks the records of a run.

    Args:
        sandbox: where programs run.
        verifier: compares answers.
        sampling: of a response.
        programs: number per problem.
        seconds: processor time of a program, which the prompt names.
        seed: the run's.
    """

    def __init__(
        self, sandbox: Sandbox, verifier: Verifier, sampling: Sampling, *, programs: int, seconds: float, seed: int
    ) -> None:
        self._sandbox, self._verifier, self._sampling = sandbox, verifier, sampling
        self._programs, self._seconds, self._seed = programs, seconds, seed
        self._prompt = load_code_prompt()
        self.states: Counter[str] = Counter()
        self.agreement: Counter[bool | None] = Counter()

    def items(self, run: Run, input_file: Path) -> Iterator[Item]:
        """Yield the records that are not finished.

        Raises:
            MagpieError: one of them was not verified.
        """
        for index, record in open_rows(run, input_file):
            require_votes(record)
            yield index, record

    def question(self, problem: str) -> str:
        """Return the words that ask for a program. The problem comes last: it may hold anything, our placeholders too."""
        text = self._prompt.question.replace("{seconds:g}", f"{self._seconds:g}")
        return text.replace("{problem}", problem[: self._prompt.most_characters])

    async def check(self, session: Session, item: Item) -> None:
        """Finish one record."""
        index, record = item
        prompt = session.template.prompt(self.question(record["instruction"]))
        found = await asyncio.gather(*(self._attempt(session, prompt, index, n) for n in range(self._programs)))
        attempts = [attempt for attempt, _ in found]
        judgement = await asyncio.to_thread(self._judge, job_of(attempts, record))
        record = checked(record, attempts, judgement, self._sandbox.walls)
        self.states.update(attempt.state for attempt in attempts)
        self.agreement[record["code_agrees"]] += 1
        session.keep(index, record, [completion for _, completion in found if completion])

    def _judge(self, job: Job) -> Judgement:
        return next(judgement for _, judgement in self._verifier.judge_all([(0, job)]))

    async def _attempt(self, session: Session, prompt: Prompt, index: int, number: int) -> tuple[Attempt, Completion | None]:
        settings = session.server_sampling(self._sampling)
        room = (session.client.context or 1 << 62) - len(prompt)
        if room < 1:
            return Attempt("prompt_too_long"), None
        settings["max_tokens"] = min(settings["max_tokens"], room)
        if self._programs > 1 and self._sampling.temperature:
            settings["seed"] = hashed_seed(self._seed, index, number)
        try:
            completion = await session.client.complete(prompt, settings)
        except Refused as error:
            return Attempt(error.reason), None
        template = session.template
        _, solution = template.reasoning.split(completion.text, opened=template.forced_think)
        code = program_in(solution or "")
        if code is None:
            return Attempt(NO_CODE), completion
        return Attempt.of(code, await self._sandbox.run(code)), completion


def trial(checker: CodeChecker, template: Template) -> None:
    """Render a prompt as `check` will."""
    template.prompt(checker.question("1 + 1?"))
