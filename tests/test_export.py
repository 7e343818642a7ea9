"""Exported datasets: every format's rows, the folder that others load, its card, and the way to the hub."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import process, program, rows
from magpie.common.console import MagpieError
from magpie.config.model_presets import load_model
from magpie.export.card import job_files
from magpie.export.formats import FORMATS, METADATA, Options, group_of
from magpie.export.writer import split_of

RECORD: dict[str, Any] = {
    "id": "job-1",
    "instruction": "What is 1 + 1?",
    "response": "It is \\boxed{2}.",
    "reasoning": "One and one\nmake two.",
    "finish_reason": "stop",
}
THOUGHT = "<think>\nOne and one\nmake two.\n</think>\n\nIt is \\boxed{2}."
USER = {"role": "user", "content": "What is 1 + 1?"}


def row(name: str, record: dict[str, Any], **options: bool) -> dict[str, Any]:
    return FORMATS[name].row(record, Options(**options))


def test_messages_with_and_without_the_chain_of_thought() -> None:
    assert row("messages", RECORD)["messages"] == [USER, {"role": "assistant", "content": THOUGHT}]
    bare = [USER, {"role": "assistant", "content": "It is \\boxed{2}."}]
    assert row("messages", RECORD, reasoning=False)["messages"] == bare
    assert row("messages", RECORD | {"reasoning": None})["messages"] == bare


def test_sharegpt_turns() -> None:
    turns = [{"from": "human", "value": "What is 1 + 1?"}, {"from": "gpt", "value": THOUGHT}]
    assert row("sharegpt", RECORD) == {"conversation_id": "job-1", "conversations": turns}


@pytest.mark.parametrize(
    ("answers", "truth", "source"),
    [
        ({"majority_answer": "2"}, "2", "majority"),
        ({"majority_answer": "3", "reference_answer": "2"}, "2", "reference"),
        ({"majority_answer": None, "reference_answer": "2"}, "2", "reference"),
    ],
)
def test_rlvr_says_where_the_truth_is_from(answers: dict[str, Any], truth: str, source: str) -> None:
    made = row("rlvr", RECORD | answers)
    assert made == {"id": "job-1", "prompt": [USER], "ground_truth": truth, "answer_source": source}


def test_rows_of_verl_and_verifiers() -> None:
    known = RECORD | {"majority_answer": "2", "pass_rate": 0.75, "agreement": 0.75, "id": 7}
    made = row("verl", known)
    assert set(made) == set(FORMATS["verl"].columns) and made["prompt"] == [USER]
    assert made["reward_model"] == {"style": "rule", "ground_truth": "2"}
    assert made["extra_info"] == {"index": "7", "answer_source": "majority", "pass_rate": 0.75, "agreement": 0.75}
    made = row("prime-rl", known | {"reference_answer": "3"})
    assert (made["question"], made["prompt"], made["answer"]) == ("What is 1 + 1?", [USER], "3")
    assert json.loads(made["info"]) == {"id": "7", "answer_source": "reference", "pass_rate": 0.75, "agreement": 0.75}


def test_alpaca_has_the_thought_in_its_output() -> None:
    assert row("alpaca", RECORD) == {"id": "job-1", "instruction": "What is 1 + 1?", "input": "", "output": THOUGHT}


def test_stepwise_rows_are_those_with_a_score_for_each_step() -> None:
    scores = {"owner/prm": [[0.9, 0.5, 0.4], None, [0.9]]}
    record = RECORD | {"responses": ["One.\n\nTwo.\n \nThree.", "none", "One.\n\nTwo."], "step_rewards": scores}
    [made] = row("stepwise", record)
    assert (made["completions"], made["labels"]) == (["One.", "Two.", "Three."], [True, True, False])
    assert made["reward_model"] == "owner/prm" and made["prompt"] == "What is 1 + 1?"
    for unknown in ({}, {"step_rewards": None}, {"step_rewards": {"owner/prm": [None]}}):
        assert FORMATS["stepwise"].refusal(RECORD | unknown, Options()) == "no_step_rewards"


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("messages", {}, ""),
        ("messages", {"response": None}, "no_response"),
        ("messages", {"response": ""}, "no_response"),
        ("messages", {"finish_reason": "length"}, "unfinished_length"),
        ("sharegpt", {"finish_reason": "repetition"}, "unfinished_repetition"),
        ("messages", {"finish_reason": None}, ""),
        ("rlvr", {}, "no_answer"),
        ("verl", {}, "no_answer"),
        ("prime-rl", {"majority_answer": None}, "no_answer"),
        ("alpaca", {"finish_reason": "length"}, "unfinished_length"),
        ("rlvr", {"majority_answer": "2", "response": None}, ""),
    ],
)
def test_why_a_record_gives_no_row(name: str, changes: dict[str, Any], reason: str) -> None:
    assert FORMATS[name].refusal(RECORD | changes, Options()) == reason


def test_a_response_chosen_among_several_keeps_its_own_chain_of_thought_and_end() -> None:
    several = {"responses": ["no", "It is \\boxed{2}."], "reasoning": ["wrong", "right"], "finish_reason": ["length", "stop"]}
    assert FORMATS["messages"].refusal(RECORD | several, Options()) == ""
    assert "right" in row("messages", RECORD | several)["messages"][1]["content"]
    assert FORMATS["messages"].refusal(RECORD | several | {"response": "no"}, Options()) == "unfinished_length"
    with pytest.raises(MagpieError, match="several responses"):
        FORMATS["messages"].refusal(RECORD | several | {"response": None}, Options())


def test_a_group_of_duplicates_is_never_split() -> None:
    records = [{"id": i, "instruction": "", "duplicate_of": None if i < 500 else i - 500} for i in range(1000)]
    where = {record["id"]: split_of(group_of(record), 0.3, 0) for record in records}
    assert all(where[i] == where[i + 500] for i in range(500))
    assert 250 < list(where.values()).count("test") < 350
    assert {split_of(group_of(record), 0.0, 0) for record in records} == {"train"}
    assert any(where[r["id"]] != split_of(group_of(r), 0.3, 1) for r in records)


# --- the folder ------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job's folder: 40 answered records, the run files that led to them and a certificate."""
    folder = tmp_path / "job"
    folder.mkdir()
    records = [
        RECORD
        | {
            "id": i if i == 7 else f"job-{i}",
            "instruction": f"What is {i} + 1?",
            "finish_reason": "length" if i == 3 else "stop",
            "reasoning": "…" if i % 2 else None,
            "duplicate_of": None if i < 20 else f"job-{i - 20}",
            "domain": "algebra",
            "agreement": 0.5 if i % 2 else None,
            "pre_query_template": "<|im_start|>user\n",
            "gen_response_configs": {"output_generator": "owner/model"},
        }
        for i in range(40)
    ]
    (folder / "job_ins_res.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for stem, stage, dropped in [("job_ins", "gen_ins.py", {"empty": 2}), ("job_ins_res", "gen_res.py", {})]:
        run = {
            "status": "complete",
            "stage": stage,
            "arguments": {"model_path": "/home/me/owner-model", "temperature": 0.8, "top_p": 0.9},
            "counts": {"read": 42, "written": 40, "dropped": dropped},
        }
        (folder / f"{stem}.run.json").write_text(json.dumps(run))
    (folder / "other_ins.run.json").write_text(json.dumps({"status": "complete"}))
    entry = {"benchmark": "MATH-500", "revision": "abc", "rows": 500, "hits": 3}
    (folder / "job_ins.certificate.json").write_text(json.dumps({"benchmarks": [entry], "methods": {"ngram": 13}}))
    return folder


def export(job: Path, *arguments: object, name: str = "job_sft", **env: str) -> Path:
    done = program("export", "--input_file", job / "job_ins_res.jsonl", "--output_folder", job / name, *arguments, env=env)
    assert done.returncode == 0, done.stderr
    return job / name


@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
def test_the_folder_loads_with_types_that_no_null_column_changes(job: Path, tmp_path: Path, file_type: str) -> None:
    import datasets

    folder = export(job, "--format", "messages", "--file_type", file_type, "--test_share", 0.25)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"} and loaded["train"].num_rows + loaded["test"].num_rows == 39
    for split in loaded.values():
        types = {name: feature.dtype for name, feature in split.features.items() if name != "messages"}
        kept = ("agreement", "domain", "validity", "answer_model")
        assert types == {"id": "string"} | {name: "float64" if METADATA[name] == "double" else "string" for name in kept}
        assert split.features["messages"].feature["content"].dtype == "string"
    ids = {name: set(split["id"]) for name, split in loaded.items()}
    assert all((f"job-{i}" in ids["test"]) == (f"job-{i + 20}" in ids["test"]) for i in range(20) if i not in (3, 7))
    assert "7" in ids["train"] | ids["test"] and loaded["train"][0]["answer_model"] == "owner/model"
    counts = json.loads((job / "job_sft.run.json").read_text())["counts"]
    assert counts == {"read": 40, "written": 39, "dropped": {"unfinished_length": 1}}
    assert [r["drop_reason"] for r in rows(job / "job_sft_dropped.jsonl")] == ["unfinished_length"]


def test_a_folder_of_the_same_name_is_not_taken_from_the_cache_of_another(job: Path, tmp_path: Path) -> None:
    import datasets

    def count(folder: Path) -> int:
        return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache")).num_rows

    assert count(export(job, "--format", "messages")) == 39
    source = job / "job_ins_res.jsonl"
    source.write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:5]))
    assert count(export(job, "--format", "messages", "--overwrite")) == 4  # of five, one unfinished


