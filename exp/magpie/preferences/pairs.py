"""Preference pairs: the selection of a chosen and a rejected response from a problem's responses, or the reason for none."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from magpie.common.console import MagpieError
from magpie.preferences.candidates import Candidate, NoPair, candidates_of
from magpie.preferences.config import PairSettings
from magpie.verification.votes import leaders, votes_meant

Strategy = Literal["verified", "consensus", "reward", "strong_weak", "concise"]
STRATEGIES: tuple[Strategy, ...] = ("verified", "consensus", "reward", "strong_weak", "concise")
PER_RESPONSE_KEYS = (
    *("response", "responses", "reasoning", "finish_reason", "completion_tokens", "previous", "lost_responses"),
    *("votes_asked", "stop_reason", "response_models", "asked_by_model"),
    *("answers", "answer_states", "answer_groups", "is_correct", "answer_judgements", "response_index"),
    *("rewards", "rewards_by_model"),
)
"""Keys with one entry per response, which a pair does not inherit."""


@dataclass(frozen=True)
class Sides:
    """The candidates of both sides, best first, and the basis of the choice (`why`)."""

    chosen: list[Candidate]
    rejected: list[Candidate]
    why: str


@dataclass(frozen=True)
class Pair:
    """Two responses. `vote_margin`: the difference of their votes as a share of all requested (None: no votes)."""

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
        models: the weak and the strong model, for `strong_weak`.
    """

    def __init__(
        self,
        strategy: Strategy,
        settings: PairSettings,
        *,
        wanted: int = 1,
        seed: int = 0,
        reasoning: bool = True,
        models: tuple[str, str] = ("", ""),
    ) -> None:
        self.settings, (self._weak, self._strong) = settings, models
        self._strategy, self._wanted, self._seed, self._reasoning = strategy, wanted, seed, reasoning
        self._sides = {
            "verified": self._by_verification,
            "consensus": self._by_consensus,
            "reward": self._by_reward,
            "strong_weak": self._by_models,
            "concise": self._by_length,
        }[strategy]

    def pairs(self, record: dict[str, Any]) -> list[Pair]:
        """Return a record's pairs, the best first.

        Raises:
            NoPair: it has none.
            MagpieError: a stage that this strategy needs was not run.
        """
        if not record.get("responses"):
            raise NoPair("no_responses")
        _require_stages(record, self._strategy)
        candidates = candidates_of(record, seed=self._seed, reasoning=self._reasoning)
        sides = self._sides(record, candidates)
        valid = list(self._valid_pairs(sides))
        asked = votes_meant(record, len(candidates)) if any(candidate.votes for candidate in candidates) else None
        return [self._pair(one, other, sides.why, asked) for one, other in spread(valid, self._wanted)]

    def _pair(self, chosen: Candidate, rejected: Candidate, why: str, asked: int | None) -> Pair:
        margin = (chosen.votes - rejected.votes) / asked if asked else None
        weight = margin if self._strategy == "consensus" and margin is not None else 1.0
        return Pair(chosen, rejected, why, margin, weight)

    # --- the strategies --------------------------------------------------------------------------------------------------

    def _by_verification(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return right and wrong responses: by the reference answer if the record has one, else by majority vote."""
        right, wrong, why = self._judged(record, candidates)
        right, wrong = self._usable(right, wrong)
        how = self.settings.rejected if why == "reference" else self.settings.rejected_by_vote
        return Sides(self._rank_chosen(right), _ranked(wrong, how), why)

    def _by_models(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return the right responses of the strong model and the wrong ones of the weak model."""
        right, wrong, why = self._judged(record, candidates)
        right = [candidate for candidate in right if candidate.model == self._strong]
        wrong = [candidate for candidate in wrong if candidate.model == self._weak]
        if not right or not wrong:
            raise NoPair("weak_not_wrong" if right else "strong_not_right")
        right, wrong = self._usable(right, wrong)
        return Sides(self._rank_chosen(right), _ranked(wrong, self.settings.rejected), why)

    def _by_length(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return the right responses, shortest first, and again longest first."""
        right, _, why = self._judged(record, candidates, wrong_needed=False)
        right, _ = self._usable(right, right)
        shortest = sorted(right, key=lambda c: (len(c.text), c.tie_break))
        return Sides(shortest, shortest[::-1], why)

    def _judged(
        self, record: dict[str, Any], candidates: list[Candidate], *, wrong_needed: bool = True
    ) -> tuple[list[Candidate], list[Candidate], str]:
        """Return the right and the wrong responses, and whether the reference answer or a clear majority says so."""
        if not record.get("reference_answer"):
            asked = votes_meant(record, len(candidates))
            return *self._split_by_vote(candidates, asked, wrong_needed=wrong_needed), "majority"
        if all(candidate.correct is None for candidate in candidates):
            raise NoPair("not_compared", "no answer could be compared with the reference answer")
        right = [candidate for candidate in candidates if candidate.correct]
        wrong = [candidate for candidate in candidates if candidate.correct is False]
        if not right or (wrong_needed and not wrong):
            raise NoPair("none_wrong" if right else "none_right")
        return right, wrong, "reference"

    def _by_consensus(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return the responses with the most and the least consistent answers."""
        right, wrong = self._usable(*self._split_by_vote(candidates, votes_meant(record, len(candidates))))
        in_random_order = sorted(right, key=lambda candidate: candidate.tie_break)
        return Sides(in_random_order, sorted(wrong, key=lambda candidate: (candidate.votes, candidate.tie_break)), "consensus")

    def _by_reward(self, record: dict[str, Any], candidates: list[Candidate]) -> Sides:
        """Return the responses with the best and the worst rewards: Magpie's rule."""
        rewarded = [candidate for candidate in candidates if candidate.reward is not None]
        if len(rewarded) < 2:
            raise NoPair("no_rewards")
        good, bad = self._usable(rewarded, rewarded)
        return Sides(_ranked(good, "tempting"), sorted(bad, key=lambda c: (_reward(c), c.tie_break)), "reward")

    def _split_by_vote(
        self, candidates: list[Candidate], asked: int, *, wrong_needed: bool = True
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Return the responses of a clear majority, and the other ones."""
        settings = self.settings
        cast = sum(candidate.group is not None for candidate in candidates)
        if cast < settings.least_votes:
            raise NoPair("few_votes", f"{cast} answers could be read")
        winner, most, second = leaders(candidate.group for candidate in candidates)
        if wrong_needed and not second and not (settings.rejected_without_answer and cast < len(candidates)):
            raise NoPair("all_agree")
        if most / asked < settings.least_agreement:
            raise NoPair("low_agreement", f"{most} of {asked}")
        if winner is None or (most - second) / asked < settings.least_margin:
            raise NoPair("low_margin", f"{most} against {second} of {asked}")
        right = [candidate for candidate in candidates if candidate.group == winner]
        return right, [candidate for candidate in candidates if candidate.group != winner]

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
        if self._strategy == "concise":
            if chosen.model != rejected.model:
                return "other_model"
            return "lengths_alike" if len(rejected.text) < self.settings.least_ratio * len(chosen.text) else ""
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
        **({"model_chosen": chosen.model, "model_rejected": rejected.model} if chosen.model or rejected.model else {}),
    }


def _require_stages(record: dict[str, Any], strategy: Strategy) -> None:
    """Check that the record has verification results and, if needed, rewards.

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
