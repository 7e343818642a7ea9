"""The verifier as a reward: what verify.py says, in threads, in processes and within limits."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import program, rows
from magpie import reward

CASES = [
    ("It is \\boxed{\\frac{1}{2}}.", "0.5"),
    ("\\boxed{3}", "4"),
    ("I do not know.", "4"),
    ("<think>\nMaybe \\boxed{4}.\n</think>\n\nNo: \\boxed{5}.", "4"),
    ("<think>\nIt is \\boxed{4}, or", "4"),
    ("\\boxed{9^{9^{9^9}}}", "4"),
    ("\\boxed{x > 2}", "(2, \\infty)"),
    ("\\boxed{12}", "Twelve.\n#### 12"),
]


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    reward.close()


def test_rewards_are_the_verdicts_of_verify(tmp_path: Path) -> None:
    source = tmp_path / "x_res.jsonl"
    responses = [reward.text_of(completion) or " " for completion, _ in CASES]
    records = [
        {"id": n, "instruction": "?", "response": text, "reference_answer": truth}
        for n, (text, (_, truth)) in enumerate(zip(responses, CASES, strict=True))
    ]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = program("verify", "--input_file", source)
    assert done.returncode == 0, done.stderr
    verdicts = [record["is_correct"][0] for record in rows(tmp_path / "x_res_verified.jsonl")]
    rewards = reward.accuracy(*zip(*CASES, strict=True))
    assert rewards == [None if verdict is None else float(verdict) for verdict in verdicts]
    assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0, None, 1.0, 1.0]


def test_completions_are_texts_or_messages_and_nothing_is_right_without_an_answer() -> None:
    turns = [{"role": "user", "content": "\\boxed{1}"}, {"role": "assistant", "content": "\\boxed{2}"}]
    assert reward.accuracy([turns, turns, [], turns], ["2", "1", "2", None], prompts=["?"]) == [1.0, 0.0, 0.0, None]
    assert reward.accuracy([], []) == []
    with pytest.raises(ValueError, match="2 answers"):
        reward.accuracy(["\\boxed{1}"], ["1", "2"])


def test_verl_and_verifiers_get_a_number_and_nothing_for_what_nobody_knows() -> None:
    assert reward.compute_score("magpie", "\\boxed{2}", "2", {"index": 0}) == 1.0
    assert reward.compute_score("magpie", "\\boxed{9^{9^{9^9}}}", "2") == 0.0
    assert reward.correct_answer([{"role": "assistant", "content": "\\boxed{2}"}], "2", state={}) == 1.0


def rewards_of(number: int) -> list[float | None]:
    return reward.accuracy([f"\\boxed{{{number}}}", f"\\boxed{{{number + 1}}}"], [f"{number}.0"] * 2)


def test_threads_share_the_workers_and_a_forked_process_has_its_own() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(rewards_of, range(8))) == [[1.0, 0.0]] * 8
    with multiprocessing.get_context("fork").Pool(1) as processes:
        assert processes.map(rewards_of, range(2)) == [[1.0, 0.0]] * 2
