"""Rounds of preference training: each round's pass rates compared with the previous round's, on the problems that both have."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie.chain.job_file import JOB_FILE, Chain, chain_key, read_chains
from magpie.records.reading import read_rows
from magpie.records.rows import known_keys
from magpie.runs.jobs import model_name


@dataclass(frozen=True)
class Round:
    """One round; the last four fields are of problems shared with the previous one: means before and now, rises, falls."""

    number: int
    model: str
    problems: int
    mean: float
    common: int = 0
    before: float = 0.0
    now: float = 0.0
    rose: int = 0
    fell: int = 0


def rounds_of(folder: Path) -> list[Round]:
    """Return the finished rounds of a job; none if there is only one."""
    chains = read_chains(folder / JOB_FILE) or {}
    found: list[Round] = []
    earlier: dict[Any, float] = {}
    for number in itertools.count(1):
        chain = chains.get(chain_key("align", number))
        verified = _verified(folder, chain) if chain else None
        if verified is None:
            return found if len(found) > 1 else []
        model, rates = _rates(verified)
        both = [(earlier[key], rate) for key, rate in rates.items() if key in earlier]
        found.append(
            Round(
                number,
                model,
                len(rates),
                _mean(list(rates.values())),
                len(both),
                _mean([was for was, _ in both]),
                _mean([now for _, now in both]),
                sum(now > was for was, now in both),
                sum(now < was for was, now in both),
            )
        )
        earlier = rates
    return found


def _verified(folder: Path, chain: Chain) -> Path | None:
    state = next((one for one in chain.stages if one.stage.name == "verified" and one.status == "complete"), None)
    path = folder / state.outputs[0].output if state and state.outputs else None
    return path if path and path.exists() else None


def _rates(path: Path) -> tuple[str, dict[Any, float]]:
    model, rates = "", {}
    for row in read_rows(path, (), known_keys(("id", "pass_rate", "gen_response_configs"))):
        record = row.record or {}
        model = model or model_name(record.get("gen_response_configs") or {})
        if (rate := record.get("pass_rate")) is not None:
            rates[record.get("id")] = rate
    return model, rates


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)
