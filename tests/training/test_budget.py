"""A budget's plan, by hand computation."""

from __future__ import annotations

import pytest

from maskwright.errors import ConfigError
from maskwright.training.budget import RESERVE, parse_budget, plan_steps
from maskwright.training.step import Counters


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1.5h", 5400), ("0.5m", 30)]
)
def test_times_a_person_writes(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "0s", "-3m", "15 minutes"])
def test_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write 90s, 15m or 1h30m"):
        parse_budget(text)


def counters(**changes: object) -> Counters:
    values: dict[str, object] = {"budget": 100 / (1 - RESERVE), "step_seconds": [9.0] * 4 + [0.5] * 20}
    return Counters(**(values | changes))  # type: ignore[arg-type]


def test_whole_epochs_that_fit() -> None:
    # An epoch is 10 steps of 0.5 s and 1 s of validation: 6 s. 100 s hold 16 of them.
    assert plan_steps(counters(), 0.0, 10, 1.0) == 160
    # In the middle of an epoch, 6 steps to go: 4 s to its end, then (100 - 40 - 4) / 6 = 9 more.
    assert plan_steps(counters(step=24, step_in_epoch=4, epoch=2), 40.0, 10, 1.0) == 24 + 6 + 90


def test_less_than_three_epochs_are_planned_in_steps() -> None:
    # An epoch of 100 steps costs 51 s: one fits, so steps are counted: (100 - 1) / 0.5.
    assert plan_steps(counters(), 0.0, 100, 1.0) == 198


def test_the_plan_ends_when_the_time_is_up() -> None:
    assert plan_steps(counters(step=160, epoch=16), 99.0, 10, 1.0) == 160
    assert plan_steps(counters(step=7, epoch=1), 200.0, 100, 1.0) == 7
    assert (
        plan_steps(counters(step=3, step_in_epoch=3), 200.0, 100, 1.0) == 4
    )  # there must be a model to keep


def test_a_slow_start_does_not_shorten_the_plan() -> None:
    slow = counters(step_seconds=[30.0] * 4 + [0.5] * 8)
    assert plan_steps(slow, 0.0, 10, 1.0) == 160
