"""Run lengths against pycocotools, and what may not be believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from maskwright.data import rle
from maskwright.errors import DataError


def painted(runs: rle.Runs, size: tuple[int, int]) -> np.ndarray:
    columns = np.zeros(size[0] * size[1], np.uint8)
    rle.paint(runs, columns, 1)
    return columns.reshape(size[::-1]).T


@settings(max_examples=150)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_both_ways_as_pycocotools(mask: np.ndarray) -> None:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    size = (mask.shape[0], mask.shape[1])
    assert rle.compressed(mask) == encoded["counts"].decode()
    runs = rle.runs_of(encoded, size, "here")
    np.testing.assert_array_equal(painted(runs, size), mask)
    assert rle.area(runs) == coco.area(encoded) == mask.sum()
    np.testing.assert_array_equal(rle.runs_of({"counts": runs.tolist()}, size, "here"), runs)


@settings(max_examples=200)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=130), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        runs = rle.runs_of({"counts": text, "size": [6, 7]}, (6, 7), "here")
    except DataError:
        return
    assert runs.sum() == 42


def test_long_runs() -> None:
    mask = np.zeros((3000, 2000), bool)
    mask[:, 1999] = True
    mask[5, 7] = True
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.compressed(mask) == encoded["counts"].decode()
    np.testing.assert_array_equal(painted(rle.runs_of(encoded, (3000, 2000), "a"), (3000, 2000)), mask)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"counts": [1_000_000_000], "size": [2, 3]}, "do not fill"),
        ({"counts": [7, -1], "size": [2, 3]}, "do not fill"),
        ({"counts": [1, 2], "size": [2, 3]}, "do not fill"),
        ({"counts": [10**30], "size": [2, 3]}, "cannot be read"),
        ({"counts": [[6]], "size": [2, 3]}, "do not fill"),
        ({"counts": "ooooooooooooooooo", "size": [2, 3]}, "cannot be read"),
        ({"counts": "~", "size": [2, 3]}, "cannot be read"),
        ({"counts": "", "size": [2, 3]}, "cannot be read"),
        ({"counts": "größe", "size": [2, 3]}, "cannot be read"),
        ({"counts": None}, "cannot be read|do not fill"),
        ({"counts": [6], "size": [3, 2]}, "in a picture of 2 x 3"),
        ({"counts": [6], "size": 6}, "in a picture of 2 x 3"),
    ],
)
def test_what_is_refused(given: dict[str, object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        rle.runs_of(given, (2, 3), "annotation 5")
