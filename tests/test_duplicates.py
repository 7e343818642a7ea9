"""Groups of duplicates, who is kept, and the index of vectors."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import numpy as np
import pytest

from magpie.common.console import MagpieError
from magpie.compute import large_arrays, vector_index
from magpie.compute.index_folder import IndexedRecord, IndexFolder
from magpie.compute.vector_index import Partitions, VectorIndex
from magpie.similarity.dedup import find_duplicates, keep_best

STORY = (
    "A farmer in the valley has {a} sheep and {b} goats behind the old mill, and every morning he counts them before the bell "
    "of the village rings. How many animals does he count?"
)


def units(count: int, dimension: int = 32, seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def alike(count: int, seed: int = 2) -> np.ndarray:
    """Vectors at a cosine of about 0.99 with each other."""
    vectors = units(1) + 0.1 * units(count, seed=seed)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def kept(texts: list[str], vectors: np.ndarray, order: list[int] | None = None) -> list[int]:
    return find_duplicates(texts, np.array(order or range(len(texts))), vectors).kept.tolist()


def test_layouts_are_one_group_however_far_their_vectors_are() -> None:
    texts = ["Find $\\dfrac{1}{2}+x$.", "Compute \\( \\frac12 + x \\)", "What is 1/2 + x?", "What is 1/3 + x?"]
    found = find_duplicates(texts, np.arange(4), units(4))
    assert found.kept.tolist() == [0, 0, 0, 3]
    assert found.how == ["", "exact", "exact", ""]


def test_renumbered_problems_are_no_duplicates_at_a_cosine_of_099() -> None:
    texts = [STORY.format(a=a, b=b) for a, b in ((12, 30), (30, 12), (12, 31), (13, 30))]
    assert kept(texts, alike(4)) == [0, 1, 2, 3]


def test_a_paraphrase_is_found_by_its_vector_and_says_how() -> None:
    texts = [
        STORY.format(a=12, b=30),
        "Counting his 12 sheep and 30 goats behind the mill, what number of animals does the farmer get?",
    ]
    found = find_duplicates(texts, np.arange(2), alike(2))
    assert found.kept.tolist() == [0, 0]
    assert found.how[1] == "embedding"
    assert found.cosine[1] > 0.95
    assert 0 < found.score[1] < 1
    assert kept(texts, units(2)) == [0, 1]


def test_nearly_the_same_words_are_found_without_near_vectors() -> None:
    text = STORY.format(a=12, b=30)
    vectors = np.concatenate([units(30, seed=3), units(2, seed=4)])
    texts = [f"Another problem with the number {place + 1000}." for place in range(30)]
    found = find_duplicates(
        [*texts, f"{text} Solve $n^2-5n+6=0$.", f"{text} Solve $k^2-5k+6=0$."], np.arange(32), vectors, np.zeros((0, 2), int)
    )
    assert found.kept.tolist()[-2:] == [30, 30]
    assert found.how[-1] == "minhash"


def test_the_best_is_kept_and_the_order_of_the_texts_changes_nothing() -> None:
    texts = [
        "Find $x^2$ at 3.",
        "Compute \\(x^{2}\\) at 3",
        "Determine $x^2$ at $3$.",
        "Find $x^2$ at 4.",
        "Compute $x^2$ at 4",
    ]
    vectors, worth = alike(5), [2, 0, 1, 4, 3]
    expected = {texts[a]: texts[b] for a, b in enumerate([1, 1, 1, 4, 4])}
    for seed in range(6):
        places = random.Random(seed).sample(range(5), 5)
        found = kept([texts[p] for p in places], vectors[places], [worth[p] for p in places])
        assert {texts[places[at]]: texts[places[to]] for at, to in enumerate(found)} == expected


def test_no_one_is_a_duplicate_by_a_chain_of_neighbours() -> None:
    better, worse = np.array([0, 1, 2]), np.array([1, 2, 3])
    found, _ = keep_best(4, better, worse, np.ones(3), np.arange(4))
    assert found.tolist() == [0, 0, 2, 2]


def test_of_several_kept_ones_the_likest_counts() -> None:
    found, pair = keep_best(3, np.array([0, 1]), np.array([2, 2]), np.array([0.7, 0.9]), np.arange(3))
    assert found.tolist() == [0, 1, 1]
    assert pair.tolist() == [-1, -1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_who_is_kept_is_what_going_from_the_best_to_the_worst_gives(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count, order = 40, draw.permutation(40)
    pairs = draw.integers(0, count, (90, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    pairs = np.where((order[pairs[:, 0]] < order[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    score = draw.random(len(pairs))
    found, _ = keep_best(count, pairs[:, 0], pairs[:, 1], score, order)
    expected: dict[int, int] = {}
    for item in np.argsort(order).tolist():
        near = [(-s, order[a], a) for (a, b), s in zip(pairs.tolist(), score, strict=True) if b == item and expected[a] == a]
        expected[item] = min(near)[2] if near else item
    assert found.tolist() == [expected[item] for item in range(count)]


def searched(index: VectorIndex, queries: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    found = sorted(index.search(queries, neighbours), key=lambda part: part[0].start)
    return np.concatenate([part[1] for part in found]), np.concatenate([part[2] for part in found])


def planted(count: int) -> tuple[np.ndarray, np.ndarray]:
    vectors = units(count, 64)
    copies = vectors[: count // 10] + 0.15 * units(count // 10, 64, seed=9)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    return np.concatenate([vectors, copies]).astype(np.float32), np.arange(count // 10)


def test_lists_find_what_comparing_all_finds() -> None:
    vectors, sources = planted(5000)
    flat, lists = VectorIndex(vectors), VectorIndex(vectors, flat_most=1000)
    assert flat.is_flat
    assert not lists.is_flat
    exact, _ = searched(flat, vectors[5000:], 2)
    cosines, rows = searched(lists, vectors[5000:], 2)
    assert (rows[:, 1] == sources).mean() > 0.98
    assert np.abs(cosines - exact)[rows[:, 1] == sources].max() < 1e-5


def test_an_index_that_grows_past_comparing_all_goes_on_as_lists() -> None:
    vectors, sources = planted(2000)
    index = VectorIndex(vectors[:500], flat_most=1000)
    for start in range(500, len(vectors), 500):
        index.add(vectors[start : start + 500])
    assert not index.is_flat
    assert np.array_equal(index.vectors(), vectors)
    assert (searched(index, vectors[2000:], 2)[1][:, 1] == sources).mean() > 0.95


def test_a_search_among_fewer_than_asked_for() -> None:
    cosines, rows = Partitions(units(3)).search(units(3), 16)
    assert rows.shape == cosines.shape == (3, 3)
    assert Partitions(np.zeros((0, 32), np.float32)).search(units(2), 4)[1].shape == (2, 0)


def test_partitions_find_what_one_index_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted(3000)
    vectors[2000:2040] = vectors[:40]  # equal ones in different partitions
    rows = np.flatnonzero(np.arange(len(vectors)) % 7)
    whole = Partitions(vectors, rows).search(vectors, 17, rows=rows[::2])
    monkeypatch.setattr(vector_index, "PARTITION", 1000)
    apart = Partitions(vectors, rows).search(vectors, 17, rows=rows[::2])
    assert np.abs(apart[0] - whole[0]).max() < 1e-6  # FAISS's last bits depend on how many vectors there are
    gaps = np.diff(whole[0], axis=1, prepend=2) < -1e-5
    clear = gaps[:, :-1] & gaps[:, 1:]  # neither as near as the one before nor as the one after
    assert (apart[1] == whole[1])[:, :-1][clear].all()
    assert clear.mean() > 0.9
    few = Partitions(vectors, rows[:1005]).search(vectors, 1010, rows=rows[:3])  # the last partition holds fewer than asked for
    assert sorted(few[1][0].tolist()) == list(range(1005))


def test_what_a_search_finds_is_the_same_to_the_last_bit_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    vectors = units(3000, 384)
    for flat_most in (10_000, 1000):
        monkeypatch.setattr(vector_index, "FLAT_MOST", flat_most)
        found = []
        for cores in (1, 2, 3):
            monkeypatch.setattr(faiss, "omp_get_max_threads", lambda cores=cores: cores)
            found.append(Partitions(vectors).search(vectors, 17))
        assert all((cosines == found[0][0]).all() and (rows == found[0][1]).all() for cosines, rows in found)


def test_what_is_too_large_for_the_memory_is_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted(2000)
    in_memory = Partitions(vectors).search(vectors, 17)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 1000)
    on_disk = Partitions(vectors, scratch=tmp_path).search(vectors, 17)
    assert all(isinstance(found, np.memmap) for found in on_disk)
    assert all((one == other).all() for one, other in zip(in_memory, on_disk, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)) as full:
        large_arrays.zeros((2**50, 4), "float32", tmp_path)
    assert full.value.errno in (errno.ENOSPC, errno.EFBIG)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "kept.index"
    IndexFolder.open(path, "model-a").extend([IndexedRecord("a", "One?"), IndexedRecord(2, "Two?")], units(2), "model-a")
    return path


def test_an_index_folder_is_extended_by_what_is_new(folder: Path) -> None:
    opened = IndexFolder.open(folder, "model-a")
    opened.extend([IndexedRecord("c", "Three?")], units(3)[2:], "model-a")
    again = IndexFolder.open(folder, "model-a")
    assert [record.id for record in again.records] == ["a", 2, "c"]
    assert again.index is not None
    assert np.allclose(again.index.vectors(), units(3))
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", "records-3.jsonl", "vectors-3.faiss"]


def test_an_index_of_another_embedding_model_is_refused(folder: Path) -> None:
    with pytest.raises(MagpieError, match="vectors of model-a, not of model-b"):
        IndexFolder.open(folder, "model-b")


@pytest.mark.parametrize("broken", ["index.json", "records-2.jsonl", "vectors-2.faiss"])
def test_a_broken_index_is_refused(folder: Path, broken: str) -> None:
    (folder / broken).write_bytes(b"{}")
    with pytest.raises(MagpieError, match="--index"):
        IndexFolder.open(folder, "model-a")


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MagpieError, match="not an index folder"):
        IndexFolder.open(tmp_path, "model-a")
