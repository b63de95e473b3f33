"""Specks go, small holes close, the threshold moves; by hand, and as invariants."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from tests.predict.test_save import Grey, write_photos

from maskwright.errors import RunError
from maskwright.predict.clean import (
    FILE,
    Cleaned,
    Cleaning,
    KeptCleaning,
    clean,
    cleaned,
    cut,
    hole_sizes,
    load_cleaning,
    nearest_of_rest,
    object_sizes,
    save_cleaning,
    small,
    weights_digest,
    without,
)
from maskwright.predict.hub import WEIGHTS
from maskwright.tensors import Prediction

MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


def mask(*rows: str) -> np.ndarray:
    return np.array([[int(letter) for letter in row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("cleaning", "before", "after"),
    [
        # A speck of one pixel becomes what is around it; two pixels that meet at a corner are one object of two.
        (Cleaning(smallest=2), mask("00000", "01010", "00100"), mask("00000", "01010", "00100")),
        (Cleaning(smallest=4), mask("00000", "01010", "00100"), mask("00000", "00000", "00000")),
        (Cleaning(smallest=2), mask("1111", "1211", "1111"), mask("1111", "1111", "1111")),
        # Of two specks side by side neither becomes the other.
        (Cleaning(smallest=2), mask("0000", "0120", "0000"), mask("0000", "0000", "0000")),
        # A hole is connected by sides: through a corner it does not reach the border.
        (Cleaning(holes=2), mask("0111", "1011", "1111"), mask("0111", "1111", "1111")),
        (Cleaning(holes=2), mask("1111", "1001", "1111"), mask("1111", "1001", "1111")),
        (Cleaning(holes=3), mask("1111", "1001", "1111"), mask("1111", "1111", "1111")),
        # What reaches the border is no hole.
        (Cleaning(holes=99), mask("1111", "1001", "1101"), mask("1111", "1001", "1101")),
        # Between two classes a hole goes to the nearer.
        (Cleaning(holes=9), mask("11222", "10002", "11222"), mask("11222", "11222", "11222")),
        # Holes first: a thin ring is then large enough to stay.
        (Cleaning(holes=9, smallest=9), mask("00000", "01110", "01010", "01110", "00000"), None),
        # Nothing stays.
        (Cleaning(smallest=5), mask("12"), mask("00")),
    ],
)
def test_by_hand(cleaning: Cleaning, before: np.ndarray, after: np.ndarray | None) -> None:
    expected = mask("00000", "01110", "01110", "01110", "00000") if after is None else after
    found = clean(before, cleaning)
    if cleaning == Cleaning(holes=9) and before.max() == 2:  # the middle is as far from both
        assert found[1, 2] in (1, 2)
        found, expected = np.delete(found, 2, 1), np.delete(expected, 2, 1)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=200)
@given(MASKS, st.integers(0, 12), st.integers(0, 12))
def test_what_is_left_is_large_enough(before: np.ndarray, holes: int, smallest: int) -> None:
    copy = before.copy()
    after = clean(before, Cleaning(holes=holes, smallest=smallest))
    np.testing.assert_array_equal(before, copy)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert {*np.unique(after)} <= {*np.unique(before), 0}
    for k in (1, 2):
        regions, _ = ndimage.label(after == k, np.ones((3, 3)))
        areas = np.bincount(regions.ravel())[1:]
        assert (areas >= smallest).all()
    if not smallest:
        assert not small(hole_sizes(after), holes).any()
    if holes < 2 and smallest < 2:
        assert after is before


@settings(max_examples=300)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)),
    st.integers(2, 12),
)
def test_of_two_classes_the_nearest_is_the_other(before: np.ndarray, pixels: int) -> None:
    for sizes in (hole_sizes(before), object_sizes(before)):
        gone = small(sizes, pixels)
        np.testing.assert_array_equal(without(before, gone), nearest_of_rest(before, gone))


def test_the_threshold_is_for_two_classes() -> None:
    bright = np.array([[0.2, 0.5, 0.7]], np.float32)
    two = Prediction((bright > 0.5).astype(np.uint8), np.stack([1 - bright, bright]))
    assert cut(two, None) is two.mask
    assert cut(two, 0.1).tolist() == [[1, 1, 1]]
    assert cut(two, 0.5).tolist() == [[0, 0, 1]]
    three = Prediction(np.zeros((1, 3), np.uint8), np.stack([1 - bright, bright / 2, bright / 2]))
    assert cut(three, 0.1) is three.mask


def test_a_cleaned_predictor_saves_cleaned_masks(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 3)
    plain, rules = Grey(), Cleaning(threshold=0.4, smallest=60)
    wrapped = Cleaned(Grey(), rules)
    (first, *_) = wrapped.save(tmp_path / "out", photos, save=["plain"])
    said = plain(plain.picture(first.input))
    expected = clean((said.probabilities[1] > np.float32(0.4)).astype(np.uint8), rules)
    after = wrapped(plain.picture(first.input))
    np.testing.assert_array_equal(after.mask, expected)
    np.testing.assert_array_equal(after.probabilities, said.probabilities)
    assert not np.array_equal(after.mask, said.mask)
    assert wrapped.identity() != plain.identity()
    plain.save(tmp_path / "out", photos, save=["plain"])
    assert plain.asked == 1 + 3, "masks that are not cleaned are others"


def kept(folder: Path) -> KeptCleaning:
    return KeptCleaning(
        cleaning=Cleaning(smallest=16),
        weights=weights_digest(folder),
        split="validation",
        pictures=40,
        gain=0.01,
        ci95=None,
        p=0.001,
    )


def test_a_cleaning_is_kept_with_its_model(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    with pytest.raises(RunError, match="has no cleaning; `maskwright clean RUN` chooses one"):
        load_cleaning(tmp_path)
    save_cleaning(tmp_path, kept(tmp_path))
    assert load_cleaning(tmp_path) == kept(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"better weights")
    with pytest.raises(RunError, match="chosen for other weights"):
        load_cleaning(tmp_path)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"cleaning": {"smallest": -1}}, {"cleaning": {"larges": 1}}, None]
)
def test_a_damaged_cleaning(tmp_path: Path, change: dict[str, object] | None) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    save_cleaning(tmp_path, kept(tmp_path))
    values = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text("{" if change is None else json.dumps(values | change))
    with pytest.raises(
        RunError, match=r"cleaning\.json cannot be read: .*; `maskwright clean RUN` chooses one"
    ):
        load_cleaning(tmp_path)


def test_an_average_has_no_cleaning() -> None:
    with pytest.raises(RunError, match="leave out --clean"):
        cleaned(Grey(), "a+b")
    with pytest.raises(RunError, match=r"a\.onnx has no cleaning; .* leave out --clean"):
        cleaned(Grey(), "a.onnx")
