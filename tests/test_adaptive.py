"""Adaptive votes: when they stop, what their rates say, and waves through gen_res.py, killed and resumed."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

import kill
from conftest import program
from magpie.common.seeds import hashed_seed
from magpie.verification.annotate import verified
from magpie.verification.early_stop import POSTERIOR, SETTLED, Rule, Shares, rule_of, shares, surely_leads, tally, wilson_of
from magpie.verification.pool import Judgement
from magpie.verification.votes import is_verified, vote, wilson
from scripted_server import MODEL, Call, Reply, ScriptedServer, completion


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
    for drawn in itertools.product([0, 1, 2, None] if votes < 8 else [0, 1, None], repeat=votes):
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
def test_the_corrected_rate_is_unbiased_within_a_hundredth(votes: int) -> None:
    rule, rng = Rule(SETTLED, votes), random.Random(votes)
    for weights in (
        [0.9, 0.05, 0.03, 0.02],
        [0.7, 0.1, 0.1, 0.1],
        [0.6, 0.4, 0, 0],
        [0.5, 0.2, 0.1, 0.2],
        [0.4, 0.1, 0.1, 0.4],
    ):
        found, true, covered = [], [], 0
        for _ in range(5000):
            answers = rng.choices([0, 1, 2, None], weights, k=votes)
            asked = stopped(rule, answers)
            result = vote(judged(answers[:asked]), has_reference=False, rule=rule)
            if result.winner is None or result.pass_rate is None or result.interval is None:
                continue
            found.append(result.pass_rate)
            true.append(answers.count(next(a for a in answers[:asked] if f"a{a}" == result.majority_answer)) / votes)
            covered += result.interval[0] <= true[-1] <= result.interval[1]
        assert abs(sum(found) - sum(true)) / len(true) < 0.01, (weights, sum(found) / len(found), sum(true) / len(true))
        assert covered / len(true) > 0.95, weights


def test_a_settled_rate_is_haldanes_and_one_after_posterior_is_not_told() -> None:
    rule = Rule(SETTLED, 8)
    assert [shares(rule, 5, n).expected for n in (5, 6, 8)] == [1.0, 4 / 5, 4 / 7]
    assert (shares(rule, 5, 8).within, shares(rule, 5, 7).within) == (5 / 8, pytest.approx(4 / 6))
    assert shares(rule, 3, 8).expected == 3 / 8 and shares(rule, 6, 6).expected is None  # groups that a judge has joined
    assert shares(Rule(POSTERIOR, 8), 4, 4) == Shares(None, 1.0, None)
    assert wilson_of(0.5, 8) == pytest.approx(list(wilson(4, 8)), abs=2e-4)


def test_after_an_early_stop_the_share_that_is_right_is_not_known() -> None:
    configs = {"num_responses": 8, "stop_when": SETTLED}
    record: dict[str, Any] = {"instruction": "?", "responses": [""] * 5, "reference_answer": "7", "votes_asked": 5}
    found = verified(record | {"stop_reason": SETTLED, "gen_response_configs": configs}, judged([0] * 5))
    assert (found["pass_rate"], found["difficulty_measured"], found["majority_answer"]) == (None, None, "a0")
    assert rule_of(record) is None and rule_of(record | {"gen_response_configs": configs}) is None


# --- through gen_res.py ------------------------------------------------------------------------------------------------------

PROBLEMS = ({"id": "easy"}, {"id": "split"}, {"id": "known", "reference_answer": "1"})
SPLIT = (1, 2, 1, 2, 1, 1, 1, 2)


def answer(index: int, slot: int) -> str:
    return f"So \\boxed{{{SPLIT[slot] if index == 1 else 1}}}"


def command(folder: Path, *more: str, rows: int = 3) -> tuple[list[str], Path]:
    source, output = folder / "p.jsonl", folder / "p_8res.jsonl"
    source.write_text(
        "".join(json.dumps(row | {"instruction": f"What is {i}?"}) + "\n" for i, row in enumerate(PROBLEMS[:rows]))
    )
    flags = ["--model_path", "smollm2", "--served_model", MODEL, "--input_file", str(source), "--num_responses", "8"]
    return [*flags, "--request_seeds", "--preflight", "0", "--stop_when", SETTLED, *more], output


SLOTS = {hashed_seed(0, index, slot): (index, slot) for index in range(64) for slot in range(8)}


def reply(call: Call) -> Reply:
    """What the server says follows from the request's seed: its row and its slot."""
    return Reply(body=completion(answer(*SLOTS[call.body["seed"]])))


def asked(server: ScriptedServer) -> dict[int, list[int]]:
    """The slots that were asked for, by row."""
    found: dict[int, list[int]] = {}
    for call in server.history:
        index, slot = SLOTS[call.body["seed"]]
        found.setdefault(index, []).append(slot)
    return found


