"""Shapes to pixels. A pixel belongs to a shape if its centre, (column + 0.5, row + 0.5), lies inside.

Centres exactly on an edge belong to the shape on their right or below, so shapes that share an edge share no pixel
and leave no gap. Where a polygon crosses itself, what is enclosed an odd number of times is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from maskwright.errors import DataError

MOST_POINTS = 1_000_000
"""Of one shape. The outline of a whole 200-megapixel picture in steps of one pixel has a twentieth of that."""
MOST_CROSSINGS = 200_000_000
"""Of one shape's edges with rows: seconds of work."""
MOST_DRAWN = 2_000_000_000
"""Pixels of all shapes of one picture, covered ones too: 20 times a picture of 100 megapixels."""
FARTHEST = 10_000_000.0
"""Pixels from the corner; what lies farther out was not drawn by a person."""

_AT_ONCE = 1 << 22

Points: TypeAlias = Float[np.ndarray, "P 2"]


@dataclass(frozen=True)
class Patch:
    """The pixels of a shape: a mask whose upper left corner is at (top, left) of the picture."""

    top: int
    left: int
    inside: Bool[np.ndarray, "h w"]

    def paint(self, canvas_HW: NDArray[np.generic], value: int) -> None:
        height, width = self.inside.shape
        canvas_HW[self.top : self.top + height, self.left : self.left + width][self.inside] = value

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.inside))


def check_drawn(pixels: int, where: object) -> None:
    """Raises DataError: a few bytes can ask for a shape as large as the picture, again and again."""
    if pixels > MOST_DRAWN:
        raise DataError(
            f"{where} has shapes of over {MOST_DRAWN:,} pixels", "leave out those that are covered"
        )


def points_of(numbers: object, where: str) -> Points:
    """[[x, y], ...] or [x, y, x, y, ...] -> P2. Raises DataError: no numbers, NaN, too many, far outside."""
    try:
        flat = np.asarray(numbers, np.float64)
        points = flat.reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where} has points that are no pairs of numbers", "export the labels again"
        ) from error
    if flat.ndim > 2 or (flat.ndim == 2 and flat.shape[1] != 2):
        raise DataError(f"{where} has points of shape {flat.shape}", "a point is [x, y]")
    if len(points) > MOST_POINTS:
        raise DataError(f"{where} has {len(points):,} points, the limit is {MOST_POINTS:,}", "simplify it")
    if not (np.abs(points) <= FARTHEST).all():  # NaN is not
        raise DataError(
            f"{where} has a point at {points[~(np.abs(points) <= FARTHEST).all(axis=1)][0].tolist()}",
            "points are finite numbers near the picture",
        )
    return points


def polygon(points_P2: Points, size: tuple[int, int], where: str) -> Patch:
    """The closed polygon through these (x, y). Raises DataError: fewer than 3 points, or absurdly many crossings."""
    if len(points_P2) < 3:
        raise DataError(f"{where} has {len(points_P2)} points", "a polygon has three or more")
    (left, top), (right, bottom) = (
        np.clip(np.floor(points_P2.min(axis=0)), 0, size[::-1]).astype(int),
        np.clip(np.ceil(points_P2.max(axis=0)), 0, size[::-1]).astype(int),
    )
    height, width = int(bottom - top), int(right - left)
    start_P2 = np.subtract(points_P2, (left, top))
    end_P2 = np.roll(start_P2, -1, axis=0)
    first_P, last_P = (
        np.clip(np.ceil(edge(start_P2[:, 1], end_P2[:, 1]) - 0.5), 0, height).astype(np.int64)
        for edge in (np.minimum, np.maximum)
    )
    rows_P = last_P - first_P
    if rows_P.sum() > MOST_CROSSINGS:
        raise DataError(f"{where} goes up and down too often to be drawn", "simplify it")
    inside = np.empty((height, width), bool)
    step = max(_AT_ONCE // (width + 1), 1)
    for upper in range(0, height, step):
        lower = min(upper + step, height)
        edges = first_P.clip(upper, lower), last_P.clip(upper, lower)
        inside[upper:lower] = _crossed(start_P2, end_P2, *edges, upper, (lower - upper, width))
    return Patch(int(top), int(left), inside)


def _crossed(
    start_P2: Points,
    end_P2: Points,
    first_P: NDArray[np.int64],
    last_P: NDArray[np.int64],
    upper: int,
    size: tuple[int, int],
) -> Bool[np.ndarray, "h w"]:
    """Of the rows from `upper` on: the pixels left of whose middle an odd number of edges passes."""
    height, width = size
    rows_P = last_P - first_P
    toggled = np.zeros(height * (width + 1), np.uint8)
    ends = np.cumsum(rows_P)
    bounds = np.searchsorted(ends, np.arange(0, ends[-1] + _AT_ONCE, _AT_ONCE)) if ends[-1] else [0]
    for begin, stop in zip(bounds, [*bounds[1:], len(rows_P)], strict=True):
        edges = np.repeat(np.arange(begin, stop), rows_P[begin:stop])
        offset = np.arange(len(edges)) - np.repeat(
            np.cumsum(rows_P[begin:stop]) - rows_P[begin:stop], rows_P[begin:stop]
        )
        row = first_P[edges] + offset
        (x1, y1), (x2, y2) = start_P2[edges].T, end_P2[edges].T
        x = x1 + (row + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.bitwise_xor.at(toggled, (row - upper) * (width + 1) + column, np.uint8(1))
    return np.bitwise_xor.accumulate(toggled.reshape(height, width + 1), axis=1)[:, :width].astype(bool)


def rectangle(corners: Points, size: tuple[int, int], where: str) -> Patch:
    """Between two opposite corners. Raises DataError for another number of points."""
    if len(corners) != 2:
        raise DataError(f"{where} has {len(corners)} points", "a rectangle has two corners")
    (x1, y1), (x2, y2) = corners
    return polygon(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), size, where)


def ellipse(
    centre: Sequence[float], radii: Sequence[float], size: tuple[int, int], *, degrees: float = 0.0
) -> Patch:
    """Centre (x, y) and half axes, turned clockwise; its rim is inside."""
    reach = max(radii)
    low = np.clip(np.floor(np.subtract(centre, reach)), 0, size[::-1]).astype(int)
    high = np.clip(np.ceil(np.add(centre, reach)), low, size[::-1]).astype(int)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    right = np.arange(low[0], high[0]) + 0.5 - centre[0]
    inside = np.empty(high[::-1] - low[::-1], bool)
    step = max(_AT_ONCE // max(len(right), 1), 1)
    for upper in range(0, len(inside), step):
        down = np.arange(upper, min(upper + step, len(inside)))[:, None] + (low[1] + 0.5 - centre[1])
        along, across = right * cosine + down * sine, down * cosine - right * sine
        with np.errstate(divide="ignore", invalid="ignore"):  # a half axis of 0 has no inside
            inside[upper : upper + step] = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return Patch(int(low[1]), int(low[0]), inside)
