"""Objects by hand, and against counts that know nothing of objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.counts import count
from maskwright.metrics.masks import pair, regions
from maskwright.metrics.objects import SIZES, ObjectScore, by_size, objects, size_of

CONTRACT = MetricContract()


def found_in(truth: np.ndarray, predicted: np.ndarray) -> tuple[list[ObjectScore], list[int]]:
    masks = pair(truth, predicted, CONTRACT)
    return objects(masks, regions(masks, (1, 2)), "picture")


def drawn(*rows: str) -> np.ndarray:
    """`.` is 0, `?` is not known."""
    values = {".": 0, "1": 1, "2": 2, "?": 255}
    return np.array([[values[sign] for sign in row] for row in rows], dtype=np.uint8)


TRUTH = drawn(
    "11..22..",
    "11..22..",
    "......??",
    ".1....1?",
    "1.......",
)
SAID = drawn(
    "11111...",
    "1...1...",
    "........",
    "......11",
    "..1....1",
)


def test_objects_by_hand() -> None:
    true, invented = found_in(TRUTH, SAID)
    assert true == [
        ObjectScore("picture", 1, pixels=4, hit=3, predicted=7),
        ObjectScore("picture", 1, pixels=2, hit=0, predicted=0),  # two pixels touch at a corner
        ObjectScore("picture", 1, pixels=1, hit=1, predicted=2),  # of three pixels one is not known
        ObjectScore("picture", 2, pixels=4, hit=0, predicted=0),
    ]
    assert invented == [1]
    first, lost, second, _ = true
    assert (first.coverage, first.dice, first.iou) == (3 / 4, 6 / 11, 3 / 8)
    assert (second.dice, second.iou) == (2 / 3, 1 / 2)
    assert [entry.found for entry in true] == [True, False, True, False]
    assert (lost.dice, lost.iou) == (0, 0)


def test_sums_by_size() -> None:
    true, invented = found_in(TRUTH, SAID)
    sums = by_size(true, [*invented, 32**2, 96**2, 96**2])
    assert sums[0].tolist() == pytest.approx([4, 2, 3 / 4 + 1, 6 / 11 + 2 / 3, 1])
    assert sums[1:].tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 2]]
    assert [SIZES[size_of(pixels)] for pixels in (1, 1023, 1024, 9215, 9216)] == [
        "small",
        "small",
        "medium",
        "medium",
        "large",
    ]


def test_a_region_over_two_objects_costs_both() -> None:
    truth, said = drawn("11.11"), drawn("11111")
    true, invented = found_in(truth, said)
    assert [(entry.hit, entry.predicted) for entry in true] == [(2, 5), (2, 5)]
    assert not invented


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_objects_add_up_to_the_counts(seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 2, 255], (height, width), p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    predicted = random.integers(0, 3, (height, width)).astype(np.uint8)
    true, invented = found_in(truth, predicted)
    counts = count(truth, predicted, 3)
    for k in (1, 2):
        mine = [entry for entry in true if entry.class_id == k]
        assert sum(entry.hit for entry in mine) == counts[k, 0]
        assert sum(entry.pixels for entry in mine) == counts[k, [0, 2]].sum()
        assert all(entry.hit <= min(entry.pixels, entry.predicted) for entry in mine)
    assert sum(invented) <= counts[1:, 1].sum()
    # Exchanged, what was invented is what no prediction touched.
    if not (truth == 255).any():
        back, _ = found_in(predicted, truth)
        assert sorted(invented) == sorted(entry.pixels for entry in back if not entry.hit)
