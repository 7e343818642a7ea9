"""Embeddings: unit vectors that do not depend on the batch, long texts read to their end, a cache that survives."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from magpie.common.console import MagpieError
from magpie.compute.embedding import Embedder, Encoder
from magpie.compute.vector_cache import VectorCache

TEXTS = ["Find the area of a circle of radius 3.", "What is 2 + 2?", "Compute the derivative of $x^2$."]


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


def test_vectors_have_length_one_and_do_not_depend_on_what_else_is_encoded(embedder):
    alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
    together = embedder.encode([*TEXTS, "a much longer text about primes " * 20, TEXTS[1]])
    assert together.shape == (5, embedder.dimension)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.allclose(together[:3], alone, atol=1e-5)
    assert (together[4] == together[1]).all()


def test_near_texts_are_nearer_than_far_ones(embedder):
    circle, other, far = embedder.encode([TEXTS[0], "A circle has radius 3. What is its area?", TEXTS[2]])
    assert circle @ other > 0.8 > circle @ far


def test_a_long_text_is_read_to_its_end(embedder):
    start = "Let $a_n$ be a sequence of positive integers. " * 40
    one, same, other = embedder.encode([start + "Find $a_7$.", start + "Find $a_7$.", start + "Cats eat fish. " * 40])
    assert (one == same).all()
    assert one @ other < 0.99  # cut at 256 tokens, both would be one text


@pytest.mark.parametrize("ids", [True, False])
def test_vectors_are_those_of_the_library_whoever_makes_the_ids(embedder, monkeypatch, ids):
    texts = [" Find $x$: \n\n$x^2 = 4$ ", "É ∫ [SEP] ½", "A"]
    encoder = Encoder("all-MiniLM-L6-v2", "cpu")
    segmenter = encoder._segmenter()
    assert segmenter._ids_are_input
    monkeypatch.setattr(segmenter, "_ids_are_input", ids)
    library = embedder._encoder._model().encode(texts, normalize_embeddings=True)
    assert np.allclose(encoder(texts), library, atol=1e-5)


def test_hostile_texts_get_a_vector(embedder):
    vectors = embedder.encode(["", " \n", "\ud800", "\0", "x" * 200_000, "∫" * 5_000])
    assert np.isfinite(vectors).all()
    assert embedder.encode([]).shape == (0, embedder.dimension)


def test_what_is_in_the_cache_is_not_computed_again(embedder, tmp_path):
    path = tmp_path / "vectors.sqlite"
    first = Embedder(cache=path)
    vectors = first.encode(TEXTS)
    assert np.allclose(vectors, embedder.encode(TEXTS), atol=1e-5)
    again = Embedder(cache=path)
    again._encoder._model = lambda: pytest.fail("the model was loaded")
    assert (again.encode(TEXTS[::-1]) == vectors[::-1]).all()


def _put_for_ever(path):
    cache, number = VectorCache(path), 0
    while True:
        cache.put((f"{os.getpid()}-{number + n}".encode(), np.full(384, n, np.float32)) for n in range(20))
        number += 20


def test_the_cache_survives_processes_that_are_killed_while_they_write(tmp_path):
    path = tmp_path / "vectors.sqlite"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_put_for_ever, args=(path,), daemon=True) for _ in range(2)]
    for writer in writers:
        writer.start()
    keys = [f"{writer.pid}-{n}".encode() for writer in writers for n in range(200)]
    cache, deadline = VectorCache(path), time.monotonic() + 300
    while len(list(cache.get(keys))) < len(keys):
        assert time.monotonic() < deadline and all(writer.is_alive() for writer in writers)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    for key, vector in VectorCache(path).get(keys):
        assert (vector == int(key.split(b"-")[1]) % 20).all()
    cache.put([(b"after", np.zeros(384, np.float32))])
    assert len(list(VectorCache(path).get([b"after"]))) == 1


def test_a_model_or_cache_that_cannot_be_used_is_one_line(tmp_path):
    with pytest.raises(MagpieError, match="embedding model"):
        Embedder(str(tmp_path)).encode(["1"])
    (tmp_path / "not.sqlite").write_text("no data base\n" * 100)
    with pytest.raises(MagpieError, match="not a usable cache"):
        Embedder(cache=tmp_path / "not.sqlite")
