"""Plans: the arithmetic at points worked out by hand, what moves what, figures out of a job, refusals, and the page in step."""

from __future__ import annotations

import json
import math

import docs as guides
import pytest

from conftest import program
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.planning import formulas as planning
from magpie.planning.assumptions import figures_of, gpus_of_replica, measured, model_of
from magpie.planning.config import load_planning
from magpie.planning.formulas import Workload, plan
from magpie.planning.tables import amount, hours, lines, size

ROUND = {
    "clean_share": 0.8,
    "problem_tokens": 100,
    "problem_prompt_tokens": 50,
    "answer_tokens": 1000,
    "answer_prompt_tokens": 200,
    "tag_tokens": 100,
    "tag_prompt_tokens": 400,
    "tokens_per_second": 2000,
    "engine_share": 0.5,
    "replica_gpus": 8,
    "kept_share": 0.5,
    "problem_bytes": 1000,
    "bytes_per_token": 3,
    "embedding_bytes": 2000,
    "clean_seconds": 0.001,
    "verify_seconds": 0.04,
    "embed_seconds": 0.02,
    "same_problem_seconds": 0.001,
    "search_seconds": 1e-6,
    "decontaminate_seconds": 0.002,
    "pass_seconds_per_gb": 10,
    "pairs_seconds": 0.0001,
    "run_bytes": 9,
    "dedup_bytes": 6000,
}
"""Round figures, so that a reader can check every expected value below."""
WORKLOAD = Workload(10_000, num_responses=1, votes=4, missions=2, gpus=8, cores=4, gpu_price=3.0)


def stage(found: planning.Plan, name: str) -> planning.Stage:
    return next(one for one in found.stages if one.name == name)


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_samples_are_the_problems_over_the_share_that_is_clean_rounded_up():
    assert planning.samples_needed(10_000, 0.8) == 12_500
    assert planning.samples_needed(10, 0.3) == 34  # 33.3…
    assert planning.samples_needed(1, 1.0) == 1


def test_hours_of_generating():
    # 3.6 million tokens at 1,000 a second and full speed: 3,600 s
    assert planning.generation_hours(3.6e6, 1000, 1.0, 1) == pytest.approx(1.0)
    # half the speed, four replicas
    assert planning.generation_hours(3.6e6, 1000, 0.5, 4) == pytest.approx(0.5)


def test_hours_of_the_processor_and_of_the_search():
    assert planning.core_hours(7200, 0.5) == pytest.approx(1.0)
    assert planning.core_hours(7200, 0.5, 4) == pytest.approx(0.25)
    # 10,000 x 100 x 3.6e-3 s = 3,600 s
    assert planning.search_hours(10_000, 3.6e-3, 1) == pytest.approx(1.0)
    # four times the vectors: eight times the work
    assert planning.search_hours(40_000, 3.6e-3, 2) == pytest.approx(4.0)
    # 8 million in four partitions of 2 million: four times 8 million x 1,414.2 x 3.6e-6 s = 11,313.7 s
    assert planning.search_hours(8_000_000, 3.6e-6, 1) == pytest.approx(4 * 8e6 * 1414.2136 * 3.6e-6 / 3600)


@pytest.mark.parametrize(
    ("model", "gpus", "nodes", "memory", "expected"),
    [
        ("deepseek-r1", 8, None, 141, 8),  # 805 GB on 8 of 151.4 GB: 1,211
        ("deepseek-r1", 8, None, 80, 16),  # on 8 of 85.9 GB: 687, too little; on two such nodes
        ("deepseek-r1", 4, None, 80, 12),  # 3 nodes of 4 have 1,031 GB: no power of two
        ("deepseek-r1", 8, None, 40, 24),  # 3 nodes of 8 x 42.9 GB have 1,031 GB
        # 8 of 95 GiB have 816 GB (of 95 x 10^9 bytes: 760, too little): room for 4 requests; on two nodes for 8
        ("deepseek-r1", 8, 1, 95, 8),
        ("deepseek-r1", 8, 2, 95, 16),
        ("qwen2-math-7b", 8, None, 24, 1),
        ("qwen2.5-math-72b", 8, None, 80, 2),  # 160 GB on two of 85.9 GB
        # 24 GiB are 25.8 GB: seven hold 160 GB, and 64 heads divide over eight
        ("qwen2.5-math-72b", 8, None, 24, 8),
        ("qwen2.5-math-72b", 6, None, 24, 12),  # tensor 4 on two nodes; nobody else has the other two GPUs of each
    ],
)
def test_a_replica_takes_the_gpus_that_serving_it_takes(monkeypatch, tmp_path, model, gpus, nodes, memory, expected):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert gpus_of_replica(load_model(model), gpus, nodes, memory) == expected


