"""Filter presets: `configs/filters`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.verification.models import RATES

Operator = (
    Literal["eq", "ne", "in", "not_in", "at_least", "at_most", "above", "below"]
    | Literal["exists", "contains", "not_contains", "ends_with", "not_ends_with"]
)


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The condition for applying a rule to a record."""

    field: str
    op: Operator
    value: Any


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of `configs/filters`: a condition on the records that are kept.

    `field`: a key, a dotted path (`gen_response_configs.temperature`), or either with `|length` (characters of a text, entries
    of a list) or `|count` (entries that are not null). `reason`: the `drop_reason` of the records that the rule drops.
    `missing`: the action for a record without the field (or with null, unless `value` names null); `mark` keeps it and names
    the field in its `not_judged`. `made_by`: the stage that adds the field, named in the error for a missing one. `unless`: a
    key, or keys with values ([]: any but null); a record with one of them is exempt (a missing field is marked).
    `when`: a condition; the rule is not applied to a record known not to meet it.
    `enabled`: false for an opt-in rule (filter.py --enable).
    """

    field: str
    op: Operator
    reason: str
    missing: Literal["error", "drop", "keep", "mark"]
    value: Any = msgspec.UNSET
    made_by: str = ""
    unless: str | dict[str, list[Any]] = ""
    enabled: bool = True
    when: Condition | None = None

    @property
    def exceptions(self) -> dict[str, list[Any]]:
        """`unless`, in its longer form."""
        if isinstance(self.unless, dict):
            return self.unless
        return {self.unless: []} if self.unless else {}


class FilterPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/filters`: a record is kept if every rule holds, else dropped for the first that does not."""

    rules: list[Rule]

    @property
    def arguments(self) -> list[dict[str, Any]]:
        """The rules for a run file, without keys that older rules lacked."""
        rules = (msgspec.to_builtins(rule) for rule in self.rules)
        return [{key: value for key, value in rule.items() if key != "when" or value} for rule in rules]

    @property
    def needs_votes(self) -> bool:
        """Whether it drops a record supported only by its own response."""
        return any(rule.field == "agreement" and rule.missing == "drop" for rule in self.rules)

    @property
    def reads_rates(self) -> bool:
        """Whether it needs a problem's pass rate, not only whether it is solved."""
        fields = {rule.field.partition("|")[0] for rule in self.rules if (rule.op, rule.value) != ("above", 0)}
        return bool(fields & {"pass_rate", "pass_rate_interval", "difficulty_measured", *RATES})


def load_filter(name: str, enable: Collection[str] = ()) -> FilterPreset:
    """Return the rules of a file, or of a preset by its name (`sft`), without opt-in rules not named in `enable`.

    Args:
        enable: reasons of opt-in rules to enable.

    Raises:
        MagpieError: there is no such preset or no such rule, or the file is wrong.
    """
    path = Path(name) if "/" in name or name.endswith((".yaml", ".yml")) else config_path("filters", f"{name}.yaml")
    if path.parent == config_path("filters") and not path.exists():
        known = ", ".join(sorted(known.stem for known in path.parent.glob("*.yaml")))
        raise MagpieError(f"no filter '{name}': give a file, or one of: {known}")
    preset = load(path, FilterPreset)
    offered = {rule.reason for rule in preset.rules if not rule.enabled}
    if unknown := sorted(set(enable) - offered):
        rules = f"those that are off are: {', '.join(sorted(offered))}" if offered else "it has none that is off"
        raise MagpieError(f"{path}: no rule '{unknown[0]}' to enable; {rules}")
    return FilterPreset([rule for rule in preset.rules if rule.enabled or rule.reason in enable])
