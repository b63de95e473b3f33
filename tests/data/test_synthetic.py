"""The generated data sets keep what they promise: shares, seeds, nonsense, and that no threshold solves them."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from maskwright.data import synthetic
from maskwright.data.dataset import open_dataset
from maskwright.data.synthetic import KINDS, Pictures, materialise
from maskwright.errors import DataError, RunError

Split = Callable[[str], Pictures]


@pytest.fixture(scope="module")
def terrain() -> Split:
    drawn = {
        split: KINDS["terrain"].draw(count, split, 0) for split, count in (("train", 240), ("test", 240))
    }
    return drawn.__getitem__


def mean_iou(truth: NDArray[np.uint8], predicted: NDArray[np.int64], classes: int) -> float:
    """The slow way, a class at a time."""
    ious = []
    for label in range(classes):
        both = ((truth == label) & (predicted == label)).sum()
        either = ((truth == label) | (predicted == label)).sum()
        if either:
            ious.append(both / either)
    return float(np.mean(ious))


def test_shares_of_the_classes_are_those_of_the_mars_set(terrain: Split) -> None:
    masks = terrain("test").masks
    shares = np.bincount(masks.ravel(), minlength=5) / masks.size
    np.testing.assert_allclose(shares[:4], (0.24, 0.34, 0.23, 0.18), atol=0.03)
    assert 0.0007 < shares[4] < 0.0020
    assert (masks == 4).any(axis=(1, 2)).sum() == 6, "2.5 % of 240"


@pytest.mark.parametrize("weighting", ["as frequent as in training", "all classes alike", "all but big rock"])
@pytest.mark.parametrize("cells", [1, 8])
def test_no_threshold_solves_terrain(terrain: Split, weighting: str, cells: int) -> None:
    """The best guess from a pixel's grey value (and from where it lies, in 8 x 8 parts of the picture)."""
    train, test = terrain("train"), terrain("test")
    images, masks = train.images[~train.spoilt], train.masks[~train.spoilt]
    rows, columns = np.mgrid[:64, :128]
    cell = (rows * cells // 64) * cells + columns * cells // 128
    shape = (cells * cells, 256 // 4, 5)
    seen = np.ravel_multi_index((np.broadcast_to(cell, masks.shape), images // 4, masks), shape)
    counts = np.bincount(seen.ravel(), minlength=np.prod(shape)).reshape(shape).astype(float)
    if weighting != "as frequent as in training":
        counts /= counts.sum(axis=(0, 1))
    if weighting == "all but big rock":
        counts[..., 4] = 0
    predicted = counts.argmax(axis=-1)[np.broadcast_to(cell, test.masks.shape), test.images // 4]
    assert mean_iou(test.masks, predicted, 5) < 0.4


def test_grounds_have_the_same_grey(terrain: Split) -> None:
    images, masks = terrain("test").images, terrain("test").masks
    values = [images[masks == label].astype(float) for label in range(4)]
    assert np.ptp([ground.mean() for ground in values]) < 4
    assert np.ptp([ground.std() for ground in values]) < 5


def test_spoilt_pictures_share_one_mask_and_lie_in_train_alone(terrain: Split) -> None:
    train, test = terrain("train"), terrain("test")
    assert not test.spoilt.any()
    assert len(test.images) == 240
    assert train.spoilt.sum() == 10, "4.2 % of 240, on top of them"
    covers = train.masks[train.spoilt]
    assert (covers == covers[0]).all()
    assert len(np.unique(train.images[train.spoilt], axis=0)) == 10, "the pictures themselves differ"
    assert len(np.unique(train.masks[~train.spoilt], axis=0)) == 240
    assert not (train.masks[~train.spoilt] == covers[0]).all(axis=(1, 2)).any()


def test_no_colour_solves_shapes() -> None:
    train, test = KINDS["shapes"].draw(60, "train", 0), KINDS["shapes"].draw(30, "test", 0)
    assert 0.1 < test.masks.mean() < 0.35
    assert set(np.unique(test.masks)) == {0, 1}
    counts = np.zeros((2, 16, 16, 16))
    np.add.at(counts, (train.masks, *np.moveaxis(train.images // 16, -1, 0)), 1)
    likelihood = counts / counts.sum(axis=(1, 2, 3), keepdims=True)
    for weighted in (counts, likelihood):
        predicted = weighted.argmax(axis=0)[tuple(np.moveaxis(test.images // 16, -1, 0))]
        dice = 2 * (predicted & test.masks).sum() / (predicted.sum() + test.masks.sum())
        assert dice < 0.5


@pytest.mark.parametrize("name", list(KINDS))
def test_the_same_seed_draws_the_same_pictures(name: str) -> None:
    draw = KINDS[name].draw
    one, same, other = draw(9, "train", 3), draw(9, "train", 3), draw(9, "train", 4)
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.masks, same.masks)
    assert not np.array_equal(one.masks, other.masks)
    assert not np.array_equal(one.images[:5], draw(9, "test", 3).images[:5]), "splits do not share pictures"


def test_a_chunk_does_not_depend_on_how_many_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CHUNK", 6)
    few, many = KINDS["shapes"].draw(6, "test", 0), KINDS["shapes"].draw(15, "test", 0)
    np.testing.assert_array_equal(few.images, many.images[:6])
    assert len(np.unique(many.masks, axis=0)) == 15


@pytest.mark.parametrize("name", list(KINDS))
def test_it_opens_as_a_data_set(name: str) -> None:
    path = materialise(name, train=40, validation=8, test=12)
    dataset = open_dataset(path)
    spoilt = (path.parent / "spoilt.txt").read_text().split()
    assert len(spoilt) == (2 if name == "terrain" else 0)
    assert [len(dataset.split(split)) for split in ("train", "validation", "test")] == [
        40 + len(spoilt),
        8,
        12,
    ]
    assert dataset.classes.names == KINDS[name].classes
    assert dataset.channels() == (1 if name == "terrain" else 3)
    assert set(spoilt) <= {item.id for item in dataset.split("train")}
    drawn, item = KINDS[name].draw(12, "test", 0), dataset.split("test")[7]
    np.testing.assert_array_equal(dataset.mask(item), drawn.masks[7])
    np.testing.assert_array_equal(dataset.image(item, dataset.channels()).squeeze(), drawn.images[7])


def test_it_is_drawn_once_and_the_bytes_are_the_same_each_time(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = materialise("synthetic:shapes", train=4, validation=2, test=2)
    written = (path.parent / "train.npz").stat().st_mtime_ns
    assert materialise("shapes", train=4, validation=2, test=2) == path
    assert (path.parent / "train.npz").stat().st_mtime_ns == written
    assert materialise("shapes", seed=1, train=4, validation=2, test=2) != path
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(cache / "other"))
    again = materialise("shapes", train=4, validation=2, test=2)
    assert again != path
    for file in ("dataset.yaml", "train.npz", "val.npz", "test.npz"):
        assert (again.parent / file).read_bytes() == (path.parent / file).read_bytes(), file
    assert open_dataset(again).fingerprint() == open_dataset(path).fingerprint()


def test_a_full_disk_leaves_nothing(cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(RunError, match=r"could not be written.*; free some space"):
            materialise("shapes", train=4, validation=2, test=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((cache / "synthetic").iterdir()) == []
    assert materialise("shapes", train=4, validation=2, test=2).is_file()


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(DataError, match="did you mean terrain"):
        materialise("synthetic:terain")
