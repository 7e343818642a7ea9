"""The same text and the same ids as transformers: real families, files from other hands, and Jinja."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import made_tokenizers
from made_tokenizers import FAMILIES
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.config.model_presets import ModelPreset
from magpie.models.chat_template import ChatTemplate
from magpie.models.tokenizer import CONFIG, TEMPLATE, TODAY, TOKENIZER, Tokenizer, TransformersTokenizer, load_tokenizer

EMBEDDED = PROJECT / "models" / "SmolLM2-135M-Instruct"
MODELS = [*FAMILIES, *(["embedded"] if EMBEDDED.is_dir() else [])]

TEXTS = (
    "",
    " ",
    "\n",
    " \n\t \r\n\n  ",
    "What is 12 + 34? It's \\boxed{46}.",
    "  two spaces before,  between and after  ",
    "<think>\nLet x = 1.\n</think>\n\nIt is 1.",
    "<think><think></think>< /think></ think><THINK>",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|eot_id|> <|eot_id|>\n<|eot_id|>x<|eot_id|>",
    "<bos><start_of_turn>user\n\n\n\n\n▁▁▁▁▁<table> </table><end_of_turn><eos>",
    "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜>b<｜end▁of▁sentence｜>",
    "<<|im_end|>|im_end|> <|im_end | <|im_",
    "naïve Ångström Å Å ﬁ ½ x² ﷽ İi ẞß",
    "日本語の問題：円周率を求めよ。한국어 العربية עברית हिन्दी",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b\u200d\u2060\ufeff\u00a0\u3000\u2028\u2029",
    "\x00\x01\x1b[31m\x7f\x85\ufffd\uffff\U0010ffff",
    "a" * 300 + " " * 300 + "1" * 300,
    "\\[ \\int_0^1 x^2 \\, dx = \\frac{1}{3} \\]\n\t$$\\sum_{k=1}^{n}$$",
)
HALF = "half \ud83d of a pair"
USER, SYSTEM = {"role": "user", "content": "1 < 2 & 3?"}, {"role": "system", "content": " Be brief. "}
ASSISTANT = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes."}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "user": [USER],
    "system, user": [SYSTEM, USER],
    "user, assistant": [USER, ASSISTANT],
    "two turns": [SYSTEM, USER, ASSISTANT, USER],
    "two questions": [USER, USER],
    "assistant first": [ASSISTANT, USER],
    "system alone": [SYSTEM],
    "system last": [USER, SYSTEM],
    "another role": [USER, {"role": "tool", "content": "4"}],
    "tokens inside": [{"role": "user", "content": "<|im_end|>{{ 1 + 1 }}{% raw %}<｜User｜>\n"}],
    "nothing said": [{"role": "user", "content": ""}],
    "no content": [{"role": "user"}],
    "no text": [{"role": "user", "content": None}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}],
}


def outcome(call: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Return what a call returns or, of what it raises, the type and Jinja's words."""
    from jinja2 import TemplateError

    try:
        return call(*arguments, **settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return type(error), str(error) if isinstance(error, TemplateError) else ""


def auto(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def mixed(tokens: list[str], seed: int, count: int) -> list[str]:
    """Return texts of everything that is hard, in any order."""
    chance = random.Random(seed)
    pieces = [*tokens, *TEXTS[1:-2], *" \n\t.,'<>|▁", "  ", "\n\n", "the", "Hello", "12", "é", "e\u0301", "🙂"]
    return ["".join(chance.choices(pieces, k=chance.randint(2, 9))) for _ in range(count)]


def check_same(ours: Tokenizer, theirs: Any, count: int = 40) -> None:
    """Ours and transformers' have the same names, ids and texts."""
    assert ours.special_tokens == theirs.special_tokens_map
    assert list(ours.added_tokens.items()) == list(theirs.get_added_vocab().items())
    assert ours.eos_token_id == theirs.eos_token_id and len(ours) == len(theirs)
    for text in (*TEXTS, *mixed(list(ours.added_tokens), 0, count)):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ids) == theirs.decode(ids), text
    assert outcome(theirs.encode, HALF, add_special_tokens=False)[0] is TypeError
    with pytest.raises(MagpieError, match="cannot encode a text"):
        ours.encode(HALF)
    for conversation in (CONVERSATIONS["user"], CONVERSATIONS["two turns"]):
        check_rendered(ours, theirs, conversation)


def check_rendered(ours: Tokenizer, theirs: Any, messages: list[dict[str, Any]], **variables: object) -> None:
    for ask in (False, True):
        settings: dict[str, Any] = {"add_generation_prompt": ask, **variables}
        wanted = outcome(theirs.apply_chat_template, messages, tokenize=False, **settings)
        assert outcome(ours.render, messages, **settings) == wanted


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """A model's tokenizer, ours and transformers'."""
    name = request.param
    folder = EMBEDDED if name == "embedded" else made_tokenizers.make(name, tmp_path_factory.mktemp(name) / name)
    return load_tokenizer(str(folder)), auto(folder)


# --- families ----------------------------------------------------------------------------------------------------------


def test_names_ids_and_texts_are_those_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    check_same(*pair, count=300)


def test_every_token_alone_is_that_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    numbers = range(len(ours))
    assert ours.decode_each(numbers) == theirs.batch_decode([[i] for i in numbers])
    assert [ours.token(i) for i in numbers] == theirs.convert_ids_to_tokens(list(numbers))


@pytest.mark.parametrize("said", CONVERSATIONS)
def test_a_conversation_is_rendered_or_refused_as_by_transformers(pair: tuple[Tokenizer, Any], said: str) -> None:
    variables: tuple[dict[str, Any], ...] = (
        {},
        {"date_string": "26 Jul 2024"},
        {"enable_thinking": False},
        {"bos_token": "X"},
    )
    for more in variables:
        check_rendered(*pair, CONVERSATIONS[said], **more)


# --- files from other hands --------------------------------------------------------------------------------------------

Edit = Callable[[dict[str, Any], dict[str, Any], Path], object]
SHOWN = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}|{{ audio }}|{{ messages[-1].content }}"
STRIPPING = {"content": "<|strips|>", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False}
TYPED = {"__type": "AddedToken", **STRIPPING}


