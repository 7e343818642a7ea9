"""A model's tokenizer and chat template, read from its files: `tokenizers` encodes, a sandboxed Jinja2 renders.

transformers' AutoTokenizer gives the same text and ids, but imports torch: 8 to 10 s of CPU time at every start. It is
the fallback for a model without `tokenizer.json`. (Where transformers 5 rebuilds a tokenizer from a class of its own instead of
reading that file, this module still reads the file.)
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.common.console import MagpieError, printable

if TYPE_CHECKING:
    import jinja2
    from tokenizers import AddedToken

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
ADDED_TOKENS = "added_tokens_decoder"
OLDER = ("special_tokens_map.json", "added_tokens.json")
"""Files of older models, read if tokenizer_config.json lists no tokens."""
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
REASON_CHARACTERS = 300
TODAY = date(2024, 7, 26)
"""The date for templates that put today's into the prompt, so that runs are reproducible: Llama 3.1's example."""
EXTRA, MORE = "extra_special_tokens", "additional_special_tokens"


class Tokenizer:
    """A tokenizer with its chat template.

    Attributes:
        chat_template: the Jinja source; None for a base model's tokenizer.
        special_tokens: name in tokenizer_config.json, like `eos_token` → special token, as chat templates see them.
    """

    def __init__(self, backend: Any, chat_template: str | None, special_tokens: dict[str, str]) -> None:
        self._backend = backend
        self.chat_template = chat_template
        self.special_tokens = special_tokens

    def render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool, **variables: object) -> str:
        """Return a conversation as the chat template renders it.

        Raises:
            jinja2.TemplateError: the template is broken or refuses the conversation. Its expressions may raise other errors,
                and a loop control outside a loop raises a SyntaxError.
        """
        variables = {"tools": None, "documents": None, **self.special_tokens, **variables}
        return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)

    @cached_property
    def _template(self) -> jinja2.Template:
        return compiled(self.chat_template or "")

    @property
    def eos_token_id(self) -> int | None:
        """The id of the tokenizer's end-of-sequence token."""
        token = self.special_tokens.get("eos_token")
        return None if token is None else self._backend.token_to_id(token)

    @cached_property
    def added_tokens(self) -> dict[str, int]:
        """The tokens added to the vocabulary and their ids, in the order of the ids."""
        return {token.content: i for i, token in sorted(self._backend.get_added_tokens_decoder().items())}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, with no special tokens added.

        Raises:
            MagpieError: the model's files are broken.
        """
        with _as_magpie_error("its tokenizer.json cannot encode a text"):
            return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, including special tokens."""
        return str(self._backend.decode(ids, skip_special_tokens=False))

    def decode_each(self, ids: Iterable[int]) -> list[str]:
        """Return the text of each token on its own."""
        return list(self._backend.decode_batch([[i] for i in ids], skip_special_tokens=False))

    def token(self, i: int) -> str:
        """Return the token with an id, as spelled in the vocabulary."""
        return str(self._backend.id_to_token(i))

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size())


class TransformersTokenizer(Tokenizer):
    """The same interface over transformers' AutoTokenizer, for files that only transformers can read."""

    def __init__(self, auto: Any) -> None:
        super().__init__(auto, _default(auto.chat_template), auto.special_tokens_map)

    @property
    def eos_token_id(self) -> int | None:  # noqa: D102 - as above
        return None if self._backend.eos_token_id is None else int(self._backend.eos_token_id)

    @cached_property
    def added_tokens(self) -> dict[str, int]:  # noqa: D102
        return dict(sorted(self._backend.get_added_vocab().items(), key=lambda pair: pair[1]))

    def encode(self, text: str) -> list[int]:  # noqa: D102
        with _as_magpie_error("its tokenizer cannot encode a text"):
            return list(self._backend.encode(text, add_special_tokens=False))

    def decode_each(self, ids: Iterable[int]) -> list[str]:  # noqa: D102
        return list(self._backend.batch_decode([[i] for i in ids], skip_special_tokens=False))

    def token(self, i: int) -> str:  # noqa: D102
        return str(self._backend.convert_ids_to_tokens(i))

    def __len__(self) -> int:
        return len(self._backend)


def compiled(source: str) -> jinja2.Template:
    """Return a compiled chat template.

    It has the extensions of transformers: `raise_exception`, `strftime_now`, `tojson`, loop controls and `{% generation %}`
    blocks, which only trainers use.

    Raises:
        jinja2.TemplateSyntaxError: it cannot be read.
    """
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlocks(Extension):
        tags = {"generation"}  # noqa: RUF012 - Jinja's own interface

        def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("written"), [], [], body, lineno=line)

        def written(self, caller: Callable[[], str]) -> str:
            return caller()

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment.from_string(source)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter would escape what HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:  # the name that templates use
    return TODAY.strftime(format)


