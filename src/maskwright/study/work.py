"""Runs side by side, each in its process. Stopped or killed, the next call goes on where this one was."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from maskwright.errors import RunError
from maskwright.progress import SILENT, Progress, duration
from maskwright.study.job import Job

Outcome = Literal["done", "failed", "pruned"]

PATIENCE = 120.0
"""Seconds that the runs of a killed study get to save and end, before another process may go on with them."""


@dataclass(frozen=True)
class Running:
    """A process at work."""

    job: Job
    process: subprocess.Popen[bytes]
    begun: float


def run_jobs(
    jobs: Iterator[Job],
    total: int,
    *,
    workers: int,
    lock: IO[str] | None = None,
    falls_behind: Callable[[Job], bool] = lambda job: False,
    ended: Callable[[Job, Outcome], None] = lambda job, outcome: None,
    progress: Progress = SILENT,
) -> list[Job]:
    """Work off `jobs` (asked for one by one, `workers` at a time); those that failed.

    `falls_behind` is asked again and again about runs at work: True ends one, which is no failure. `ended` hears of
    every job. Interrupted, the running ones are asked to save, and waited for.
    """
    at_work: list[Running] = []
    failed: list[Job] = []
    more = True
    try:
        with progress.task("Runs", total) as advance:
            while more or at_work:
                while more and len(at_work) < workers:
                    job = next(jobs, None)
                    if job is None:
                        more = False
                    else:
                        at_work.append(_start(job, lock))
                for one in list(at_work):
                    behind = one.process.poll() is None and falls_behind(one.job)
                    if behind:
                        one.process.terminate()
                        one.process.wait()
                    elif one.process.poll() is None:
                        continue
                    at_work.remove(one)
                    outcome: Outcome = (
                        "pruned" if behind else "done" if one.process.returncode == 0 else "failed"
                    )
                    failed += [one.job] if outcome == "failed" else []
                    ended(one.job, outcome)
                    took = duration(time.monotonic() - one.begun)
                    progress.say(f"{one.job.name}: {_words(one.job, outcome)} ({took})")
                    advance(1)
                time.sleep(0.1)
    finally:
        for one in at_work:
            one.process.terminate()
        for one in at_work:
            one.process.wait()
    return failed


def _words(job: Job, outcome: Outcome) -> str:
    return f"failed: {reason(job)}" if outcome == "failed" else outcome


def log_file(job: Job) -> Path:
    """What the process wrote on stdout and stderr; what training said lies in the run's log.txt."""
    path = Path(job.path)
    return path.parent / "logs" / f"{path.name}.log"


def reason(job: Job) -> str:
    """Why it failed: the last line of its log."""
    try:
        lines = log_file(job).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else f"it was killed, or ended without a word; see {log_file(job)}"


def _start(job: Job, lock: IO[str] | None) -> Running:
    log = log_file(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as handle:
        process = subprocess.Popen(
            job.command(),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(job.threads)},
            pass_fds=() if lock is None else (lock.fileno(),),
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )
    return Running(job, process, time.monotonic())


@contextmanager
def only_one(folder: Path, progress: Progress = SILENT) -> Iterator[IO[str] | None]:
    """The study folder is ours alone, until this process and the runs that it began have ended.

    The runs inherit the lock: after a kill they save and end by themselves, and the next study waits for that. Raises
    RunError where a living study works there.
    """
    if os.name != "posix":
        yield None
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+", encoding="utf-8") as handle:
        limit = time.monotonic() + PATIENCE
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = (folder / "lock").read_text(encoding="utf-8").strip()
                if (owner.isdigit() and _lives(int(owner))) or time.monotonic() > limit:
                    raise RunError(
                        f"{folder} is being worked on by process {owner}",
                        "wait for it, or stop it with Ctrl-C",
                    ) from None
                if not told:
                    progress.say(f"Waiting for the runs of the killed study in {folder} to save")
                    told = True
                time.sleep(0.2)
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield handle


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def workers_that_fit(threads: int, device: str) -> int:
    """As many runs as there are cores for their threads; one where an accelerator does the work."""
    import torch

    if device != "cpu" and torch.accelerator.is_available():
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)
