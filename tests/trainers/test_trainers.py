"""TRL's trainers take what the stages write: two steps each of the real model."""

from __future__ import annotations

import copy
import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import program, rows
from magpie import reward
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.export.preference_formats import kto
from magpie.models.checkpoint import files_hash
from magpie.records.rows import encode
from magpie.reporting.rounds import rounds_of
from test_several import EMBEDDED, Model, launched, main_job

MODEL = PROJECT / "models" / "SmolLM2-135M-Instruct"
pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="bash scripts/setup.sh makes the embedded model")


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[Any, Any]]:
    """The model that learns, and itself as it was, which preferences are measured against.

    As float32: without instructions for bfloat16, TRL's own choice, a processor is several times slower.
    """
    import torch
    from transformers import AutoModelForCausalLM

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine
    model = AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=torch.float32)
    yield model, copy.deepcopy(model)
    torch.set_num_threads(threads)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The file of gen_po_pairs.py for four short problems, each with three right answers of five."""
    problems = [
        {
            "id": f"job-{n}",
            "instruction": f"{n} + 2?",
            "responses": [f"\\boxed{{{answer}}}" for answer in answers],
            "finish_reason": ["stop"] * 5,
            "answers": answers,
            "answer_states": ["parsed"] * 5,
            "answer_groups": [0, 0, 0, 1, 2],
            "majority_answer": answers[0],
            "agreement": 0.6,
            "is_correct": [None] * 5,
            "reasoning": ["Two more.", None, "Hm.", "Two less.", None],
            "rewards": [0.5, 0.25, 1.0, 0.75, -1.0],
            "domain": "algebra",
        }
        for n in range(4)
        for answers in [[str(n + 2)] * 3 + [str(n), str(n - 1)]]
    ]
    done = program("gen_po_pairs", "--input_file", write(tmp_path / "job_verified.jsonl", problems))
    assert done.returncode == 0, done.stderr
    return tmp_path / "job_verified_pairs.jsonl"


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """The folder of export.py for four answered problems."""
    answered = [
        {
            "id": n if n == 2 else f"job-{n}",
            "instruction": f"{n} + 1?",
            "response": f"\\boxed{{{n + 1}}}",
            "reasoning": "One more." if n % 2 else None,
            "finish_reason": "stop",
            "domain": "algebra",
            "agreement": 0.5 if n % 2 else None,
        }
        for n in range(4)
    ]
    return exported(write(tmp_path / "job_ins_res.jsonl", answered), "messages", tmp_path / "set")


def exported(source: Path, name: str, folder: Path) -> Path:
    done = program("export", "--input_file", source, "--format", name, "--output_folder", folder)
    assert done.returncode == 0, done.stderr
    return folder


def check_two_steps(
    method: str, source: Path, tmp_path: Path, model: Any, batch: int = 1, settings: dict[str, Any] | None = None, **more: Any
) -> Any:
    """A trainer reads the rows and goes two steps, each of which changes the model."""
    import datasets
    import trl

    cache = str(tmp_path / "cache")
    if source.is_dir():
        train = datasets.load_dataset(str(source), split="train", cache_dir=cache)
    else:
        train = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=cache)
    config = getattr(trl, f"{method}Config")(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=batch,
        gradient_checkpointing=False,
        optim="sgd",  # Adam's moments of every weight take as long as the steps
        learning_rate=0.01,
        use_cpu=True,
        bf16=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        **(settings or {}),
    )
    trainer = getattr(trl, f"{method}Trainer")(model=model, args=config, train_dataset=train, **more)
    before = model.model.norm.weight.detach().clone()
    trainer.train()
    assert trainer.state.global_step == 2
    assert not before.equal(model.model.norm.weight)
    return trainer


def check_losses(trainer: Any) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)


def test_trl_takes_two_steps_on_the_folder(data_set: Path, models: tuple[Any, Any], tmp_path: Path) -> None:
    check_losses(check_two_steps("SFT", data_set, tmp_path, models[0]))


@pytest.mark.parametrize("name", ["sharegpt", "alpaca"])
def test_trl_reads_the_other_formats_as_their_cards_say(
    name: str, data_set: Path, models: tuple[Any, Any], tmp_path: Path
) -> None:
    import trl

    folder = exported(tmp_path / "job_ins_res.jsonl", name, tmp_path / name)
    [snippet] = re.findall(r"(    rows = load_dataset.*?)    SFTTrainer", (folder / "README.md").read_text(), re.DOTALL)
    scope: dict[str, Any] = {"load_dataset": functools.partial(datasets_load, cache=tmp_path / "cache")}
    exec(textwrap.dedent(snippet.replace("THIS_DATASET", str(folder))), scope)
    config = trl.SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to=[])
    trainer = trl.SFTTrainer(models[0], args=config, train_dataset=scope["rows"])
    texts = [trainer.processing_class.decode(row["input_ids"]) for row in trainer.train_dataset]
    assert len(texts) == 4 and all("+ 1?" in text and "\\boxed{" in text for text in texts)


def datasets_load(folder: str, split: str, cache: Path) -> Any:
    import datasets

    return datasets.load_dataset(folder, split=split, cache_dir=str(cache))


def test_trl_takes_two_steps_on_the_pairs_and_two_more_from_there(pairs: Path, models: tuple[Any, Any], tmp_path: Path) -> None:
    """The second round is measured against what the first has trained; the chains around them: the test of two rounds."""
    check_losses(check_two_steps("DPO", pairs, tmp_path, models[0], ref_model=models[1]))
    models[1].load_state_dict(models[0].state_dict())
    check_losses(check_two_steps("DPO", pairs, tmp_path, models[0], ref_model=models[1]))


def test_trl_takes_two_steps_on_the_unpaired_rows(pairs: Path, models: tuple[Any, Any], tmp_path: Path) -> None:
    source = write(tmp_path / "kto.jsonl", [row for record in rows(pairs) for row in kto(record)])
    check_losses(check_two_steps("KTO", source, tmp_path, models[0], batch=2, ref_model=models[1]))


@pytest.mark.long
def test_two_rounds_of_dpo_on_what_the_round_before_has_trained(tmp_path: Path) -> None:
    """Each takes two steps on the pairs that align.sh made; a scripted server responds in the model's place."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, start = AutoTokenizer.from_pretrained(str(MODEL)), MODEL
    digests = []
    with Model(EMBEDDED, 2) as server:
        main_job(tmp_path, server)
        for number in (1, 2):
            more = ["--round", 2, "--model", start] if number == 2 else []
            done = launched("align", server, tmp_path, "--num_responses", 4, "--pairs_per_problem", 4, *more)
            assert done.returncode == 0, done.stderr
            pattern = "*round2*_pairs_dpo.jsonl" if number == 2 else "*4res_verified_pairs_dpo.jsonl"
            [source] = (tmp_path / "job").glob(pattern)
            model = AutoModelForCausalLM.from_pretrained(str(start), dtype="float32")
            check_losses(check_two_steps("DPO", source, tmp_path, model, processing_class=tokenizer))
            start = tmp_path / str(number) / "trained"
            model.save_pretrained(start)
            tokenizer.save_pretrained(start)
            digests.append(files_hash(load_model(str(start))))
    assert len(set(digests)) == 2 and "" not in digests
    first, second = rounds_of(tmp_path / "job")
    assert (first.model, second.model) == (EMBEDDED, f"trained@{digests[0]}") and second.common == 3


