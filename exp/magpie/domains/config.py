"""Cues and training examples of the domain classifier: `configs/tagging`."""

from __future__ import annotations

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.records.schema import DOMAINS


class DomainCues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/tagging/domains.yaml`: LaTeX command → English words; domain → its cues, separated by commas."""

    commands: dict[str, str]
    cues: dict[str, str]


def load_domain_cues() -> DomainCues:
    """Return the cues of the domains.

    Raises:
        MagpieError: a domain is missing or unknown.
    """
    path = config_path("tagging", "domains.yaml")
    cues = load(path, DomainCues)
    if set(cues.cues) != set(DOMAINS):
        raise MagpieError(f"{path}: `cues` must have exactly these domains: {', '.join(DOMAINS)}")
    return cues
