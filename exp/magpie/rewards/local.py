"""Local reward models: loading each kind, and its head over the hidden states.

The backbone is transformers' own; heads that transformers does not implement are read from the model's weights.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, log
from magpie.compute.batching import by_tokens, for_each_batch
from magpie.rewards.base import STEP_TOKEN, Conversation, Steps, loading_error, with_steps

BATCH_TOKENS, GPU_BATCH_TOKENS = 4096, 65_536
"""Tokens in a batch without and with a GPU."""
UNLIMITED = 10**9
"""Tokenizers without a limit report a larger number."""


class LocalModel(ABC):
    """A reward model in transformers, run in batches of similar length."""

    has_steps = False

    def __init__(self, name: str, tokenizer: Any, backbone: Any, batch_tokens: int | None) -> None:
        self.name = Path(name).resolve().name if Path(name).is_dir() else name
        self._tokenizer, self._backbone = tokenizer, backbone.eval()
        config = backbone.config.get_text_config()
        self._most = min(getattr(config, "max_position_embeddings", None) or UNLIMITED, tokenizer.model_max_length)
        self._budget = batch_tokens or (BATCH_TOKENS if backbone.device.type == "cpu" else GPU_BATCH_TOKENS)
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        if not tokenizer.chat_template:
            raise MagpieError(f"the reward model {name!r} has no chat template, so its input format is unknown")

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where it exceeds the model's context."""
        inputs = [self._ids(self._escape_special_tokens(conversation)) for conversation in conversations]
        fitting = [index for index, ids in enumerate(inputs) if len(ids) <= self._most]
        batches = [[fitting[at] for at in batch] for batch in by_tokens([len(inputs[i]) for i in fitting], self._budget)]
        found: list[Steps | None] = [None] * len(inputs)

        def score(batch: list[int]) -> None:
            scores = self._batch([inputs[index] for index in batch], [conversations[index] for index in batch])
            for index, steps in zip(batch, scores, strict=True):
                found[index] = steps

        for_each_batch(batches, score, self._backbone.device.type)
        return found

    def _escape_special_tokens(self, turns: Conversation) -> Conversation:
        """Return a conversation without special tokens in its text: a response could end its own turn with one."""
        return [
            turn | {"content": self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", turn["content"])}
            for turn in turns
        ]

    def _ids(self, turns: Conversation, **options: Any) -> list[int]:
        ids: list[int] = self._tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **options)
        return ids

    def _padded(self, batch: list[list[int]]) -> Any:
        """Return the token ids of a batch as a tensor (batch, longest), padded on the right."""
        import torch

        longest = max(map(len, batch))
        return torch.tensor([each + [0] * (longest - len(each)) for each in batch], device=self._backbone.device)

    def _hidden(self, batch: list[list[int]]) -> Any:
        """Return the hidden states of a batch, shape (batch, longest, size), for a causal network.

        No token attends to the padding on its right, so no mask is needed: with one, attention takes a slower path.
        """
        return self._backbone(input_ids=self._padded(batch), use_cache=False).last_hidden_state

    @abstractmethod
    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        """Return the scores of a batch: token ids, and the conversations that they encode."""


class Classifier(LocalModel):
    """A decoder with a sequence classification head of one label over the last token's hidden state.

    Transformers' own forward takes the last token that is not the padding token: the wrong one if a template ends with that
    token.
    """

    def __init__(self, name: str, tokenizer: Any, model: Any, batch_tokens: int | None) -> None:
        super().__init__(name, tokenizer, model.base_model, batch_tokens)
        self._head = model.score

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch

        last = self._hidden(batch)[torch.arange(len(batch)), [len(ids) - 1 for ids in batch]]
        return [[score] for score in self._head(last).float().squeeze(-1).tolist()]


