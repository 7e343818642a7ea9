"""Adaptive votes: when they stop, what their rates say, and waves through gen_res.py, killed and resumed."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kill
from conftest import clean_environment, program
from magpie.common.seeds import hashed_seed
from magpie.config.load import PROJECT
from magpie.verification.annotate import verified
from magpie.verification.early_stop import POSTERIOR, SETTLED, Rule, rule_of, shares, surely_leads, tally, wilson_of
from magpie.verification.pool import Judgement
from magpie.verification.votes import is_verified, vote, wilson
from scripted_server import MODEL, Reply, ScriptedServer, completion


def judged(groups: list[int | None], doubts: list[tuple[int, int]] | None = None) -> Judgement:
    answers = [None if group is None else f"a{group}" for group in groups]
    return Judgement(answers, ["parsed"] * len(groups), groups, [None] * len(groups), doubts or [])


def stopped(rule: Rule, answers: list[int | None]) -> int:
    """How many votes of these are asked for."""
    asked = leader = second = 0
    while not asked or not rule.reason(leader, second, asked):
        asked += rule.wave(leader, second, asked)
        leader, second = tally(judged(answers[:asked]))
    return asked


@pytest.mark.parametrize("votes", [2, 3, 4, 5, 8])
def test_settled_gives_majority_and_gates_of_all_votes_always(votes: int) -> None:
    rule = Rule(SETTLED, votes)
    for drawn in itertools.product([0, 1, 2, None], repeat=votes):
        answers, asked = list(drawn), stopped(rule, list(drawn))
        record = {"instruction": "?", "gen_response_configs": {"num_responses": votes, "stop_when": SETTLED}}
        record |= {"responses": [""] * asked, "votes_asked": asked, "stop_reason": SETTLED if asked < votes else "all"}
        early = verified(record, judged(answers[:asked]))
        whole = verified({"instruction": "?", "responses": [""] * votes}, judged(answers))
        assert early["majority_answer"] == whole["majority_answer"] and is_verified(early) == is_verified(whole)
        assert ((early["agreement"] or 0) > 0.5) == ((whole["agreement"] or 0) > 0.5)


def test_no_vote_of_a_wave_is_asked_for_in_vain() -> None:
    rule = Rule(SETTLED, 8)
    assert rule.wave(0, 0, 0) == 5 and rule.wave(4, 1, 5) == 1 and rule.wave(3, 2, 5) == 2 and rule.wave(1, 1, 5) == 3
    assert Rule(POSTERIOR, 8).wave(0, 0, 0) == 4 and surely_leads(4, 0) == 31 / 32 and surely_leads(3, 3) == 0.5


def test_where_equality_is_in_doubt_the_rivals_count_together() -> None:
    assert tally(judged([0, 0, 0, 1, 2])) == (3, 1)
    assert tally(judged([0, 0, 0, 1, 2], [(4, 3)])) == (3, 2)
    assert tally(judged([])) == (0, 0)


@pytest.mark.parametrize("votes", [4, 8, 16])
@pytest.mark.parametrize("name", [SETTLED, POSTERIOR])
def test_the_corrected_rate_is_unbiased_within_a_hundredth(name: str, votes: int) -> None:
    rule, rng = Rule(name, votes), random.Random(votes)
    for weights in ([0.9, 0.05, 0.03, 0.02], [0.7, 0.1, 0.1, 0.1], [0.6, 0.4, 0, 0], [0.5, 0.2, 0.1, 0.2], [0.4, 0.1, 0.1, 0.4]):
        found, true, raw, covered = [], [], [], 0
        for _ in range(4000):
            answers = rng.choices([0, 1, 2, None], weights, k=votes)
            asked = stopped(rule, answers)
            result = vote(judged(answers[:asked]), has_reference=False, rule=rule)
            if result.winner is None or result.pass_rate is None or result.interval is None:
                continue
            found.append(result.pass_rate)
            raw.append(answers[:asked].count(answers[:asked][0]) / asked)
            true.append(answers.count(next(a for a in answers[:asked] if f"a{a}" == result.majority_answer)) / votes)
            covered += result.interval[0] <= true[-1] <= result.interval[1]
        assert abs(sum(found) - sum(true)) / len(true) < 0.01, (weights, sum(found) / len(found), sum(true) / len(true))
        assert covered / len(true) > 0.95, weights


def test_a_settled_rate_is_haldanes() -> None:
    rule = Rule(SETTLED, 8)
    assert shares(rule, [0] * 5, 0, 5).expected == 1.0
    assert shares(rule, [0, 0, 1, 0, 0, 0], 0, 6).expected == pytest.approx(4 / 5)
    late = shares(rule, [0, 0, 1, 0, 0, 2], 0, 7)  # a lost vote; and nothing like the rule: it did not stop there
    assert late.expected is not None
    assert shares(rule, [0] * 6, 0, 6).expected is None and shares(rule, [0] * 6, 0, 6).within == 1.0
    assert wilson_of(0.5, 8) == pytest.approx(list(wilson(4, 8)), abs=2e-4)


def test_after_an_early_stop_the_share_that_is_right_is_not_known() -> None:
    configs = {"num_responses": 8, "stop_when": SETTLED}
    record: dict[str, Any] = {"instruction": "?", "responses": [""] * 5, "reference_answer": "7", "votes_asked": 5}
    found = verified(record | {"stop_reason": SETTLED, "gen_response_configs": configs}, judged([0] * 5))
    assert (found["pass_rate"], found["difficulty_measured"], found["majority_answer"]) == (None, None, "a0")
    assert rule_of(record) is None and rule_of(record | {"gen_response_configs": configs}) is None


# --- through gen_res.py ------------------------------------------------------------------------------------------------------

PROBLEMS = ({"id": "easy"}, {"id": "split"}, {"id": "known", "reference_answer": "1"}, {"id": "mine"})
SPLIT = (1, 2, 1, 2, 1, 1, 1, 2)


def answer(index: int, slot: int) -> str:
    return f"So \\boxed{{{SPLIT[slot] if index == 1 else 1}}}"


def command(folder: Path, *more: str, rows: int = 3) -> tuple[list[str], Path]:
    source, output = folder / "p.jsonl", folder / "p_8res.jsonl"
    source.write_text("".join(json.dumps(row | {"instruction": f"What is {i}?"}) + "\n" for i, row in enumerate(PROBLEMS[:rows])))
    flags = ["--model_path", "smollm2", "--served_model", MODEL, "--input_file", str(source), "--num_responses", "8"]
    return [*flags, "--request_seeds", "--preflight", "0", "--stop_when", SETTLED, *more], output


SLOTS = {hashed_seed(0, index, slot): (index, slot) for index in range(64) for slot in range(8)}


def scripted(delay: float = 0.0) -> ScriptedServer:
    """A server whose answers follow from the request's seed: its row and its slot."""
    server = ScriptedServer()
    server.reply = lambda call: Reply(body=completion(answer(*SLOTS[call["seed"]])), delay=delay)  # type: ignore[attr-defined]
    return server
