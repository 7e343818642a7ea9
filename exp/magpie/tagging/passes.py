"""Passes of the tagger: missions that run together, tags kept from earlier passes, and one pass over the file.

A pass is a resumable run, with one server or none. Finished tags stay: a pass for other missions than the output's reads the
existing tags and replaces the file when it is done, so that nothing is tagged twice.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from magpie.common import outcome
from magpie.common.console import MagpieError, log
from magpie.common.progress import StageBar
from magpie.config.model_presets import ModelPreset
from magpie.generation.session import ModelOptions, open_template, with_server
from magpie.records.reading import InputSummary, read_rows
from magpie.records.rows import Row
from magpie.runs.paths import Paths
from magpie.runs.provenance import Provenance
from magpie.runs.run import Run
from magpie.runs.run_file import find_run_file
from magpie.runs.stage import StageOptions, begins, malformed, named_columns
from magpie.runs.summary import show_summary
from magpie.tagging.missions import MISSIONS, VALIDITY, with_tags
from magpie.tagging.taggers import Item, LocalTagger, ServerTagger, tag_empty, tag_here
from magpie.tagging.validity import Judging

STAGE, SUFFIX = "unitag.py", "_tagged"
UNDECIDED = "undecided"
BATCH = 64
"""Records per batch of a local tagger while a server works on earlier ones."""
BATCH_ALONE = 1024
"""The same without a server to wait for: a reward model sorts them by length."""


@dataclass
class Pass:
    """Missions of one pass over the file."""

    taggers: dict[str, str]
    """Mission → name of its tagger."""
    model: ModelOptions
    """This pass's server."""
    preset: ModelPreset | None = None
    """The server's model, for the missions that are not in `local`."""
    local: dict[str, LocalTagger] = field(default_factory=dict)
    """Mission → its tagger, for those without a server."""


@dataclass(frozen=True)
class Earlier:
    """Tags in the existing output: mission → name of its tagger. None: there is no output to add to."""

    done: dict[str, str] | None
    finished: bool = False
    rows: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    """Their cost, which the next pass's run file keeps."""
    provenance: list[Provenance] = field(default_factory=list)
    """Their provenance."""
    stale_part: bool = False
    """The run of the output was killed between its last two steps."""


def earlier_passes(paths: Paths, fingerprint: str) -> Earlier:
    """Return what earlier passes over the same input have written to the output."""
    remedy = "Choose another --output_file, or --overwrite"
    run = find_run_file(paths.run, remedy) if paths.output.exists() else None
    if run is None or run.stage != STAGE or run.inputs.get("input_file") != fingerprint:
        return Earlier(None)
    if not {"tag_mission", "done_before"} <= run.arguments.keys():
        return Earlier(None)
    finished = run.status == "complete"
    if run.partial and not finished and not run.arguments["done_before"]:
        return Earlier(None)  # it was left by the resumed run at its ceiling
    done = run.arguments["done_before"] | (run.arguments["tag_mission"] if finished else {})
    tokens = dict(run.tokens_in_all) if finished else run.earlier_tokens
    return Earlier(done, finished, run.counts.written, tokens, run.provenance, finished and paths.part.exists())


