"""Outlines of masks: drawn again they are the mask to the pixel, and the polygons are valid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from maskwright.data.drawing import polygon
from maskwright.predict.outlines import Outline, Polygon, Ring, outlines

FLAGS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def drawn(polygons: list[Polygon], size: tuple[int, int]) -> np.ndarray:
    """By the even-odd rule, as a reader of GeoJSON would fill it."""
    inside = np.zeros(size, bool)
    for ring in itertools.chain(*polygons):
        ring_alone = np.zeros(size, bool)
        polygon(np.array(ring, float), size, "a ring").paint(ring_alone, 1)
        inside ^= ring_alone
    return inside


def twice_area(ring: Ring) -> int:
    return sum(x * v - u * y for (x, y), (u, v) in itertools.pairwise([*ring, ring[0]]))


@settings(max_examples=300)
@given(FLAGS)
def test_drawn_again_they_are_the_mask(flags: np.ndarray) -> None:
    size = (flags.shape[0], flags.shape[1])
    found = outlines(flags)
    objects, count = ndimage.label(flags, np.ones((3, 3)))
    assert len(found) == count
    for number, outline in enumerate(found, 1):
        np.testing.assert_array_equal(drawn(outline.polygons, size), objects == number)
        assert outline.area == np.sum(objects == number)


@settings(max_examples=300)
@given(FLAGS)
def test_polygons_are_valid(flags: np.ndarray) -> None:
    """Rings are simple and turn at every corner, holes lie within, and parts that share a side are one polygon."""
    _, parts = ndimage.label(flags)
    found = [each for outline in outlines(flags) for each in outline.polygons]
    assert len(found) == parts
    for outer, *holes in found:
        assert twice_area(outer) > 0
        assert all(twice_area(hole) < 0 for hole in holes)
        filled = drawn([[outer]], (flags.shape[0], flags.shape[1]))
        for ring in (outer, *holes):
            assert len({*ring}) == len(ring) >= 4
            steps = [(u - x, v - y) for (x, y), (u, v) in itertools.pairwise([*ring, ring[0]])]
            assert all((across == 0) != (down == 0) for across, down in steps)
            assert all((a[0] == 0) != (b[0] == 0) for a, b in itertools.pairwise([*steps, steps[0]]))
        for hole in holes:
            assert (drawn([[hole]], (flags.shape[0], flags.shape[1])) <= filled).all()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["#"], [Outline(1, [[[(1, 0), (1, 1), (0, 1), (0, 0)]]])]),
        (["."], []),
        # Two pixels that meet at a corner: one object, two polygons.
        (
            ["#.", ".#"],
            [
                Outline(
                    2,
                    [[[(1, 0), (1, 1), (0, 1), (0, 0)]], [[(2, 1), (2, 2), (1, 2), (1, 1)]]],
                )
            ],
        ),
        # A ring that is closed by a corner: the hole touches the outer ring there.
        (["###", "#.#", "##."], None),
    ],
)
def test_by_hand(rows: list[str], expected: list[Outline] | None) -> None:
    flags = np.array([[letter == "#" for letter in row] for row in rows])
    found = outlines(flags)
    if expected is None:
        ((outer, hole),) = found[0].polygons
        assert (found[0].area, len(outer), len(hole)) == (7, 6, 4)
        assert {*outer} & {*hole} == {(2, 2)}
        return
    assert [(each.area, [[sorted(ring) for ring in one] for one in each.polygons]) for each in found] == [
        (each.area, [[sorted(ring) for ring in one] for one in each.polygons]) for each in expected
    ]


def test_rasterio_finds_the_same_parts() -> None:
    features = pytest.importorskip("rasterio.features")
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((120, 160)), 2) > 0
    theirs = sorted(
        [tuple(map(tuple, ring[:-1])) for ring in shape["coordinates"]]
        for shape, _ in features.shapes(noise.astype(np.uint8), mask=noise)
    )
    ours = [each for outline in outlines(noise) for each in outline.polygons]
    assert len(ours) == len(theirs)
    total = {frozenset(map(tuple, ring)) for one in ours for ring in one}
    simple = {frozenset(ring) for one in theirs for ring in one if len({*ring}) == len(ring)}
    assert len(simple & total) > 0.9 * len(total)
