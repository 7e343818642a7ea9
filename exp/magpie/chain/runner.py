"""Running a chain: each stage is the process that a user would start, and reports its outputs in --result_file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from magpie.chain.budget import Budget
from magpie.chain.config import Flags
from magpie.chain.job_file import Chain, JobFile, Output, StageState
from magpie.chain.preview import SPEED
from magpie.client.address_files import read_addresses
from magpie.client.recordings import RECORD
from magpie.common.console import EXIT_CEILING, EXIT_INTERRUPTED, PARENT, MagpieError, log, set_up_logging
from magpie.config.load import PROGRAMS
from magpie.models.hardware import gpus_and_driver
from magpie.runs.provenance import distinct, provenance
from magpie.runs.run_file import PARTIAL
from magpie.serving.run_command import end_tree
from magpie.serving.server import MADE_WITH, TOLD, read_made_with, served_with

ORPHAN_SECONDS = 60.0
"""How long the processes of a killed chain may take to end."""
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.2


class StageFailed(Exception):
    """A stage failed with this exit code, and has reported why."""

    def __init__(self, program: str, code: int) -> None:
        super().__init__(f"{program}.py failed (exit code {code}): see above")
        self.code = code


class Runner:
    """Runs a chain and keeps its file up to date.

    Args:
        file: the job's file; its folder need not exist yet.
        chain: what to run.
        records: whether it is a preview, whose completions are kept.
    """

    def __init__(self, file: JobFile, chain: Chain, *, records: bool = False) -> None:
        self._records = records
        self._file, self._chain = file, chain
        self._lock: IO[bytes] | None = None
        self._log = file.folder / "job.log"
        self._budget = Budget(file, chain)
        self._before = chain.provenance
        self._made_with = served_with(os.environ.get("MAGPIE_BASE_URL", "")) or gpus_and_driver()

    def run(self, usage: str = "") -> int:
        """Check every stage, then run what is not complete; return the exit code.

        Args:
            usage: shown about the launcher's arguments if a stage refuses its settings.

        Raises:
            MagpieError: a setting is refused, or another process is working on the job.
        """
        with contextlib.ExitStack() as stack:
            if self._file.path.exists():  # processes of an earlier call may still be ending
                self._lock = stack.enter_context(self._locked())
            try:
                self._check()
            except StageFailed as refused:
                if usage:
                    log.info("%s", usage)
                return refused.code
            self._file.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or stack.enter_context(self._locked())
            os.environ["MAGPIE_LOG"] = str(self._log)
            set_up_logging("run_job")
            return self._run_checked()

    def _run_checked(self) -> int:
        chain = self._chain
        log.info("%s. To resume after an interruption:", chain.intro.format_map(self._values()))
        log.info("  %s", chain.command)
        chain.status, chain.message = "running", ""
        self._write()
        try:
            self._stages()
            self._report()
            if any(state.status == PARTIAL for state in chain.stages):
                chain.status, chain.message = PARTIAL, f"{PARTIAL}. What is finished is on disk"
                log.warning(
                    "%s. To continue, raise the ceiling, or use what is there with --partial: %s", chain.message, chain.command
                )
                return EXIT_CEILING
        except StageFailed as failed:
            chain.status, chain.message = "stopped" if failed.code == EXIT_INTERRUPTED else "failed", str(failed)
            log.error("%s. To resume: %s", failed, chain.command)
            return failed.code
        except KeyboardInterrupt as why:
            chain.status, chain.message = "stopped", f"interrupted ({why})"
            log.error("%s. To resume: %s", chain.message, chain.command)
            return EXIT_INTERRUPTED
        except Exception as error:
            chain.status, chain.message = "failed", str(error) or type(error).__name__
            raise
        else:
            chain.status, chain.message = "complete", chain.message or chain.done.format_map(self._values())
            if each := chain.tokens_per_kept_record:
                log.info(
                    "tokens per kept record: %s read, %s written", *(f"{each[kind]:,.0f}" for kind in ("prompt", "completion"))
                )
            log.info("%s", chain.message)
            return 0
        finally:
            for state in chain.stages:
                state.status = chain.status if state.status == "running" else state.status
            self._write()

    def _write(self) -> None:
        self._budget.note_seconds()
        self._file.write(self._chain)

    # --- the values of a stage's flags -----------------------------------------------------------------------------------

    def _values(self) -> dict[str, str]:
        made = {state.stage.name: self._path(state) for state in self._chain.stages if state.outputs}
        given = {name: str(self._file.absolute(path)) for name, path in self._chain.inputs.items()}
        known = {"job": self._chain.job, "folder": str(self._file.folder), "kind": self._chain.kind}
        last = next(reversed(made.values()), known["folder"])
        return self._chain.settings | known | given | made | {"made": last}

    def _path(self, state: StageState) -> str:
        return str(self._file.absolute(state.outputs[0].output))

    def _commands(self, state: StageState) -> Iterator[list[str]]:
        stage, values = state.stage, self._values()
        if stage.input:
            source = next((values[name] for name in stage.input if name in values), None)
            if source is None:
                raise MagpieError(f"stage {stage.name}: none of its inputs ({', '.join(stage.input)}) exists")
            values |= {"input": source, "input_stem": source.removesuffix(".jsonl")}
        for each in stage.for_each.format_map(values).split() if stage.for_each else [""]:
            words = _words(stage.flags, values | {"each": each})
            given = [f"--input_file={values['input']}"] if stage.input else []
            limits = self._budget.flags(state) if stage.asks_model(self._chain.settings) else []
            yield [stage.program, *given, *words, *_split(stage.more.format_map(values), stage.name), *limits]

    # --- the stages --------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Let every stage check its arguments and files, and find out which are complete; nothing is written."""
        environment = {name: value for name, value in os.environ.items() if name != "MAGPIE_LOG"}
        for state in self._chain.stages:
            state.outputs, state.status = [], "waiting"
            if state.stage.is_meant(self._chain.settings):
                calls = [[*command, "--check"] for command in self._commands(state)]
                state.outputs = [one for call in calls for one in self._call(call, environment)[0]]
                if state.outputs and all(output.status == "complete" for output in state.outputs):
                    state.status = "complete"
            else:
                state.status = "skipped"

    def _stages(self) -> None:
        last = max((n for n, state in enumerate(self._chain.stages) if self._needs_server(state)), default=-1)
        with contextlib.ExitStack() as stack:
            environment: dict[str, str] | None = None
            for number, state in enumerate(self._chain.stages):
                if number > last:
                    stack.close()  # a reward model gets all the memory
                    environment = None
                elif environment is None and self._needs_server(state) and not self._budget.is_used_up:
                    environment = stack.enter_context(self._server())
                if not self._stage(state, environment or {}):
                    return
                if state.stage.if_empty and state.status == "complete" and not sum(one.rows or 0 for one in state.outputs):
                    made = self._path(state).removesuffix(".jsonl")
                    self._chain.message = state.stage.if_empty.format_map(self._values() | {"output_stem": made})
                    return

    def _needs_server(self, state: StageState) -> bool:
        asks = state.stage.asks_model(self._chain.settings)
        return asks and state.status == "waiting" and not os.environ.get("MAGPIE_BASE_URL")

    def _stage(self, state: StageState, environment: dict[str, str]) -> bool:
        """Run a stage, unless it is complete or not requested; return whether the chain continues after it."""
        if state.status == "skipped" and state.stage.if_skipped and self._values().keys() & set(state.stage.input):
            log.info("%s", state.stage.if_skipped)
        if state.status == "complete":
            log.info("%s is already complete", self._path(state))
            self._count_tokens(state)
        if state.status != "waiting":
            return True
        commands, started = list(self._commands(state)), time.monotonic()
        if self._records and state.stage.name != SPEED:
            environment = environment | {RECORD: str(self._file.folder.resolve() / "completions" / f"{state.stage.name}.jsonl")}
        goes_on = ["--partial"] if state.stage.input and self._takes_partial else []
        state.status = "running"
        self._chain.provenance = distinct([*self._before, provenance(self._made_with)])
        self._write()
        try:
            calls = [self._call([*command, *goes_on], os.environ | environment) for command in commands]
        except StageFailed as failed:
            state.exit_code = failed.code
            raise
        finally:
            state.seconds = round(time.monotonic() - started, 1)
        state.outputs, state.exit_code = [one for outputs, _ in calls for one in outputs], max(code for _, code in calls)
        state.status = PARTIAL if state.exit_code == EXIT_CEILING else "complete"
        self._count_tokens(state)
        self._write()
        there = any(output.status == PARTIAL for output in state.outputs)
        return state.status == "complete" or (self._takes_partial and there)

    @property
    def _takes_partial(self) -> bool:
        return self._chain.settings.get("partial") == "true"

    def _count_tokens(self, state: StageState) -> None:
        """Copy the tokens per kept record from the stage's run file."""
        for run in self._budget.runs(state)[:1]:
            self._chain.tokens_per_kept_record = run.tokens_per_kept_record or self._chain.tokens_per_kept_record

    def _call(self, command: list[str], environment: dict[str, str]) -> tuple[list[Output], int]:
        """Run a stage program to its end; return the outputs that it reports, and its exit code (0, or a ceiling's)."""
        with tempfile.TemporaryDirectory(prefix="magpie-") as folder:
            result = Path(folder) / "stage.result"
            program, *arguments = command
            code = self._wait(self._start([f"{program}.py", *arguments, f"--result_file={result}"], environment))
            if code not in (0, EXIT_CEILING):
                raise StageFailed(program, code)
            lines = result.read_bytes().splitlines() if result.exists() else []
        outputs = [msgspec.json.decode(line, type=Output) for line in lines]
        for output in outputs:
            output.output, output.run_file = self._file.relative(output.output), self._file.relative(output.run_file)
        return outputs, code

    def _report(self) -> None:
        words = [f"--output_file={self._file.absolute(self._chain.report)}"] if self._chain.report else []
        if self._wait(self._start(["report.py", str(self._file.folder), *words], os.environ)):
            log.warning("no report: see above. The job is complete without it")

    # --- processes ---------------------------------------------------------------------------------------------------------

    def _start(self, command: list[str], environment: Any, **more: Any) -> subprocess.Popen[bytes]:
        fds = (self._lock.fileno(),) if self._lock else ()
        program, *arguments = command
        words = [sys.executable, str(PROGRAMS / program), *arguments]
        environment = environment | {PARENT: str(os.getpid())}
        return subprocess.Popen(words, env=environment, pass_fds=fds, **more)  # noqa: S603

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Return the exit code, as a shell reports it, of a process that ends with us."""
        try:
            code = process.wait()
        finally:
            end_tree(process)
        return code if code >= 0 else 128 - code

    @contextlib.contextmanager
    def _server(self) -> Iterator[dict[str, str]]:
        """Yield the environment for a server of the chain's model, which runs until the block ends."""
        chain, logs = self._chain, self._file.folder / "logs"
        file = logs / f"server-{os.getpid()}.url"
        environment = {"MAGPIE_API_KEY": os.environ.get("MAGPIE_API_KEY") or secrets.token_urlsafe(24)}
        words = [f"--log_dir={logs}", f"--url_file={file}", *_words(chain.serve, self._values())]
        # it serves for as long as `cat` reads from us, so it ends when we do, however we end
        command = ["serve.py", chain.settings["model"], *words, "--", "cat"]
        process = self._start(command, os.environ | environment, stdin=subprocess.PIPE)
        try:
            while not (urls := read_addresses(file) if file.exists() else []):
                if process.poll() is not None:
                    raise StageFailed("serve", self._wait(process))
                time.sleep(LOOK_SECONDS)
            self._made_with = read_made_with(told := (logs / TOLD.format(0)).resolve())
            several = chain.settings.get("replicas") not in (None, "", "1")
            where = f"@{file.resolve()}" if several else urls[0]
            yield environment | {"MAGPIE_BASE_URL": where, "MAGPIE_SERVE_PID": str(process.pid), MADE_WITH: str(told)}
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=STOP_SECONDS)
            end_tree(process)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """Hold the job's lock, which its processes inherit: it is free when all of them have ended."""
        with self._file.path.with_suffix(".lock").open("ab") as lock:
            deadline, told = time.monotonic() + ORPHAN_SECONDS, False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise MagpieError(
                            f"{self._file.folder}: another process is working on this job. Wait for it, or choose another job"
                        ) from None
                    if not told:
                        log.info("waiting up to a minute for another process of this job to end")
                        told = True
                    time.sleep(LOOK_SECONDS)
            yield lock


def _words(flags: Flags, values: dict[str, str]) -> list[str]:
    """Return flags as words of a command line; empty ones are omitted."""
    words: list[str] = []
    for name, template in flags.items():
        if isinstance(template, list):
            several = [word for text in template for word in _split(text.format_map(values), name)]
            words += [f"--{name}", *several] if several else []
            continue
        value = template.format_map(values)
        if value in ("true", "false"):
            words.append(f"--{name}" if value == "true" else f"--no-{name}")
        elif value:
            words.append(f"--{name}={value}")
    return words


def _split(text: str, name: str) -> list[str]:
    """Return the words of a text as a shell splits them; nothing in it is executed."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise MagpieError(f"the flags of {name} ({text}): {error}. Close the quotes") from error
