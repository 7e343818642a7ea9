"""A million rows of Parquet through filter.py and export.py: time compared with PyArrow's own read and write, and memory.

    python benchmarks/tables.py [--rows 1000000] [--folder DIR]

Makes a Parquet file of made problems, solutions and answers (about 1 KB per row), then, each in its own process: PyArrow
reads it and writes it again, as Parquet and (with Python's json) as JSON Lines; filter.py --where; export.py to a Parquet
dataset. Prints seconds and peak resident memory, for the stages also on a tenth of the rows.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXP = Path(__file__).resolve().parents[1] / "exp"
BATCH = 10_000
WORDS = "let be the sum of all such that where find prove with integer prime root line"
COPY = """
import sys, pyarrow.parquet as pq
source, target = sys.argv[1:]
file = pq.ParquetFile(source, pre_buffer=False)
with pq.ParquetWriter(target, file.schema_arrow) as out:
    for batch in file.iter_batches(10_000, use_threads=False):
        out.write_batch(batch)
"""
AS_JSON = """
import sys, json, pyarrow.parquet as pq
source, target = sys.argv[1:]
with open(target, "w") as out:
    for batch in pq.ParquetFile(source, pre_buffer=False).iter_batches(512, use_threads=False):
        for row in batch.to_pylist():
            out.write(json.dumps(row, ensure_ascii=False)); out.write("\\n")
"""


def make(path: Path, rows: int) -> None:
    """Write the file; in its own process, because a child's peak memory starts from its parent's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw, words = random.Random(0), WORDS.split()
    solutions = [" ".join(draw.choices(words, k=150)) for _ in range(1000)]
    schema = pa.schema({"problem": pa.string(), "solution": pa.string(), "answer": pa.int64(), "rate": pa.float64()})
    with pq.ParquetWriter(path, schema) as out:
        for start in range(0, rows, BATCH):
            numbers = range(start, min(rows, start + BATCH))
            columns = [
                [f"Problem {n}: {solutions[n % 997][:100]}?" for n in numbers],
                [f"{solutions[n % 1000]} So \\boxed{{{n}}}." for n in numbers],
                list(numbers),
                [n % 100 / 100 for n in numbers],
            ]
            out.write_batch(pa.record_batch(columns, schema=schema))


def measure(name: str, *command: object) -> None:
    """Run a Python command, and print its seconds and its memory."""
    before = time.perf_counter()
    child = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    told = child.stderr.read().decode() if child.stderr else ""
    _, status, usage = os.wait4(child.pid, 0)
    seconds, processor = time.perf_counter() - before, usage.ru_utime + usage.ru_stime
    print(f"{name:32} {seconds:7.1f} s, CPU {processor:6.1f} s, {usage.ru_maxrss >> 10:6} MB", flush=True)
    if status:
        sys.exit(told[-1500:])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make, args.rows)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        whole, tenth = folder / "whole.parquet", folder / "tenth.parquet"
        measure("making the whole", __file__, "--make", whole, "--rows", args.rows)
        measure("making a tenth", __file__, "--make", tenth, "--rows", args.rows // 10)
        print(f"{args.rows:,} rows, {whole.stat().st_size >> 20} MiB of Parquet", flush=True)
        measure("PyArrow, Parquet to Parquet", "-c", COPY, whole, folder / "copy.parquet")
        measure("PyArrow, Parquet to JSON Lines", "-c", AS_JSON, whole, folder / "copy.jsonl")
        for file in (tenth, whole):
            measure(f"filter.py, {file.stem}", EXP / "filter.py", "--input_file", file, "--where", "rate < 0.7")
        for file in (tenth, whole):
            given = ["--input_file", file, "--format", "messages", "--output_folder", folder / f"{file.stem}_set"]
            measure(f"export.py, {file.stem}", EXP / "export.py", *given)


if __name__ == "__main__":
    main()
