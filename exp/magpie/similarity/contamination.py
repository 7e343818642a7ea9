"""Contamination: problems that are in a benchmark, which one, and by what method they were found.

First by n-grams of the normalised text, then by the benchmarks' nearest problems by embedding, each scored by the similarity of
embeddings, numbers, words and formulas. The limits and weights are in `configs/contamination.yaml`. No benchmark text
leaves this module.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.common.console import MagpieError
from magpie.records.reading import read_rows
from magpie.records.rows import as_bytes
from magpie.similarity.config import ContaminationRules, NeighbourRule, NGramRule
from magpie.similarity.normalize import NormalizedProblem, normalize
from magpie.similarity.test_sets import Benchmark

if TYPE_CHECKING:
    import numpy as np

MAX_COSINES = 1 << 22
"""Cosines in memory at a time, 4 bytes each."""

SYMBOL_TOLERANCE = 5
"""Added to both counts of symbols, so that small differences hardly matter."""
TELLING_NUMBERS = 2
"""Numbers of more than one digit that must be shared if wording and meaning are far apart."""
PROSE = frozenset(["'", "percent", ",", "(", ")", "[", "]"])
"""Symbols that occur in prose: a farmers' market, 20% off."""


@dataclass(frozen=True)
class Hit:
    """The problem of a benchmark that matches a text.

    Attributes:
        row: its index in the benchmark, from 0; `row_id`: the benchmark's own id.
        method: `exact`, `8-gram`, … or `embedding`.
        score: the share of common n-grams, or the logistic score of the similarities; 0 to 1.
        similarities: the components of a logistic score, by name.
    """

    benchmark: str
    row: int
    row_id: str | int | None
    method: str
    score: float
    similarities: dict[str, float] = field(default_factory=dict)
    private: bool = False

    def evidence(self, record_id: str | int | None) -> dict[str, Any]:
        """Return the record's key `contamination`."""
        found = {"benchmark": self.benchmark, "row": self.row, "row_id": self.row_id, "record_id": record_id}
        found |= {"method": self.method, "score": round(self.score, 4)}
        return found | {name: round(value, 4) for name, value in self.similarities.items()}


