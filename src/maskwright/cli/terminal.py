"""Progress as a person sees it: a bar on a terminal, plain lines in a log file. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from maskwright.progress import Progress, duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 10.0


def terminal() -> Progress:
    """Bars where stderr is a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines(sys.stderr)


class Bars:
    """One live display for all tasks that run at the same time; finished ones disappear."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bars: RichProgress = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._running = 0

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        if self._running == 0:
            self._bars.start()
        self._running += 1
        bar = self._bars.add_task(what, total=total)
        try:
            yield lambda count: self._bars.update(bar, advance=count)
        finally:
            self._bars.remove_task(bar)
            self._running -= 1
            if self._running == 0:
                self._bars.stop()

    def say(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """At most one line every ten seconds per task, so that a log file stays readable."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        started = last = self._clock()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            now = self._clock()
            if now - last >= SECONDS_BETWEEN_LINES and 0 < done < total:
                last = now
                left = (now - started) * (total - done) / done
                self.say(f"{what}: {done}/{total}, {100 * done // total} %, {duration(left)} left")

        yield advance
        if last > started:
            self.say(f"{what}: {done}/{total} in {duration(self._clock() - started)}")

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
