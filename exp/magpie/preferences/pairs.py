"""Preference pairs: the selection of a chosen and a rejected response from a problem's responses, or the reason for none."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from magpie.common.console import MagpieError
from magpie.preferences.config import PairSettings
from magpie.text.degeneration import ends_in_loop
from magpie.text.reasoning import CLOSE, OPEN
from magpie.verification.votes import leaders, votes_meant

Strategy = Literal["verified", "consensus", "reward"]
STRATEGIES: tuple[Strategy, ...] = ("verified", "consensus", "reward")
PER_RESPONSE_KEYS = (
    *("response", "responses", "reasoning", "finish_reason", "completion_tokens", "previous", "lost_responses"),
    *("votes_asked", "stop_reason"),
    *("answers", "answer_states", "answer_groups", "is_correct", "answer_judgements", "response_index"),
    *("rewards", "rewards_by_model"),
)
"""Keys with one entry per response, which a pair does not inherit."""
UNFINISHED = {"length": "truncated", "repetition": "looping"}


class NoPair(Exception):
    """Raised for a problem without a pair; `reason` becomes the `drop_reason`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Candidate:
    """One response. `text`: the complete completion to train on; `excluded`: why it is excluded from both sides, or empty."""

    index: int
    text: str
    answer: str | None
    group: int | None
    correct: bool | None
    reward: float | None
    excluded: str
    votes: int
    """Number of responses with the same final answer; 0 if it has none that could be extracted."""
    tie_break: bytes
    """Tie-break between equals: a hash of the run's seed, the problem's id and the response's index."""


@dataclass(frozen=True)
class Sides:
    """The candidates of both sides, best first, and the basis of the choice (`why`)."""

    chosen: list[Candidate]
    rejected: list[Candidate]
    why: str


@dataclass(frozen=True)
class Pair:
    """Two responses. `vote_margin`: the difference of their votes as a share of all that was asked for (None: no votes)."""

    chosen: Candidate
    rejected: Candidate
    why: str
    vote_margin: float | None
    weight: float


