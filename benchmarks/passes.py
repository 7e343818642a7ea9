"""The cost of a quick pass: filter.py, concat.py and export.py over records of 2 kB, against an orjson loop over them.

    python benchmarks/passes.py [--records 1000000] [--rounds 1] [--source FILE]

Every program runs in its own process; its times and its peak memory are those of the whole process, including start-up (on a
busy machine, look at the CPU time). Memory per record: the peak minus that of a run over 1,000 records. Targets: a ratio of at
most 2, about 100 bytes per record. The records are those of --source (default: made here, with text of the usual mix), with new
ids and padded to 2 kB. They need 2.1 GB, an output as much, in --folder (default: a temporary one). About 5 minutes on two
cores.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]

from magpie.records.reading import read_rows  # noqa: E402
from magpie.records.rows import encode  # noqa: E402
from magpie.records.schema import DIFFICULTIES, DOMAINS  # noqa: E402

BYTES = 2000
FEW = 1000
ORJSON = """
import sys, orjson
with open(sys.argv[1], "rb", buffering=1 << 20) as source, open(sys.argv[2], "wb", buffering=1 << 20) as target:
    for line in source:
        target.write(orjson.dumps(orjson.loads(line)))
        target.write(b"\\n")
"""
TIMED = """
import os, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
sys.stderr.buffer.write(code.stderr)
seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss, code.returncode)
"""
WORDS = (
    *("let", "the", "sum", "of", "all", "positive", "integers", "$n^2", "+", "12n$", "be", "\\frac{a}{b}", "where", "prime"),
    *("then", "\\boxed{42}", "é", "“so”", "we", "find", "x"),
)


@dataclass(frozen=True)
class Cost:
    """The cost of one process: seconds, CPU seconds, and its peak memory in bytes."""

    seconds: float
    processor: float
    memory: int


def text(draw: random.Random, characters: int) -> str:
    """Return words of about so many characters, some lines among them."""
    words = draw.choices(WORDS, k=max(characters // 4, 1))
    return " ".join(word + ("\n" if i % 17 == 16 else "") for i, word in enumerate(words))[: max(characters, 1)]


def made_record(draw: random.Random) -> dict[str, Any]:
    """Return a record as the stages before filter.py leave it."""
    answers = [draw.choice(["12", "\\frac{1}{2}", None]) for _ in range(4)]
    return {
        "instruction": text(draw, 300),
        "pre_query_template": "<|im_start|>system\n" + text(draw, 200) + "<|im_end|>\n<|im_start|>user\n",
        "target_domain": None,
        "gen_input_configs": {
            "input_generator": "owner/model",
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 2048,
            "seed": 0,
        },
        "created": 1_795_370_652,
        "response": text(draw, 300),
        "reasoning": None,
        "finish_reason": draw.choices(["stop", "length"], [9, 1])[0],
        "prompt_tokens": 120,
        "completion_tokens": 310,
        "gen_response_configs": {"output_generator": "owner/model", "temperature": 0.6, "top_p": 0.95, "max_tokens": 32768},
        "input_quality": draw.choice(["good", "excellent", "average", "poor"]),
        "quality_explanation": "The problem is complete and asks for one thing.",
        "difficulty": draw.choice(DIFFICULTIES),
        "domain": draw.choice(DOMAINS),
        "language": "en",
        "answer_type": "closed",
        "instruct_reward": draw.uniform(-12, 5),
        "answers": answers,
        "majority_answer": "12",
        "agreement": draw.choice([0.5, 0.75, 1.0]),
        "pass_rate": 0.5,
        "is_correct": [None] * 4,
        "min_neighbor_distance": 0.31,
        "repeat_count": 0,
        "duplicate_of": None if draw.random() < 0.9 else "r-00000001",
    }


def write_input(path: Path, records: int, source: Path | None) -> None:
    """Write records of `BYTES` bytes."""
    draw = random.Random(0)
    kinds = [row.record for row in read_rows(source) if row.record] if source else [made_record(draw) for _ in range(500)]
    filled = []
    for kind in kinds:
        padding = BYTES - len(encode(kind | {"id": "r-00000000"})) - 1
        filled.append(
            kind | {"response": (kind.get("response") or "") + text(draw, padding) if padding > 0 else kind.get("response")}
        )
    with path.open("wb", buffering=1 << 20) as file:
        for number in range(records):
            file.write(encode({"id": f"r-{number:08d}"} | filled[number % len(filled)]) + b"\n")


def cost(command: list[str]) -> Cost:
    """Run a command and return its cost."""
    done = subprocess.run([sys.executable, "-c", TIMED, *command], capture_output=True, text=True, check=True)
    seconds, processor, kilobytes, code = done.stdout.split()
    if code != "0":
        raise SystemExit(f"{' '.join(command)}: exit code {code}\n{done.stderr[-2000:]}")
    return Cost(float(seconds), float(processor), int(kilobytes) * 1024)


def commands(folder: Path, source: Path) -> dict[str, list[str]]:
    """Return the compared commands, by name; each writes into the folder."""
    exp, python = PROJECT / "exp", sys.executable
    given = ["--input_file", str(source), "--overwrite"]
    output = ["--output_file", str(folder / "out.jsonl")]
    filter_, export = [python, str(exp / "filter.py"), *given], [python, str(exp / "export.py"), *given]
    data_set = ["--format", "messages", "--output_folder", str(folder / "set")]
    choice = ["--balance", "domain", "--top", str(10**6), "--by", "instruct_reward", "--shuffle"]
    return {
        "orjson": [python, "-c", ORJSON, str(source), str(folder / "out.jsonl")],
        "filter.py --config magpie": [*filter_, "--config", "magpie", *output],
        "filter.py … --balance --top --shuffle": [*filter_, "--config", "magpie", *output, *choice],
        "concat.py": [python, str(exp / "concat.py"), "--inputs", str(source), "--overwrite", *output],
        "export.py --format sharegpt": [*export, *output],
        "export.py … folder, jsonl": [*export, *data_set, "--file_type", "jsonl"],
        "export.py … folder, parquet": [*export, *data_set],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the fastest counts")
    parser.add_argument("--source", type=Path, help="a file of records to take the texts from")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        many, few = folder / "many.jsonl", folder / "few.jsonl"
        write_input(many, args.records, args.source)
        write_input(few, FEW, args.source)
        size = many.stat().st_size / args.records
        print(f"{args.records:,} records of {size:,.0f} bytes")
        print(f"{'':40} {'seconds':>8} {'ratio':>6} {'CPU s':>8} {'ratio':>6} {'peak MB':>8} {'bytes per record':>15}")
        best: dict[str, Cost] = {}
        for _ in range(args.rounds):
            for what, command in commands(folder, many).items():
                found = cost(command)
                best[what] = min(best.get(what, found), found, key=lambda one: one.processor)
        small = {what: cost(command) for what, command in commands(folder, few).items()}
        for what, found in best.items():
            extra = (found.memory - small[what].memory) / (args.records - FEW)
            ratio, cpu = found.seconds / best["orjson"].seconds, found.processor / best["orjson"].processor
            times = f"{found.seconds:8.1f} {ratio:6.2f} {found.processor:8.1f} {cpu:6.2f}"
            print(f"{what:40} {times} {found.memory / 1e6:8.0f} {extra:15.0f}")


if __name__ == "__main__":
    main()
