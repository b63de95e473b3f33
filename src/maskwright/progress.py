"""How long work tells about itself. The library only speaks through this; the shell decides how it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Where long work reports: a bar on a terminal, lines elsewhere, nothing in a test."""

    def task(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """`with progress.task("Decoding", 600) as advance: ... advance(1)`."""
        ...

    def say(self, line: str) -> None:
        """One line that stays, for a person."""
        ...


class Silent:
    """Progress that nobody watches: the default of the library."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda _: None

    def say(self, line: str) -> None:
        pass


SILENT: Progress = Silent()


def duration(seconds: float) -> str:
    """`7 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
