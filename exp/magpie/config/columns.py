"""Datasets whose columns are known: `configs/columns`."""

from __future__ import annotations

from functools import cache

from magpie.config.load import config_path, load
from magpie.records.shapes import KnownSet


@cache
def known_sets() -> tuple[KnownSet, ...]:
    """Return them in the order of their file names; earlier ones take precedence."""
    return tuple(load(path, KnownSet) for path in sorted(config_path("columns").glob("*.yaml")))
