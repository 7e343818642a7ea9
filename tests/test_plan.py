"""Plans: the arithmetic at points worked out by hand, the layout, figures out of a job, refusals, and the page in step."""

from __future__ import annotations

import json
from dataclasses import replace

import docs as guides
import pytest

from conftest import program
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.planning.assumptions import figures_of, gpus_of_replica, load_planning, measured, model_of
from magpie.planning.formulas import Workload, nodes_for, plan

ROUND = {
    "clean_share": 0.8,
    "problem_tokens": 100,
    "problem_prompt_tokens": 50,
    "response_tokens": 1000,
    "response_prompt_tokens": 200,
    "tag_tokens": 100,
    "tag_prompt_tokens": 400,
    "tokens_per_second": 1000,
    "replica_gpus": 8,
    "kept_share": 0.5,
    "unsettled_share": 0.1,
    "problem_bytes": 1000,
    "bytes_per_token": 3,
    "verify_seconds": 0.04,
    "problem_seconds": 0.02,
}
"""Round figures, so that a reader can check every expected value below."""
WORKLOAD = Workload(10_000, gpu_price=3.0)


# --- arithmetic, by hand ----------------------------------------------------------------------------------------------


def test_a_plan_is_the_one_worked_out_by_hand():
    assert plan(replace(WORKLOAD, hours=5), ROUND) == pytest.approx(
        {
            "samples": 12_500,
            "rows": 5_000,
            "tokens_of_problems": 1.25e6,  # 12,500 x 100
            "tokens_of_responses": 10e6,
            "tokens_of_votes": 40e6,
            "tokens_of_tags": 2e6,  # 20,000 x 100
            "tokens_written": 53.25e6,
            "tokens_read": 0.625e6 + 2e6 + 8e6 + 8e6,  # 12,500 x 50, 10,000 and 40,000 x 200, 20,000 x 400
            "gpus_per_replica": 8,
            "replicas": 1,
            "nodes": 1,
            "hours": 53_250 / 3600,  # 14.8
            "gpu_hours": 53_250 * 8 / 3600,
            "core_hours": (40_000 * 0.04 + 10_000 * 0.02) / 3600,
            # problems twice 0.0125, responses 0.04, six times the votes of 0.13, rows 0.02, and 0.25 in the largest .part
            "disk_gb": 0.025 + 0.04 + 0.78 + 0.02 + 0.25,
            "cost": 53_250 * 8 / 3600 * 3,
            "nodes_needed": 3,
        }
    )


def test_votes_that_may_stop_early_are_counted_as_those_that_are_expected():
    found = plan(replace(WORKLOAD, votes=8, stop_when="settled"), ROUND)
    assert found["tokens_of_votes"] == 53e6  # 5 votes, and a tenth of 3
    assert found["core_hours"] == pytest.approx((53_000 * 0.04 + 10_000 * 0.02) / 3600)
    assert found["disk_gb"] == pytest.approx(0.025 + 0.04 + 6 * (0.01 + 0.159) + 0.02 + 2 * 0.159 + 0.01)
    assert plan(replace(WORKLOAD, votes=8, stop_when="settled", first_votes=1), ROUND)["tokens_of_votes"] == 43e6
    assert plan(replace(WORKLOAD, votes=0, stop_when="settled"), ROUND) == plan(replace(WORKLOAD, votes=0), ROUND)


def test_pairs_add_responses_and_their_verification_and_files():
    without, found = plan(WORKLOAD, ROUND), plan(replace(WORKLOAD, pairs=4), ROUND)
    assert found["tokens_of_pairs"] == found["tokens_written"] - without["tokens_written"] == 40e6
    assert found["core_hours"] - without["core_hours"] == pytest.approx(40_000 * 0.04 / 3600)
    assert found["disk_gb"] - without["disk_gb"] == pytest.approx(3 * 0.13)


def test_without_votes_the_main_responses_are_verified():
    found = plan(Workload(10_000, num_responses=2, votes=0, missions=0), ROUND)
    assert {"tokens_of_votes", "tokens_of_tags", "cost", "nodes_needed"}.isdisjoint(found)
    assert found["core_hours"] == pytest.approx((20_000 * 0.04 + 10_000 * 0.02) / 3600)
    # problems, responses of 0.07, five more such files, rows 0.02, and a .part file that holds the two twice
    assert found["disk_gb"] == pytest.approx(0.025 + 6 * 0.07 + 0.02 + 0.13)


def test_nodes_that_are_needed_keep_the_hours_and_one_less_does_not():
    needed = int(plan(Workload(1_000_000, hours=24), ROUND)["nodes_needed"])
    assert plan(Workload(1_000_000, nodes=needed), ROUND)["hours"] <= 24
    less = plan(Workload(1_000_000, nodes=needed - 1), ROUND)
    assert less["hours"] > 24
    assert less["gpu_hours"] == pytest.approx(plan(Workload(1_000_000), ROUND)["gpu_hours"])