class WholeModel(LocalModel):
    """A model whose own forward pass gives the reward: encoder classifiers, and remote code."""

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch

        ids = self._padded(batch)
        lengths = torch.tensor([[len(each)] for each in batch], device=ids.device)
        output = self._backbone(input_ids=ids, attention_mask=(torch.arange(ids.shape[1], device=ids.device) < lengths).long())
        scores = output.score if getattr(output, "score", None) is not None else output.logits
        if scores.numel() != len(batch):
            raise MagpieError(
                f"{self.name} gives scores of shape {tuple(scores.shape)} for {len(batch)} responses, not one reward each"
            )
        return [[score] for score in scores.float().reshape(-1).tolist()]


class GatedModel(LocalModel):
    """ArmoRM (Wang et al., 2406.12845): objectives at the last token, weighted by a gate at the problem's last token."""

    def __init__(self, name: str, tokenizer: Any, backbone: Any, batch_tokens: int | None, config: dict[str, Any]) -> None:
        super().__init__(name, tokenizer, backbone, batch_tokens)
        tensors = _tensors(name, ("regression_layer.", "reward_transform_matrix", "gating."), backbone.device)
        try:
            self._objectives = tensors["regression_layer.weight"]
            self._mixing = tensors["reward_transform_matrix"]
            self._scale = tensors["gating.logit_scale"]
            numbers = sorted({int(key.split(".")[2]) for key in tensors if key.startswith("gating.layers.")})
            self._layers = [(tensors[f"gating.layers.{n}.weight"], tensors.get(f"gating.layers.{n}.bias")) for n in numbers]
        except (KeyError, ValueError) as error:
            raise MagpieError(f"the reward model {name!r} does not have ArmoRM's head ({error} is missing)") from error
        self._temperature = float(config.get("gating_temperature", 10))

    def _gate(self, hidden: Any) -> Any:
        from torch.nn import functional

        for number, (weight, bias) in enumerate(self._layers):
            hidden = functional.linear(hidden if not number else functional.relu(hidden), weight, bias)
        return functional.softmax(hidden / self._temperature, dim=-1) * self._scale[0]

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch

        hidden, rows = self._hidden(batch).float(), torch.arange(len(batch))
        last = hidden[rows, [len(ids) - 1 for ids in batch]]
        # the problem's last token: the one before the header of the response's turn
        ends = [len(self._ids(self._escape_special_tokens(conversation[:-1]))) - 1 for conversation in turns]
        rewards = last @ self._objectives.T @ self._mixing
        return [[score] for score in (self._gate(hidden[rows, ends]) * rewards).sum(-1).tolist()]


class ProcessModel(LocalModel):
    """Qwen2.5-Math-PRM: the probability that each step is right, from a two-layer head at the separator after it."""

    has_steps = True

    def __init__(self, name: str, tokenizer: Any, backbone: Any, batch_tokens: int | None) -> None:
        super().__init__(name, tokenizer, backbone, batch_tokens)
        self._separator = tokenizer.convert_tokens_to_ids(STEP_TOKEN)
        if self._separator is None or self._separator == tokenizer.unk_token_id:
            raise MagpieError(f"the tokenizer of the process reward model {name!r} does not know {STEP_TOKEN}")
        tensors = _tensors(name, ("score.",), backbone.device)
        try:
            self._first = tensors["score.0.weight"], tensors["score.0.bias"]
            self._second = tensors["score.2.weight"], tensors["score.2.bias"]
        except KeyError as error:
            raise MagpieError(
                f"the reward model {name!r} does not have Qwen2.5-Math-PRM's head ({error} is missing)"
            ) from error

    def _escape_special_tokens(self, turns: Conversation) -> Conversation:
        return with_steps(super()._escape_special_tokens(turns))

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch
        from torch.nn import functional

        hidden = self._hidden(batch)
        scores: list[Steps] = []
        for row, ids in zip(hidden, batch, strict=True):
            ends = torch.tensor([at for at, token in enumerate(ids) if token == self._separator], device=row.device)
            inner = functional.relu(functional.linear(row[ends].float(), *self._first))
            scores.append(functional.linear(inner, *self._second).softmax(-1)[:, 1].tolist())
        return scores