def test_trl_takes_two_steps_of_grpo_with_the_verifier_as_its_reward(models: tuple[Any, Any], tmp_path: Path) -> None:
    """Rewards are those of verify.py; the length of a completion is a second one."""
    from transformers import AutoTokenizer

    problems = [{"id": n, "instruction": f"What is {n} + 1?", "majority_answer": str(n + 1)} for n in range(1, 5)]
    source = write(tmp_path / "job_verified.jsonl", problems)
    done = program("export", "--input_file", source, "--format", "rlvr", "--output_folder", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    judged: list[tuple[str, str, float | None]] = []

    def recorded(completions: list[Any], ground_truth: list[str], **more: Any) -> list[float | None]:
        rewards = reward.accuracy(completions, ground_truth, **more)
        judged.extend(zip(map(reward.text_of, completions), ground_truth, rewards, strict=True))
        return rewards

    def length(completions: list[Any], **_: Any) -> list[float]:
        """Return rewards that differ within a group whatever the model knows: without them a step may change nothing."""
        return [len(reward.text_of(completion)) / 100 for completion in completions]

    few = {"num_generations": 4, "max_completion_length": 12, "seed": 0, "use_vllm": False, "beta": 0.0}
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL))
    trained = {"processing_class": tokenizer, "reward_funcs": [recorded, length], "batch": 4, "settings": few}
    try:
        check_two_steps("GRPO", tmp_path / "set", tmp_path, models[0], **trained)
    finally:
        reward.close()
    assert len(judged) == 8 and {score for _, _, score in judged} <= {0.0, 1.0, None}
    records = [
        {"id": n, "instruction": "?", "response": text, "reference_answer": answer}
        for n, (text, answer, _) in enumerate(judged)
    ]
    assert program("verify", "--input_file", write(tmp_path / "x_res.jsonl", records)).returncode == 0
    verdicts = [record["is_correct"] for record in rows(tmp_path / "x_res_verified.jsonl")]
    assert verdicts == [[None if score is None else bool(score)] for _, _, score in judged]
