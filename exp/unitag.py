"""Tag problems: validity, difficulty, quality, category, domain, safety, language, reward.

    python exp/unitag.py --tag_mission difficulty quality domain --model_path smollm2 --input_file data/job/job_ins.jsonl

Reads records with `instruction` and writes X_tagged.jsonl. The missions, with the keys that they add:
  validity        validity, validity_votes, validity_reasons  by votes of a language model
  difficulty      intent, knowledge, difficulty               by a language model under a JSON schema
  quality         quality_explanation, input_quality          the same
  classification  task_category, other_task_category          the same
  domain          domain: what the problem is about           the same, or --tagger embedding
  safety          safety, safety_categories                   by a guard model
  reward          instruct_reward                             by a reward model
  language        language (ISO code)                         by lingua
`validity` is `valid`, `invalid`, or null (a tie): every question of configs/prompts/validity.yaml is asked --votes times and
decided by more than half of them. `validity_votes` has [yes, no, unread] by question, `validity_reasons` the failed questions.
`all` does every mission that can be done and logs those left out. `tagged_by` names the taggers, `tag_failures` has the reason
of each failure. Existing tags are kept (--retag: replaced), so the same command with another mission adds it to the output.
Rerun the same command to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.generation.session import ModelOptions
from magpie.records.reading import check_input
from magpie.runs.stage import StageOptions, require_input
from magpie.tagging.missions import MISSIONS
from magpie.tagging.passes import SUFFIX, TagRun
from magpie.tagging.planner import ALL, TagOptions, choose_passes
from magpie.tagging.validity import Judging


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _tagged)")
    group = parser.add_argument_group("missions")
    group.add_argument("--tag_mission", nargs="+", required=True, choices=[ALL, *MISSIONS], help="one, several, or all")
    group.add_argument(
        "--tagger",
        choices=["model", "embedding"],
        default="model",
        help="tagger of `domain`: the language model, or a classifier on embeddings (default model)",
    )
    group.add_argument(
        "--votes", type=flags.positive, default=Judging.votes, help="votes per question of `validity` (default 3)"
    )
    flags.switch(group, "--explain", "let the model say why before each of these votes", default=Judging.explain)
    group.add_argument(
        "--guard_model", help="tagger of `safety`: Qwen3Guard-Gen or Llama-Guard-3 (default: --model_path if it is one)"
    )
    group.add_argument("--guard_url", help="server(s) of --guard_model (default: a server is started here for its pass)")
    group.add_argument("--reward_model", help="tagger of `reward`: a hub id or a folder")
    flags.switch(group, "--trust_remote_code", "run the code that comes with the reward model")
    flags.switch(group, "--retag", "replace existing tags")
    group.add_argument("--seed", type=int, default=0, help="seed of a server that is started here (default 0)")
    flags.add_shard(parser)
    flags.add_model(parser, default="the one that wrote the file")
    flags.add_run(parser)
    return parser.parse_args()


def main() -> None:
    """Run the stage."""
    args = parse_args()
    model, options = flags.options_from(args, ModelOptions), flags.options_from(args, StageOptions)
    require_input(options, SUFFIX)
    summary = check_input(args.input_file, skip_malformed=args.skip_malformed)
    passes, left_out = choose_passes(flags.options_from(args, TagOptions), model)
    for name, why in left_out.items():
        log.info("left out: %s (%s)", name, why)
    for number, each in enumerate(passes):
        TagRun(each, options, summary, flags.options_from(args, Judging), retag=args.retag, first=number == 0).work()


if __name__ == "__main__":
    run_program("unitag", main)
