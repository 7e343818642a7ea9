"""The facts of a job, read from its run files and record files, each in one pass; memory does not grow with them."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magpie.common.reservoir import Reservoir
from magpie.reporting.funnel import EXPECTED, STEPS, Step, is_right, line_of, records_of, steps_of
from magpie.reporting.rounds import Round, rounds_of
from magpie.reporting.samples import SHORT_CHARACTERS, Record, Sample, content_of, listed, pair_sample, sample_of
from magpie.reporting.streaming_stats import Labels, Numbers
from magpie.runs.jobs import run_files
from magpie.runs.run_file import RunFile

LABELS = ("answer_type", "input_quality", "task_category", "language", "safety")
HARDNESS = ("difficulty", "difficulty_measured")
"""Difficulty in a model's opinion, and by pass rate."""
PROGRAMS = {True: "agrees", False: "differs", None: "no answer to compare"}
"""A program's answer compared with the votes."""
PAIR_CHARACTERS = 28
"""For each of two combined concepts."""
MANY_DOUBT = 0.5
SAMPLES, PAIR_SAMPLES, DROPPED_SAMPLES, EDGE_SAMPLES, MOST_REASONS, MOST_REWARD_MODELS = 60, 12, 2, 3, 30, 8

UNSOLVABLE, UNPARSED = "responses that say it cannot be solved", "responses without a final answer"
SOUNDNESS = ("validity", "failed questions", "majority", UNSOLVABLE, UNPARSED)
"""Labels and numbers on whether problems are sound: a separate section."""

_LENGTHS = [0, *(base * 10**power for power in range(1, 7) for base in (1, 2, 5))]
_SHARES = [share / 10 for share in range(11)]
_DISTANCES = [distance / 10 for distance in range(21)]
NUMBERS: dict[str, list[float] | list[int] | None] = {
    "problem, characters": _LENGTHS,
    "chain of thought, characters": _LENGTHS,
    "solution, characters": _LENGTHS,
    "answer, tokens": _LENGTHS,
    "pass rate": _SHARES,
    "pass rate of a harder problem": _SHARES,
    "pass rate of its parents": _SHARES,
    "agreement": _SHARES,
    "answered": _SHARES,
    UNSOLVABLE: _SHARES,
    UNPARSED: _SHARES,
    "distance to the nearest neighbour": _DISTANCES,
    "vote margin": _SHARES,
    "chosen, characters": _LENGTHS,
    "rejected, characters": _LENGTHS,
}


