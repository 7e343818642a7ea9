"""The domain of a problem without a language model: a linear classifier over its embedding and its words.

The features are the embedding of the problem (LaTeX commands spelled out in English), its hashed words and commands, and the
number of cues of each domain (configs/tagging/domains.yaml). `python benchmarks/domains.py --train` makes the weights,
domains.npz, and measures them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.common.console import MagpieError
from magpie.compute.embedding import Embedder
from magpie.domains.config import DomainCues, load_domain_cues
from magpie.records.schema import DOMAINS

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

WEIGHTS = Path(__file__).with_name("domains.npz")
OTHER_DOMAIN = "other"
"""Not mathematics, or no clear domain."""
LABELS = (*DOMAINS, OTHER_DOMAIN)
BUCKETS = 4096
"""Columns of hashed words. Hashing keeps the training data's words out of the weights."""
LEAST_CONFIDENCE = 0.3
"""Below it the domain is `other`. Measured (docs/LOG.md): below it a domain is wrong more often than right."""
MAX_CHARACTERS = 8_000
"""Characters of a text that are read."""
_WORD = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]{2,}|[\^_=<>+/!|]|\d+")
_LAYOUT = re.compile(
    r"\\(?:mathrm|mathbf|mathit|mathsf|operatorname|text(?:bf|it|rm)?|left|right|q?quad|displaystyle|mathbb|mathcal|[dt]?frac"
    r"|overline|bar|hat|vec)(?![a-zA-Z])"
)
_MATRIX = re.compile(r"\\begin\{[pbvV]?matrix\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{\w+\*?\}")
_PRIME = re.compile(r"\^\{?\\prime(?:\s*\\prime)*\}?|(?<=[a-z])'+(?![a-z])")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_SYMBOL = re.compile(r"[${}\\_^&~\s]+")


class DomainFeatures:
    """The features of texts: embeddings, hashed words, cues."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._config = load_domain_cues()

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, csr_matrix, np.ndarray]:
        """Return embeddings (n, dimension), hashed words (n, BUCKETS; rows of length 1) and cues (n, 2 per domain)."""
        texts = [text[:MAX_CHARACTERS] for text in texts]
        embeddings = self.embedder.encode([spell_out_latex(text, self._config) for text in texts])
        return embeddings, hash_words(texts), self._cues(texts)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [cue_pattern(self._config.cues[domain]) for domain in DOMAINS]

    def _cues(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        flat = [" ".join(text.lower().split()) for text in texts]
        found = [[len(set(pattern.findall(text))) for pattern in self._patterns] for text in flat]
        counts = np.array(found, dtype=np.float32).reshape(len(texts), len(DOMAINS))
        return np.hstack([np.log1p(counts), counts / (counts.sum(axis=1, keepdims=True) + 1)])


def spell_out_latex(text: str, config: DomainCues) -> str:
    """Return a text with LaTeX commands as English words, without markup."""
    text = _PRIME.sub(" derivative ", _LAYOUT.sub(" ", text))
    text = _ENVIRONMENT.sub(" ", _MATRIX.sub(" matrix ", text))
    text = _COMMAND.sub(lambda command: f" {config.commands.get(command[1], command[1])} ", text)
    return _SYMBOL.sub(" ", text).strip()


def cue_pattern(cues: str) -> re.Pattern[str]:
    """Return the pattern of comma-separated cues: the longest first, each at the start of a word."""
    words = sorted({word.strip() for word in cues.split(", ")} - {""}, key=lambda word: (-len(word), word))
    return re.compile("|".join(_one_cue(word) for word in words))


def _one_cue(word: str) -> str:
    start = r"(?<![a-z\\])" if word[0].isalpha() else ""
    return start + re.escape(word) + (r"(?![a-z])" if word[0] == "\\" and word[-1].isalpha() else "")


def hash_words(texts: Sequence[str]) -> csr_matrix:
    """Return the hashed words, commands and signs of each text, shape (n, BUCKETS), rows of length 1."""
    import numpy as np
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    starts, values = [0], []
    for text in texts:
        words = {"#" if word.isdigit() else word.lower() for word in _WORD.findall(text)}
        held = sorted({zlib.crc32(word.encode()) % BUCKETS for word in words})
        columns += held
        values += [len(held) ** -0.5 for _ in held]
        starts.append(len(columns))
    return csr_matrix((np.array(values, dtype=np.float32), columns, starts), shape=(len(texts), BUCKETS))


class DomainTagger:
    """The domain classifier; its labels are records.schema.DOMAINS and `other`."""

    def __init__(self, weights: Path = WEIGHTS, *, device: str | None = None) -> None:
        """Load the weights, which `benchmarks/domains.py --train` has written; `device` as torch names it.

        Raises:
            MagpieError: the weights cannot be read.
        """
        import numpy as np

        try:
            with np.load(weights, allow_pickle=False) as stored:
                self._weights: dict[str, Any] = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise MagpieError(f"{weights}: not weights of the domain classifier ({error})") from error
        self.name = f"embedding:{self._weights['model']}"
        self._features = DomainFeatures(Embedder(str(self._weights["model"]), device=device))

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of each label, shape (n, 7), in the order of `LABELS`."""
        import numpy as np

        if not texts:
            return np.zeros((0, len(LABELS)), dtype=np.float32)
        w = self._weights
        embeddings, words, cues = self._features(texts)
        logits = embeddings @ w["embedding"] + words @ w["words"].astype(np.float32) + cues @ w["cues"] + w["bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def tag_with_confidence(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Return each text's domain and its probability; `other` if none reaches LEAST_CONFIDENCE."""
        return [label_of(row) for row in self.probabilities(texts)]

    def tag(self, texts: Sequence[str]) -> list[str]:
        """Return each text's domain."""
        return [domain for domain, _ in self.tag_with_confidence(texts)]


def label_of(row: np.ndarray) -> tuple[str, float]:
    """Return the label and the confidence of one row of probabilities."""
    best = int(row.argmax())
    return (LABELS[best] if row[best] >= LEAST_CONFIDENCE else OTHER_DOMAIN), float(row[best])