@pytest.mark.parametrize(
    ("replicas", "replica_gpus", "gpus", "nodes"),
    [(1, 8, 8, 1), (3, 8, 8, 3), (1, 16, 8, 2), (3, 16, 8, 6), (9, 1, 8, 2), (5, 4, 8, 3), (1, 4, 6, 1), (2, 4, 6, 2)],
)
def test_nodes_and_replicas_fit_each_other(replicas, replica_gpus, gpus, nodes):
    assert nodes_for(replicas, replica_gpus, gpus) == nodes
    figures = ROUND | {"replica_gpus": replica_gpus}
    assert plan(Workload(10_000, gpus=gpus, nodes=nodes), figures)["replicas"] >= replicas
    if nodes > nodes_for(1, replica_gpus, gpus):
        assert plan(Workload(10_000, gpus=gpus, nodes=nodes - 1), figures)["replicas"] < replicas


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "gpus", "nodes", "memory", "expected"),
    [
        ("deepseek-r1", 8, None, 141, 8),  # 805 GB on 8 of 151.4 GB: 1,211
        ("deepseek-r1", 4, None, 80, 12),  # 3 nodes of 4 have 1,031 GB: no power of two
        ("deepseek-r1", 8, 1, 95, 8),  # 816 GB; of 95 x 10^9 bytes a GPU it were 760, too little
        ("qwen2.5-math-72b", 6, None, 24, 12),  # tensor 4 on two nodes; nobody else has the other two GPUs of each
    ],
)
def test_a_replica_takes_the_gpus_that_serving_it_takes(monkeypatch, tmp_path, model, gpus, nodes, memory, expected):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert gpus_of_replica(load_model(model), gpus, nodes, memory) == expected


def test_every_figure_of_the_formulas_is_in_the_configuration_with_unit_and_source():
    known = load_planning()
    assert known.units.keys() == ROUND.keys()
    for figures in known.models.values():
        assert (known.general | figures).keys() == ROUND.keys()
        assert all(len(one.source) > 10 for one in (known.general | figures).values())
    presets = {load_model(path.stem).model for path in (PROJECT / "configs" / "models").glob("*.yaml")}
    assert known.models.keys() <= presets


def test_a_replica_is_never_smaller_than_the_one_whose_speed_was_measured_unless_set_by_hand():
    model = load_model("deepseek-r1")
    assert [figures_of(model, gpus, None, {})["replica_gpus"].value for gpus in (None, 4, 16)] == [8, 8, 16]
    figures = figures_of(model, 16, None, {"replica_gpus": 4, "clean_share": 0.5})
    assert (figures["replica_gpus"].value, figures["clean_share"].value) == (4, 0.5)
    assert figures["clean_share"].source == "--set"


def test_a_model_of_unknown_speed_is_refused_until_it_is_told():
    unknown = load_model("smollm2")
    with pytest.raises(MagpieError, match=r"response_tokens, tokens_per_second, replica_gpus for .*--set response_tokens=…"):
        figures_of(unknown, None, None, {})
    with pytest.raises(
        MagpieError, match=r"tokens_per_second for [^ ]*: name a finished job of that model \(--job\), or --set"
    ):
        figures_of(unknown, 1, None, {})
    assert figures_of(unknown, 1, None, {"response_tokens": 200, "tokens_per_second": 470})["replica_gpus"].value == 1


