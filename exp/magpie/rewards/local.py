"""Reward models on this machine: how each kind is loaded and what its head makes of the hidden states.

The body of the network is transformers' own; heads that transformers does not know are read from the model's weights.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, log
from magpie.compute.batching import by_tokens, for_each_batch
from magpie.rewards.model import STEP_TOKEN, Conversation, Steps, loading_error, with_steps

BATCH_TOKENS, GPU_BATCH_TOKENS = 4096, 65_536
"""Tokens in a batch without and with a GPU."""
UNLIMITED = 10**9
"""A tokenizer that knows no limit says a larger one."""


class LocalModel(ABC):
    """A reward model through transformers, in batches of about the same length."""

    has_steps = False

    def __init__(self, name: str, tokenizer: Any, body: Any, batch_tokens: int | None) -> None:
        self.name = Path(name).resolve().name if Path(name).is_dir() else name
        self._tokenizer, self._body = tokenizer, body.eval()
        config = body.config.get_text_config()
        self._most = min(getattr(config, "max_position_embeddings", None) or UNLIMITED, tokenizer.model_max_length)
        self._budget = batch_tokens or (BATCH_TOKENS if body.device.type == "cpu" else GPU_BATCH_TOKENS)
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        if not tokenizer.chat_template:
            raise MagpieError(f"the reward model {name!r} has no chat template, so nothing tells how it reads a conversation")

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where it is longer than the model reads."""
        inputs = [self._ids(self._harmless(conversation)) for conversation in conversations]
        fitting = [index for index, ids in enumerate(inputs) if len(ids) <= self._most]
        batches = [[fitting[place] for place in batch] for batch in by_tokens([len(inputs[i]) for i in fitting], self._budget)]
        found: list[Steps | None] = [None] * len(inputs)

        def score(batch: list[int]) -> None:
            scores = self._batch([inputs[index] for index in batch], [conversations[index] for index in batch])
            for index, each in zip(batch, scores, strict=True):
                found[index] = each

        for_each_batch(batches, score, self._body.device.type)
        return found

    def _harmless(self, turns: Conversation) -> Conversation:
        """Return a conversation whose words hold no special tokens: an answer could end its own turn with them."""
        return [
            turn | {"content": self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", turn["content"])}
            for turn in turns
        ]

    def _ids(self, turns: Conversation, **options: Any) -> list[int]:
        ids: list[int] = self._tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **options)
        return ids

    def _padded(self, batch: list[list[int]]) -> Any:
        """Return the ids of a batch, padded on the right."""
        import torch

        longest = max(map(len, batch))
        return torch.tensor([each + [0] * (longest - len(each)) for each in batch], device=self._body.device)

    def _hidden(self, batch: list[list[int]]) -> Any:
        """Return the hidden states of a batch of a causal network.

        No token sees the padding on its right, so no mask is needed: with one, attention takes its slow way.
        """
        return self._body(input_ids=self._padded(batch), use_cache=False).last_hidden_state

    @abstractmethod
    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        """Return the scores of a batch of token ids."""


class Classifier(LocalModel):
    """A sequence classifier of a decoder with one label: its head over the last token's hidden state.

    Transformers' own forward looks for the last token that is not the padding token, which is the wrong one where a template
    ends with that token.
    """

    def __init__(self, name: str, tokenizer: Any, model: Any, batch_tokens: int | None) -> None:
        super().__init__(name, tokenizer, model.base_model, batch_tokens)
        self._head = model.score

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch

        last = self._hidden(batch)[torch.arange(len(batch)), [len(ids) - 1 for ids in batch]]
        return [[score] for score in self._head(last).float().squeeze(-1).tolist()]


class WholeModel(LocalModel):
    """A model that is called as it is: encoders' classifiers, and programs that come with a model."""

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch

        ids = self._padded(batch)
        lengths = torch.tensor([[len(each)] for each in batch], device=ids.device)
        output = self._body(input_ids=ids, attention_mask=(torch.arange(ids.shape[1], device=ids.device) < lengths).long())
        scores = output.score if getattr(output, "score", None) is not None else output.logits
        if scores.numel() != len(batch):
            raise MagpieError(
                f"{self.name} gives {tuple(scores.shape)} numbers for {len(batch)} answers: not a reward for each"
            )
        return [[score] for score in scores.float().reshape(-1).tolist()]


class GatedModel(LocalModel):
    """ArmoRM (Wang et al., 2406.12845): objectives at the last token, weighted by a gate at the problem's last token."""

    def __init__(self, name: str, tokenizer: Any, body: Any, batch_tokens: int | None, config: dict[str, Any]) -> None:
        super().__init__(name, tokenizer, body, batch_tokens)
        tensors = _tensors(name, ("regression_layer.", "reward_transform_matrix", "gating."), body.device)
        try:
            self._objectives = tensors["regression_layer.weight"]
            self._mixing = tensors["reward_transform_matrix"]
            self._scale = tensors["gating.logit_scale"]
            numbers = sorted({int(key.split(".")[2]) for key in tensors if key.startswith("gating.layers.")})
            self._layers = [(tensors[f"gating.layers.{n}.weight"], tensors.get(f"gating.layers.{n}.bias")) for n in numbers]
        except (KeyError, ValueError) as error:
            raise MagpieError(f"the reward model {name!r} has another head than ArmoRM ({error} is missing)") from error
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
        # where the problem ends: the token before the header of the answer's turn
        ends = [len(self._ids(self._harmless(conversation[:-1]))) - 1 for conversation in turns]
        rewards = last @ self._objectives.T @ self._mixing
        return [[score] for score in (self._gate(hidden[rows, ends]) * rewards).sum(-1).tolist()]