def test_the_card_tells_what_was_counted(job: Path) -> None:
    from huggingface_hub import DatasetCard

    folder = export(job, "--format", "messages", "--license", "apache-2.0", "--title", "Small sums")
    card = DatasetCard.load(folder / "README.md")
    header = card.data.to_dict()
    assert header["license"] == "apache-2.0" and header["pretty_name"] == "Small sums"
    assert header["size_categories"] == ["n<1K"]
    assert [file["path"] for file in header["configs"][0]["data_files"]] == ["data/train.parquet"]
    text = card.text
    assert "| gen_ins.py | 42 | 40 | empty 2 |" in text and "| export.py | 40 | 39 | unfinished_length 1 |" in text
    assert "| MATH-500 | abc | 500 | 3 |" in text and '"ngram": 13' in text
    assert "| answers | owner/model | not known | 39 |" in text and "| algebra | 39 |" in text
    assert "temperature 0.8" in text and "/home/me" not in text
    assert "0 rows have one; a tie has none. On average, 50% of the votes agree in the 19 rows where" in text
    assert "```text\n<|im_start|>user\n" in text


def test_the_card_shows_ten_rows_and_how_it_was_made(job: Path) -> None:
    make_verified_and_hostile(job)
    text = (export(job, "--format", "rlvr", "--license", "mit", name="rl") / "README.md").read_text()
    rows_shown = text.partition("## Ten rows")[2].partition("\n## ")[0]
    assert rows_shown.count("verified by votes") == 10 and "2 of 3 for 2" in rows_shown and "40 of the records" in rows_shown
    assert "[MIT License](https://opensource.org/license/mit)" in text and "@inproceedings{" in text
    assert "python exp/gen_ins.py --model_path owner-model" in text and "--format rlvr" in text and str(job) not in text
    assert "| agreement | the input (verify.py" in text and "reward_funcs=accuracy" in text
    assert "<img" not in text and "](http://evil" not in text and "&#60;img" in rows_shown


