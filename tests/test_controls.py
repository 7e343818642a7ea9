"""Controls: planted problems are like others until measure.py takes them out, and what they tell is true."""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from conftest import clean_environment, finished, program, rows
from magpie.chain.command_line import derived
from magpie.chain.config import load_job
from magpie.cleaning.clean import clean
from magpie.common.console import MagpieError
from magpie.config.model_presets import load_model
from magpie.controls import measures
from magpie.controls.gym import LEVELS, LONGEST, SAFE, load_families, plain, scored
from magpie.controls.judging import Verdicts, seen
from magpie.controls.planting import planted
from magpie.export.formats import FORMATS
from magpie.models.chat_template import ChatTemplate
from magpie.records.reading import encode
from magpie.runs.run_file import read_run_file
from magpie.verification.annotate import verified
from magpie.verification.pool import Judgement
from scripted_server import Call, Reply, ScriptedServer, completion
from test_run_job import RUN_JOB

TEMPLATE = ChatTemplate(load_model("smollm2"))
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"


class Solver(ScriptedServer):
    """Makes problems, and answers controls rightly but for a share of each difficulty."""

    def __init__(self, controls: list[dict[str, Any]], errors: dict[str, float], seed: int = 0) -> None:
        super().__init__(served=(SMOLLM,), by=self._reply)
        self.controls = {control["instruction"]: control["control"] for control in controls}
        self.errors, self.draw, self.made = errors, random.Random(seed), 0
        self.prompts: list[str] = []

    def _reply(self, call: Call) -> Reply:
        text = TEMPLATE.decode(call.body["prompt"])
        self.prompts.append(text)
        if "assistant" not in text[-20:]:
            self.made += 1
            return Reply(body=completion(f"How many apples are in {self.made + 1} boxes of {self.made * 7 + 3} apples each?"))
        control = next((self.controls[line] for line in text.splitlines() if line in self.controls), None)
        if control is None:
            return Reply(body=completion(f"It is \\boxed{{{self.draw.choice([84, 84, 84, 85])}}}."))
        wrong = self.draw.random() < self.errors[control["difficulty"]]
        return Reply(body=completion(f"It is \\boxed{{{-self.draw.randint(71, 73) if wrong else control['answer']}}}."))


def controls_of(count: int, seed: int = 0, families: list[str] | None = None) -> list[dict[str, Any]]:
    return planted(count, seed, families or sorted(load_families()), LEVELS)


