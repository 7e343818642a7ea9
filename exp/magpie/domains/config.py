"""Cues and training examples of the domain classifier: `configs/tagging`."""

from __future__ import annotations

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.records.schema import DOMAINS


class DomainCues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/tagging/domains.yaml`: LaTeX command → what it is read as; field → its words, separated by commas."""

    commands: dict[str, str]
    cues: dict[str, str]


def load_domain_cues() -> DomainCues:
    """Return what tells the field of a problem."""
    path = config_path("tagging", "domains.yaml")
    cues = load(path, DomainCues)
    if set(cues.cues) != set(DOMAINS):
        raise MagpieError(f"{path}: `cues` needs these fields and no others: {', '.join(DOMAINS)}")
    return cues


def load_domain_examples() -> dict[str, list[str]]:
    """Return the problems that the tagger of fields is trained from beside the user's data, by field; `other` holds none."""
    return load(config_path("tagging", "domain_examples.yaml"), dict[str, list[str]])