def decoder(inner: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    """Return tokenizer.json's added tokens as tokenizer_config.json lists them, and more behind them."""
    there = {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in inner["added_tokens"]}
    return there | {str(10_000 + number): token for number, token in enumerate(more)}


def without(inner: dict[str, Any], content: str) -> object:
    """Take a token off tokenizer.json's list."""
    return inner["added_tokens"].remove(token_of(inner, content))


def token_of(inner: dict[str, Any], content: str) -> dict[str, Any]:
    return next(token for token in inner["added_tokens"] if token["content"] == content)


def write(folder: Path, name: str, content: object) -> int:
    text = content if isinstance(content, str) else json.dumps(content)
    return (folder / name).write_text(text, encoding="utf-8")


def templates(*named: tuple[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "template": f"{name}: {text}"} for name, text in named]


TWO = templates(("default", SHOWN), ("tool_use", SHOWN))
PADDING = {
    "strategy": {"Fixed": 20},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 3,
    "pad_type_id": 0,
    "pad_token": "<|im_here|>",
}
TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
PLAIN = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}

NO_CONFIG = "no tokenizer_config.json"
VARIANTS: dict[str, Edit] = {
    "tokens that tokenizer_config.json alone has": lambda config, inner, folder: config.update(
        added_tokens_decoder=decoder(inner, STRIPPING | {"special": False}, {**PLAIN, "content": "<|one|>", "special": True})
    ),
    "other flags in tokenizer_config.json": lambda config, inner, folder: config.update(
        added_tokens_decoder={
            number: token | {"lstrip": token["content"] == "<|eot_id|>", "normalized": True}
            for number, token in decoder(inner).items()
        }
    ),
    "tokens in the order of texts": lambda config, inner, folder: config.update(
        added_tokens_decoder={
            "99": {**PLAIN, "content": "<|b|>", "special": True},
            "100": {**PLAIN, "content": "<|a|>", "special": True},
            "9": {**PLAIN, "content": "<|c|>", "special": True},
        }
    ),
    "a list of no tokens": lambda config, inner, folder: config.update(added_tokens_decoder={}),
    "a special token that strips in tokenizer.json": lambda config, inner, folder: token_of(inner, "<|eot_id|>").update(
        lstrip=True, rstrip=True, normalized=True
    ),
    "a special token that is not special in tokenizer.json": lambda config, inner, folder: token_of(inner, "<|eot_id|>").update(
        special=False, normalized=True
    ),
    "special tokens that tokenizer.json lacks": lambda config, inner, folder: (
        without(inner, "<|eot_id|>"),
        config.update(pad_token="<|pad|>", unk_token="a", mask_token="<|begin_of_text|>"),
    ),
    "special tokens with flags": lambda config, inner, folder: config.update(
        pad_token=TYPED, sep_token=TYPED, eos_token="<|end|>"
    ),
    "special tokens with flags, and a list": lambda config, inner, folder: config.update(
        added_tokens_decoder=decoder(inner, STRIPPING | {"special": False}), eos_token="<|strips|>"
    ),
    "a special token that is null": lambda config, inner, folder: config.update(bos_token=None, pad_token=None),
    "special_tokens_map.json": lambda config, inner, folder: (
        config.pop("bos_token"),
        write(folder, "special_tokens_map.json", {"bos_token": "<|eot_id|>", "eos_token": STRIPPING, "my_token": "<|my|>"}),
    ),
    "special_tokens_map.json beside a list": lambda config, inner, folder: (
        config.update(added_tokens_decoder=decoder(inner)),
        write(folder, "special_tokens_map.json", {"bos_token": "<|other|>", "eos_token": STRIPPING}),
    ),
    "special_tokens_map.json with more": lambda config, inner, folder: write(
        folder, "special_tokens_map.json", {"additional_special_tokens": ["<|one|>", "<|two|>"]}
    ),
    "special_tokens_map.json with a dict": lambda config, inner, folder: write(
        folder, "special_tokens_map.json", {"extra_special_tokens": {"audio": "<|audio|>"}}
    ),
    "added_tokens.json": lambda config, inner, folder: (
        config.update(pad_token="<|pad|>"),
        write(folder, "added_tokens.json", {"<|late|>": 9000, "<|pad|>": 8999, "<|eot_id|>": 5}),
    ),
    "added_tokens.json beside a list": lambda config, inner, folder: (
        config.update(added_tokens_decoder=decoder(inner)),
        write(folder, "added_tokens.json", {"<|late|>": 9000}),
    ),
    "extra_special_tokens as a list": lambda config, inner, folder: config.update(
        extra_special_tokens=["<|one|>", TYPED, "<|eot_id|>", "What"], additional_special_tokens=["<|two|>"]
    ),
    "extra_special_tokens as a dict": lambda config, inner, folder: config.update(
        extra_special_tokens={"image_token": "<|image|>", "audio": TYPED}
    ),
    "one token under two names": lambda config, inner, folder: config.update(
        pad_token=TYPED, mask_token=TYPED | {"lstrip": False}, extra_special_tokens=["<|strips|>"]
    ),
    "additional_special_tokens": lambda config, inner, folder: config.update(
        additional_special_tokens=["<|two|>", "<|one|>"], extra_special_tokens=[]
    ),
    "tokens of a model's own": lambda config, inner, folder: config.update(
        image_token="<|image|>", boi_token="<|eot_id|>", add_bos_token=True
    ),
    "split_special_tokens": lambda config, inner, folder: config.update(split_special_tokens=True),
    "truncation": lambda config, inner, folder: inner.update(truncation=TRUNCATION),
    "padding": lambda config, inner, folder: inner.update(padding=PADDING, truncation=TRUNCATION),
    "padding, and a pad token": lambda config, inner, folder: (
        inner.update(padding=PADDING),
        config.update(pad_token="<|pad|>"),
    ),
    "padding, and no pad token": lambda config, inner, folder: (inner.update(padding=PADDING), config.update(pad_token=None)),
    "no eos token": lambda config, inner, folder: config.pop("eos_token"),
    NO_CONFIG: lambda config, inner, folder: config.clear(),
}
TEMPLATES: dict[str, Edit] = {
    "in tokenizer_config.json": lambda config, inner, folder: config.update(chat_template=SHOWN),
    "several": lambda config, inner, folder: config.update(chat_template=TWO),
    "several in a dict": lambda config, inner, folder: config.update(chat_template={"rag": "no", "default": SHOWN}),
    "no default": lambda config, inner, folder: config.update(chat_template=TWO[1:]),
    "in both files": lambda config, inner, folder: (
        config.update(chat_template="not this"),
        write(folder, TEMPLATE, "{# file #}" + SHOWN + "\r\n {% if true %}\n\r\n{% endif %}"),
    ),
    "in the file, several beside it": lambda config, inner, folder: (
        config.update(chat_template=TWO),
        write(folder, TEMPLATE, SHOWN),
    ),
    "nowhere": lambda config, inner, folder: None,
    "empty": lambda config, inner, folder: config.update(chat_template=""),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's files as its makers left them."""
    folder = made_tokenizers.make("llama-3", tmp_path_factory.mktemp("llama") / "model")
    write(folder, TEMPLATE, SHOWN)
    return folder


def edited(source: Path, folder: Path, edit: Edit, *, template: bool) -> Path:
    """Make a folder of the files as somebody else left them."""
    folder.mkdir()
    config, inner = (json.loads((source / name).read_text(encoding="utf-8")) for name in (CONFIG, TOKENIZER))
    if template:
        write(folder, TEMPLATE, SHOWN)
    edit(config, inner, folder)
    if config:
        write(folder, CONFIG, config)
    write(folder, TOKENIZER, inner)
    return folder


def check_same_files(folder: Path) -> None:
    """Ours and transformers' read the same out of a folder."""
    ours, theirs = load_tokenizer(str(folder)), auto(folder)
    check_same(ours, theirs)
    read = {i: repr(token) for i, token in ours._backend.get_added_tokens_decoder().items()}
    assert read == {i: repr(token) for i, token in theirs.added_tokens_decoder.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_files_from_other_hands_are_read_as_transformers_does(llama: Path, tmp_path: Path, name: str) -> None:
    check_same_files(edited(llama, tmp_path / "model", VARIANTS[name], template=True))


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": [{"nameless": "x"}]},
        {"added_tokens_decoder": {"first": STRIPPING}},
        ["no", "dict"],
    ],
    ids=["template without a name", "no number", "a list"],
)
def test_broken_files_are_refused_as_by_transformers(llama: Path, tmp_path: Path, config: Any) -> None:
    folder = edited(llama, tmp_path / "model", lambda *_: None, template=False)
    write(folder, CONFIG, config)
    assert isinstance(outcome(auto, folder), tuple)
    with pytest.raises(MagpieError, match="no tokenizer can be loaded"):
        load_tokenizer(str(folder))


