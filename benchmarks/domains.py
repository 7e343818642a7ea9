"""Accuracy of the domain tagger that needs no language model, and its training.

    python benchmarks/domains.py [DATA] [--gold FILE] [--show]      measures
    python benchmarks/domains.py [DATA] [--gold FILE] --train       measures, trains on all of it and writes the weights

Measured by nested cross-validation (the settings are chosen inside each training part; near copies stay together): the mean
over the fields and its spread over repetitions, compared with logistic regression on the plain embeddings, and the labels of
texts that are not mathematics. The project's weights are measured too, on the rows that they were not trained on.
Trains from the gold file (`instruction`, `domain`; `also`: further fields that are right), configs/tagging/
domain_examples.yaml and the topics of configs/domains. About two minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack

PROJECT = Path(__file__).resolve().parents[1]

from magpie.compute.embedding import DEFAULT_EMBEDDING_MODEL, Embedder  # noqa: E402
from magpie.config.load import config_path, load  # noqa: E402
from magpie.domains.classifier import LABELS, LEAST_CONFIDENCE, OTHER_DOMAIN, WEIGHTS, DomainFeatures, DomainTagger  # noqa: E402
from magpie.generation.config import load_domain  # noqa: E402
from magpie.records.reading import read_rows  # noqa: E402
from magpie.records.schema import DOMAINS  # noqa: E402

EXAMPLE_WEIGHT, TOPIC_WEIGHT = 0.7, 0.2
CUE_SCALE = 0.2
GRID = [(penalty, scale) for penalty in (1.0, 3.0, 10.0) for scale in (1.0, 1.5)]
"""1 / the weight of the penalty, and the scale of the words beside the embedding."""
NEAR_COPY = 0.9
FOLDS, INNER_FOLDS, REPEATS = 10, 4, 3


@dataclass(frozen=True)
class Samples:
    """Features of texts, their fields (indices of LABELS) and their training weights."""

    embeddings: np.ndarray
    words: csr_matrix
    cues: np.ndarray
    fields: np.ndarray
    counts: np.ndarray

    def take(self, rows: np.ndarray) -> Samples:
        """Return some of them."""
        return Samples(self.embeddings[rows], self.words[rows], self.cues[rows], self.fields[rows], self.counts[rows])

    def with_(self, other: Samples) -> Samples:
        """Return these and others."""
        dense = [np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("embeddings", "cues", "fields", "counts")]
        return Samples(dense[0], vstack([self.words, other.words]).tocsr(), *dense[1:])

    def matrix(self, scale: float) -> csr_matrix:
        """Return the classifier's input."""
        return hstack([csr_matrix(self.embeddings), self.words * scale, csr_matrix(self.cues * CUE_SCALE)]).tocsr()


def featured(features: DomainFeatures, pairs: list[tuple[str, str]], counts: float) -> Samples:
    """Return the samples of texts with their fields."""
    numbers = np.array([LABELS.index(field) for _, field in pairs])
    return Samples(*features([text for text, _ in pairs]), numbers, np.full(len(pairs), counts))


def own_samples(features: DomainFeatures) -> Samples:
    """Return the project's own samples: examples and topics."""
    labelled = load(config_path("tagging", "domain_examples.yaml"), dict[str, list[str]])
    examples = [(text, field) for field, texts in labelled.items() for text in texts]
    topics = [(topic, field) for field in DOMAINS for topic in load_domain(field).topics]
    return featured(features, examples, EXAMPLE_WEIGHT).with_(featured(features, topics, TOPIC_WEIGHT))


def fit(samples: Samples, penalty: float, scale: float) -> Any:
    """Return the trained classifier."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, max_iter=3000).fit(samples.matrix(scale), samples.fields, sample_weight=samples.counts)


def probabilities(model: Any, samples: Samples, scale: float) -> np.ndarray:
    """Return the probabilities of all LABELS, also of those that the model was not trained on."""
    found = np.zeros((len(samples.fields), len(LABELS)))
    found[:, model.classes_] = model.predict_proba(samples.matrix(scale))
    return found


def groups_of(embeddings: np.ndarray) -> np.ndarray:
    """Return a number for each row; near copies have the same."""
    from scipy.sparse.csgraph import connected_components

    return connected_components(csr_matrix(embeddings @ embeddings.T > NEAR_COPY))[1]


def folds(fields: np.ndarray, groups: np.ndarray, number: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the parts of a cross-validation, training and test rows."""
    from sklearn.model_selection import StratifiedGroupKFold

    cut = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    return list(cut.split(np.zeros(len(fields)), fields, groups))


