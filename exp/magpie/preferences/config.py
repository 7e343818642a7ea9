"""Settings of preference pairs: `configs/pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from magpie.config.load import config_path, load

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PairSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/pairs`, which explains each setting; a strategy omits those that it does not use."""

    longest_ratio: Annotated[float, msgspec.Meta(ge=1)]
    least_ratio: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    least_votes: Annotated[int, msgspec.Meta(ge=2)] = 3
    least_agreement: Share = 0.0
    least_margin: Share = 0.0
    least_reward_margin: float | None = None
    chosen: Literal["reward", "shortest"] = "reward"
    rejected: Literal["tempting", "least"] = "tempting"
    rejected_by_vote: Literal["tempting", "least"] = "least"
    rejected_without_answer: bool = False
    longer_wins_limit: Share = 0.6

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings for a run file, without those that older settings lacked."""
        found = msgspec.structs.asdict(self)
        return {key: value for key, value in found.items() if key != "least_ratio" or value != 1.0}

    def rejecting(self, *, without_answer: bool) -> PairSettings:
        """Return the same settings with another choice of whether a response without a final answer may be rejected."""
        return msgspec.structs.replace(self, rejected_without_answer=without_answer)


def load_pair_settings(strategy: str, path: Path | None = None) -> PairSettings:
    """Return the settings of a pair strategy, or those in a file."""
    return load(path or config_path("pairs", f"{strategy}.yaml"), PairSettings)
