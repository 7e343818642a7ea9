"""Harder problems: gates, the test of "harder", and evolve_ins.py on a scripted model whose pass rates are known."""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kill
import made_children
from conftest import clean_environment, finished, program
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.evolution.config import load_ways
from magpie.evolution.gates import CARRIES_SOLUTION, REWORDED, gated, written_problem
from magpie.models.chat_template import ChatTemplate
from magpie.verification.harder import HARDER, LEVELS, NOT_HARDER, UNSOLVED, Votes, compared, p_value, votes_of
from scripted_server import MODEL, Call, Reply, ScriptedServer, completion
from test_run_job import RUN_JOB

PARENTS = made_children.PARENTS


@pytest.mark.parametrize(
    ("children", "reason"),
    [
        (made_children.CONDITION, ""),
        (made_children.INVERTED, ""),
        (made_children.REWORDED, REWORDED),
        (made_children.SOLVED, CARRIES_SOLUTION),
    ],
    ids=["a condition added", "inverted", "reworded", "solved"],
)
def test_the_gates_tell_a_harder_problem_from_a_reworded_and_a_solved_one(children: dict[str, str], reason: str) -> None:
    found = {name: gated(f"<problem>\n{child}\n</problem>", [PARENTS[name]], "en")[1] for name, child in children.items()}
    assert found == dict.fromkeys(PARENTS, reason)


def test_the_problem_is_what_stands_last_between_the_marks() -> None:
    assert written_problem("I think. <problem>First</problem> Better: <problem>\nSecond\n</problem> Done.") == "Second"
    assert written_problem("Find x.") == "Find x." and written_problem("<problem>Cut off") == "Cut off"


# --- the test ----------------------------------------------------------------------------------------------------------------


def test_fishers_p_value_is_scipys() -> None:
    from scipy.stats import fisher_exact

    for parent, child in ((30, 12), (20, 20), (5, 0), (8, 7), (32, 3)):
        table = [[child, 32 - child], [parent, 32 - parent]]
        assert p_value(parent, 32, child, 32) == pytest.approx(fisher_exact(table, alternative="less").pvalue)


def test_a_single_vote_and_a_tie_lead_nothing() -> None:
    assert votes_of([0, 0, 1, None], 6) == Votes(6, 2, leads=True) and votes_of([0, 0, 1, 1], 4).rate == 0.0
    assert not votes_of([0, 1, 2], 3).leads and votes_of([], 8) == Votes(8, 0, leads=False)
    assert compared(Votes(32, 30, leads=True), Votes(32, 1, leads=False))[0] == UNSOLVED
    assert compared(Votes(32, 1, leads=False), Votes(32, 1, leads=False))[0] == UNSOLVED
    assert compared(Votes(16, 12, leads=True), Votes(16, 12, leads=True))[0] == NOT_HARDER
    assert compared(Votes(8, 8, leads=True), Votes(8, 2, leads=True))[0] == ""  # too early to tell


def simulated(parent: float, child: float, draw: random.Random) -> tuple[str, int]:
    """The verdict on votes drawn with these pass rates, wrong answers among eight, and how many of each it took."""
    votes = {
        rate_of: [0 if draw.random() < rate else 1 + draw.randrange(8) for _ in range(max(LEVELS))]
        for rate_of, rate in (("parent", parent), ("child", child))
    }
    for asked in LEVELS:
        of: dict[str, Votes] = {name: votes_of([*drawn[:asked]], asked) for name, drawn in votes.items()}
        if verdict := compared(of["parent"], of["child"])[0]:
            return verdict, asked
    raise AssertionError("the last wave decides")


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_at_most_one_in_twenty_that_are_not_harder_is_kept(rate: float) -> None:
    draw = random.Random(5)
    assert sum(simulated(rate, rate, draw)[0] == HARDER for _ in range(1000)) <= 50
    assert sum(simulated(rate - 0.2, rate, draw)[0] == HARDER for _ in range(300)) <= 3


