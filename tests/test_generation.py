"""gen_ins.py, gen_res.py and export.py, with the stub engine and scripted servers; with the real engine: tests/engine."""

from __future__ import annotations

import json

from conftest import program, rows
from magpie.config.model_presets import load_model
from magpie.generation.config import load_openings
from magpie.models.chat_template import ChatTemplate
from scripted_server import MODEL, Reply, ScriptedServer, completion

QUESTIONS = ["What is 2 + 3?", "Solve x^2 = 9 for x.", "How many primes are below 20?", "Differentiate x^3 with respect to x."]


def write_problems(path, count=4):
    lines = [json.dumps({"id": i, "instruction": QUESTIONS[i % 4], "source": "test"}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_newlines_are_part_of_problems_and_no_sample_stops_at_one(tmp_path):
    out, text = tmp_path / "many.jsonl", "Let $x = 1$.\n\nFind $x + 1$.\n"
    arguments = ["--model_path", "smollm2", "--served_model", MODEL, "--total_prompts", 4, "--output_file", out]
    plain = ["--control_tasks", "none", "--no-openings", "--preflight", 0]
    with ScriptedServer(default=Reply(body=completion(text))) as server:
        done = program("gen_ins", *arguments, *plain, "--base_url", server.url)
    assert done.returncode == 0, done.stderr
    assert {r["opening"] for r in rows(out)} == {None}
    assert [r["instruction"] for r in rows(out)] == [text.strip()] * 4
    template = ChatTemplate(load_model("smollm2"))
    assert {r["pre_query_template"] for r in rows(out)} == {template.frame().pre_query}
    for call in server.history:
        assert call.body["prompt"] == template.encode(template.frame().pre_query) and "stop" not in call.body
        assert "\n" not in "".join(map(template._tokenizer.token, call.body["stop_token_ids"]))


def test_a_problem_begins_with_its_opening_which_the_model_continues(tmp_path):
    out, known = tmp_path / "x_ins.jsonl", load_openings().math
    arguments = ["--model_path", "smollm2", "--served_model", MODEL, "--preflight", 0, "--max_in_flight", 1, "--ban_markdown"]
    arguments += ["--total_prompts", 12, "--output_file", out]
    said = " the sum of 3 and 4. What is it?"
    with ScriptedServer(Reply(body=completion(" ")), default=Reply(body=completion(said))) as server:
        done = program("gen_ins", *arguments, "--max_attempts", 6, "--base_url", server.url)
        assert done.returncode == 2 and "made only 5 of 12 clean problems, dropped: 1 empty" in done.stderr, done.stderr
        done = program("gen_ins", *arguments, "--base_url", server.url)  # goes on
        assert done.returncode == 0 and "12 of 13 samples (92%) passed cleaning (1 empty)" in done.stderr, done.stderr
        again = program("gen_ins", *arguments[:-1], tmp_path / "y_ins.jsonl", "--base_url", server.url)
    assert again.returncode == 0, again.stderr
    made = rows(out)
    assert all(r["instruction"] == r["opening"] + said and r["opening"] in known for r in made)
    assert len({r["opening"] for r in made}) > 3 and not any(r["opening"] in r["pre_query_template"][-30:] for r in made)
    assert [r["opening"] for r in made] == [r["opening"] for r in rows(tmp_path / "y_ins.jsonl")]
    template = ChatTemplate(load_model("smollm2"))
    prompts = [call.body["prompt"] for call in server.history]
    assert prompts[1:13] == [template.encode(r["pre_query_template"] + r["opening"]) for r in made]
    # words that open a turn are no markdown: one request per sample, and nothing is banned
    assert len(prompts) == 25 and not any("logit_bias" in call.body for call in server.history)


def test_samples_that_are_not_cleaned_are_not_called_problems(tmp_path):
    out = tmp_path / "x_ins.jsonl"
    arguments = ["--model_path", "smollm2", "--served_model", MODEL, "--preflight", 0, "--no-clean", "--total_prompts", 3]
    with ScriptedServer(default=Reply(body=completion(" me a story about a fox."))) as server:
        done = program("gen_ins", *arguments, "--output_file", out, "--base_url", server.url)
    assert done.returncode == 0 and "3 of 3 samples (100%) are written as sampled" in done.stderr, done.stderr
    assert all("raw_instruction" not in r and r["instruction"].endswith("a fox.") for r in rows(out))


def test_attempts_are_bounded_when_every_sample_is_cut(tmp_path, stub_server):
    out = tmp_path / "cut.jsonl"
    arguments = ["--model_path", "smollm2", "--total_prompts", 5, "--output_file", out, "--max_tokens", 1, "--preflight", 0]
    done = program("gen_ins", *arguments, "--max_attempts", 12, env=stub_server)
    assert done.returncode == 2, done.stderr
    assert "12 samples made only 0 of 5 clean problems" in done.stderr
    assert "cut_at_max_tokens" in done.stderr


def test_answers_keep_every_key_and_what_was_there_before(tmp_path, stub_server):
    source = tmp_path / "x.json"
    records = [{"id": i, "instruction": q, "response": "old" if i == 1 else None, "mine": [i]} for i, q in enumerate(QUESTIONS)]
    records.append({"id": 9, "instruction": "  "})
    source.write_text(json.dumps(records))
    done = program("gen_res", "--model_path", "smollm2", "--input_file", source, "--max_tokens", 200, env=stub_server)
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


def test_a_run_whose_responses_are_template_tokens_stops_and_shows_them(tmp_path):
    source = write_problems(tmp_path / "p.jsonl", 30)
    arguments = ["--model_path", "smollm2", "--served_model", MODEL, "--input_file", source]
    with ScriptedServer(default=Reply(body=completion("<|channel|>analysis"))) as server:
        done = program("gen_res", *arguments, "--base_url", server.url)
        assert done.returncode == 2 and "20 of the first 20" in " ".join(done.stderr.split()), done.stderr
        assert done.stderr.count("<|channel|>analysis") >= 20 and not (tmp_path / "p_res.jsonl").exists()
        assert program("gen_res", *arguments, "--base_url", server.url, "--preflight", 0).returncode == 0
    assert program("export", "--input_file", tmp_path / "p_res.jsonl").returncode in (0, 2)
    assert {row["drop_reason"] for row in rows(tmp_path / "p_res_sharegpt_dropped.jsonl")} == {"template_tokens"}
