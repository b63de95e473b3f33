"""train.foreground: the share that is asked for, drawn by (seed, epoch), nothing else of an epoch changed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from safetensors.numpy import load_file

import maskwright as mw
from maskwright.augment.params import draw
from maskwright.config import AugmentConfig, InputConfig, make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.data.store import prepare
from maskwright.progress import SILENT, Progress
from maskwright.training.step import epoch_order, epoch_pictures

ROWS = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])
HOLDS = np.isin(ROWS, [5, 19])


def before(rows: np.ndarray, copies: int, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The order as it was before there was a share: its bits are in every receipt."""
    order = np.random.default_rng([seed, epoch]).permutation(len(rows) * (copies + 1))
    return rows[order % len(rows)], order // len(rows)


def test_half_of_an_epoch_by_hand() -> None:
    """Of ten rows two hold foreground: at a half they fill five places, and five of the other eight the rest."""
    rows, copies = epoch_order(ROWS, 0, 4, 1, HOLDS, 0.5)
    held = np.isin(rows, [5, 19])
    assert (len(rows), held.sum()) == (10, 5)
    assert sorted(Counter(rows[held].tolist()).values()) == [2, 3]
    assert len(set(rows[~held].tolist())) == 5
    assert not copies[~held].any()
    for row in (5, 19):
        assert sorted(copies[rows == row]) == list(range((rows == row).sum()))


