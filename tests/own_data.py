"""Problems in everybody's forms, for the tests of their reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from magpie.config.columns import known_sets
from magpie.records.reading import read_rows
from magpie.records.source import Source

COUNT = 4
PROBLEMS = [f'Compute ${n} + {n + 1}$, with $x < {n}$.\nGive "the" sum, please.' for n in range(1, COUNT + 1)]
ANSWERS = [str(2 * n + 1) for n in range(1, COUNT + 1)]
SOLUTIONS = [f"The sum is \\boxed{{{answer}}}." for answer in ANSWERS]
PLAIN: list[dict[str, Any]] = [
    {"problem": p, "solution": s, "answer": a, "number": n, "note": 'ä, "b"\nc'}
    for n, (p, s, a) in enumerate(zip(PROBLEMS, SOLUTIONS, ANSWERS, strict=True))
]
NESTED: list[dict[str, Any]] = [
    row
    | {"tags": ["a", None], "deep": {"x": [1.5, None]}, "difficulty": 6.5, "domain": ["Mathematics -> Algebra"], "rewards": 0.5}
    for row in PLAIN
]


def lines(given: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in given)


def turns(kind: str, row: dict[str, Any]) -> list[dict[str, str]]:
    names = ("role", "content", "user", "assistant") if kind == "messages" else ("from", "value", "human", "gpt")
    said = ((names[2], row["problem"]), (names[3], f"<think>\nhm\n</think>\n\n{row['solution']}"))
    return [{names[0]: "system", names[1]: "be kind"}, *({names[0]: who, names[1]: what} for who, what in said)]


def parquet(path: Path, given: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(given), path)
    return path


def written(folder: Path, form: str, **more: Any) -> Path:
    """Write the problems in a form, with further columns, and return the file."""
    path = folder / {"parquet": "own.parquet", "csv": "own.csv"}.get(form, "own.jsonl")
    if form == "parquet":
        parquet(path, [row | more for row in NESTED])
    elif form == "csv":
        cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in more.items()}
        pa_csv.write_csv(pa.Table.from_pylist([row | cells for row in PLAIN]), path)
    else:
        path.write_bytes(lines([{form: turns(form, row), "answer": row["answer"]} | more for row in PLAIN]))
    return path


def source(path: Path | str, split: str | None = None, **columns: str) -> Source:
    return Source.named(Path(path), columns, split, known_sets)


def records(path: Path | str, split: str | None = None, **columns: str) -> list[dict[str, Any]]:
    found = list(read_rows(source(path, split, **columns)))
    assert not [row.problem for row in found if row.record is None]
    return [row.record for row in found if row.record is not None]
