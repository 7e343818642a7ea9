"""Records: everything that a data file may be, and everything that may be wrong with it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from magpie.common.console import MagpieError
from magpie.records.reading import check_input, read_rows, stem_of
from magpie.records.rows import encode, known_keys

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT / "../shared/data"
RECORDS: list[dict[str, Any]] = [
    {"id": "a-1", "instruction": "1 + 1?", "response": None, "source": "x.json", "tags": [1, 2.5, None, {"deep": True}]},
    {"id": 7, "instruction": "Zeile eins\nZeile zwei\u2028 „é“ 🙂 \x00", "responses": ["a", "b"], "reasoning": ["r", "s"]},
    {"instruction": "no id", "gen_input_configs": {"temperature": 1.1}, "created": 1_700_000_000},
]
LINES = b"".join(encode(record) + b"\n" for record in RECORDS)


def records(path: Path) -> list[Any]:
    return [row.record for row in read_rows(path)]


def zstd_frames(*parts: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in parts)


def line_cut(data: bytes) -> tuple[bytes, bytes]:
    """Cut in the middle of a line."""
    return data[: len(data) // 2], data[len(data) // 2 :]


WRITTEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "JSON Lines": ("x.jsonl", lambda: LINES),
    "no newline at the end": ("x.jsonl", lambda: LINES.rstrip(b"\n")),
    "blank lines": ("x.jsonl", lambda: b"\n \n" + LINES.replace(b"\n", b"\n\n\t\n")),
    "CRLF": ("x.jsonl", lambda: LINES.replace(b"\n", b"\r\n")),
    "BOM": ("x.jsonl", lambda: b"\xef\xbb\xbf" + LINES),
    "escaped": ("x.jsonl", lambda: b"".join(json.dumps(r).encode() + b"\n" for r in RECORDS)),
    "array": ("x.json", lambda: json.dumps(RECORDS).encode()),
    "indented array, unescaped": ("x.json", lambda: json.dumps(RECORDS, indent=1, ensure_ascii=False).encode()),
    "array with BOM and space": ("x.json", lambda: b"\xef\xbb\xbf\r\n  " + json.dumps(RECORDS).encode() + b"\n"),
    "array named .jsonl": ("x.jsonl", lambda: json.dumps(RECORDS).encode()),
    "gzip": ("x.jsonl.gz", lambda: gzip.compress(LINES)),
    "gzip in members": ("x.jsonl.gz", lambda: b"".join(map(gzip.compress, line_cut(LINES)))),
    "gzip array": ("x.json.gz", lambda: gzip.compress(json.dumps(RECORDS).encode())),
    "gzip with BOM": ("x.jsonl.gz", lambda: gzip.compress(b"\xef\xbb\xbf" + LINES)),
    "zstd": ("x.jsonl.zst", lambda: zstd_frames(LINES)),
    "zstd in frames": ("x.jsonl.zst", lambda: zstd_frames(*line_cut(LINES))),
    "zstd array": ("x.json.zst", lambda: zstd_frames(json.dumps(RECORDS).encode())),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_file_is_read_whole_and_unchanged_however_it_is_written(tmp_path: Path, how: str) -> None:
    name, content = WRITTEN[how]
    path = tmp_path / name
    path.write_bytes(content())
    assert records(path) == RECORDS
    assert all(type(value) is type(RECORDS[0]["tags"][i]) for i, value in enumerate(records(path)[0]["tags"]))
    summary = check_input(path, skip_malformed=False)
    assert (summary.rows, summary.malformed) == (3, 0)


def test_big_integers_pass_through_exactly(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    line = b'{"instruction":"a","id":1180591620717411303424,"n":[-9223372036854775809,18446744073709551616]}'
    path.write_bytes(line + b"\n")
    assert encode(records(path)[0]) == line


def test_a_chain_of_thought_may_be_missing_in_one_of_several_responses(tmp_path: Path) -> None:
    """What gen_res.py --num_responses writes when a response has none."""
    path = tmp_path / "x.jsonl"
    record = {"instruction": "a", "responses": ["b", "c"], "reasoning": [None, "r"], "finish_reason": ["stop", "length"]}
    path.write_bytes(encode(record) + b"\n")
    assert check_input(path, skip_malformed=False).malformed == 0
    assert records(path) == [record]


GOOD = b'{"instruction":"fine"}\n'
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "torn": (b'{"instruction": "cut he', "torn"),
    "not JSON": (b"hello\n", "not JSON"),
    "single quotes": (b"{'instruction': 'a'}\n", "not JSON"),
    "two objects": (b'{"instruction":"a"}{"instruction":"b"}\n', "not JSON"),
    "a list": (b"[1]\n", "object"),
    "a text": (b'"a"\n', "object"),
    "a number": (b"5\n", "object"),
    "null": (b"null\n", "object"),
    "no instruction": (b'{"id":"a"}\n', "`instruction`"),
    "instruction null": (b'{"instruction":null}\n', "`instruction`"),
    "instruction a list": (b'{"instruction":["a"]}\n', "`instruction`"),
    "invalid UTF-8": (b'{"instruction":"\xff\xfe"}\n', "not JSON"),
    "UTF-8 surrogate": (b'{"instruction":"\xed\xa0\x80"}\n', "not JSON"),
    "half a surrogate pair": (b'{"instruction":"a \\ud83d b"}\n', "not JSON"),
    "the other half": (b'{"instruction":"a \\ude42 b"}\n', "not JSON"),
    "NaN": (b'{"instruction":"a","x":NaN}\n', "not JSON"),
    "Infinity": (b'{"instruction":"a","x":-Infinity}\n', "not JSON"),
    "no number that fits": (b'{"instruction":"a","x":1e999}\n', "not JSON"),
    "deep": (b'{"instruction":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "not JSON"),
    "deep and open": (b'{"instruction":"a","x":' + b'{"a":' * 100_000 + b"\n", "not JSON"),
    "NUL bytes": (b"\0\0\0\0\n", "not JSON"),
}
WRONG_TYPES: dict[str, Any] = {
    "id": 1.5,
    "instruction": 5,
    "pre_query_template": 1,
    "opening": 1,
    "target_domain": ["algebra"],
    "control": "gcd",
    "template_id": 3,
    "concepts": "x",
    "rationale": 3,
    "parent_ids": "x",
    "evolution": "x",
    "gen_input_configs": "x",
    "created": "today",
    "response": ["a"],
    "responses": "a",
    "reasoning": {"a": 1},
    "finish_reason": 5,
    "prompt_tokens": "5",
    "completion_tokens": [1.5],
    "gen_response_configs": [],
    "lost_responses": "1",
    "votes_asked": "4",
    "response_models": "m",
    "asked_by_model": {"m": "4"},
    "model_votes": ["m"],
    "models_agree": "yes",
    "model_chosen": 1,
    "model_rejected": 1,
    "stop_reason": 1,
    "previous": "x",
    "source": 1,
    "original_id": 1.5,
    "drop_reason": 1,
    "drop_detail": {},
    "history": ["x"],
    "difficulty": ["hard"],  # a number in some datasets
    "domain": 1,  # a list of texts in some
    # texts
    **dict.fromkeys(("raw_instruction", "answer_type", "input_quality", "quality_explanation", "intent"), 1),
    **{
        key: ["x"]
        for key in (
            "validity",
            "knowledge",
            "task_category",
            "safety",
            "language",
            "majority_answer",
            "reference_answer",
        )
    },
    **dict.fromkeys(("difficulty_measured", "reward_model"), 2),
    # numbers
    **dict.fromkeys(("instruct_reward", "agreement", "answered", "pass_rate", "min_neighbor_distance", "repeat_count"), "1"),
    # lists and mappings
    **{
        key: [1]
        for key in (
            "defects",
            "validity_reasons",
            "not_judged",
            "other_task_category",
            "safety_categories",
            "answers",
            "answer_states",
        )
    },
    **{key: ["x"] for key in ("answer_groups", "pass_rate_interval", "is_correct", "rewards")},
    **dict.fromkeys(("validity_votes", "doubts", "tag_failures", "tagged_by", "duplicate_evidence", "contamination"), "x"),
    "answer_judgements": ["x"],
    **dict.fromkeys(("code", "code_answer", "code_state", "code_sandbox"), 7),
    "code_agrees": "yes",
    "code_votes": ["x"],
    "response_index": "0",
    "rewards_by_model": {"a": [[]]},
    "step_rewards": {"a": [0.5]},
    "min_similar_conversation_id": 1.5,
    "duplicate_of": [],
    # pairs
    **{key: ["x"] for key in ("prompt", "chosen", "rejected")},
    **dict.fromkeys(("pair", "chosen_index", "rejected_index", "votes_chosen", "votes_rejected"), 0.5),
    **dict.fromkeys(("score_chosen", "score_rejected", "vote_margin", "pair_weight"), "1"),
    **dict.fromkeys(("answer_chosen", "answer_rejected", "why"), 1),
}
BAD_LINES |= {
    f"{key} of the wrong type": (encode({"instruction": "a"} | {key: value}) + b"\n", f"`{key}")
    for key, value in WRONG_TYPES.items()
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_malformed_line_is_an_error_that_names_file_line_and_key(tmp_path: Path, what: str) -> None:
    line, says = BAD_LINES[what]
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD + b"\n" + line if what == "torn" else GOOD + b"\n" + line + GOOD)
    with pytest.raises(MagpieError) as error:
        check_input(path, skip_malformed=False)
    message = str(error.value)
    assert f"{path}, line 3:" in message and says in message and "--skip_malformed" in message
    assert "\n" not in message


@pytest.mark.parametrize("what", [what for what in BAD_LINES if what != "no number that fits"])
def test_a_reader_of_known_keys_alone_finds_the_same_lines_malformed(tmp_path: Path, what: str) -> None:
    """But for a number out of all range in a key that nobody reads: the next stage that reads the key refuses it."""
    line, says = BAD_LINES[what]
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD + line if what == "torn" else GOOD + line + GOOD)
    _, bad, *_ = read_rows(path, known=known_keys())
    assert bad.record is None and says in bad.problem


def test_known_keys_are_those_of_the_record_and_those_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"instruction":"a","mine":[1],"yours":2,"id":7}\n{"instruction":"b","skipped":"\xff"}\n')
    good, bad = read_rows(path, known=known_keys(("mine", "id")))
    assert good.record == {"instruction": "a", "mine": [1], "id": 7} and b"yours" in good.data
    assert "not JSON" in bad.problem


@pytest.mark.parametrize("what", BAD_LINES)
def test_skipped_malformed_lines_are_counted_and_come_as_rows_that_can_be_written(tmp_path: Path, what: str) -> None:
    line, _ = BAD_LINES[what]
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD + line if what == "torn" else GOOD + line + GOOD)
    summary = check_input(path, skip_malformed=True)
    rows = list(read_rows(path))
    assert summary.rows == len(rows) == (2 if what == "torn" else 3) and summary.malformed == 1
    bad = rows[1]
    assert bad.record is None and bad.problem and bad.line == 2 and len(bad.raw) <= 2000
    assert bad.raw[:5] == line[:5].decode("utf-8", "replace")
    encode({"line": bad.line, "raw": bad.raw, "drop_detail": bad.problem})
    assert [row.record for row in rows if row.record] == [{"instruction": "fine"}] * (summary.rows - 1)


@pytest.mark.parametrize("known", [None, known_keys()], ids=["all", "known"])
def test_the_vote_of_a_file_verified_before_is_read_by_its_new_name(tmp_path: Path, known: Any) -> None:
    path = tmp_path / "x.jsonl"
    base = {"instruction": "a"}
    groups = {"answer_groups": [0, 0, 1]}
    new = {"answer": 5, "majority_answer": "4"}  # the user's own, of whatever type
    path.write_bytes(b"\n".join(encode(base | one) for one in ({"answer": "4"} | groups, new | groups, {"answer": ["5"]})))
    assert check_input(path, skip_malformed=False).malformed == 0
    records = [row.record for row in read_rows(path, known=known)]
    assert records == [base | groups | {"majority_answer": "4"}, base | groups | new, base | {"answer": ["5"]}]


def test_every_key_of_a_record_is_tried_with_a_wrong_type() -> None:
    from magpie.records.schema import Record

    assert set(WRONG_TYPES) == set(Record.__annotations__)


@pytest.mark.parametrize("key", sorted(set(WRONG_TYPES) - {"id", "instruction"}))
def test_null_means_not_known(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(encode({"instruction": "a", key: None}) + b"\n")
    assert check_input(path, skip_malformed=False).malformed == 0


BROKEN_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.jsonl", b"", "empty"),
    "white space": ("x.jsonl", b" \n\r\n\t\n", "empty"),
    "a BOM alone": ("x.jsonl", b"\xef\xbb\xbf", "empty"),
    "empty array": ("x.json", b" [ ] ", "empty"),
    "empty gzip": ("x.jsonl.gz", gzip.compress(b""), "empty"),
    "gzip of no bytes": ("x.jsonl.gz", b"", "empty"),
    "truncated gzip": ("x.jsonl.gz", gzip.compress(LINES)[:-20], "compression"),
    "gzip without its checksum": ("x.jsonl.gz", gzip.compress(LINES)[:-8], "compression"),
    "gzip, a wrong byte": ("x.jsonl.gz", gzip.compress(LINES)[:40] + b"\xff\xff" + gzip.compress(LINES)[42:], "compression"),
    "gzip, a wrong checksum": ("x.jsonl.gz", gzip.compress(LINES)[:-8] + b"\0" * 8, "compression"),
    "no gzip at all": ("x.jsonl.gz", LINES, "compression"),
    "no zstd at all": ("x.jsonl.zst", LINES, "compression"),
    "truncated zstd": ("x.jsonl.zst", zstd_frames(LINES)[:-9], "compression"),
    "zstd, second frame truncated": ("x.jsonl.zst", zstd_frames(LINES, LINES.replace(b"a-1", b"b-1"))[:-9], "compression"),
    "zstd, second frame torn at its head": ("x.jsonl.zst", zstd_frames(LINES) + zstd_frames(LINES)[:6], "compression"),
    "array without its end": ("x.json", json.dumps(RECORDS).encode()[:-1], "array"),
    "array torn in a record": ("x.json", json.dumps(RECORDS).encode()[:-30], "array"),
    "array with more behind it": ("x.json", json.dumps(RECORDS).encode() + b"x", "array"),
    "array without a comma": ("x.json", b'[{"instruction":"a"} {"instruction":"b"}]', ""),
    "array with invalid UTF-8": ("x.json", b'[{"instruction":"\xff"}]', ""),
    "array with NaN": ("x.json", b'[{"instruction":"a","x":NaN}]', ""),
    "array with half a surrogate pair": ("x.json", b'[{"instruction":"a \\ud83d b"}]', ""),
    "array with a wrong type": ("x.json", b'[{"instruction":"a"},{"instruction":"a","response":5}]', "`response`"),
    "array with a wrong element": ("x.json", b'[{"instruction":"a"},5]', "object"),
}


@pytest.mark.parametrize("what", BROKEN_FILES)
def test_a_broken_file_is_an_error_in_one_line_that_names_it(tmp_path: Path, what: str) -> None:
    name, content, says = BROKEN_FILES[what]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MagpieError) as error:
        check_input(path, skip_malformed=False)
    assert str(path) in str(error.value) and says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_array_says_after_which_element(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'[{"instruction":"a"},\n{"instruction":"b"},\n{"instruction":')
    with pytest.raises(MagpieError, match="after element 2"):
        check_input(path, skip_malformed=False)


def test_malformed_elements_of_an_array_are_skipped_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'[5, {"instruction":"a"}, {"id":1}, {"instruction":"b"}, "text"]')
    summary = check_input(path, skip_malformed=True)
    assert (summary.rows, summary.malformed) == (5, 3)
    rows = list(read_rows(path))
    assert [row.line for row in rows if row.record is None] == [1, 3, 5]
    encode([[row.raw, row.problem] for row in rows])


DEEP = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from magpie.common.console import MagpieError
from magpie.records.reading import check_input
try:
    check_input(Path(sys.argv[1]), skip_malformed=False)
except MagpieError as error:
    print(error)
"""


