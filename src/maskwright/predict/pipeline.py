"""Three stages at once: what comes next is read while this one is worked on and those before it are written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AHEAD = 2
"""Pictures that are decoded ahead."""
WRITERS = 2
"""Threads that encode and write; zlib and the JPEG encoder let other threads run meanwhile."""
UNWRITTEN = 4
"""Answers that may wait to be written; then the network waits."""

Job = TypeVar("Job")
Read = TypeVar("Read")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


def overlap(
    jobs: Iterable[Job],
    read: Callable[[Job], Read],
    work: Callable[[Job, Read], Answer],
    write: Callable[[Answer], Result],
) -> Generator[Result, None, None]:
    """write(work(job, read(job))) of every job, in the order of the jobs.

    `read` runs in one thread of its own and AHEAD of the rest; `work` in the thread that asks for the results, one job
    after the other; `write` in WRITERS threads. Memory holds AHEAD things read, the one worked on, and UNWRITTEN
    answers. What a stage raises is raised here, in the job's turn; closed early, by an exception too (Ctrl-C), nothing
    new is begun, and what is being written is still finished.
    """
    waiting = iter(jobs)
    reader, writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(WRITERS, "write")
    read_ahead: deque[tuple[Job, Future[Read]]] = deque()
    written: deque[Future[Result]] = deque()

    def begin(count: int) -> None:
        read_ahead.extend((job, reader.submit(read, job)) for job in islice(waiting, count))

    try:
        begin(AHEAD)
        while read_ahead:
            job, found = read_ahead.popleft()
            answer = work(job, _taken(found, begin))
            del found  # memory is for the next one
            written.append(writer.submit(write, answer))
            del answer
            while written and (written[0].done() or len(written) > UNWRITTEN):
                yield written.popleft().result()
        while written:
            yield written.popleft().result()
    finally:
        for stage in (reader, writer):
            stage.shutdown(cancel_futures=True)


def _taken(found: Future[Read], begin: Callable[[int], None]) -> Read:
    """What was read; the next one is begun only then, so that no more lie in memory than was said."""
    read = found.result()
    begin(1)
    return read