def test_what_does_not_fit_on_the_nodes_that_there_are_is_refused():
    with pytest.raises(MagpieError, match=r"needs 805 GB of memory, found: 8 x GPU of 93 GB, 799 GB"):
        gpus_of_replica(load_model("deepseek-r1"), 8, 1, 93)


@pytest.mark.parametrize(
    ("replicas", "replica_gpus", "gpus", "nodes"),
    [(1, 8, 8, 1), (3, 8, 8, 3), (1, 16, 8, 2), (3, 16, 8, 6), (9, 1, 8, 2), (5, 4, 8, 3)],
)
def test_nodes_and_replicas_fit_each_other(replicas, replica_gpus, gpus, nodes):
    assert planning.nodes_for(replicas, replica_gpus, gpus) == nodes
    assert planning.replicas_on(nodes, replica_gpus, gpus) >= replicas
    assert planning.replicas_on(nodes - 1, replica_gpus, gpus) < replicas


def test_replicas_for_a_deadline():
    assert planning.deadline_replicas(100, 4, 24) == 5  # 100 h of one replica in 20 h
    assert planning.deadline_replicas(101, 4, 24) == 6
    assert planning.deadline_replicas(1, 4, 24) == 1
    assert planning.deadline_replicas(1, 24, 24) is None


# --- a whole plan, by hand --------------------------------------------------------------------------------------------


def test_tokens_and_gpu_hours_of_an_order():
    found = plan(WORKLOAD, ROUND)
    assert (found.samples, found.rows, found.nodes, found.replicas) == (12_500, 5_000, 1, 1)
    # written: 12,500 x 100, 10,000 x 1,000, 40,000 x 1,000, 20,000 x 100
    written = {"gen_ins": 1.25e6, "gen_res": 10e6, "gen_res, votes": 40e6, "unitag": 2e6}
    assert {one.name: one.tokens_written for one in found.stages if one.tokens_written} == written
    assert found.tokens_written == 53.25e6
    # read: 12,500 x 50 + 10,000 x 200 + 40,000 x 200 + 20,000 x 400
    assert found.tokens_read == 0.625e6 + 2e6 + 8e6 + 8e6
    # 1,000 tokens/s of 8 GPUs: 53,250 s
    assert found.gpu_hours == pytest.approx(53_250 * 8 / 3600)
    assert found.cost == pytest.approx(53_250 * 8 / 3600 * 3)
    assert stage(found, "gen_res, votes").hours == pytest.approx(40_000 / 3600)


def test_hours_of_the_stages_without_a_model():
    found = plan(WORKLOAD, ROUND)
    seconds = {
        "clean_ins": 12_500 * 0.001,
        "verify": 40_000 * 0.04 / 4,
        "gen_dis, embedding": 10_000 * 0.02 / 4,
        "gen_dis, comparing": 10_000 * 0.001 + 10_000 * 100 * 1e-6 / 4,
        "decontaminate": 10_000 * 0.002,
        "filter, export": 0.13 * 1.5 * 10,  # 10,000 records of 1,000 + 4 x 3,000 bytes, read once and a half
    }
    assert {one.name: one.hours * 3600 for one in found.stages if not one.tokens_written} == pytest.approx(seconds)
    assert found.hours * 3600 == pytest.approx(53_250 + sum(seconds.values()))


def test_disk_and_memory_of_an_order():
    found = plan(WORKLOAD, ROUND)
    assert found.disk == pytest.approx(
        {
            "problems": 0.025,  # 12,500 samples of 1,000 bytes, and the cleaned and dropped ones again
            "answers": 0.04,  # 10,000 x (1,000 + 3,000)
            "votes and checks": 0.78,  # six times 10,000 x (1,000 + 12,000)
            "pairs": 0.0,
            "data set": 0.02,  # 5,000 x 4,000
            "embeddings": 0.02,
            "while it runs": 0.25,  # four answers, each twice
        }
    )
    assert found.memory == pytest.approx({"a resumable stage": 9e-5, "gen_dis.py": 0.06})