@dataclass
class Facts:
    """Counts of one file of records."""

    seed: int
    records: int = 0
    unreadable: int = 0
    verified: int = 0
    """Records whose answer is right by the reference answer or, without one, has a clear majority."""
    doubted: int = 0
    """Problems that at least half of the responses call unsolvable."""
    labels: dict[str, Labels] = field(default_factory=lambda: defaultdict(Labels))
    grid: dict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))
    """Key of `HARDNESS` → counts of (domain, its label)."""
    numbers: dict[str, Numbers] = field(default_factory=dict)
    samples: Reservoir[Sample] = field(init=False)

    def __post_init__(self) -> None:
        self.samples = Reservoir(SAMPLES, self.seed)

    def number(self, name: str, value: Any) -> None:
        """Count a number; null is unknown, and is not counted."""
        if value is not None:
            if name not in self.numbers:
                self.numbers[name] = Numbers(NUMBERS.get(name), self.seed)
            self.numbers[name].count(value)

    @property
    def has_soundness(self) -> bool:
        """Whether there is any label or number on soundness."""
        return any(name in self.labels or name in self.numbers for name in SOUNDNESS)

    def add(self, record: Record) -> None:
        """Count a record."""
        self.records += 1
        for name in LABELS:
            if record.get(name) is not None:
                self.labels[name].count(record[name])
        self._add_origin(record)
        where = self.labels["field"].count(_label(record.get("domain") or record.get("target_domain") or "not known"))
        for name in HARDNESS:
            if record.get(name) is not None:
                self.grid[name][where, self.labels[name].count(_label(record[name]))] += 1
        if "code_agrees" in record:
            self.grid["code_agrees"][where, PROGRAMS[record["code_agrees"]]] += 1
        self.number("problem, characters", len(record.get("instruction") or ""))
        for name, key in (
            ("pass rate", "pass_rate"),
            ("agreement", "agreement"),
            ("answered", "answered"),
            ("distance to the nearest neighbour", "min_neighbor_distance"),
            ("reward of the problem", "instruct_reward"),
        ):
            self.number(name, record.get(key))
        doubts = record.get("doubts") or {}
        self.number(UNSOLVABLE, doubts.get("unsolvable"))
        self.number(UNPARSED, doubts.get("unparsed"))
        if doubts.get("no_majority") is not None:
            self.labels["majority"].count("no majority" if doubts["no_majority"] else "a majority")
        self.doubted += (doubts.get("unsolvable") or 0) >= MANY_DOUBT
        self.verified += is_right(record)
        self._add_responses(record)
        self.add_rewards(record)
        self.samples.offer(lambda: sample_of(record))

    def _add_origin(self, record: Record) -> None:
        """Count a problem's origin: concepts and their pairs, the problem that it was made from."""
        concepts = record.get("concepts") or []
        for concept in concepts:
            self.labels["concept"].count(concept)
        for pair in itertools.combinations(sorted(concepts), 2):
            self.labels["concepts combined"].count(" + ".join(concept[:PAIR_CHARACTERS] for concept in pair))
        if told := record.get("evolution"):
            self.labels["made harder by"].count(told.get("way"))
            self.labels["generation"].count(told.get("generation"))
            self.number("pass rate of a harder problem", told.get("pass_rate"))
            for parent in told.get("parents") or ():
                self.number("pass rate of its parents", parent.get("pass_rate"))

    def add_validity(self, record: Record) -> None:
        """Count a model's votes on a problem's validity."""
        if "validity" in record:
            self.labels["validity"].count(record["validity"] or "undecided or not judged")
            for question in record.get("validity_reasons") or ():
                self.labels["failed questions"].count(question)

    def _add_responses(self, record: Record) -> None:
        before = record.get("previous") or {}
        sampled = before if isinstance(before.get("responses"), list) else record  # one was chosen: all are counted
        for text in listed(sampled.get("responses") or sampled.get("response")):
            self.number("solution, characters", len(text) if isinstance(text, str) else None)
        for text in listed(sampled.get("reasoning")):
            self.number("chain of thought, characters", len(text) if isinstance(text, str) else None)
        for tokens in listed(sampled.get("completion_tokens")):
            self.number("answer, tokens", tokens)
        for reason in listed(sampled.get("finish_reason")):
            self.labels["finish_reason"].count(reason)

    def add_rewards(self, record: Record) -> None:
        """Count the rewards of a record's responses."""
        rewards = record.get("rewards_by_model") or {record.get("reward_model") or "an unnamed model": record.get("rewards")}
        for model, values in list(rewards.items())[:MOST_REWARD_MODELS]:
            for value in values or ():
                self.number(f"reward by {model[:SHORT_CHARACTERS]}", value)

    def add_pair(self, record: Record) -> None:
        """Count a preference pair."""
        self.records += 1
        self.labels["why"].count(record.get("why"))
        self.number("vote margin", record.get("vote_margin"))
        if record.get("score_chosen") is not None and record.get("score_rejected") is not None:
            self.number("score, chosen less rejected", record["score_chosen"] - record["score_rejected"])
        for side in ("chosen", "rejected"):
            self.number(f"{side}, characters", len(content_of(record.get(side))))
        self.samples.offer(lambda: pair_sample(record))


@dataclass
class Report:
    """The content of a job's report."""

    name: str
    runs: list[RunFile]
    line: list[RunFile]
    """The runs that led to the job's data, in order."""
    steps: list[Step]
    missing: list[str]
    facts: Facts | None
    source: str
    """Name of the file that `facts` describes: the last one before the filter."""
    kept: Facts | None
    rewards: list[tuple[RunFile, Facts]]
    pairs: list[tuple[RunFile, Facts]]
    dropped: dict[str, list[Sample]]
    measured: list[RunFile]
    """Runs with measurements on controls."""
    rounds: list[Round]
    edge: tuple[list[Sample], list[Sample]]
    """Kept records with the least agreement, and dropped ones with the most."""
    is_job: bool = True

    @property
    def tiles(self) -> list[tuple[str, str, str]]:
        """The tiles at the top: a name, a figure, and its base."""
        counts = {step.name: step for step in self.steps}
        found: list[tuple[str, str, str]] = []
        if self.steps:
            found.append(("generated", f"{self.steps[0].read:,}", "samples"))
        if "clean" in counts:
            clean = counts["clean"].count
            found.append(("clean", f"{clean:,}", f"{100 * clean / (self.steps[0].read or 1):.0f}% of the samples"))
        if self.steps:
            found.append(("in the dataset" if "in the dataset" in counts else "so far", f"{self.steps[-1].count:,}", "records"))
        of = self.kept or self.facts
        if of and of.records and any(run.stage == "verify.py" for run in self.line):
            found.append(("verified", f"{100 * of.verified / of.records:.0f}%", f"{of.verified:,} of {of.records:,} records"))
        return found

    @property
    def token_limit(self) -> float | None:
        """Maximum tokens of a response."""
        limits = [run.arguments.get("max_tokens") for run in self.line if run.stage == "gen_res.py"]
        return limits[-1] if limits and isinstance(limits[-1], int) else None

    @property
    def models(self) -> list[tuple[str, str]]:
        """The models of the problems and the responses, and their sampling."""
        names = {"gen_ins.py": "problems", "gen_res.py": "responses"}
        return [(names[run.stage], _sampling(run.arguments)) for run in self.line if run.stage in names]

    @property
    def tokens_per_kept_record(self) -> dict[str, float]:
        """Tokens of the models, from the first stage to the job's data."""
        return self.steps[-1].run.tokens_per_kept_record if self.steps else {}


