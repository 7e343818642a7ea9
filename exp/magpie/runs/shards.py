"""Shards: several workers on one file, each on its own rows. Joined, they equal one worker's output.

Shard I of N of `out.jsonl` is `out-0000I-of-0000N.jsonl`, with a `.part`, a run file and a dropped file of its own. It holds
consecutive rows, so that ids, domains and seeds do not depend on N, and the concatenated shards are the whole.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from magpie.common.console import MagpieError
from magpie.common.files import write_atomically
from magpie.records.reading import stem_of
from magpie.runs.paths import Paths
from magpie.runs.provenance import distinct
from magpie.runs.run_file import ENDING, Counts, RunFile, find_run_file, per_kept_record, read_run_file, write_run_file

NAME = re.compile(r"-(\d{5})-of-(\d{5})\.jsonl")
MOST = 99_999


@dataclass(frozen=True)
class Shard:
    """Shard `number` (from 1) of `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `I/N` names.

        Raises:
            ValueError: the text is not a shard.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of) <= MOST):
            raise ValueError(f"{text!r} is not a shard: give I/N, like 1/4 … 4/4")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, count: int) -> range:
        """Return the shard's rows of a file of `count` rows."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)

    def path(self, whole: Path) -> Path:
        """Return the shard's file of an output file."""
        return whole.with_name(f"{stem_of(whole)}-{self.number:05d}-of-{self.of:05d}.jsonl")


def is_shard(path: Path) -> bool:
    """Return whether a file is a stage's shard, by its run file (a later stage's output from a shard is not)."""
    run = find_run_file(path.with_suffix(ENDING))
    return run is not None and bool(run.shard)


def whole_of(path: Path) -> Path:
    """Return the name of the file that a shard belongs to."""
    return path.with_name(NAME.sub(".jsonl", path.name))


@dataclass(frozen=True)
class ShardSet:
    """All the shards of a file, in order, with their run files."""

    whole: Path
    paths: list[Path]
    runs: list[RunFile]

    def is_newer(self) -> bool:
        """Return whether a shard was rebuilt since the whole was joined."""
        before = find_run_file(self.whole.with_suffix(ENDING))
        return before is not None and bool(before.shards) and before.shards != self._updated

    @property
    def _updated(self) -> list[str]:
        return [run.updated for run in self.runs]

    def run_file(self) -> RunFile:
        """Return the run file that one worker would have left: counts, tokens and seconds added up."""
        first = self.runs[0]
        costs = [run.statistics["cost_in_dollars"] for run in self.runs if "cost_in_dollars" in run.statistics]
        tokens: Counter[str] = Counter()
        earlier: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for run in self.runs:
            dropped.update(run.counts.dropped)
            tokens.update(run.tokens)
            earlier.update(run.earlier_tokens)
        read, written = (sum(getattr(run.counts, key) for run in self.runs) for key in ("read", "written"))
        spent = Counter(first.spent)
        for run in self.runs[1:]:  # the tokens that led to the input are in the first one's
            spent.update(run.tokens_in_all)
        seconds = round(sum(run.seconds for run in self.runs), 1)
        return msgspec.structs.replace(
            first,
            arguments={key: value for key, value in first.arguments.items() if key != "shard"},
            counts=Counts(read, written, dict(dropped.most_common())),
            statistics=first.statistics | ({"cost_in_dollars": round(sum(costs), 6)} if costs else {}),
            tokens=dict(tokens),
            earlier_tokens=dict(earlier),
            spent=dict(spent) if any(spent.values()) else {},
            tokens_per_kept_record=per_kept_record(spent, written) if any(spent.values()) else {},
            seconds=seconds,
            tokens_per_second=round(tokens["completion"] / seconds, 1) if seconds else 0.0,
            provenance=distinct([entry for run in self.runs for entry in run.provenance]),
            updated=max(self._updated),
            sessions=[session for run in self.runs for session in run.sessions],
            shards=self._updated,
        )


def shard_set(whole: Path) -> ShardSet:
    """Find all the shards of a file.

    Raises:
        MagpieError: there are none, one is missing or unfinished, or they belong to different runs.
    """
    found = [path for path in whole.parent.glob(f"{stem_of(whole)}-*-of-*.jsonl") if NAME.search(path.name)]
    counts = {int(match[2]) for path in found if (match := NAME.search(path.name)) and whole_of(path) == whole}
    begun = sorted(whole.parent.glob(f"{stem_of(whole)}-*-of-*.part"))
    if not counts:
        what = f"only unfinished shards ({begun[0].name} …)" if begun else "no shards"
        raise MagpieError(f"{whole}: {what} of it found. Make them with --shard 1/N … N/N")
    if len(counts) > 1:
        many = " and ".join(map(str, sorted(counts)))
        raise MagpieError(f"{whole}: there are shards of {many}. Remove those of other runs")
    of = counts.pop()
    paths = [Shard(number, of).path(whole) for number in range(1, of + 1)]
    if missing := [str(number) for number, path in enumerate(paths, 1) if not path.exists()]:
        shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        raise MagpieError(
            f"{whole}: {len(missing)} of {of} shards are not finished: {shown}. The stage's command with --shard "
            f"{missing[0]}/{of} makes or resumes the first of them"
        )
    runs = [_finished_run(path, Shard(number, of)) for number, path in enumerate(paths, 1)]
    for path, run in zip(paths, runs, strict=True):
        _refuse_different(paths[0], runs[0], path, run)
    return ShardSet(whole, paths, runs)


def _finished_run(path: Path, shard: Shard) -> RunFile:
    run = read_run_file(path.with_suffix(ENDING), f"Rebuild the shard with --shard {shard} --overwrite")
    if run.status != "complete" or run.shard != str(shard):
        raise MagpieError(f"{path}: its run file is not of the finished shard {shard}. Rebuild it with --overwrite")
    return run


def _refuse_different(one: Path, first: RunFile, other: Path, run: RunFile) -> None:
    for key in ("stage", "arguments", "inputs"):
        before, after = getattr(first, key), getattr(run, key)
        if key == "arguments":
            before, after = ({k: v for k, v in values.items() if k != "shard"} for values in (before, after))
        if before != after:
            raise MagpieError(f"{one.name} and {other.name} are from different runs: their {key} differ. Rebuild one of them")


def join_shards(shards: ShardSet) -> None:
    """Join shards: the output, its dropped file and its run file, as one worker would have left them.

    Raises:
        MagpieError: a shard's file does not have the number of rows in its run file.
    """
    whole = shards.whole
    counts = [run.counts for run in shards.runs]
    dropped = zip(
        (Paths.beside(path).dropped for path in shards.paths), (sum(count.dropped.values()) for count in counts), strict=True
    )
    kept = zip(shards.paths, (count.written for count in counts), strict=True)
    write_atomically(Paths.beside(whole).dropped, itertools.chain.from_iterable(_lines(*each) for each in dropped))
    write_atomically(whole, itertools.chain.from_iterable(_lines(*each) for each in kept))
    write_run_file(whole.with_suffix(ENDING), shards.run_file())


def _lines(path: Path, expected: int) -> Iterator[bytes]:
    count = 0
    with path.open("rb") as lines:
        for line in lines:
            count += 1
            yield line.rstrip(b"\n")
    if count != expected:
        raise MagpieError(f"{path}: {count} rows, its run file says {expected}. Rebuild the shard with --overwrite")