def run_python(code: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": str(PROJECT / "exp"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize(
    "content",
    [b'[{"instruction":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", b"[" * 100_000, b'[{"a":' * 50_000],
    ids=["in a record", "open", "objects"],
)
def test_an_array_nested_100000_deep_is_an_error_and_eats_no_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    done = run_python(DEEP, path)
    assert done.returncode == 0 and str(path) in done.stdout, done.stderr[-300:]


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MagpieError, match="no such file"):
        check_input(tmp_path / "nothing.jsonl", skip_malformed=False)
    with pytest.raises(MagpieError, match="folder"):
        check_input(tmp_path, skip_malformed=False)


def test_nothing_usable_is_an_error_even_if_malformed_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"a\nb\n")
    with pytest.raises(MagpieError, match="no usable record"):
        check_input(path, skip_malformed=True)


def with_ids(tmp_path: Path, *ids: object) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(encode({"instruction": "a", "id": one}) + b"\n" for one in ids))
    return path


@pytest.mark.parametrize(
    "ids",
    [
        (1, "1"),
        (-1, -2),
        (0, 2**61 - 1),
        ("a", "A"),
        ("a", "a "),
        ("é", "e\u0301"),
        ("", "0", 0),
        (2**63, 2**63 + 1, -(2**63) - 1),
    ],
    ids=str,
)
def test_different_ids_are_no_repetition(tmp_path: Path, ids: tuple[object, ...]) -> None:
    assert check_input(with_ids(tmp_path, *ids), skip_malformed=False).rows == len(ids)