def test_a_folder_without_any_tokenizer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = made_tokenizers.make_broken("no tokenizer", tmp_path / "model")
    assert isinstance(outcome(auto, folder), tuple)
    with pytest.raises(MagpieError, match=r"no tokenizer can be loaded from .*--tokenizer") as error:
        ChatTemplate(ModelPreset(model="owner/name", folder=str(folder)))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_chat_template_is_the_one_that_transformers_finds(llama: Path, tmp_path: Path, name: str) -> None:
    folder = edited(llama, tmp_path / "model", TEMPLATES[name], template=False)
    theirs = outcome(auto(folder).apply_chat_template, [USER], tokenize=False)
    if isinstance(theirs, str):
        assert load_tokenizer(str(folder)).render([USER], add_generation_prompt=False) == theirs
    else:
        assert theirs[0] is ValueError
        with pytest.raises(MagpieError, match="no chat template"):
            load_tokenizer(str(folder))


# --- tokenizers of transformers' own classes ---------------------------------------------------------------------------


def words(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and the merges of a folder's tokenizer.json."""
    model = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"])
def test_what_a_class_of_transformers_saves_is_read_without_it(llama: Path, tmp_path: Path, name: str) -> None:
    import transformers

    vocabulary, merges = words(llama)
    vocabulary |= {
        token: len(vocabulary) + i for i, token in enumerate(("<unk>", "<pad>", "<s>", "</s>", "<bos>", "<eos>", "▁"))
    }
    made = getattr(transformers, name)(vocab=vocabulary, merges=merges)
    made.chat_template = SHOWN
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))["tokenizer_class"] == name
    theirs = auto(tmp_path)
    assert type(theirs).__name__ == name
    check_same(load_tokenizer(str(tmp_path)), theirs)