def make_verified_and_hostile(job: Path) -> None:
    """Give each record votes and a hostile text."""
    source, votes = job / "job_ins_res.jsonl", {"majority_answer": "2", "answer_groups": [0, 0, 1], "agreement": 0.67}
    hostile = {
        "instruction": "<img src=x> [a](http://evil) | ```",
        "gen_response_configs": {"output_generator": "[x](http://evil)"},
    }
    source.write_text("".join(json.dumps(record | votes | hostile) + "\n" for record in rows(source)))


def test_a_card_without_certificate_says_so(job: Path) -> None:
    (job / "job_ins.certificate.json").unlink()
    (job / "job_ins.run.json").write_text("{broken")
    assert "Not decontaminated" in (export(job, "--format", "messages") / "README.md").read_text()
    runs, certificate = job_files(job / "job_ins_res.jsonl")
    assert [run.stage for run in runs] == ["gen_res.py"] and certificate is None


def test_the_same_export_again_is_complete_and_another_is_refused(job: Path) -> None:
    folder = export(job, "--format", "messages")
    before = (folder / "data" / "train.parquet").stat().st_mtime_ns
    export(job, "--format", "messages")
    assert (folder / "data" / "train.parquet").stat().st_mtime_ns == before
    common = ("--input_file", job / "job_ins_res.jsonl", "--output_folder", folder)
    other = program("export", *common, "--format", "sharegpt")
    assert other.returncode == 2 and "--format was" in other.stderr
    over = program("export", *common, "--format", "sharegpt", "--overwrite")
    assert over.returncode == 0 and (folder / "data" / "train.parquet").stat().st_mtime_ns != before
    assert not [path.name for path in job.iterdir() if path.name.startswith(".")]


