"""What the pipeline costs: tokens/s of gen_res.py through the server, against the bare engine on the same token ids.

    python benchmarks/overhead.py INPUT_FILE [--records 200] [--max_tokens 256] [--rounds 1]

Each round runs both, one after the other, with the same weights, sampling and environment, and with engine flags (data type,
most requests and tokens of a step) that one function makes for both; the engine's turn is one in-process `LLM.generate` call.
Prints start and work of both, the two rates of the work and their ratio (target: 0.95). A ratio above 1.02 compares unlike
things, and is called invalid. About 5 minutes a round for 200 records on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]

from magpie.common.seeds import hashed_seed  # noqa: E402
from magpie.config.model_presets import load_model  # noqa: E402
from magpie.generation.config import load_response_styles  # noqa: E402
from magpie.models.hardware import this_machine  # noqa: E402
from magpie.records.reading import read_rows  # noqa: E402
from magpie.records.rows import encode  # noqa: E402
from magpie.serving.engine import engine_environment, local_flags  # noqa: E402
from magpie.serving.parallelism import layout  # noqa: E402

TEMPERATURE, TOP_P = 1.0, 1.0
MOST = 1.02
"""A pipeline on the engine cannot be faster than the engine, but for noise."""


def write_input(source: Path, records: int, target: Path) -> list[str]:
    """Write the first usable records of a file and return their instructions."""
    usable = (row.record for row in read_rows(source) if row.record and row.record["instruction"].strip())
    chosen = list(itertools.islice(usable, records))
    target.write_bytes(b"".join(encode({"id": r["id"], "instruction": r["instruction"]}) + b"\n" for r in chosen))
    return [record["instruction"] for record in chosen]


class Turn(NamedTuple):
    """One side's turn: completion tokens, seconds of work, and of all else (processes, weights, warm-up)."""

    tokens: int
    work: float
    start: float

    @property
    def rate(self) -> float:
        """Tokens per second of work."""
        return self.tokens / self.work

    def __str__(self) -> str:
        return f"{self.tokens} tokens, start {self.start:.1f} s, work {self.work:.1f} s, {self.rate:.1f} tokens/s"


def through_the_pipeline(model: str, folder: Path, max_tokens: int) -> Turn:
    """Run gen_res.py on a server of its own; the tokens and the work are from its run file."""
    output = folder / f"out_{time.time_ns()}.jsonl"
    command = [sys.executable, str(PROJECT / "exp" / "gen_res.py"), "--model_path", model]
    command += ["--input_file", str(folder / "in.jsonl"), "--output_file", str(output), "--max_tokens", str(max_tokens)]
    command += ["--temperature", str(TEMPERATURE), "--top_p", str(TOP_P)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    whole = time.perf_counter() - began
    run = json.loads(output.with_suffix(".run.json").read_text())
    return Turn(run["tokens"]["completion"], run["seconds"], whole - run["seconds"])


def engine_alone(model: str, prompts_file: Path, max_tokens: int) -> Turn:
    """Run `LLM.generate` in a process of its own."""
    result = prompts_file.with_suffix(".result")  # the engine prints what it likes to the standard output
    command = [sys.executable, __file__, "--engine", model, str(prompts_file), str(max_tokens), str(result)]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=engine_environment(load_model(model), ""), stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - began
    tokens, work = json.loads(result.read_text())
    return Turn(tokens, work, whole - work)


def engine_child(model: str, prompts_file: Path, max_tokens: int, result: Path) -> None:
    """Generate in this process and write `[tokens, seconds]`."""
    from vllm import LLM, EngineArgs, SamplingParams
    from vllm.usage.usage_lib import UsageContext

    preset = load_model(model)
    flags = local_flags(preset, layout(preset, this_machine()).flags())
    settings = {name.replace("-", "_"): value for name, value in flags.items() if not name.startswith("no-")}
    settings |= {name[3:].replace("-", "_"): False for name in flags if name.startswith("no-")}
    # a server's own limits, as the other side has them: `LLM` takes larger ones
    batched, seqs = EngineArgs.get_batch_defaults(int(flags.get("tensor-parallel-size", 1)))
    server = UsageContext.OPENAI_API_SERVER
    settings = {"max_num_batched_tokens": batched[server], "max_num_seqs": seqs[server], **settings}
    engine = LLM(model=preset.path, seed=hashed_seed(0, 0, 0), **settings)
    prompts = [{"prompt_token_ids": ids} for ids in json.loads(prompts_file.read_text())]
    sampling = SamplingParams(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=max_tokens)
    engine.generate(prompts[:1], SamplingParams(max_tokens=4), use_tqdm=False)
    started = time.perf_counter()
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    result.write_text(json.dumps([sum(len(o.outputs[0].token_ids) for o in outputs), seconds]))


def verdict(ratio: float) -> str:
    """Return a ratio in words."""
    told = f" (invalid: above {MOST}, so the two sides are not alike)" if ratio > MOST else ""
    return f"ratio {ratio:.3f}{told}"


def main() -> None:
    """Run the rounds and print each ratio."""
    if sys.argv[1:2] == ["--engine"]:
        engine_child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input_file", type=Path)
    parser.add_argument("--model_path", default="smollm2", help="(default smollm2)")
    parser.add_argument("--records", type=int, default=200, help="(default 200)")
    parser.add_argument("--max_tokens", type=int, default=256, help="tokens of an answer at most (default 256)")
    parser.add_argument("--rounds", type=int, default=1, help="(default 1)")
    args = parser.parse_args()
    from magpie.models.chat_template import ChatTemplate

    template, style = ChatTemplate(load_model(args.model_path)), load_response_styles()["boxed"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        instructions = write_input(args.input_file, args.records, folder / "in.jsonl")
        prompts = [template.prompt(f"{style.before}{text}{style.after}") for text in instructions]
        (folder / "prompts.json").write_text(json.dumps(prompts))
        ratios: list[float] = []
        for number in range(args.rounds):
            ours = through_the_pipeline(args.model_path, folder, args.max_tokens)
            bare = engine_alone(args.model_path, folder / "prompts.json", args.max_tokens)
            ratios.append(ours.rate / bare.rate)
            print(f"round {number + 1}: gen_res.py {ours}; LLM.generate {bare}; {verdict(ratios[-1])}", flush=True)
    print(f"median of {len(ratios)}: {verdict(statistics.median(ratios))}")


if __name__ == "__main__":
    main()
