"""The program in a model's response, and its answer to the problem."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.sandbox.sandbox import Outcome
from magpie.sandbox.worker import RAN
from magpie.verification.pool import Job, Judgement
from magpie.verification.votes import vote

KEYS = ("code", "code_answer", "code_state", "code_agrees", "code_votes", "code_sandbox")
NO_CODE, NO_OUTPUT = "no_code", "no_output"
LONGEST_ANSWER = 1000
"""Maximum characters of a program's last line that can be a final answer."""
_FENCE = re.compile(r"^[ \t]*```([^\n`]*)\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "py", "python3", "")


class CodePrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/code.yaml`: the question, with {problem} and {seconds}, and the problem's maximum characters in it."""

    question: str
    most_characters: int


def load_code_prompt() -> CodePrompt:
    """Return the prompt that asks for a program.

    Raises:
        MagpieError: `question` lacks the problem.
    """
    path = config_path("prompts", "code.yaml")
    prompt = load(path, CodePrompt)
    if "{problem}" not in prompt.question:
        raise MagpieError(f"{path}: `question` lacks {{problem}}")
    return prompt


def program_in(solution: str) -> str | None:
    """Return the program of a response (without its chain of thought): its last Python block, or None."""
    blocks = [code for language, code in _FENCE.findall(solution + "\n") if language.strip().lower() in _PYTHON]
    return next((code for code in reversed(blocks) if code.strip()), None)


@dataclass(frozen=True)
class Attempt:
    """One program, if any, and how it ended. `state`: the sandbox's, `no_code`, `no_output`, or why there was no response."""

    state: str
    code: str | None = None
    answer: str | None = None

    @classmethod
    def of(cls, code: str, outcome: Outcome) -> Attempt:
        """Return the attempt of a program that was run: its answer is the last line that it printed."""
        lines = [line.strip() for line in outcome.output.splitlines() if line.strip()]
        if outcome.state != RAN:
            return cls(outcome.state, code)
        return cls(RAN, code, lines[-1]) if lines and len(lines[-1]) <= LONGEST_ANSWER else cls(NO_OUTPUT, code)


def job_of(attempts: list[Attempt], record: dict[str, Any]) -> Job:
    """Return the job for the verifier: compare the programs' answers with one another and with the majority."""
    return Job([f"\\boxed{{{each.answer}}}" if each.answer is not None else "" for each in attempts], record["majority_answer"])


def checked(record: dict[str, Any], attempts: list[Attempt], judgement: Judgement, walls: str) -> dict[str, Any]:
    """Return a record with its programs' results.

    Of several programs the answer is the majority's, null on a tie; `code_agrees` is null if one of the answers is missing
    or the two could not be compared.
    """
    if len(attempts) == 1:
        winners = [0]
    else:
        winner = vote(judgement, has_reference=False).winner
        winners = [n for n, group in enumerate(judgement.groups) if group is not None and group == winner]
    shown = attempts[winners[0]] if winners else _commonest(attempts)
    answer = shown.answer if winners else None
    agrees = judgement.correct[winners[0]] if answer is not None and record["majority_answer"] is not None else None
    added: dict[str, Any] = {
        "code": shown.code,
        "code_answer": answer,
        "code_state": shown.state,
        "code_agrees": agrees,
        "code_sandbox": walls,
    }
    if len(attempts) > 1:
        added["code_votes"] = [{"answer": each.answer, "state": each.state} for each in attempts]
    return {key: value for key, value in record.items() if key not in KEYS} | added


def _commonest(attempts: list[Attempt]) -> Attempt:
    state = Counter(each.state for each in attempts).most_common(1)[0][0]
    return next(each for each in attempts if each.state == state)