class PairMaker:
    """Makes the pairs of records.

    Args:
        strategy: how responses are ranked: by verification, consensus or reward.
        settings: its thresholds.
        wanted: maximum number of pairs per problem.
        seed: of the tie-break.
        reasoning: include the chain of thought before the solution.
    """

    def __init__(
        self, strategy: Strategy, settings: PairSettings, *, wanted: int = 1, seed: int = 0, reasoning: bool = True
    ) -> None:
        self.settings = settings
        self._strategy, self._wanted, self._seed, self._reasoning = strategy, wanted, seed, reasoning
        self._sides = {"verified": self._by_verification, "consensus": self._by_consensus, "reward": self._by_reward}[strategy]

    def pairs(self, record: dict[str, Any]) -> list[Pair]:
        """Return a record's pairs, the best first.

        Raises:
            NoPair: it has none.
            MagpieError: a stage that this strategy needs was not run.
        """
        candidates = self._candidates(record)
        sides = self._sides(record, candidates)
        valid = list(self._valid_pairs(sides))
        asked = votes_meant(record, len(candidates)) if any(candidate.votes for candidate in candidates) else None
        return [self._pair(one, other, sides.why, asked) for one, other in spread(valid, self._wanted)]

    def _pair(self, chosen: Candidate, rejected: Candidate, why: str, asked: int | None) -> Pair:
        margin = (chosen.votes - rejected.votes) / asked if asked else None
        weight = margin if self._strategy == "consensus" and margin is not None else 1.0
        return Pair(chosen, rejected, why, margin, weight)

    # --- the candidates of a record --------------------------------------------------------------------------------------

    def _candidates(self, record: dict[str, Any]) -> list[Candidate]:
        responses = record.get("responses")
        if not responses:
            raise NoPair("no_responses")
        _require_stages(record, self._strategy)
        keys = ("reasoning", "finish_reason", "answers", "answer_groups", "is_correct", "rewards")
        lists = [_values(record, key, len(responses)) for key in keys]
        votes = Counter(group for group in lists[3] if group is not None)
        identity = f"{self._seed}:{record.get('id', record['instruction'])}"
        out: list[Candidate] = []
        seen: set[str] = set()
        for index, (response, thought, finish, answer, group, correct, reward) in enumerate(
            zip(responses, *lists, strict=True)
        ):
            text = f"{OPEN}\n{thought}\n{CLOSE}\n\n{response}" if thought and self._reasoning else response
            excluded = "repeated" if text in seen else exclusion_reason(response, finish)
            seen.add(text)
            tie_break = hashlib.blake2b(f"{identity}:{index}".encode(), digest_size=8).digest()
            given = votes[group] if group is not None else 0
            out.append(Candidate(index, text, answer, group, correct, reward, excluded, given, tie_break))
        return out

    # --- the strategies --------------------------------------------------------------------------------------------------

    def _by_verification(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return right and wrong responses: by the reference answer if the record has one, else by majority vote."""
        if not record.get("reference_answer"):
            right, wrong = self._split_by_vote(candidates, votes_meant(record, len(candidates)))
            return Sides(self._rank_chosen(right), _ranked(wrong, self.settings.rejected_by_vote), "majority")
        if all(candidate.correct is None for candidate in candidates):
            raise NoPair("not_compared", "no answer could be compared with the reference answer")
        right = [candidate for candidate in candidates if candidate.correct]
        wrong = [candidate for candidate in candidates if candidate.correct is False]
        if not right or not wrong:
            raise NoPair("none_wrong" if right else "none_right")
        right, wrong = self._usable(right, wrong)
        return Sides(self._rank_chosen(right), _ranked(wrong, self.settings.rejected), "reference")

    def _by_consensus(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return the responses with the most and the least consistent answers."""
        right, wrong = self._split_by_vote(candidates, votes_meant(record, len(candidates)))
        in_random_order = sorted(right, key=lambda candidate: candidate.tie_break)
        return Sides(in_random_order, sorted(wrong, key=lambda candidate: (candidate.votes, candidate.tie_break)), "consensus")

    def _by_reward(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return the responses with the best and the worst rewards: Magpie's rule."""
        rewarded = [candidate for candidate in candidates if candidate.reward is not None]
        if len(rewarded) < 2:
            raise NoPair("no_rewards")
        good, bad = self._usable(rewarded, rewarded)
        return Sides(_ranked(good, "tempting"), sorted(bad, key=lambda c: (_reward(c), c.tie_break)), "reward")

    def _split_by_vote(self, candidates: list[Candidate], asked: int) -> tuple[list[Candidate], list[Candidate]]:
        """Return the usable responses of a clear majority, and the other usable ones."""
        settings = self.settings
        cast = sum(candidate.group is not None for candidate in candidates)
        if cast < settings.least_votes:
            raise NoPair("few_votes", f"{cast} answers could be read")
        winner, most, second = leaders(candidate.group for candidate in candidates)
        if not second and not (settings.rejected_without_answer and cast < len(candidates)):
            raise NoPair("all_agree")
        if most / asked < settings.least_agreement:
            raise NoPair("low_agreement", f"{most} of {asked}")
        if winner is None or (most - second) / asked < settings.least_margin:
            raise NoPair("low_margin", f"{most} against {second} of {asked}")
        right = [candidate for candidate in candidates if candidate.group == winner]
        return self._usable(right, [candidate for candidate in candidates if candidate.group != winner])

    def _usable(self, chosen: list[Candidate], rejected: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Return the usable candidates of both sides."""

        def refusal(candidate: Candidate, *, without_answer: bool) -> str:
            if candidate.excluded:
                return candidate.excluded
            if candidate.answer is None:
                return "" if without_answer else "no_answer"
            return "unread_answer" if candidate.group is None else ""  # it may equal the other side's

        sides = []
        for name, side, allowed in (("chosen", chosen, False), ("rejected", rejected, self.settings.rejected_without_answer)):
            refusals = [refusal(candidate, without_answer=allowed) for candidate in side]
            usable = [candidate for candidate, reason in zip(side, refusals, strict=True) if not reason]
            if not usable:
                raise NoPair(f"{name}_{Counter(refusals).most_common(1)[0][0]}", ", ".join(sorted(refusals)))
            sides.append(usable)
        return sides[0], sides[1]

    def _rank_chosen(self, right: list[Candidate]) -> list[Candidate]:
        """Sort right responses: best reward first, or shortest first (also used where rewards are missing)."""
        if self.settings.chosen == "reward":
            return sorted(right, key=lambda c: (_unrewarded(c), -_reward(c), len(c.text), c.tie_break))
        return sorted(right, key=lambda c: (len(c.text), c.tie_break))

    # --- both sides together ---------------------------------------------------------------------------------------------

    def _valid_pairs(self, sides: Sides) -> Iterable[tuple[Candidate, Candidate]]:
        """Return the valid pairs, best first."""
        ranked = itertools.product(enumerate(sides.chosen), enumerate(sides.rejected))
        ordered = sorted(ranked, key=lambda both: (both[0][0] + both[1][0], both[0][0]))
        refused: Counter[str] = Counter()
        valid = []
        for (_, chosen), (_, rejected) in ordered:
            if reason := self._mismatch(chosen, rejected):
                refused[reason] += 1
            else:
                valid.append((chosen, rejected))
        if not valid:
            raise NoPair(
                refused.most_common(1)[0][0], ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
            )
        return valid

    def _mismatch(self, chosen: Candidate, rejected: Candidate) -> str:
        """Return why two responses are not a pair, or an empty text."""
        if chosen.answer == rejected.answer or (chosen.group is not None and chosen.group == rejected.group):
            return "same_answer"
        lengths = sorted((len(chosen.text), len(rejected.text)))
        if lengths[1] > self.settings.longest_ratio * lengths[0]:
            return "lengths_apart"
        least = self.settings.least_reward_margin
        if least is not None and not _reward(chosen) - _reward(rejected) > least:
            return "low_reward_margin"
        return ""


def spread(valid: Sequence[tuple[Candidate, Candidate]], wanted: int) -> list[tuple[Candidate, Candidate]]:
    """Return up to `wanted` pairs, best first, reusing each response as seldom as possible."""
    uses: Counter[tuple[str, int]] = Counter()
    left = list(valid)
    out: list[tuple[Candidate, Candidate]] = []
    while left and len(out) < wanted:
        best = min(range(len(left)), key=lambda i: (uses["chosen", left[i][0].index] + uses["rejected", left[i][1].index], i))
        chosen, rejected = left.pop(best)
        uses["chosen", chosen.index] += 1
        uses["rejected", rejected.index] += 1
        out.append((chosen, rejected))
    return out


def exclusion_reason(response: str, finish: str | None) -> str:
    """Return why a response is excluded, or an empty text. Without a finish reason it counts as complete."""
    if not response.strip():
        return "empty"
    if finish not in (None, "stop"):
        return UNFINISHED.get(finish or "", "unfinished")
    return "looping" if ends_in_loop(response) else ""


def row_of(record: dict[str, Any], pair: Pair, number: int) -> dict[str, Any]:
    """Return the output row of a pair, in TRL's explicit-prompt conversational format; `number` counts from 0."""
    chosen, rejected = pair.chosen, pair.rejected
    return {key: value for key, value in record.items() if key not in PER_RESPONSE_KEYS} | {
        "pair": number,
        "prompt": [{"role": "user", "content": record["instruction"]}],
        "chosen": [{"role": "assistant", "content": chosen.text}],
        "rejected": [{"role": "assistant", "content": rejected.text}],
        "chosen_index": chosen.index,
        "rejected_index": rejected.index,
        "answer_chosen": chosen.answer,
        "answer_rejected": rejected.answer,
        "score_chosen": chosen.reward,
        "score_rejected": rejected.reward,
        "votes_chosen": chosen.votes,
        "votes_rejected": rejected.votes,
        "vote_margin": pair.vote_margin,
        "pair_weight": pair.weight,
        "why": pair.why,
    }


def _require_stages(record: dict[str, Any], strategy: Strategy) -> None:
    """Check that verification and, if needed, rewards are there.

    Raises:
        MagpieError: the stage was not run on the file.
        NoPair: it was, but could not verify the record.
    """
    name = f"the record {record.get('id')!r}"
    if "answer_groups" not in record:
        raise MagpieError(f"{name} has no `answer_groups`: run exp/verify.py on the file before")
    if strategy == "reward" and "rewards" not in record:
        raise MagpieError(
            f"{name} has no `rewards`: run exp/gen_po_rewards.py on the file before, or choose another --strategy"
        )
    if record["answer_groups"] is None:
        raise NoPair("not_verified")


def _values(record: dict[str, Any], key: str, count: int) -> list[Any]:
    """Return a key's values, one per response."""
    values = record.get(key)
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise NoPair("inconsistent_lists", f"`{key}` has not one value for each of the {count} responses")
    return values


def _reward(candidate: Candidate) -> float:
    return candidate.reward if candidate.reward is not None else 0.0


def _unrewarded(candidate: Candidate) -> bool:
    """Return a sort key that places candidates without a reward last."""
    return candidate.reward is None


def _ranked(candidates: list[Candidate], how: str) -> list[Candidate]:
    """Sort candidates: `tempting` (hard negatives first: best reward, most votes) or `least` (fewest votes, worst reward)."""
    keys: dict[str, Callable[[Candidate], Any]] = {
        "tempting": lambda c: (_unrewarded(c), -_reward(c), -c.votes, c.tie_break),
        "least": lambda c: (c.votes, _unrewarded(c), _reward(c), c.tie_break),
    }
    return sorted(candidates, key=keys[how])
