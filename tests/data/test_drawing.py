"""Shapes to pixels against scikit-image, and what a stranger's shapes may not do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import draw

from maskwright.data import drawing
from maskwright.data.drawing import MOST_POINTS, Patch, ellipse, points_of, polygon, rectangle
from maskwright.errors import DataError

SIZE = (17, 23)
RNG = np.random.default_rng(0)


def painted(patch: Patch, size: tuple[int, int] = SIZE) -> np.ndarray:
    canvas = np.zeros(size, np.uint8)
    patch.paint(canvas, 1)
    return canvas.astype(bool)


def drawn(*points: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    return painted(polygon(points_of(list(points), "here"), size, "here"), size)


@pytest.mark.parametrize("seed", range(40))
def test_polygons_as_scikit_image_draws_them(seed: int) -> None:
    """Any corners, crossing itself and leaving the picture. There a pixel's centre has whole coordinates."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-6, 29, (int(random.integers(3, 12)), 2))
    expected = np.zeros(SIZE, bool)
    expected[draw.polygon(corners[:, 1] - 0.5, corners[:, 0] - 0.5, SIZE)] = True
    np.testing.assert_array_equal(drawn(*corners.ravel()), expected)


def test_a_triangle_by_hand() -> None:
    """(0, 0), (4, 0), (0, 4): the centres with x + y < 4; those on the slope belong to what is right of it."""
    rows, columns = np.mgrid[:5, :5] + 0.5
    np.testing.assert_array_equal(drawn(0, 0, 4, 0, 0, 4, size=(5, 5)), rows + columns < 4)


def test_a_hole_where_it_crosses_itself() -> None:
    star = [
        np.array([11 + 9 * np.sin(4 * np.pi * k / 5), 8 - 8 * np.cos(4 * np.pi * k / 5)]) for k in range(5)
    ]
    inside = drawn(*np.concatenate(star))
    assert not inside[8, 11]
    assert inside[3, 11]


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(-2, 20), min_size=2, max_size=6), side=st.integers(1, 12))
def test_neighbours_share_no_pixel_and_leave_none(cuts: list[int], side: int) -> None:
    """A square fanned out from a point into triangles along shared edges, corners on half pixels."""
    corners = [(0, 0), (side, 0), (side, side), (0, side)]
    middle = (cuts[0] / 2, cuts[1] / 2)
    covered = np.zeros(SIZE, int)
    for first, second in zip(corners, [*corners[1:], corners[0]], strict=True):
        covered += np.where(drawn(*first, *second, *middle), _sign(first, second, middle), 0)
    whole = drawn(*(number for corner in corners for number in corner))
    np.testing.assert_array_equal(covered, whole)


def _sign(first: tuple[int, int], second: tuple[int, int], middle: tuple[float, float]) -> int:
    (x1, y1), (x2, y2), (x3, y3) = first, second, middle
    return int(np.sign((x2 - x1) * (y3 - y1) - (y2 - y1) * (x3 - x1)))


def test_many_edges_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More crossings than are held at once give the same as few."""
    angles = np.linspace(0, 2 * np.pi, 5001)[:-1]
    radius = 600 + 200 * RNG.random(5000)
    corners = np.stack([1000 + radius * np.cos(angles), 1000 + radius * np.sin(angles)], 1)
    comb = np.repeat(corners, 2, axis=0)
    comb[1::2] = (1000, 1000)
    assert np.abs(np.diff(comb[:, 1])).sum() > 3_000_000
    size = (2000, 2000)
    whole = polygon(comb, size, "here")
    monkeypatch.setattr(drawing, "_AT_ONCE", 1 << 16)
    again = polygon(comb, size, "here")
    np.testing.assert_array_equal(whole.inside, again.inside)
    assert whole.area > 0


def test_rectangles() -> None:
    expected = np.zeros(SIZE, bool)
    expected[2:5, 3:9] = True
    for corners in ([[3, 2], [9, 5]], [[9, 5], [3, 2]], [[2.6, 1.9], [8.7, 5.4]]):
        np.testing.assert_array_equal(painted(rectangle(points_of(corners, "a"), SIZE, "a")), expected)


@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0])
def test_ellipses_as_scikit_image_draws_them(degrees: float) -> None:
    expected = np.zeros(SIZE, bool)
    turn = -np.radians(degrees)  # theirs turns the other way
    expected[draw.ellipse(8.2 - 0.5, 11.7 - 0.5, 4.3, 9.1, shape=SIZE, rotation=turn)] = True
    np.testing.assert_array_equal(painted(ellipse((11.7, 8.2), (9.1, 4.3), SIZE, degrees=degrees)), expected)


@pytest.mark.parametrize("radii", [(0.0, 0.0), (3.0, 0.0)])
def test_an_ellipse_without_inside(radii: tuple[float, float]) -> None:
    assert painted(ellipse((5.25, 5.25), radii, SIZE)).sum() == 0


def test_what_lies_outside_draws_nothing() -> None:
    assert not drawn(-9, -9, -3, -9, -3, -3).any()
    assert not drawn(99, 2, 120, 2, 110, 9).any()
    assert not painted(ellipse((-50, 200), (5, 5), SIZE)).any()
    assert drawn(-1e6, -1e6, 1e6, -1e6, 1e6, 1e6, -1e6, 1e6).all()


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ([1, 2, 3], "no pairs of numbers"),
        ([[1, 2, 3], [4, 5, 6]], "shape"),
        ("abc", "no pairs of numbers"),
        (None, "no pairs of numbers"),
        ({"x": 1}, "no pairs of numbers"),
        ([[1, 2], [3]], "no pairs of numbers"),
        ([0, 0, float("nan"), 1, 2, 2], "has a point at"),
        ([0, 0, float("inf"), 1, 2, 2], "has a point at"),
        ([0, 0, 1e9, 1, 2, 2], "has a point at"),
        ([0, 0, 10**400, 1, 2, 2], "no pairs of numbers"),
        (np.zeros((MOST_POINTS + 1, 2)), "points, the limit"),
    ],
)
def test_points_that_are_none(points: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        points_of(points, "shape 3")


def test_too_few_and_too_many() -> None:
    with pytest.raises(DataError, match="has 2 points"):
        drawn(1, 2, 3, 4)
    comb = np.stack([RNG.uniform(0, 1000, 600_000), np.tile([0.0, 1000.0], 300_000)], 1)
    with pytest.raises(DataError, match="too often"):
        polygon(comb, (1000, 1000), "here")