@pytest.mark.parametrize("ids", [("a", "b", "c", "b"), (1, 2, 5, 2), ("x", 2**70, 0, 2**70)], ids=str)
def test_a_repeated_id_is_an_error_that_names_it_and_both_lines(tmp_path: Path, ids: tuple[object, ...]) -> None:
    with pytest.raises(MagpieError) as error:
        check_input(with_ids(tmp_path, *ids), skip_malformed=False)
    message = str(error.value)
    assert repr(ids[1]) in message and "lines 2 and 4" in message and str(tmp_path / "x.jsonl") in message


def test_records_without_ids_repeat_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD * 5)
    assert check_input(path, skip_malformed=False).rows == 5


def test_the_fingerprint_changes_with_one_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES)
    before = check_input(path, skip_malformed=False).fingerprint
    assert check_input(path, skip_malformed=False).fingerprint == before
    path.write_bytes(LINES + b"\n")
    assert check_input(path, skip_malformed=False).fingerprint != before


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("X_ins.jsonl", "X_ins"),
        ("X_ins.jsonl.gz", "X_ins"),
        ("X.json.zst", "X"),
        ("a.b.jsonl", "a.b"),
        ("plain", "plain"),
    ],
)
def test_the_stem_is_the_name_without_its_endings(name: str, stem: str) -> None:
    assert stem_of(Path("folder.jsonl") / name) == stem


