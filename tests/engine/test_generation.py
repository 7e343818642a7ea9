"""gen_ins.py, gen_res.py and export.py with the real engine and the real model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from conftest import program, rows
from magpie.configs import load_domain, load_model
from magpie.templates import ChatTemplate

QUESTIONS = ["What is 2 + 3?", "Solve x^2 = 9 for x.", "How many primes are below 20?", "Differentiate x^3 with respect to x."]


def write_problems(path, count=4):
    lines = [json.dumps({"id": i, "instruction": QUESTIONS[i % 4], "source": "test"}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_problems_are_balanced_over_fields_and_say_how_they_were_steered(tmp_path, engine):
    out = tmp_path / "job_ins.jsonl"
    arguments = ["--model_path", "smollm2", "--max_tokens", 300, "--output_file", out, "--task_templates"]
    arguments += ["--domain", "algebra", "geometry", "number_theory"]
    done = program("gen_ins", *arguments, "--total_prompts", 12, env=engine)
    assert done.returncode == 0, done.stderr
    made = rows(out)
    assert [r["id"] for r in made] == [f"job-{i:06d}" for i in range(12)]
    fields = [r["target_domain"] for r in made]
    assert {f: fields.count(f) for f in fields} == {"algebra": 4, "geometry": 4, "number_theory": 4}
    for r in made:
        assert r["instruction"].strip() == r["instruction"] != ""
        assert r["template_id"] in {t.id for t in load_domain(r["target_domain"]).task_templates}
        assert r["pre_query_template"].startswith("<|im_start|>system\n")
        assert r["pre_query_template"].endswith("<|im_end|>\n<|im_start|>user\n")
        assert "<|im_" not in r["instruction"]
        assert r["gen_input_configs"]["input_generator"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert len({r["instruction"] for r in made}) > 9
    run = json.loads(out.with_suffix(".run.json").read_text())
    dropped = rows(tmp_path / "job_ins_dropped.jsonl")
    assert run["status"] == "complete"
    assert run["counts"]["read"] == 12 + len(dropped)
    assert sum(run["counts"]["dropped"].values()) == len(dropped)
    assert run["tokens"]["completion"] > 12
    assert engine["MAGPIE_API_KEY"] not in out.with_suffix(".run.json").read_text() + done.stderr
    assert "preflight:" in done.stderr
    again = program("gen_ins", *arguments, "--total_prompts", 13, env=engine)
    assert again.returncode == 2
    assert "--total_prompts was 12, is 13" in again.stderr


def test_newlines_are_part_of_problems_and_no_sample_stops_at_one(tmp_path, engine):
    out = tmp_path / "many.jsonl"
    arguments = [
        "--model_path",
        "smollm2",
        "--total_prompts",
        24,
        "--output_file",
        out,
        "--control_tasks",
        "none",
        "--max_tokens",
        256,
    ]
    done = program("gen_ins", *arguments, "--temperature", 1, "--top_p", 1, "--preflight", 0, env=engine)
    assert done.returncode == 0, done.stderr
    assert any("\n" in r["instruction"] for r in rows(out))
    template = ChatTemplate(load_model("smollm2"))
    assert {r["pre_query_template"] for r in rows(out)} == {template.frame().pre_query}


def test_first_token_options_change_how_problems_begin(tmp_path, engine):
    out = tmp_path / "first.jsonl"
    arguments = ["--model_path", "smollm2", "--total_prompts", 16, "--output_file", out, "--preflight", 0]
    done = program("gen_ins", *arguments, "--max_tokens", 200, "--first_token_temperature", 1.5, "--ban_markdown", env=engine)
    assert done.returncode == 0, done.stderr
    made = rows(out)
    assert len(made) == 16
    assert not any(r["instruction"].startswith(("#", "*", "`", "|")) for r in made)
    assert len({r["instruction"].split()[0] for r in made}) >= 6


LLAMA_TEMPLATE = """<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>

