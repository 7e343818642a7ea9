"""Resumable runs: a stage's work over as many sessions as it takes, each of which may be stopped or killed at any moment.

For `out.jsonl` a run keeps beside it

- `out.part` while it is running: the log of finished records, in the order in which they finished (`part_file.py`). Of a
  record with several responses each finished one has a line before the record's own, so that only the missing ones are
  asked for again; its tokens are counted there, and not once more in the record's line;
- `out.run.json`: arguments, versions, counts, tokens, seconds (`run_file.py`);
- `out_dropped.jsonl`: the dropped records, with `drop_reason`.

`out.jsonl` itself appears when it is complete, in input order, by renaming. The same arguments resume a run where it stopped;
other arguments are refused.
"""

from __future__ import annotations

import os
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from magpie.common import outcome
from magpie.common.console import MagpieError, log, resumes
from magpie.common.files import write_atomically
from magpie.records.reading import encode
from magpie.runs.part_file import PartFile, PartLine, State, dropped_row, records_at, require_unlocked
from magpie.runs.paths import Paths
from magpie.runs.run_file import (
    Counts,
    RunFile,
    Session,
    differences,
    find_run_file,
    program_started,
    spent_in_all,
    versions,
    write_run_file,
)
from magpie.runs.shards import Shard
from magpie.runs.totals import Totals


class Progress(Enum):
    """The state in which an earlier run with the same arguments left its output."""

    FRESH = "fresh"
    STOPPED = "stopped"
    COMPLETE = "complete"


