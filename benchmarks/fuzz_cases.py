"""The cases of fuzz.py: valid calls of every program, and their mutations."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

KEY = "sk-planted-0123456789"
RECORDS: list[dict[str, Any]] = [
    {
        "id": f"r{i}",
        "instruction": f"What is {i} + {i + 1}?",
        "response": f"It is \\boxed{{{2 * i + 1}}}.",
        "responses": [f"It is \\boxed{{{2 * i + 1}}}.", "It is \\boxed{7}."],
        "finish_reason": "stop",
        "is_correct": [True, False],
        "answers": [str(2 * i + 1), "7"],
        "answer_groups": [0, 1],
        "reference_answer": str(2 * i + 1),
        "rewards": [1.5, -0.5],
        "input_quality": "good",
        "instruct_reward": 1.0,
        "min_neighbor_distance": 0.3,
        "language": "en",
        "duplicate_of": None,
        "difficulty": "easy",
        "domain": "algebra",
        "prompt_tokens": 9,
        "completion_tokens": [8, 6],
        "gen_response_configs": {"output_generator": "m", "temperature": 0.5},
    }
    for i in range(4)
]
SERVED = ("--model_path", "smollm2", "--served_model", "owner/scripted", "--api", "chat", "--max_in_flight", "2")
KEPT = ("URL", "--dry_run", "--check", "--help", *SERVED)
IN, OUT = ("--input_file", "in.jsonl"), ("--output_file", "out.jsonl")
CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "export": ((*IN, *OUT), (*IN, *OUT, "--format", "kto"), (*IN, "--output_folder", "set", "--file_type", "jsonl")),
    "filter": ((*IN, *OUT, "--config", "magpie"), (*IN, *OUT, "--config", "magpie", "--balance", "domain", "--top", "2")),
    "concat": (("--inputs", "in.jsonl", "more.jsonl", *OUT),),
    "clean_ins": ((*IN, *OUT),),
    "gen_po_pairs": ((*IN, *OUT), (*IN, *OUT, "--strategy", "reward")),
    "decontaminate": ((*IN, *OUT, "--benchmarks", "more.jsonl", "--problem_column", "instruction"),),
    "unitag": ((*IN, *OUT, "--tag_mission", "language"),),
    "plan": (("--model_path", "smollm2", "--problems", "100"), ("--job", "job", "--problems", "100")),
    "report": (("job",),),
    "verify": ((*IN, *OUT, "--workers", "1"),),
    "gen_res": ((*IN, *OUT, *SERVED), (*IN, *OUT, *SERVED, "--num_responses", "2")),
    "gen_po_rewards": ((*IN, *OUT, "--reward_model", "URL"),),
    "gen_ins": ((*OUT, *SERVED[:4], "--total_prompts", "2", "--preflight", "0"),),
    "gen_dis": ((*IN, *OUT), (*IN, *OUT, "--drop")),
    "check_code": ((*IN, *OUT, *SERVED, "--check"),),
    "serve": (("smollm2", "--dry_run"),),
    "run_job": (("--job", "job/job.json", "--help"), ("main", "--", "--help")),
    "doctor": (("--help",),),
}
"""Proper calls of every program; the embedding model has a stand-in, the sandbox, the engine and chains of processes are not
started."""
SLOW = {"verify": 1, "check_code": 1, "gen_ins": 4, "gen_po_rewards": 10}
"""Weight of a program in the draw; the others: 20."""
NEVER = {
    "--ray",
    "--push_to_hub",
    "--watch",
    "--device",
    "--embedding_model",
    "--reward_model",
    "--guard_model",
    "--judge",
    "--workers",
    "--no-dry_run",
    "--no-check",
    "--outage",
    "--request_timeout",
    "--base_url",
    "--proxy",
    "--guard_url",
    "--max_restarts",
}
"""Flags that start something heavy or use the network; tests/ has separate cases for them."""
TEXTS = (
    "",
    " ",
    "../..",
    "/",
    "a/b",
    "\x1b[31m",
    "\x00",
    "é" * 200,
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "9" * 5000,
    "--",
    "\udcff",
    "NaN",
    "None",
    "{}",
    "[]",
    "%s",
    "$(id)",
    "in.jsonl",
    "x" * 300,
    "\r\nX: y",
    "𝟙",
    "１",
    "true",
    "(a+)+$",
    "\ufeff",
)
VALUES: tuple[Any, ...] = (None, [], {}, 0, -1, 1.5, True, [None], [[]], {"a": {}}, 10**23, -(10**400), 1e308, "é", *TEXTS)
RAW = (
    b"\xff",
    b"\x00",
    b"\n",
    b"\r",
    b"{",
    b"]",
    b'"',
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"\xef\xbb\xbf",
    b"[" * 5000,
    b"\x1f\x8b\x08",
)


class Hang(BaseException):
    """A program took longer than the limit; our code does not catch this."""


@dataclasses.dataclass
class Case:
    """One call with its files and environment."""

    program: str
    words: list[str]
    files: dict[str, bytes]
    special: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name → what is there instead of a file."""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    def shown(self) -> str:
        """Return the case in short."""
        files = {name: data[:300] for name, data in self.files.items()}
        return f"{self.program} {self.words} special={self.special} env={self.environment} files={files}"[:1500]