@pytest.mark.parametrize(("parent", "child"), [(1.0, 0.6), (0.95, 0.5), (0.9, 0.4), (0.8, 0.3), (1.0, 0.2)])
def test_nine_in_ten_that_are_harder_by_four_tenths_are_kept(parent: float, child: float) -> None:
    draw = random.Random(6)
    assert sum(simulated(parent, child, draw)[0] == HARDER for _ in range(500)) >= 450


# --- through evolve_ins.py ------------------------------------------------------------------------------------------------

ASKED = re.compile(r"Find the number of (\w+) tilings of a board with (\d+) rows")


class Model:
    """A scripted model: what it rewrites a problem to, and how often it solves one, is in a table by the board's rows."""

    def __init__(self, rates: dict[int, float], children: dict[int, str]) -> None:
        self.rates, self.children = rates, children
        self._template = ChatTemplate(load_model("smollm2"))
        self.votes: Counter[int] = Counter()
        self.rewritten = self.made = 0

    def __call__(self, call: Call) -> Reply:
        prompt = self._template.decode(call.body["prompt"])
        rows = [int(found[2]) for found in ASKED.finditer(prompt)]
        if not rows:
            self.made += 1
            return Reply(body=completion(board(9 + self.made)))
        if "between <problem> and </problem>" in prompt:
            self.rewritten += 1
            return Reply(body=completion(f"Sure.\n<problem>{self.children[rows[0]]}</problem>"))
        self.votes[rows[0]] += 1
        draw = random.Random(f"{rows[0]}/{self.votes[rows[0]]}")  # whatever the order of the requests
        right = draw.random() < self.rates[rows[0]]
        return Reply(body=completion(f"So \\boxed{{{rows[0] if right else 10**6 + draw.randrange(50)}}}"))


def board(rows: int, kind: str = "domino") -> str:
    return f"Find the number of {kind} tilings of a board with {rows} rows and 3 columns."


def command(source: Path) -> list[str]:
    return ["--model_path", "smollm2", "--served_model", MODEL, "--input_file", str(source)]


def evolve(folder: Path, model: Model, parents: list[int], *more: object) -> tuple[list[Any], list[Any], Any]:
    source, output = folder / "p.jsonl", folder / "p_evolved.jsonl"
    source.write_text("".join(json.dumps({"id": f"p{rows}", "instruction": board(rows)}) + "\n" for rows in parents))
    with ScriptedServer(by=model) as server:
        done = program("evolve_ins", *command(source), "--base_url", server.url, *more)
    assert done.returncode == 0, done.stderr
    read = [
        [json.loads(line) for line in path.read_text().splitlines()] for path in (output, folder / "p_evolved_dropped.jsonl")
    ]
    return read[0], read[1], json.loads((folder / "p_evolved.run.json").read_text())


ONE_ROUND = ("--rounds", 1, "--band", 0.05, 1, "--ways", "add_condition", "invert")


def test_of_two_hundred_children_the_harder_ones_are_kept(tmp_path: Path) -> None:
    """Rates of parent and child are known: harder by .4 and more, equal, easier, and a little harder, which is not counted."""
    kinds = [(1.0, 0.6), (0.9, 0.4), (0.9, 0.3), (0.8, 0.8), (0.9, 0.9), (0.5, 0.9), (0.6, 0.6), (0.8, 0.65)]
    rates, children = {}, {}
    for n in range(200):
        rates[1000 + n], rates[5000 + n] = kinds[n % len(kinds)]
        children[1000 + n] = board(5000 + n, "tromino")
    model = Model(rates, children)
    kept, dropped, run = evolve(tmp_path, model, [1000 + n for n in range(200)], *ONE_ROUND)
    gaps = {f"p{1000 + n}-e1": round(rates[1000 + n] - rates[5000 + n], 2) for n in range(200)}
    found = {row["id"] for row in kept}
    harder = {name for name, gap in gaps.items() if gap >= 0.4}
    alike = {name for name, gap in gaps.items() if gap <= 0}
    assert len(found & harder) >= 0.9 * len(harder) and len(found & alike) <= 0.05 * len(alike)
    assert len(kept) + len(dropped) == 200 and max(model.votes.values()) <= 32
    assert {row["drop_reason"] for row in dropped} <= {NOT_HARDER, UNSOLVED}
    one = kept[0]
    told = one["evolution"]
    assert one["parent_ids"] == [one["id"].removesuffix("-e1")] and told["way"] in load_ways().ways
    assert told["parents"][0]["pass_rate"] > told["pass_rate"] and told["votes"] == one["votes_asked"] == len(one["responses"])
    assert told["p_value"] <= LEVELS[told["votes"]] and told["error"] == 0.05 and "Fisher" in told["test"]
    assert run["counts"]["written"] == len(kept) and run["counts"]["read"] == 200


