"""A small network that has learnt something, for all tests of exporting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import maskwright as mw

SMALL = {
    "model.width": 4,
    "model.depth": 2,
    "input.size": (32, 48),
    "input.fit": "letterbox",
    "input.normalise": "dataset",
    "train.epochs": 16,
    "train.batch": 8,
    "augment.flip": False,
}


@pytest.fixture(scope="package")
def run(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[mw.Run]:
    """Trained on discs; not to be written to."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKWRIGHT_CACHE", str(folder / "cache"))
        yield mw.train("unet", discs, overrides=SMALL, name="discs", runs=folder)
