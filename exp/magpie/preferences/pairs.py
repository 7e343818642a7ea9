"""Preference pairs: which two of a problem's responses become the chosen and the rejected one, and why a problem gives none."""

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

Strategy = Literal["verified", "consensus", "reward"]
STRATEGIES: tuple[Strategy, ...] = ("verified", "consensus", "reward")
PER_RESPONSE = (
    *("response", "responses", "reasoning", "finish_reason", "completion_tokens", "previous", "lost_responses"),
    *("answers", "answer_states", "answer_groups", "is_correct", "answer_judgements", "response_index"),
    *("rewards", "rewards_by_model"),
)
"""Keys that speak of single responses: the input keeps them, a pair has its two."""
UNFINISHED = {"length": "truncated", "repetition": "looping"}


class NoPair(Exception):
    """A problem that gives no pair; `reason` goes into the dropped row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Candidate:
    """One response. `text`: all that the model is to write; `unfit`: why it can be on neither side (else empty)."""

    index: int
    text: str
    answer: str | None
    group: int | None
    correct: bool | None
    reward: float | None
    unfit: str
    votes: int
    """How many responses give its answer; 0 where it has none that could be read."""
    luck: bytes
    """Decides between equals: the run's seed, the problem's id and the response's index, hashed."""


@dataclass(frozen=True)
class Sides:
    """The candidates of both sides, the preferred first, and what they rest on."""

    chosen: list[Candidate]
    rejected: list[Candidate]
    why: str


@dataclass(frozen=True)
class Pair:
    """Two responses. `vote_margin`: the difference of their votes, as a share of all votes (null: nobody voted)."""

    chosen: Candidate
    rejected: Candidate
    why: str
    vote_margin: float | None
    weight: float


