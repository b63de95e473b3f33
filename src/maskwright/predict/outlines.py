"""Outlines along the edges of pixels: drawn again, they give the mask back to the pixel.

Pixel (row r, column c) is the square from (c, r) to (c + 1, r + 1), x to the right, y down. Every polygon is valid by
OGC Simple Features: rings do not cross, a ring passes no point twice, a hole meets its outer ring in single points at
most. Pixels that only meet at a corner are therefore separate polygons, and an object that is held together by such a
corner is several polygons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64
from scipy import ndimage

Flags = Bool[np.ndarray, "H W"]
Point: TypeAlias = tuple[int, int]
Ring: TypeAlias = list[Point]
"""Corners (x, y); the first is not repeated. An outer ring has a positive shoelace sum, a hole a negative one."""
Polygon: TypeAlias = list[Ring]
"""The outer ring, then its holes."""


@dataclass(frozen=True)
class Outline:
    """An object: pixels that hang together by sides or corners."""

    area: int
    """Pixels."""
    polygons: list[Polygon]


def outlines(flags_HW: Flags) -> list[Outline]:
    """Of all objects of what is true, in the order of their first pixels."""
    parts_HW, count = ndimage.label(flags_HW)
    objects_HW, objects = ndimage.label(flags_HW, structure=np.ones((3, 3), bool))
    object_of = np.zeros(count + 1, np.int64)
    object_of[parts_HW.ravel()] = objects_HW.ravel()
    area = np.bincount(objects_HW.ravel(), minlength=objects + 1).tolist()
    found = [Outline(area[number], []) for number in range(1, objects + 1)]
    polygons: list[Polygon] = [[] for _ in range(count + 1)]
    for part, ring in _rings(parts_HW):
        # A part that hangs together by sides has one outer ring; it goes to the front.
        polygons[part].insert(0 if _turns_outwards(ring) else len(polygons[part]), ring)
    for part in range(1, count + 1):
        found[object_of[part] - 1].polygons.append(polygons[part])
    return found


def _rings(parts_HW: Int32[np.ndarray, "H W"]) -> list[tuple[int, Ring]]:
    """(part, ring) of everything that bounds a part."""
    part_T, x_T, y_T, after_T = _turns(np.pad(parts_HW, 1))
    after, xs, ys = after_T.tolist(), x_T.tolist(), y_T.tolist()
    seen = bytearray(len(after))
    found = []
    for begin in range(len(after)):
        walk: Ring = []
        turn = begin
        while not seen[turn]:
            seen[turn] = 1
            walk.append((xs[turn], ys[turn]))
            turn = after[turn]
        if walk:
            found += [(int(part_T[begin]), ring) for ring in _simple(walk)]
    return found


# Pixels are walked around clockwise. By side: the step to the pixel on the other side of the edge, and the step to the
# pixel ahead, as (down, right).
_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
_ACROSS = ((-1, 0), (0, 1), (1, 0), (0, -1))
_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
_BEGINS = ((0, 0), (1, 0), (1, 1), (0, 1))
"""The corner (x, y) of the pixel where the edge along a side begins."""


def _turns(
    padded_HW: Int32[np.ndarray, "H W"],
) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " T"], Int[np.ndarray, " T"], Int64[np.ndarray, " T"]]:
    """Of every corner of the outlines: its part, its (x, y), and the corner that follows it.

    An edge has the key (side, line, place in the line), so that a straight stretch is a run of neighbours and only its
    end, where the outline turns, has to be looked at.
    """
    height, width = padded_HW.shape
    keys, turned, targets, begins = [], [], [], []
    for side in range(4):
        (down, right), (on, along) = _ACROSS[side], _AHEAD[side]
        outside = np.roll(padded_HW, (-down, -right), (0, 1)) != padded_HW
        edge = outside & (padded_HW != 0)
        y, x = np.nonzero(edge) if side in (_TOP, _BOTTOM) else np.nonzero(edge.T)[::-1]
        own, ahead = padded_HW[y, x], padded_HW[y + on, x + along] == padded_HW[y, x]
        beyond = ahead & (padded_HW[y + on + down, x + along + right] == own)
        # Nothing of the part ahead: around the pixel's own corner, whatever lies diagonally. The part ahead and
        # beyond: the other way, along the pixel beyond.
        turning = ~ahead | beyond
        then = np.where(beyond, (side - 1) % 4, (side + 1) % 4)
        there_y = np.where(beyond, y + on + down, y)
        there_x = np.where(beyond, x + along + right, x)
        keys.append(_key(np.full(len(y), side), y, x, height, width))
        turned.append(turning)
        targets.append(_key(then, there_y, there_x, height, width)[turning])
        begin = np.array(_BEGINS)[then[turning]]
        begins.append(
            np.column_stack([own[turning], there_x[turning] + begin[:, 0], there_y[turning] + begin[:, 1]])
        )
    key_E, target_T, begin_T3 = np.concatenate(keys), np.concatenate(targets), np.concatenate(begins)
    turns_T = np.flatnonzero(np.concatenate(turned))
    next_edge = np.searchsorted(key_E, target_T)
    forwards = target_T < 2 * height * width  # tops and right sides are walked in the order of their keys
    after_T = np.where(
        forwards, np.searchsorted(turns_T, next_edge), np.searchsorted(turns_T, next_edge, side="right") - 1
    )
    return begin_T3[:, 0], begin_T3[:, 1] - 1, begin_T3[:, 2] - 1, after_T


def _key(
    side: Int64[np.ndarray, " N"],
    y: Int64[np.ndarray, " N"],
    x: Int64[np.ndarray, " N"],
    height: int,
    width: int,
) -> Int64[np.ndarray, " N"]:
    level = (side == _TOP) | (side == _BOTTOM)
    key: Int64[np.ndarray, " N"] = side * height * width + np.where(level, y * width + x, x * height + y)
    return key


def _simple(walk: Ring) -> list[Ring]:
    """A walk that passes a point twice, cut there into rings that do not."""
    if len({*walk}) == len(walk):
        return [walk]
    rings: list[Ring] = []
    path: Ring = []
    place: dict[Point, int] = {}
    for point in walk:
        if point in place:
            rings.append(path[place[point] :])
            for left in path[place[point] :]:
                del place[left]
            del path[len(path) - len(rings[-1]) :]
        place[point] = len(path)
        path.append(point)
    return [*rings, path]


def _turns_outwards(ring: Ring) -> bool:
    """Whether it is an outer ring."""
    return sum(x * v - u * y for (x, y), (u, v) in zip(ring, [*ring[1:], ring[0]], strict=True)) > 0
