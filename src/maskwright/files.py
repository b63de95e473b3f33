"""Files that are either whole or not there: write beside, fsync, rename. And where the cache lies."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from maskwright.errors import ConfigError, RunError


def cache_folder() -> Path:
    """`MASKWRIGHT_CACHE`, or the user's cache folder; made when it is missing. Raises RunError."""
    named = os.environ.get("MASKWRIGHT_CACHE")
    folder = Path(named) if named else user_cache_path("maskwright")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the cache {folder} cannot be made: {error.strerror or error}",
            "let MASKWRIGHT_CACHE name another folder",
        ) from error
    return folder


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut (a no-op where folders cannot be opened)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, to be filled, which then takes its place in one step.

    Whatever happens, `path` holds the old content or the new one. Raises RunError when the disk is full
    or the folder is read-only; the old file is still there then.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror or error}",
            "free some space or choose another folder; what was saved before is still whole",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the parent may be no folder at all: that is already said
            beside.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a temporary file that takes the place of `path`. Raises RunError, see `replacing`."""
    with replacing(path) as beside:
        write(beside)


def write_text(path: Path, text: str) -> None:
    """UTF-8, atomically."""
    write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda beside: beside.write_bytes(content))


def write_new(path: Path, content: bytes) -> None:
    """The same where there is no such file yet, and nothing where there is one: of several processes, one is first.

    Raises OSError.
    """
    beside = _beside(path)
    try:
        beside.write_bytes(content)
        os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:  # a disk without hard links, or one that cannot be written to at all
        with contextlib.suppress(FileExistsError), open(path, "xb") as new:
            new.write(content)
    finally:
        beside.unlink(missing_ok=True)


def file_hash(file: Path) -> str:
    """16 hex digits of the SHA-256 of its content; empty where it cannot be read."""
    try:
        with open(file, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    except OSError:
        return ""


def check_ours(path: Path, mark: str) -> None:
    """Raises ConfigError where a file would be replaced that does not begin with what holds `mark`: it is not ours."""
    with contextlib.suppress(OSError):  # there is none, or writing it will say what is wrong
        with open(path, "rb") as file:
            ours = mark.encode() in file.read(4096)
        if not ours:
            raise ConfigError(
                f"{path} is there already, and not from this command", "name another with --out"
            )


def publish(source: Path, target: Path, names: Sequence[str]) -> None:
    """Move finished files from one folder to another on the same disk, in this order, each whole or not at all.

    Raises RunError when that cannot be done.
    """
    try:
        for name in names:
            with open(source / name, "rb+") as handle:
                os.fsync(handle.fileno())
        for name in names:
            os.replace(source / name, target / name)
        sync_folder(target)
    except OSError as error:
        raise RunError(
            f"{target / name} could not be written: {error.strerror or error}",
            "free some space or choose another folder",
        ) from error


def remove_partials(folder: Path) -> None:
    """Delete what a kill in the middle of a write left behind."""
    for leftover in folder.rglob(".*.partial"):
        leftover.unlink(missing_ok=True)


def remove_partials_of(paths: Iterable[Path], before: float = math.inf) -> None:
    """The same for these files alone, in folders that may hold the work of others: of what was last written to `before`
    that time."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, wanted in names.items():
        for leftover in folder.glob(".*.partial"):
            if leftover.name[1:].rsplit(".", 2)[0] in wanted:
                with contextlib.suppress(FileNotFoundError):  # its owner was done in this moment
                    if leftover.stat().st_mtime < before:
                        leftover.unlink()
