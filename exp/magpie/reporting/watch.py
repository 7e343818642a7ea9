"""The progress of a running job, read from its files only: `job.json`, `.run.json`, `.part` and `job.log`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from magpie.chain.job_file import JOB_FILE, Chain, read_chains
from magpie.common.console import MagpieError, printable
from magpie.common.progress import duration, last_line, so_far, time_left
from magpie.runs.jobs import run_files
from magpie.runs.part_file import PartLine, State, is_settled, whole_lines
from magpie.runs.run_file import PARTIAL, RunFile
from magpie.runs.shards import Shard
from magpie.runs.totals import Totals


@dataclass
class Part:
    """The part of a growing `.part` file that has been read."""

    offset: int = 0
    kept: int = 0
    dropped: int = 0
    replaced: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    settled: int = 0
    responses: dict[int, int] = field(default_factory=dict)
    """Index → finished responses, for records that have only some of them."""

    def read_on(self, path: Path) -> None:
        """Read what was appended."""
        with path.open("rb") as file:
            if path.stat().st_size < self.offset:
                self.__init__()  # type: ignore[misc] # rebuilt (--overwrite)
            file.seek(self.offset)
            for length, line in whole_lines(file):
                self.offset += length
                if line is not None:
                    self._count(line)

    def _count(self, line: PartLine) -> None:
        self.tokens += line.completion_tokens
        self.prompt_tokens += line.prompt_tokens
        if line.state is State.PARTIAL:
            self.responses[line.index] = self.responses.get(line.index, 0) + 1
            return
        if line.state is State.KEPT:
            self.kept, self.settled = self.kept + 1, self.settled + is_settled(line.record)
        self.dropped += line.state is not State.KEPT
        if line.state is State.REPLACED:
            self.replaced += 1
        else:
            self.responses.pop(line.index, None)

    @property
    def done(self) -> int:
        """Input records that need nothing more."""
        return self.kept + self.dropped - self.replaced


class Watch:
    """A job whose state is polled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[str, Part] = {}

    def look(self) -> tuple[list[str], bool]:
        """Return a line per stage and chain and the log's last line, and whether the job has stopped."""
        path = self._folder / JOB_FILE
        chains, running = read_chains(path) or {}, held(path.with_suffix(".lock"))
        try:
            runs = run_files(self._folder, skip_broken=True)
        except MagpieError:
            if not chains:
                raise
            runs = []  # the model is being loaded
        lines = [self._state(run, runs) for run in runs]
        lines += [printable(_chain_state(chain, running=running), 300) for chain in chains.values()]
        if last := last_line(self._folder / "job.log"):
            lines.append(f"job.log: {printable(last, 160)}")
        return lines, not running and not any(held(_part(run)) for run in runs if run.status != "complete")

    def _state(self, run: RunFile, runs: list[RunFile]) -> str:
        name = f"{run.stage:<18} {run.stem}"
        if run.status == "complete":
            speed = f", {run.tokens_per_second:,.0f} tokens/s" if run.tokens_per_second else ""
            dropped = sum(run.counts.dropped.values())
            return printable(f"{name}: {run.counts.written:,} written, {dropped:,} dropped{speed}, {duration(run.seconds)}")
        path, part = _part(run), self._parts.setdefault(run.stem, Part())
        try:
            part.read_on(path)
            since = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return printable(f"{name}: {run.status}")
        seconds = _seconds(run, running=held(path))
        state = [_of(part, _total(run, runs), seconds, run), f"{part.dropped:,} dropped"]
        if part.tokens and seconds:
            state.append(f"{part.tokens / seconds:,.0f} tokens/s")
        totals = Totals(
            written=part.kept, settled=part.settled, prompt_tokens=part.prompt_tokens, completion_tokens=part.tokens
        )
        state += totals.words(_before(run, runs), run.ceiling, seconds + run.start_seconds)
        state += [run.status] if run.status == PARTIAL else []
        state.append(f"elapsed {duration(seconds)}" if held(path) else f"not running here, last written {duration(since)} ago")
        return printable(f"{name}: {', '.join(state)}")


def _chain_state(chain: Chain, *, running: bool) -> str:
    if chain.status == "running" and not running:
        return f"{chain.kind}: killed. To resume: {chain.command}"
    meant = [state for state in chain.stages if state.status != "skipped"]
    if chain.status != "running" or not meant:
        return f"{chain.kind}: {chain.message or chain.status}"
    at = next((n for n, state in enumerate(meant, 1) if state.status in ("waiting", "running")), len(meant))
    state = meant[at - 1]
    return f"{chain.kind}: stage {at} of {len(meant)}, {state.stage.name} ({state.stage.program}.py), {state.status}"


def _part(run: RunFile) -> Path:
    return run.output.with_suffix(".part")


def _of(part: Part, total: int | None, seconds: float, run: RunFile) -> str:
    if not total:
        return f"{part.done:,} records"
    each = int(run.arguments.get("num_responses") or 1)
    answered = part.done * each + sum(part.responses.values())
    rest = max(total * each - answered, 0)
    return f"{so_far(part.done, total, answered, each)}, {time_left(answered, rest, seconds)}"


def _before(run: RunFile, runs: list[RunFile]) -> Counter[str]:
    """Return the tokens that led to a run's input."""
    before = [one for one in runs if one.is_made and run.stem.startswith(f"{one.stem}_")]
    return Counter(max(before, key=lambda one: len(one.stem)).spent if before else {}) + Counter(run.earlier_tokens)


def _total(run: RunFile, runs: list[RunFile]) -> int | None:
    """Return the number of records of a stage: as requested, or as written by its input's stage."""
    total = run.arguments.get("total_prompts")
    if total is None:
        before = [one for one in runs if one.is_made and run.stem.startswith(f"{one.stem}_")]
        total = max(before, key=lambda one: len(one.stem)).counts.written if before else None
    return len(Shard.parse(run.shard).rows(int(total))) if total and run.shard else total


def _seconds(run: RunFile, *, running: bool) -> float:
    """Return the running time of a stage in seconds, over all its sessions."""
    now = time.time() if running else None
    return sum((session.ended or now or session.started) - session.started for session in run.sessions)


def held(part: Path) -> bool:
    """Return whether a process on this machine works on a `.part` file; unlike trying its lock, this does not disturb it."""
    try:
        inode = part.stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return False
    return any(line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}") for line in locks.splitlines())


def watch(folder: Path, every: float) -> None:
    """Print a job's state every few seconds until it is done or Ctrl-C is pressed."""
    state, clear = Watch(folder), sys.stdout.isatty()
    try:
        while True:
            lines, done = state.look()
            print("\x1b[2J\x1b[H" if clear else "", end="")
            print(time.strftime("%H:%M:%S"), folder.resolve().name, *lines, sep="\n  ", flush=True)
            if done:
                print("nothing is running")
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return