MEMORY = """
import sys
from pathlib import Path
from magpie.records.reading import check_input
assert check_input(Path(sys.argv[1]), skip_malformed=False).rows == int(sys.argv[2])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
@pytest.mark.parametrize("form", ["lines", "array"])
def test_checking_an_input_costs_less_than_100_bytes_a_record(tmp_path: Path, form: str) -> None:
    peaks = []
    for count in (1_000, 100_000):
        path = tmp_path / f"{count}.json"
        lines = (f'{{"id":"job_20260101-{n:06d}","instruction":"What is {n} + {n}?","source":"made"}}' for n in range(count))
        path.write_text("[" + ",\n".join(lines) + "]" if form == "array" else "\n".join(lines))
        done = run_python(MEMORY, path, count)
        assert done.returncode == 0, done.stderr[-500:]
        peaks.append(int(done.stdout) * 1024)
    assert (peaks[1] - peaks[0]) / 99_000 < 100


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there: data of an earlier run, not part of the project")
def test_an_older_data_set_is_read_whole_with_its_integer_ids() -> None:
    path = SHARED / "qwen2.5-3b" / "problems.json"
    assert check_input(path, skip_malformed=False).rows == 2156
    found = records(path)
    assert found == json.loads(path.read_text(encoding="utf-8"))
    assert all(type(record["id"]) is int for record in found)