def test_a_child_that_is_still_easy_is_the_parent_of_the_next_round(tmp_path: Path) -> None:
    rates = {10: 1.0, 20: 0.7, 30: 0.2, 11: 1.0, 21: 1.0, 12: 0.0, 22: 0.5}
    children = {10: board(20, "tromino"), 20: board(30, "tetromino"), 11: board(11) + " The answer is 7.", 12: board(22)}
    kept, dropped, run = evolve(
        tmp_path, Model(rates, children), [10, 11, 12], "--ways", "add_condition", "move", "--band", 0.05, 0.5
    )
    [one] = kept
    told = one["evolution"]
    assert one["id"] == "p10-e2" and one["parent_ids"] == ["p10-e1"] and "30 rows" in one["instruction"]
    assert [(each["id"], each["pass_rate"]) for each in told["lineage"]] == [("p10", 1.0)]
    assert told["in_band"] and told["lineage"][0]["then"] != told["way"] and told["generation"] == told["round"] == 2
    reasons = Counter((row["id"], row["drop_reason"]) for row in dropped)
    solved = {(f"p11-e{n}", CARRIES_SOLUTION): 1 for n in (1, 2, 3)}
    assert reasons == {("p10-e1", "still_easy"): 1, ("p12-e1", UNSOLVED): 1, **solved}  # nobody solves p12: it is given up
    assert run["counts"]["dropped"] == {"still_easy": 1, UNSOLVED: 1, CARRIES_SOLUTION: 3}


def test_two_problems_are_combined_and_the_child_is_harder_than_both(tmp_path: Path) -> None:
    model = Model({10: 1.0, 11: 0.9, 50: 0.3}, dict.fromkeys((10, 11), board(50, "tromino")))
    kept, _, _ = evolve(tmp_path, model, [10, 11], "--ways", "combine", "--rounds", 1)
    assert {row["id"]: row["parent_ids"] for row in kept} == {"p10-e1": ["p10", "p11"], "p11-e1": ["p11", "p10"]}
    assert all(parent["pass_rate"] > row["evolution"]["pass_rate"] for row in kept for parent in row["evolution"]["parents"])


def test_the_run_ends_once_the_band_is_full(tmp_path: Path) -> None:
    rows = list(range(10, 22))
    model = Model(dict.fromkeys(rows, 1.0) | {n + 100: 0.3 for n in rows}, {n: board(n + 100, "tromino") for n in rows})
    kept, dropped, _ = evolve(tmp_path, model, rows, *ONE_ROUND, "--total", 3, "--max_in_flight", 1)
    assert 3 <= len(kept) < 12 and {row["drop_reason"] for row in dropped} == {"band_full"}


