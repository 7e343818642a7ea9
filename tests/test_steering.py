"""Steering: shares, and the same draw for the same seed."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import msgspec
import pytest

from magpie.config.load import CONFIGS
from magpie.config.model_presets import load_model
from magpie.generation.config import Domain, Openings, Steering, TaskTemplate, load_domain, load_steering
from magpie.generation.steering import Steer, Steerer, balanced
from magpie.records.schema import DOMAINS


def worst_distance(weights: dict[str, float], steps: int) -> float:
    counts: Counter[str] = Counter()
    whole, worst = sum(weights.values()), 0.0
    for step, name in enumerate(balanced(weights, steps), 1):
        counts[name] += 1
        worst = max(worst, *(abs(counts[n] - step * w / whole) for n, w in weights.items()))
    assert counts.total() == steps
    return worst


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 1.0},
        dict.fromkeys("abcdef", 1.0),
        dict.fromkeys("abcdef", 0.1),
        {"a": 5.0, "b": 1.0, "c": 1.0},
        {"a": 0.7, "b": 0.2, "c": 0.1},
        {"a": 1000.0, "b": 1.0},
        {"a": 1e-6, "b": 1e6},
        {"a": 0.77, "b": 19.0, "c": 0.2273, "d": 0.3635, "e": 7.0, "f": 19.0},
        {"a": 1.0, "b": 2.0, "c": 0.0578, "d": 19.0, "e": 19.0, "f": 0.0057},
    ],
)
def test_after_every_step_each_field_has_its_share_to_within_one(weights: dict[str, float]) -> None:
    assert worst_distance(weights, 3000) <= 1 + 1e-6


def test_shares_hold_for_weights_drawn_at_random() -> None:
    draw = random.Random(5)
    for _ in range(500):
        weights = {str(n): draw.choice([draw.random() + 1e-3, float(draw.randint(1, 20))]) for n in range(draw.randint(2, 6))}
        assert worst_distance(weights, 200) <= 1 + 1e-6, weights


def test_nothing_asked_for_gives_nothing() -> None:
    assert list(balanced({"a": 1.0}, 0)) == []


def steerer(
    *, seed: int = 0, task: str | None = "math", use_templates: bool = True, openings: Openings | None = None
) -> Steerer:
    domains = {name: load_domain(name) for name in DOMAINS}
    return Steerer(load_steering(), task=task, domains=domains, use_templates=use_templates, seed=seed, openings=openings)


def draws(one: Steerer, rows: int = 60) -> list[Steer]:
    return [one.draw(row, attempt, DOMAINS[row % len(DOMAINS)]) for row in range(rows) for attempt in range(2)]


def test_the_same_seed_steers_the_same_row_the_same_way_in_any_order() -> None:
    first, again = steerer(seed=3), steerer(seed=3)
    expected = draws(first)
    again.draw(999, 0, None)  # what was drawn before changes nothing
    assert draws(again) == expected
    assert list(reversed([again.draw(row, 0, "algebra") for row in reversed(range(50))])) == [
        first.draw(row, 0, "algebra") for row in range(50)
    ]


def test_another_seed_row_or_attempt_steers_another_way() -> None:
    assert draws(steerer(seed=3)) != draws(steerer(seed=4))
    one = steerer()
    assert len({one.draw(row, 0, "algebra") for row in range(50)}) > 40
    assert len({one.draw(0, attempt, "algebra") for attempt in range(50)}) > 40


def test_every_template_and_field_recorded_stands_in_the_configs() -> None:
    known = {name: {template.id for template in load_domain(name).task_templates} for name in DOMAINS}
    drawn = draws(steerer(), 600)
    assert all(steer.template_id in known[steer.domain or ""] for steer in drawn)
    texts = {template.id: template.text for name in DOMAINS for template in load_domain(name).task_templates}
    assert all(texts[steer.template_id or ""] in (steer.system or "") for steer in drawn)
    assert {steer.template_id for steer in drawn} == set(texts), "some templates are never drawn"


def test_a_topic_takes_its_place_and_no_placeholder_is_left() -> None:
    topics = {name: load_domain(name).topics for name in DOMAINS}
    for steer in draws(steerer(), 300):
        assert steer.system is not None and "{" not in steer.system
        assert any(topic in steer.system for topic in topics[steer.domain or ""])


def test_without_templates_none_is_recorded_or_said() -> None:
    steer = steerer(use_templates=False).draw(0, 0, "geometry")
    assert steer.template_id is None and steer.domain == "geometry"
    assert steer.system is not None and load_steering().with_template.split("{")[0].strip() not in steer.system


def test_without_a_field_the_control_task_speaks_and_without_one_the_template() -> None:
    assert steerer().draw(0, 0, None).system in load_steering().control_tasks["math"]
    assert steerer(task=None).draw(0, 0, None) == Steer()


@pytest.mark.parametrize("number", [2, 3])
def test_concepts_are_of_the_domain_and_its_neighbours_and_come_equally_often(number: int) -> None:
    known = {name: load_domain(name) for name in DOMAINS}
    one = Steerer(load_steering(), task="math", domains=known, use_templates=False, seed=1, concepts=number)
    drawn = [(DOMAINS[row % 6], one.draw(row, attempt, DOMAINS[row % 6])) for row in range(1200) for attempt in (0, 1)]
    firsts = Counter(steer.concepts[0] for _, steer in drawn[::2])
    assert firsts.keys() == {topic for domain in known.values() for topic in domain.topics}
    assert max(firsts.values()) - min(firsts.values()) <= 1
    for domain, steer in drawn:
        near = {domain, *load_steering().concepts.neighbours[domain]}
        assert len(set(steer.concepts)) == number and steer.concepts[0] in known[domain].topics
        assert all(any(topic in known[name].topics for name in near) for topic in steer.concepts)
        assert all(topic in (steer.system or "") for topic in steer.concepts)
    assert all(one.concepts == other.concepts for (_, one), (_, other) in zip(drawn[::2], drawn[1::2], strict=True))


def test_openings_are_drawn_by_row_with_their_weights_and_change_nothing_else() -> None:
    openings = Openings(math={"Solve": 3.0, "How many": 1.0}, domains={"algebra": {"Factor the": 1.0}})
    plain, opened = steerer(seed=5), steerer(seed=5, openings=openings)
    for row in range(50):
        drawn = [opened.draw(row, attempt, "geometry") for attempt in range(3)]
        assert len({one.opening for one in drawn}) == 1  # however many samples it takes
        assert [dataclasses.replace(one, opening="") for one in drawn] == [plain.draw(row, n, "geometry") for n in range(3)]
    counts = Counter(opened.draw(row, 0, None).opening for row in range(2000))
    assert counts.keys() == {"Solve", "How many"} and 0.7 < counts["Solve"] / 2000 < 0.8
    assert {opened.draw(row, 0, "algebra").opening for row in range(9)} == {"Factor the"}
    other = steerer(seed=6, openings=openings)
    assert [opened.draw(row, 0, None).opening for row in range(50)] != [other.draw(row, 0, None).opening for row in range(50)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"math": {}, "domains": {}},
        {"math": {"Solve": 0}, "domains": {}},
        {"math": {"Solve": -1}, "domains": {}},
        {"math": {"Solve ": 1}, "domains": {}},
        {"math": {"": 1}, "domains": {}},
        {"math": {"Solve": 1}, "domains": {"cooking": {"Boil": 1}}},
        {"math": {"Solve": 1}, "domains": {"algebra": {}}},
        {"math": {"Solve": 1}, "domains": {"algebra": {"Solve": float("inf")}}},
    ],
)
def test_openings_that_cannot_be_drawn_are_refused(wrong: dict) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Openings)


def test_a_small_model_opens_problems_and_one_that_writes_headings_bans_them() -> None:
    presets = {path.stem: load_model(path.stem) for path in (CONFIGS / "models").glob("*.yaml")}
    assert {name for name, preset in presets.items() if preset.openings} == {"smollm2"}
    assert {name for name, preset in presets.items() if preset.ban_markdown} == {
        "llama-3.1-8b",
        "llama-3.1-70b",
        "llama-3.3-70b",
    }


def test_formulas_in_a_system_prompt_are_no_placeholders() -> None:
    field = Domain(
        domain="algebra",
        topics=["the ring {0}"],
        system_prompts=[r"Problems on {topic}, with answers like \frac{1}{2} in the set {a, b}."],
        task_templates=[TaskTemplate("t", r"Simplify \sqrt{x}.")],
    )
    steering = Steering({}, r"The kind, with \boxed{}: {task}", load_steering().concepts)
    one = Steerer(steering, task=None, domains={"algebra": field}, use_templates=True, seed=0)
    assert one.draw(0, 0, "algebra").system == (
        r"Problems on the ring {0}, with answers like \frac{1}{2} in the set {a, b}. "
        r"The kind, with \boxed{}: Simplify \sqrt{x}."
    )
