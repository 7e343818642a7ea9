"""What an earlier run left where a new run will write."""

from __future__ import annotations

import os
import tempfile
from enum import Enum

import msgspec

from magpie.common import outcome
from magpie.common.console import MagpieError, log
from magpie.runs.part_file import require_unlocked
from magpie.runs.paths import Paths
from magpie.runs.run_file import PARTIAL, RunFile, differences, find_run_file

REMEDY = "Choose another --output_file, or --overwrite"


class Progress(Enum):
    """The state in which an earlier run with the same arguments left its output."""

    FRESH = "fresh"
    STOPPED = "stopped"
    COMPLETE = "complete"


class Earlier:
    """An earlier run and its progress.

    Args:
        paths: the files of both.
        identity: of the new run.
        presets: arguments decided by our presets: their changes leave a finished run finished.
        overwrite: replace everything there.

    Raises:
        MagpieError: the folder cannot be written to, or the files there belong to another run.
    """

    def __init__(self, paths: Paths, identity: RunFile, presets: frozenset[str], *, overwrite: bool) -> None:
        self._paths, self._identity, self._presets = paths, identity, presets
        self.is_replaced = False
        """It was made from a partial input, which has changed, and cost no tokens: it is rebuilt."""
        self.run: RunFile | None = None
        _require_writable(paths)
        require_unlocked(paths.part)
        if overwrite or not self._is_begun():
            self.progress = Progress.FRESH
            outcome.note(paths.output, paths.run, self.progress.value)
            return
        self.run = self._run_file()
        self.progress = self._progress(self.run)
        rows = self.run.counts.written if self.progress is Progress.COMPLETE else None
        partial = self.progress is Progress.STOPPED and self.run.status == PARTIAL and paths.output.exists()
        outcome.note(paths.output, paths.run, PARTIAL if partial else self.progress.value, rows)

    def _progress(self, earlier: RunFile) -> Progress:
        paths = self._paths
        progress = Progress.STOPPED if paths.part.exists() else Progress.COMPLETE
        if progress is Progress.COMPLETE and not paths.output.exists():  # moved away: the files next to it are this run's
            progress = Progress.FRESH
        differing = differences(earlier, self._identity)
        if not differing:
            return progress
        with_inputs = msgspec.structs.replace(earlier, inputs=self._identity.inputs)
        if earlier.partial and not earlier.tokens_in_all and not differences(with_inputs, self._identity):
            self.is_replaced = True
            return Progress.FRESH
        if progress is Progress.COMPLETE and not differences(earlier, self._with_presets_of(earlier)):
            log.warning(
                "%s is complete and is kept, although our preset has changed since: %s. --overwrite rebuilds it",
                paths.output,
                "; ".join(differing),
            )
            return progress
        raise MagpieError(
            f"{paths.output} belongs to a run with other settings: {'; '.join(differing)}. Use the same settings to resume, "
            "another --output_file (in a job: another JOB_NAME) to keep both, or --overwrite to start afresh"
        )

    def _is_begun(self) -> bool:
        """Return whether there is anything that this run would replace or resume."""
        paths = self._paths
        if os.path.lexists(paths.output) or os.path.lexists(paths.dropped):
            return True
        if paths.part.exists() and paths.part.stat().st_size:
            return True
        earlier = find_run_file(paths.run, REMEDY)
        return earlier is not None and earlier.counts.read > 0

    def _with_presets_of(self, earlier: RunFile) -> RunFile:
        kept = {name: earlier.arguments[name] for name in self._presets & earlier.arguments.keys()}
        return msgspec.structs.replace(self._identity, arguments=self._identity.arguments | kept)

    def _run_file(self) -> RunFile:
        earlier = find_run_file(self._paths.run, REMEDY)
        if earlier is None:
            raise MagpieError(
                f"{self._paths.output} (or its .part or dropped file) exists, but {self._paths.run.name} does not, so it "
                "is not known how it was made. Choose another --output_file, or --overwrite it"
            )
        return earlier


def _require_writable(paths: Paths) -> None:
    try:
        tempfile.TemporaryFile(dir=next(one for one in paths.output.absolute().parents if one.exists())).close()
    except OSError as error:
        raise MagpieError(
            f"cannot write into {paths.output.parent} ({error.strerror}). Choose another --output_file"
        ) from error
