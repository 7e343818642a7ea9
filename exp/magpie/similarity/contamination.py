"""Contamination: whether a problem is one of a benchmark's, which one, and how that was found.

First by n-grams of the normalised text, then by the nearest problems of the benchmarks by embedding, each of which is checked
for being the same problem: how like are the embeddings, the numbers, the words, the formulas? The limits and weights are in
`configs/contamination.yaml`. No text of a benchmark leaves this module.
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
from magpie.similarity.config import ContaminationRules, NeighbourRule, NGramRule
from magpie.similarity.normalize import Reading, read
from magpie.similarity.test_sets import Benchmark

if TYPE_CHECKING:
    import numpy as np

_read = read.__wrapped__
"""Without its cache: a text comes once, and memory must not grow with the input."""
MOST_SIMILARITIES = 1 << 22
"""Similarities that are held at a time, 4 bytes each."""

FEW_SYMBOLS = 5
"""So many symbols more or less are no other formula."""
PROSE = frozenset(["'", "percent", ",", "(", ")", "[", "]"])
"""Symbols that stand in sentences: a farmers' market, 20% off."""


@dataclass(frozen=True)
class Hit:
    """The problem of a benchmark that a text is.

    Attributes:
        row: its number in the benchmark, from 0; `row_id`: the benchmark's own id of it.
        method: `exact`, `8-gram`, … or `embedding`.
        score: the share of n-grams that both have, or the logistic score of the likenesses; 0 to 1.
        likenesses: what the score of an embedding's neighbour is made of.
    """

    benchmark: str
    row: int
    row_id: str | int | None
    method: str
    score: float
    likenesses: dict[str, float] = field(default_factory=dict)
    private: bool = False

    def evidence(self, record_id: str | int | None) -> dict[str, Any]:
        """Return the record's key `contamination`."""
        found = {"benchmark": self.benchmark, "row": self.row, "row_id": self.row_id, "record_id": record_id}
        found |= {"method": self.method, "score": round(self.score, 4)}
        return found | {name: round(value, 4) for name, value in self.likenesses.items()}


