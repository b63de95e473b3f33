"""Ctrl-C asks politely once: the step ends, the state is saved. The second one is obeyed at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    asked: bool = False


@contextmanager
def polite_stop() -> Iterator[Stop]:
    """Within, SIGINT and SIGTERM set `asked`; a second one raises KeyboardInterrupt.

    Python allows handlers in the main thread only; elsewhere nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
