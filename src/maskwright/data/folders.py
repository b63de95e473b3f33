"""Folders of the cache that are either whole or not there: filled beside their place, flushed, renamed."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from maskwright.errors import DataError, RunError
from maskwright.files import sync_folder

STALE = 3600.0
"""Seconds without a write after which a partial folder is what a killed process left."""


def build_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """`fill` gets an empty folder beside `target`, which then takes its place in one step.

    A process killed at any moment leaves no `target`. When two processes build the same folder, the first one
    done wins: names of cache folders are hashes of all that decides their content. Raises RunError when the disk
    is full or the cache cannot be written; nothing is left behind then.
    """
    partial = target.with_name(f"{target.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        _sweep(target.parent)
        fill(partial)
        for path in partial.iterdir():
            with open(path, "rb+") as handle:
                os.fsync(handle.fileno())
        sync_folder(partial)
        try:
            os.rename(partial, target)
        except OSError:
            if not target.is_dir():
                raise
        sync_folder(target.parent)
    except OSError as error:
        raise RunError(
            f"{target} could not be written: {error.strerror or error}",
            "free some space (`maskwright cache clean`), or let MASKWRIGHT_CACHE name another folder",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_room(folder: Path, size: int, what: str) -> None:
    """Raises DataError where `size` bytes do not fit on the disk: a small archive may claim to hold anything."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{what} claims {size / 2**30:.0f} GiB, and {folder} has {free / 2**30:.0f} GiB left",
            "free some space, or let MASKWRIGHT_CACHE name another folder",
        )


def _sweep(parent: Path) -> None:
    """Remove partial folders that nobody has written to for long."""
    for partial in parent.glob("*.partial-*"):
        try:
            newest = max(path.stat().st_mtime for path in [partial, *partial.iterdir()])
        except OSError:  # its owner was done in this moment
            continue
        if time.time() - newest > STALE:
            shutil.rmtree(partial, ignore_errors=True)