def test_a_model_without_tokenizer_json_is_read_by_transformers_itself(llama: Path, tmp_path: Path) -> None:
    vocabulary, merges = words(llama)
    write(tmp_path, "vocab.json", vocabulary)
    write(tmp_path, "merges.txt", "#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": TWO}
    write(tmp_path, CONFIG, config)
    ours, theirs = load_tokenizer(str(tmp_path)), auto(tmp_path)
    assert isinstance(ours, TransformersTokenizer)
    check_same(ours, theirs)
    numbers = range(len(theirs))
    assert ours.decode_each(numbers) == theirs.batch_decode([[i] for i in numbers])
    assert [ours.token(i) for i in numbers] == theirs.convert_ids_to_tokens(list(numbers))
    write(tmp_path, CONFIG, config | {"chat_template": TWO[1:]})
    with pytest.raises(MagpieError, match="no chat template"):
        load_tokenizer(str(tmp_path))


# --- Jinja -------------------------------------------------------------------------------------------------------------

VALUE = {"b": "<a href='x'>&amp;\"é日🙂</a>", "a": [1, 2.5, None, True], "\u2028": "\x00\n"}
VARIABLES: dict[str, Any] = {"value": VALUE, "text": "  <b>\n", "half": HALF, "numbers": [3, 1, 2], "nan": float("nan")}
FORBIDDEN = (
    "{{ messages.append(1) }}",
    "{{ messages.pop() }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update(role='x') }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].setdefault('x', 1) }}",
    "{{ messages[0].__setitem__('role', 'x') }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ().__class__.__bases__[0].__subclasses__() }}",
)
SNIPPETS = (
    *FORBIDDEN,
    # JSON
    "{{ value | tojson }}",
    "{{ value | tojson(indent=2) }}",
    "{{ value | tojson(true) }}",
    "{{ value | tojson(ensure_ascii=true) }}",
    "{{ value | tojson(false, 4) }}",
    "{{ value | tojson(separators=(',', ':')) }}",
    "{{ value | tojson(sort_keys=true) }}",
    "{{ value | tojson(true, 1, (', ', ' : '), true) }}",
    "{{ value | tojson(nonsense=1) }}",
    "{{ text | tojson }}{{ '</script>' | tojson | length }}{{ nan | tojson }}{{ none | tojson }}{{ (1, 2) | tojson }}",
    "{{ half | tojson }}{{ half | tojson(ensure_ascii=true) }}",
    "{{ missing | tojson }}",
    "{{ namespace(a=1) | tojson }}",
    "{{ messages | tojson }}",
    # what transformers offers
    "{{ strftime_now('%d %b %Y %H:%M') }}{{ strftime_now('') }}",
    "{{ strftime_now(format='%d') }}",
    "{{ strftime_now() }}",
    "{{ raise_exception(message='not so') }}",
    "{{ raise_exception('not so: ' ~ messages[0].content) }}",
    "{% if false %}{{ raise_exception('never') }}{% endif %}well",
    # generation blocks
    "a{% generation %}b{{ messages[0].content }}{% endgeneration %}c",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% generation %}{% set y = 2 %}{{ y }}{% endgeneration %}{{ y }}",
    "{% set n = namespace(x=1) %}{% generation %}{% set n.x = 2 %}{% endgeneration %}{{ n.x }}",
    "{% generation %}a{% generation %}b{% set z = 1 %}{% endgeneration %}{{ z }}c{% endgeneration %}",
    "{% for m in messages %}{% generation %}{{ loop.index }}{{ m.role }}{% endgeneration %}{% endfor %}",
    "{% for m in messages %}{% generation %}{% continue %}{% endgeneration %}{% endfor %}",
    "{% for m in messages %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% generation %}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}{% endgeneration %}",
    "{% macro m(x) %}{% generation %}{{ x }}{{ caller is defined }}{% endgeneration %}{% endmacro %}{{ m(1) }}",
    "{% macro m(x) %}{% generation %}{{ caller() }}{% endgeneration %}{% endmacro %}{% call m(1) %}called{% endcall %}",
    "{% generation %}{% macro q() %}q{% endmacro %}{{ q() }}{% endgeneration %}{{ q is defined }}",
    "{%- generation -%}\n  x\n{%- endgeneration -%}\n y",
    "{% generation %}\n  x\n{% endgeneration %}\n y",
    "{% generation %}open",
    "{% endgeneration %}",
    "{% generation x %}{% endgeneration %}",
    # loops
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% break %}",
    "{% continue %}",
    "{% for m in messages %}{{ loop.index0 }}{{ loop.previtem.role if not loop.first }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}{% for k, v in value | dictsort %}{{ k }}{% endfor %}",
    "{% for m in messages recursive %}{{ loop([]) }}{% endfor %}",
    "{{ range(10 ** 6) | length }}",
    "{% for i in numbers | sort %}{% set last = i %}{% endfor %}{{ last }}",
    # scopes
    "{% set n = namespace(found=false) %}{% for m in messages %}{% set n.found = m.role %}{% endfor %}{{ n.found }}",
    "{% macro say(m, end='!') %}{{ m.role }}{{ end }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ say(messages[0], 1, 2, x=3) }}",
    "{% macro down(i) %}{{ i }}{% if i %}{{ down(i - 1) }}{% endif %}{% endmacro %}{{ down(3) }}",
    "{% macro down(i) %}{{ down(i + 1) }}{% endmacro %}{{ down(0) }}",
    "{% set block %}<{{ text }}>{% endset %}{{ block }}{{ block | length }}",
    "{% with a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% filter upper %}abc{{ text }}{% endfilter %}",
    "{% include 'x' %}",
    "{% import 'x' as x %}",
    "{% extends 'x' %}",
    "{% block b %}{{ messages[0].role }}{% endblock %}{{ self.b() }}",
    # white space
    "  {% if true %}\n  a\n  {% endif %}\n  b\n",
    "\n{% if true %}\n\n{{ 1 }}\n\n{% endif %}\n\n",
    "  {%+ if true %}\n  a\n{% endif +%}\n b  {# note #}\n c{##}\n",
    "\t{{- 1 -}}\n\n {{ 2 }}\n",
    "{{ 'a\n b' }}{{ 'a\\n b' }}\r\n{% raw %} {{ x }} {% endraw %}\r\n",
    # what is not there
    "{{ missing }}|{{ messages[0].missing }}|{{ messages[9] }}|{{ value['no'] }}|{{ missing is defined }}",
    "{{ missing.attribute }}",
    "{{ messages[9].content }}",
    "{{ missing + 'a' }}",
    "{{ missing() }}",
    "{{ 'a' + missing }}",
    "{{ missing | default('d') }}{{ '' | default('e', true) }}{{ missing | length }}",
    "{{ none.x }}|{{ none | trim }}|{{ 'a' ~ none }}",
    "{{ none + 'a' }}",
    "{{ messages[0].content + 1 }}",
    "{{ text | nosuchfilter }}",
    "{{ text is nosuchtest }}",
    "{% nosuchtag %}",
    "{{ (",
    "{% for m in messages %}",
    "{% if tools is none and documents is none %}none{% else %}some{% endif %}{{ tools }}{{ documents }}",
    "{% for t in tools %}{% endfor %}",
    "{{ tools | length }}",
    "{{ add_generation_prompt }}{{ messages is sequence }}{{ messages | map(attribute='role') | list }}{{ bos_token }}",
    "{{ messages | selectattr('role', 'eq', 'user') | list | length }}{{ messages[::-1][0].role }}{{ value.items() | first }}",
    "{{ numbers | max }}{{ numbers | sum }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ 1 / 4 }}{{ '%05.2f' | format(1.5) }}",
    "{{ 1 // 0 }}",
    "{{ 1 % 0 }}",
    "{{ 1 / 0 }}",
    "{{ messages[0].content[100] }}|{{ messages[0].content[:3] }}",
    "{{ text | e }}{{ text | safe }}{{ text | escape | string }}{{ '<b>' }}{{ text.strip() }}{{ text.split('<') }}",
    "{{ messages[0]['content'].startswith('1') and 'x' in 'xy' and 'user' in messages[0].values() }}",
    "{{ 'a,b'.split(',')[-1].rjust(3) }}{{ 'abc'.replace('b', '') }}{{ '{} {x}'.format(1, x=2) }}{{ 'a'.join(['b', 'c']) }}",
    # what changes nothing and shows nothing
    "{% set messages[0] = 1 %}",
    "{% set messages.x = 1 %}",
    "{% do messages.append(1) %}",
    "{{ messages.__class__ }}",
    "{{ messages['__class__'] }}",
    "{{ messages | attr('__class__') }}",
    "{{ ''['__class__'] }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__code__ }}",
    "{{ strftime_now.__closure__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ namespace.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ open('/etc/passwd') }}{{ __import__ }}",
    "{{ dict(a=1).a }}{{ joiner(', ')() }}{{ cycler(1, 2).next() }}",
)


