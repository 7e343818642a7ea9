"""Assumptions of plans: `configs/planning.yaml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from magpie.config.load import config_path, load


class Assumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number that plans assume, with its unit and source."""

    value: Annotated[float, msgspec.Meta(gt=0)]
    unit: str
    source: str


class PlannedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Assumptions about some models, by their hub ids."""

    names: list[str]
    assumptions: dict[str, Assumption]


class Planning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/planning.yaml`: general assumptions, and those about models."""

    assumptions: dict[str, Assumption]
    models: list[PlannedModel]


def load_planning() -> Planning:
    """Return the assumptions of plans."""
    return load(config_path("planning.yaml"), Planning)
