"""Answers judged in worker processes that are killed at their time or memory limit.

A comparison that takes too long is interrupted; where Python cannot interrupt it (one long computation in C), the kernel kills
the worker, the rest of its work is redone, and what killed it is `timed_out`. Time is the worker's own CPU time: a busy
machine changes no verdict. A worker's memory is limited too, and it cannot write a file.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from magpie.verification import equality
from magpie.verification.equality import Verdict
from magpie.verification.extract import TAIL, final_answer, stated
from magpie.verification.fork_server import start_fork_server
from magpie.verification.groups import grouped
from magpie.verification.guards import danger

if TYPE_CHECKING:
    from pebble import ProcessPool

K = TypeVar("K")
T = TypeVar("T")
GRACE = 1.0
"""Seconds of CPU time between the interruption of a comparison and the death of its worker."""
CHUNK_RESPONSES, CHUNKS_A_WORKER = 128, 4
"""Responses sent to a worker at once, and chunks in flight per worker."""
CHUNKS_A_LIFE = 500
"""Chunks after which a worker is replaced: SymPy's caches grow."""
SLACK = 120.0
"""Seconds of wall-clock time that a busy machine may add to a chunk's own limit."""
REFERENCE = -1
PARSED, UNPARSED, TIMED_OUT = "parsed", "unparsed", "timed_out"


@dataclass(frozen=True)
class Limits:
    """The limits of a comparison (CPU seconds) and of a worker (megabytes of address space)."""

    seconds: float = 5.0
    megabytes: int = 2048
    workers: int = 2


@dataclass(frozen=True)
class Job:
    """A problem's responses (their ends) and its reference answer, if there is one."""

    responses: list[str]
    reference: str | None = None
    deadly: frozenset[str] = frozenset()
    """Answers that have killed a worker: they are never compared."""


@dataclass
class Judgement:
    """The result of a job, one value per response: answer, state, group of equal answers, right or not."""

    answers: list[str | None] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    groups: list[int | None] = field(default_factory=list)
    correct: list[bool | None] = field(default_factory=list)
    doubts: list[tuple[int, int]] = field(default_factory=list)
    """Pairs (response, earlier response or `REFERENCE`) whose difference the rules cannot confirm: words, unread text."""


class _TimedOut(BaseException):
    """The alarm rang: not an Exception, which SymPy's code would swallow."""


# --- in the worker -------------------------------------------------------------------------------------------------------

_seconds = Limits.seconds


def _start_worker(limits: Limits) -> None:
    global _seconds
    _seconds = limits.seconds
    logging.disable(logging.CRITICAL)
    size = limits.megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGVTALRM, _ring)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


_armed = False


def _ring(number: int, frame: object) -> None:
    if _armed:
        raise _TimedOut


def _limited(work: Callable[[], T]) -> T | None:
    """Call a function within the limits; None if it took more time or memory. Beyond `GRACE` the kernel ends the process."""
    global _armed
    try:
        _armed = True
        signal.setitimer(signal.ITIMER_VIRTUAL, _seconds, 0.2)  # repeatedly: an exception may get lost in a callback
        signal.setitimer(signal.ITIMER_PROF, _seconds + GRACE)
        return work()
    except (_TimedOut, MemoryError, RecursionError):
        return None
    finally:
        _armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def compared(one: str, other: str) -> Verdict:
    """Return the verdict on two answers, within the limits."""
    verdict = equality.cheaply(one, other)
    if verdict is None:
        verdict = _limited(lambda: _compared(one, other)) or Verdict.TIMED_OUT
    return verdict