class Frozen(datetime):
    """The day that templates are told, for transformers too."""

    @classmethod
    def now(cls, tz: Any = None) -> Frozen:
        return cls(TODAY.year, TODAY.month, TODAY.day)


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    from transformers.utils import chat_template_utils

    with mock.patch.object(chat_template_utils, "datetime", Frozen):
        yield


def rendered(snippet: str, messages: list[dict[str, Any]], **settings: Any) -> str:
    return Tokenizer(None, snippet, {}).render(messages, **settings)


def rendered_by_transformers(snippet: str, messages: list[dict[str, Any]], **settings: Any) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, _ = render_jinja_template(conversations=[messages], chat_template=snippet, **settings)
    return texts[0]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_jinja_is_that_of_transformers(snippet: str) -> None:
    messages = [copy.deepcopy(USER), copy.deepcopy(ASSISTANT)]
    for ask in (False, True):
        settings: dict[str, Any] = {"add_generation_prompt": ask, "bos_token": "<s>", **VARIABLES}
        wanted = outcome(rendered_by_transformers, snippet, messages, **settings)
        assert outcome(rendered, snippet, messages, **settings) == wanted
    assert messages == [USER, ASSISTANT]


def test_a_template_changes_no_message_and_gets_at_nothing_behind_it() -> None:
    from jinja2.exceptions import SecurityError

    refused = [outcome(rendered, snippet, [USER], add_generation_prompt=True) for snippet in FORBIDDEN]
    assert {kind for kind, _ in refused} == {SecurityError}