class PairMaker:
    """Makes the pairs of one record after another.

    Args:
        strategy: how right and wrong are told.
        settings: its thresholds.
        wanted: pairs a problem at most.
        seed: decides between responses that are equally good.
        reasoning: put the chain of thought before the solution.
    """

    def __init__(
        self, strategy: Strategy, settings: PairSettings, *, wanted: int = 1, seed: int = 0, reasoning: bool = True
    ) -> None:
        self.settings = settings
        self._strategy, self._wanted, self._seed, self._reasoning = strategy, wanted, seed, reasoning
        self._sides = {"verified": self._verified, "consensus": self._consensus, "reward": self._rewarded}[strategy]

    def pairs(self, record: dict[str, Any]) -> list[Pair]:
        """Return a record's pairs, the best first.

        Raises:
            NoPair: it gives none.
            MagpieError: a stage that has to come before was not run.
        """
        candidates = self._candidates(record)
        sides = self._sides(record, candidates)
        fitting = list(self._fitting(sides))
        parsed = sum(candidate.group is not None for candidate in candidates)
        return [self._pair(one, other, sides.why, parsed) for one, other in spread(fitting, self._wanted)]

    def _pair(self, chosen: Candidate, rejected: Candidate, why: str, parsed: int) -> Pair:
        margin = (chosen.votes - rejected.votes) / parsed if parsed else None
        weight = margin if self._strategy == "consensus" and margin is not None else 1.0
        return Pair(chosen, rejected, why, margin, weight)

    # --- the responses of a record ---------------------------------------------------------------------------------------

    def _candidates(self, record: dict[str, Any]) -> list[Candidate]:
        responses = record.get("responses")
        if not responses:
            raise NoPair("no_responses")
        _refuse_unprepared(record, self._strategy)
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
            unfit = "repeated" if text in seen else unfitness(response, finish)
            seen.add(text)
            luck = hashlib.blake2b(f"{identity}:{index}".encode(), digest_size=8).digest()
            out.append(
                Candidate(index, text, answer, group, correct, reward, unfit, votes[group] if group is not None else 0, luck)
            )
        return out

    # --- the strategies --------------------------------------------------------------------------------------------------

    def _verified(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Right against wrong: by the reference answer where the record has one, else by the vote."""
        if not record.get("reference_answer"):
            right, wrong = self._voted(candidates)
            return Sides(self._by_merit(right), _ranked(wrong, self.settings.rejected_by_vote), "majority")
        if all(candidate.correct is None for candidate in candidates):
            raise NoPair("not_compared", "no answer could be compared with the reference answer")
        right = [candidate for candidate in candidates if candidate.correct]
        wrong = [candidate for candidate in candidates if candidate.correct is False]
        if not right or not wrong:
            raise NoPair("none_wrong" if right else "none_right")
        right, wrong = self._usable(right, wrong)
        return Sides(self._by_merit(right), _ranked(wrong, self.settings.rejected), "reference")

    def _consensus(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """The most against the least self-consistent answer."""
        right, wrong = self._voted(candidates)
        by_luck = sorted(right, key=lambda candidate: candidate.luck)
        return Sides(by_luck, sorted(wrong, key=lambda candidate: (candidate.votes, candidate.luck)), "consensus")

    def _rewarded(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Magpie's rule: the best against the worst reward."""
        rewarded = [candidate for candidate in candidates if candidate.reward is not None]
        if len(rewarded) < 2:
            raise NoPair("no_rewards")
        good, bad = self._usable(rewarded, rewarded)
        return Sides(_ranked(good, "tempting"), sorted(bad, key=lambda c: (_reward(c), c.luck)), "reward")

    def _voted(self, candidates: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Return the usable members of a clear majority, and the usable others."""
        settings = self.settings
        votes = Counter(candidate.group for candidate in candidates if candidate.group is not None)
        cast = votes.total()
        if cast < settings.least_votes:
            raise NoPair("few_votes", f"{cast} answers could be read")
        (winner, most), *others = votes.most_common(2)
        second = others[0][1] if others else 0
        if not others and not (settings.rejected_without_answer and cast < len(candidates)):
            raise NoPair("all_agree")
        if most / cast < settings.least_agreement:
            raise NoPair("low_agreement", f"{most} of {cast}")
        if most == second or (most - second) / cast < settings.least_margin:
            raise NoPair("low_margin", f"{most} against {second} of {cast}")
        right = [candidate for candidate in candidates if candidate.group == winner]
        return self._usable(right, [candidate for candidate in candidates if candidate.group != winner])

    def _usable(self, chosen: list[Candidate], rejected: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Return what of both sides may be in a pair."""

        def refusal(candidate: Candidate, *, without_answer: bool) -> str:
            if candidate.unfit:
                return candidate.unfit
            if candidate.answer is None:
                return "" if without_answer else "no_answer"
            return "unread_answer" if candidate.group is None else ""  # it may be equal to the other side's

        sides = []
        for name, side, allowed in (("chosen", chosen, False), ("rejected", rejected, self.settings.rejected_without_answer)):
            refusals = [refusal(candidate, without_answer=allowed) for candidate in side]
            usable = [candidate for candidate, reason in zip(side, refusals, strict=True) if not reason]
            if not usable:
                raise NoPair(f"{name}_{Counter(refusals).most_common(1)[0][0]}", ", ".join(sorted(refusals)))
            sides.append(usable)
        return sides[0], sides[1]

    def _by_merit(self, right: list[Candidate]) -> list[Candidate]:
        """Sort right ones: the best rewarded first, or the shortest (which also stands in where rewards are missing)."""
        by_reward = self.settings.chosen == "reward"
        return sorted(right, key=lambda c: (_last(c), -_reward(c), len(c.text), c.luck) if by_reward else (len(c.text), c.luck))

    # --- both sides together ---------------------------------------------------------------------------------------------

    def _fitting(self, sides: Sides) -> Iterable[tuple[Candidate, Candidate]]:
        """Return the pairs that may be, the preferred first."""
        ranked = itertools.product(enumerate(sides.chosen), enumerate(sides.rejected))
        ordered = sorted(ranked, key=lambda both: (both[0][0] + both[1][0], both[0][0]))
        refused: Counter[str] = Counter()
        fitting = []
        for (_, chosen), (_, rejected) in ordered:
            if reason := self._mismatch(chosen, rejected):
                refused[reason] += 1
            else:
                fitting.append((chosen, rejected))
        if not fitting:
            raise NoPair(
                refused.most_common(1)[0][0], ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
            )
        return fitting

    def _mismatch(self, chosen: Candidate, rejected: Candidate) -> str:
        """Return why two responses make no pair, or an empty text."""
        if chosen.answer == rejected.answer or (chosen.group is not None and chosen.group == rejected.group):
            return "same_answer"
        lengths = sorted((len(chosen.text), len(rejected.text)))
        if lengths[1] > self.settings.longest_ratio * lengths[0]:
            return "lengths_apart"
        least = self.settings.least_reward_margin
        if least is not None and not _reward(chosen) - _reward(rejected) > least:
            return "low_reward_margin"
        return ""


def spread(fitting: Sequence[tuple[Candidate, Candidate]], wanted: int) -> list[tuple[Candidate, Candidate]]:
    """Return so many of the pairs, the preferred first, each response as seldom as it can be."""
    uses: Counter[tuple[str, int]] = Counter()
    left = list(fitting)
    out: list[tuple[Candidate, Candidate]] = []
    while left and len(out) < wanted:
        best = min(range(len(left)), key=lambda i: (uses["chosen", left[i][0].index] + uses["rejected", left[i][1].index], i))
        chosen, rejected = left.pop(best)
        uses["chosen", chosen.index] += 1
        uses["rejected", rejected.index] += 1
        out.append((chosen, rejected))
    return out


def unfitness(response: str, finish: str | None) -> str:
    """Return why a response can be in no pair, or an empty text. Without a finish reason it is not known to be cut."""
    if not response.strip():
        return "empty"
    if finish not in (None, "stop"):
        return UNFINISHED.get(finish or "", "unfinished")
    return "looping" if ends_in_loop(response) else ""


def row_of(record: dict[str, Any], pair: Pair, number: int) -> dict[str, Any]:
    """Return a pair as the output has it, in TRL's explicit-prompt conversational format; `number` counts from 0."""
    chosen, rejected = pair.chosen, pair.rejected
    return {key: value for key, value in record.items() if key not in PER_RESPONSE} | {
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


def _refuse_unprepared(record: dict[str, Any], strategy: Strategy) -> None:
    """Tell a file that a stage was left out for from a record of which a stage could say nothing."""
    named = f"the record {record.get('id')!r}"
    if "answer_groups" not in record:
        raise MagpieError(f"{named} has no `answer_groups`: run exp/verify.py on the file before")
    if strategy == "reward" and "rewards" not in record:
        raise MagpieError(
            f"{named} has no `rewards`: run exp/gen_po_rewards.py on the file before, or choose another --strategy"
        )
    if record["answer_groups"] is None:
        raise NoPair("not_verified")


def _values(record: dict[str, Any], key: str, count: int) -> list[Any]:
    """Return a key's value for each response."""
    values = record.get(key)
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise NoPair("inconsistent_lists", f"`{key}` has not one value for each of the {count} responses")
    return values


def _reward(candidate: Candidate) -> float:
    return candidate.reward if candidate.reward is not None else 0.0


def _last(candidate: Candidate) -> bool:
    """Sort those without a reward behind the others."""
    return candidate.reward is None


def _ranked(wrong: list[Candidate], how: str) -> list[Candidate]:
    """Sort wrong ones: the most tempting (best rewarded, most often given) or the least (most seldom given, worst rewarded)."""
    keys: dict[str, Callable[[Candidate], Any]] = {
        "tempting": lambda c: (_last(c), -_reward(c), -c.votes, c.luck),
        "least": lambda c: (c.votes, _last(c), _reward(c), c.luck),
    }
    return sorted(wrong, key=keys[how])