class Run:
    """One run of a stage, over as many sessions as it takes.

    Args:
        stage: the program's name.
        output: the file to make, or the folder (`makes_folder`).
        rows: number of indices: input rows, or rows to make.
        shard: the part of them that is this run's; the caller names its file.
        arguments: what decides the output's content, compared when a run is resumed. Nothing secret.
        inputs: flag → its input file's fingerprint.
        input_files: those files; the run never writes onto one.
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
        self.sources = input_files[:1]  # where the records come from; the other files are compared with
        self._input_files = {path.resolve() for path in input_files}
        self._makes_folder = makes_folder
        self._sessions: list[Session] = []
        self._since = program_started()
        self._part: PartFile | None = None
        self.presets: frozenset[str] = frozenset()  # arguments that a preset of ours decides: a finished run stays finished
        self.notes: dict[str, Any] = {}  # further fields of `RunFile`, set by the stage
        self._begin_afresh()

    def _begin_afresh(self) -> None:
        self._offsets = array("q", [-1]) * self.rows
        self._closed = bytearray(self.rows)
        self._dropped_at = array("q")
        self._partials: dict[int, dict[int, int]] = {}  # of open indices alone: slot → offset of its line
        self.partials_there = 0
        self.totals = Totals()

    # --- before anything expensive -------------------------------------------------------------------------------

    def check(self, *, overwrite: bool = False) -> Progress:
        """Return the state of an earlier run, without changing anything.

        Raises:
            MagpieError: the folder cannot be written to, or the files there are of another run.
        """
        paths = self.paths
        paths.check(self._input_files, makes_folder=self._makes_folder)
        try:
            tempfile.TemporaryFile(dir=next(one for one in paths.output.absolute().parents if one.exists())).close()
        except OSError as error:
            raise MagpieError(
                f"cannot write into {paths.output.parent} ({error.strerror}). Choose another --output_file"
            ) from error
        require_unlocked(paths.part)
        if overwrite or not self._is_begun():
            outcome.note(paths.output, paths.run, Progress.FRESH.value)
            return Progress.FRESH
        earlier = self._earlier_run_file()
        progress = Progress.STOPPED if paths.part.exists() else Progress.COMPLETE
        if progress is Progress.COMPLETE and not paths.output.exists():  # taken away: the files beside it are this run's
            progress = Progress.FRESH
        differing = differences(earlier, self._identity)
        if progress is Progress.COMPLETE and differing and not differences(earlier, self._with_presets_of(earlier)):
            log.warning(
                "%s is complete, and kept as it is, though our preset has changed since: %s. --overwrite makes it anew",
                paths.output,
                "; ".join(differing),
            )
        elif differing:
            raise MagpieError(
                f"{paths.output} belongs to a run with other settings: {'; '.join(differing)}. Use the same settings to go "
                "on, another --output_file to keep both, or --overwrite to start afresh"
            )
        outcome.note(paths.output, paths.run, progress.value, earlier.counts.written if progress is Progress.COMPLETE else None)
        return progress

    def _is_begun(self) -> bool:
        """Return whether there is anything that this run would replace or go on with."""
        paths = self.paths
        if os.path.lexists(paths.output) or os.path.lexists(paths.dropped):
            return True
        if paths.part.exists() and paths.part.stat().st_size:
            return True
        earlier = find_run_file(paths.run, "Choose another --output_file, or --overwrite")
        return earlier is not None and earlier.counts.read > 0

    def _with_presets_of(self, earlier: RunFile) -> RunFile:
        kept = {name: earlier.arguments[name] for name in self.presets & earlier.arguments.keys()}
        return msgspec.structs.replace(self._identity, arguments=self._identity.arguments | kept)

    def _earlier_run_file(self) -> RunFile:
        path = self.paths.run
        earlier = find_run_file(path, "Choose another --output_file, or --overwrite")
        if earlier is None:
            raise MagpieError(
                f"{self.paths.output} (or its .part or dropped file) exists, but {path.name} does not, so nothing tells how "
                "it was made. Choose another --output_file, or --overwrite it"
            )
        return earlier

    # --- a session -----------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, *, overwrite: bool = False) -> Iterator[None]:
        """Hold the `.part` file, resume from it, and leave a true run file behind however the session ends."""
        paths = self.paths
        with PartFile.open(paths.part) as part:
            resumes()
            if overwrite:
                part.clear()
                for path in (paths.output, paths.dropped, paths.run):
                    path.unlink(missing_ok=True)
            if part.size and paths.run.exists():
                self._sessions = self._earlier_run_file().sessions
            if self._sessions and self._sessions[-1].ended is None:
                # killed: the last thing that it did was to append a record (before _load cuts off a torn line)
                self._sessions[-1].ended = max(paths.part.stat().st_mtime, self._sessions[-1].started)
            self._load(part)
            self._part = part
            self.begin_session()
            try:
                yield
            finally:
                self._part = None
                if paths.part.exists():
                    self.end_session("stopped")

    def forget(self) -> None:
        """Forget all that is in the `.part` file: none of it is what the run is for."""
        assert self._part is not None, "inside a session"  # noqa: S101
        self._part.clear()
        self._begin_afresh()

    def begin_session(self) -> None:
        """Add a session to the run file."""
        now = time.time()
        self._sessions.append(Session(started=now, start=round(max(0.0, now - self._since), 1)))
        self._write_run_file("running")

    def end_session(self, status: str) -> None:
        """Write into the run file that the session has ended, and how."""
        self._since = self._sessions[-1].ended = max(time.time(), self._sessions[-1].started)  # the clock may be set back
        self._write_run_file(status)
        if status == "complete":
            outcome.note_finished(self.paths.output, self.paths.run, self.totals.written)

    def _load(self, part: PartFile) -> None:
        broken = sum(line is None or not self._load_line(line, offset) for offset, line in part.recover())
        if broken:
            log.warning("%d unreadable lines in %s: those records are made again", broken, self.paths.part.name)
        if self.closed or self.partials_there:
            more = f", and {self.partials_there} answers of others" if self.partials_there else ""
            log.info("going on: %d of %d are done already%s", self.closed, self.rows, more)

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
        """Number of indices that need nothing more."""
        return self._closed.count(1)

    def is_closed(self, index: int) -> bool:
        """Return whether an index needs nothing more of this run."""
        return index not in self.indices or bool(self._closed[index - self.indices.start])

    def keep(self, index: int, record: dict[str, Any], *, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Append a finished record."""
        self._append(PartLine(index, State.KEPT, prompt_tokens, completion_tokens, msgspec.Raw(encode(record))))

    def keep_partial(
        self, index: int, slot: int, response: dict[str, Any], *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Append one finished response of a record that is not finished; the record itself comes without these tokens."""
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
        """Append a dropped record; `replaced` leaves its index open for another try."""
        state = State.REPLACED if replaced else State.DROPPED
        row = msgspec.Raw(encode(dropped_row(record, reason, detail)))
        self._append(PartLine(index, state, prompt_tokens, completion_tokens, row), reason)

    def _append(self, line: PartLine, reason: str = "", slot: int | None = None) -> None:
        assert self._part is not None, "records are written inside a session"  # noqa: S101
        self._count(line, reason, self._part.append(line), slot)

    def dropped(self) -> Iterator[dict[str, Any]]:
        """Yield the records dropped so far, in all sessions."""
        return (msgspec.json.decode(row) for row in records_at(self.paths.part, self._dropped_at))

    # --- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Put the records in input order into the output file, which appears whole or not at all."""
        if self.closed != self.rows:
            raise ValueError(f"{self.rows - self.closed} of {self.rows} rows are not finished")
        part = self.paths.part
        write_atomically(self.paths.dropped, records_at(part, self._dropped_at))
        write_atomically(self.paths.output, records_at(part, (at for at in self._offsets if at >= 0)))
        self.end_session("complete")
        part.unlink()

    def _write_run_file(self, status: str) -> None:
        totals, now = self.totals, time.time()
        totals.seconds = sum(max(0.0, (now if s.ended is None else s.ended) - s.started) for s in self._sessions)
        read = totals.written + totals.dropped.total()
        rows = msgspec.UNSET if totals.rows is None else totals.rows
        tokens = {"prompt": totals.prompt_tokens, "completion": totals.completion_tokens}
        if status == "complete":
            before = (Counter(self.notes.get(name, {})) for name in ("earlier_tokens", "beside_tokens"))
            totals.spent = spent_in_all(self.sources, sum(before, Counter(tokens)))
        run = msgspec.structs.replace(
            self._identity,
            status=status,
            counts=Counts(read, totals.written, dict(totals.dropped), rows),
            statistics=totals.statistics,
            tokens=tokens,
            spent=totals.spent,
            tokens_per_kept_record=totals.tokens_per_kept_record,
            seconds=round(totals.seconds, 1),
            start_seconds=round(sum(session.start for session in self._sessions), 1),
            tokens_per_second=round(totals.tokens_per_second, 1),
            versions=versions(),
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
            sessions=self._sessions,
            **self.notes,
        )
        write_run_file(self.paths.run, run)