def test_a_folder_that_is_not_ours_is_never_replaced(job: Path) -> None:
    mine = job / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    for folder in (mine, job):
        common = ("--input_file", job / "job_ins_res.jsonl", "--output_folder", folder, "--overwrite")
        done = program("export", *common)
        assert done.returncode == 2 and "not made by export.py" in done.stderr
    assert (mine / "letter.txt").read_text() == "dear"


def test_an_export_without_rows_is_an_error_and_leaves_nothing(job: Path) -> None:
    done = program("export", "--input_file", job / "job_ins_res.jsonl", "--format", "rlvr", "--output_folder", job / "none")
    assert done.returncode == 2 and "no_answer" in done.stderr and "Traceback" not in done.stderr
    assert not [path.name for path in job.iterdir() if "none" in path.name]


# --- who reads it ----------------------------------------------------------------------------------------------------

AXOLOTL_KEYS = {"path", "type", "field_messages", "message_property_mappings"}
LLAMA_FACTORY_DEFAULT_TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}


def snippet(card: str, language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)[-1]


@pytest.mark.parametrize("name", ["messages", "sharegpt"])
def test_axolotl_reads_the_rows_as_the_card_says(job: Path, name: str) -> None:
    """docs/dataset-formats/conversation.qmd of axolotl: `chat_template` with its field names, role and content by default."""
    folder = export(job, "--format", name, "--file_type", "jsonl")
    [entry] = yaml.safe_load(snippet((folder / "README.md").read_text(), "yaml"))["datasets"]
    assert set(entry) <= AXOLOTL_KEYS and entry["type"] == "chat_template"
    names = entry.get("message_property_mappings", {"role": "role", "content": "content"})
    for line in rows(folder / "data" / "train.jsonl"):
        turns = line[entry["field_messages"]]
        assert [turn[names["role"]] for turn in turns] in (["user", "assistant"], ["human", "gpt"])
        assert all(isinstance(turn[names["content"]], str) for turn in turns)


@pytest.mark.parametrize("name", ["messages", "sharegpt"])
def test_llama_factory_reads_the_rows_as_the_card_says(job: Path, name: str) -> None:
    """data/README.md of LLaMA-Factory: `formatting: sharegpt`, its columns and tags, user and assistant in turn."""
    folder = export(job, "--format", name, "--file_type", "jsonl")
    [entry] = json.loads(snippet((folder / "README.md").read_text(), "json")).values()
    assert set(entry) <= {"hf_hub_url", "formatting", "columns", "tags"} and entry["formatting"] == "sharegpt"
    tags = LLAMA_FACTORY_DEFAULT_TAGS | entry.get("tags", {})
    for line in rows(folder / "data" / "train.jsonl"):
        turns = line[entry["columns"]["messages"]]
        assert [turn[tags["role_tag"]] for turn in turns] == [tags["user_tag"], tags["assistant_tag"]]
        assert all(isinstance(turn[tags["content_tag"]], str) for turn in turns)