def test_whatever_a_template_raises_is_told_in_a_line_with_what_to_do(llama: Path, tmp_path: Path) -> None:
    folder = edited(llama, tmp_path / "model", lambda *_: None, template=True)
    raising = [s for s in SNIPPETS if isinstance(outcome(rendered, s, [USER], add_generation_prompt=True), tuple)]
    assert len(raising) > 50
    for snippet in raising:
        write(folder, TEMPLATE, snippet)
        with pytest.raises(MagpieError, match=r"fails: .*--tokenizer") as error:
            ChatTemplate(ModelPreset(model="owner/name", folder=str(folder)))
        assert "\n" not in str(error.value)


# --- hostile files -----------------------------------------------------------------------------------------------------

EVIL = """from transformers import PreTrainedTokenizer
open({marker!r}, "w").close()
class EvilTokenizer(PreTrainedTokenizer): pass
"""
DEEP = "[" * 100_000
HOSTILE_FILES: dict[str, tuple[str, str]] = {
    "escapes in what a template raises": (TEMPLATE, "{{ raise_exception('\\x1b[31mRED\\x07') }}"),
    "a template that raises a book": (TEMPLATE, "{{ raise_exception('x' * 1000000) }}"),
    "a template that writes a book": (TEMPLATE, "{{ 'x' * 2000000 }}{{ messages[-1].content }}"),
    "a template that takes all memory": (TEMPLATE, "{{ 'x' * 10000000000000000 }}{{ messages[-1].content }}"),
    "half a character": (TEMPLATE, "{{ '\\ud800' }}{{ messages[-1].content }}"),
    "a deep config": (CONFIG, DEEP),
    "escapes in tokenizer.json": (TOKENIZER, '{"version": "\\u001b[31mx"}'),
    "a charsmap that is none": (
        TOKENIZER,
        '{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "model": {}}',
    ),
    "an end of sequence that is a word": ("generation_config.json", '{"eos_token_id": "x"}'),
    "an end of sequence beyond all tokens": ("generation_config.json", '{"eos_token_id": [1, 1180591620717411303424]}'),
    "a generation config that is a number": ("generation_config.json", "5"),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_what_hostile_files_lead_to_is_one_short_line_without_escapes(tmp_path: Path, name: str) -> None:
    folder = made_tokenizers.make("smollm2", tmp_path / "model")
    file, content = HOSTILE_FILES[name]
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(MagpieError) as error:
        ChatTemplate(ModelPreset(model="owner/name", folder=str(folder))).prompt("1 + 1?")
    told = str(error.value)
    assert "\n" not in told and "\x1b" not in told and len(told) < 1000


def test_a_models_own_program_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_tokenizers.make("smollm2", tmp_path / "model")
    (folder / TOKENIZER).unlink()
    (folder / CONFIG).write_text('{"auto_map": {"AutoTokenizer": ["tokenization_evil.EvilTokenizer", null]}}')
    marker = tmp_path / "ran"
    (folder / "tokenization_evil.py").write_text(EVIL.format(marker=str(marker)))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it was asked about"))
    with pytest.raises(MagpieError, match="no tokenizer can be loaded"):
        load_tokenizer(str(folder))
    assert not marker.exists()