@given(
    some.integers(1, 40),
    some.integers(0, 3),
    some.floats(0, 1),
    some.integers(0, 50),
    some.integers(0, 2**40),
)
def test_shares_lengths_and_copies(count: int, copies: int, share: float, epoch: int, seed: int) -> None:
    rows = np.arange(count) * 3
    holds = np.random.default_rng(seed).random(count) < 0.3
    chosen, numbers = epoch_order(rows, copies, epoch, seed, holds, share)
    total, held = count * (copies + 1), holds[chosen // 3]
    least = math.ceil(round(share * total, 6)) if holds.any() else 0
    assert len(chosen) == total
    assert held.sum() == max(least, holds.sum() * (copies + 1))
    assert len(set(zip(chosen.tolist(), numbers.tolist(), strict=True))) == total, (
        "two of the same augmentation"
    )
    others = numbers[~held]
    assert (others <= copies).all()
    times = Counter(chosen[held].tolist()).values()
    assert not times or max(times) - min(times) <= copies + 1
    again = epoch_order(rows, copies, epoch, seed, holds, share)
    np.testing.assert_array_equal(np.stack(again), np.stack([chosen, numbers]))


@pytest.mark.parametrize("copies", [0, 2])
def test_where_nothing_is_asked_or_nothing_is_lacking_the_bits_stay(copies: int) -> None:
    expected = np.stack(before(ROWS, copies, 3, 9))
    for holds, share in ((None, 0.0), (HOLDS, 0.0), (HOLDS, 0.2), (HOLDS & False, 0.9), (HOLDS | True, 1.0)):
        np.testing.assert_array_equal(np.stack(epoch_order(ROWS, copies, 3, 9, holds, share)), expected)
    assert not np.array_equal(np.stack(epoch_order(ROWS, copies, 3, 9, HOLDS, 0.4)), expected)


def test_epochs_and_seeds_draw_others() -> None:
    seen = {
        tuple(epoch_order(ROWS, 0, epoch, seed, HOLDS, 0.5)[0]) for epoch in range(3) for seed in range(3)
    }
    assert len(seen) == 9
    background = Counter(
        row for epoch in range(2000) for row in epoch_order(ROWS, 0, epoch, 0, HOLDS, 0.5)[0].tolist()
    )
    others = [background[row] for row in ROWS[~HOLDS].tolist()]
    assert max(abs(count - 1250) for count in others) < 5 * math.sqrt(2000 * 5 / 8 * 3 / 8)


@pytest.mark.parametrize("copies", [0, 1])
def test_a_picture_shown_again_is_augmented_anew(copies: int) -> None:
    config = AugmentConfig(rotate=30, noise=0.1, copies=copies)
    rows, numbers = epoch_order(ROWS, copies, 0, 5, HOLDS, 0.8)
    params = draw(rows, 0, config, seed=5, copies_B=numbers)
    for row in (5, 19):
        angles, originals = params.angle_B[rows == row], (numbers[rows == row] == 0) & (copies > 0)
        assert len(set(angles.tolist())) == len(angles) > 3
        assert (angles == 0).sum() == originals.sum()


def write(root: Path, empty: int, full: int) -> Path:
    """Pictures of 20 x 20; the last `full` ones have a square of class 1, all an unknown corner. As many validate."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(empty + full):
            mask = np.zeros((20, 20), np.uint8)
            mask[4:12, 4:12] = number >= empty
            mask[:2] = 255
            picture = (random.integers(0, 60, (20, 20)) + 120 * (mask == 1)).astype(np.uint8)
            for kind, array in (("images", picture), ("masks", mask)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / split / kind / f"{number:02}.png")
    (root / "dataset.yaml").write_text(
        "classes: [ground, square]\nvalues: {0: ground, 1: square, 255: ignore}\n"
        'images: "{split}/images/{id}.png"\nmasks: "{split}/masks/{id}.png"\n'
    )
    return root


def test_the_store_counts_foreground_as_training_sees_it(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path, 5, 2))
    for fit in ("resize", "letterbox", "crop"):
        config = InputConfig.model_validate({"size": (10, 12), "fit": fit})
        for _ in range(2):  # built, then read
            store = prepare(dataset, config)
            labels = [store.labels(np.array([row])) for row in range(14)]
            assert store.foreground.tolist() == [((label > 0) & (label < 255)).sum() for label in labels]
            assert (store.foreground > 0).tolist() == [name.endswith(("05", "06")) for name in store.ids]
    recipe = make_recipe({"input.size": (10, 12), "train.foreground": 0.5})
    rows, _ = epoch_pictures(prepare(dataset, recipe.input), recipe, 0)
    assert (prepare(dataset, recipe.input).foreground[rows] > 0).sum() == 4


TINY: dict[str, object] = {
    "model.width": 4,
    "model.depth": 2,
    "input.size": 16,
    "train.epochs": 3,
    "train.batch": 4,
    "train.precision": "fp32",
    "train.foreground": 0.6,
    "augment.rotate": 20,
    "augment.mixup": 0.4,
}


@pytest.mark.slow
@pytest.mark.ci
def test_it_resumes_and_replays_to_the_same_bits(tmp_path: Path) -> None:
    data = write(tmp_path / "data", 10, 2)
    whole = mw.train("unet", data, TINY, "whole", runs=tmp_path)
    assert whole.verify(steps=8).verdict == "exact"

    class Stopping:
        """Progress of a person who presses Ctrl-C when the first epoch is told."""

        task = staticmethod(SILENT.task)

        def say(self, line: str) -> None:
            if line.startswith("epoch 1"):
                raise KeyboardInterrupt

    stopper: Progress = Stopping()
    with pytest.raises(KeyboardInterrupt):
        mw.train("unet", data, TINY, "part", runs=tmp_path, progress=stopper)
    part = mw.Run.open(tmp_path / "part").resume()
    files = [load_file(run.folder.model / "model.safetensors") for run in (whole, part)]
    assert all(np.array_equal(files[0][name], files[1][name]) for name in files[0])
    plain = mw.train("unet", data, {**TINY, "train.foreground": 0}, "plain", runs=tmp_path)
    assert len(plain.folder.read_metrics()) == len(whole.folder.read_metrics())
    other = load_file(plain.folder.model / "model.safetensors")
    assert not all(np.array_equal(files[0][name], other[name]) for name in other)
