"""Resumable runs: a stage's work over any number of sessions, each of which may be stopped or killed at any moment.

For `out.jsonl` a run keeps

- `out.part` while it is running: the log of finished records, in the order in which they finished (`part_file.py`). Of a
  record with several responses each finished one has a line before the record's own, so that only missing ones are
  requested again; its tokens are counted there, and not again in the record's line;
- `out.run.json`: arguments, versions, provenance, counts, tokens, seconds (`run_file.py`);
- `out_dropped.jsonl`: the dropped records, with `drop_reason`.

`out.jsonl` itself appears, by renaming, when it is complete, in input order. The same arguments resume a run where it stopped;
other arguments are refused.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from magpie.common import events, outcome
from magpie.common.console import MagpieError, log, resumes
from magpie.common.files import write_atomically
from magpie.records.rows import encode
from magpie.runs.earlier import REMEDY, Earlier, Progress
from magpie.runs.part_file import PartFile, PartLine, State, dropped_row, is_settled, records_at
from magpie.runs.paths import Paths
from magpie.runs.provenance import Provenance, distinct, provenance
from magpie.runs.run_file import (
    CEILING,
    PARTIAL,
    Counts,
    RunFile,
    Session,
    is_partial,
    program_started,
    read_run_file,
    spent_in_all,
    versions,
    write_run_file,
)
from magpie.runs.shards import Shard
from magpie.runs.totals import Totals


class Run:
    """One run of a stage, over any number of sessions.

    Args:
        stage: the program's name.
        output: the file or folder (`makes_folder`) to write.
        rows: number of indices: input rows, or rows to make.
        shard: this run's part of them; the caller names its file.
        arguments: what decides the output's content; compared on resuming. No secrets.
        inputs: flag → its input file's fingerprint.
        input_files: those files; the run never overwrites one.
    """

    def __init__(
        self,
        stage: str,
        output: Path,
        *,
        rows: int,
        arguments: dict[str, Any],
        inputs: dict[str, str] | None = None,
        input_files: tuple[Path, ...] = (),
        makes_folder: bool = False,
        shard: Shard | None = None,
    ) -> None:
        self.stage, self.indices = stage, shard.rows(rows) if shard else range(rows)
        self.rows = len(self.indices)
        if shard and shard.of > rows:
            raise MagpieError(f"--shard {shard}: there are only {rows} rows. Use fewer shards")
        if shard:
            arguments = arguments | {"shard": str(shard)}
        self.paths = Paths.beside_folder(output) if makes_folder else Paths.beside(output)
        as_read_back = msgspec.json.decode(encode(arguments))  # so that both can be compared
        self._identity = RunFile(stage=stage, arguments=as_read_back, inputs=inputs or {})
        self.sources = input_files[:1]  # the source of the records; the others are only for comparison
        self._input_files = {path.resolve() for path in input_files}
        self._makes_folder = makes_folder
        self._sessions: list[Session] = []
        self._since = program_started()
        self.provenance: list[Provenance] = []
        self.made_with: dict[str, Any] = {}  # fields of `Provenance` that the stage knows
        self._part: PartFile | None = None
        self.earlier: Earlier | None = None  # found by `check`
        self.adds_to_output = False  # the output is an earlier pass's, with all rows: a pass stopped by a ceiling keeps it
        self._is_partial = self._of_partial = any(is_partial(path) for path in input_files)
        self._ends_as = "stopped"
        self.presets: frozenset[str] = frozenset()  # arguments decided by our presets: changes leave a finished run finished
        self.notes: dict[str, Any] = {}  # further fields of `RunFile`, set by the stage
        self._begin_afresh()

    def _begin_afresh(self) -> None:
        self._offsets = array("q", [-1]) * self.rows
        self._closed = bytearray(self.rows)
        self._dropped_at = array("q")
        self._partials: dict[int, dict[int, int]] = {}  # of open indices only: slot → offset of its line
        self.partials_there = 0
        self.totals = Totals()

    # --- before anything expensive -------------------------------------------------------------------------------

    def check(self, *, overwrite: bool = False) -> Progress:
        """Return the state of an earlier run, without changing anything.

        Raises:
            MagpieError: the folder cannot be written to, or the files there belong to another run.
        """
        self.paths.check(self._input_files, makes_folder=self._makes_folder)
        self.earlier = Earlier(self.paths, self._identity, self.presets, overwrite=overwrite)
        return self.earlier.progress

    # --- a session -----------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, *, overwrite: bool = False) -> Iterator[None]:
        """Lock the `.part` file, resume from it, and leave a correct run file however the session ends."""
        paths = self.paths
        with PartFile.open(paths.part) as part:
            resumes()
            if overwrite or (self.earlier and self.earlier.is_replaced):
                part.clear()
                for path in (paths.run, paths.output, paths.dropped):  # one that cannot be deleted does not affect the others
                    path.unlink(missing_ok=True)
            if part.size and paths.run.exists():
                earlier = read_run_file(paths.run, REMEDY)
                self._sessions, self.totals.statistics = earlier.sessions, earlier.statistics
                self.provenance = earlier.provenance
                self._is_partial = self._is_partial or bool(earlier.partial)
            if self._sessions and self._sessions[-1].ended is None:
                # killed: the last thing it did was to append a record (before _load cuts off a torn line)
                self._sessions[-1].ended = max(paths.part.stat().st_mtime, self._sessions[-1].started)
            self._load(part)
            self._part, self._ends_as = part, "stopped"
            self.begin_session()
            try:
                yield
            finally:
                self._part = None
                if paths.part.exists():
                    self.end_session(self._ends_as)

    def forget(self) -> None:
        """Clear the `.part` file: nothing in it is of use to this run."""
        assert self._part is not None, "inside a session"  # noqa: S101
        self._part.clear()
        self._begin_afresh()

    def begin_session(self) -> None:
        """Add a session to the run file."""
        now = time.time()
        events.count_by(self.counts)
        self.provenance = distinct([*self.provenance, provenance(self.made_with)])
        self._sessions.append(Session(started=now, start=round(max(0.0, now - self._since), 1)))
        self._write_run_file("running")

    def end_session(self, status: str) -> None:
        """Write into the run file that and how the session ended."""
        self._since = self._sessions[-1].ended = max(time.time(), self._sessions[-1].started)  # the clock may be set back
        self._write_run_file(status)
        if status in ("complete", PARTIAL):
            outcome.note_made(self.paths.output, self.paths.run, status, self.totals.written)

    def _load(self, part: PartFile) -> None:
        broken = sum(line is None or not self._load_line(line, offset) for offset, line in part.recover())
        if broken:
            log.warning("%d unreadable lines in %s: those records are redone", broken, self.paths.part.name)
        if self.closed or self.partials_there:
            more = f", and {self.partials_there} answers of others" if self.partials_there else ""
            log.info("resuming: %d of %d are already done%s", self.closed, self.rows, more)

    def _load_line(self, line: PartLine, offset: int) -> bool:
        try:
            record = msgspec.json.decode(line.record, type=dict[str, Any])
            reason = record["drop_reason"] if line.state in (State.DROPPED, State.REPLACED) else ""
            slot = int(record["place"]) if line.state is State.PARTIAL else None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return False
        if line.index not in self.indices or (line.state is not State.REPLACED and self.is_closed(line.index)):
            return False
        if slot in self._partials.get(line.index, ()):
            return False
        self._count(line, reason, offset, slot)
        return True

    def _count(self, line: PartLine, reason: str, offset: int, slot: int | None) -> None:
        if slot is not None:
            self._partials.setdefault(line.index, {})[slot] = offset
            self.partials_there += 1
        elif line.state is State.KEPT:
            self._offsets[line.index - self.indices.start] = offset
            self.totals.written += 1
            self.totals.settled += is_settled(line.record)
        else:
            self._dropped_at.append(offset)
            self.totals.dropped[reason] += 1
        if line.state in (State.KEPT, State.DROPPED):
            self._closed[line.index - self.indices.start] = 1
            self.partials_there -= len(self._partials.pop(line.index, ()))
        self.totals.prompt_tokens += line.prompt_tokens
        self.totals.completion_tokens += line.completion_tokens

    @property
    def closed(self) -> int:
        """Number of finished indices."""
        return self._closed.count(1)

    def is_closed(self, index: int) -> bool:
        """Return whether this run has finished an index."""
        return index not in self.indices or bool(self._closed[index - self.indices.start])

    def keep(self, index: int, record: dict[str, Any], *, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Append a finished record."""
        self._append(PartLine(index, State.KEPT, prompt_tokens, completion_tokens, msgspec.Raw(encode(record))))

    def keep_partial(
        self, index: int, slot: int, response: dict[str, Any], *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Append one finished response of a record that is not finished; the record itself is kept without these tokens."""
        row = msgspec.Raw(encode({"place": slot} | response))
        self._append(PartLine(index, State.PARTIAL, prompt_tokens, completion_tokens, row), slot=slot)

    def partials(self, index: int) -> dict[int, dict[str, Any]]:
        """Return the finished responses of an index that is still open, by slot."""
        offsets = self._partials.get(index)
        if not offsets:
            return {}
        rows = records_at(self.paths.part, offsets.values())
        responses = [msgspec.json.decode(row, type=dict[str, Any]) for row in rows]
        return {response.pop("place"): response for response in responses}

    def drop(
        self,
        index: int,
        record: dict[str, Any],
        reason: str,
        detail: str = "",
        *,
        replaced: bool = False,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        """Append a dropped record; `replaced` leaves its index open for a retry."""
        state = State.REPLACED if replaced else State.DROPPED
        row = msgspec.Raw(encode(dropped_row(record, reason, detail)))
        self._append(PartLine(index, state, prompt_tokens, completion_tokens, row), reason)

    def _append(self, line: PartLine, reason: str = "", slot: int | None = None) -> None:
        assert self._part is not None, "records are written inside a session"  # noqa: S101
        self._count(line, reason, self._part.append(line), slot)

    def so_far(self, *, kept: bool) -> Iterator[dict[str, Any]]:
        """Yield the records kept, or dropped, so far, in all sessions."""
        offsets = [at for at in self._offsets if at >= 0] if kept else self._dropped_at
        return (msgspec.json.decode(row) for row in records_at(self.paths.part, offsets))

    # --- the end -------------------------------------------------------------------------------------------------

    def finish(self, *, partial: bool = False) -> None:
        """Write the records in input order to the output file, which appears atomically.

        Args:
            partial: the ceiling is reached; only finished rows are there, and the next session resumes with the others.
        """
        if self.closed != self.rows and not partial:
            raise ValueError(f"{self.rows - self.closed} of {self.rows} rows are not finished")
        part = self.paths.part
        if not (partial and self.adds_to_output):
            write_atomically(self.paths.dropped, records_at(part, self._dropped_at))
            write_atomically(self.paths.output, records_at(part, (at for at in self._offsets if at >= 0)))
        self._is_partial = partial or self._of_partial
        if partial:
            self._ends_as = PARTIAL
            return
        self.end_session("complete")
        part.unlink()

    def spent_before(self) -> dict[str, int]:
        """Return the tokens that led to the run's input, and those of earlier passes over it."""
        return spent_in_all(self.sources, Counter(self.notes.get("earlier_tokens", {})))

    def counts(self) -> dict[str, Any]:
        """Return the run's counts so far, for its events."""
        totals = self.totals
        dropped = dict(totals.dropped)
        read = totals.written + sum(dropped.values())
        done = {"rows": self.rows or None, "done": self.closed if self.rows else read}
        kept = {"written": totals.written, "dropped": dropped, "settled": totals.settled}
        return {"output": str(self.paths.output), **done, **kept, "tokens": self._tokens}

    @property
    def taken(self) -> tuple[int, int, float]:
        """Prompt and completion tokens, and seconds, of all sessions so far."""
        earlier = self.earlier.run if self.earlier and self.earlier.progress is Progress.STOPPED else None
        tokens = Counter(self._tokens) if self._part or not earlier else Counter(earlier.tokens)
        tokens += Counter(self.notes.get("earlier_tokens", {}))
        sessions = self._sessions or (earlier.sessions if earlier else [])
        ended = sum(one.start + one.ended - one.started for one in sessions if one.ended is not None)
        return tokens["prompt"], tokens["completion"], ended + time.time() - self._since

    @property
    def _tokens(self) -> dict[str, int]:
        return {"prompt": self.totals.prompt_tokens, "completion": self.totals.completion_tokens}

    def _write_run_file(self, status: str) -> None:
        totals, now = self.totals, time.time()
        totals.seconds = sum(max(0.0, (now if s.ended is None else s.ended) - s.started) for s in self._sessions)
        read = totals.written + totals.dropped.total()
        rows = msgspec.UNSET if totals.rows is None else totals.rows
        tokens = self._tokens
        if status in ("complete", PARTIAL):
            before = (Counter(self.notes.get(name, {})) for name in ("earlier_tokens", "beside_tokens"))
            totals.spent = spent_in_all(self.sources, sum(before, Counter(tokens)))
        run = msgspec.structs.replace(
            self._identity,
            status=status,
            partial=CEILING if self._is_partial else "",
            counts=Counts(read, totals.written, dict(totals.dropped), rows),
            statistics=totals.statistics,
            tokens=tokens,
            spent=totals.spent,
            tokens_per_kept_record=totals.tokens_per_kept_record,
            seconds=round(totals.seconds, 1),
            start_seconds=round(sum(session.start for session in self._sessions), 1),
            tokens_per_second=round(totals.tokens_per_second, 1),
            versions=versions(),
            provenance=self.provenance,
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
            sessions=self._sessions,
            **self.notes,
        )
        write_run_file(self.paths.run, run)