class Detector:
    """Finds problems of benchmarks among texts. The benchmarks are normalised and embedded once, at construction."""

    def __init__(
        self, benchmarks: list[Benchmark], rules: ContaminationRules, encode_texts: Callable[[list[str]], np.ndarray]
    ) -> None:
        """Normalise and embed the benchmarks.

        Args:
            benchmarks: at least one problem among them.
            rules: `configs/contamination.yaml`.
            encode_texts: texts → unit vectors, float32, shape (n, dimension).
        """
        rows = [(benchmark, row) for benchmark in benchmarks for row, text in enumerate(benchmark.texts) if text]
        self.rows, self._rules, self._encode = rows, rules, encode_texts
        self.problems = [normalize(benchmark.texts[row]) for benchmark, row in rows]
        self._indices = {problem.key: index for index, problem in reversed(list(enumerate(self.problems))) if problem.key}
        self._ngrams = [NGrams(rule, self.problems) for rule in rules.ngrams]
        self.idf = IdfWeights(self.problems)
        self.vectors = encode_texts([benchmark.texts[row] for benchmark, row in rows])

    def find(self, texts: list[str]) -> list[Hit | None]:
        """Return the matching problem of a benchmark for each text, or None."""
        problems = [normalize(text) for text in texts]
        hits = [self._by_text(problem) for problem in problems]
        left = [index for index, hit in enumerate(hits) if hit is None and texts[index].strip()]
        if left:
            vectors = self._encode([texts[index] for index in left])
            for index, hit in zip(left, self._by_embedding([problems[index] for index in left], vectors), strict=True):
                hits[index] = hit
        return hits

    def _hit(self, index: int, method: str, score: float, similarities: dict[str, float] | None = None) -> Hit:
        benchmark, row = self.rows[index]
        return Hit(benchmark.name, row, benchmark.ids[row], method, score, similarities or {}, benchmark.private)

    def _by_text(self, problem: NormalizedProblem) -> Hit | None:
        """Return the problem with the same normalised text, or with the largest share of common n-grams."""
        if problem.key in self._indices:
            return self._hit(self._indices[problem.key], "exact", 1.0)
        for ngrams in self._ngrams:
            index, share = ngrams.best(problem)
            if index is not None:
                return self._hit(index, f"{ngrams.rule.size}-gram", share)
        return None

    def _by_embedding(self, problems: list[NormalizedProblem], vectors: np.ndarray) -> Iterator[Hit | None]:
        """Yield for each text the matching problem among its nearest neighbours, or None."""
        step = max(1, MAX_COSINES // len(self.rows))
        for start in range(0, len(problems), step):
            block = vectors[start : start + step] @ self.vectors.T
            for problem, cosines in zip(problems[start : start + step], block, strict=True):
                yield self._same(problem, cosines)

    def _same(self, problem: NormalizedProblem, cosines: np.ndarray) -> Hit | None:
        rule = self._rules.neighbours
        best: Hit | None = None
        for index in nearest_indices(cosines, rule):
            found = similarities(problem, self.problems[index], float(cosines[index]), self.idf)
            score = logistic(found, rule)
            vague = found["cosine"] < rule.vague_cosine and found["words"] < rule.vague_words
            if vague and _telling_numbers(problem, self.problems[index]) < TELLING_NUMBERS:
                continue
            least = rule.least_score_near if found["cosine"] >= rule.near_cosine else rule.least_score
            if score >= least and (best is None or score > best.score):
                best = self._hit(index, "embedding", score, found)
        return best


def _telling_numbers(a: NormalizedProblem, b: NormalizedProblem) -> int:
    """Return how many different numbers of more than one digit two problems share."""
    return sum(len(number) > 1 for number in a.numbers.keys() & b.numbers.keys())


def nearest_indices(cosines: np.ndarray, rule: NeighbourRule) -> list[int]:
    """Return the indices of the nearest problems, at most `count`, none below `least_cosine`."""
    import numpy as np

    count = min(rule.count, len(cosines))
    indices = np.argpartition(cosines, -count)[-count:]
    return [int(index) for index in indices if cosines[index] >= rule.least_cosine]


class NGrams:
    """The n-grams of the benchmarks' problems, 12 bytes each: sorted hashes, each with the index of its problem."""

    def __init__(self, rule: NGramRule, problems: list[NormalizedProblem]) -> None:
        import numpy as np

        self.rule = rule
        found = [self._hashes(problem) for problem in problems]
        self._counts = np.array([len(hashes) for hashes in found])
        hashes = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        self._hashes_sorted = hashes[order]
        self._indices = np.repeat(np.arange(len(found), dtype=np.int32), self._counts)[order]

    def _hashes(self, problem: NormalizedProblem) -> np.ndarray:
        """Return the hash of each distinct n-gram; valid within one process."""
        import numpy as np

        tokens, size = problem.text.split(), self.rule.size
        return np.array(list({hash(tuple(tokens[i : i + size])) for i in range(len(tokens) - size + 1)}), dtype=np.int64)

    def best(self, problem: NormalizedProblem) -> tuple[int | None, float]:
        """Return the index of the problem with the largest share of common n-grams, or None below the rule's, and the share."""
        import numpy as np

        hashes = self._hashes(problem)
        first, last = (np.searchsorted(self._hashes_sorted, hashes, side=side) for side in ("left", "right"))
        indices = [self._indices[a:b] for a, b in zip(first, last, strict=True) if a < b]
        if not indices:
            return None, 0.0
        unique, common = np.unique(np.concatenate(indices), return_counts=True)
        shares = common / np.minimum(self._counts[unique], len(hashes))
        best = int(np.argmax(shares))
        return (int(unique[best]) if shares[best] >= self.rule.share else None), float(shares[best])


class IdfWeights:
    """Smoothed inverse document frequencies of words and numbers in the benchmarks' problems."""

    def __init__(self, problems: list[NormalizedProblem]) -> None:
        self._maximum = math.log(len(problems) + 1) + 1
        held = (Counter(word for one in problems for word in one.words), Counter(n for one in problems for n in one.numbers))
        self._words, self._numbers = ({key: self._maximum - math.log(n + 1) for key, n in counts.items()} for counts in held)

    def words(self, words: Iterable[str]) -> float:
        """Return the total weight of words."""
        return sum(self._words.get(word, self._maximum) for word in words)

    def numbers(self, numbers: Iterable[str]) -> float:
        """Return the total weight of numbers."""
        return sum(self._numbers.get(number, self._maximum) for number in numbers)


def similarities(a: NormalizedProblem, b: NormalizedProblem, cosine: float, idf: IdfWeights) -> dict[str, float]:
    """Return the similarities of two problems: `cosine` of their embeddings, `numbers`, `words` and `formulas`, 0 to 1.

    `numbers`: the share of common numbers, weighted by IDF (an optional number, "one", may be missing); 0.5 if neither has
    any. `words`: the weight of common words over that of the text with less. `formulas`: the share of common symbols and
    variables, by count, smoothed by SYMBOL_TOLERANCE: "at most" may replace a symbol.
    """
    numbers = a.numbers.keys() | b.numbers.keys()
    both = (a.numbers.keys() | a.optional_numbers) & (b.numbers.keys() | b.optional_numbers)
    words = min(idf.words(a.words), idf.words(b.words))
    symbols_a, symbols_b = (_formula_symbols(one) for one in (a, b))
    symbols = (symbols_a | symbols_b).total()
    return {
        "cosine": cosine,
        "numbers": idf.numbers(numbers & both) / idf.numbers(numbers) if numbers else 0.5,
        "words": idf.words(a.words.keys() & b.words.keys()) / words if words else 0.0,
        "formulas": (SYMBOL_TOLERANCE + (symbols_a & symbols_b).total()) / (SYMBOL_TOLERANCE + symbols),
    }


def _formula_symbols(problem: NormalizedProblem) -> Counter[str]:
    """Return the counts of a problem's symbols and variables, without those of prose."""
    tokens = (token for token in problem.text.split() if token in problem.symbols or (len(token) == 1 and token.isalpha()))
    return Counter(token for token in tokens if token not in PROSE)


def logistic(found: Mapping[str, float], rule: NeighbourRule) -> float:
    """Return the logistic score of similarities, 0 to 1."""
    total = rule.intercept + sum(getattr(rule.weights, name) * value for name, value in found.items())
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def refuse_canaries(path: Path, canaries: list[str]) -> None:
    """Refuse a data file with a record that contains the canary string of a benchmark.

    Raises:
        MagpieError: names the line.
    """
    marks = [mark.lower().encode() for mark in canaries]
    for row in read_rows(path, None):
        text = (row.data or as_bytes(row.record)).lower()  # a table's rows have no bytes of their own
        if any(mark in text for mark in marks):
            raise MagpieError(
                f"{path}, {row.place}: the record contains the canary string of a benchmark that must never be trained on "
                "(configs/benchmarks.yaml, canaries). Find out how it got there, and remove what came with it"
            )


def certificate(benchmarks: list[Benchmark], dropped: Iterable[dict[str, Any]], methods: dict[str, Any]) -> dict[str, Any]:
    """Return the certificate for a dataset card: the benchmarks, the methods and the hits.

    Args:
        benchmarks: all that the data was compared with.
        dropped: the run's dropped rows; those without `contamination` (malformed ones) do not count.
        methods: the rules and the embedding model.
    """
    found = {benchmark.name: (Counter[str](), set[int]()) for benchmark in benchmarks}
    for row in dropped:
        if hit := row.get("contamination"):
            methods_of, rows_of = found[hit["benchmark"]]
            methods_of[hit["method"]] += 1
            rows_of.add(hit["row"])
    entries = [
        {
            "benchmark": benchmark.name,
            "source": benchmark.source,
            "revision": benchmark.revision,
            "fingerprint": benchmark.fingerprint,
            "rows": len(benchmark.texts),
            "rows_without_problem": benchmark.texts.count(""),
            "hits": found[benchmark.name][0].total(),
            "hits_by_method": dict(found[benchmark.name][0].most_common()),
            "rows_hit": len(found[benchmark.name][1]),
        }
        for benchmark in benchmarks
    ]
    return {"benchmarks": entries, "methods": methods}
