"""The dataset card: a dataset folder's README.md, with the hub's YAML header and counts of the exported records."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from magpie.common.console import log, printable
from magpie.controls import telling
from magpie.export import evidence
from magpie.export.croissant import write_croissant
from magpie.export.formats import FORMATS, Columns, of_response
from magpie.export.markdown import block, cell, section, table
from magpie.export.origin import Origin, origin_of
from magpie.export.writer import card_features
from magpie.records.reading import stem_of
from magpie.runs.jobs import lineage
from magpie.runs.run_file import Counts, RunFile, files_until, runs_until, spent_until

LABELS = (
    "domain",
    "difficulty",
    "difficulty_measured",
    "answer_type",
    "language",
    "source",
    "validity",
    "problem_model",
    "answer_model",
)
MODELS = {"problems": "problem_model", "answers": "answer_model"}
COUNTED = tuple(name for name in (*LABELS, "finish_reason") if name not in (*MODELS.values(), "validity"))
TEMPLATE = "pre_query_template"
SETTINGS = ("model_path", "temperature", "top_p", "max_tokens", "num_responses", "response_style", "system_prompt", "seed")
CURVE = "reliability.png"
PARTIAL_DATA = (
    "**Partial**: a run that led to these rows stopped at its ceiling (of tokens, time or cost), so rows are missing."
)
MOST_VALUES, SHOWN_TEMPLATES = 5000, 3
_labels = itemgetter(*LABELS)
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


class Facts:
    """Counts of the exported records, taken while they pass.

    Combinations of labels, which are few, are counted and now and then taken apart: one look-up per record.
    """

    def __init__(self, seed: int = 0) -> None:
        self.sample = evidence.Sample(seed)
        self._together: Counter[tuple[Any, ...]] = Counter()
        self._apart: dict[str, Counter[Any]] = {name: Counter() for name in (*LABELS, "finish_reason", TEMPLATE)}
        self.references = self.answers = self.agreements = 0
        self._agreement = 0.0

    def add(self, record: dict[str, Any], values: dict[str, Any]) -> None:
        """Count a record and its row's metadata."""
        self.sample.add(record)
        self.references += values["answer_source"] == "reference"
        self.answers += values["answer_source"] == "majority"
        if (agreement := values["agreement"]) is not None:
            self.agreements += 1
            self._agreement += agreement
        finish = of_response(record, "finish_reason")  # a list if none of several responses was chosen
        self._together[(*_labels(values), None if isinstance(finish, list) else finish, record.get(TEMPLATE))] += 1
        if len(self._together) >= MOST_VALUES:
            self._take_apart()

    def _take_apart(self) -> None:
        for labels, count in self._together.items():
            for counter, label in zip(self._apart.values(), labels, strict=True):
                if label is not None and (label in counter or len(counter) < MOST_VALUES):
                    counter[label] += count
        self._together.clear()

    def counted(self, name: str) -> Counter[Any]:
        """Return the number of occurrences of each value, nulls aside."""
        self._take_apart()
        return self._apart[name]

    @property
    def origin(self) -> Origin:
        """Where the problems are from."""
        written = bool(self.counted("problem_model") or self.counted(TEMPLATE))
        return origin_of(written=written, languages=self.counted("language"))

    @property
    def mean_agreement(self) -> float:
        """The mean of `agreement` where known."""
        return self._agreement / self.agreements


@dataclass(frozen=True)
class Card:
    """The content of a card besides the facts."""

    title: str
    format: str
    columns: Columns
    file_type: str
    license: str
    splits: dict[str, int]
    dropped: Counter[str]
    template: bool = False
    partial: bool = False


def job_files(source: Path) -> tuple[list[RunFile], dict[str, Any] | None]:
    """Return the finished runs that led to a file, the earliest first, and the last decontamination certificate among them.

    Their outputs' stems begin the file's (X_ins, … of X_ins_res.jsonl); if --output_file chose names, an input tells the run.
    """
    runs, paths = runs_until(source), files_until(source, ".certificate.json")
    if not runs or runs[0].inputs.get("input_file"):
        runs = lineage(source)[::-1] or runs
        paths = [path for run in runs if (path := run.output.with_name(f"{stem_of(run.output)}.certificate.json")).exists()]
    certificates = [certificate for path in paths if (certificate := _certificate(path)).get("benchmarks")]
    return [run for run in runs if run.is_made], certificates[-1] if certificates else None


