"""What all tests share: the real data where it is at hand, a cache of their own, and calm thread counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from maskwright.config import AugmentConfig

settings.register_profile("calm", deadline=None)  # how long an example takes is up to what else runs here
settings.load_profile("calm")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Words = ParamSpec("Words")
Answer = TypeVar("Answer")


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


class Clock:
    """In the place of the module `time`: no time passes but what is said of some work."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def costs(self, seconds: float, work: Callable[Words, Answer]) -> Callable[Words, Answer]:
        def timed(*words: Words.args, **named: Words.kwargs) -> Answer:
            self.now += seconds
            return work(*words, **named)

        return timed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Training's: 1 s before the first step, 0.2 s a step, 0.4 s a validation, nothing else, on whatever machine."""
    from maskwright.data.store import prepare
    from maskwright.training import loop, step
    from maskwright.training.epoch import validate

    made = Clock()
    for module in (loop, step):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(loop, "prepare", made.costs(1.0, prepare))
    monkeypatch.setattr(step, "load_batch", made.costs(0.2, step.load_batch))
    monkeypatch.setattr(loop, "validate", made.costs(0.4, validate))
    return made


@pytest.fixture(scope="session")
def geometry() -> AugmentConfig:
    """Everything that moves pictures and masks, at once: what the canaries have to survive."""
    return AugmentConfig(
        flip=True,
        flip_vertical=True,
        rotate=45,
        scale=0.2,
        shift=0.2,
        shear=10,
        crop=0.8,
        elastic=0.04,
        probability=0.7,  # the others are only flipped, which is another way through the code
        cutmix=1,
    )


def make_discs(root: Path, *, train: int = 40, validation: int = 12, test: int = 8, side: int = 48) -> Path:
    """Noisy RGB pictures with a brighter disc each, and masks of 0 (background) and 1 (disc), as a folder data set."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for split, count in (("train", train), ("val", validation), ("test", test)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for index in range(count):
            top, left = generator.integers(side // 4, 3 * side // 4, 2)
            disc = (rows - top) ** 2 + (columns - left) ** 2 < int(
                generator.integers(side // 9, side // 4)
            ) ** 2
            picture = (generator.integers(0, 90, (side, side, 3)) + 100 * disc[..., None]).astype(np.uint8)
            Image.fromarray(picture).save(root / split / "images" / f"{split}{index}.png")
            Image.fromarray(disc.astype(np.uint8)).save(root / split / "masks" / f"{split}{index}.png")
    (root / "dataset.yaml").write_text(
        "format: folder\nclasses: [background, disc]\n"
        'images: "{split}/images/{id}.png"\nmasks: "{split}/masks/{id}.png"\n'
    )
    return root


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small binary data set that a small network learns in seconds; not to be written to."""
    return make_discs(tmp_path_factory.mktemp("discs") / "discs")


def make_slopes(root: Path, *, pictures: int = 24, side: int = 32) -> Path:
    """Grey slopes with a brighter disc each, masks of the discs, and `depth` as .npy: 3 * grey level + 7.

    A corner of every depth is not known.
    """
    generator = np.random.default_rng(1)
    rows, columns = np.mgrid[:side, :side]
    for folder in ("images", "masks", "depth"):
        (root / folder).mkdir(parents=True)
    for index in range(pictures):
        top, left = generator.integers(side // 4, 3 * side // 4, 2)
        disc = (rows - top) ** 2 + (columns - left) ** 2 < (side // 5) ** 2
        angle, level = generator.uniform(0, 2 * np.pi), generator.uniform(60, 120)
        slope = 50 * ((rows / side - 0.5) * np.sin(angle) + (columns / side - 0.5) * np.cos(angle))
        picture = (level + slope + 80 * disc).astype(np.uint8)
        depth = 3 * picture.astype(np.float32) + 7
        depth[: side // 8, : side // 8] = np.nan
        Image.fromarray(picture).save(root / "images" / f"{index:02}.png")
        Image.fromarray(disc.astype(np.uint8)).save(root / "masks" / f"{index:02}.png")
        np.save(root / "depth" / f"{index:02}.npy", depth)
    (root / "dataset.yaml").write_text(
        'images: "images/{id}.png"\nmasks: "masks/{id}.png"\ntargets: {depth: "depth/{id}.npy"}\n'
        "classes: [ground, disc]\nvalidation: {fraction: 0.25}\n"
    )
    return root


@pytest.fixture(scope="session")
def slopes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with a dense target that is a function of the picture; not to be written to."""
    return make_slopes(tmp_path_factory.mktemp("slopes") / "slopes")
