"""Contamination: what is found and what is not, how benchmarks are normalize, what a certificate says."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magpie.common.console import MagpieError
from magpie.compute.embedding import Embedder
from magpie.similarity.config import NGramRule, load_benchmark_list, load_contamination
from magpie.similarity.contamination import (
    Detector,
    IdfWeights,
    NGrams,
    certificate,
    logistic,
    nearest_indices,
    refuse_canaries,
    similarities,
)
from magpie.similarity.normalize import normalize
from magpie.similarity.test_sets import Benchmark, load_benchmarks

PROBLEMS = [
    "Marlene bakes 48 rolls. She gives 3 rolls to each of her 7 neighbours and sells the rest for $2 each. How many dollars "
    "does she earn?",
    r"Let $f(x) = \frac{3x + 1}{x - 2}$. Find the sum of all integers $n$ for which $f(n)$ is an integer.",
    "A lighthouse flashes every 45 seconds and a buoy every 54 seconds. They flash together at noon. After how many seconds do "
    "they next flash together?",
    "",
    r"Evaluate $\log_3 243$.",
    "A tank holds 900 litres. A pump fills 25 litres a minute while a leak loses 7 litres a minute. How many minutes does it "
    "take to fill the empty tank?",
]
IDS: list[str | int | None] = ["rolls", None, 7, None, None, None]
KNOWN = load_benchmark_list()
RULES = load_contamination()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector([Benchmark("made", "made.jsonl", None, PROBLEMS, IDS)], RULES, Embedder().encode)


FOUND: list[tuple[str, str, int]] = [
    (PROBLEMS[0], "exact", 0),
    (
        r"Let \( f(x)=\dfrac{3x+1}{x-2} \). Determine the sum of all integers \(n\) for which \(f(n)\) is an integer.",
        "exact",
        1,
    ),
    (r"Evaluate \(\log_{3}{243}\). Show all your steps.", "exact", 4),
    (PROBLEMS[0] + " Her sister helps her and is paid nothing for it, because she likes to bake.", "8-gram", 0),
    (PROBLEMS[2].replace("How", "Tell me how").replace("every 45", "once every 45"), "8-gram", 2),
    (
        "At noon a buoy and a lighthouse give a flash at the same moment. The lighthouse repeats its flash after 45 seconds, "
        "the buoy after 54. What is the number of seconds until both flash at once again?",
        "embedding",
        2,
    ),
    (
        "From the 48 rolls that she has baked, Marlene hands each of seven neighbours 3. Everything that is left is sold at 2 "
        "dollars a roll. What are her earnings in dollars?",
        "embedding",
        0,
    ),
    (
        "How many minutes pass until an empty tank of 900 litres is full, when a leak costs 7 litres every minute and a pump "
        "brings in 25 litres every minute?",
        "embedding",
        5,
    ),
]
NOT_FOUND = [
    "Marlene bakes 60 rolls. She gives 4 rolls to each of her 9 neighbours and sells the rest for $5 each. How many dollars "
    "does she earn?",
    r"Evaluate $\log_5 625$.",
    r"Let $f(x) = \frac{5x + 4}{x - 9}$. Find the sum of all integers $n$ for which $f(n)$ is an integer.",
    "A bakery sells 48 loaves and 7 cakes a day. A loaf costs $3 and a cake $2. How many dollars does it take in a day?",
    "A bus leaves every 45 minutes and a tram every 54 minutes. How many buses leave in 9 hours?",
    "Find the derivative of $x^2 \\sin x$.",
    "",
    "   \n",
    "?",
]


@pytest.mark.parametrize(("text", "method", "row"), FOUND)
def test_a_benchmarks_problem_is_found_in_another_layout_and_in_other_words(detector, text, method, row):
    (hit,) = detector.find([text])
    assert hit is not None and (hit.benchmark, hit.method, hit.row) == ("made", method, row)
    assert hit.row_id == IDS[row] and 0 < hit.score <= 1


@pytest.mark.parametrize("text", NOT_FOUND)
def test_other_numbers_and_other_problems_are_not_found(detector, text):
    assert detector.find([text]) == [None]


def test_many_texts_get_the_same_verdicts_as_each_alone(detector):
    texts = [text for text, *_ in FOUND] + NOT_FOUND
    together = detector.find(texts)
    for text, hit in zip(texts, together, strict=True):
        (alone,) = detector.find([text])
        assert (alone is None) == (hit is None)
        if alone and hit:
            assert (alone.row, alone.method) == (hit.row, hit.method) and abs(alone.score - hit.score) < 1e-3
    assert detector.find([]) == []


def test_the_evidence_names_both_texts_and_says_how_but_quotes_nothing(detector):
    (hit,) = detector.find([FOUND[5][0]])
    evidence = hit.evidence("mine")
    assert {name: evidence[name] for name in ("benchmark", "row", "row_id", "record_id", "method")} == {
        "benchmark": "made",
        "row": 2,
        "row_id": 7,
        "record_id": "mine",
        "method": "embedding",
    }
    assert set(evidence) - {"benchmark", "row", "row_id", "record_id", "method"} == {
        "score",
        "cosine",
        "numbers",
        "words",
        "formulas",
    }
    assert "lighthouse" not in repr(hit) + json.dumps(evidence) + repr(Benchmark("made", "x", None, PROBLEMS, IDS))


def test_long_introductions_shared_by_several_rows_name_the_right_row():
    introduction = "The town of Orrin numbers its houses along a spiral that begins at the well and never meets itself again. "
    rows = [introduction + end for end in ("Which house is ninth from the well?", "Which house is opposite to number 31?")]
    ngrams = NGrams(NGramRule(4, 0.5, ""), [normalize(row) for row in rows])
    assert [ngrams.best(normalize(row)) for row in rows] == [(0, 1.0), (1, 1.0)]


@pytest.mark.parametrize(
    ("text", "share", "expected"),
    [
        ("apple banana cherry grape melon", 0.5, (0, 1.0)),
        ("zebra apple banana cherry zebra", 0.5, (None, 1 / 3)),
        ("zebra apple banana cherry zebra", 0.3, (0, 1 / 3)),
        ("zebra apple banana cherry zebra", 0.0, (0, 1 / 3)),
        ("zebra apple banana zebra", 0.0, (None, 0.0)),
        ("apple banana", 0.0, (None, 0.0)),
        ("", 0.0, (None, 0.0)),
        ("cherry grape melon", 1.0, (0, 1.0)),
    ],
)
def test_the_share_of_ngrams_is_of_the_shorter_text(text, share, expected):
    ngrams = NGrams(NGramRule(3, share, ""), [normalize("apple banana cherry grape melon"), normalize("walnut")])
    index, found = ngrams.best(normalize(text))
    assert (index, round(found, 6)) == (expected[0], round(expected[1], 6))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("Ann has 12 pens.", "Ann has twelve pens.", {"numbers": 1, "words": 1, "formulas": 1}),
        ("Ann has 12 pens.", "Bob has 13 hats.", {"numbers": 0, "words": 0, "formulas": 1}),
        ("Ann has pens.", "Bob has hats.", {"numbers": 0.5, "formulas": 1}),
        ("The farmers’ market is 20% off.", "20 percent off at the market.", {"numbers": 1, "formulas": 1}),
        ("Solve $x + y = 3$.", "Solve $x - y = 3$.", {"numbers": 1, "formulas": 0.8}),
        ("", "", {"numbers": 0.5, "words": 0, "formulas": 1}),
    ],
)
def test_similarities_of_two_texts(a, b, expected):
    found = similarities(normalize(a), normalize(b), 0.9, IdfWeights([normalize(a), normalize(b)]))
    assert {name: round(found[name], 4) for name in expected} == expected and found["cosine"] == 0.9


def test_a_rare_number_in_common_tells_more_than_a_common_one():
    idf = IdfWeights([normalize(f"Take {n} and 2.") for n in range(10, 40)])
    rare = similarities(normalize("Take 31 and 5."), normalize("Take 31 and 2."), 0.9, idf)["numbers"]
    common = similarities(normalize("Take 31 and 2."), normalize("Take 77 and 2."), 0.9, idf)["numbers"]
    assert rare > 0.4 > common > 0


def test_the_score_rises_with_every_similarity_and_stays_between_0_and_1():
    names = ("cosine", "numbers", "words", "formulas")
    scores = [logistic(dict.fromkeys(names, value), RULES.neighbours) for value in (0.0, 0.3, 0.6, 0.8, 0.95)]
    assert scores == sorted(scores) and 0 <= scores[0] < RULES.neighbours.least_score < scores[-1] <= 1
    assert logistic({"cosine": -1e9}, RULES.neighbours) < 1e-9


def test_neighbours_are_the_nearest_and_none_is_too_far():
    cosines = np.array([0.1, 0.9, 0.6, 0.8, 0.7, 0.65, 0.56, 0.54], dtype=np.float32)
    assert sorted(nearest_indices(cosines, RULES.neighbours)) == [1, 2, 3, 4, 5]
    assert nearest_indices(cosines[:1], RULES.neighbours) == []
    assert sorted(nearest_indices(cosines[:3], RULES.neighbours)) == [1, 2]


# --- reading benchmarks ----------------------------------------------------------------------------------------------


ROWS: list[dict[str, Any]] = [
    {"id": 11, "problem": 'Add 1, 2 and 3: "quickly".', "answer": 6.0},
    {"id": 12, "problem": "Two\nlines: é 角", "answer": 2.0},
    {"id": 13, "problem": None, "answer": 0.0},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the path's ending says."""
    if path.name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), dialect="excel-tab" if path.suffix == ".tsv" else "excel")
            writer.writeheader()
            writer.writerows(rows)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["b.jsonl", "b.json", "b.csv", "b.tsv", "b.parquet", "b.jsonl.gz"])
