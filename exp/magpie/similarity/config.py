"""Words and thresholds of similarity, the list of benchmarks and the rules of contamination."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from magpie.config.load import config_path, load


class SimilarityThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds for two texts to be the same problem; `configs/likeness.yaml` explains each."""

    near_copy: float
    near_places: int
    least_cosine: float
    paraphrase: float
    paraphrase_few: float
    paraphrase_many: float
    cosine_share: float


class NumberWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number words, by their role in a phrase."""

    units: dict[str, int]
    tens: dict[str, int]
    scales: dict[str, int]
    multiples: dict[str, int]
    fractions: dict[str, int]
    ordinals: dict[str, int]
    never_parts: list[str]


class SimilarityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/likeness.yaml`: lists of lower-case words, and patterns as regular expressions."""

    thresholds: SimilarityThresholds
    latex: dict[str, list[str]]
    unicode: dict[str, str]
    functions: list[str]
    symbols: list[str]
    answer_formats: list[str]
    rounding: list[str]
    introductions: list[str]
    meta: list[str]
    talk: list[str]
    instructions: list[str]
    stop_words: list[str]
    telling: list[str]
    unstemmed: list[str]
    synonyms: list[list[str]]
    phrases: dict[str, str]
    labels: list[str]
    presenting: list[str]
    moving: list[str]
    symbol_names: dict[str, str]
    opposites: list[list[str]]
    restrictions: list[list[str]]
    numbers: NumberWords


def load_similarity() -> SimilarityConfig:
    """Return the words and thresholds that decide whether two texts are the same problem."""
    return load(config_path("likeness.yaml"), SimilarityConfig)


class BenchmarkEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test set on the hub; `configs/benchmarks.yaml` explains each key."""

    repo: str
    columns: list[str]
    revision: str | None = None
    configs: list[str] = []
    split: str = "test"
    gated: bool = False
    private: bool = False


class BenchmarkList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/benchmarks.yaml`: canary strings, names of problem columns, and the test sets by name."""

    canaries: list[str]
    columns: list[str]
    benchmarks: dict[str, BenchmarkEntry]


def load_benchmark_list() -> BenchmarkList:
    """Return the test sets of `configs/benchmarks.yaml`."""
    return load(config_path("benchmarks.yaml"), BenchmarkList)


class NGramRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of `configs/contamination.yaml`: `size` in words and symbols, `share` 0 to 1."""

    size: Annotated[int, msgspec.Meta(ge=1)]
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    source: str


class SimilarityWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the similarities of two texts in the logistic score."""

    cosine: float
    numbers: float
    words: float
    formulas: float


class NeighbourRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many nearest neighbours by embedding are checked, and the logistic score that decides."""

    count: Annotated[int, msgspec.Meta(ge=1)]
    least_cosine: float
    least_score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    least_score_near: Annotated[float, msgspec.Meta(ge=0, le=1)]
    near_cosine: float
    vague_cosine: float
    vague_words: float
    intercept: float
    weights: SimilarityWeights


class ContaminationRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/contamination.yaml`: the rules by which a problem counts as one of a benchmark's."""

    ngrams: list[NGramRule]
    neighbours: NeighbourRule


def load_contamination(path: Path | None = None) -> ContaminationRules:
    """Return the contamination rules of a file (default: `configs/contamination.yaml`)."""
    return load(path or config_path("contamination.yaml"), ContaminationRules)