def as_lines(records: list[Any]) -> bytes:
    """Return JSON Lines."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


RUN_FILE = {
    "status": "complete",
    "stage": "gen_res.py",
    "arguments": {"model_path": "smollm2"},
    "inputs": {},
    "statistics": {},
    "counts": {"read": 4, "written": 4, "dropped": {}},
    "tokens": {"prompt": 40, "completion": 80},
    "seconds": 2.0,
    "tokens_per_second": 40.0,
    "versions": {"vllm": "0"},
    "updated": "2026-01-01T00:00:00+00:00",
    "window": 4,
    "sessions": [{"started": 1.0, "ended": 3.0}],
}


def proper(luck: random.Random) -> Case:
    """Return a case without a mutation."""
    names = list(CALLS)
    program = luck.choices(names, [SLOW.get(name, 20) for name in names])[0]
    lines = as_lines(RECORDS)
    files = {"in.jsonl": lines, "more.jsonl": as_lines([row | {"id": f"m{row['id']}"} for row in RECORDS]), "mine": b"mine\n"}
    files |= {"job/job_ins.jsonl": lines, "job/job_ins_res.jsonl": lines}
    files |= {f"job/{stem}.run.json": json.dumps(RUN_FILE).encode() for stem in ("job_ins", "job_ins_res")}
    return Case(program, list(luck.choice(CALLS[program])), files)


# --- mutations -----------------------------------------------------------------------------------------------------------


def target(case: Case, luck: random.Random) -> str:
    """Return the name of a file that the program reads."""
    reads_job = case.program in ("report", "plan")
    return luck.choice([name for name in case.files if name.startswith("job/") == reads_job and name != "mine"])


def bytes_changed(case: Case, luck: random.Random) -> None:
    """Flip, cut, insert or double bytes."""
    name = target(case, luck)
    data = bytearray(case.files[name])
    at = luck.randrange(len(data) + 1)
    how = luck.randrange(6)
    if how == 0 and data:
        data[at % len(data)] ^= 1 << luck.randrange(8)
    elif how == 1:
        del data[at : at + luck.choice((1, 5, 1000))]
    elif how == 2:
        data[at:at] = luck.choice(RAW)
    elif how == 3:
        data[at:at] = data[:at]
    elif how == 4:
        data = data.replace(b"\n", luck.choice((b"\r\n", b"\n\n", b",", b" ")))
    else:
        data = bytearray(b"[" + bytes(data).strip().replace(b"\n", b",") + luck.choice((b"]", b"}", b"")))
    case.files[name] = bytes(data)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a JSON value with each of its keys or places."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def value_changed(case: Case, luck: random.Random) -> None:
    """Replace, delete or rename one value of a record or a run file."""
    name = target(case, luck)
    try:
        lines = [json.loads(line) for line in case.files[name].splitlines()]
    except (ValueError, RecursionError):
        return
    for _ in range(luck.randint(1, 3)):
        if not (found := list(places(lines))):
            return
        where, key = luck.choice(found)
        how = luck.randrange(4)
        if how == 0:
            del where[key]
        elif how == 1 and isinstance(where, dict):
            where[luck.choice(("drop_reason", "drop_detail", "previous", "id", "prompt", *TEXTS))] = where.pop(key)
        else:
            where[key] = luck.choice(VALUES)
    case.files[name] = as_lines(lines)


def flags_changed(case: Case, luck: random.Random) -> None:
    """Replace, drop, double or add a flag or a value."""
    text = luck.choice(TEXTS).replace("\x00", "\x01")  # a command line cannot hold a zero byte
    words, at, how = case.words, luck.randrange(len(case.words)), luck.randrange(4)
    if how == 0 and words[at] not in KEPT:
        words[at] = text if not words[at].startswith("--") else f"{words[at]}={text}"
    elif how == 1 and words[at] not in KEPT:
        del words[at]
    else:
        added = luck.choice(flags_of(case.program))
        words += [f"{added}={text}"] if luck.random() < 0.6 else [added]


def special_file(case: Case, luck: random.Random) -> None:
    """Put something other than a regular file where the program reads or writes."""
    read = ("in.jsonl",) if luck.random() < 0.4 else ("out.jsonl", "out_dropped.jsonl", "out.run.json", "out.part", "set")
    case.special[luck.choice(read)] = luck.choice(("folder", "link", "hard link", "loop", "pipe", "zero", "mine", "dangling"))


def run_file_there(case: Case, luck: random.Random) -> None:
    """Leave an edited run file, and perhaps the log of a run, next to the output."""
    run = json.loads(json.dumps(RUN_FILE | {"stage": f"{case.program}.py"}))
    where, key = luck.choice(list(places(run)))
    where[key] = luck.choice(VALUES)
    case.files["out.run.json"] = json.dumps(run).encode()
    if luck.random() < 0.5:
        case.files["out.part"] = luck.choice((b"", b"[0,\n", b'[0,"kept",1,1,{"id":1}]\n', b"\xff" * 9, b"[" * 9000))


def environment_changed(case: Case, luck: random.Random) -> None:
    """Set a variable to an invalid value."""
    name = luck.choice(("MAGPIE_LOG", "MAGPIE_API_KEY", "DATA_DIR", "HF_HOME", "COLUMNS", "NO_COLOR", "HOME"))
    text = luck.choice(TEXTS)
    case.environment[name] = text.replace("\x00", "")[:3000]


MUTATIONS: tuple[Callable[[Case, random.Random], None], ...] = (
    bytes_changed,
    value_changed,
    value_changed,
    flags_changed,
    special_file,
    run_file_there,
    environment_changed,
)


def flags_of(program: str, known: dict[str, list[str]] = {}) -> list[str]:  # noqa: B006 (remembered)
    """Return a program's flags."""
    if program not in known:
        from conftest import program as call

        found = re.findall(r"--[a-z]\w+", call(program, "--help").stdout)
        known[program] = sorted({*found} - NEVER) or ["--help"]
    return known[program]
