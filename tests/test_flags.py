"""Flags that programs share: switches, and option dataclasses filled from a command line."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass

import pytest

from magpie.cli.flags import Parser, number, options_from, switch
from magpie.config.model_presets import Sampling
from magpie.generation.session import ModelOptions, SamplingOptions


@dataclass(frozen=True)
class Options:
    """What a program would ask for."""

    first: int
    second: bool


def parser(default: bool | None = False) -> Parser:
    made = Parser("A program.")
    made.add_argument("--first", type=int, default=1)
    switch(made, "--second", "do the second", default=default)
    return made


def test_options_have_the_values_of_the_command_line() -> None:
    args = parser().parse_args(["--first", "3", "--second"])
    args.third = "is nobody's"
    assert options_from(args, Options) == Options(3, True)


def test_options_without_their_flag_are_refused() -> None:
    args = parser().parse_args([])
    del args.second
    with pytest.raises(AttributeError, match="second"):
        options_from(args, Options)


@pytest.mark.parametrize(("default", "shown"), [(True, "(default on)"), (False, "(default off)"), (None, "do the second")])
def test_a_switch_goes_both_ways_and_shows_its_default(default: bool | None, shown: str) -> None:
    made = parser(default)
    given = [made.parse_args(flags).second for flags in ([], ["--second"], ["--no-second"])]
    assert given == [default, True, False]
    action = next(each for each in made._actions if each.dest == "second")
    assert (action.help or "").split(" (default: ")[0].endswith(shown)


def test_sampling_options_stand_over_the_preset_and_a_zero_is_given() -> None:
    preset = Sampling(temperature=0.7, top_p=0.9, max_tokens=100, top_k=20)
    assert SamplingOptions(None, None, None).over(preset) == preset
    assert SamplingOptions(0.0, None, 5).over(preset) == Sampling(temperature=0.0, top_p=0.9, max_tokens=5, top_k=20)


def test_one_price_is_enough_to_count_the_cost() -> None:
    others = dict.fromkeys(ModelOptions.__dataclass_fields__)
    assert ModelOptions(**others).prices is None  # type: ignore[arg-type]
    prices = ModelOptions(**others | {"completion_price": 2.0}).prices  # type: ignore[arg-type]
    assert prices is not None and (prices.prompt, prices.completion) == (0.0, 2.0)


def test_a_number_that_is_no_float_is_out_of_range_and_no_bug() -> None:
    with pytest.raises(ArgumentTypeError, match="out of range: it must be a whole number, at most 1e\\+09"):
        number(int, most=1e9)("9" * 400)
    with pytest.raises(ArgumentTypeError, match="out of range"):
        number(float)("inf")
    assert number(int)("-3") == -3
