"""Checks of a run's samples: the first ones for defects, all for duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from magpie.cleaning.clean import clean
from magpie.common.console import MagpieError, log, printable
from magpie.text.degeneration import sample_defect

MOST_BAD = 0.5
"""Share of bad samples that even the smallest model stays below if its prefix is right: docs/LOG.md."""
LEAST_TO_GIVE_UP = 10
"""At least one in this many samples should pass cleaning: by default a run takes 10 per problem."""
SHOWN_CHARACTERS = 160
REMEMBERED = 100_000
LEAST_TO_ALARM, ALARM_SHARE = 100, 0.1


NEVER_ENDING = ("never ends", "repeats itself", "thought without end")
MOST_ENDLESS = 0.9
"""Share of responses that may be cut: hard problems and a low limit cut many, a wrong stop token all of them."""
AFTER = (
    "Look at the samples above; --preflight 0 continues without this check (for a job's responses in RES_FLAGS or VOTE_FLAGS), "
    "--overwrite starts afresh"
)


def by_reason(counts: Mapping[str, int]) -> str:
    """Return counts as words, the highest first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(counts).most_common())


class Preflight:
    """Checks the first `wanted` samples that were requested, and stops the run if most of them are bad.

    They are ordinary samples of the run, so a good preflight costs nothing. The first ones requested are judged, not the first
    ones that arrive: the shortest arrive first, and empty ones are the shortest.

    Args:
        wanted: how many.
        clean: also stop the run if none of them passes cleaning, because clean ones are wanted.
        language: as in `cleaning.clean`.
    """

    blames = "the pre-query prefix or the sampling settings do not fit this model"
    """The likely fault if most samples are bad."""

    def __init__(self, wanted: int, *, clean: bool = True, language: str = "en") -> None:
        self.wanted, self._requested = wanted, 0
        self._clean, self._language = clean, language
        self._found: dict[int, tuple[str, str]] = {}

    def next_number(self) -> int:
        """Return the number of the sample that is about to be requested, from 0."""
        self._requested += 1
        return self._requested - 1

    def add(self, number: int, text: str, finish_reason: str, added_tokens: Sequence[str]) -> None:
        """Add a sample.

        Raises:
            MagpieError: it was the last one to check, and most are bad.
        """
        if number >= self.wanted:
            return
        refused = finish_reason if finish_reason.startswith("refused") else ""
        repeated = bool(text.strip()) and any(text == other for other, _ in self._found.values())
        defect = refused or ("repeated" if repeated else sample_defect(text, finish_reason, added_tokens))
        self.judge(number, text, defect)

    def judge(self, number: int, text: str, defect: str) -> None:
        """Add a sample with its defect, or an empty text.

        Raises:
            MagpieError: it was the last one to check, and most are bad.
        """
        if number >= self.wanted:
            return
        self._found[number] = (text, defect)
        if len(self._found) == self.wanted:
            self._judge_all()

    def _too_many(self, defects: Counter[str]) -> bool:
        return defects.total() > MOST_BAD * self.wanted

    def _judge_all(self) -> None:
        defects = Counter(defect for _, defect in self._found.values() if defect)
        if self._too_many(defects):
            self._show({number: defect for number, (_, defect) in self._found.items()})
            raise MagpieError(
                f"{defects.total()} of the first {self.wanted} samples are bad ({by_reason(defects)}): {self.blames}. {AFTER}"
            )
        self._say()

    def _say(self) -> None:
        """Log how many of the samples passed cleaning.

        Raises:
            MagpieError: none did, and the run wants clean ones.
        """
        reasons = {
            number: defect or clean(text, language=self._language).drop_reason for number, (text, defect) in self._found.items()
        }
        dropped = Counter(filter(None, reasons.values()))
        passed = self.wanted - dropped.total()
        if self._clean and not passed and self.wanted >= LEAST_TO_GIVE_UP:
            self._show(reasons)
            raise MagpieError(
                f"none of the first {self.wanted} samples passed cleaning ({by_reason(dropped)}): clean problems would "
                f"take more than 10 samples each. --openings or --domain may help. {AFTER}"
            )
        others = f" ({by_reason(dropped)})" if dropped else ""
        log.info("preflight: %d of the first %d samples passed cleaning%s", passed, self.wanted, others)

    def _show(self, reasons: Mapping[int, str]) -> None:
        for number, (text, _) in sorted(self._found.items()):
            shown = printable(text, SHOWN_CHARACTERS).replace("\n", " ⏎ ")
            log.error("preflight sample %d [%s]: %s", number + 1, reasons[number] or "fine", shown)


class ResponsePreflight(Preflight):
    """The same for responses; a chain of thought cut at the limit is not a sign of wrong settings if others end."""

    blames = (
        "the stop tokens or the format of the chain of thought do not fit this model (docs/models.md), or --max_tokens is "
        "too low"
    )

    def _too_many(self, defects: Counter[str]) -> bool:
        endless = sum(defects[kind] for kind in NEVER_ENDING)
        if self.wanted < LEAST_TO_GIVE_UP:  # of a few, all may be cut: a low limit, a hard problem
            return defects.total() - endless > MOST_BAD * self.wanted
        return defects.total() - endless > MOST_BAD * self.wanted or defects.total() > MOST_ENDLESS * self.wanted

    def _say(self) -> None:
        fine = sum(not defect for _, defect in self._found.values())
        log.info("preflight: %d of the first %d samples are fine", fine, self.wanted)


class DuplicateAlarm:
    """Warns once if many samples are the same, as when replicas or restarts share an engine seed."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._samples = self._repeats = 0
        self._warned = False

    def add(self, text: str) -> None:
        """Add a sample; the first 100,000 distinct ones are remembered."""
        if not text:
            return
        digest = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest()
        self._samples += 1
        if digest in self._seen:
            self._repeats += 1
        elif len(self._seen) < REMEMBERED:
            self._seen.add(digest)
        if not self._warned and self._samples >= LEAST_TO_ALARM and self._repeats > ALARM_SHARE * self._samples:
            self._warned = True
            log.warning(
                "%d of %d samples repeat an earlier one: do two servers share a seed, or is the temperature too low?",
                self._repeats,
                self._samples,
            )