NUMBERS = ["chain_sum", "products", "gcd", "lcm", "count_primes", "count_bits", "dice", "coin_flip", "number_format"]
"""Families whose answers are compared without a worker."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Solver]]:
    """A main job with all that follows, and the pairs of the same job."""
    folder = tmp_path_factory.mktemp("controls")
    with Solver(controls_of(14), {"easy": 0.1, "medium": 0.4, "hard": 0.6}) as server:
        settings = {"PLANTED": "14", "VOTES": "3", "MISSIONS": "", "MAGPIE_BASE_URL": server.url}
        settings["INS_FLAGS"] = f"--no-openings --planted_families {' '.join(sorted(load_families()))}"
        env = clean_environment(DATA_DIR=str(folder), JOB_NAME="job", STOP_WHEN="never", JUDGE="false", **settings)
        for command in (["main", "--", "smollm2", "10", "--preflight", "0", "--all"], ["align", "--", "job"]):
            done = finished([*RUN_JOB, *command], env=env)
            assert done.returncode == 0, done.stderr
        yield folder / "job", server


def one(job: Path, pattern: str) -> Path:
    [found] = job.glob(pattern)
    return found


def test_controls_are_plain_problems_that_pass_cleaning_as_they_are() -> None:
    made = controls_of(126)
    assert made == controls_of(126) != controls_of(126, seed=1)
    assert len({control["instruction"] for control in made}) == 126
    assert {(c["control"]["family"], c["control"]["difficulty"]) for c in made} == {
        (name, level) for name in load_families() for level in LEVELS
    }
    for control in made:
        cleaned = clean(control["instruction"])
        assert (cleaned.text, cleaned.drop_reason, cleaned.answer_type) == (control["instruction"], "", "closed"), control
        assert scored(control["control"], control["control"]["answer"]) is True, control
        assert scored(control["control"], "-77") is False, control


def test_a_kind_that_has_no_more_problems_is_left_to_the_others() -> None:
    made = planted(400, 0, ["dice", "chain_sum"], ["easy"])
    assert len({control["instruction"] for control in made}) == 400
    assert 3 < sum(control["control"]["family"] == "dice" for control in made) < 60
    with pytest.raises(MagpieError, match="different problems"):
        planted(400, 0, ["dice"], ["easy"])


def test_nothing_but_control_tells_a_planted_problem_and_no_prompt_has_its_answer(job: tuple[Path, Solver]) -> None:
    folder, server = job
    made = rows(folder / "job_ins.jsonl")
    planted_rows = [row for row in made if "control" in row]
    assert len(made) == 24 and len(planted_rows) == 14 and {row["id"] for row in made} == {f"job-{n:06d}" for n in range(24)}
    assert made[:14] != planted_rows != made[10:]
    [keys] = {tuple(key for key in row if key != "control") for row in made}
    assert "answer" not in keys and len({json.dumps(row["gen_input_configs"]) for row in made}) == 1
    without = {text: control for text, control in server.controls.items() if control["answer"] not in text}
    asked = [text for text in server.prompts if any(line in without for line in text.splitlines())]
    assert asked
    for text in asked:
        [(line, control)] = [(line, without[line]) for line in text.splitlines() if line in without]
        told = text.replace(line, "")
        assert "control" not in told and control["family"] not in told and str(control["seed"]) not in told
        assert len(control["answer"]) < 3 or control["answer"] not in told


def test_no_control_gets_into_any_data_of_a_job(job: tuple[Path, Solver]) -> None:
    folder, server = job
    names = ["*_res_measured_sharegpt", "*_sft_measured", "*_pairs_measured", "*_pairs_measured_dpo", "*_tagged_res_measured"]
    data = [json.dumps(rows(one(folder, f"{name}.jsonl"))) for name in names]
    data.append(json.dumps(pq.read_table(one(folder, "job_sft/data/*.parquet")).to_pylist()))
    for text in data:
        assert "apples" in text and not any(json.dumps(control)[1:-1] in text for control in server.controls)
    page = (folder / "report.html").read_text()
    assert "in the dataset" in page and "without controls" in page
    assert "apples" in page and not any(html.escape(control) in page for control in server.controls)
    assert len(rows(one(folder, "*_res_measured_dropped.jsonl"))) == 14


FORMATS_OF = {"sharegpt": "res", "messages": "res", "alpaca": "res", "rlvr": "3res_verified", "verl": "3res_verified"} | {
    "prime-rl": "3res_verified",
    "dpo": "pairs",
    "sharegpt_dpo": "pairs",
    "kto": "pairs",
}


@pytest.mark.parametrize("how", [*FORMATS_OF, "folder", "hub", "concat", "pairs"])
def test_a_control_that_is_left_is_refused_with_what_to_do(how: str, job: tuple[Path, Solver], tmp_path: Path) -> None:
    folder, _ = job
    source = one(folder, f"*_{FORMATS_OF.get(how, '3res_verified')}.jsonl")
    out = tmp_path / "out.jsonl"
    if how == "concat":
        command: list[object] = ["concat", "--inputs", source, "--output_file", out]
    elif how == "pairs":
        command = ["gen_po_pairs", "--input_file", source, "--output_file", out]
    elif how in ("folder", "hub"):
        command = ["export", "--input_file", source, "--output_folder", tmp_path / "set"]
        command += ["--push_to_hub", "owner/name"] if how == "hub" else []
    else:
        command = ["export", "--input_file", source, "--format", how, "--output_file", out]
    refused = program(*map(str, command))
    assert refused.returncode == 2 and "is a control" in refused.stderr and "measure.py" in refused.stderr, refused.stderr
    assert not out.exists() and not (tmp_path / "set").exists()
    again = program(*map(str, command), "--keep_controls")
    if how == "hub":
        assert again.returncode == 2 and "exclude each other" in again.stderr
    else:
        assert again.returncode == 0, again.stderr


def test_every_format_is_tried() -> None:
    assert {*FORMATS_OF, "stepwise"} == {*FORMATS}  # stepwise needs a process reward model; the refusal is the same line


def test_shards_make_the_same_controls_as_one_worker(tmp_path: Path) -> None:
    whole, parts = tmp_path / "w" / "x_ins.jsonl", tmp_path / "p" / "x_ins.jsonl"
    flags = ["--model_path", SMOLLM, "--tokenizer", load_model("smollm2").path, "--total_prompts", 9, "--planted", 8]
    flags += ["--preflight", 0, "--no-openings"]
    assert not {"simple_integration"} & {one["control"]["family"] for one in planted(399, 0, [], LEVELS)}  # SymPy takes seconds
    assert {one["control"]["family"] for one in planted(400, 0, [], LEVELS)} == {*load_families()}
    with Solver([], {}) as server:
        for path, more in ((whole, []), (parts, ["--shard", "1/2"]), (parts, ["--shard", "2/2"])):
            done = program("gen_ins", *flags, "--output_file", path, "--base_url", server.url, *more)
            assert done.returncode == 0, done.stderr
    done = program("concat", "--shards", parts)
    assert done.returncode == 0, done.stderr
    first, second = ([(row["id"], row.get("control")) for row in rows(path)] for path in (whole, parts))
    assert first == second and sum(control is not None for _, control in first) == 8


def test_what_is_told_is_what_the_rows_say(job: tuple[Path, Solver]) -> None:
    folder, _ = job
    told = read_run_file(one(folder, "*_sft_measured.run.json")).measured
    passed = [row for row in rows(one(folder, "*_filtered_sft.jsonl")) if "control" in row]
    wrong = sum(row["majority_answer"] != row["control"]["answer"] for row in passed)
    interval = binomtest(wrong, len(passed)).proportion_ci(method="wilson")
    assert told["controls"] == len(passed) and told["labels"]["wrong"] == wrong
    assert told["labels"]["interval"] == pytest.approx([interval.low, interval.high], abs=1e-4)
    verified = [row for row in rows(one(folder, "*_3res_verified.jsonl")) if "control" in row]
    for row in told["curve"]:
        same = [one for one in verified if one["agreement"] == row["agreement"]]
        labels = [one["majority_answer"] or one["answers"][one["response_index"]] for one in same]
        right = sum(label == one["control"]["answer"] for label, one in zip(labels, same, strict=True))
        assert (row["controls"], row["right"]) == (len(same), right)
    assert told["stages"][0]["read"] == 14
    assert told["stages"][-1]["dropped"] == 14 - len(passed) and told["stages"][-1]["stage"] == "filter.py"
    assert told["verifier"]["differ"] == 0 and told["verifier"]["answers"] > 14
    pairs = read_run_file(one(folder, "*_pairs_measured.run.json")).measured["pairs"]
    made = [row for row in rows(one(folder, "*_pairs.jsonl")) if "control" in row]
    assert pairs["right"] == sum(
        row["answer_chosen"] == row["control"]["answer"] != row["answer_rejected"] for row in made
    ) and pairs["pairs"] == len(made)


# --- the estimates --------------------------------------------------------------------------------------------------------

SEVERAL = [f"-{n}" for n in range(71, 74)]
"""What a wrong answer is: one of these."""


def voted(control: dict[str, Any], answers: list[str], n: int = 0) -> dict[str, Any]:
    """A control's record as verify.py leaves it."""
    groups: list[int | None] = [sorted(set(answers)).index(answer) for answer in answers]
    judgement = Judgement(list(answers), ["parsed"] * len(answers), groups, [None] * len(answers))
    record = {"id": n, "instruction": control["instruction"], "control": control["control"], "responses": answers}
    return verified(record | {"duplicate_of": None, "finish_reason": "stop", "response": "x"}, judgement)