def test_every_kind_of_file_gives_the_same_benchmark(tmp_path, name):
    (found,) = load_benchmarks([str(write(tmp_path / name, ROWS))], KNOWN)
    assert (found.name, found.source, found.private) == ("b", name, False)
    assert found.texts == [ROWS[0]["problem"], ROWS[1]["problem"], ""]
    assert [str(one) for one in found.ids] == ["11", "12", "13"]
    assert found.fingerprint == Benchmark("other", "", None, found.texts, []).fingerprint
    assert found.fingerprint != Benchmark("b", name, None, found.texts[::-1], []).fingerprint


@pytest.mark.parametrize(
    ("columns", "named", "expected"),
    [
        ({"question": "Q", "prompt": "P"}, None, "Q"),
        ({"problem": "X", "question": "Q"}, None, "X"),
        ({"problem": "X", "question": "Q"}, "question", "Q"),
        ({"Exercise": " E \n"}, "Exercise", "E"),
    ],
)
def test_the_column_of_the_problem(tmp_path, columns, named, expected):
    (found,) = load_benchmarks([str(write(tmp_path / "b.jsonl", [columns]))], KNOWN, named)
    assert found.texts == [expected]


def test_a_file_with_a_canary_in_it_is_private_whatever_it_is_called(tmp_path):
    for number, canary in enumerate(KNOWN.canaries):
        path = write(tmp_path / f"b{number}.parquet", [{"question": "What?", "canary": f"do not train: {canary}"}])
        assert load_benchmarks([str(path)], KNOWN)[0].private


