"""Three stages at once: results in order, few things in memory, a clean end whatever happens."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from maskwright.predict.pipeline import AHEAD, UNWRITTEN, WRITERS, overlap


def running() -> list[threading.Thread]:
    """Threads of the stages. Others, such as an earlier test's, come and go as they like."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]


def test_results_come_in_the_order_of_the_jobs_whatever_takes_longer() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number < 3 else 0)
        return -number

    results = list(overlap(range(20), lambda job: job + 1, lambda job, read: 100 * job + read, slow_at_first))
    assert results == [-(100 * job + job + 1) for job in range(20)]
    assert list(overlap([], abs, max, abs)) == []


def test_each_stage_has_threads_of_its_own_and_work_has_the_callers() -> None:
    here, threads = threading.get_ident(), {"read": set[int](), "work": set[int](), "write": set[int]()}

    def stage(name: str) -> None:
        threads[name].add(threading.get_ident())
        time.sleep(0.002)

    list(overlap(range(12), lambda _: stage("read"), lambda *_: stage("work"), lambda _: stage("write")))
    assert threads["work"] == {here}
    assert len(threads["read"]) == 1
    assert 1 <= len(threads["write"]) <= WRITERS
    assert here not in threads["read"] | threads["write"]


def test_stages_overlap() -> None:
    """A picture is read while another is worked on and a third is written: none waits for all of the others."""
    meeting = threading.Barrier(3, timeout=10)

    def meet(job: int, *turn: int) -> int:
        if job in turn:
            meeting.wait()
        return job

    # Job 1 is read while 0 is worked on; when 0 is being written, 1 is worked on and 2 is read.
    done = overlap(range(6), lambda j: meet(j, 2), lambda j, _: meet(j, 1), lambda j: meet(j, 0))
    assert list(done) == list(range(6))


def test_memory_holds_few_things() -> None:
    lock, alive, most = threading.Lock(), 0, 0

    def read(job: int) -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return job

    def write(_: int) -> None:
        nonlocal alive
        time.sleep(0.002)
        with lock:
            alive -= 1

    list(overlap(range(100), read, lambda job, _: job, write))
    assert alive == 0
    # read ahead, worked on, waiting to be written, and one whose result is about to be fetched
    assert most <= AHEAD + 1 + UNWRITTEN + 1


@pytest.mark.parametrize("where", ["read", "work", "write"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_ends_it_in_its_turn(where: str, error: type[BaseException]) -> None:
    begun: list[int] = []

    def stage(name: str, job: int) -> int:
        if name == "read":
            begun.append(job)
        if (name, job) == (where, 5):
            raise error("here")
        return job

    results: list[int] = []
    stages = partial(stage, "read"), lambda job, _: stage("work", job), partial(stage, "write")
    with pytest.raises(error, match="here"):
        results.extend(overlap(range(1000), *stages))
    assert results == list(range(len(results)))
    assert len(results) <= 5
    assert max(begun) <= 5 + AHEAD + UNWRITTEN + 1
    assert not running()


def test_closed_early_what_is_being_written_is_finished() -> None:
    written: list[int] = []

    def write(job: int) -> int:
        time.sleep(0.01)
        written.append(job)
        return job

    finished = overlap(range(1000), abs, lambda job, _: job, write)
    first = next(finished)
    finished.close()
    assert first == 0
    assert 1 <= len(written) <= 1 + UNWRITTEN + WRITERS
    assert not running()
