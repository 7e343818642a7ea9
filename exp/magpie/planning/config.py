"""What plans assume: `configs/planning.yaml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from magpie.config.load import config_path, load


class Assumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure that plans are made with: its unit, and where it is from."""

    value: Annotated[float, msgspec.Meta(gt=0)]
    unit: str
    source: str


class PlannedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is assumed of some models, by their hub ids."""

    names: list[str]
    assumptions: dict[str, Assumption]


class Planning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/planning.yaml`."""

    assumptions: dict[str, Assumption]
    models: list[PlannedModel]


def load_planning() -> Planning:
    """Return what plans assume."""
    return load(config_path("planning.yaml"), Planning)