def best_settings(gold: Samples, groups: np.ndarray, own: Samples, seed: int) -> tuple[float, float]:
    """Return the settings of GRID that are right most often in a cross-validation of the gold samples."""
    parts = folds(gold.fields, groups, INNER_FOLDS, seed)

    def right(settings: tuple[float, float]) -> float:
        hits = [
            probabilities(fit(gold.take(train).with_(own), *settings), gold.take(test), settings[1]).argmax(1)
            == gold.fields[test]
            for train, test in parts
        ]
        return float(np.concatenate(hits).mean())

    return max(GRID, key=right)


def nested(gold: Samples, groups: np.ndarray, own: Samples, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the gold samples, and of the project's own `other` texts, each not trained on."""
    found = np.zeros((len(gold.fields), len(LABELS)))
    others = np.flatnonzero(own.fields == LABELS.index(OTHER_DOMAIN))
    strangers = np.zeros((len(others), len(LABELS)))
    for part, (train, test) in enumerate(folds(gold.fields, groups, FOLDS, seed)):
        out = others[part::FOLDS]
        rest = own.take(np.setdiff1d(np.arange(len(own.fields)), out))
        penalty, scale = best_settings(gold.take(train), groups[train], rest, seed)
        model = fit(gold.take(train).with_(rest), penalty, scale)
        found[test] = probabilities(model, gold.take(test), scale)
        strangers[part::FOLDS] = probabilities(model, own.take(out), scale)
    return found, strangers


def plain(embeddings: np.ndarray, fields: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the fields by logistic regression on the plain embeddings."""
    from sklearn.linear_model import LogisticRegression

    found = np.zeros(len(fields), dtype=int)
    for train, test in folds(fields, groups, FOLDS, seed):
        found[test] = LogisticRegression(max_iter=3000).fit(embeddings[train], fields[train]).predict(embeddings[test])
    return found


def decide(found: np.ndarray) -> np.ndarray:
    """Return the fields that the tagger would assign."""
    best = found.argmax(1)
    best[found.max(1) < LEAST_CONFIDENCE] = LABELS.index(OTHER_DOMAIN)
    return best


def hits_of(named: np.ndarray, rows: list[dict[str, Any]]) -> np.ndarray:
    """Return which rows are right."""
    return np.array([LABELS[n] in (r["domain"], *r.get("also", ())) for n, r in zip(named, rows, strict=True)])


def by_field(hits: np.ndarray, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the accuracy for each field."""
    fields = np.array([row["domain"] for row in rows])
    return {field: float(hits[fields == field].mean()) for field in DOMAINS if (fields == field).any()}


def average(hits: np.ndarray, rows: list[dict[str, Any]]) -> float:
    """Return the mean over the fields."""
    return float(np.mean(list(by_field(hits, rows).values())))


def line(name: str, values: list[float]) -> None:
    """Print one figure: the mean and its spread."""
    print(f"{name:44} {100 * np.mean(values):6.1f}%  ± {100 * np.std(values):.1f}")


def measure(gold: Samples, own: Samples, raw: np.ndarray, rows: list[dict[str, Any]], *, show: bool) -> None:
    """Print the cross-validated figures."""
    groups = groups_of(raw)
    runs = [nested(gold, groups, own, seed) for seed in range(REPEATS)]
    hits = [hits_of(decide(found), rows) for found, _ in runs]
    other = LABELS.index(OTHER_DOMAIN)
    line(
        "plain embeddings, mean over the fields",
        [average(hits_of(plain(raw, gold.fields, groups, s), rows), rows) for s in range(REPEATS)],
    )
    line("this tagger, mean over the fields", [average(hit, rows) for hit in hits])
    for field in by_field(hits[0], rows):
        line(f"  {field}", [by_field(hit, rows)[field] for hit in hits])
    line("mathematics called other", [float((decide(found) == other).mean()) for found, _ in runs])
    line("non-mathematics called other", [float((decide(strangers) == other).mean()) for _, strangers in runs])
    for low, high in ((0, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        held = np.concatenate([(found.max(1) >= low) & (found.max(1) < high) for found, _ in runs])
        right = np.concatenate([hits_of(found.argmax(1), rows) for found, _ in runs])[held]
        share = right.mean() if held.any() else 0.0
        print(f"  confidence {low:.1f} to {min(high, 1):.1f}: {held.mean():6.1%} of the rows, right {share:.1%}")
    if show:
        show_misses(decide(runs[0][0]), hits[0], rows)


def show_misses(named: np.ndarray, hits: np.ndarray, rows: list[dict[str, Any]]) -> None:
    """Print the errors."""
    for index in np.flatnonzero(~hits):
        row = rows[index]
        print(f"[{row['domain']} > {LABELS[named[index]]}] {' '.join(row['instruction'].split())[:150]}")


def write_weights(path: Path, gold: Samples, own: Samples, raw: np.ndarray, texts: list[str]) -> None:
    """Train on everything and write the weights."""
    penalty, scale = best_settings(gold, groups_of(raw), own, 0)
    model = fit(gold.with_(own), penalty, scale)
    ends = np.cumsum([gold.embeddings.shape[1], gold.words.shape[1]])
    embedding, words, cues = np.split(model.coef_.T, ends)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        path,
        embedding=embedding.astype(np.float32),
        words=(words * scale).astype(np.float16),
        cues=(cues * CUE_SCALE).astype(np.float32),
        bias=model.intercept_.astype(np.float32),
        model=DEFAULT_EMBEDDING_MODEL,
        trained_on=row_hashes(texts),
    )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, penalty 1/{penalty:g}, words' scale {scale:g}")


def row_hashes(texts: list[str]) -> np.ndarray:
    """Return a hash of each text, independent of layout: the weights file stores those of its training data."""
    flat = [" ".join(text.split()).encode("utf-8", "surrogatepass") for text in texts]
    return np.array([int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") for text in flat], dtype=np.uint64)


def measure_weights(rows: list[dict[str, Any]], texts: list[str], *, show: bool) -> None:
    """Print the accuracy of the project's own weights, only on rows that they were not trained on."""
    if not WEIGHTS.exists():
        return
    with np.load(WEIGHTS) as stored:
        unseen = np.flatnonzero(~np.isin(row_hashes(texts), stored["trained_on"]))
    print(f"the project's weights: {len(rows) - len(unseen)} of {len(rows)} rows were trained on and are left out")
    if not len(unseen):
        return
    rows, texts = [rows[index] for index in unseen], [texts[index] for index in unseen]
    named = np.array([LABELS.index(field) for field in DomainTagger().tag(texts)])
    hits = hits_of(named, rows)
    line("the project's weights, mean over the fields", [average(hits, rows)])
    for field, share in by_field(hits, rows).items():
        line(f"  {field}", [share])
    if show:
        show_misses(named, hits, rows)


def main() -> None:
    """Measure, and train on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=PROJECT.parent / "shared" / "data", help="data folder")
    parser.add_argument("--gold", type=Path, help="problems with their fields (default: DATA/gold/domains_dev.jsonl)")
    parser.add_argument("--train", action="store_true", help="write exp/magpie/data/domains.npz")
    parser.add_argument("--show", action="store_true", help="show the misses")
    parser.add_argument("--cache", type=Path, help="file that keeps embeddings")
    args = parser.parse_args()
    gold_file = args.gold or args.data / "gold" / "domains_dev.jsonl"
    if not gold_file.exists():
        sys.exit(f"{gold_file}: no such file. Name the data folder, or the file with --gold")
    rows = [row.record for row in read_rows(gold_file) if row.record]
    texts = [row["instruction"] for row in rows]
    measure_weights(rows, texts, show=args.show)
    embedder = Embedder(cache=args.cache)
    features = DomainFeatures(embedder)
    gold = featured(features, [(row["instruction"], row["domain"]) for row in rows], 1.0)
    own, raw = own_samples(features), embedder.encode(texts)
    measure(gold, own, raw, rows, show=args.show)
    if args.train:
        write_weights(WEIGHTS, gold, own, raw, texts)


if __name__ == "__main__":
    main()
