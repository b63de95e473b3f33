"""What all tests share: the real data where it is at hand, a cache of their own, and calm thread counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def _real_data(name: str) -> Path:
    root = Path(os.environ.get("MASKWRIGHT_TEST_DATA", SHARED)) / name
    if not root.is_dir():
        pytest.skip(f"the real pictures of {name!r} are not here (MASKWRIGHT_TEST_DATA names their folder)")
    return root


@pytest.fixture(scope="session")
def pets() -> Path:
    """A part of Oxford-IIIT Pet."""
    return _real_data("pets")


@pytest.fixture(scope="session")
def camvid() -> Path:
    """CamVid, 11 classes and void."""
    return _real_data("camvid")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, so that no test sees what another decoded."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread_per_worker() -> None:
    """Two test processes share two cores; torch would otherwise start two threads in each."""
    torch.set_num_threads(1)
