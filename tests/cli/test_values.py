from __future__ import annotations

from typing import Any

import pytest

from blis_sim.cli import values
from blis_sim.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "tokens"),
    [("8192", 8192), ("8k", 8000), ("8K", 8192), ("1.5k", 1500), ("1M", 2**20)],
)
def test_token_counts_may_be_short(typed: str, tokens: int) -> None:
    """As in vLLM a small k is 1,000 and a large one 1,024."""
    assert values.token_count(typed, "--x") == tokens


@pytest.mark.parametrize("typed", ["", "x", "8kk", "-1", "1e3", "1.0001k"])
def test_other_token_counts_are_errors(typed: str) -> None:
    """The message names the flag."""
    with pytest.raises(ConfigError, match=r"^--x must be a (number|whole number) of tokens"):
        values.token_count(typed, "--x")


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("600s", 600),
        ("1500ms", 1.5),
        ("10m", 600),
        ("1h", 3600),
        ("1h30m", 5400),
        ("250us", 0.00025),
        ("0.5 s", 0.5),
    ],
)
def test_times_have_units(typed: str, seconds: float) -> None:
    """A unit, or several."""
    assert values.duration_s(typed, "--x") == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("typed", ["", "5", "s", "-5s", "5s6"])
def test_times_without_units_are_errors(typed: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigError, match=r"^--x must be a time with its unit"):
        values.duration_s(typed, "--x")


def test_an_unknown_unit_lists_the_nearest() -> None:
    """Years and fortnights are none."""
    with pytest.raises(ConfigError, match=r"unit of --x must be a known name; got 'secs'; near"):
        values.duration_s("5secs", "--x")


def test_three_numbers_are_coefficients() -> None:
    """Commas, blanks or both."""
    assert values.three_numbers("1, 0.5 ,3e2", "--x") == [1, 0.5, 300]
    assert values.three_numbers("[1 2 3]", "--x") == [1, 2, 3]


@pytest.mark.parametrize("typed", ["1,2", "1,2,3,4", "1,2,-3", "1,2,inf", "1,2,nan"])
def test_other_coefficients_are_errors(typed: str) -> None:
    """Exactly three, finite, not negative."""
    with pytest.raises(ConfigError, match=r"^--x must be three finite numbers >= 0"):
        values.three_numbers(typed, "--x")


def test_percentiles_are_in_range() -> None:
    """From 0 to 100."""
    assert values.percentiles("25,99.9", "--x") == (25, 99.9)
    for typed in ("101", "-1", "nan"):
        with pytest.raises(ConfigError, match=r"^--x must be percentiles in 0\.\.100"):
            values.percentiles(typed, "--x")
    for typed in ("", "p99"):
        with pytest.raises(ConfigError, match=r"^--x must be numbers with commas"):
            values.percentiles(typed, "--x")


def test_words_are_compared_loosely() -> None:
    """Case and underscores do not matter; anything else lists what there is."""
    parse = values.one_of({"priority-fcfs": "priority", "fcfs": "fcfs"})
    found: list[Any] = [parse(word, "--x") for word in ("FCFS", "priority_fcfs")]
    assert found == ["fcfs", "priority"]
    with pytest.raises(ConfigError, match=r"^--x must be one of priority-fcfs, fcfs; got 'lifo'"):
        parse("lifo", "--x")
