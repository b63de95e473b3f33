"""Shapes against scipy's morphology, which does one class at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.masks import band, contour, grow, pair, parts, regions

few = settings(max_examples=40)
sides = st.integers(1, 14)
seeds = st.integers(0, 2**32 - 1)


def blobs(seed: int, height: int, width: int, classes: int = 3) -> np.ndarray:
    """Label maps with patches, lines and single pixels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, classes, (height // 3 + 1, width // 3 + 1))
    mask = coarse.repeat(3, 0).repeat(3, 1)[:height, :width]
    noisy = random.random((height, width)) < 0.1
    return np.where(noisy, random.integers(0, classes, (height, width)), mask).astype(np.uint8)


@few
@given(seeds, sides, sides)
def test_a_contour_is_the_mask_less_its_erosion_by_a_cross(seed: int, height: int, width: int) -> None:
    mask = blobs(seed, height, width)
    for k in range(3):
        expected = (mask == k) & ~ndimage.binary_erosion(mask == k)
        assert np.array_equal(contour(mask) & (mask == k), expected)


@few
@given(seeds, sides, sides, st.integers(1, 5))
def test_a_band_is_the_mask_less_its_erosion_by_squares(
    seed: int, height: int, width: int, reach: int
) -> None:
    mask = blobs(seed, height, width)
    for k in range(3):
        eroded = ndimage.binary_erosion(mask == k, np.ones((3, 3)), iterations=reach)
        assert np.array_equal(band(mask, reach) & (mask == k), (mask == k) & ~eroded)


@few
@given(seeds, sides, sides, st.sampled_from([0.0, 0.9, 1.0, 1.5, 2.0, 3.7, 20.0]))
def test_growing_is_by_straight_line_distance(seed: int, height: int, width: int, radius: float) -> None:
    flags = np.random.default_rng(seed).random((height, width)) < 0.1
    expected = ndimage.distance_transform_edt(~flags) <= radius if flags.any() else np.zeros_like(flags)
    assert np.array_equal(grow(flags, radius), expected)


def test_regions_touch_at_corners_and_are_numbered_row_by_row() -> None:
    found = parts(np.array([[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 1]], dtype=bool))
    assert found.places.tolist() == [4, 7, 9, 11]
    assert found.numbers.tolist() == [1, 2, 1, 2]
    assert found.pixels().tolist() == [0, 2, 2]
    first_row_of_two = np.array([[0] * 4, [1] * 4, [0] * 4], dtype=bool)
    assert found.pixels(first_row_of_two).tolist() == [0, 1, 1]
    assert parts(np.zeros((3, 3), dtype=bool)).pixels().tolist() == [0]


def test_what_is_not_known_takes_the_prediction() -> None:
    truth = np.array([[0, 1, 255, 2]], dtype=np.uint8)
    predicted = np.array([[1, 1, 2, 0]], dtype=np.uint8)
    masks = pair(truth, predicted, MetricContract(drop_truth=(0,)))
    assert masks.truth.tolist() == [[1, 1, 2, 2]]
    assert masks.known.tolist() == [[False, True, False, True]]
    assert truth.tolist() == [[0, 1, 255, 2]]  # nobody wrote into it


@few
@given(seeds, sides, sides)
def test_regions_know_which_predicted_region_they_meet(seed: int, height: int, width: int) -> None:
    truth, predicted = blobs(seed, height, width), blobs(seed + 1, height, width)
    truth[np.random.default_rng(seed).random(truth.shape) < 0.1] = 255
    masks = pair(truth, predicted, MetricContract())
    for region in regions(masks, (1, 2)):
        labels, count = ndimage.label(predicted == region.class_id, np.ones((3, 3)))
        assert region.predicted.count == count
        assert np.array_equal(region.truth.places, np.flatnonzero(truth == region.class_id))
        assert np.array_equal(region.meets, labels.ravel()[region.truth.places])


@pytest.mark.parametrize("foreground", [(1,), (1, 2)])
def test_classes_that_are_nowhere_have_no_regions(foreground: tuple[int, ...]) -> None:
    masks = pair(np.eye(4, dtype=np.uint8), np.zeros((4, 4), dtype=np.uint8), MetricContract())
    assert [region.class_id for region in regions(masks, foreground)] == [1]