def simulated(controls: list[dict[str, Any]], errors: dict[str, float], draw: random.Random) -> list[dict[str, Any]]:
    """Controls with four votes of a model that errs in a known share of its responses by difficulty."""
    records = []
    for n, control in enumerate(controls):
        exact, share = control["control"]["answer"], errors[control["control"]["difficulty"]]
        records.append(voted(control, [draw.choice(SEVERAL) if draw.random() < share else exact for _ in range(4)], n))
    return records


def true_share(errors: dict[str, float], least: float) -> float:
    """The share of wrong labels among those with at least so much agreement, by all that four votes can be."""
    passed = wrong = 0.0
    for share in errors.values():
        for votes in itertools.product("abcd", repeat=4):  # a: right
            [(most, count), *_] = Counter(votes).most_common(1)
            chance = math.prod(1 - share if vote == "a" else share / 3 for vote in votes)
            if count / 4 >= least and list(Counter(votes).values()).count(count) == 1:
                passed += chance
                wrong += chance * (most != "a")
    return wrong / passed


def test_the_interval_covers_the_truth_and_the_chosen_agreement_keeps_its_promise() -> None:
    errors = {"easy": 0.05, "medium": 0.25, "hard": 0.5}
    controls, covered, kept, chosen = controls_of(210, families=NUMBERS), 0, 0, 0
    for run in range(50):
        records = simulated(controls, errors, random.Random(run))
        passed = [seen(record) for record in records if (record["agreement"] or 0) > 0.5]
        verdicts = Verdicts()
        verdicts.add(seen(record) for record in records)
        low, high = measures.labels(passed, verdicts)["interval"]
        covered += low <= true_share(errors, 0.75) <= high
        with contextlib.suppress(MagpieError):
            least = measures.least_agreement(passed, verdicts, 0.9)["agreement"]
            chosen, kept = chosen + 1, kept + (1 - true_share(errors, least) >= 0.9)
    assert covered >= 45, covered
    assert chosen >= 25 and kept >= 0.9 * chosen, (chosen, kept)


