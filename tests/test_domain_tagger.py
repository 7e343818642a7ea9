"""The domain classifier: clear cases, texts that are no mathematics, and its features."""

import numpy as np
import pytest

import domains
from magpie.common.console import MagpieError
from magpie.domains.classifier import LABELS, DomainTagger, cue_pattern, hash_words, label_of, spell_out_latex
from magpie.domains.config import load_domain_cues
from processor_time import check_takes

CLEAR = {
    r"Solve for $x$: $x^2 - 7x + 12 = 0$, and factor the polynomial $x^4 - 16$.": "algebra",
    r"Evaluate $\int_0^1 x e^{-x} \, dx$ and determine whether $\sum 1/n^2$ converges.": "calculus",
    r"In triangle $PQR$ the altitude from $P$ meets the circumcircle again at $S$. Prove that $QS = QH$.": "geometry",
    r"Let $X$ be exponentially distributed with mean 3. Find the variance of $\min(X, 2)$.": "statistics",
    r"Find all primes $p$ for which $p$ divides $2^p + 15$, and the remainder of $3^{1000}$ modulo 7.": "number_theory",
    "In how many ways can 9 rooks be placed on a chessboard so that no two of them attack each other?": "discrete",
    "Please translate my grandmother's letter into Spanish and suggest a present for her birthday.": "other",
}


@pytest.fixture(scope="module")
def tagger():
    return DomainTagger()


def test_clear_problems_get_their_field(tagger):
    found = tagger.tag_with_confidence(list(CLEAR))
    assert dict(zip(CLEAR, [field for field, _ in found], strict=True)) == CLEAR
    assert all(0 < confidence <= 1 for _, confidence in found)


def test_a_field_does_not_depend_on_what_else_is_tagged(tagger):
    together = tagger.probabilities(list(CLEAR))
    alone = np.concatenate([tagger.probabilities([text]) for text in CLEAR])
    assert together.shape == (len(CLEAR), len(LABELS))
    assert np.allclose(together, alone, atol=1e-4)
    assert np.allclose(together.sum(axis=1), 1, atol=1e-5)


def test_hostile_texts_get_some_field_quickly(tagger):
    hostile = ["", "\\" * 100_000, "{" * 100_000, "'" * 100_000, "\\begin{" * 20_000, "\ud800", "1" * 100_000]
    fields = []
    check_takes(2000, lambda: fields.extend(tagger.tag(hostile)))
    assert fields and set(fields) <= set(LABELS)
    assert tagger.tag([]) == []


def test_low_confidence_is_other():
    row = np.full(len(LABELS), 1 / len(LABELS))
    assert label_of(row)[0] == "other"
    assert label_of(np.eye(len(LABELS))[2]) == ("geometry", 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r"$\int_0^1 f'(x)\,dx$", "integral 0 1 f derivative (x) ,dx"),
        (r"$y^{\prime \prime} = \frac{1}{2} y$", "y derivative = 1 2 y"),
        (r"\begin{pmatrix}1&2\end{pmatrix}", "matrix 1 2"),
        (r"$\alpha \leq 90^\circ$ in $\triangle ABC$", "alpha inequality 90 degrees in triangle ABC"),
        ("Green's theorem", "Green's theorem"),
    ],
)
def test_latex_is_read_as_english(text, words):
    assert " ".join(spell_out_latex(text, load_domain_cues()).split()) == words


def test_a_cue_stands_for_what_begins_with_it_and_a_command_for_itself():
    pattern = cue_pattern(r"deriv, \int, prime, primes, p(x")
    assert pattern.findall(r"the derivative of \int x, \interval, coprime primes, p(x)") == ["deriv", r"\int", "primes", "p(x"]


def test_hashed_words_are_the_same_everywhere_and_of_length_one():
    words = hash_words(["Find 12 primes below 40", "find 7 PRIMES below 9", ""])
    assert (words[0] != words[1]).nnz == 0
    assert words[0].multiply(words[0]).sum() == pytest.approx(1)
    assert words[2].nnz == 0


def test_broken_weights_are_one_line(tmp_path):
    (tmp_path / "domains.npz").write_text("no weights")
    with pytest.raises(MagpieError, match="not weights of the domain classifier"):
        DomainTagger(weights=tmp_path / "domains.npz")


def test_weights_are_never_measured_on_what_they_were_trained_on(tmp_path, monkeypatch, capsys):
    seen = [{"instruction": "Solve  $x = 1$.", "domain": "geometry"}]
    unseen = [{"instruction": "Solve $x^2 - 5x + 6 = 0$ by factoring the polynomial.", "domain": "algebra"}]
    with np.load(domains.WEIGHTS) as stored:
        arrays = {name: stored[name] for name in stored.files}
    path = tmp_path / "domains.npz"
    np.savez(path, **(arrays | {"trained_on": domains.row_hashes(["Solve $x = 1$."])}))
    monkeypatch.setattr(domains, "WEIGHTS", path)
    domains.measure_weights(seen, [row["instruction"] for row in seen], show=False)
    assert "%" not in capsys.readouterr().out
    rows = seen + unseen
    domains.measure_weights(rows, [row["instruction"] for row in rows], show=False)
    said = capsys.readouterr().out
    assert "1 of 2 rows were trained on" in said
    assert "algebra" in said
    assert "geometry" not in said
