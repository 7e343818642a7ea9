"""The predicted cost of a whole job, from a preview: every figure with an interval meant to hold in 80% of cases.

Tokens are scaled by problem; their spread is that of the previewed problems. A step of the server takes a + b · tokens, both
solved from the time of the few responses and that of many short ones. A stage's start-up counts once.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from magpie.chain.job_file import Chain, StageState
from magpie.chain.preview import SPEED, SPEED_TOKENS
from magpie.client.rate_limit import Prices
from magpie.client.recordings import read_recordings
from magpie.planning.assumptions import load_planning
from magpie.runs.run_file import RunFile, find_run_file

Z = statistics.NormalDist().inv_cdf(0.9)
WIDEST = math.log(3) / 2
"""The upper end of an interval is at most three times the lower one."""
TOKENS_MISS, SECONDS_MISS = 0.1, 0.25
"""Further relative error of a sum of tokens and of seconds: duplicates, a busier machine."""


@dataclass(frozen=True)
class Range:
    """A figure, and the ends of its interval."""

    low: float
    mid: float
    high: float

    def __add__(self, other: Range) -> Range:
        """Return a sum whose parts err in the same direction."""
        return Range(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def times(self, factor: float) -> Range:
        """Return the figure in another unit."""
        return Range(self.low * factor, self.mid * factor, self.high * factor)


def around(mid: float, spread: float) -> Range:
    """Return a figure with its interval, from its relative spread."""
    width = math.exp(min(spread, WIDEST))
    return Range(mid / width, mid, mid * width)


def share(right: int, of: int) -> Range:
    """Return a share with Wilson's interval."""
    middle, square = right / of, Z * Z / of
    centre = (middle + square / 2) / (1 + square)
    half = Z * math.sqrt(middle * (1 - middle) / of + square / of / 4) / (1 + square)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    if right and low * 3 < high:  # around the interval's own centre: this covers more simulated shares than around the raw one
        low, high = min(middle, centre / math.sqrt(3)), min(1.0, centre * math.sqrt(3))
    return Range(low, middle, high)


@dataclass(frozen=True)
class Work:
    """A model's work in a stage of the preview."""

    run: RunFile
    per_problem: list[int]
    """Completion tokens per problem."""
    longest: int
    """Tokens of the longest completion."""
    requests: int

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return sum(self.run.tokens_in_all.values())


@dataclass(frozen=True)
class Prediction:
    """The predicted cost of the whole job."""

    problems: int
    rows: dict[str, Range]
    """Stage → records after it."""
    figures: dict[str, Range]


def _runs(folder: Path, state: StageState) -> list[RunFile]:
    found = [find_run_file(folder / output.run_file) for output in state.outputs if output.run_file]
    return [run for run in found if run]


def _work(folder: Path, state: StageState, count: int) -> Work | None:
    path = folder / "completions" / f"{state.stage.name}.jsonl"
    runs = _runs(folder, state)
    if not runs or not path.exists():
        return None
    found, by_prompt = list(read_recordings(path)), Counter[str]()
    for line in found:
        by_prompt[line.prompt] += line.completion.completion_tokens
    lengths = [line.completion.completion_tokens for line in found]
    per_problem = lengths if runs[0].stage == "gen_ins.py" else list(by_prompt.values())  # all samples may share one prompt
    per_problem = per_problem + [0] * (count - len(per_problem))
    return Work(runs[0], per_problem, max(lengths, default=0), len(lengths))


def _spread(values: list[int], scale: float) -> float:
    """Return the relative spread of a sum of `scale` times as many values."""
    mean = statistics.fmean(values) if values else 0.0
    if len(values) < 2 or not mean:
        return WIDEST
    t = Z * (1 + 0.7 / (len(values) - 1))  # Student's, to 2% from five values on
    error = t * statistics.stdev(values) / mean / math.sqrt(len(values)) * math.sqrt(1 + 1 / scale)
    return math.hypot(error, TOKENS_MISS)