def test_an_interval_is_wilsons() -> None:
    for wrong, of in ((0, 5), (9, 212), (212, 212)):
        ends = binomtest(wrong, of).proportion_ci(method="wilson")
        assert measures.wilson(wrong, of) == pytest.approx([ends.low, ends.high], abs=1e-4)
    assert measures.wilson(0, 0) == [0.0, 1.0]


def test_a_share_is_weighted_by_the_difficulty_of_the_other_records() -> None:
    controls = controls_of(40, families=NUMBERS)
    easy = [voted(control, [control["control"]["answer"]] * 4) for control in controls[:30]]
    hard = [voted(control, [control["control"]["answer"], "-71", "-71", "-72"]) for control in controls[30:]]
    found = [seen(record) for record in easy + hard]
    verdicts = Verdicts()
    verdicts.add(found)
    others: Counter[str | None] = Counter(
        {easy[0]["difficulty_measured"]: 50, hard[0]["difficulty_measured"]: 50, "never seen": 25}
    )
    assert measures.labels(found, verdicts)["share"] == 0.25
    again = measures.reweighted(found, verdicts, others)
    assert (again["share"], again["covers"]) == (0.5, 0.8) and again["interval"][0] < 0.5 < again["interval"][1]
    assert measures.reweighted(found, verdicts, Counter({None: 5})) == {}


def filtered(tmp_path: Path, records: list[dict[str, Any]], target: float) -> Any:
    source = tmp_path / "x_verified.jsonl"
    source.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return program("filter", "--config", "finished", "--input_file", source, "--target_precision", target, "--overwrite")