def test_pairs_add_answers_their_verification_and_their_choice():
    without, found = plan(WORKLOAD, ROUND), plan(Workload(10_000, cores=4, pairs=5), ROUND)
    assert stage(found, "gen_res, pairs").tokens_written == 50e6
    assert stage(found, "verify").hours * 3600 == pytest.approx(90_000 * 0.04 / 4)
    assert stage(found, "gen_po_pairs").hours * 3600 == pytest.approx(1.0)
    assert found.disk["pairs"] == pytest.approx(3 * 0.16)
    assert found.tokens_written - without.tokens_written == 50e6


def test_without_votes_the_main_answers_are_verified():
    found = plan(Workload(10_000, num_responses=2, votes=0, missions=0, cores=1), ROUND)
    assert [one.name for one in found.stages if one.tokens_written] == ["gen_ins", "gen_res"]
    assert stage(found, "verify").hours * 3600 == pytest.approx(20_000 * 0.04)
    assert found.disk["votes and checks"] == pytest.approx(5 * 0.07)


def test_nodes_for_a_deadline_keep_it_and_one_less_does_not():
    workload = Workload(1_000_000, cores=32, deadline=24)
    needed = plan(workload, ROUND).deadline_nodes
    assert needed is not None
    assert plan(Workload(1_000_000, cores=32, nodes=needed), ROUND).hours <= 24
    assert plan(Workload(1_000_000, cores=32, nodes=needed - 1), ROUND).hours > 24
    assert plan(Workload(1_000_000, cores=1, deadline=10), ROUND).deadline_nodes is None  # verifying alone takes longer


@pytest.mark.parametrize(
    "more",
    [{"problems": 20_000}, {"num_responses": 2}, {"votes": 8}, {"missions": 4}, {"pairs": 5}],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_costs_more(more):
    less, found = plan(WORKLOAD, ROUND), plan(planning.Workload(**{**vars(WORKLOAD), **more}), ROUND)
    assert found.tokens_written > less.tokens_written
    assert found.gpu_hours > less.gpu_hours
    assert found.hours > less.hours
    assert math.fsum(found.disk.values()) >= math.fsum(less.disk.values())


def test_more_nodes_take_less_time_for_the_same_gpu_hours():
    less, found = plan(WORKLOAD, ROUND), plan(planning.Workload(**{**vars(WORKLOAD), "nodes": 4}), ROUND)
    assert found.hours < less.hours
    assert found.gpu_hours == pytest.approx(less.gpu_hours)


def test_a_replica_that_no_node_holds_is_refused():
    with pytest.raises(MagpieError, match="one replica needs 8 GPUs, so 2 nodes of 4; there are 1"):
        plan(planning.Workload(**{**vars(WORKLOAD), "gpus": 4, "nodes": 1}), ROUND)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_of_the_formulas_is_in_the_configuration_with_unit_and_source():
    known = load_planning()
    for model in known.models:
        figures = known.assumptions | model.assumptions
        assert figures.keys() == ROUND.keys()
        assert all(one.unit and len(one.source) > 10 for one in figures.values())
    names = [name for model in known.models for name in model.names]
    presets = {load_model(path.stem).model for path in (PROJECT / "configs" / "models").glob("*.yaml")}
    assert set(names) <= presets


def test_gpus_that_do_not_hold_the_measured_replica_make_it_larger():
    assert figures_of(load_model("deepseek-r1"), gpu_memory=141)["replica_gpus"].value == 8
    larger = figures_of(load_model("deepseek-r1"), gpu_memory=80)["replica_gpus"]
    assert larger.value == 16
    assert "805 GB on nodes of 8 GPUs of 80 GB" in larger.source
    assert figures_of(load_model("deepseek-r1"), gpus=4, gpu_memory=80)["replica_gpus"].value == 12
    # its speed is that of 8: 4 of 288 GB would hold it, but nobody measured them
    assert figures_of(load_model("deepseek-r1"), gpus=4, gpu_memory=288)["replica_gpus"].value == 8
    assert figures_of(load_model("qwen2-math-7b"), gpu_memory=24)["replica_gpus"].value == 1


def test_a_value_set_by_hand_goes_before_all():
    figures = figures_of(load_model("deepseek-r1"), gpu_memory=80, chosen=["replica_gpus=32", "clean_share=0.5"])
    assert (figures["replica_gpus"].value, figures["clean_share"].value) == (32, 0.5)
    assert figures["clean_share"].source == "--set"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("speed=3", "one of answer_prompt_tokens, "),
        ("clean_share", "NAME=VALUE is expected"),
        ("clean_share=1.5", "a share above 0, at most 1"),
        ("clean_share=0", "a share above 0, at most 1"),
        ("replica_gpus=1.5", "a whole number from 1"),
        ("replica_gpus=0.5", "a whole number from 1"),
        ("answer_tokens=many", "between"),
        ("answer_tokens=nan", "between"),
        ("answer_tokens=inf", "between"),
        ("answer_tokens=-1", "between"),
    ],
)
def test_a_value_that_none_can_be_is_refused(chosen, said):
    with pytest.raises(MagpieError, match=said):
        figures_of(load_model("deepseek-r1"), chosen=[chosen])