def test_waves_are_asked_for_until_the_vote_is_settled(tmp_path: Path) -> None:
    arguments, output = command(tmp_path)
    with ScriptedServer(by=reply) as server:
        done = program("gen_res", *arguments, "--base_url", server.url)
        assert done.returncode == 0, done.stderr
        assert {row: sorted(slots) for row, slots in asked(server).items()} == {
            0: [0, 1, 2, 3, 4],
            1: [0, 1, 2, 3, 4, 5, 6],
            2: [0, 1, 2, 3, 4, 5, 6, 7],  # with a reference answer all
        }
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["votes_asked"], row["stop_reason"], len(row["responses"])) for row in rows] == [
        (5, "settled", 5),
        (7, "settled", 7),
        (8, "all", 8),
    ]
    assert program("verify", "--input_file", output).returncode == 0
    easy, split, known = (json.loads(line) for line in (tmp_path / "p_8res_verified.jsonl").read_text().splitlines())
    assert (easy["pass_rate"], easy["agreement"], known["pass_rate"]) == (1.0, 1.0, 1.0)
    assert split["pass_rate"] == pytest.approx(4 / 6) and split["pass_rate"] != 5 / 7
    assert split["majority_answer"] == "1" and 5 / 8 <= split["agreement"] <= 6 / 8


def test_an_own_response_with_the_same_settings_is_the_first_vote(tmp_path: Path) -> None:
    arguments, _ = command(tmp_path, "--output_file", str(tmp_path / "first.jsonl"), rows=1)
    with ScriptedServer(by=reply) as server:
        assert program("gen_res", *arguments, "--base_url", server.url).returncode == 0
        record = json.loads((tmp_path / "first.jsonl").read_text())
        lists = ("responses", "reasoning", "finish_reason", "completion_tokens", "votes_asked", "stop_reason")
        configs = {
            key: value for key, value in record["gen_response_configs"].items() if key not in ("num_responses", "stop_when")
        }
        single = {key: value for key, value in record.items() if key not in lists} | {"gen_response_configs": configs}
        single |= {"response": "Mine \\boxed{1}", "reasoning": None, "finish_reason": "stop", "completion_tokens": 9}
        for name, temperature, slots in (("same", configs["temperature"], [1, 2, 3, 4]), ("other", 0.123, [0, 1, 2, 3, 4])):
            server.history = []
            single["gen_response_configs"] = configs | {"temperature": temperature}
            (tmp_path / "p.jsonl").write_text(json.dumps(single) + "\n")
            out = tmp_path / f"{name}.jsonl"
            assert program("gen_res", *arguments, "--output_file", out, "--base_url", server.url).returncode == 0
            assert sorted(asked(server)[0]) == slots
            row = json.loads(out.read_text())
            assert (row["responses"][0] == "Mine \\boxed{1}") is (name == "same") and row["votes_asked"] == 5
            assert len(row["completion_tokens"]) == 5 and row["previous"]["response"] == "Mine \\boxed{1}"


def test_a_jobs_single_response_to_a_problem_is_its_first_vote_even_where_it_was_lost(tmp_path: Path) -> None:
    arguments, output = command(tmp_path, rows=2)
    sampled = ["--temperature", "0.6", "--top_p", "0.9", "--max_tokens", "200"]
    single = [each for each in arguments if each not in ("--num_responses", "8", "--stop_when", SETTLED)]

    def lost(call: Call) -> Reply:
        index, _ = SLOTS[call.body["seed"]]
        return Reply(body=completion("<think>\nHm. " if index == 1 else "Main \\boxed{1}", "length" if index == 1 else "stop"))

    with ScriptedServer(by=lost) as server:
        assert program("gen_res", *single, *sampled, "--base_url", server.url).returncode == 0
    with ScriptedServer(by=reply) as server:
        assert program("gen_res", *arguments, *sampled, "--base_url", server.url).returncode == 0
        assert {row: sorted(slots)[0] for row, slots in asked(server).items()} == {0: 1, 1: 1}
    easy, split = (json.loads(line) for line in output.read_text().splitlines())
    assert easy["responses"][0] == "Main \\boxed{1}" and easy["votes_asked"] == 5
    assert split["lost_responses"] == 1 and split["votes_asked"] == 1 + len(split["responses"])


def test_killed_between_and_within_waves_every_vote_is_there_once(tmp_path: Path) -> None:
    assert kill.kill_waves(3, tmp_path, 32) == (3, [])


def test_one_response_cannot_be_stopped_early(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"instruction": "?"}\n')
    done = program("gen_res", "--model_path", "smollm2", "--input_file", tmp_path / "p.jsonl", "--stop_when", "settled")
    assert done.returncode == 2 and "needs several responses" in done.stderr