class ProcessModel(LocalModel):
    """Qwen2.5-Math-PRM: how likely each step is right, told at the mark behind it by a small network."""

    has_steps = True

    def __init__(self, name: str, tokenizer: Any, body: Any, batch_tokens: int | None) -> None:
        super().__init__(name, tokenizer, body, batch_tokens)
        self._mark = tokenizer.convert_tokens_to_ids(STEP_TOKEN)
        if self._mark is None or self._mark == tokenizer.unk_token_id:
            raise MagpieError(f"the tokenizer of the process reward model {name!r} does not know {STEP_TOKEN}")
        tensors = _tensors(name, ("score.",), body.device)
        try:
            self._first = tensors["score.0.weight"], tensors["score.0.bias"]
            self._second = tensors["score.2.weight"], tensors["score.2.bias"]
        except KeyError as error:
            raise MagpieError(
                f"the reward model {name!r} has another head than Qwen2.5-Math-PRM ({error} is missing)"
            ) from error

    def _harmless(self, turns: Conversation) -> Conversation:
        clean = super()._harmless(turns)
        return with_steps(clean)

    def _batch(self, batch: list[list[int]], turns: list[Conversation]) -> list[Steps]:
        import torch
        from torch.nn import functional

        hidden = self._hidden(batch)
        scores: list[Steps] = []
        for row, ids in zip(hidden, batch, strict=True):
            marks = torch.tensor([place for place, token in enumerate(ids) if token == self._mark], device=row.device)
            inner = functional.relu(functional.linear(row[marks].float(), *self._first))
            scores.append(functional.linear(inner, *self._second).softmax(-1)[:, 1].tolist())
        return scores


def _tensors(name: str, prefixes: tuple[str, ...], device: Any) -> dict[str, Any]:
    """Return the tensors of a model's weights whose names begin so, in float32."""
    import json

    from safetensors import safe_open
    from transformers.utils import cached_file

    found: dict[str, Any] = {}
    index = cached_file(name, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    names = {"model.safetensors"}
    if index:
        places = json.loads(Path(index).read_text())["weight_map"]
        names = {file for key, file in places.items() if key.startswith(prefixes)}
    for file in sorted(names):
        with safe_open(cached_file(name, file), "pt") as tensors:
            found |= {key: tensors.get_tensor(key).float().to(device) for key in tensors.keys() if key.startswith(prefixes)}  # noqa: SIM118
    return found


def _settings(device: str | None) -> dict[str, Any]:
    """Return where a model goes and in which numbers."""
    import torch

    if device is None and torch.cuda.is_available():
        return {"device_map": "auto", "dtype": "auto"}
    if device not in (None, "cpu"):
        return {"device_map": device, "dtype": "auto"}
    return {"dtype": torch.float32}


def load(name: str, *, trust_remote_code: bool, device: str | None, batch_tokens: int | None) -> LocalModel:
    """Return the reward model of a hub id or folder.

    Raises:
        MagpieError: it is none, it cannot be loaded, or it needs a program that is not trusted.
    """
    from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # a body loaded without its head is what we want
    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
        kind = (config.get("architectures") or ["?"])[0]
        remote = _needs_its_program(name, kind, config, trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=remote)
        settings = _settings(device)
        if remote:
            return WholeModel(name, tokenizer, _remote_model(name, config, settings), batch_tokens)
        if kind.endswith("ForRewardModelWithGating"):
            return GatedModel(name, tokenizer, _body(name, config, settings), batch_tokens, config)
        if kind.endswith("ForProcessRewardModel"):
            return ProcessModel(name, tokenizer, _body(name, config, settings), batch_tokens)
        labels = AutoConfig.from_pretrained(name, trust_remote_code=False).num_labels
        if labels != 1:
            raise MagpieError(f"{name!r} has {labels} labels, and a reward model has one")
        return _classifier(name, tokenizer, settings, batch_tokens)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise loading_error(name, error) from error


def _needs_its_program(name: str, kind: str, config: dict[str, Any], trusted: bool) -> bool:
    """Whether only the program that comes with the model can run it; refuses what is no reward model, or not trusted."""
    if kind.endswith(("ForSequenceClassification", "ForRewardModelWithGating", "ForProcessRewardModel")):
        return False
    programs = config.get("auto_map") or {}
    if not programs:
        raise MagpieError(
            f"{name!r} is no reward model (its architecture is {kind}). Name a sequence classifier with one label "
            "(Skywork-Reward-V2, …), ArmoRM or Qwen2.5-Math-PRM"
        )
    if not trusted:
        files = ", ".join(sorted({str(program).split(".")[0] + ".py" for program in programs.values()}))
        raise MagpieError(
            f"{name!r} ({kind}) brings its own program ({files}), which would run here with all your rights. Read it; if you "
            "trust it, add --trust_remote_code"
        )
    log.warning("running the program that comes with %s (--trust_remote_code)", name)
    return True


def _body(name: str, config: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Return the network of a model without its head, from transformers' own code."""
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
