"""Objects counted strip by strip are those of the whole mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import DataError
from maskwright.predict import census
from maskwright.predict.census import Census
from maskwright.predict.facts import Facts, facts_of
from maskwright.predict.objects import certainty
from maskwright.tensors import Mask, Prediction


def said(mask: Mask, classes: int = 3, seed: int = 0) -> Prediction:
    shares = np.random.default_rng(seed).dirichlet(np.ones(classes), mask.shape).astype(np.float32)
    return Prediction(mask, np.ascontiguousarray(shares.transpose(2, 0, 1)), 1.3)


def counted(answer: Prediction, bands: list[int], strip: int) -> Facts:
    """With rows that come in `bands`, of which `strip` are labelled at once."""
    sure = certainty(answer).reshape(answer.mask.shape).astype(np.float32)
    made, top = Census(Path("a.tif"), answer.mask.shape, len(answer.probabilities)), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "ROWS", strip)
        for rows in bands:
            made.add(answer.mask[top : top + rows], sure[top : top + rows], top)
            top += rows
    assert top == len(answer.mask)
    return made.facts()


def assert_same(ours: Facts, whole: Facts) -> None:
    assert ours.size == whole.size
    assert [(each.class_id, each.pixels) for each in ours.pixels] == [
        (each.class_id, each.pixels) for each in whole.pixels
    ]
    assert [replace(each, probability=0) for each in ours.objects] == [
        replace(each, probability=0, counts="") for each in whole.objects
    ]
    assert probabilities(ours) == pytest.approx(probabilities(whole), abs=2e-6)


def probabilities(facts: Facts) -> list[float | None]:
    return [*(each.probability for each in facts.pixels), *(each.probability for each in facts.objects)]


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.floats(0.1, 0.95),
    st.integers(1, 9),
    st.lists(st.integers(1, 12), min_size=1, max_size=12),
    st.integers(0, 2**20),
)
def test_strips_are_the_whole(
    height: int, width: int, density: float, strip: int, bands: list[int], seed: int
) -> None:
    """Near the density at which regions span the picture, pieces meet again far below."""
    random = np.random.default_rng(seed)
    mask = (random.integers(1, 3, (height, width)) * (random.random((height, width)) < density)).astype(
        np.uint8
    )
    ends = np.minimum(np.cumsum(bands), height)
    cuts = [rows for rows in np.diff([0, *ends.tolist(), height]).tolist() if rows]
    answer = said(mask, seed=seed)
    assert_same(counted(answer, cuts, strip), facts_of(answer))


def test_a_comb_becomes_one_object_in_its_last_row() -> None:
    mask = np.zeros((20, 41), np.uint8)
    mask[:, ::2] = 1
    mask[-1] = 1
    facts = counted(said(mask), [7, 13], 3)
    (comb,) = facts.objects
    assert (comb.area, comb.box) == (int(mask.sum()), (0, 0, 41, 20))
    # 21 teeth of 20 rows whose mean is 10, and 20 pixels between them in the last row, at 19.5
    assert comb.centre == pytest.approx((20.5, (420 * 10 + 20 * 19.5) / 440), abs=1e-6)


def test_corners_join_and_classes_do_not() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 2, 1], [2, 0, 0]], np.uint8)
    facts = counted(said(mask), [1, 1, 1, 1], 1)
    assert [(each.class_id, each.area) for each in facts.objects] == [(1, 3), (2, 2)]


def test_pixels_without_data_belong_to_nothing() -> None:
    mask = np.array([[1, 255, 1], [0, 255, 1]], np.uint8)
    sure = np.full(mask.shape, 0.5, np.float32)
    made = Census(Path("a.tif"), (2, 3), 2)
    made.add(mask, sure, 0)
    facts = made.facts()
    assert [each.pixels for each in facts.pixels] == [1, 3]
    assert [(each.area, each.box) for each in facts.objects] == [(1, (0, 0, 1, 1)), (2, (2, 0, 1, 2))]


def test_no_objects() -> None:
    facts = counted(said(np.zeros((5, 4), np.uint8)), [5], 2)
    assert facts.objects == []
    assert facts.pixels[0].pixels == 20


def test_noise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "MOST", 10)
    mask = np.zeros((9, 9), np.uint8)
    mask[::2, ::2] = 1
    with pytest.raises(DataError, match=r"a.tif has more than 10 objects"):
        counted(said(mask), [9], 4)


def test_long_objects_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 bars over the whole height, in 50 strips."""
    monkeypatch.setattr(census, "MOST", 12)
    mask = np.zeros((100, 23), np.uint8)
    mask[:, ::2] = 1
    facts = counted(said(mask), [60, 40], 2)
    assert [(each.area, each.box) for each in facts.objects] == [
        (100, (left, 0, 1, 100)) for left in range(0, 23, 2)
    ]


def test_after_too_many_the_rows_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is made of them goes on; the error comes with the question."""
    monkeypatch.setattr(census, "MOST", 3)
    made = Census(Path("a.tif"), (8, 8), 2)
    for top in range(0, 8, 2):
        made.add(np.tile(np.array([[1, 0], [0, 0]], np.uint8), (1, 4)), np.ones((2, 8), np.float32), top)
    with pytest.raises(DataError, match=r"a.tif has more than 3 objects.*leave out --save statistics"):
        made.facts()