def _compared(one: str, other: str) -> Verdict:
    try:
        return equality.compare(one, other)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001 (SymPy may raise anything on a model's text)
        return Verdict.UNPARSED


def is_hanging(answer: str) -> bool:
    """Whether an answer alone, compared with a plain number and with itself as another text, takes too long."""
    return any(compared(answer, other) is Verdict.TIMED_OUT for other in ("17", f"{answer}+1"))


def judge(job: Job) -> Judgement:
    """Judge one job."""
    answers = [final_answer(response) for response in job.responses]
    out = Judgement(answers, [PARSED] * len(answers), [None] * len(answers), [None] * len(answers))
    bad = set(job.deadly)
    for index, answer in enumerate(answers):
        if answer is None:
            out.correct[index] = False if job.reference else None
        else:
            out.correct[index] = _against_reference(answer, job.reference, bad, out.doubts, index)
    if job.reference and (job.reference in bad or danger(stated(job.reference))):  # unread: none is wrong
        out.correct = [verdict or None for verdict in out.correct]
    unsure: set[tuple[str, str]] = set()
    verdicts = _Verdicts(bad, unsure)
    readable = [None if answer is None or answer in bad or danger(answer) else answer for answer in answers]
    out.groups = grouped(readable, verdicts)
    if bad & set(readable):  # what took too long is in no group, and puts no other into one
        out.groups = grouped([None if answer in bad else answer for answer in readable], verdicts)
    for index, answer in enumerate(answers):
        if answer in bad:
            out.states[index] = TIMED_OUT
        elif readable[index] is None:
            out.states[index] = UNPARSED
    out.doubts += _doubts(answers, out.groups, unsure)
    return out


class _Verdicts:
    """Equality within the limits, cached; answers that take too long go into `bad`, undecided pairs into `unsure`."""

    def __init__(self, bad: set[str], unsure: set[tuple[str, str]]) -> None:
        self._bad, self._unsure = bad, unsure
        self._known: dict[tuple[str, str], Verdict] = {}

    def __call__(self, one: str, other: str) -> bool:
        if one in self._bad or other in self._bad:
            return False
        if (one, other) not in self._known:
            verdict = self._known[one, other] = compared(one, other)
            if verdict is Verdict.TIMED_OUT:
                self._bad.add(_hanging(one, other))
            elif verdict is Verdict.UNPARSED:
                self._unsure.add((one, other))
        return self._known[one, other] is Verdict.RIGHT


def _doubts(answers: list[str | None], groups: list[int | None], unsure: set[tuple[str, str]]) -> list[tuple[int, int]]:
    """Return a pair (later, earlier response) for every two groups that may be one."""
    first = {answer: index for index, answer in reversed(list(enumerate(answers)))}
    found: dict[tuple[int | None, int | None], tuple[int, int]] = {}
    for pair in sorted(unsure):
        earlier, later = sorted(first[answer] for answer in pair)
        if groups[earlier] is not None and groups[later] is not None and groups[earlier] != groups[later]:
            found.setdefault((groups[later], groups[earlier]), (later, earlier))
    return sorted(found.values())


def _against_reference(
    answer: str, reference: str | None, bad: set[str], doubts: list[tuple[int, int]], index: int
) -> bool | None:
    """Return whether an answer equals the reference; None if there is none, or it is undecided."""
    if not reference:
        return None
    if equality.cheaply(reference, answer) is Verdict.RIGHT:  # however hard either is to compare with others
        return True
    if answer in bad or reference in bad:
        return None
    verdict = compared(reference, answer)
    if verdict is Verdict.TIMED_OUT:
        bad.add(_hanging(answer, reference))
    if verdict is Verdict.UNPARSED:
        doubts.append((index, REFERENCE))
    return {Verdict.RIGHT: True, Verdict.WRONG: False}.get(verdict)


def _hanging(one: str, other: str) -> str:
    """Return which of two answers caused a comparison to take too long; if neither alone, the first."""
    return other if not is_hanging(one) and is_hanging(other) else one


def _judge_chunk(jobs: list[Job]) -> list[Judgement]:
    return [judge(job) for job in jobs]


# --- around the workers --------------------------------------------------------------------------------------------------


class Verifier(contextlib.AbstractContextManager["Verifier"]):
    """A pool of workers that judge.

    Args:
        limits: of a comparison and of a worker.
        start_method: how workers are started; a forked process cannot use its parent's fork server: there `spawn`.
    """

    def __init__(self, limits: Limits | None = None, start_method: str = "forkserver") -> None:
        self.limits, self._start_method = limits or Limits(), start_method
        self.killed = 0
        """Number of killed workers."""
        self._pool: ProcessPool | None = None

    def __enter__(self) -> Verifier:
        from pebble import ProcessPool

        context = multiprocessing.get_context(self._start_method)
        context.set_forkserver_preload(["math_verify", "latex2sympy2_extended", "magpie.verification.pool"])
        if self._start_method == "forkserver":
            start_fork_server(context)
        self._pool = ProcessPool(
            max_workers=self.limits.workers,
            max_tasks=CHUNKS_A_LIFE,
            initializer=_start_worker,
            initargs=(self.limits,),
            context=context,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._pool is not None  # noqa: S101
        self._pool.stop()
        self._pool.join()

    def load(self) -> None:
        """Let the workers load what they need, without waiting for them."""
        for _ in range(self.limits.workers):
            self._send([Job(["\\boxed{1}"])])

    def judge_all(self, jobs: Iterable[tuple[K, Job]]) -> Iterator[tuple[K, Judgement]]:
        """Yield every job's key with its judgement, in order; only a window of jobs is in memory."""
        under_way: collections.deque[tuple[list[tuple[K, Job]], Any]] = collections.deque()
        for chunk in _chunks(jobs):
            under_way.append((chunk, self._send([job for _, job in chunk])))
            if len(under_way) >= self.limits.workers * CHUNKS_A_WORKER:
                yield from self._result(*under_way.popleft())
        while under_way:
            yield from self._result(*under_way.popleft())

    def _send(self, jobs: list[Job]) -> Any:
        answers = sum(len(job.responses) for job in jobs)
        return self._schedule(_judge_chunk, jobs, SLACK + 4 * answers * (self.limits.seconds + GRACE))

    def _schedule(self, work: Callable[..., Any], argument: Any, limit: float) -> Any:
        for _ in range(2):
            assert self._pool is not None  # noqa: S101
            with contextlib.suppress(RuntimeError):
                return self._pool.schedule(work, args=[argument], timeout=limit)
            self.__exit__()  # a worker was killed before it had begun: pebble gives up such a pool
            self.__enter__()
        raise RuntimeError("workers die at startup")

    def _result(self, chunk: list[tuple[K, Job]], future: Any) -> Iterator[tuple[K, Judgement]]:
        judgements = self._had(future)
        if judgements is None:  # one of them killed the worker: retry each by itself
            futures = [(key, job, self._send([job])) for key, job in chunk]
            for key, job, single in futures:
                found = self._had(single)
                yield key, found[0] if found else self._judge_carefully(job)
            return
        yield from zip((key for key, _ in chunk), judgements, strict=True)

    def _had(self, future: Any) -> Any:
        """Return a worker's result, or None if it was killed."""
        from pebble import ProcessExpired

        try:
            return future.result()
        except (ProcessExpired, FutureTimeout, MemoryError, BrokenExecutor, CancelledError):
            self.killed += 1
            return None

    def _judge_carefully(self, job: Job) -> Judgement:
        """Judge a job that kills its worker: find the answers that do, and leave them out."""
        answers = {answer for text in job.responses if (answer := final_answer(text))} | (
            {job.reference} if job.reference else set()
        )
        limit = SLACK + 2 * (self.limits.seconds + GRACE)
        probes = {answer: self._schedule(is_hanging, answer, limit) for answer in answers}
        deadly = frozenset(answer for answer, probe in probes.items() if self._had(probe) in (True, None))
        for left_out in (deadly, frozenset(answers)):
            reference = job.reference if job.reference not in left_out else None
            found = self._had(self._send([Job(job.responses, reference, left_out)]))
            if found:
                if job.reference:
                    found[0].correct = [None if reference is None and c is None else c for c in found[0].correct]
                return found[0]
        raise RuntimeError("a worker died of answers that it was not to compare")


def _chunks(jobs: Iterable[tuple[K, Job]]) -> Iterator[list[tuple[K, Job]]]:
    chunk: list[tuple[K, Job]] = []
    size = 0
    for key, job in jobs:
        ends = [response[-TAIL:] if len(response) > TAIL else response for response in job.responses]
        chunk.append((key, Job(ends, job.reference[: TAIL + 1] if job.reference else None)))
        size += len(ends)
        if size >= CHUNK_RESPONSES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
