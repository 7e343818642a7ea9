"""What watches the first samples of a run, and the samples after them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from magpie.common.console import MagpieError, log
from magpie.generation.preflight import ALARM_SHARE, LEAST_TO_ALARM, DuplicateAlarm, Preflight, ResponsePreflight


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))

    def at(self, level: int) -> list[str]:
        return [text for found, text in self.lines if found == level]


@pytest.fixture
def logged() -> Iterator[Kept]:
    handler, level = Kept(), log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def good(number: int) -> str:
    return f"Find the sum of the first {number} odd primes."


def feed(preflight: Preflight, samples: list[str]) -> None:
    for text in samples:
        preflight.add(preflight.next_number(), text, "stop", ["<odd>"])


def test_mostly_bad_samples_stop_the_run_and_are_shown(logged: Kept) -> None:
    samples = ["", good(1), "x<|im_end|>", "\x1b[31mleak<odd>", "ha " * 200, good(2)]
    with pytest.raises(MagpieError) as error:
        feed(Preflight(6), samples)
    assert "4 of the first 6" in str(error.value) and "--preflight 0" in str(error.value)
    assert "2 template tokens" in str(error.value) and "1 empty" in str(error.value)
    shown = logged.at(logging.ERROR)
    assert len(shown) == 6 and "\x1b" not in "".join(shown) and good(1) in shown[1]


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_up_to_half_bad_passes(bad: int, logged: Kept) -> None:
    feed(Preflight(6), [""] * bad + [good(n) for n in range(6 - bad)])
    assert len(logged.at(logging.INFO)) == 1 and not logged.at(logging.ERROR)


def test_the_same_sample_again_is_bad() -> None:
    with pytest.raises(MagpieError, match="4 repeated"):
        feed(Preflight(5), [good(1)] * 5)


def test_the_samples_asked_for_first_are_judged_and_not_those_that_came_first(logged: Kept) -> None:
    preflight = Preflight(4)
    numbers = [preflight.next_number() for _ in range(12)]
    for number in numbers[4:]:
        preflight.add(number, "", "stop", [])  # short and early, but asked for later
    for number in reversed(numbers[:3]):
        preflight.add(number, good(number), "stop", [])
    assert not logged.lines
    preflight.add(numbers[3], good(3), "stop", [])
    assert logged.lines == [(logging.INFO, "preflight: 4 of the first 4 samples passed cleaning")]


def test_slow_bad_samples_are_waited_for() -> None:
    preflight = Preflight(4)
    numbers = [preflight.next_number() for _ in range(12)]
    for number in numbers[4:]:
        preflight.add(number, good(number), "stop", [])
    for number in numbers[:3]:
        preflight.add(number, "", "stop", [])
    with pytest.raises(MagpieError):
        preflight.add(numbers[3], "", "stop", [])


CHAT = ["Can you help me to find a new job in another town?", "Tell me about the history of the city of Paris, please."]


def test_it_says_what_passes_cleaning_and_why_the_rest_does_not(logged: Kept) -> None:
    feed(Preflight(6), [good(1), *CHAT, good(2), "", good(3)])
    assert logged.lines == [
        (logging.INFO, "preflight: 3 of the first 6 samples passed cleaning (1 not_math, 1 no_task, 1 empty)")
    ]


@pytest.mark.parametrize(("wanted", "clean", "stops"), [(12, True, True), (12, False, False), (4, True, False)])
def test_a_run_for_clean_problems_stops_where_no_sample_is_one(wanted: int, clean: bool, stops: bool, logged: Kept) -> None:
    samples = [f"{CHAT[n % 2]} I am {'abcdefghijkl'[n]}." for n in range(wanted)]
    if not stops:
        feed(Preflight(wanted, clean=clean), samples)
        return
    with pytest.raises(MagpieError, match=rf"none of the first {wanted} samples passed cleaning \(\d+ .*--openings"):
        feed(Preflight(wanted, clean=clean), samples)
    assert len(logged.at(logging.ERROR)) == wanted and "sample 1 [" in logged.at(logging.ERROR)[0]


def test_it_judges_once(logged: Kept) -> None:
    preflight = Preflight(3)
    feed(preflight, [good(n) for n in range(3)] + [""] * 50)
    assert len(logged.lines) == 1


def test_none_wanted_judges_nothing(logged: Kept) -> None:
    feed(Preflight(0), [""] * 30)
    assert not logged.lines


def test_the_duplicate_alarm_warns_once(logged: Kept) -> None:
    alarm = DuplicateAlarm()
    for n in range(1000):
        alarm.add(good(n % 300))
    warnings = logged.at(logging.WARNING)
    assert len(warnings) == 1 and "repeat" in warnings[0]


def test_the_same_words_in_another_layout_are_a_repetition(logged: Kept) -> None:
    alarm = DuplicateAlarm()
    for n in range(LEAST_TO_ALARM):
        alarm.add(f"  What IS\n{n // 2} ? " if n % 2 else f"what is {n // 2} ?")
    assert len(logged.at(logging.WARNING)) == 1


@pytest.mark.parametrize(
    "texts",
    [
        [good(n) for n in range(2000)],
        [""] * 2000,
        [good(1)] * (LEAST_TO_ALARM - 1),
        [good(n) for n in range(900)] + [good(n) for n in range(int(900 * ALARM_SHARE))],
    ],
    ids=["all different", "empty ones", "too few to tell", "a few"],
)
def test_ordinary_samples_raise_no_alarm(texts: list[str], logged: Kept) -> None:
    alarm = DuplicateAlarm()
    for text in texts:
        alarm.add(text)
    assert not logged.lines


def judged(preflight: Preflight, defects: list[str]) -> None:
    for defect in defects:
        preflight.judge(preflight.next_number(), "a response", defect)


@pytest.mark.parametrize(
    ("defects", "stops"),
    [
        (["thought in the solution"] * 11 + [""] * 9, True),
        (["template tokens"] * 6 + ["empty"] * 6 + [""] * 8, True),
        (["empty"] * 10 + [""] * 10, False),
        (["never ends"] * 18 + [""] * 2, False),
        (["never ends"] * 10 + ["repeats itself"] * 9 + [""], True),
        (["thought without end"] * 20, True),
    ],
)
def test_responses_stop_a_run_by_what_is_wrong_with_most_and_by_the_limit_with_nearly_all(
    defects: list[str], stops: bool, logged: Kept
) -> None:
    if not stops:
        judged(ResponsePreflight(20), defects)
        return
    with pytest.raises(MagpieError, match=r"of the first 20 .*docs/models.md.*--preflight 0"):
        judged(ResponsePreflight(20), defects)
    assert len(logged.at(logging.ERROR)) == 20


@pytest.mark.parametrize(("defect", "stops"), [("never ends", False), ("empty", True)])
def test_a_few_responses_that_were_all_cut_tell_nothing_of_what_ends_them(defect, stops):
    if not stops:
        judged(ResponsePreflight(4), [defect] * 4)
        return
    with pytest.raises(MagpieError, match="4 of the first 4"):
        judged(ResponsePreflight(4), [defect] * 4)