class TagRun:
    """One pass over the input, as a resumable run.

    Args:
        each: the pass.
        options: the input, and how to run the stage.
        summary: of the checked input.
        judging: how problems are judged.
        retag: replace existing tags.
        first: the pass is the first one, to which --overwrite applies.
    """

    def __init__(
        self, each: Pass, options: StageOptions, summary: InputSummary, judging: Judging, *, retag: bool, first: bool
    ) -> None:
        self._pass, self._options, self._retag, self._judging = each, options, retag, judging
        self._overwrite = options.overwrite and first
        output = options.output(SUFFIX)
        paths = Paths.beside(output)
        self._earlier = Earlier(None) if self._overwrite else earlier_passes(paths, summary.fingerprint)
        done = self._earlier.done or {}
        self._missions = [name for name in each.taggers if retag or name not in done]
        arguments: dict[str, Any] = {
            "tag_mission": {name: each.taggers[name] for name in self._missions},
            "done_before": {name: tagger for name, tagger in done.items() if name not in self._missions},
            "retag": retag,
        }
        arguments |= named_columns(options.input_file)
        if each.preset and each.model.template_variables:
            arguments["template_variables"] = each.model.template_variables
        if VALIDITY in self._missions:
            arguments[VALIDITY] = asdict(judging)
        inputs = {"input_file": summary.fingerprint}
        sources = (options.input_file,)
        self.run = Run(
            STAGE, output, rows=summary.rows, arguments=arguments, inputs=inputs, input_files=sources, shard=options.shard
        )
        self.run.adds_to_output = self._earlier.done is not None
        self.run.notes["earlier_tokens"] = self._earlier.tokens
        self.run.provenance = self._earlier.provenance

    def work(self) -> None:
        """Run the pass, unless its missions are already in the output."""
        if not self._missions:
            paths = self.run.paths
            log.info("%s already has these: %s", paths.output, ", ".join(self._pass.taggers))
            outcome.note(paths.output, paths.run, "complete", self._earlier.rows)
            return
        adding = self._earlier.finished
        if not begins(self.run, overwrite=self._overwrite or adding, check=self._options.check):
            return
        if adding and self._earlier.stale_part:
            self.run.paths.part.unlink(missing_ok=True)
        retries = 0
        if self._pass.preset and any(self._for_server(record) for record in self._records()):
            retries = self._with_server(self._pass.preset)
        else:
            self._without_server()
        more = tag_rows(self.run.paths.output, self._missions)
        if retries:
            more.append(("asked again", f"{retries:,} responses could not be read at first"))
        show_summary(self.run.stage, self.run.paths, self.run.totals, more)

    def _with_server(self, preset: ModelPreset) -> int:
        model = self._pass.model
        template = open_template(preset, model)
        tagger = ServerTagger(preset, self._pass.taggers, self._judging)
        options = replace(self._options, overwrite=self._overwrite)
        with_server(self.run, preset, model, options, template, self._items(BATCH), tagger.work)
        return tagger.retries

    def _without_server(self) -> None:
        with self.run.session(overwrite=self._overwrite):
            with StageBar("unitag", self.run.rows, self.run.closed) as bar:
                for item in self._items(BATCH_ALONE):
                    self.run.keep(item.index, with_tags(item.record, item.results, self._pass.taggers))
                    bar.update(closed=1, dropped=self.run.totals.dropped.total())
            self.run.finish()

    # --- the records ---------------------------------------------------------------------------------------------

    def _wanted(self, name: str, record: dict[str, Any]) -> bool:
        return name in self._missions and (self._retag or MISSIONS[name].missing(record))

    def _for_server(self, record: dict[str, Any]) -> list[str]:
        """Return a record's missions for the server."""
        return [name for name in self._missions if name not in self._pass.local and self._wanted(name, record)]

    def _items(self, size: int) -> Iterator[Item]:
        rows = self._rows()
        while batch := [Item(index, record) for index, record in itertools.islice(rows, size)]:
            for item in batch:
                tag_empty(item, [name for name in self._missions if self._wanted(name, item.record)])
            tag_here(batch, self._pass.local, self._wanted)
            for item in batch:
                item.asked = [name for name in self._for_server(item.record) if name not in item.results]
                yield item

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the unfinished records, from the output if there is one; malformed rows are dropped on the way."""
        tagged = self._tagged()
        for index, row in self._own():
            record = row.record and self._same(row.record, next(tagged, None))
            if self.run.is_closed(index):
                continue
            if record is None:
                self.run.drop(index, *malformed(row))
            else:
                yield index, record

    def _records(self) -> Iterator[dict[str, Any]]:
        tagged = self._tagged()
        for _, row in self._own():
            if row.record is not None:
                yield self._same(row.record, next(tagged, None))

    def _own(self) -> Iterator[tuple[int, Row]]:
        """Yield this run's rows of the input: for a shard, its own."""
        for index, row in enumerate(read_rows(self._options.input_file)):
            if index in self.run.indices:
                yield index, row

    def _tagged(self) -> Iterator[dict[str, Any] | None]:
        """Yield the records of the existing output, which has every record of the input that is not malformed."""
        if self._earlier.done is not None:
            for row in read_rows(self.run.paths.output):
                yield row.record

    def _same(self, record: dict[str, Any], tagged: dict[str, Any] | None) -> dict[str, Any]:
        if self._earlier.done is None:
            return record
        if tagged is None or (tagged.get("id"), tagged["instruction"]) != (record.get("id"), record["instruction"]):
            raise MagpieError(
                f"{self.run.paths.output} no longer has the records of {self._options.input_file}. Use --overwrite to tag them "
                "afresh, or another --output_file"
            )
        return tagged


# --- the summary -------------------------------------------------------------------------------------------------------


def tag_rows(path: Path, missions: list[str]) -> list[tuple[str, str]]:
    """Return the rows of the summary of a tagged file: labels, failures, domains versus those requested."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    domains: dict[str, Counter[str]] = defaultdict(Counter)
    rewards: list[float] = []
    reasons: Counter[str] = Counter()
    for row in read_rows(path):
        record = row.record or {}
        for name in missions:
            if (why := (record.get("tag_failures") or {}).get(name)) is not None:
                failed[name][why.partition(":")[0]] += 1
            elif name == "reward":
                rewards.append(record["instruct_reward"])
            else:
                found[name][record[_label_key(name)] or UNDECIDED] += 1
                reasons.update(record["validity_reasons"] if name == VALIDITY else ())
        if "domain" in missions and record.get("target_domain") and record.get("domain"):
            domains[record["target_domain"]][record["domain"]] += 1
    rows = []
    for name in missions:
        tags = _rewards(rewards) if name == "reward" else _counts(found[name])
        rows.append((name, "; ".join(part for part in (tags, _failures(failed[name], len(rewards), found[name])) if part)))
        if name == VALIDITY:
            rows += [(f"  {question}", f"failed {count:,}") for question, count in reasons.most_common()]
        if name == "domain":
            rows += [(f"  {asked} requested", _counts(got)) for asked, got in sorted(domains.items())]
    return rows


def _label_key(name: str) -> str:
    return {"quality": "input_quality", "classification": "task_category"}.get(name, name)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in counter.most_common())


def _rewards(rewards: list[float]) -> str:
    if not rewards:
        return ""
    return f"mean {sum(rewards) / len(rewards):.3f}, from {min(rewards):.3f} to {max(rewards):.3f}"


def _failures(failed: Counter[str], rewarded: int, found: Counter[str]) -> str:
    """Return how many records got no tag, with their share: for a language model, the rate of unreadable responses."""
    total = failed.total() + (found.total() or rewarded)
    why = f" ({_counts(failed)})" if failed else ""
    return f"failed {failed.total():,} of {total:,}, {failed.total() / max(total, 1):.1%}{why}"
