"""What was once found out about a file: kept as long as its size and time stay the same.

Content hashes, header sizes and mask histograms are facts about a file; they live in one SQLite file of the
cache folder, so that a data set opens fast the second time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from maskwright.data.documents import check_plain
from maskwright.data.part import Part
from maskwright.errors import DataError, RunError
from maskwright.files import cache_folder
from maskwright.progress import SILENT, Progress

Stamp: TypeAlias = tuple[int, int]
"""Size in bytes, time of the last change in nanoseconds."""

RACY_SECONDS = 2.0
"""A file changed so recently may change again within the same tick of its file system's clock: not remembered."""

_QUESTION = 500
"""Paths in one query; SQLite allows 999 parameters everywhere."""

_TOGETHER = 16
"""Files that a thread is given at once where there are many: to hand over one takes as long as to read a small one."""

Place = TypeVar("Place", bound=Path | Part)


def recall(
    kind: str,
    paths: Sequence[Place],
    find_out: Callable[[Place], object],
    *,
    what: str = "Reading",
    progress: Progress = SILENT,
) -> list[object | DataError]:
    """One JSON-able fact per path (or part of a file), in order: from the cache, or found out by `find_out` in threads.

    `kind` names the fact and its version. A DataError of `find_out` takes the fact's place and is not
    remembered, so that a mended file is looked at again.
    """
    unique = list(dict.fromkeys(paths))
    stamps = {path: _stamp(path) for path in unique}
    known = _read(kind, unique, stamps)
    missing = [path for path in unique if path not in known]

    def attempt(path: Place) -> object:
        try:
            for file in (path,) if isinstance(path, Path) else path.files:
                if file.exists():
                    check_plain(file)
            return find_out(path)
        except DataError as error:
            return error

    fresh: dict[Place, object] = {}
    if missing:
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            with progress.task(what, len(missing)) as advance:
                step = _TOGETHER if len(missing) > 100 * _TOGETHER else 1
                parts = [missing[start : start + step] for start in range(0, len(missing), step)]
                for part, facts in zip(
                    parts, pool.map(lambda part: [attempt(path) for path in part], parts), strict=True
                ):
                    fresh.update(zip(part, facts, strict=True))
                    advance(len(part))
        finally:  # whoever interrupts does not wait for the rest, and keeps what was found out
            pool.shutdown(cancel_futures=True)
            _write(kind, fresh, stamps)
    return [known[path] if path in known else fresh[path] for path in paths]


def content_hashes(paths: Sequence[Path], progress: Progress = SILENT) -> list[str]:
    """SHA-256 of each file, in hex. Raises DataError for a file that cannot be read."""
    hashes = []
    for fact in recall("sha256", paths, _hash_file, what="Hashing", progress=progress):
        if isinstance(fact, DataError):
            raise fact
        hashes.append(str(fact))
    return hashes


def digest(lines: Iterable[str]) -> str:
    """16 hex digits of the SHA-256 over the lines."""
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode() + b"\n")
    return total.hexdigest()[:16]


def _hash_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "check that it is there and readable"
        ) from error


def _stamp(place: Path | Part) -> Stamp | None:
    """Of two files: the size of both, and the later of the times."""
    try:
        states = [path.stat() for path in (place.files if isinstance(place, Part) else (place,))]
    except OSError:
        return None
    return sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def _text(place: Path | Part) -> str:
    """What a fact is remembered under. A second file enters with its time: the stamp shows only the later one."""
    if isinstance(place, Path):
        return printable(os.path.abspath(place))
    beside = place.beside and [os.path.abspath(place.beside), _stamp(place.beside)]
    inside = digest([json.dumps([place.form, place.key, place.told, beside])])
    return f"{printable(os.path.abspath(place.file))}\0{inside}"


def printable(name: str) -> str:
    """A name whose bytes are no UTF-8, with those bytes written out: neither SQLite nor a terminal takes it raw."""
    return name.encode("utf-8", "backslashreplace").decode()


def _connect() -> sqlite3.Connection:
    connection = sqlite3.connect(cache_folder() / "fingerprints.sqlite", timeout=30)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS facts (kind TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, fact TEXT, "
        "PRIMARY KEY (kind, path)) WITHOUT ROWID"
    )
    return connection


def _read(kind: str, paths: Sequence[Place], stamps: dict[Place, Stamp | None]) -> dict[Place, object]:
    by_text = {_text(path): path for path in paths}
    texts, known = list(by_text), dict[Place, object]()
    try:
        with closing(_connect()) as connection:
            for start in range(0, len(texts), _QUESTION):
                chunk = texts[start : start + _QUESTION]
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(
                    f"SELECT path, size, mtime_ns, fact FROM facts WHERE kind = ? AND path IN ({marks})",
                    [kind, *chunk],
                )
                for text, size, mtime_ns, fact in rows:
                    if stamps[by_text[text]] == (size, mtime_ns):
                        known[by_text[text]] = json.loads(fact)
    except (sqlite3.OperationalError, RunError):
        return {}  # locked or read-only: a cache may be of no help, never a hindrance
    except sqlite3.DatabaseError:
        with suppress(OSError):
            (cache_folder() / "fingerprints.sqlite").unlink(missing_ok=True)
        return {}
    return known


def _write(kind: str, facts: dict[Place, object], stamps: dict[Place, Stamp | None]) -> None:
    settled = time.time_ns() - int(RACY_SECONDS * 1e9)
    rows = []
    for path, fact in facts.items():
        stamp = stamps[path]
        if stamp is not None and stamp[1] < settled and not isinstance(fact, DataError):
            rows.append((kind, _text(path), *stamp, json.dumps(fact)))
    with suppress(sqlite3.Error, RunError), closing(_connect()) as connection, connection:
        connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", rows)