def test_a_filter_takes_the_least_agreement_that_the_controls_support_or_says_that_none_is(tmp_path: Path) -> None:
    controls = controls_of(300, families=NUMBERS)
    right = [[control["control"]["answer"]] * 4 for control in controls]
    votes = [
        [*one[:3], "-71"] if n % 3 == 0 else [*one[:2], "-71", "-72"] if n % 3 == 1 else one for n, one in enumerate(right)
    ]
    votes = [
        [*one[:1], "-71", "-71", "-72"] if n % 6 == 1 else one for n, one in enumerate(votes)
    ]  # half of the half are wrong
    records = [voted(*pair, n) for n, pair in enumerate(zip(controls, votes, strict=True))]
    records.append({"id": "none", "instruction": "x", "agreement": None, "response": "y", "duplicate_of": None})
    done = filtered(tmp_path, records, 0.97)
    assert done.returncode == 0, done.stderr
    kept = rows(tmp_path / "x_verified_filtered.jsonl")
    assert len(kept) == 200 and {row["agreement"] for row in kept} == {0.75, 1.0}
    assert read_run_file(tmp_path / "x_verified_filtered.run.json").statistics["least_agreement"] == 0.75
    reasons = Counter(row["drop_reason"] for row in rows(tmp_path / "x_verified_filtered_dropped.jsonl"))
    assert reasons == {"below_target_precision": 100, "no_agreement": 1}
    done = filtered(tmp_path, records, 0.999)
    assert done.returncode == 2 and "no agreement is supported" in done.stderr and "200 of 200" in done.stderr
    assert len(rows(tmp_path / "x_verified_filtered.jsonl")) == 200  # what was there stays
    done = filtered(tmp_path, records[-1:], 0.5)
    assert done.returncode == 2 and "there is no control" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "__import__('os').system('false')",
            "9**9**9**9",
            "((9**99)**99)**99",
            "1e999999999",
            "exit()",
            "x(1)",
            "x.real",
            "a" * 999,
        ),
        *("9**999", "lambda: 1", "(" * 5000, "1_000", "x**y**z", "3!", "[1]*10**9", "\\frac{1}{0}", "", " "),
    ],
)
def test_a_scorer_that_evaluates_never_reads_what_could_do_harm(answer: str) -> None:
    control = next(c["control"] for c in controls_of(126) if c["control"]["family"] == "polynomial_multiplication")
    assert scored(control, answer) in (None, False)
    text = plain(answer[:LONGEST])
    assert not SAFE.fullmatch(text) or "**" not in text or text.count("**") * 2 < len(text)


def test_a_control_of_another_family_or_version_is_judged_but_by_no_scorer() -> None:
    exact = {"family": "gcd", "difficulty": "easy", "seed": 3, "answer": "no longer this"}
    for control in (exact, exact | {"family": "gone"}, exact | {"difficulty": "gone"}):
        assert scored(control, "12") is None
        found = seen({"control": control, "response": "It is \\boxed{no longer this}."})
        verdicts = Verdicts()
        verdicts.add([found])
        assert verdicts.of(found, found.label) is True and not list(verdicts.beside_scorers([found]))


def test_a_file_without_controls_is_copied_and_a_warning_says_so(tmp_path: Path) -> None:
    source = tmp_path / "x.jsonl"
    theirs: list[dict[str, Any]] = [{"group": "placebo"}, {"family": ["gcd"], "difficulty": 1, "seed": "x", "answer": None}]
    source.write_bytes(b"".join(encode({"id": n, "instruction": "a", "control": one}) + b"\n" for n, one in enumerate(theirs)))
    done = program("measure", "--input_file", source)
    assert done.returncode == 0 and "nothing was measured" in done.stderr
    assert (tmp_path / "x_measured.jsonl").read_bytes() == source.read_bytes()
    assert not read_run_file(tmp_path / "x_measured.run.json").measured


@pytest.mark.parametrize(("total", "planted_by_itself"), [("199", "0"), ("200", "20"), ("1000", "50"), ("300", "20")])
def test_a_job_of_200_and_more_has_controls_by_itself(total: str, planted_by_itself: str) -> None:
    job = load_job("main")
    settings = dict.fromkeys(job.settings, "") | {"model": "smollm2", "total": total, "votes": "4", "filter": "sft"}
    found = derived(job, settings)
    assert (found["planted"], found["has_controls"]) == (planted_by_itself, "true" if planted_by_itself != "0" else "")
    assert derived(job, settings | {"planted": "7"})["planted"] == "7"
    assert derived(job, settings | {"planted": "0"})["has_controls"] == ""
    assert derived(job, settings, earlier={"total": total})["planted"] == "0"  # begun before there were any
