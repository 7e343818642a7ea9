"""What controls show about a model whose errors are known, and their cost in CPU time.

    python benchmarks/controls.py --runs 50
    python benchmarks/controls.py --overhead 1000

--runs: a scripted server errs in a known share of its responses by difficulty; each run has controls of its own, three votes,
and the rules of the filter sft. Prints in how many runs the interval covers the true share of wrong labels, which is
computed from all outcomes of three votes. --overhead: a chain of that many problems without and with 5% of them planted, with
the same number of requests, in turns, five times.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.controls import measures
from magpie.controls.gym import LEVELS
from magpie.controls.judging import Verdicts, seen
from magpie.controls.planting import planted
from magpie.models.chat_template import ChatTemplate
from magpie.records.reading import encode, read_rows

sys.path.append(str(PROJECT / "tests"))
from scripted_server import Call, Reply, ScriptedServer, completion

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
NUMBERS = ["chain_sum", "products", "gcd", "lcm", "count_primes", "count_bits", "dice", "coin_flip", "number_format"]
ERRORS, VOTES, SEVERAL = {"easy": 0.03, "medium": 0.15, "hard": 0.4}, 3, ("-71", "-72", "-73")


class Model(ScriptedServer):
    """Answers controls, wrongly in a share of its responses; makes problems of its own, and answers them."""

    def __init__(self, controls: list[dict]) -> None:
        super().__init__(served=(MODEL,), by=self._reply)
        self.controls = {one["instruction"]: one["control"] for one in controls}
        self.template, self.draw, self.made = ChatTemplate(load_model("smollm2")), random.Random(0), 0

    def _reply(self, call: Call) -> Reply:
        text = self.template.decode(call.body["prompt"])
        if "assistant" not in text[-20:]:
            self.made += 1
            a, b, c = self.made % 89 + 2, self.made // 89 + 3, self.made % 7 + 2
            return Reply(body=completion(f"Anna buys {a} bags of {b} apples and eats {c} of them. How many apples are left?"))
        control = next((self.controls[line] for line in text.splitlines() if line in self.controls), None)
        wrong = control is None or self.draw.random() < ERRORS[control["difficulty"]]
        answer = self.draw.choice(SEVERAL) if wrong or control is None else control["answer"]
        return Reply(body=completion(f"So the answer is \\boxed{{{answer}}}."))


def run(name: str, *arguments: object) -> float:
    """Run a stage and return the processor time that it and its processes took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(PROJECT / "exp" / f"{name}.py"), *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def served(server: ScriptedServer) -> list[object]:
    """Return the flags for the server."""
    return ["--model_path", MODEL, "--tokenizer", load_model("smollm2").path, "--base_url", server.url, "--preflight", 0]


def true_share(levels: Counter[str]) -> float:
    """Return the share of wrong labels among those that more than half of the votes agree on."""
    passed = wrong = 0.0
    for level, count in levels.items():
        share = ERRORS[level]
        for votes in itertools.product("abcd", repeat=VOTES):  # a: the right answer
            [(most, most_votes), *_] = Counter(votes).most_common(1)
            if 2 * most_votes > VOTES:
                chance = count * math.prod(1 - share if vote == "a" else share / len(SEVERAL) for vote in votes)
                passed, wrong = passed + chance, wrong + chance * (most != "a")
    return wrong / passed


def coverage(runs: int, each: int) -> None:
    """Print in how many runs the interval covers the truth."""
    controls = [one | {"run": n} for n in range(runs) for one in planted(each, n, NUMBERS, LEVELS)]
    with tempfile.TemporaryDirectory() as folder, Model(controls) as server:
        path = Path(folder) / "x_ins.jsonl"
        rows = [{"id": n, "duplicate_of": None, **one} for n, one in enumerate(controls)]
        path.write_bytes(b"".join(encode(row) + b"\n" for row in rows))
        run("gen_res", "--input_file", path, "--num_responses", VOTES, *served(server))
        run("verify", "--input_file", path.with_name(f"x_ins_{VOTES}res.jsonl"), "--choose", "--keep_unverified")
        run("filter", "--input_file", path.with_name(f"x_ins_{VOTES}res_verified.jsonl"), "--config", "sft")
        kept = [row.record for row in read_rows(path.with_name(f"x_ins_{VOTES}res_verified_filtered.jsonl")) if row.record]
    covered, shares = 0, []
    truth = true_share(Counter(one["control"]["difficulty"] for one in controls))
    for n in range(runs):
        here = [seen(record) for record in kept if record["run"] == n]
        verdicts = Verdicts()
        verdicts.add(here)
        found = measures.labels(here, verdicts)
        shares.append(found["share"])
        covered += found["interval"][0] <= truth <= found["interval"][1]
    told = f"{sum(shares) / runs:.4f} on average, from {min(shares):.4f} to {max(shares):.4f}"
    print(f"true share of wrong labels {truth:.4f}; estimated {told}; covered by {covered} of {runs} intervals")


def chain(total: int, count: int, folder: Path) -> list[float]:
    """Return the processor time of each stage."""
    controls = planted(count, 0, [], LEVELS)
    with Model(controls) as server:
        stem, times = folder / "x_ins", list[float]()
        flags: list[object] = ["--total_prompts", total - count, "--no-openings", "--output_file", f"{stem}.jsonl"]
        times.append(run("gen_ins", *served(server), *flags, "--planted", count))
        stages: list[tuple[str, str, list[object]]] = [
            ("clean_ins", "_clean", []),
            ("gen_dis", "_distance", ["--drop"]),
            ("gen_res", "_4res", ["--num_responses", 4, *served(server)]),
            ("verify", "_verified", ["--choose", "--keep_unverified"]),
            ("filter", "_filtered", ["--config", "finished"]),
            ("measure", "_measured", []),
            ("export", "", ["--format", "messages"]),
        ]
        for name, suffix, more in stages:
            if name == "measure" and not count:
                continue
            times.append(run(name, "--input_file", f"{stem}.jsonl", *more))
            stem = Path(f"{stem}{suffix}")
    return times


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="runs of the simulated model")
    parser.add_argument("--controls", type=int, default=100, help="controls of each (default 100)")
    parser.add_argument("--overhead", type=int, help="problems of the chain")
    parser.add_argument("--times", type=int, default=5, help="chains of each kind (default 5)")
    args = parser.parse_args()
    if args.runs:
        coverage(args.runs, args.controls)
    found: dict[int, list[list[float]]] = {0: [], round(0.05 * (args.overhead or 0)): []}
    for _ in range(args.times if args.overhead else 0):
        for count, times in found.items():
            with tempfile.TemporaryDirectory() as folder:
                times.append(chain(args.overhead, count, Path(folder)))
                print(count, " ".join(f"{one:.1f}" for one in times[-1]), flush=True)
    if args.overhead:
        without, planted_ones = (median(map(sum, times)) for times in found.values())
        print(f"without {without:.1f} s, with controls {planted_ones:.1f} s: {100 * (planted_ones / without - 1):+.1f}%")


if __name__ == "__main__":
    main()
