"""A model's tokenizer and chat template, read from its files: `tokenizers` encodes, a sandboxed Jinja2 renders.

transformers' AutoTokenizer gives the same text and ids, but imports torch: 8 to 10 s of processor time at every start. It is
asked only where a model has no `tokenizer.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.console import MagpieError

if TYPE_CHECKING:
    import jinja2
    import tokenizers

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that chat templates find under their own names."""


class Tokenizer:
    """A tokenizer with its chat template.

    Attributes:
        chat_template: the Jinja source; None: a base model's tokenizer.
        special_tokens: the special tokens by their names in tokenizer_config.json, like `eos_token`.
    """

    def __init__(self, backend: Any, chat_template: str | None, special_tokens: dict[str, str]) -> None:
        self._backend = backend
        self.chat_template = chat_template
        self.special_tokens = special_tokens

    def render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool, **variables: object) -> str:
        """Return a conversation as the chat template writes it.

        Raises:
            jinja2.TemplateError: the template is broken or refuses the conversation. Its expressions may raise other errors.
        """
        variables = {"tools": None, "documents": None, **self.special_tokens, **variables}
        return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)

    @cached_property
    def _template(self) -> jinja2.Template:
        return compiled(self.chat_template or "")

    @property
    def eos_token_id(self) -> int | None:
        """The id of the token that the tokenizer itself calls the end of a sequence."""
        token = self.special_tokens.get("eos_token")
        return None if token is None else self._backend.token_to_id(token)

    @cached_property
    def added_tokens(self) -> dict[str, int]:
        """The tokens that were added to the vocabulary, with their ids, in the order of the ids."""
        return {token.content: i for i, token in sorted(self._backend.get_added_tokens_decoder().items())}

    def encode(self, text: str) -> list[int]:
        """Return a text's token ids; no special token is put around them."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, special tokens among it."""
        return str(self._backend.decode(ids, skip_special_tokens=False))

    def decode_each(self, ids: Iterable[int]) -> list[str]:
        """Return the text of every token alone."""
        return list(self._backend.decode_batch([[i] for i in ids], skip_special_tokens=False))

    def token(self, i: int) -> str:
        """Return the name of an id in the vocabulary."""
        return str(self._backend.id_to_token(i))

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size())


class TransformersTokenizer(Tokenizer):
    """The same around transformers' AutoTokenizer, for files that only transformers can read."""

    def __init__(self, auto: Any) -> None:
        template = auto.chat_template
        super().__init__(auto, template["default"] if isinstance(template, dict) else template, auto.special_tokens_map)

    @property
    def eos_token_id(self) -> int | None:  # noqa: D102 - as above
        return None if self._backend.eos_token_id is None else int(self._backend.eos_token_id)

    @cached_property
    def added_tokens(self) -> dict[str, int]:  # noqa: D102
        return dict(sorted(self._backend.get_added_vocab().items(), key=lambda pair: pair[1]))

    def encode(self, text: str) -> list[int]:  # noqa: D102
        return list(self._backend.encode(text, add_special_tokens=False))

    def decode_each(self, ids: Iterable[int]) -> list[str]:  # noqa: D102
        return list(self._backend.batch_decode([[i] for i in ids], skip_special_tokens=False))

    def token(self, i: int) -> str:  # noqa: D102
        return str(self._backend.convert_ids_to_tokens(i))

    def __len__(self) -> int:
        return len(self._backend)


def compiled(source: str) -> jinja2.Template:
    """Return a chat template, with what transformers offers to one: `raise_exception`, `strftime_now`, `tojson`, loop controls
    and `{% generation %}` blocks, which mean something to trainers only.

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
            return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

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


def _strftime_now(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)


def load_tokenizer(source: str) -> Tokenizer:
    """Return the tokenizer of a folder or of a model of the hub.

    Raises:
        MagpieError: there is none, or it has no chat template.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        file = model_file(source, TOKENIZER)
        tokenizer = _from_files(source, file) if file else _from_transformers(source)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MagpieError(f"no tokenizer can be loaded from {source} ({reason}). Name one with --tokenizer") from error
    if tokenizer.chat_template is None:
        raise MagpieError(f"the tokenizer at {source} has no chat template: a base model? Use an instruct model")
    return tokenizer


def model_file(source: str, name: str) -> Path | None:
    """Return a file of a model, from its folder or from the hub; None if the model has no such file.

    Raises:
        OSError: the hub does not give it.
    """
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source, name))
    except EntryNotFoundError:  # not in the repository; or not in the cache, and there is no network
        return None


def _read(source: str, name: str) -> dict[str, Any]:
    path = model_file(source, name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path else {}


def _from_files(source: str, file: Path) -> Tokenizer:
    import tokenizers

    backend = tokenizers.Tokenizer.from_buffer(file.read_bytes())
    backend.no_truncation()
    backend.no_padding()
    config = _read(source, CONFIG)
    if "added_tokens_decoder" not in config:  # older models' files
        config |= _read(source, "special_tokens_map.json")
    special = {name: _content(config[name]) for name in NAMED if config.get(name) is not None}
    # tokens that are there already stay as they are
    backend.add_tokens(_added(config))
    backend.add_special_tokens(_special(config, special))
    template = model_file(source, TEMPLATE)
    text = template.read_text(encoding="utf-8") if template else _template_in(config)
    return Tokenizer(backend, text, special)


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _added(config: dict[str, Any]) -> list[tokenizers.AddedToken]:
    """Return the tokens that tokenizer_config.json adds to those of tokenizer.json."""
    from tokenizers import AddedToken

    known = sorted((int(i), token) for i, token in config.get("added_tokens_decoder", {}).items())
    return [AddedToken(**token) for _, token in known]


def _special(config: dict[str, Any], named: dict[str, str]) -> list[tokenizers.AddedToken]:
    """Return the special tokens that tokenizer_config.json names, each a token of its own whatever tokenizer.json says."""
    from tokenizers import AddedToken

    own = [config[key] for key in config if key.endswith("_token") and key not in NAMED and isinstance(config[key], str)]
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    listed = [*named.values(), *own, *(extra.values() if isinstance(extra, dict) else extra)]
    return [AddedToken(text, special=True, normalized=False) for text in map(_content, listed)]


def _template_in(config: dict[str, Any]) -> str | None:
    """Return the chat template of tokenizer_config.json; of several the default one."""
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {named["name"]: named["template"] for named in found}
    return found.get("default") if isinstance(found, dict) else found


def _from_transformers(source: str) -> Tokenizer:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    return TransformersTokenizer(AutoTokenizer.from_pretrained(source, local_files_only=Path(source).is_dir()))