def _sampling(arguments: dict[str, Any]) -> str:
    shown = ("temperature", "top_p", "max_tokens", "num_responses", "seed")
    values = [f"{name} {arguments[name]}" for name in shown if arguments.get(name) is not None]
    return ", ".join([str(arguments.get("model_path", "an unnamed model")), *values])


def _label(value: Any) -> str:
    """Return a label as a text: foreign datasets have lists and numbers there."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def read_job(folder: Path, seed: int = 0) -> Report:
    """Return the content of a job's report."""
    runs = run_files(folder, skip_broken=True)
    line = line_of(runs)
    before = [run for run in line[:-1] if run.stage != "filter.py"] or line
    source = line[-1] if line and line[-1].stage != "filter.py" else before[-1] if before else None
    kept = line[-1] if line and line[-1].stage == "filter.py" else None
    complete = [run for run in runs if run.is_made]
    steps = steps_of(line, complete)
    names = {STEPS[run.stage] for run in line}
    facts = _counted(source.output, seed, Facts.add) if source else None
    tagged = next((run for run in reversed(line) if run.stage == "unitag.py"), None)  # invalid ones go no further
    if facts and (judged := tagged or source):
        for record in records_of(judged.output):
            facts.add_validity(record)
    return Report(
        name=folder.resolve().name,
        runs=runs,
        line=line,
        steps=steps,
        missing=[name for name in EXPECTED if name not in names],
        facts=facts,
        source=source.output.name if source else "",
        kept=_counted(kept.output, seed, Facts.add) if kept else None,
        rewards=[
            (r, _counted(r.output, seed, Facts.add_rewards))
            for r in complete
            if r.stage == "gen_po_rewards.py" and r not in line
        ],
        pairs=[(r, _counted(r.output, seed, Facts.add_pair, PAIR_SAMPLES)) for r in complete if r.stage == "gen_po_pairs.py"],
        dropped=_dropped(complete, seed),
        measured=[run for run in complete if run.measured],
        edge=(_edge(records_of(kept.output), -1), _edge(records_of(kept.dropped), 1)) if kept else ([], []),
        rounds=rounds_of(folder),
    )


def _edge(records: Iterator[Record], sign: int) -> list[Sample]:
    """Return the records with the most agreement (with sign -1: the least)."""
    judged = (record for record in records if isinstance(record.get("agreement"), float | int))
    best = heapq.nlargest(EDGE_SAMPLES, judged, key=lambda record: sign * record["agreement"])
    return [sample_of(record) for record in best]


def read_file(path: Path, seed: int = 0) -> Report:
    """Return the content of a report on one file of records."""
    facts = _counted(path, seed, Facts.add)
    lists: dict[str, Any] = {
        name: [] for name in ("runs", "line", "steps", "missing", "rewards", "pairs", "rounds", "measured")
    }
    return Report(name=path.name, facts=facts, source=path.name, kept=None, dropped={}, edge=([], []), is_job=False, **lists)


def _counted(path: Path, seed: int, add: Callable[[Facts, Record], None], samples: int = SAMPLES) -> Facts:
    facts = Facts(seed)
    facts.samples = Reservoir(samples, seed)
    for record in records_of(path, facts):
        add(facts, record)
    return facts


def _dropped(runs: list[RunFile], seed: int) -> dict[str, list[Sample]]:
    found: dict[str, Reservoir[Sample]] = {}
    for run in runs:
        for record in records_of(run.dropped):
            reason = f"{run.stem}: {str(record.get('drop_reason'))[:SHORT_CHARACTERS]}"
            if reason not in found and len(found) < MOST_REASONS:
                found[reason] = Reservoir(DROPPED_SAMPLES, seed)
            if reason in found:
                found[reason].offer(lambda record=record: sample_of(record, short=True))  # type: ignore[misc]
    return {reason: samples.kept for reason, samples in found.items()}
