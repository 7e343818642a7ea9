"""Steering: the system prompt under which each problem is generated. The same seed steers the same row the same way."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass

from magpie.generation.config import Domain, Openings, Steering, load_domain
from magpie.records.schema import DOMAINS


@dataclass(frozen=True)
class Steer:
    """Steering of one sample: the system prompt (None: the template's own), the requested domain, the task template.

    `opening`: the words that the user's turn begins with; the model continues them. `concepts`: topics that are combined.
    """

    system: str | None = None
    domain: str | None = None
    template_id: str | None = None
    opening: str = ""
    concepts: tuple[str, ...] = ()


def balanced(weights: dict[str, float], total: int) -> Iterator[str]:
    """Yield `total` names; after every step each has its share to within one (smooth weighted round-robin)."""
    credit = dict.fromkeys(weights, 0.0)
    whole = sum(weights.values())
    for _ in range(total):
        for name, weight in weights.items():
            credit[name] += weight
        due = [name for name in weights if credit[name] > 1e-9 * whole]
        chosen = min(due, key=lambda name: (whole - credit[name]) / weights[name])
        credit[chosen] -= whole
        yield chosen


class Steerer:
    """Draws the steering of a sample.

    Args:
        prompts: the content of `configs/prompts/steering.yaml`.
        task: a control task (`math`), or None.
        domains: name → domain of mathematics; they replace the control task's prompts.
        use_templates: draw a task template too.
        seed: the run's seed.
        openings: words to open problems with, if any.
        concepts: topics per problem.
    """

    def __init__(
        self,
        prompts: Steering,
        *,
        task: str | None,
        domains: dict[str, Domain],
        use_templates: bool,
        seed: int,
        openings: Openings | None = None,
        concepts: int = 1,
    ) -> None:
        self._concepts = concepts
        self._known = {name: domains.get(name) or load_domain(name) for name in DOMAINS} if concepts > 1 else domains
        self._prompts, self._task, self._domains = prompts, task, domains
        self._use_templates, self._seed, self._openings = use_templates, seed, openings

    def draw(self, row: int, attempt: int, domain: str | None) -> Steer:
        """Return the steering of one attempt at a row of a given domain."""
        return dataclasses.replace(self._prompt(row, attempt, domain), opening=self._opening(row, domain))

    def _opening(self, row: int, domain: str | None) -> str:
        """Draw by row only: the weights are then shares of kept problems, however many samples a row takes."""
        if self._openings is None:
            return ""
        weights = self._openings.of(domain)
        return random.Random(f"{self._seed}/{row}/opening").choices([*weights], [*weights.values()])[0]

    def _prompt(self, row: int, attempt: int, domain: str | None) -> Steer:
        draw = random.Random(f"{self._seed}/{row}/{attempt}")
        if domain is None:
            system = draw.choice(self._prompts.control_tasks[self._task]) if self._task else None
            return Steer(system)
        chosen = self._domains[domain]
        concepts = self._topics(row, domain) if self._concepts > 1 else ()
        topic = self._prompts.concepts.joined.join(concepts) or draw.choice(chosen.topics)
        system = draw.choice(chosen.system_prompts).replace("{topic}", topic)
        if not self._use_templates:
            return Steer(system, domain, concepts=concepts)
        template = draw.choice(chosen.task_templates)
        kind = self._prompts.with_template.replace("{task}", template.text)
        return Steer(f"{system} {kind}", domain, template.id, concepts=concepts)

    def _topics(self, row: int, domain: str) -> tuple[str, ...]:
        """Draw by row only, so that kept concepts stay balanced: a topic is repeated only after all others."""
        draw = random.Random(f"{self._seed}/{row}/concepts")
        turn, place = divmod(row // max(1, len(self._domains)), len(self._domains[domain].topics))
        topics = list(self._domains[domain].topics)
        random.Random(f"{self._seed}/{domain}/{turn}").shuffle(topics)
        found = [topics[place]]
        weights = {name: weight for name, weight in self._prompts.concepts.weights(domain).items() if name in self._known}
        while len(found) < self._concepts:
            other = draw.choices([*weights], [*weights.values()])[0]
            found += [one for one in [draw.choice(self._known[other].topics)] if one not in found]
        return tuple(found)