def load_tokenizer(source: str, chat_template: str | None = None) -> Tokenizer:
    """Return the tokenizer of a folder or of a model of the hub.

    Args:
        source: the folder or the hub id.
        chat_template: used if the files have none.

    Raises:
        MagpieError: it cannot be loaded, or there is no chat template.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with _as_magpie_error(f"no tokenizer can be loaded from {source}"):
        file = model_file(source, TOKENIZER)
        tokenizer = _from_files(source, file) if file else _from_transformers(source)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = chat_template or None
    if tokenizer.chat_template is None:
        raise MagpieError(f"the tokenizer at {source} has no chat template: a base model? Use an instruct model")
    return tokenizer


@contextlib.contextmanager
def _as_magpie_error(what: str) -> Iterator[None]:
    """Turn any failure into a MagpieError of one line: `tokenizers` raises bare Exceptions, and panics outside them."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MagpieError(f"{what} ({printable(lines[0], REASON_CHARACTERS)}). Name another one with --tokenizer") from error


def model_file(source: str, name: str) -> Path | None:
    """Return a file of a model, from its folder or from the hub; None if the model has no such file.

    Raises:
        OSError: the hub does not provide it.
    """
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source, name))
    except EntryNotFoundError:  # not in the repository, or offline and not in the cache
        return None


def _read(source: str, name: str) -> dict[str, Any]:
    path = model_file(source, name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path else {}


def _from_files(source: str, file: Path) -> Tokenizer:
    import tokenizers

    backend = tokenizers.Tokenizer.from_buffer(file.read_bytes())
    config = _read(source, CONFIG)
    older, ids = ({}, {}) if ADDED_TOKENS in config else (_read(source, name) for name in OLDER)
    named, unnamed = _special_tokens(config, older, backend.padding or {})
    backend.add_tokens(_tokens_to_add(config.get(ADDED_TOKENS), ids, backend.get_added_tokens_decoder(), named, unnamed))
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = bool(config.get("split_special_tokens"))
    template = model_file(source, TEMPLATE)
    text = template.read_text(encoding="utf-8") if template else _chat_template(config)
    return Tokenizer(backend, text, {name: token.content for name, token in named.items()})


def _special_tokens(
    config: dict[str, Any], older: dict[str, Any], padding: dict[str, Any]
) -> tuple[dict[str, AddedToken], list[AddedToken]]:
    """Return the special tokens by name, in the order in which new ones get ids, and those without a name."""
    own = {"pad_token": padding.get("pad_token"), **config, **older}
    unnamed = own.get(EXTRA) or own.get(MORE) or []
    named = dict.fromkeys(NAMED) | {key: token for key, token in own.items() if key.endswith("_token")}
    if isinstance(unnamed, dict):
        named, unnamed = named | unnamed, []
    return {name: _token(token) for name, token in named.items() if isinstance(token, str | dict)}, list(map(_token, unnamed))


def _token(token: str | dict[str, Any]) -> AddedToken:
    """Return a special token, which a file gives as text or with flags."""
    from tokenizers import AddedToken

    if isinstance(token, str):
        return AddedToken(token, special=True)
    return AddedToken(**{key: value for key, value in token.items() if key in FLAGS})  # AddedToken would print any other key


def _tokens_to_add(
    listed: dict[str, Any] | None,
    ids: dict[str, int],
    existing: dict[int, AddedToken],
    named: dict[str, AddedToken],
    unnamed: list[AddedToken],
) -> list[AddedToken]:
    """Return the tokens to add to those of tokenizer.json, or to replace one there with other flags.

    Args:
        listed: id → token of tokenizer_config.json, if it has a list.
        ids: token → id of added_tokens.json.
        existing: id → token of tokenizer.json.
        named: special tokens by name, added if they are in no file above.
        unnamed: more special tokens.
    """
    from tokenizers import AddedToken

    special = {token.content for token in (*(named[name] for name in NAMED if name in named), *unnamed)}
    own = {i: AddedToken(text, normalized=text not in special, special=text in special) for text, i in ids.items()}
    known = own | existing if listed is None else {int(i): _token(token) for i, token in listed.items()}
    added = [token for _, token in sorted(known.items(), key=lambda pair: pair[0])]
    texts = {token.content for token in (*existing.values(), *added)}
    for token in (*named.values(), *unnamed):
        if token.content not in texts and token not in added:
            added.append(token)
    names = {token.content for token in named.values()}
    for token in added:
        token.special = token.special or token.content in names
    return added


def _chat_template(config: dict[str, Any]) -> str | None:
    """Return the chat template of tokenizer_config.json; the default one if there are several."""
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {named["name"]: named["template"] for named in found}
    return _default(found)


def _default(templates: Any) -> str | None:
    return templates.get("default") if isinstance(templates, dict) else templates


def _from_transformers(source: str) -> Tokenizer:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    return TransformersTokenizer(
        AutoTokenizer.from_pretrained(source, local_files_only=Path(source).is_dir(), trust_remote_code=False)
    )