def test_killed_at_any_moment_every_child_is_there_once(tmp_path: Path) -> None:
    rows = list(range(10, 26))
    rates = dict.fromkeys(rows, 1.0) | {n + 100: 0.65 for n in rows} | {n + 200: 0.2 for n in rows}
    children = {n: board(n + 100, "tromino") for n in rows} | {n + 100: board(n + 200, "tetromino") for n in rows}
    source, output = tmp_path / "p.jsonl", tmp_path / "p_evolved.jsonl"
    source.write_text("".join(json.dumps({"id": f"p{n}", "instruction": board(n)}) + "\n" for n in rows))
    model, draw = Model(rates, children), random.Random(3)
    call = [sys.executable, str(PROJECT / "exp/evolve_ins.py"), *command(source), "--ways", "invert", "--max_in_flight", "8"]
    call += ["--band", "0.05", "0.5"]
    with ScriptedServer(by=model) as server:
        environment = {"MAGPIE_BASE_URL": server.url}
        assert kill.kill_stage(call, output, 3, environment, step=60, pause=lambda: draw.uniform(0, 0.2)) == 3
    kept = [json.loads(line) for line in output.read_text().splitlines()]
    dropped = [json.loads(line) for line in (tmp_path / "p_evolved_dropped.jsonl").read_text().splitlines()]
    ids = [row["id"] for row in kept + dropped]
    assert len(ids) == len(set(ids)) and {name.partition("-")[0] for name in ids} == {f"p{n}" for n in rows}
    assert not output.with_suffix(".part").exists() and len(kept) >= 12
    assert max(model.votes.values()) <= 32 + 3 * 8  # asked for again is only what was under way at a kill


def test_a_finished_job_goes_on_to_harder_problems_and_a_data_set(tmp_path: Path) -> None:
    rows = range(10, 14)
    model = Model(dict.fromkeys(rows, 1.0) | {n + 100: 0.5 for n in rows}, {n: board(n + 100, "tromino") for n in rows})
    with ScriptedServer(by=model, served=("HuggingFaceTB/SmolLM2-135M-Instruct",)) as server:
        env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", INS_FLAGS="--no-openings", MAGPIE_BASE_URL=server.url)
        done = finished([*RUN_JOB, "main", "--", "smollm2", "4", "--preflight", "0"], env=env)
        assert done.returncode == 0, done.stderr
        harder = ["hle", "--", str(tmp_path / "job"), "--rounds", "1", "--evolve_flags", "--ways add_condition move"]
        done = finished([*RUN_JOB, *harder], env=env)
        assert done.returncode == 0, done.stderr
        asked = len(server.history)
        assert finished([*RUN_JOB, *harder], env=env).returncode == 0 and len(server.history) == asked
    [evolved] = (tmp_path / "job").glob("*_evolved.jsonl")
    kept = [json.loads(line) for line in evolved.read_text().splitlines()]
    assert len(kept) == 4 and all(row["parent_ids"] == [row["id"].removesuffix("-e1")] for row in kept)
    assert len(list((tmp_path / "job").glob("*_evolved_distance_verified_filtered_hle.jsonl"))) == 1
    page = (tmp_path / "job" / "report.html").read_text()
    assert "made harder by" in page


def test_concepts_and_a_rationale_are_asked_for_first_and_recorded(tmp_path: Path) -> None:
    template, prompts = ChatTemplate(load_model("smollm2")), []

    def reply(call: Call) -> Reply:
        prompts.append(prompt := template.decode(call.body["prompt"]))
        design = "In at most five sentences" in prompt
        return Reply(body=completion("The first idea bounds the second." if design else f"{len(prompts)} tilings of a board?"))

    output = tmp_path / "p_ins.jsonl"
    flags = [
        "--model_path",
        "smollm2",
        "--served_model",
        MODEL,
        "--output_file",
        output,
        "--total_prompts",
        4,
        "--preflight",
        0,
    ]
    with ScriptedServer(by=reply) as server:
        more = ["--concepts", 2, "--rationale", "--no-clean", "--base_url", server.url]
        done = program("gen_ins", *flags, *more)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert all(len(row["concepts"]) == 2 and row["rationale"] == "The first idea bounds the second." for row in rows)
    assert all(row["rationale"] in row["pre_query_template"] and row["rationale"] not in row["instruction"] for row in rows)
    assert len(prompts) == 8 and sum("five sentences" in prompt for prompt in prompts) == 4
