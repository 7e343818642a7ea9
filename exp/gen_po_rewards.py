"""Score responses with reward models.

    python exp/gen_po_rewards.py --reward_model Skywork/Skywork-Reward-V2-Llama-3.1-8B --input_file data/job/job_5res.jsonl

Reads records with `instruction` and `responses` (or `response`) and writes X_rewards.jsonl with `rewards` (one number per
response, null for one that is longer than the model's context), `reward_model`, `rewards_by_model` (each model's own scores,
also those of earlier runs) and, from process reward models, `step_rewards`. The solution is scored, without the chain of
thought. A model is a hub id, a folder, or the URL of a server (vllm serve MODEL --runner pooling); several stay in memory
together. A record without a response is dropped as `no_response`. With --ray each GPU of a cluster (or each few cores) holds
the models and scores a share of the responses. Rerun the same command to resume.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import MagpieError, log, run_program
from magpie.common.progress import StageBar
from magpie.compute.executors import MODEL_CORES, Executor, executor_at
from magpie.models.checkpoint import loaded_here
from magpie.rewards.base import REDUCTIONS, Conversation
from magpie.rewards.model import RewardModel, Scored, chosen_rewards, conversation, scores_of
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, begins, open_rows, open_run
from magpie.runs.summary import show_summary

WINDOW = 256
"""Responses sorted by length together; a kill costs at most their scores."""
Item = tuple[int, dict[str, Any], list[str]]


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _rewards)")
    group = parser.add_argument_group("reward models")
    group.add_argument("--reward_model", required=True, nargs="+", help="one or several: hub id, folder, or a server's URL")
    group.add_argument(
        "--combine",
        choices=["first", "rank"],
        default="first",
        help="`rewards` of several models: the first one's scores, or the mean rank, 0 to 1 (default first)",
    )
    group.add_argument(
        "--prm_reduce",
        choices=list(REDUCTIONS),
        default="min",
        help="how a process reward model's step scores become one (default min)",
    )
    flags.switch(group, "--trust_remote_code", "run the code that comes with a model, if it needs any")
    group.add_argument("--batch_tokens", type=flags.positive, help="tokens per batch (default 4096; 65536 on a GPU)")
    group.add_argument("--device", help="as torch names it (default: the GPUs if there are any)")
    flags.add_proxy(group)
    flags.add_shard(parser)
    flags.add_ray(parser)
    flags.add_run(parser)
    return parser.parse_args()


def windows(run: Run, rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[list[Item]]:
    """Yield records with their responses, WINDOW responses together; a record without any is dropped on the way."""
    window: list[Item] = []
    size = 0
    for index, record in rows:
        responses = record.get("responses") or ([record["response"]] if record.get("response") else [])
        if not responses:
            run.drop(index, record, "no_response")
            continue
        window.append((index, record, responses))
        size += len(responses)
        if size >= WINDOW:
            yield window
            window, size = [], 0
    if window:
        yield window


def scored(
    rows: Iterator[list[Item]], models: list[RewardModel], combine: str, device: str | None, executor: Executor
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each record with its rewards."""
    held: dict[int, list[Item]] = {}

    def turns() -> Iterator[list[Conversation]]:
        for number, window in enumerate(rows):
            held[number] = window
            yield [conversation(record["instruction"], each) for _, record, responses in window for each in responses]

    work = partial(scores_of, models)
    for number, found in executor.map(work, turns(), cores=MODEL_CORES, gpu=device != "cpu"):
        yield from rewarded(held.pop(number), found, combine)


def rewarded(window: list[Item], found: list[Scored], combine: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records of a window with the models' scores of their responses."""
    start = 0
    for index, record, responses in window:
        part = slice(start, start + len(responses))
        start = part.stop
        own = {each.model: each.rewards[part] for each in found}
        keys: dict[str, Any] = {
            "rewards": chosen_rewards(own, combine),
            "reward_model": next(iter(own)) if combine == "first" else f"{combine}:{'+'.join(own)}",
            "rewards_by_model": (record.get("rewards_by_model") or {}) | own,
        }
        if by_step := {each.model: each.steps[part] for each in found if each.has_steps}:
            keys["step_rewards"] = (record.get("step_rewards") or {}) | by_step
        yield index, record | keys


def main() -> None:
    """Run the stage."""
    args = parse_args()
    if len(set(args.reward_model)) < len(args.reward_model):
        raise MagpieError("--reward_model names a model twice")
    settings = {name: getattr(args, name) for name in ("trust_remote_code", "device", "batch_tokens", "prm_reduce", "proxy")}
    models = [RewardModel(name, **settings) for name in args.reward_model]
    arguments = {name: getattr(args, name) for name in ("reward_model", "combine", "prm_reduce")}
    run = open_run("gen_po_rewards.py", flags.options_from(args, StageOptions), "_rewards", arguments)
    if not begins(run, overwrite=args.overwrite, check=args.check):
        return
    served = [model.is_served for model in models]
    run.made_with = loaded_here(name for name, is_served in zip(args.reward_model, served, strict=True) if not is_served)
    if args.ray and any(served) and not all(served):
        raise MagpieError("on a Ray cluster reward models are either all folders and hub ids, or all URLs. Leave out one kind")
    unscored = 0
    with executor_at(None if all(served) else args.ray) as executor, run.session(overwrite=args.overwrite):
        with StageBar("rewards", run.rows, run.closed) as bar:
            rows = windows(run, open_rows(run, args.input_file))
            for index, record in scored(rows, models, args.combine, args.device, executor):
                unscored += record["rewards"].count(None)
                run.keep(index, record)
                bar.update(closed=1, dropped=run.totals.dropped.total())
        run.finish()
    if unscored:
        log.warning("%d responses are longer than the model's context: their reward is null", unscored)
    show_summary(run.stage, run.paths, run.totals)


if __name__ == "__main__":
    run_program("gen_po_rewards", main)
