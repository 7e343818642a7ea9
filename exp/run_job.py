"""Run the chain of stages of a job, and resume it where it stopped.

    python exp/run_job.py main -- smollm2 64
    python exp/run_job.py sft -- JOB --votes 8
    python exp/run_job.py --job data/JOB/job.json

The chains are in configs/jobs: `main`, `sft`, `align`, `hle`. After `--` come the job's settings (`main -- --help` lists
them), which may also be environment variables; launchers (scripts/*.sh) call this program. Every stage is the program that
you would run by hand. All stages check their settings before a model is loaded; a server is started for those that need one,
unless MAGPIE_BASE_URL names one, and stopped after the last of them. JOB/job.json has the settings and the progress of each
stage (report.py --watch shows it); pass it to --job. A failing stage ends the job with its exit code; rerun the job to
resume.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import sys
from pathlib import Path

from magpie.chain.command_line import derived, new_name, resume_command, settings_of
from magpie.chain.config import Job, load_job
from magpie.chain.job_file import JOB_FILE, Chain, JobFile, StageState, chain_key
from magpie.chain.preview import preview_of, take_over
from magpie.chain.reuse import arranged
from magpie.chain.runner import Runner
from magpie.cli import flags
from magpie.common import events
from magpie.common.console import MagpieError, log, run_program
from magpie.config.load import CONFIGS
from magpie.records.reading import stem_of
from magpie.runs.jobs import (
    cleaned_file,
    data_folder,
    done_before,
    folder_of,
    main_files,
    model_of_file,
    responses_began,
    was_read,
)

KINDS = sorted(path.stem for path in (CONFIGS / "jobs").glob("*.yaml") if path.stem != "common")


def parse_args() -> argparse.Namespace:
    """Return the checked command line; what follows `--` are the job's own arguments."""
    parser = flags.Parser(__doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="a chain of configs/jobs (with --job: default the last one)")
    parser.add_argument("--job", type=Path, metavar="FILE", help="run the job that this job.json describes")
    group = parser.add_argument_group("for launchers")
    group.add_argument("--launcher", help="the command that the user ran (default: this program)")
    group.add_argument("--default", action="append", default=[], metavar="NAME=VALUE", help="default for a setting")
    group.add_argument("--positional", help="positional settings, separated by spaces (default: the chain's)")
    group.add_argument("--file", action="store_true", help="the source is a file of problems, not a job")
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:split])
    args.arguments = arguments[split + 1 :]
    if not (args.kind or args.job):
        parser.error(f"name a chain ({', '.join(KINDS)}), or a job's file with --job")
    return args


def saved(path: Path, kind: str | None) -> tuple[JobFile, Chain]:
    """Return a job file and the chain to run from it."""
    path = path / "job.json" if path.is_dir() else path
    if not path.is_file():
        raise MagpieError(f"--job {path}: no such file. Name a job's folder or its job.json")
    file = JobFile(path)
    meant = [chain for chain in file.chains.values() if kind in (None, chain.kind)]
    if not meant:
        raise MagpieError(f"--job {path}: no chain {kind or ''} in it. There are: {', '.join(file.chains) or 'none'}")
    return file, max(meant, key=lambda chain: chain.updated)


def asked_for(args: argparse.Namespace, job: Job) -> tuple[JobFile, Chain]:
    """Return the chain that the launcher's arguments and the environment ask for, and the file that it is kept in."""
    launcher, report = args.launcher or sys.argv[0], ""
    always: dict[str, str] = {}
    inputs: dict[str, Path] = {}
    settings = settings_of(
        job,
        args.kind,
        args.arguments,
        defaults=dict(one.split("=", 1) for one in args.default),
        positional=None if args.positional is None else args.positional.split(),
        launcher=launcher,
        source="file" if args.file else "job",
    )
    if job.source:
        given = Path(settings[job.positional[0]])
        model, inputs, path, report = _source(given, is_file=args.file)
        if settings.get("round", "1") != "1" and not settings["model"]:
            raise MagpieError("--round needs --model: the folder of the model that was trained on the round before")
        settings["model"] = settings["model"] or model
        if not settings["model"]:
            raise MagpieError(f"{given} does not say which model made it: name one with --model")
        name = stem_of(given) if args.file else path.parent.resolve().name
    else:
        name = settings["job_name"] or new_name(settings["model"])
        if "/" in name:
            raise MagpieError(f"JOB_NAME is {name}: it must not contain a slash. Choose another")
        always, path = {"JOB_NAME": name}, data_folder(name) / JOB_FILE
    file = JobFile(path)
    names = arranged(args.kind, file, inputs, settings)
    before, done = _progress(args.kind, path.parent, inputs, settings)
    job = load_job(args.kind, before=before)
    if before:
        inputs.pop("base", None)
    else:
        inputs.pop("responses", None)
    earlier = file.chains.get(chain_key(args.kind, int(settings.get("round") or 1)))
    chain = Chain(
        kind=args.kind,
        job=name,
        settings=settings | derived(job, settings, done | names, earlier.settings if earlier else None),
        inputs={role: file.relative(str(source)) for role, source in inputs.items()},
        intro=job.intro,
        done=job.done,
        report=report,
        serve=job.serve,
        stages=[StageState(stage=stage) for stage in job.stages],
        seconds=earlier.seconds if earlier else 0.0,
        provenance=earlier.provenance if earlier else [],
        command=resume_command(job, _called(args), args.arguments, always),
    )
    return file, chain


