"""A chain's ceiling, shared by its stages."""

from __future__ import annotations

import time

from magpie.chain.job_file import Chain, JobFile, StageState
from magpie.client.ceiling import Limits
from magpie.client.rate_limit import Prices
from magpie.runs.run_file import RunFile, find_run_file


class Budget:
    """The ceiling of a chain: each stage gets what the others have left.

    Args:
        file: the job's file.
        chain: its settings have the limits.
    """

    def __init__(self, file: JobFile, chain: Chain) -> None:
        self._file, self._chain, self._earlier, self._began = file, chain, chain.seconds, time.monotonic()

    def runs(self, state: StageState) -> list[RunFile]:
        """Return the run files of a stage's outputs."""
        names = [output.run_file for output in state.outputs if output.run_file]
        found = (find_run_file(self._file.absolute(name)) for name in names)
        return [run for run in found if run]

    def note_seconds(self) -> None:
        """Record the seconds of all calls in the chain."""
        self._chain.seconds = round(self._earlier + time.monotonic() - self._began, 1)

    def _limit(self, name: str) -> float | None:
        text = self._chain.settings.get(name)
        return float(text) if text else None

    @property
    def _prices(self) -> Prices:
        return Prices(self._limit("prompt_price") or 0.0, self._limit("completion_price") or 0.0)

    def _tokens(self, states: list[StageState]) -> tuple[int, int]:
        counts = [run.tokens_in_all for state in states for run in self.runs(state)]
        return sum(one["prompt"] for one in counts), sum(one["completion"] for one in counts)

    def flags(self, state: StageState) -> list[str]:
        """Return the limits of a stage as flags: what it has used so far plus what is left."""
        self.note_seconds()
        tokens = self._tokens([one for one in self._chain.stages if one is not state])
        own = sum(run.seconds + run.start_seconds for run in self.runs(state))
        taken = {
            "max_tokens_total": sum(tokens),
            "max_seconds": self._chain.seconds - own,
            "max_cost": self._prices.cost(*tokens),
        }
        left = {name: max(0.0, limit - spent) for name, spent in taken.items() if (limit := self._limit(name)) is not None}
        prices = {name: price for name in ("prompt_price", "completion_price") if (price := self._limit(name)) is not None}
        return [f"--{name}={value:.15g}" for name, value in (left | prices).items()]

    @property
    def is_used_up(self) -> bool:
        """Whether no stage may query a model any more."""
        self.note_seconds()
        tokens = self._limit("max_tokens_total")
        limits = Limits(
            None if tokens is None else int(tokens), self._limit("max_seconds"), self._limit("max_cost"), self._prices
        )
        return bool(limits.reached(*self._tokens(self._chain.stages), self._chain.seconds))