class Detector:
    """Finds the problems of benchmarks among texts. The benchmarks are read and embedded once, when it is made."""

    def __init__(
        self, benchmarks: list[Benchmark], rules: ContaminationRules, encode_texts: Callable[[list[str]], np.ndarray]
    ) -> None:
        """Read and embed the benchmarks.

        Args:
            benchmarks: with at least one problem together.
            rules: `configs/contamination.yaml`.
            encode_texts: texts → unit vectors, float32, shape (n, dimension).
        """
        rows = [(benchmark, row) for benchmark in benchmarks for row, text in enumerate(benchmark.texts) if text]
        self.rows, self._rules, self._encode = rows, rules, encode_texts  # rows with a problem: their index is a "place"
        self.readings = [_read(benchmark.texts[row]) for benchmark, row in rows]
        self._places = {reading.key: place for place, reading in reversed(list(enumerate(self.readings))) if reading.key}
        self._ngrams = [NGrams(rule, self.readings) for rule in rules.ngrams]
        self.rarity = Rarity(self.readings)
        self.vectors = encode_texts([benchmark.texts[row] for benchmark, row in rows])

    def find(self, texts: list[str]) -> list[Hit | None]:
        """Return which problem of a benchmark each text is, or None."""
        readings = [_read(text) for text in texts]
        hits = [self._verbatim(reading) for reading in readings]
        left = [index for index, hit in enumerate(hits) if hit is None and texts[index].strip()]
        if left:
            vectors = self._encode([texts[index] for index in left])
            for index, hit in zip(left, self._nearest([readings[index] for index in left], vectors), strict=True):
                hits[index] = hit
        return hits

    def _hit(self, place: int, method: str, score: float, likenesses: dict[str, float] | None = None) -> Hit:
        benchmark, row = self.rows[place]
        return Hit(benchmark.name, row, benchmark.ids[row], method, score, likenesses or {}, benchmark.private)

    def _verbatim(self, reading: Reading) -> Hit | None:
        """Return the problem with the same text, or with most of the same n-grams."""
        if reading.key in self._places:
            return self._hit(self._places[reading.key], "exact", 1.0)
        for ngrams in self._ngrams:
            place, share = ngrams.best(reading)
            if place is not None:
                return self._hit(place, f"{ngrams.rule.size}-gram", share)
        return None

    def _nearest(self, readings: list[Reading], vectors: np.ndarray) -> Iterator[Hit | None]:
        """Yield for each text the problem among its nearest neighbours that it is, or None."""
        step = max(1, MOST_SIMILARITIES // len(self.rows))
        for start in range(0, len(readings), step):
            similarities = vectors[start : start + step] @ self.vectors.T
            for reading, cosines in zip(readings[start : start + step], similarities, strict=True):
                yield self._same(reading, cosines)

    def _same(self, reading: Reading, cosines: np.ndarray) -> Hit | None:
        rule = self._rules.neighbours
        best: Hit | None = None
        for place in nearest(cosines, rule):
            found = likenesses(reading, self.readings[place], float(cosines[place]), self.rarity)
            score = logistic(found, rule)
            if score >= rule.least_score and (best is None or score > best.score):
                best = self._hit(place, "embedding", score, found)
        return best


def nearest(cosines: np.ndarray, rule: NeighbourRule) -> list[int]:
    """Return the places of the nearest problems, at most `count`, none below `least_cosine`."""
    import numpy as np

    count = min(rule.count, len(cosines))
    places = np.argpartition(cosines, -count)[-count:]
    return [int(place) for place in places if cosines[place] >= rule.least_cosine]


class NGrams:
    """The n-grams of the benchmarks' problems, 12 bytes each: sorted hashes with the place of their problem."""

    def __init__(self, rule: NGramRule, readings: list[Reading]) -> None:
        import numpy as np

        self.rule = rule
        found = [self._hashes(reading) for reading in readings]
        self._counts = np.array([len(hashes) for hashes in found])
        hashes = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        self._hashes_sorted = hashes[order]
        self._places = np.repeat(np.arange(len(found), dtype=np.int32), self._counts)[order]

    def _hashes(self, reading: Reading) -> np.ndarray:
        """Return a hash for each different n-gram; they hold within one process."""
        import numpy as np

        tokens, size = reading.text.split(), self.rule.size
        return np.array(list({hash(tuple(tokens[i : i + size])) for i in range(len(tokens) - size + 1)}), dtype=np.int64)

    def best(self, reading: Reading) -> tuple[int | None, float]:
        """Return the place of the problem with the largest share of common n-grams and the share; None: too small."""
        import numpy as np

        hashes = self._hashes(reading)
        first, last = (np.searchsorted(self._hashes_sorted, hashes, side=side) for side in ("left", "right"))
        places = [self._places[a:b] for a, b in zip(first, last, strict=True) if a < b]
        if not places:
            return None, 0.0
        unique, common = np.unique(np.concatenate(places), return_counts=True)
        shares = common / np.minimum(self._counts[unique], len(hashes))
        best = int(np.argmax(shares))
        return (int(unique[best]) if shares[best] >= self.rule.share else None), float(shares[best])


class Rarity:
    """How much a word or a number tells: the logarithm of how seldom the benchmarks' problems have it, and 1."""

    def __init__(self, readings: list[Reading]) -> None:
        self._most = math.log(len(readings) + 1) + 1
        held = (Counter(word for one in readings for word in one.words), Counter(n for one in readings for n in one.numbers))
        self._words, self._numbers = ({key: self._most - math.log(n + 1) for key, n in counts.items()} for counts in held)

    def words(self, words: Iterable[str]) -> float:
        """Return how much the words tell together."""
        return sum(self._words.get(word, self._most) for word in words)

    def numbers(self, numbers: Iterable[str]) -> float:
        """Return how much the numbers tell together."""
        return sum(self._numbers.get(number, self._most) for number in numbers)


def likenesses(a: Reading, b: Reading, cosine: float, rarity: Rarity) -> dict[str, float]:
    """Return how like two problems are: `cosine` of their embeddings, `numbers`, `words` and `formulas`, 0 to 1.

    `numbers`: the share of their numbers that both have, weighted by rarity (a number in words, "one", may be missing);
    0.5 where neither has any. `words`: what they have in common over what the poorer text has, weighted alike. `formulas`: the
    share of symbols and variables that both have, counted, as if a few more were the same: "at most" may stand for one.
    """
    numbers = a.numbers.keys() | b.numbers.keys()
    both = (a.numbers.keys() | a.soft) & (b.numbers.keys() | b.soft)
    words = min(rarity.words(a.words), rarity.words(b.words))
    symbols_a, symbols_b = (_formula_symbols(one) for one in (a, b))
    symbols = (symbols_a | symbols_b).total()
    return {
        "cosine": cosine,
        "numbers": rarity.numbers(numbers & both) / rarity.numbers(numbers) if numbers else 0.5,
        "words": rarity.words(a.words.keys() & b.words.keys()) / words if words else 0.0,
        "formulas": (FEW_SYMBOLS + (symbols_a & symbols_b).total()) / (FEW_SYMBOLS + symbols),
    }


def _formula_symbols(reading: Reading) -> Counter[str]:
    """Return the symbols and variables of a problem with how often each is used, without what prose has too."""
    tokens = (token for token in reading.text.split() if token in reading.symbols or (len(token) == 1 and token.isalpha()))
    return Counter(token for token in tokens if token not in PROSE)


def logistic(found: Mapping[str, float], rule: NeighbourRule) -> float:
    """Return the score that likenesses make together, 0 to 1."""
    total = rule.intercept + sum(getattr(rule.weights, name) * value for name, value in found.items())
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def refuse_canaries(path: Path, canaries: list[str]) -> None:
    """Read a data file once and stop at a record that holds the canary string of a benchmark.

    Raises:
        MagpieError: with the line.
    """
    marks = [mark.lower().encode() for mark in canaries]
    for row in read_rows(path, None):
        text = row.data.lower()
        if any(mark in text for mark in marks):
            raise MagpieError(
                f"{path}, line {row.line}: the record holds the canary string of a benchmark that must never be trained on "
                "(configs/benchmarks.yaml, canaries). Find out how it came there, and take out what came with it"
            )


def certificate(benchmarks: list[Benchmark], dropped: Iterable[dict[str, Any]], methods: dict[str, Any]) -> dict[str, Any]:
    """Return what a data card says: which benchmarks, how they were compared, and what was found.

    Args:
        benchmarks: all that were compared.
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