def _progress(kind: str, folder: Path, inputs: dict[str, Path], settings: dict[str, str]) -> tuple[bool, dict[str, str]]:
    """Return whether a job was begun in the old order of stages, and what its problems have passed; add the role `base`."""
    if not inputs:
        clean = cleaned_file(folder)
        return clean is not None and responses_began(clean, 1), {}
    problems = inputs["problems"]
    done = done_before(problems)
    if kind == "align":
        return not (done["has_clean"] and done["has_unique"]) and responses_began(
            problems, int(settings["num_responses"])
        ), done
    if "votes" not in settings:  # harder problems: there was no earlier order
        inputs["base"] = problems
        return False, done
    votes = int(settings["votes"])
    inputs["base"] = problems if votes > 1 else inputs["responses"]
    begun = responses_began(problems, votes) if votes > 1 else was_read(inputs["responses"], "unitag.py")
    return not done["has_unique"] and begun, done


def _called(args: argparse.Namespace) -> str:
    """Return what precedes the job's arguments in the command that resumes it."""
    if args.launcher:
        return f"bash {shlex.quote(args.launcher)}"
    return shlex.join([sys.executable, *sys.argv[: len(sys.argv) - len(args.arguments)]])


def _source(given: Path, *, is_file: bool) -> tuple[str, dict[str, Path], Path, str]:
    """Return what a chain begins with: the model, the files by their roles, the job's file, and the page of its report."""
    if is_file:
        if given.is_dir():
            raise MagpieError(f"{given}: this is a folder. Name a file inside it, or use scripts/align.sh")
        model = model_of_file(given)
        stem = stem_of(given)
        return model, {"problems": given}, given.with_name(f"{stem}.job.json"), f"{stem}_report.html"
    folder = folder_of(given)
    model, problems, responses = main_files(folder)
    return model, {"problems": problems, "responses": responses}, folder / JOB_FILE, ""


def begin_events(chain: Chain) -> None:
    """Write the events of the job and its stages, if requested."""
    events.begin(Path(name) if (name := chain.settings.get("events")) else None, "run_job")


def main() -> int:
    """Run the job."""
    args = parse_args()
    if args.job:
        file, chain = saved(args.job, args.kind)
        take_over(file.folder)
        begin_events(chain)
        return Runner(file, chain).run()
    job = load_job(args.kind)
    places = [] if args.positional else job.positional
    usage = "the order of the arguments: " + " ".join(f"[{name.upper()}]" for name in places)
    by_place = list(itertools.takewhile(lambda word: not word.startswith("-"), args.arguments))
    usage = usage if len(places) > 1 and len(by_place) > 2 else ""  # the model and a count are not mixed up
    file, chain = asked_for(args, job)
    take_over(file.folder)
    begin_events(chain)
    if count := chain.settings.get("preview"):
        return preview(file, chain, int(count), usage)
    return Runner(file, chain).run(usage)


def preview(file: JobFile, chain: Chain, count: int, usage: str) -> int:
    """Run the chain on a few problems, show them, and predict the cost of all."""
    from magpie.planning.prediction import predict
    from magpie.planning.preview import show

    inside, small = preview_of(file, chain, count)
    if code := Runner(inside, small, records=True).run(usage):
        return code
    page = show(inside.folder, small, predict(inside.folder, small, int(chain.settings["total"])))
    log.info("the preview as a page: %s", page.resolve())
    log.info("For all %s problems, these among them: the same command without --preview", chain.settings["total"])
    log.info("  %s", re.sub(r" --preview(=| )?(\d+\b)?", "", chain.command))
    return 0


if __name__ == "__main__":
    run_program("run_job", main)
