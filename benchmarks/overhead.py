"""Overhead of the pipeline: tokens/s of gen_res.py through the server, against the bare engine on the same token ids.

    python benchmarks/overhead.py INPUT_FILE [--records 64] [--max_tokens 128] [--rounds 5]

Starts both once, a server and a separate engine process, with the same weights, sampling, environment and engine
flags (data type, most requests and tokens of a step). They work in turns; the engine's is one `LLM.generate` call. Prints for
each turn the tokens per second, and the CPU seconds of all its processes per 1,000 tokens, without the start-up of
gen_res.py. The ratios are of the medians (target: 0.95); on a busy machine only that of CPU seconds is
meaningful. A ratio above 1.02 means that the sides are not alike, and is reported as invalid.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

PROJECT = Path(__file__).resolve().parents[1]

from magpie.common.seeds import hashed_seed  # noqa: E402
from magpie.config.model_presets import load_model  # noqa: E402
from magpie.generation.config import load_response_styles  # noqa: E402
from magpie.models.hardware import this_machine  # noqa: E402
from magpie.records.reading import read_rows  # noqa: E402
from magpie.records.rows import encode  # noqa: E402
from magpie.serving.engine import engine_environment, local_flags  # noqa: E402
from magpie.serving.parallelism import layout  # noqa: E402
from magpie.serving.server import Server  # noqa: E402

TEMPERATURE, TOP_P = 1.0, 1.0
MOST = 1.02
"""A pipeline on the engine cannot be faster than the engine, except by noise."""


def write_input(source: Path, records: int, target: Path) -> list[str]:
    """Write the first usable records of a file and return their instructions."""
    usable = (row.record for row in read_rows(source) if row.record and row.record["instruction"].strip())
    chosen = list(itertools.islice(usable, records))
    target.write_bytes(b"".join(encode({"id": r["id"], "instruction": r["instruction"]}) + b"\n" for r in chosen))
    return [record["instruction"] for record in chosen]


class Turn(NamedTuple):
    """One side's turn: completion tokens, seconds of work, and CPU seconds of all its processes."""

    tokens: int
    seconds: float
    processor: float

    @property
    def rate(self) -> float:
        """Tokens per second of work."""
        return self.tokens / self.seconds

    @property
    def price(self) -> float:
        """CPU seconds per 1,000 tokens."""
        return 1000 * self.processor / self.tokens

    def __str__(self) -> str:
        return f"{self.tokens} tokens, {self.rate:.1f}/s, {self.price:.2f} CPU seconds per 1,000"


def processor_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that processes have used so far."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


class Pipeline:
    """gen_res.py on a running server."""

    def __init__(self, model: str, folder: Path, max_tokens: int, server: Server) -> None:
        self._folder, self._server = folder, psutil.Process().children(recursive=True)
        self._command = [sys.executable, str(PROJECT / "exp" / "gen_res.py"), "--model_path", model]
        self._command += ["--input_file", str(folder / "in.jsonl"), "--max_tokens", str(max_tokens)]
        self._command += ["--preflight", "0", "--temperature", str(TEMPERATURE), "--top_p", str(TOP_P)]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
        self._environment |= server.environment
        self._start = self._run("--check")[1]

    def turn(self) -> Turn:
        """Run the stage; the tokens and the seconds of work are from its run file."""
        before = processor_seconds(self._server)
        output, own = self._run()
        run = json.loads(output.with_suffix(".run.json").read_text())
        return Turn(run["tokens"]["completion"], run["seconds"], processor_seconds(self._server) - before + own - self._start)

    def _run(self, *more: str) -> tuple[Path, float]:
        output, before = self._folder / f"out_{time.time_ns()}.jsonl", os.times()
        subprocess.run([*self._command, "--output_file", str(output), *more], check=True, env=self._environment)
        return output, sum(os.times()[2:4]) - sum(before[2:4])