def _step_times(works: dict[str, Work], speed: RunFile | None) -> tuple[float, float]:
    """Return the seconds per step, and those per token in it."""
    slow = max(works.values(), key=lambda work: work.run.seconds)
    alone = slow.run.seconds / max(slow.longest, 1)
    if speed is None:
        return alone, 0.0
    requests = speed.tokens["completion"] / SPEED_TOKENS
    steps = SPEED_TOKENS * math.ceil(requests / (speed.window or requests))
    tokens = speed.tokens["completion"] + speed.tokens["prompt"] / max(1, int(speed.arguments["num_responses"]))
    both = slow.longest * tokens - steps * slow.tokens
    if both <= 0:
        return alone, 0.0
    each = (slow.longest * speed.seconds - steps * slow.run.seconds) / both
    step = (slow.run.seconds * tokens - speed.seconds * slow.tokens) / both
    if each < 0:
        return alone, 0.0
    return (step, each) if step >= 0 else (0.0, speed.seconds / tokens)


def _seconds(work: Work, scale: float, times: tuple[float, float]) -> float:
    """Return the seconds of a stage's work on `scale` times as many problems."""
    step, each = times

    def modelled(factor: float) -> float:
        requests, window = work.requests * factor, work.run.window or work.requests
        written = work.run.tokens["completion"] * factor
        steps = work.longest if requests <= window else written / window + work.longest / 2
        return step * steps + each * work.tokens * factor

    own = modelled(1.0)
    return modelled(scale) * (min(3.0, max(1 / 3, work.run.seconds / own)) if own else 1.0)


def _of_rows(state: StageState, run: RunFile, scale: float) -> float:
    """Return the seconds that a stage without a model needs for the remaining rows."""
    general = load_planning().general
    rows = run.counts.read * (scale - 1)
    if state.stage.program == "verify":
        return rows * int(run.arguments.get("num_responses", 4)) * general["verify_seconds"].value
    return rows * general["problem_seconds"].value if state.stage.program == "gen_dis" else 0.0


def predict(folder: Path, chain: Chain, total: int) -> Prediction:
    """Return the predicted cost of a job, from its preview in a folder."""
    count = int(chain.settings["total"])
    scale = total / count
    states = [state for state in chain.stages if state.status == "complete" and state.stage.name != SPEED]
    works = {state.stage.name: work for state in states if (work := _work(folder, state, count))}
    speed = next((run for state in chain.stages if state.stage.name == SPEED for run in _runs(folder, state)), None)
    times = _step_times(works, speed) if works else (0.0, 0.0)
    rows: dict[str, Range] = {}
    tokens, read, seconds = Range(0, 0, 0), Range(0, 0, 0), Range(0, 0, 0)
    in_stages = sum(state.seconds for state in chain.stages)
    fixed = max(0.0, chain.seconds - in_stages)
    for state in states:
        for run in _runs(folder, state)[:1]:
            if run.stage == "gen_ins.py":  # it continues until there are that many
                drawn = share(count, run.counts.read)
                rows["samples, with those replaced"] = Range(*(total / part for part in (drawn.high, drawn.mid, drawn.low)))
            else:
                rows[state.stage.name] = share(min(run.counts.written, count), count).times(total)
            work = works.get(state.stage.name)
            if work is None:
                fixed += state.seconds + _of_rows(state, run, scale)
                continue
            spread = _spread(work.per_problem, scale)
            if run.stage == "gen_ins.py":
                spread = math.hypot(spread, Z * math.sqrt((1 - count / run.counts.read) / count))
            tokens += around(run.tokens_in_all["completion"] * scale, spread)
            read += around(run.tokens_in_all["prompt"] * scale, spread)
            fixed += max(0.0, state.seconds - run.seconds)
            seconds += around(_seconds(work, scale, times), math.hypot(spread, SECONDS_MISS))
    seconds += around(fixed, SECONDS_MISS)
    figures = {"tokens written": tokens, "tokens read": read, "hours": seconds.times(1 / 3600)}
    prices = [float(chain.settings.get(name) or 0) for name in ("prompt_price", "completion_price")]
    if any(prices):
        figures["cost in dollars"] = read.times(Prices(*prices).prompt / 1e6) + tokens.times(Prices(*prices).completion / 1e6)
    size = sum(
        path.stat().st_size for path in folder.rglob("*.jsonl") if "completions" not in path.parts and SPEED not in path.stem
    )
    figures["disk in GB"] = around(size * scale / 1e9, _spread([n for work in works.values() for n in work.per_problem], scale))
    return Prediction(total, rows, figures)