@pytest.mark.parametrize(
    ("name", "content", "column", "words"),
    [
        ("b.jsonl", b"", None, ("b.jsonl", "empty", "no rows")),
        ("b.csv", b"problem,answer\n", None, ("b.csv", "empty", "no rows")),
        ("b.json", b"[]", None, ("b.json", "empty")),
        ("b.jsonl", b'{"problem":""}\n{"problem":null}\n', None, ("empty", "`problem`", "2 rows")),
        ("b.jsonl", b'{"problem":[1]}\n', None, ("empty", "`problem`")),
        ("b.jsonl", b'{"task":"1 + 1?"}\n', None, ("`problem`", "`question`", "task", "--problem_column")),
        ("b.jsonl", b'{"problem":"1 + 1?"}\n', "text", ("`text`", "problem", "--problem_column")),
        ("b.csv", b"task,answer\n1+1,2\n", None, ("b.csv", "`problem`", "task, answer")),
        ("b.jsonl", b'{"problem":"1 + 1?"}\n{"problem":\n', None, ("b.jsonl, line 2", "Fix")),
        ("b.jsonl", b'"problem"\n', None, ("b.jsonl, line 1", "object")),
        ("b.csv", b"problem\n\xff\xfe\n", None, ("b.csv", "UTF-8")),
        ("b.parquet", b"PAR1 no", None, ("b.parquet", "Parquet")),
        ("b.jsonl.gz", b"no gzip", None, ("b.jsonl.gz", "compression")),
    ],
)
def test_a_benchmark_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, column, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MagpieError) as error:
        load_benchmarks([str(tmp_path / name)], KNOWN, column)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value) and "1 + 1?" not in str(error.value)


