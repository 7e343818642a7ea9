"""The verifier as a reward for reinforcement learning, with TRL, verl and verifiers.

Rewards are verify.py's verdicts on a response: 1.0 for right, 0.0 for wrong or without a final answer, None where the two
answers cannot be compared (TRL leaves such a completion out). Answers are compared in worker processes with limits of time and
memory, one pool per process, created when first needed: threads share it, a forked process creates its own. As with anything
that starts processes, a training script needs `if __name__ == "__main__":`, because the workers import it too.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import Any

from magpie.text.reasoning import THINK
from magpie.verification.annotate import REFERENCE, job_of
from magpie.verification.pool import Limits, Verifier

Completion = str | Sequence[dict[str, Any]]
LIMITS = Limits()


class _Shared:
    """This process's verifier."""

    def __init__(self, start_method: str = "forkserver") -> None:
        self._start_method, self._lock = start_method, threading.Lock()
        self._verifier: Verifier | None = None

    def verifier(self) -> Verifier:
        """Return the verifier, with its workers."""
        with self._lock:
            if self._verifier is None:
                multiprocessing.current_process().daemon = False  # a data loader's worker may otherwise have none of its own
                self._verifier = Verifier(LIMITS, self._start_method).__enter__()  # pebble stops it when the process ends
            return self._verifier

    def close(self) -> None:
        """Stop the workers; the next call creates new ones."""
        with self._lock:
            if self._verifier is not None:
                self._verifier.__exit__()
                self._verifier = None


_shared = _Shared()


def _forget() -> None:
    """Let a forked process create its own: its parent's lock, workers and fork server are of no use to it."""
    global _shared
    _shared = _Shared("spawn")


os.register_at_fork(after_in_child=_forget)


def close() -> None:
    """Stop this process's workers; the next reward starts new ones."""
    _shared.close()


def text_of(completion: Completion) -> str:
    """Return the solution in a completion: its last message without the chain of thought; empty if that never ended."""
    text = completion if isinstance(completion, str) else (completion[-1].get("content") if completion else "")
    return THINK.split(str(text or ""))[1] or ""


def accuracy(completions: Sequence[Completion], ground_truth: Sequence[str | None], **_: Any) -> list[float | None]:
    """Return the rewards of TRL's completions, texts or messages; None if there is no answer or no verdict.

    For the columns of `export.py --format rlvr`: `GRPOTrainer(reward_funcs=magpie.reward.accuracy, …)`.
    """
    if len(completions) != len(ground_truth):
        raise ValueError(f"{len(completions)} completions, and {len(ground_truth)} answers to check against")
    jobs = []
    for index, (completion, truth) in enumerate(zip(completions, ground_truth, strict=True)):
        job = job_of({"responses": [text_of(completion)], REFERENCE: truth}) if truth else None
        if job is not None:
            jobs.append((index, job))
    rewards: list[float | None] = [None] * len(completions)
    for index, judgement in _shared.verifier().judge_all(jobs) if jobs else ():
        [correct] = judgement.correct
        rewards[index] = None if correct is None else float(correct)
    return rewards


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """Return the reward of a completion in verl's interface, which has no None: what cannot be compared gets 0.

    In its configuration: `custom_reward_function.path` is this file, `custom_reward_function.name` is compute_score.
    """
    return accuracy([solution_str], [ground_truth])[0] or 0.0


def correct_answer(completion: Completion, answer: str, **_: Any) -> float:
    """Return the reward of a completion in verifiers' interface: `vf.Rubric(funcs=[magpie.reward.correct_answer])`."""
    return accuracy([completion], [answer])[0] or 0.0