def test_a_model_of_unknown_speed_is_refused_until_it_is_told():
    unknown = load_model("smollm2")
    with pytest.raises(MagpieError, match=r"answer_tokens, tokens_per_second, replica_gpus of .*--set answer_tokens=…"):
        figures_of(unknown)
    told = ["answer_tokens=200", "tokens_per_second=470", "replica_gpus=1"]
    assert figures_of(unknown, chosen=told)["tokens_per_second"].value == 470


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
    res = {"model_path": MODEL}
    run_file(folder, "j_res", "gen_res.py", 60, 58, prompt=6000, completion=12_000, seconds=40, num_responses=1, **res)
    run_file(folder, "j_4res", "gen_res.py", 60, 60, prompt=24_000, completion=60_000, seconds=80, num_responses=4, **res)
    run_file(folder, "j_9res", "gen_res.py", 10, 10, completion=999_999, status="stopped", num_responses=9, **res)
    run_file(folder, "j_filtered", "filter.py", 60, 15)
    return folder


def test_a_job_gives_its_own_figures(job):
    found = {name: one.value for name, one in measured(job).items()}
    assert found == pytest.approx(
        {
            "problem_tokens": 90,  # 9,000 in 100 samples
            "problem_prompt_tokens": 50,
            "clean_share": 0.6,  # 80 of 100, of them 60 of 80
            "answer_tokens": 240,  # 72,000 in 60 + 240 answers
            "answer_prompt_tokens": 100,
            "tokens_per_second": 600,  # 72,000 in 120 s
            "engine_share": 1.0,
            "kept_share": 0.25,
        }
    )
    assert measured(job)["kept_share"].source == "measured: j_filtered.run.json"
    assert model_of(job) == MODEL


def test_problems_that_were_cleaned_while_they_were_made(job):
    (job / "j_ins_clean.run.json").unlink()
    assert "clean_share" not in measured(job)
    run_file(job, "j_ins", "gen_ins.py", 100, 80, completion=9000, model_path=MODEL, clean=True)
    assert measured(job)["clean_share"].value == pytest.approx(0.8)


def test_shards_count_once_whether_they_are_put_together_or_not(job):
    before = measured(job)["answer_tokens"].value
    for number in (1, 2):
        run_file(
            job,
            f"s_res-0000{number}-of-00002",
            "gen_res.py",
            10,
            10,
            completion=5000,
            num_responses=1,
            model_path=MODEL,
            shard=f"{number}/2",
        )
    apart = measured(job)["answer_tokens"].value
    assert apart == pytest.approx((72_000 + 10_000) / 320) != before
    run_file(job, "s_res", "gen_res.py", 20, 20, completion=10_000, seconds=2, num_responses=1, model_path=MODEL)
    assert measured(job)["answer_tokens"].value == apart
    run_file(job, "s_res-00001-of-00002_filtered", "filter.py", 60, 60)
    assert measured(job)["kept_share"].value == pytest.approx(75 / 120)