@pytest.mark.parametrize("name", ["deepseek-r1", "deepseek-r1-0528"])
def test_r1s_training_template_keeps_the_chain_of_thought_after_the_prompt_of_inference(job: Path, name: str) -> None:
    from jinja2 import Environment

    folder = export(job, "--format", "messages", "--for_model", name)
    assert "chat_template.jinja" in (folder / "README.md").read_text()
    template = Environment().from_string((folder / "chat_template.jinja").read_text())
    preset, special = load_model(name), {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    turns = row("messages", RECORD)["messages"]
    whole = template.render(messages=turns, **special)
    prompt = template.render(messages=turns[:1], add_generation_prompt=True, **special)
    assert prompt == f"{preset.pre_query_template}{USER['content']}{preset.assistant_prefix}"
    assert whole.startswith(prompt) and whole.endswith(THOUGHT + special["eos_token"]) and whole.count("<think>") == 1
    system = [{"role": "system", "content": "S"}, *turns]
    assert template.render(messages=system, **special).startswith(special["bos_token"] + "S<｜User｜>")


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_a_verified_problem_with_several_responses_and_none_chosen_is_exported_for_reinforcement(tmp_path: Path) -> None:
    record = {
        "id": 1,
        "instruction": "What is 1 + 1?",
        "responses": ["2", "3"],
        "finish_reason": ["stop", "length"],
        "majority_answer": "2",
    }
    source = tmp_path / "x_2res_verified.jsonl"
    source.write_text(json.dumps(record) + "\n")
    done = program(
        "export", "--input_file", source, "--format", "rlvr", "--output_folder", tmp_path / "set", "--file_type", "jsonl"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "set" / "README.md").exists() and len(rows(tmp_path / "set" / "data" / "train.jsonl")) == 1


@contextmanager
def scripted_hub(status: int = 200) -> Iterator[tuple[str, list[tuple[str, bytes, str]]]]:
    """The hub's three calls for small files (create, preupload, commit), on this machine; yields its URL and what came."""
    calls: list[tuple[str, bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            calls.append((self.path, body, self.headers.get("Authorization", "")))
            url = f"http://{self.headers['Host']}/datasets/me/sums"
            answer: dict[str, Any] = {"url": url, "name": "me/sums"}
            if self.path.endswith("/preupload/main"):
                files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
                answer = {"files": [file | {"shouldIgnore": False, "oid": None} for file in files]}
            if "/commit/" in self.path:
                answer = {"commitUrl": f"{url}/commit/0", "commitOid": "0" * 40, "pullRequestUrl": None}
            self._send(answer)

        def do_GET(self) -> None:
            calls.append((self.path, b"", ""))
            self._send({"id": "me/sums", "sha": "0" * 40, "siblings": []})

        def _send(self, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()
        server.server_close()


def push(job: Path, hub: str, *more: str, token: str = "hf_secret", name: str = "me/sums") -> tuple[int, str]:
    """Export in a process: the hub's client reads its settings when it is loaded."""
    env = {"HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HOME": str(job / "hf"), "HF_HUB_DISABLE_XET": "1"}
    arguments = ("--format", "messages", "--output_folder", job / "job_sft", "--push_to_hub", name, *more)
    done = process("export", "--input_file", job / "job_ins_res.jsonl", *arguments, env=env)
    return done.returncode, done.stderr


def test_a_folder_is_pushed_private_with_the_token_of_the_environment_and_asks_nothing(job: Path) -> None:
    with scripted_hub() as (hub, calls):
        code, said = push(job, hub)
    assert code == 0, said
    create = next(json.loads(body) for path, body, _ in calls if path == "/api/repos/create")
    assert (create["name"], create["type"]) == ("sums", "dataset")
    assert create.get("private") is True or create.get("visibility") == "private"
    [commit] = [body for path, body, _ in calls if "/commit/main" in path]
    paths = [json.loads(line)["value"]["path"] for line in commit.splitlines()[1:]]
    assert sorted(paths) == ["README.md", "croissant.json", "data/train.parquet"]
    assert {token for path, _, token in calls if path.startswith("/api/repos")} == {"Bearer hf_secret"}
    written = [path.read_bytes() for path in job.rglob("*") if path.is_file()]
    assert "hf_secret" not in said and not any(b"hf_secret" in content for content in written)


def test_a_push_that_fails_keeps_the_folder_and_says_what_to_do(job: Path) -> None:
    code, said = push(job, "http://127.0.0.1:9", token="")
    assert code == 2 and "HF_TOKEN" in said and (job / "job_sft" / "README.md").exists()
    with scripted_hub(403) as (hub, _):
        code, said = push(job, hub)
    assert code == 2 and "403" in said and "Traceback" not in said and "hf_secret" not in said
    code, said = push(job, "http://127.0.0.1:9")
    assert code == 2 and "no connection" in said and "Traceback" not in said
    code, said = push(job, "http://127.0.0.1:9", name="a/b/c")
    assert code == 2 and "a/b/c" in said and "Traceback" not in said
