"""What the tests of verbs share: a folder to work in, with a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MASKWRIGHT_CACHE", str(folder / "cache"))
        yield


@pytest.fixture
def here(workshop: Path) -> Iterator[Path]:
    """The module's `workshop`, a folder with data and runs, as the current folder."""
    with working_in(workshop):
        yield workshop