class Engine:
    """The bare engine, in a separate process."""

    def __init__(self, model: str, prompts_file: Path, max_tokens: int) -> None:
        told, self._say = os.pipe()
        reader, writer = os.pipe()
        command = [sys.executable, __file__, "--engine", model, str(prompts_file), str(max_tokens), str(told), str(writer)]
        environment = engine_environment(load_model(model), "")
        self._process = psutil.Popen(command, env=environment, pass_fds=(told, writer), stdout=subprocess.DEVNULL)
        os.close(told)
        os.close(writer)
        self._answers = os.fdopen(reader)
        self._family = [self._process, *self._process.children(recursive=True)] if self._answers.readline() else []

    def turn(self) -> Turn:
        """Let it generate."""
        before = processor_seconds(self._family)
        os.write(self._say, b"go\n")
        tokens, seconds = json.loads(self._answers.readline())
        return Turn(tokens, seconds, processor_seconds(self._family) - before)

    def stop(self) -> None:
        """End it."""
        os.close(self._say)
        self._process.wait()


def engine_child(model: str, prompts_file: Path, max_tokens: int, told: int, writer: int) -> None:
    """Generate in this process on request, and write `[tokens, seconds]`."""
    from vllm import LLM, EngineArgs, SamplingParams
    from vllm.usage.usage_lib import UsageContext

    preset = load_model(model)
    flags = local_flags(preset, layout(preset, this_machine()).flags())
    settings = {name.replace("-", "_"): value for name, value in flags.items() if not name.startswith("no-")}
    settings |= {name[3:].replace("-", "_"): False for name in flags if name.startswith("no-")}
    # a server's default limits, as on the other side: `LLM` has larger ones
    server = EngineArgs(preset.path, **settings).create_engine_config(UsageContext.OPENAI_API_SERVER).scheduler_config
    settings |= {"max_num_batched_tokens": server.max_num_batched_tokens, "max_num_seqs": server.max_num_seqs}
    engine = LLM(model=preset.path, seed=hashed_seed(0, 0, 0), **settings)
    prompts = [{"prompt_token_ids": ids} for ids in json.loads(prompts_file.read_text())]
    sampling = SamplingParams(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=max_tokens)
    engine.generate(prompts[:1], SamplingParams(max_tokens=4), use_tqdm=False)
    os.write(writer, b"up\n")
    for _ in os.fdopen(told):
        started = time.perf_counter()
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        os.write(writer, json.dumps([sum(len(o.outputs[0].token_ids) for o in outputs), seconds]).encode() + b"\n")


def verdict(ratio: float) -> str:
    """Return a ratio in words."""
    told = f" (invalid: above {MOST}, so the two sides are not alike)" if ratio > MOST else ""
    return f"ratio {ratio:.3f}{told}"


def main() -> None:
    """Run the rounds and print each ratio."""
    if sys.argv[1:2] == ["--engine"]:
        engine_child(sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:7]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input_file", type=Path)
    parser.add_argument("--model_path", default="smollm2", help="(default smollm2)")
    parser.add_argument("--records", type=int, default=64, help="(default 64)")
    parser.add_argument("--max_tokens", type=int, default=128, help="maximum tokens of an answer (default 128)")
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    args = parser.parse_args()
    from magpie.models.chat_template import ChatTemplate

    template, style = ChatTemplate(load_model(args.model_path)), load_response_styles()["boxed"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        instructions = write_input(args.input_file, args.records, folder / "in.jsonl")
        prompts = [template.prompt(f"{style.before}{text}{style.after}") for text in instructions]
        (folder / "prompts.json").write_text(json.dumps(prompts))
        with Server(load_model(args.model_path), log_dir=folder / "logs") as server:
            pipeline = Pipeline(args.model_path, folder, args.max_tokens, server)
            engine = Engine(args.model_path, folder / "prompts.json", args.max_tokens)
            turns: list[tuple[Turn, Turn]] = []
            for number in range(args.rounds + 1):
                if number % 2:  # who begins alternates, for the machine may favour one place
                    theirs = engine.turn()
                    turns.append((pipeline.turn(), theirs))
                else:
                    turns.append((pipeline.turn(), engine.turn()))
                print(f"round {number}: gen_res.py {turns[-1][0]}; LLM.generate {turns[-1][1]}", flush=True)
            engine.stop()
    ours, bare = zip(*turns[1:], strict=True)  # the first one warms both
    print(f"tokens per second: {verdict(median(t.rate for t in ours) / median(t.rate for t in bare))}")
    print(f"tokens per CPU second: {verdict(median(t.price for t in bare) / median(t.price for t in ours))}")


if __name__ == "__main__":
    main()
