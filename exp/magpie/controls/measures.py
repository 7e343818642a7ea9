"""What controls show: shares with their 95% Wilson intervals, by agreement, pass rate, difficulty, domain and stage."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from magpie.common.console import MagpieError
from magpie.controls.judging import Seen, Verdicts, seen
from magpie.records.reading import read_rows
from magpie.records.schema import is_control

LEAST_OF_DOMAIN = 20
"""Minimum number of controls for a domain to be listed."""
EXAMPLES = 5
Measures = dict[str, Any]


def wilson(count: float, of: float, confidence: float = 0.95) -> list[float]:
    """Return the ends of Wilson's interval of a share; a count need not be whole (an effective one)."""
    if of <= 0:
        return [0.0, 1.0]
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), count / of
    middle, spread = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    return [round(max(0.0, (middle - spread) / whole), 4), round(min(1.0, (middle + spread) / whole), 4)]


def _share(count: int, of: int) -> Measures:
    return {"share": round(count / of, 4), "interval": wilson(count, of)} if of else {"share": None}


def labels(controls: Iterable[Seen], verdicts: Verdicts) -> Measures:
    """Return how many labels are right and wrong, and the share of wrong ones among both."""
    found = Counter("none" if one.label is None else str(verdicts.of(one, one.label)) for one in controls)
    right, wrong = found["True"], found["False"]
    counts = {"right": right, "wrong": wrong, "not_judged": found["None"], "without_label": found["none"]}
    return counts | _share(wrong, right + wrong)


def curve(controls: list[Seen], verdicts: Verdicts) -> list[Measures]:
    """Return the share of right labels by agreement, and from each agreement on."""
    by_agreement: dict[float, list[bool | None]] = defaultdict(list)
    for one in controls:
        if one.agreement is not None:
            by_agreement[one.agreement].append(verdicts.of(one, one.label))
    rows: list[Measures] = []
    above = Counter[bool | None]()
    for agreement in sorted(by_agreement, reverse=True):
        here = Counter(by_agreement[agreement])
        above += here
        judged, all_judged = here[True] + here[False], above[True] + above[False]
        rows.append(
            {"agreement": agreement, "controls": here.total(), "right": here[True]}
            | _share(here[True], judged)
            | {"from_here": {"controls": above.total(), "right": above[True]} | _share(above[True], all_judged)}
        )
    return rows[::-1]


def least_agreement(controls: list[Seen], verdicts: Verdicts, target: float) -> Measures:
    """Return the row of the least agreement at and above which at least the target share of labels is right.

    The lower end of Wilson's interval counts (one-sided, 95%), and what could not be judged counts as wrong.

    Raises:
        MagpieError: no agreement reaches the target.
    """
    rows = [row | row["from_here"] for row in curve(controls, verdicts)]
    for row in rows:
        row["lower"] = wilson(row["right"], row["controls"], 0.9)[0]
    found = next((row for row in rows if row["lower"] >= target), None)
    if found is None:
        best = max(rows, key=lambda row: row["lower"], default=None)
        told = (
            f"the best is from {best['agreement']:g} on: {best['right']} of {best['controls']} are right, so at least "
            f"{100 * best['lower']:.1f}%"
            if best
            else "there is no control with an agreement that passes the rules"
        )
        raise MagpieError(
            f"--target_precision {target:g}: no agreement is supported by the controls ({told}). More controls (gen_ins.py "
            "--planted), a lower target, or other rules may help"
        )
    return found


def least_agreement_of(path: Path, passes: Callable[[dict[str, Any]], bool], target: float) -> Measures:
    """Return the same for the controls in a file that pass."""
    found = (row.record for row in read_rows(path, ()) if row.record and is_control(row.record))
    controls = [seen(record) for record in found if passes(record)]
    verdicts = Verdicts()
    verdicts.add(controls)
    return least_agreement(controls, verdicts, target)


def calibration(controls: list[Seen], verdicts: Verdicts, key: Callable[[Seen], Any]) -> list[Measures]:
    """Return the mean pass rate and the mean share of right responses, by a control's value of `key`."""
    groups: dict[Any, list[tuple[float, float]]] = defaultdict(list)
    for one in controls:
        true = verdicts.rate(one)
        if one.pass_rate is not None and true is not None:
            groups[key(one)].append((one.pass_rate, true))
    return [
        {
            "group": group,
            "controls": len(pairs),
            "pass_rate": round(fmean(told for told, _ in pairs), 4),
            "right": round(fmean(true for _, true in pairs), 4),
        }
        for group, pairs in sorted(groups.items(), key=lambda item: str(item[0]))
    ]


def fifth(one: Seen) -> str:
    """Return the quintile that a pass rate falls into."""
    low = min(4, int((one.pass_rate or 0.0) * 5)) / 5
    return f"{low:.1f}–{low + 0.2:.1f}"


def reweighted(controls: list[Seen], verdicts: Verdicts, others: Counter[str | None]) -> Measures:
    """Return the share of wrong labels, re-weighted to the measured difficulties of the other records.

    The interval is Wilson's with the effective number of controls, (sum of weights)² / sum of their squares.
    """
    strata: dict[str | None, list[bool]] = defaultdict(list)
    for one in controls:
        verdict = verdicts.of(one, one.label)
        if verdict is not None:
            strata[one.difficulty].append(not verdict)
    covered = {name: others[name] for name in strata if others[name]}
    total = sum(covered.values())
    if not total or set(strata) == {None}:
        return {}
    share = sum(count * fmean(strata[name]) for name, count in covered.items()) / total
    effective = total**2 / sum(count**2 / len(strata[name]) for name, count in covered.items())
    interval = wilson(share * effective, effective)
    return {"share": round(share, 4), "interval": interval, "covers": round(total / others.total(), 4)}


def pairs(controls: list[Seen], verdicts: Verdicts) -> Measures:
    """Return in how many pairs the chosen response is right and the rejected one is not; one without an answer is not."""
    found = [(verdicts.of(one, one.label), verdicts.of(one, one.rejected) if one.rejected else False) for one in controls]
    judged = [(chosen, rejected) for chosen, rejected in found if chosen is not None and rejected is not None]
    right = sum(chosen and not rejected for chosen, rejected in judged)
    reversed_ = sum(rejected and not chosen for chosen, rejected in judged)
    counts = {"pairs": len(found), "judged": len(judged), "right": right, "reversed": reversed_}
    return counts | {"both_right": sum(all(one) for one in judged)} | _share(right, len(judged))


def domains(controls: list[Seen], verdicts: Verdicts) -> dict[str, Measures]:
    """Return the labels of each domain that has enough controls."""
    groups: dict[str, list[Seen]] = defaultdict(list)
    for one in controls:
        groups[one.domain].append(one)
    return {name: labels(some, verdicts) for name, some in sorted(groups.items()) if len(some) >= LEAST_OF_DOMAIN}


def verifier(controls: list[Seen], verdicts: Verdicts) -> Measures:
    """Return how often our verdict on an answer differs from that of reasoning-gym's scorer."""
    found = list(verdicts.beside_scorers(controls))
    differing = [row for row in found if row[2] != row[3]]
    counts = {"answers": len(found), "only_ours_right": sum(ours for _, _, ours, _ in differing), "differ": len(differing)}
    examples = [
        {"family": one.control["family"], "answer": answer[:80], "exact": one.exact, "ours": ours}
        for one, answer, ours, _ in differing[:EXAMPLES]
    ]
    return counts | _share(len(differing), len(found)) | ({"examples": examples} if examples else {})
