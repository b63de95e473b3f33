"""Disputed regions: computed by hand, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maskwright.tensors import IGNORE
from maskwright.triage.disputes import GROWTH, MOST, SUREST, disputes


def shares(foreground_HW: np.ndarray) -> np.ndarray:
    return np.stack([1 - foreground_HW, foreground_HW]).astype(np.float32)


def test_one_region_by_hand() -> None:
    foreground = np.full((4, 5), 0.2)
    foreground[1:3, 2:4] = 0.9
    label = np.zeros((4, 5), np.uint8)
    (region,) = disputes(label, shares(foreground))
    assert (region.box, region.pixels, region.label, region.said) == ((1, 2, 2, 2), 4, 0, 1)
    assert region.score == pytest.approx(4 * math.log(9) / (4**GROWTH * 20 ** (1 - GROWTH)), rel=1e-5)


def test_where_both_agree_nothing_is_disputed() -> None:
    label = np.array([[0, 1], [1, IGNORE]], np.uint8)
    assert disputes(label, shares(np.array([[0.4, 0.6], [0.99, 0.99]]))) == ()


def test_no_more_regions_than_can_be_looked_at() -> None:
    label = np.zeros((9, 9), np.uint8)
    foreground = np.full((9, 9), 0.1)
    foreground[::2, ::2] = 0.9
    assert len(disputes(label, shares(foreground))) == MOST


def test_ignored_pixels_neither_count_nor_join_regions() -> None:
    label = np.array([[0, IGNORE, 0]], np.uint8)
    first, second = disputes(label, shares(np.array([[0.9, 0.9, 0.9]])))
    assert (first.pixels, second.pixels) == (1, 1)


def test_pixels_of_different_labels_are_different_regions() -> None:
    label = np.array([[0, 0, 1, 1]], np.uint8)
    found = disputes(label, shares(np.array([[0.9, 0.9, 0.1, 0.1]])))
    assert {(region.label, region.said, region.box) for region in found} == {
        (0, 1, (0, 0, 1, 2)),
        (1, 0, (0, 2, 1, 2)),
    }


def test_an_enlarged_picture_has_the_same_scores() -> None:
    random = np.random.default_rng(0)
    label = (random.random((12, 9)) < 0.3).astype(np.uint8)
    foreground = random.random((12, 9))
    large = np.ones((4, 4))
    small = disputes(label, shares(foreground))
    enlarged = disputes(np.kron(label, large).astype(np.uint8), shares(np.kron(foreground, large)))
    assert [region.score for region in enlarged] == pytest.approx(
        [region.score for region in small], rel=1e-4
    )
    assert [region.pixels for region in enlarged] == [16 * region.pixels for region in small]


def test_the_surer_and_the_larger_come_first() -> None:
    label = np.zeros((20, 20), np.uint8)
    foreground = np.full((20, 20), 0.1)
    foreground[0:2, 0:2] = 0.999
    foreground[5:7, 5:7] = 0.9
    foreground[10:14, 10:14] = 0.999
    assert [region.box[:2] for region in disputes(label, shares(foreground))] == [(10, 10), (0, 0)]
    # The one at (5, 5) has less than half the score of the worst.


def test_certainty_without_end_does_not_count_without_end() -> None:
    (region,) = disputes(np.zeros((1, 1), np.uint8), shares(np.ones((1, 1))))
    assert region.score == pytest.approx(-math.log(SUREST), rel=1e-5)


def test_many_classes() -> None:
    label = np.full((6, 6), 3, np.uint8)
    probabilities = np.full((5, 6, 6), 0.05, np.float32)
    probabilities[3] = 0.8
    probabilities[:, 2:4, 2:4] = np.array([0.02, 0.9, 0.02, 0.04, 0.02], np.float32)[:, None, None]
    (region,) = disputes(label, probabilities)
    assert (region.label, region.said, region.box) == (3, 1, (2, 2, 2, 2))