def _tensors(name: str, prefixes: tuple[str, ...], device: Any) -> dict[str, Any]:
    """Return the tensors of a model's weights whose names have one of the prefixes, in float32."""
    import json

    from safetensors import safe_open
    from transformers.utils import cached_file

    found: dict[str, Any] = {}
    index = cached_file(name, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    names = {"model.safetensors"}
    if index:
        files = json.loads(Path(index).read_text())["weight_map"]
        names = {file for key, file in files.items() if key.startswith(prefixes)}
    for file in sorted(names):
        with safe_open(cached_file(name, file), "pt") as tensors:
            found |= {key: tensors.get_tensor(key).float().to(device) for key in tensors.keys() if key.startswith(prefixes)}  # noqa: SIM118
    return found


def _settings(device: str | None) -> dict[str, Any]:
    """Return the device and dtype arguments of `from_pretrained`."""
    import torch

    if device is None and torch.cuda.is_available():
        return {"device_map": "auto", "dtype": "auto"}
    if device not in (None, "cpu"):
        return {"device_map": device, "dtype": "auto"}
    return {"dtype": torch.float32}


def load(name: str, *, trust_remote_code: bool, device: str | None, batch_tokens: int | None) -> LocalModel:
    """Return the reward model of a hub id or folder.

    Raises:
        MagpieError: it is not a reward model, cannot be loaded, or needs remote code that is not trusted.
    """
    from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns that the head's weights are not used: intended
    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
        kind = (config.get("architectures") or ["?"])[0]
        remote = _needs_remote_code(name, kind, config, trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=remote)
        settings = _settings(device)
        if remote:
            return WholeModel(name, tokenizer, _remote_model(name, config, settings), batch_tokens)
        if kind.endswith("ForRewardModelWithGating"):
            return GatedModel(name, tokenizer, _backbone(name, config, settings), batch_tokens, config)
        if kind.endswith("ForProcessRewardModel"):
            return ProcessModel(name, tokenizer, _backbone(name, config, settings), batch_tokens)
        labels = AutoConfig.from_pretrained(name, trust_remote_code=False).num_labels
        if labels != 1:
            raise MagpieError(f"{name!r} has {labels} labels; a reward model has one")
        return _classifier(name, tokenizer, settings, batch_tokens)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise loading_error(name, error) from error


def _needs_remote_code(name: str, kind: str, config: dict[str, Any], trusted: bool) -> bool:
    """Return True if only the model's remote code can run it.

    Raises:
        MagpieError: it is not a reward model, or its remote code is not trusted.
    """
    if kind.endswith(("ForSequenceClassification", "ForRewardModelWithGating", "ForProcessRewardModel")):
        return False
    programs = config.get("auto_map") or {}
    if not programs:
        raise MagpieError(
            f"{name!r} is not a reward model (its architecture is {kind}). Name a sequence classifier with one label "
            "(Skywork-Reward-V2, …), ArmoRM or Qwen2.5-Math-PRM"
        )
    if not trusted:
        files = ", ".join(sorted({str(program).split(".")[0] + ".py" for program in programs.values()}))
        raise MagpieError(
            f"{name!r} ({kind}) comes with remote code ({files}), which would run here with all your permissions. Read it; if "
            "you trust it, add --trust_remote_code"
        )
    log.warning("running the remote code of %s (--trust_remote_code)", name)
    return True


def _backbone(name: str, config: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Return a model without its head, in transformers' own implementation."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    known = CONFIG_MAPPING[config["model_type"]]
    return MODEL_MAPPING[known].from_pretrained(name, config=known.from_pretrained(name), **settings)


def _classifier(name: str, tokenizer: Any, settings: dict[str, Any], batch_tokens: int | None) -> LocalModel:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(name, trust_remote_code=False, **settings)
    kind = Classifier if hasattr(model, "score") and hasattr(model.base_model, "layers") else WholeModel
    return kind(name, tokenizer, model, batch_tokens)


def _remote_model(name: str, config: dict[str, Any], settings: dict[str, Any]) -> Any:
    import transformers

    programs = config["auto_map"]
    kind = "AutoModelForSequenceClassification" if "AutoModelForSequenceClassification" in programs else "AutoModel"
    return getattr(transformers, kind).from_pretrained(name, trust_remote_code=True, **settings)