# --- from a job -------------------------------------------------------------------------------------------------------

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def run_file(folder, name, stage, read, written, *, prompt=0, completion=0, seconds=1.0, status="complete", **arguments):
    content = {
        "status": status,
        "stage": stage,
        "arguments": arguments,
        "counts": {"read": read, "written": written, "dropped": {}},
        "tokens": {"prompt": prompt, "completion": completion},
        "seconds": seconds,
    }
    (folder / f"{name}.run.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    run_file(folder, "j_ins", "gen_ins.py", 100, 80, prompt=5000, completion=9000, seconds=50, model_path=MODEL)
    run_file(folder, "j_ins_clean", "clean_ins.py", 80, 60)
    res = {"stage": "gen_res.py", "model_path": MODEL}
    run_file(folder, "j_ins_clean_res", read=60, written=58, prompt=6000, completion=12_000, seconds=40, num_responses=1, **res)
    run_file(folder, "j_4res", read=60, written=60, prompt=24_000, completion=60_000, seconds=80, num_responses=4, **res)
    run_file(folder, "j_9res", read=10, written=10, completion=999_999, status="stopped", num_responses=9, **res)
    run_file(folder, "j_filtered", "filter.py", 60, 15)
    return folder


def test_a_job_gives_its_own_figures(job):
    expected = {
        "problem_tokens": 90,  # 9,000 in 100 samples
        "problem_prompt_tokens": 50,
        "clean_share": 0.6,  # 80 of 100, of them 60 of 80
        "response_tokens": 240,  # 72,000 in 60 + 240 responses
        "response_prompt_tokens": 100,
        "tokens_per_second": 600,  # 72,000 in 120 s
        "kept_share": 0.25,
    }
    assert {name: one.value for name, one in measured(job).items()} == pytest.approx(expected)
    assert measured(job)["kept_share"].source == "measured: j_filtered.run.json"


def test_problems_that_were_cleaned_while_they_were_made(job):
    (job / "j_ins_clean.run.json").unlink()
    assert "clean_share" not in measured(job)
    run_file(job, "j_ins", "gen_ins.py", 100, 80, completion=9000, model_path=MODEL, clean=True)
    assert measured(job)["clean_share"].value == pytest.approx(0.8)


def test_shards_count_once_whether_they_are_put_together_or_not(job):
    res = {"stage": "gen_res.py", "num_responses": 1, "model_path": MODEL}
    for number in (1, 2):
        name = f"s_res-0000{number}-of-00002"
        run_file(job, name, read=10, written=10, completion=5000, shard=f"{number}/2", **res)
    apart = measured(job)["response_tokens"].value
    assert apart == pytest.approx((72_000 + 10_000) / 320)
    run_file(job, "s_res", read=20, written=20, completion=10_000, seconds=2, **res)
    assert measured(job)["response_tokens"].value == apart


def test_a_job_without_anything_finished_is_refused(tmp_path, job):
    with pytest.raises(MagpieError, match="not a job"):
        measured(tmp_path)
    (tmp_path / "k_ins.run.json").write_text('{"status": "stopped"}', encoding="utf-8")
    with pytest.raises(MagpieError, match="no finished stage"):
        measured(tmp_path)
    (job / "j_ins.run.json").write_text("{", encoding="utf-8")
    with pytest.raises(MagpieError, match="broken"):
        measured(job)


def test_two_models_of_a_job_are_told_apart(job):
    assert model_of(job) == MODEL
    run_file(job, "k_res", "gen_res.py", 1, 1, completion=10, num_responses=1, model_path="other/model")
    with pytest.raises(MagpieError, match="2 models"):
        model_of(job)


# --- the program ------------------------------------------------------------------------------------------------------


def test_what_a_job_does_not_tell_is_not_asked_of_it_again(job):
    with pytest.raises(
        MagpieError, match=r"replica_gpus for [^ ]*, in the job neither: give .*\(--gpu_memory\), or --set"
    ) as error:
        figures_of(load_model("smollm2"), None, job, {})
    assert "--job" not in str(error.value)


def test_the_program_plans_from_a_job_as_json(job):
    done = program("plan", "--job", job, "--problems", 600, "--votes", 0, "--missions", 0, "--set", "replica_gpus=1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # 600 / 0.6 = 1,000 samples of 90 tokens, 600 responses of 240; 600 tokens/s
    assert [told["plan"][name] for name in ("samples", "tokens_written", "rows")] == [1000, 234_000, 150]
    assert told["plan"]["gpu_hours"] == pytest.approx(234_000 / 600 / 3600)
    assert (told["model"], told["figures"]["clean_share"]["value"]) == ("SmolLM2-135M-Instruct", pytest.approx(0.6))


def test_the_plan_and_its_figures_are_shown():
    arguments = ("--model_path", "deepseek-r1", "--problems", 10_000, "--gpu_memory", 80, "--gpu_price", 2, "--hours", 24)
    done = program("plan", *arguments)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for text in (
        "samples 11,287",
        "tokens written 189.2 million",
        "GPUs per replica 16",
        "nodes 2 ",
        "nodes needed 2",
        "cost ",
    ):
        assert text in shown
    assert "replica_gpus 16 GPUs per replica (the layout of serve.py)" in shown
    assert "kept_share 0.55 rows of the dataset per problem (OpenR1-Math-220k" in shown


R1 = ("--model_path", "deepseek-r1", "--problems", "10")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problems", "10"], "--model_path is needed"),
        (["--model_path", "deepseek-r1"], "--problems"),
        (["--model_path", "no-such-model", "--problems", "10"], "no model 'no-such-model'"),
        (["--model_path", "deepseek-r1", "--problems", "0"], "out of range"),
        (
            [*R1, "--gpus", "4", "--gpu_memory", "80", "--nodes", "1"],
            "needs 805 GB of memory, found: 4 x GPU of 80 GB, 344 GB of GPU memory. Use 3 such nodes (--nodes 3)",
        ),
        ([*R1, "--gpus", "4", "--nodes", "1"], "one replica needs 8 GPUs, so 2 nodes of 4; there are 1"),
        (["--job", "/nowhere", "--problems", "10"], "no such folder"),
        ([*R1, "--set", "speed=3"], "the figures are clean_share, "),
        ([*R1, "--set", "clean_share"], "is not a number"),
        ([*R1, "--set", "clean_share=1.5"], "a share is at most 1"),
        ([*R1, "--set", "clean_share=0"], "out of range"),
        ([*R1, "--set", "response_tokens=many"], "is not a number"),
        ([*R1, "--set", "response_tokens=nan"], "out of range"),
        ([*R1, "--set", "response_tokens=inf"], "out of range"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, said):
    done = program("plan", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_plans_of_the_scaling_page_are_those_of_the_program():
    text = (PROJECT / "docs" / "SCALING.md").read_text(encoding="utf-8")
    assert len(guides.PLANNED.findall(text)) == 4
    assert guides.written(text) == text, "run bash scripts/docs.sh"
    changed = text.replace("16,044", "1")
    assert changed != text
    assert guides.written(changed) == text