@pytest.mark.parametrize("name", ["no-such-benchmark", "no/such/file.jsonl", "nosuch.csv", "./owner/name"])
def test_an_unknown_benchmark_is_told_what_is_known(name):
    with pytest.raises(MagpieError, match=r"no such file.*math500.*hle.*owner/name"):
        load_benchmarks([name], KNOWN)


def test_a_folder_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(MagpieError, match="folder"):
        load_benchmarks([str(tmp_path)], KNOWN)
    (tmp_path / "sub").mkdir()
    twice = [str(write(folder / "b.jsonl", ROWS)) for folder in (tmp_path, tmp_path / "sub")]
    with pytest.raises(MagpieError, match="two are called 'b'"):
        load_benchmarks(twice, KNOWN)


# --- the hub, scripted: there is none here ---------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Requests of the hub, and what it answers: rows, or an exception."""
    import datasets

    asked: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"rows": [{"problem": "1 + 1?", "question": "2 + 2?", "id": "a", "image": "…"}]}

    def load_dataset(repo: str, config: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        asked.append({"repo": repo, "config": config, "split": split, "revision": revision})
        if "error" in answer:
            raise answer["error"]
        return datasets.Dataset.from_list(answer["rows"])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked, answer


@pytest.mark.parametrize("written", ["math500", "MATH-500", "HuggingFaceH4/MATH-500"])
def test_a_known_benchmark_is_read_from_the_hub_at_its_pinned_revision(hub, written):
    asked, _ = hub
    (found,) = load_benchmarks([written], KNOWN)
    entry = KNOWN.benchmarks["math500"]
    assert asked == [{"repo": entry.repo, "config": None, "split": "test", "revision": entry.revision}]
    assert (found.name, found.texts, found.ids, found.revision) == ("math500", ["1 + 1?"], ["a"], entry.revision)


def test_all_configurations_are_read_and_hle_is_private(hub):
    asked, _ = hub
    math, hle = load_benchmarks(["math", "HLE"], KNOWN)
    assert [one["config"] for one in asked] == [*KNOWN.benchmarks["math"].configs, None]
    assert (len(math.texts), math.private, hle.texts, hle.private) == (7, False, ["2 + 2?"], True)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("hle", ("datasets", "DatasetNotFoundError", "no access"), ("cais/hle", "hf auth login", "HF_TOKEN", "request it")),
        ("gsm8k", ("datasets", "DatasetNotFoundError", "doesn't exist"), ("openai/gsm8k", "HF_TOKEN")),
        ("gsm8k", ("builtins", "ConnectionError", "Couldn't reach 'openai/gsm8k'"), ("cannot be reached", "--benchmarks FILE")),
        ("gsm8k", ("hub", "OfflineModeIsEnabled", "offline"), ("cannot be reached", "--benchmarks FILE")),
        ("gsm8k", ("builtins", "ValueError", 'Unknown split "test".'), ("Unknown split", "configs/benchmarks.yaml")),
        ("gsm8k", ("datasets", "DatasetGenerationError", "broken"), ("broken",)),
    ],
)
def test_what_the_hub_refuses_is_told_with_a_remedy(hub, name, error, words):
    import builtins

    import datasets.exceptions
    import huggingface_hub.errors

    module, kind, text = error
    modules = {"datasets": datasets.exceptions, "hub": huggingface_hub.errors, "builtins": builtins}
    hub[1]["error"] = getattr(modules[module], kind)(text)
    with pytest.raises(MagpieError) as told:
        load_benchmarks([name], KNOWN)
    assert all(word in str(told.value) for word in (f"--benchmarks {name}", *words)), told.value