def _certificate(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s: not readable (%s), so the dataset card omits it", path, error)
        return {}


def write_card(folder: Path, source: Path, card: Card, facts: Facts) -> None:
    """Write README.md and croissant.json into a dataset folder that has its rows."""
    from huggingface_hub import DatasetCard, DatasetCardData

    total, origin = sum(card.splits.values()), facts.origin
    files = [{"split": split, "path": f"data/{split}.{card.file_type}"} for split in sorted(card.splits, reverse=True)]
    data = DatasetCardData(
        language=origin.languages,
        license=card.license,
        task_categories=["text-generation"],
        tags=[*origin.tags],
        pretty_name=card.title,
        size_categories=[next((name for limit, name in SIZES if total < limit), "n>10M")],
        configs=[{"config_name": "default", "data_files": files}],
        dataset_info={"features": card_features(card.columns), **_sizes(folder, card)},
    )
    runs, certificate = job_files(source)
    about = FORMATS[card.format].about
    parts = [
        f"# {cell(card.title)}",
        origin.about + f" {about[0].upper()}{about[1:]}.",
        PARTIAL_DATA if card.partial else "",
        section("Rows", ["split", "rows"], [(split, f"{count:,}") for split, count in card.splits.items()]),
        _sample(facts, total),
        _license(card.license, origin),
        _models(facts, runs),
        _sampling(runs),
        _stages(runs, card),
        _tokens(source, card),
        _validity(facts),
        *(section(f"By {name}", [name, "rows"], _rows(counter)) for name in COUNTED if (counter := facts.counted(name))),
        _agreement(facts),
        _measured(folder, runs),
        _contamination(certificate),
        _templates(facts),
        _columns(card, runs),
        _training(card),
        _made(runs),
        f"## Citation\n\n```bibtex\n{evidence.CITATION}\n```",
    ]
    header = f"---\n{data.to_yaml()}\n---\n"
    DatasetCard(header + "\n" + "\n\n".join(part for part in parts if part) + "\n").save(folder / "README.md")
    license = evidence.LICENSES[card.license][1] if card.license in evidence.LICENSES else card.license
    known = {"name": card.title, "description": f"{origin.about} {about}.", "license": license, "keywords": [*origin.tags]}
    write_croissant(folder, known, card.columns, card.file_type, list(card.splits), citation=evidence.CITATION)


def _sizes(folder: Path, card: Card) -> dict[str, Any]:
    """Return the splits' rows and bytes for a card's `dataset_info`.

    `datasets` 5.2 caches a local folder by its name and its card, not by its files: without the sizes, another job's dataset
    of the same name is what `load_dataset` returns.
    """
    sizes = {name: (folder / "data" / f"{name}.{card.file_type}").stat().st_size for name in card.splits}
    splits = [{"name": name, "num_bytes": sizes[name], "num_examples": card.splits[name]} for name in sizes]
    return {"splits": splits, "download_size": sum(sizes.values()), "dataset_size": sum(sizes.values())}


def _rows(counter: Counter[str]) -> list[tuple[str, str]]:
    rows = [(value, f"{count:,}") for value, count in counter.most_common(20)]
    return rows if len(counter) <= 20 else [*rows, (f"{len(counter) - 20} others", "")]


def _sample(facts: Facts, total: int) -> str:
    text = (
        "Verified means right by the reference answer, or without one that at least three responses have an answer, and that "
        "half or more of all requested agree on one: "
        f"{facts.sample.verified:,} of the records behind the {total:,} rows. Drawn at random, long texts shortened:"
    )
    return section("Ten rows", ["problem", "reasoning", "votes", "verdict"], list(facts.sample.rows), text)


def _columns(card: Card, runs: list[RunFile]) -> str:
    stages = {run.stage for run in runs}

    def origin(name: str) -> str:
        known = evidence.FROM.get(name, "export.py, from the record")
        return known if known.partition(":")[0] in stages or known.startswith("export.py") else f"the input ({known})"

    rows: list[tuple[Any, ...]] = [(name, origin(name)) for name in card.columns]
    return section("Where each column comes from", ["column", "from"], rows)


def _made(runs: list[RunFile]) -> str:
    lines = "\n".join(printable(line, 2000) for line in evidence.commands(runs))
    head = ["stages", "code commit", "engine", "GPUs"]
    return f"{section('How it was made', head, list(evidence.made_rows(runs)))}\n\n{block(lines)}"


def _license(license: str, origin: Origin) -> str:
    if known := evidence.LICENSES.get(license):
        return "## License\n\n[{}]({})".format(*known)
    if license != "other":
        return f"## License\n\n{cell(license)}"
    return f"## License\n\n{origin.unlicensed}"


def _models(facts: Facts, runs: list[RunFile]) -> str:
    known = evidence.revisions(runs)
    rows = [
        (what, name, known.get(name) or known.get(name.partition("@")[0]) or "not known", count)
        for what, key in MODELS.items()
        for name, count in _rows(facts.counted(key))
    ]
    return section("Models", ["wrote the", "model", "revision", "rows"], rows) if rows else ""


def _sampling(runs: list[RunFile]) -> str:
    rows = []
    for run in runs:
        arguments = {key: run.arguments[key] for key in SETTINGS if run.arguments.get(key) is not None}
        if "temperature" in arguments:
            if Path(str(arguments.get("model_path"))).is_absolute():  # means nothing on another machine
                arguments["model_path"] = Path(arguments["model_path"]).name
            rows.append((run.stage, ", ".join(f"{key} {value}" for key, value in arguments.items())))
    return section("Sampling", ["stage", "settings"], rows) if rows else ""


def _stages(runs: list[RunFile], card: Card) -> str:
    counts = [(run.stage, run.counts) for run in runs]
    written = sum(card.splits.values())
    counts.append(("export.py", Counts(written + card.dropped.total(), written, dict(card.dropped))))
    rows = [
        (stage, f"{n.read:,}", f"{n.written:,}", ", ".join(f"{why} {k:,}" for why, k in n.dropped.items()) or "none")
        for stage, n in counts
    ]
    return section("From the model to this dataset", ["stage", "read", "written", "dropped, by reason"], rows)


def _tokens(source: Path, card: Card) -> str:
    spent, written = spent_until(source), sum(card.splits.values())
    if not spent or not written:
        return ""
    read, made = (spent.get(kind, 0) / written for kind in ("prompt", "completion"))
    return f"## Tokens per kept record\n\n{read:,.0f} prompt and {made:,.0f} completion tokens, over all stages."


def _validity(facts: Facts) -> str:
    counts = facts.counted("validity")
    text = (
        "Whether a problem is complete, free of contradictions and asks for one thing, by a model's votes on pointed questions."
    )
    return section("Validity", ["validity", "rows"], _rows(counts), text) if counts else ""


def _agreement(facts: Facts) -> str:
    if not facts.agreements:
        return ""
    given = (
        f"{facts.references:,} rows have a given `answer` (`answer_source`: reference). Elsewhere " if facts.references else ""
    )
    return (
        f"## Agreement\n\n{given}`answer` is what most of the sampled responses agree on: a vote, not the truth. "
        f"{facts.answers:,} rows have one; a tie has none. On average, {100 * facts.mean_agreement:.0f}% of the votes agree in "
        f"the {facts.agreements:,} rows where two or more have an answer; one without an answer agrees with none."
    )


def _measured(folder: Path, runs: list[RunFile]) -> str:
    measured = next((run.measured for run in reversed(runs) if run.measured), None)
    if not measured:
        return "## How wrong it is\n\nNot measured: no controls were planted (gen_ins.py --planted)."
    picture = ""
    if measured.get("curve"):
        telling.save_curve(measured["curve"], folder / CURVE)
        picture = f"\n\n![Share of right labels by agreement]({CURVE})"
    shown = [f"### {title}\n\n{table(head, rows)}" for title, head, rows in telling.tables(measured)]
    text = f"{telling.sentence(measured)}\n\n{telling.ABOUT}{picture}"
    return "\n\n".join(["## How wrong it is", text, *shown])


def _contamination(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "## Decontamination\n\nNot decontaminated: no certificate was found."
    keys = ("benchmark", "revision", "rows", "hits")
    rows = [tuple("–" if entry.get(key) is None else entry[key] for key in keys) for entry in certificate["benchmarks"]]
    text = "Problems found in these test sets were removed (hits: how many)."
    methods = certificate.get("methods")
    appended = f"\n\nHow they were compared:\n\n{block(json.dumps(methods, indent=1), 'json')}" if methods else ""
    return section("Decontamination", list(keys), rows, text) + appended


def _templates(facts: Facts) -> str:
    templates = facts.counted(TEMPLATE)
    if not templates:
        return ""
    blocks = "\n\n".join(block(printable(text, 600)) for text, _ in templates.most_common(SHOWN_TEMPLATES))
    return f"## Pre-query templates\n\n{len(templates):,} different ones; the most frequent:\n\n{blocks}"


def _training(card: Card) -> str:
    chosen = FORMATS[card.format]
    parts = [chosen.snippet] if chosen.snippet else []
    if chosen.axolotl:
        entry = {"path": "THIS_DATASET", **chosen.axolotl}
        parts.append("axolotl:\n\n```yaml\n" + _yaml({"datasets": [entry]}) + "```")
    if chosen.llama_factory:
        entry = {"magpie": {"hf_hub_url": "THIS_DATASET", **chosen.llama_factory}}
        parts.append(f"LLaMA-Factory's dataset_info.json:\n\n```json\n{json.dumps(entry, indent=2)}\n```")
    if card.template:
        parts.append(
            textwrap.fill(
                "The model's own chat template drops the chain of thought of an assistant's message. Train with "
                "chat_template.jinja of this folder: TRL's `SFTConfig(chat_template_path=…)`, axolotl's `chat_template_jinja`.",
                120,
            )
        )
    return "## Training\n\n" + "\n\n".join(parts) if parts else ""


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False))