def test_a_job_without_anything_finished_is_refused(tmp_path, job):
    with pytest.raises(MagpieError, match="no such folder"):
        measured(tmp_path / "nowhere")
    with pytest.raises(MagpieError, match="not a job"):
        measured(tmp_path)
    (tmp_path / "k_ins.run.json").write_text('{"status": "stopped"}', encoding="utf-8")
    with pytest.raises(MagpieError, match="no finished stage"):
        measured(tmp_path)
    (job / "j_ins.run.json").write_text("{", encoding="utf-8")
    with pytest.raises(MagpieError, match="broken"):
        measured(job)


def test_two_models_of_a_job_are_told_apart(job):
    run_file(job, "k_res", "gen_res.py", 1, 1, completion=10, num_responses=1, model_path="other/model")
    with pytest.raises(MagpieError, match="2 models"):
        model_of(job)


# --- the program ------------------------------------------------------------------------------------------------------


def test_the_program_plans_from_a_job_as_json(job):
    done = program("plan", "--job", job, "--problems", 600, "--votes", 0, "--missions", 0, "--set", "replica_gpus=1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    [found] = told["plans"]
    # 600 / 0.6 = 1,000 samples of 90 tokens, 600 answers of 240; 600 tokens/s
    assert (found["samples"], found["tokens_written"], found["rows"]) == (1000, 234_000, 150)
    assert found["gpu_hours"] == pytest.approx(234_000 / 600 / 3600)
    assert (told["model"], told["figures"]["clean_share"]["value"]) == ("SmolLM2-135M-Instruct", pytest.approx(0.6))


def test_the_table_has_a_column_an_order():
    done = program("plan", "--model_path", "deepseek-r1", "--problems", 10_000, 1_000_000, "--gpu_price", 2, "--hours", 24)
    assert done.returncode == 0, done.stderr
    cells = {row[0].strip(): row[1:] for row in (line.split("│") for line in done.stdout.splitlines()) if len(row) == 3}
    assert [cell.strip() for cell in cells["samples drawn"]] == ["11,287", "1.1 million"]
    assert {"cost", "nodes for 24 hours", "gen_res, votes", "memory of gen_dis.py"} <= cells.keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problems", "10"], "--model_path is needed"),
        (["--model_path", "deepseek-r1"], "--problems is needed"),
        (["--model_path", "no-such-model", "--problems", "10"], "no model 'no-such-model'"),
        (["--model_path", "deepseek-r1", "--problems", "0"], "out of range"),
        (
            ["--model_path", "deepseek-r1", "--problems", "10", "--gpus", "4", "--gpu_memory", "80", "--nodes", "1"],
            "needs 805 GB of memory, found: 4 x GPU of 80 GB, 344 GB of GPU memory. Use 3 such nodes (--nodes 3)",
        ),
        (["--model_path", "deepseek-r1", "--assumptions", "speed"], "no such figure"),
        (["--job", "/nowhere", "--problems", "10"], "no such folder"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, said):
    done = program("plan", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# --- how it is shown, and the page ------------------------------------------------------------------------------------


def test_numbers_are_written_as_they_are_read():
    assert [amount(number) for number in (0.5, 12, 12_345, 2.5e6, 3.04e10, 3.04e12)] == [
        *("0.5", "12", "12,345"),
        *("2.5 million", "30.4 billion", "3.0 trillion"),
    ]
    assert [hours(number) for number in (1e-5, 0.01, 0.5, 3.25, 240)] == [
        "under 1 s",
        "36 s",
        "30 min",
        "3.2 h",
        "240 h (10 days)",
    ]
    assert [size(number) for number in (0.0005, 1, 1500, 2e6)] == ["0.5 MB", "1.0 GB", "1.5 TB", "2.0 PB"]


def test_the_brief_table_has_no_line_for_a_stage():
    labels = [label for label, _ in lines([plan(WORKLOAD, ROUND)], brief=True)]
    assert "GPU hours" in labels
    assert not [label for label in labels if label.startswith(" ")]


def test_the_tables_of_the_scaling_page_are_those_of_the_program():
    text = (PROJECT / "docs" / "SCALING.md").read_text(encoding="utf-8")
    assert len(guides.PLANNED.findall(text)) >= 6
    assert guides.written(text) == text, "run bash scripts/docs.sh"
    assert "| 100,000,000 |" in guides.plan_of("--model_path deepseek-r1 --problems 100000000")
    changed = text.replace("| GPU hours | 261 |", "| GPU hours | 1 |")
    assert changed != text
    assert guides.written(changed) == text
