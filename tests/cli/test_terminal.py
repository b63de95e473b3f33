from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from maskwright.cli.terminal import Bars, Lines
from maskwright.progress import Progress, duration


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(progress: Progress, what: str, steps: int, before_each: Callable[[], None]) -> None:
    with progress.task(what, steps) as advance:
        for _ in range(steps):
            before_each()
            advance(1)


def test_lines_come_at_most_every_ten_seconds_with_percent_and_time_left() -> None:
    clock, stream = Clock(), io.StringIO()

    def four_seconds() -> None:
        clock.now += 4

    run(Lines(stream, clock), "Decoding", 10, four_seconds)
    assert stream.getvalue().splitlines() == [
        "Decoding: 3/10, 30 %, 28 s left",
        "Decoding: 6/10, 60 %, 16 s left",
        "Decoding: 9/10, 90 %, 4 s left",
        "Decoding: 10/10 in 40 s",
    ]


def test_a_short_task_says_nothing() -> None:
    clock, stream = Clock(), io.StringIO()
    run(Lines(stream, clock), "Decoding", 1000, lambda: None)
    assert stream.getvalue() == ""


def test_spoken_lines_appear_at_once() -> None:
    stream = io.StringIO()
    Lines(stream, Clock()).say("epoch 1: [ok]")
    assert stream.getvalue() == "epoch 1: [ok]\n"


def test_bars_nest_and_speak_without_reading_markup(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    with bars.task("Outer [x]", 2) as outer:
        run(bars, "Inner", 3, lambda: None)
        bars.say("[red]as it is[/red]")
        outer(2)
    run(bars, "Again", 1, lambda: None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "[red]as it is[/red]" in err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
