"""Responses and tokens saved by adaptive votes, and what early stops change: real votes, replayed in other orders.

    python benchmarks/adaptive.py [VOTES] [--shuffles 200] [--votes 8]

VOTES (default ../shared/data/gold/votes_dev.jsonl) has problems with graded `responses`. All of a problem are grouped once.
Then they are requested in waves, as with gen_res.py --stop_when, in each of the shuffled orders. Prints for each rule
the share of responses and tokens requested, how often majority and gates (half of all, more than half) are those of all
votes, how often the majority is right, waves per problem, and by how much the corrected rates and the raw shares differ from
the shares of all votes. A token is four characters here. `now`: all votes. 20 seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parents[1]

from magpie.verification.early_stop import POSTERIOR, SETTLED, Rule, tally  # noqa: E402
from magpie.verification.pool import Job, Judgement, Verifier  # noqa: E402
from magpie.verification.votes import vote  # noqa: E402

CHARACTERS_PER_TOKEN = 4


class Problem(NamedTuple):
    """A problem's responses, judged together, and their lengths."""

    judgement: Judgement
    tokens: list[int]


class Replay(NamedTuple):
    """The result of a problem's votes in one order."""

    asked: int
    tokens: int
    waves: int
    same: bool
    right: bool
    rate: tuple[float, float, float] | None
    """The majority's share: corrected, raw, and of all votes."""


def judged(path: Path, votes: int) -> list[Problem]:
    """Return the problems of a file that have enough responses."""
    rows = [row for line in path.read_text().split("\n") if line and len((row := json.loads(line))["responses"]) >= votes]
    with Verifier() as verifier:
        jobs = [(index, Job(row["responses"][:votes], row["reference_answer"])) for index, row in enumerate(rows)]
        judgements = [judgement for _, judgement in verifier.judge_all(jobs)]
    tokens = [[len(text) // CHARACTERS_PER_TOKEN for text in row["responses"][:votes]] for row in rows]
    return [Problem(judgement, each) for judgement, each in zip(judgements, tokens, strict=True)]


def part(judgement: Judgement, order: list[int]) -> Judgement:
    """Return the judgement of some responses in some order; a doubt between two of them stays one."""
    place = {old: new for new, old in enumerate(order)}
    doubts = [(place[one], place[other]) for one, other in judgement.doubts if one in place and other in place]
    lists = {name: [getattr(judgement, name)[i] for i in order] for name in ("answers", "states", "groups", "correct")}
    return Judgement(**lists, doubts=doubts)


def verdict(judgement: Judgement, agreement: float | None, winner: int | None) -> tuple[Any, ...]:
    """Return what depends on a vote: the majority, and whether half of all agree, or more than half."""
    return winner, (agreement or 0) >= 0.5, (agreement or 0) > 0.5


def replay(problem: Problem, rule: Rule, order: list[int]) -> Replay:
    """Request a problem's responses in an order, in waves."""
    whole = vote(problem.judgement, has_reference=False)
    asked = rounds = leader = second = 0
    while not asked or not rule.reason(leader, second, asked):
        asked, rounds = asked + rule.wave(leader, second, asked), rounds + 1
        leader, second = tally(part(problem.judgement, order[:asked]))
    found = part(problem.judgement, order[:asked])
    result = vote(found, has_reference=False, rule=rule)
    same = verdict(found, result.agreement, result.winner) == verdict(problem.judgement, whole.agreement, whole.winner)
    winners = [i for i in order[:asked] if problem.judgement.groups[i] == result.winner and result.winner is not None]
    rate = None
    if result.winner is not None and result.pass_rate is not None:
        share = problem.judgement.groups.count(result.winner) / rule.votes
        rate = (result.pass_rate, len(winners) / asked, share)
    right = bool(winners) and bool(problem.judgement.correct[winners[0]])
    return Replay(asked, sum(problem.tokens[i] for i in order[:asked]), rounds, same, right, rate)


def replays(problems: list[Problem], name: str, votes: int, shuffles: int) -> Iterator[Replay]:
    """Yield every problem in every order."""
    rule, rng = Rule(name, votes), random.Random(0)
    for problem in problems:
        for _ in range(shuffles):
            yield replay(problem, rule, rng.sample(range(votes), votes))


def row(name: str, found: list[Replay], votes: int, tokens: float) -> str:
    """Return a line of the table."""
    count = len(found)
    rates = [each.rate for each in found if each.rate]
    corrected, raw, true = (sum(values) / len(rates) for values in zip(*rates, strict=True)) if rates else (0.0, 0.0, 0.0)
    shares = (
        sum(each.asked for each in found) / count / votes,
        sum(each.tokens for each in found) / count / tokens,
        sum(each.same for each in found) / count,
        sum(each.right for each in found) / count,
    )
    texts = [f"{share:8.1%}" for share in shares]
    waves = sum(each.waves for each in found) / count
    return f"{name:10} {' '.join(texts)} {waves:6.2f} {corrected - true:+10.2%} {raw - true:+8.2%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = PROJECT.parent / "shared" / "data" / "gold" / "votes_dev.jsonl"
    parser.add_argument("votes_file", nargs="?", type=Path, default=default, metavar="VOTES")
    parser.add_argument("--shuffles", type=int, default=200, help="orders per problem (default 200)")
    parser.add_argument("--votes", type=int, default=8, help="votes per problem (default 8)")
    args = parser.parse_args()
    problems = judged(args.votes_file, args.votes)
    if not problems:
        sys.exit(f"{args.votes_file}: no problem has {args.votes} responses")
    tokens = sum(sum(problem.tokens) for problem in problems) / len(problems)
    doubtful = Counter(bool(problem.judgement.doubts) for problem in problems)[True]
    print(f"{len(problems)} problems ({doubtful} with answers that rules cannot compare), {args.shuffles} orders of each")
    print(f"{'':10} {'asked':>8} {'tokens':>8} {'same':>8} {'right':>8} {'waves':>6} {'corrected':>10} {'raw':>8}")
    for rule in (SETTLED, POSTERIOR):
        print(row(rule, list(replays(problems, rule, args.votes, args.shuffles)), args.votes, tokens))
    whole = [vote(problem.judgement, has_reference=False).winner for problem in problems]
    right = [
        winner is not None and problem.judgement.correct[problem.judgement.groups.index(winner)]
        for problem, winner in zip(problems, whole, strict=True)
    ]
    print(f"{'now':10} {1:8.1%} {1:8.1%} {1:8.1%} {sum(map(bool, right)) / len(right):8.1%}")


if __name__ == "__main__":
    main()