def test_a_hub_set_without_the_column_is_refused_with_those_that_it_has(hub):
    hub[1]["rows"] = [{"task": "1 + 1?", "answer": "2"}]
    with pytest.raises(MagpieError, match=r"openai/gsm8k \(test\): no column `question`; it has task, answer"):
        load_benchmarks(["gsm8k"], KNOWN)


def test_every_known_benchmark_is_pinned():
    assert {"math", "math500", "aime24", "amc23", "olympiadbench", "gsm8k", "hle"} <= set(KNOWN.benchmarks)
    assert {"aime25", "aime26", "hmmt25", "minervamath", "hleverified"} <= set(KNOWN.benchmarks)
    assert all(entry.private for entry in KNOWN.benchmarks.values() if "hle" in entry.repo.lower())
    assert len(KNOWN.benchmarks["olympiadbench"].configs) == len(set(KNOWN.benchmarks["olympiadbench"].configs)) == 18
    for name, entry in KNOWN.benchmarks.items():
        assert re.fullmatch(r"[0-9a-f]{40}", entry.revision or ""), name
        assert entry.columns and re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo) and name == name.lower()
    assert KNOWN.benchmarks["hle"].gated and KNOWN.benchmarks["hle"].private


# --- canaries, certificates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record", [{"id": "b", "instruction": "X {}"}, {"instruction": "1?", "meta": {"deep": ["{}"]}}, {"{}": 1}]
)
@pytest.mark.parametrize("canary", KNOWN.canaries)
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_a_record_with_a_canary_stops_with_its_line(tmp_path, record, canary, change):
    text = json.dumps(record).replace("{}", change(canary))
    (tmp_path / "in.jsonl").write_text('{"instruction":"1 + 1?"}\n\n' + text + "\n")
    with pytest.raises(MagpieError, match=r"in.jsonl, line 3: the record contains the canary string"):
        refuse_canaries(tmp_path / "in.jsonl", KNOWN.canaries)


def test_records_without_a_canary_pass(tmp_path):
    passing = '{"instruction":"hle:3r2s:26b5c67b"}\n{"broken\n'
    (tmp_path / "in.jsonl").write_text(passing)
    refuse_canaries(tmp_path / "in.jsonl", KNOWN.canaries)
    (tmp_path / "in.jsonl").write_text(passing + json.dumps({"instruction": KNOWN.canaries[0]}) + "\n")
    with pytest.raises(MagpieError, match=r"in.jsonl, line 3:"):  # it has normalize those before, to the end
        refuse_canaries(tmp_path / "in.jsonl", KNOWN.canaries)


def test_the_certificate_counts_hits_and_rows_by_benchmark():
    made = Benchmark("made", "made.csv", "abc", ["1?", "", "2?"], [None] * 3)
    other = Benchmark("other", "other.csv", "def", ["3?"], [None])
    dropped = [
        {"contamination": {"benchmark": "made", "row": row, "method": how}} for row, how in ((0, "exact"), (0, "8-gram"))
    ]
    found = certificate([made, other], [*dropped, {"drop_reason": "malformed"}], {"rule": 1})
    assert found["methods"] == {"rule": 1}
    first, second = found["benchmarks"]
    assert first == {
        "benchmark": "made",
        "source": "made.csv",
        "revision": "abc",
        "fingerprint": made.fingerprint,
        "rows": 3,
        "rows_without_problem": 1,
        "hits": 2,
        "hits_by_method": {"exact": 1, "8-gram": 1},
        "rows_hit": 1,
    }
    assert (second["hits"], second["hits_by_method"], second["rows_hit"]) == (0, {}, 0)
