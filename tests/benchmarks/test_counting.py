"""The benchmark's own arithmetic: whose time it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from counting import Stopwatch


@dataclass(frozen=True)
class Door:
    """Opens at the next second of a clock."""

    seconds: Iterator[int]

    def open(self) -> int:
        return next(self.seconds)


def test_time_within_an_inner_part_is_not_the_outer_ones() -> None:
    seconds = iter([0, 10, 11, 100, 120, 300])
    watch = Stopwatch(lambda: next(seconds))
    with watch.part("outer"), watch.part("inner"):  # from 10 to 120, and within from 11 to 100
        pass
    assert watch.spent == {"outer": 1 + 20, "inner": 89}


def test_a_patched_method_is_booked_and_put_back() -> None:
    seconds = iter(range(0, 100, 5))
    watch, inner = Stopwatch(lambda: next(seconds)), Door.open
    with watch.around(Door, "open", "doors"):
        assert Door(iter([7])).open() == 7
    assert watch.spent == {"doors": 5}
    assert Door.open is inner
