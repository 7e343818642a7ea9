"""What the hub shows of an exported folder: columns, a card in which hostile names stay text, metadata for programs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from conftest import finished, program, rows
from magpie.export import evidence
from magpie.export.formats import FORMATS, METADATA, PROBLEMS, shown_columns
from magpie.export.writer import BATCH, TableWriter
from own_data import records
from test_export import RECORD, export, job

__all__ = ["job"]  # a fixture
HOSTILE = (
    "<script>alert(1)</script>",
    "[click](https://evil.example/x)",
    "![i](https://evil.example/i.png)",
    "https://evil.example",
    "www.evil.example",
    "a | b\n| --- |\n# Title",
    "---\nlicense: mit\n---",
    "```\n<b>out</b>\n~~~",
    "$\\href{https://evil.example}{x}$",
    "@everyone {{ 7*7 }} {% raw %}",
    "\x1b[31mred\u202e",
)


@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
def test_columns_without_a_value_are_left_out_and_late_ones_come_in(tmp_path: Path, file_type: str) -> None:
    """Rows are given out of order of splits, so that one split's file has to be widened at the end, another's in the middle."""
    import datasets

    columns = {"messages": [{"role": "string"}], "id": "string", "late": "double", "other": "string", "never": {"x": "string"}}
    with TableWriter(tmp_path, columns, file_type) as table:
        for number in range(2 * BATCH + 7):
            late = {
                "late": 0.5 if number == BATCH + 3 else None,
                "other": "o" if number == 2 * BATCH + 5 else None,
                "never": None,
            }
            table.write("train", {"messages": [{"role": str(number)}], "id": number} | late)
        table.write("test", {"messages": [], "id": None, "late": None, "other": None, "never": None})
    assert list(table.columns) == ["messages", "id", "late", "other"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [f"test.{file_type}", f"train.{file_type}"]
    files = {split: str(tmp_path / "data" / f"{split}.{file_type}") for split in table.counts}
    kinds = {"parquet": "parquet", "jsonl": "json"}
    features = datasets.Features(
        {"messages": datasets.List({"role": datasets.Value("string")}), "id": datasets.Value("string")}
        | {"late": datasets.Value("float64"), "other": datasets.Value("string")}
    )
    loaded = datasets.load_dataset(kinds[file_type], data_files=files, features=features, cache_dir=str(tmp_path / "cache"))
    train = loaded["train"].to_list()
    assert [(row["messages"][0]["role"], row["id"]) for row in train] == [(str(n), str(n)) for n in range(2 * BATCH + 7)]
    assert {n: row["late"] for n, row in enumerate(train) if row["late"]} == {BATCH + 3: 0.5}
    assert {n: row["other"] for n, row in enumerate(train) if row["other"]} == {2 * BATCH + 5: "o"}
    assert loaded["test"].to_list() == [{"messages": [], "id": None, "late": None, "other": None}]
    if file_type == "parquet":
        import pyarrow.parquet as pq

        assert {tuple(pq.read_schema(path).names) for path in files.values()} == {("messages", "id", "late", "other")}
        assert pq.ParquetFile(files["train"]).num_row_groups == 3


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("messages", ["messages", "answer", "pass_rate", "id"]),
        ("sharegpt", ["conversations", "answer", "pass_rate", "conversation_id"]),
        ("rlvr", ["prompt", "ground_truth", "answer", "pass_rate"]),
        ("prime-rl", ["question", "answer", "pass_rate", "prompt"]),
        ("verl", ["prompt", "answer", "pass_rate", "data_source"]),
        ("alpaca", ["instruction", "answer", "pass_rate", "id"]),
    ],
)
def test_the_hub_shows_problem_answer_and_pass_rate_first(name: str, first: list[str]) -> None:
    assert list(shown_columns(FORMATS[name]))[:4] == first
    for chosen in FORMATS.values():
        assert set(shown_columns(chosen)) == set(chosen.columns) | set(METADATA)
        assert next(iter(shown_columns(chosen))) in PROBLEMS


@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
def test_a_vote_is_read_back_as_a_vote_where_no_model_is_named(tmp_path: Path, file_type: str) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text(json.dumps(RECORD | {"majority_answer": "2"}) + "\n")
    flags = ("--format", "messages", "--output_folder", tmp_path / "out", "--file_type", file_type)
    assert program("export", "--input_file", source, *flags).returncode == 0
    [record] = records(tmp_path / "out")
    assert record["majority_answer"] == "2" and "reference_answer" not in record and not record["validity"]
    native = tmp_path / "tagged.jsonl"  # a record of ours with a label is no export
    native.write_text(json.dumps(RECORD | {"validity": "valid", "answer": "a user's own"}) + "\n")
    assert "majority_answer" not in records(native)[0]


@pytest.mark.parametrize(
    ("groups", "answer", "said"),
    [
        ([0, 0, 1, None], "2", "2 of 4 for 2"),
        ([0, 0, 1, 1], None, "a tie, 2 of 4 each"),
        ([0, 1, None, 2], None, "no two of 4 agree"),
        ([0, None, None], None, "no two of 3 agree"),
        ([None, None], None, "none of 2 has an answer"),
        (None, None, "–"),
    ],
)
def test_the_votes_of_a_row_in_words(groups: list[int | None] | None, answer: str | None, said: str) -> None:
    assert evidence._votes({"answer_groups": groups, "majority_answer": answer}) == said


# --- hostile names -----------------------------------------------------------------------------------------------------


def hostile(job: Path) -> tuple[str, ...]:
    """Put hostile texts wherever a card takes one from a record, a run file or a certificate; return flags that do the same."""
    source = job / "job_ins_res.jsonl"
    records = []
    for number, record in enumerate(rows(source)):
        text = HOSTILE[number % len(HOSTILE)]
        labels = dict.fromkeys(("source", "domain", "difficulty", "language", "answer_type", "pre_query_template"), text)
        models = {"gen_input_configs": {"input_generator": text}, "gen_response_configs": {"output_generator": text}}
        votes = {"majority_answer": text, "answer_groups": [0, 0, 1], "agreement": 0.67}
        records.append(record | labels | models | votes | {"instruction": text, "reasoning": text})
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    run = json.loads((job / "job_ins.run.json").read_text())
    run["arguments"] |= {"system_prompt": HOSTILE[0], "model_path": HOSTILE[1], "response_style": HOSTILE[7]}
    run["counts"]["dropped"] = {HOSTILE[2]: 2}
    engine = {"version": HOSTILE[0], "flags": HOSTILE[7]}
    made = {
        "commit": HOSTILE[1],
        "command": "python exp/x.py " + HOSTILE[7],
        "engine": engine,
        "gpus": [HOSTILE[3]],
        "driver": "<b>",
    }
    run["provenance"] = [made | {"models": dict.fromkeys(HOSTILE, HOSTILE[2])}]
    (job / "job_ins.run.json").write_text(json.dumps(run))
    entry = {"benchmark": HOSTILE[0], "revision": HOSTILE[1], "rows": 1, "hits": 0}
    (job / "job_ins.certificate.json").write_text(json.dumps({"benchmarks": [entry], "methods": {HOSTILE[7]: HOSTILE[0]}}))
    return ("--title", HOSTILE[6] + HOSTILE[1], "--license", HOSTILE[0])


def test_hostile_names_and_sources_stay_text(job: Path) -> None:
    from markdown_it import MarkdownIt

    flags = hostile(job)
    card = (export(job, "--format", "messages", *flags) / "README.md").read_text()
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    told = yaml.safe_load(header)
    assert told["license"] == HOSTILE[0] and told["pretty_name"] == flags[1] and "viewer" not in told
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)
    tags = set(re.findall(r"<(\w+)", rendered))
    assert tags == {"h1", "h2", "p", "a", "table", "thead", "tbody", "tr", "th", "td", "pre", "code"}
    assert set(re.findall(r'href="([^"]*)"', rendered)) == {"https://arxiv.org/abs/2406.08464"}
    prose = re.sub(r"<pre>.*?</pre>", "", rendered, flags=re.DOTALL)
    titles = re.findall(r"<h[12]>(.*?)</h[12]>", prose)
    assert "Title" not in titles and "out" not in titles and titles.count("How it was made") == 1
    for text in ("&lt;script&gt;alert(1)&lt;/script&gt;", "[click](https://evil.example/x)", "www.evil.example"):
        assert text in prose, text
    raw = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert not re.search(r"https?://(?!arxiv\.org/abs/2406\.08464\))|www\.|<|\$|!\[|@", raw)
    assert "\x1b" not in card and "\u202e" not in card


# --- metadata for programs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
def test_the_metadata_has_the_folders_files_columns_and_splits(job: Path, file_type: str) -> None:
    flags = ("--format", "messages", "--file_type", file_type, "--test_share", 0.25, "--license", "mit", "--title", HOSTILE[1])
    folder = export(job, *flags)
    told = json.loads((folder / "croissant.json").read_text())
    assert (
        told["name"] == HOSTILE[1] and told["license"] == "https://opensource.org/license/mit" and "@inproc" in told["citeAs"]
    )
    [files] = told["distribution"]
    assert sorted(folder.glob(files["includes"])) == sorted((folder / "data").iterdir())
    splits, fields = told["recordSet"]
    assert sorted(one["default_splits/split_name"] for one in splits["data"]) == ["test", "train"]
    header = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    columns = [feature["name"] for feature in header["dataset_info"]["features"]]
    assert [field["@id"] for field in fields["field"]] == ["default/split", *(f"default/{name}" for name in columns)]
    assert columns == ["messages", "id", "agreement", "domain", "validity", "answer_model"]
    regex = fields["field"][0]["source"]["transform"]["regex"]
    assert [re.match(regex, name)[1] for name in (f"data/train.{file_type}", "test")] == ["train", "test"]


READ = """
import json, sys, mlcroissant
data = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = data.metadata.ctx.issues
plain = lambda value: value.decode() if isinstance(value, bytes) else value
found = [{name: plain(value) for name, value in row.items() if "messages" not in name} for row in data.records("default")]
print(json.dumps([sorted(issues.errors), sorted(issues.warnings), found]))
"""


@pytest.mark.long
@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
def test_mlcroissant_finds_no_fault_and_reads_the_rows(job: Path, tmp_path: Path, file_type: str) -> None:
    """In an environment of its own, from the package index: ten packages for one test are no part of the set-up."""
    python = tmp_path / "env" / "bin" / "python"
    uv = str(Path(sys.executable).with_name("uv"))
    for words in (["venv", tmp_path / "env"], ["pip", "install", "--python", python, "mlcroissant==1.1.1", "pyarrow"]):
        done = finished([uv, "--quiet", *map(str, words)])
        assert done.returncode == 0, done.stderr
    folder = export(job, "--format", "messages", "--file_type", file_type, "--test_share", 0.25)
    done = finished([str(python), "-c", READ, str(folder / "croissant.json")])
    assert done.returncode == 0, done.stderr
    errors, warnings, found = json.loads(done.stdout)
    assert not errors and all("is recommended" in warning for warning in warnings) and "not standard" not in done.stderr
    assert {row["default/split"] for row in found} == {"train", "test"} and len({row["default/id"] for row in found}) == 39


def test_a_card_follows_files_whose_names_were_chosen(tmp_path: Path) -> None:
    lines = [{"id": n, "instruction": f"{n} + 2?", "responses": [f"\\boxed{{{n + 2}}}"] * 3} for n in range(4)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen, hard = tmp_path / "right.jsonl", tmp_path / "hard.jsonl"
    for call in (
        ["verify.py", "--choose", "--input_file", tmp_path / "mine.jsonl", "--output_file", chosen],
        ["filter.py", "--where", "agreement > 0.5", "--input_file", chosen, "--output_file", hard],
        ["export.py", "--format", "messages", "--input_file", hard, "--output_folder", tmp_path / "set"],
    ):
        done = program(call[0].removesuffix(".py"), *call[1:])
        assert done.returncode == 0, done.stderr
    text = (tmp_path / "set" / "README.md").read_text()
    assert "| verify.py | 4 | 4 | none |" in text and "exp/verify.py --choose" in text