{{ m['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""


def test_preflight_stops_a_run_under_the_template_of_another_family_and_shows_it(tmp_path, engine):
    """What the replaced system did for all of its problems: Llama's tokens on a model that does not know them."""
    right = load_model("smollm2")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for file in Path(right.path).iterdir():
        (wrong / file.name).symlink_to(file)
    (wrong / "chat_template.jinja").unlink()
    (wrong / "chat_template.jinja").write_text(LLAMA_TEMPLATE)
    out = tmp_path / "junk.jsonl"
    arguments = ["--total_prompts", 40, "--output_file", out, "--max_tokens", 120]
    done = program("gen_ins", *arguments, "--model_path", wrong, "--served_model", right.model, env=engine)
    assert done.returncode == 2, done.stderr
    assert "of the first 20 samples are bad" in done.stderr
    assert "preflight sample 1 [" in done.stderr
    assert "derived from the tokenizer: '<|begin_of_text|><|start_header_id|>user" in done.stderr
    assert not out.exists()
    configured = program("gen_ins", *arguments, "--model_path", "smollm2", "--tokenizer", wrong, "--overwrite", env=engine)
    assert configured.returncode == 2
    assert "<|im_start|>user" in configured.stderr
    assert "<|start_header_id|>user" in configured.stderr


def test_attempts_are_bounded_when_every_sample_is_cut(tmp_path, engine):
    out = tmp_path / "cut.jsonl"
    arguments = ["--model_path", "smollm2", "--total_prompts", 5, "--output_file", out, "--max_tokens", 1, "--preflight", 0]
    done = program("gen_ins", *arguments, "--max_attempts", 12, env=engine)
    assert done.returncode == 2, done.stderr
    assert "12 samples made only 0 problems" in done.stderr
    assert "cut_at_max_tokens" in done.stderr


def test_answers_keep_every_key_and_what_was_there_before(tmp_path, engine):
    source = tmp_path / "x.json"
    records = [{"id": i, "instruction": q, "response": "old" if i == 1 else None, "mine": [i]} for i, q in enumerate(QUESTIONS)]
    records.append({"id": 9, "instruction": "  "})
    source.write_text(json.dumps(records))
    done = program("gen_res", "--model_path", "smollm2", "--input_file", source, "--max_tokens", 200, env=engine)
    assert done.returncode == 0, done.stderr
    answered = rows(tmp_path / "x_res.jsonl")
    assert [r["id"] for r in answered] == [0, 1, 2, 3]
    assert [r["mine"] for r in answered] == [[0], [1], [2], [3]]
    assert answered[1]["previous"] == {"response": "old"}
    assert "previous" not in answered[0]
    for r in answered:
        assert r["response"]
        assert r["reasoning"] is None
        assert r["finish_reason"] in ("stop", "length", "repetition")
        assert 0 < r["completion_tokens"] <= 200
        assert r["gen_response_configs"]["temperature"] == 0.2
    [dropped] = rows(tmp_path / "x_res_dropped.jsonl")
    assert (dropped["id"], dropped["drop_reason"]) == (9, "empty_instruction")
    assert "╭" in done.stderr  # the finished examples


def test_the_model_gets_the_chat_template_once_with_the_boxed_instruction():
    template = ChatTemplate(load_model("smollm2"))
    ids = template.prompt("What is 1+1?")
    assert ids.count(1) == 3  # <|im_start|>: system, user, assistant; no BOS before them
    assert ids == template.encode(template.frame().pre_query + "What is 1+1?" + template.frame().after)


def test_several_answers_are_lists_of_one_length(tmp_path, engine):
    source = write_problems(tmp_path / "p.jsonl")
    arguments = ["--model_path", "smollm2", "--input_file", source, "--num_responses", 3, "--temperature", 0.9]
    done = program("gen_res", *arguments, "--max_tokens", 120, env=engine)
    assert done.returncode == 0, done.stderr
    answered = rows(tmp_path / "p_3res.jsonl")
    assert [r["id"] for r in answered] == [0, 1, 2, 3]
    for r in answered:
        assert "response" not in r
        lengths = {len(r[key]) for key in ("responses", "reasoning", "finish_reason", "completion_tokens")}
        assert lengths == {3}
    assert any(len(set(r["responses"])) > 1 for r in answered)


def test_cut_answers_are_marked_and_go_on_with_retry_length(tmp_path, engine):
    source = write_problems(tmp_path / "p.jsonl")
    arguments = ["--model_path", "smollm2", "--input_file", source, "--temperature", 0, "--max_tokens", 20]
    short = program("gen_res", *arguments, "--output_file", tmp_path / "short.jsonl", env=engine)
    longer = program("gen_res", *arguments, "--output_file", tmp_path / "long.jsonl", "--retry_length", 200, env=engine)
    assert short.returncode == longer.returncode == 0, short.stderr + longer.stderr
    cut = rows(tmp_path / "short.jsonl")
    assert {r["finish_reason"] for r in cut} == {"length"}
    for a, b in zip(cut, rows(tmp_path / "long.jsonl"), strict=True):
        assert b["completion_tokens"] > 20 == a["completion_tokens"]
        assert b["response"].startswith(a["response"][:40])


def test_rows_that_cannot_be_answered_are_dropped_with_their_reason(tmp_path, engine):
    source = tmp_path / "mixed.jsonl.gz"
    lines = ['{"id": "a", "instruction": "What is 3 times 4?"}', '{"id": "b", "instruc', '{"instruction": "What is 5 - 2?"}']
    lines.append(json.dumps({"id": "c", "instruction": "one " * 6000}))
    source.write_bytes(gzip.compress("\n".join(lines).encode()))
    refused = program("gen_res", "--model_path", "smollm2", "--input_file", source, "--max_tokens", 50, env=engine)
    assert refused.returncode == 2
    assert "line 2" in refused.stderr
    arguments = ["--model_path", "smollm2", "--input_file", source, "--max_tokens", 50, "--skip_malformed"]
    done = program("gen_res", *arguments, env=engine)
    assert done.returncode == 0, done.stderr
    assert [r["id"] for r in rows(tmp_path / "mixed_res.jsonl")] == ["a", "mixed-000003"]
    dropped = rows(tmp_path / "mixed_res_dropped.jsonl")
    assert [r["drop_reason"] for r in dropped] == ["malformed", "prompt_too_long"]
    run = json.loads((tmp_path / "mixed_res.run.json").read_text())
    assert run["counts"] == {"read": 4, "written": 2, "dropped": {"malformed": 1, "prompt_too_long": 1}}


def test_sharegpt_holds_finished_answers_with_their_reasoning(tmp_path):
    source = tmp_path / "s_res.jsonl"
    base = {"instruction": "1+1?", "response": "2", "finish_reason": "stop"}
    records = [
        base | {"id": "plain", "reasoning": None},
        base | {"id": "thought", "reasoning": "one and one"},
        base | {"id": "cut", "finish_reason": "length"},
        base | {"id": "loop", "finish_reason": "repetition"},
        {"id": "none", "instruction": "1+1?"},
    ]
    source.write_text("".join(json.dumps(r) + "\n" for r in records))
    done = program("export", "--input_file", source)
    assert done.returncode == 0, done.stderr
    made = rows(tmp_path / "s_res_sharegpt.jsonl")
    assert made == [
        {"conversation_id": "plain", "conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
        {
            "conversation_id": "thought",
            "conversations": [
                {"from": "human", "value": "1+1?"},
                {"from": "gpt", "value": "<think>\none and one\n</think>\n\n2"},
            ],
        },
    ]
    reasons = [r["drop_reason"] for r in rows(tmp_path / "s_res_sharegpt_dropped.jsonl")]
    assert reasons == ["unfinished_length", "unfinished_repetition", "no_response"]
