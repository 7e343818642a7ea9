"""Remove the controls from a job's records, and estimate by them how many labels are wrong.

    python exp/measure.py --input_file data/job/job_ins_clean_4res_verified_filtered.jsonl

Run it after filter.py or gen_po_pairs.py (--keep_controls) and before export.py. Controls are problems with known answers
that gen_ins.py --planted mixed in. Writes `X_measured.jsonl`, the other records unchanged, and `X_measured_dropped.jsonl`
with the controls (`drop_reason`: control). `measured` in the run file has the share of wrong labels among the controls, with
a 95% Wilson interval, and the same re-weighted by the measured difficulty of the other records. From the job's other files:
the share of right labels by agreement; pass rate and measured difficulty next to the share of right responses; the controls
that each stage dropped; our verdicts next to those of reasoning-gym's scorers. For pairs: in how many the chosen response is
right and the rejected one wrong. The dataset card and the report show it; filter.py --target_precision uses it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.controls import measures
from magpie.controls.judging import Seen, Verdicts, seen, seen_in
from magpie.controls.telling import sentence
from magpie.records.schema import is_control
from magpie.runs.one_pass import Stream
from magpie.runs.run_file import RunFile, runs_until
from magpie.runs.stage import StageOptions, begins, stream_rows, stream_run


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _measured)")
    flags.add_run(parser)
    return parser.parse_args()


def stages(runs: list[RunFile], verdicts: Verdicts) -> list[measures.Measures]:
    """Return the controls that each stage dropped, and how many of their labels, if any, were right and wrong."""
    rows = []
    left = next((run.arguments["planted"] for run in runs if run.arguments.get("planted")), None)
    for run in runs:
        dropped = list(seen_in(run.dropped))
        verdicts.add(dropped)
        told = measures.labels(dropped, verdicts)
        reasons = dict(Counter(one.reason for one in dropped))
        rows.append({"stage": run.stage, "read": left, "dropped": len(dropped), "reasons": reasons, **told})
        left = None if left is None else left - len(dropped)
    return rows


def measured(here: list[Seen], others: Counter[str | None], runs: list[RunFile], *, is_pairs: bool) -> measures.Measures:
    """Return everything measured on the controls."""
    verify = next((run for run in reversed(runs) if run.stage == "verify.py" and run.output.exists()), None)
    voted = [*seen_in(verify.output), *seen_in(verify.dropped)] if verify else here
    verdicts = Verdicts()
    verdicts.add([*here, *voted])
    found = {
        "controls": len(here),
        "labels": measures.labels(here, verdicts),
        "reweighted": measures.reweighted(here, verdicts, others),
        "curve": measures.curve(voted, verdicts),
        "pass_rate": measures.calibration(voted, verdicts, measures.fifth),
        "difficulty_measured": measures.calibration(voted, verdicts, lambda one: one.difficulty),
        "domains": measures.domains(here, verdicts),
        "pairs": measures.pairs(here, verdicts) if is_pairs else {},
        "verifier": measures.verifier(voted, verdicts),
        "stages": stages(runs, verdicts),
    }
    return {name: value for name, value in found.items() if value not in ({}, [])}


def main() -> None:
    """Run the stage."""
    args = parse_args()
    options = flags.options_from(args, StageOptions)
    run = stream_run("measure.py", options, "_measured", {})
    if not begins(run, overwrite=options.overwrite, check=options.check):
        return
    here: list[Seen] = []
    others: Counter[str | None] = Counter()
    is_pairs = False

    def work(out: Stream, index: int, record: dict[str, Any]) -> None:
        nonlocal is_pairs
        if is_control(record):
            here.append(seen(record))
            is_pairs = is_pairs or "chosen" in record
            out.drop_unchanged("control")
        else:
            others[record.get("difficulty_measured")] += 1
            out.keep_unchanged()

    def at_end(out: Stream) -> None:
        if here:
            before = [one for one in runs_until(args.input_file) if one.is_made]
            run.notes["measured"] = measured(here, others, before, is_pairs=is_pairs)
            log.info("%s", sentence(run.notes["measured"]))
        else:
            log.warning("no control is in %s, so nothing was measured (gen_ins.py --planted makes them)", args.input_file)

    stream_rows(run, options, work, at_end=at_end)


if __name__ == "__main__":
    run_program("measure", main)
