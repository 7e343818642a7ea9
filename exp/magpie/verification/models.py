"""Several models' responses to one problem: their votes, their disagreements, and which model is weak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, log
from magpie.records.reading import read_rows
from magpie.records.rows import known_keys
from magpie.verification.pool import Judgement
from magpie.verification.votes import leaders, vote

RATES = ("weak_pass_rate", "strong_pass_rate", "pass_rate_gap", "strong_agreement")
"""Results of `rates_of`: fields for filter rules, which no record has."""


def model_votes(record: dict[str, Any], judgement: Judgement, winner: int | None) -> dict[str, Any]:
    """Return each model's votes (`model_votes`) and whether their majorities are equal (`models_agree`).

    Empty if a record does not say which model wrote which response. A pass rate is the share of right ones among all requested
    from the model; without a reference answer, the share that agrees with the majority of all (`winner`).
    """
    models = record.get("response_models")
    if not isinstance(models, list) or len(models) != len(judgement.answers):
        return {}
    asked, known = record.get("asked_by_model") or {}, bool(record.get("reference_answer"))
    found, winners = {}, set()
    for model in dict.fromkeys([*models, *(model for model, count in asked.items() if count)]):
        own = _of_model(judgement, [index for index, one in enumerate(models) if one == model])
        if not known:
            own = replace(own, correct=[group is not None and group == winner for group in own.groups])
        result = vote(own, has_reference=known or winner is not None, asked=max(asked.get(model, 0), len(own.answers)))
        if (first := leaders(own.groups)[0]) is not None:
            winners.add(first)
        found[model] = {
            "asked": max(asked.get(model, 0), len(own.answers)),
            "answered": result.answered,
            "majority_answer": result.majority_answer,
            "agreement": result.agreement,
            "pass_rate": result.pass_rate if known or winner is not None else None,
        }
    told = sum(one["majority_answer"] is not None for one in found.values())
    return {"model_votes": found, "models_agree": len(winners) == 1 if told > 1 else None}


def _of_model(judgement: Judgement, indices: list[int]) -> Judgement:
    def some(values: list[Any]) -> list[Any]:
        return [values[index] for index in indices]

    return Judgement(some(judgement.answers), some(judgement.states), some(judgement.groups), some(judgement.correct))


class PassRates:
    """The mean pass rates of models over many records, and the number of records with equal majorities."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.agree = self.disagree = 0

    def add(self, record: dict[str, Any]) -> None:
        """Count a record."""
        for model, one in (record.get("model_votes") or {}).items():
            if (rate := one.get("pass_rate")) is not None:
                self.rates[model].append(rate)
        self.agree += record.get("models_agree") is True
        self.disagree += record.get("models_agree") is False

    @property
    def means(self) -> dict[str, float]:
        """The mean of each model, the lowest first."""
        return dict(sorted(((model, sum(some) / len(some)) for model, some in self.rates.items()), key=lambda one: one[1]))

    def text(self) -> str:
        """Return a description, or an empty text for fewer than two models."""
        if len(self.rates) < 2:
            return ""
        rates = ", ".join(f"{model} {rate:.3f}" for model, rate in self.means.items())
        return f"mean pass rates: {rates}; majorities differ on {self.disagree:,} of {self.agree + self.disagree:,} problems"


def records_with_votes(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the readable records of a file, reduced to their models' votes."""
    return (row.record for row in read_rows(path, (), known_keys(("model_votes",))) if row.record is not None)


def two_models(path: Path, weak: str = "", strong: str = "") -> tuple[str, str]:
    """Return a file's weak and strong model (`weak_and_strong`), and log them."""
    found = weak_and_strong(records_with_votes(path), weak, strong)
    log.info("weak: %s; strong: %s", *found)
    return found


def weak_and_strong(records: Iterable[dict[str, Any]], weak: str = "", strong: str = "") -> tuple[str, str]:
    """Return the weak model's name and the strong one's: as named by the user, else by their mean pass rates.

    Raises:
        MagpieError: there are not two models, a name does not match, or it is unknown which one is weaker.
    """
    found = PassRates()
    for record in records:
        found.add(record)
    means = found.means
    if len(means) < 2:
        raise MagpieError(
            f"{len(means)} models have a pass rate in this file, and two are compared: add the other's responses with "
            "gen_res.py --append, then verify.py"
        )
    first, last = (_named(name, means) for name in (weak, strong))
    low = first or next(model for model in means if model != last)
    high = last or next(model for model in reversed(means) if model != first)
    if low == high:
        raise MagpieError(f"{low} is named as the weak model and as the strong one. Name two")
    if not (weak or strong) and means[low] == means[high]:
        raise MagpieError(f"{low} and {high} have the same mean pass rate. Say which is weak: --weak_model NAME")
    return low, high


def _named(name: str, models: Iterable[str]) -> str:
    """Return the model with this name or last part of a name; empty for none."""

    def last(text: str) -> str:
        return text.rstrip("/").rsplit("/", 1)[-1].lower()

    same = [model for model in models if name and last(name) in (last(model), last(model).partition("@")[0])]
    if name and len(same) != 1:
        raise MagpieError(f"{name}: {len(same)} models of this file have that name. There are: {', '.join(models)}")
    return same[0] if same else ""


def rates_of(record: dict[str, Any], weak: str, strong: str) -> dict[str, float | None]:
    """Return the pass rates of both models, the strong one's lead, and its votes' agreement."""
    votes = record.get("model_votes") or {}
    low, high = votes.get(weak) or {}, votes.get(strong) or {}
    below, above = low.get("pass_rate"), high.get("pass_rate")
    gap = None if below is None or above is None else round(above - below, 9)
    return dict(zip(RATES, (below, above, gap, high.get("agreement")), strict=True))
