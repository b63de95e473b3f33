"""A picture too large for a network, in tiles that overlap, each of which answers for its core alone.

What a network says at the border of a tile it says without knowing what lies beyond. So neighbours overlap, and the cut
between their cores goes through the middle of what both have seen (the overlap-tile strategy of Ronneberger et al.
2015). Cores lie beside each other without a gap: put together, they are the picture again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from maskwright.data.part import Part


class Window(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def within(self, outer: Window) -> Window:
        """The same rectangle, counted from the corner of another."""
        return Window(self.top - outer.top, self.left - outer.left, self.height, self.width)

    def outwards(self, box: tuple[int, int, int, int]) -> Window:
        """A rectangle that counts from the corner of this one, counted from where this one counts."""
        top, left, height, width = box
        return Window(self.top + top, self.left + left, height, width)

    def shared(self, other: Window) -> Window | None:
        """What both have, if anything."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.height, other.top + other.height)
        right = min(self.left + self.width, other.left + other.width)
        return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None


@dataclass(frozen=True)
class Piece:
    """Where a tile lies in the picture as which it is scored. Both windows count from that picture's corner."""

    whole: str
    """Id of the picture."""
    image: Part
    mask: Part | None
    window: Window
    """What the tile shows."""
    core: Window
    """What it answers for: a part of `window`."""


class Span(NamedTuple):
    """A tile along one axis: where it begins, where its core begins and ends."""

    start: int
    core: int
    stop: int


def partition(length: int, side: int) -> list[int]:
    """Where to cut a length into the fewest even parts of at most `side`: both ends included."""
    parts = -(-length // side)
    return [round(part * length / parts) for part in range(parts + 1)]


def spans(length: int, tile: int, overlap: int, stride: int = 1) -> list[Span]:
    """The fewest tiles of exactly `tile`, or of `length` where that is less, that share at least `overlap` pixels.

    Of one size in every picture, because a network that resizes its input would see things at another scale in a tile
    of another size. `overlap` is less than `tile`. Tiles begin at multiples of `stride`, which divides length - tile.
    """
    free = length - tile
    if free <= 0:
        return [Span(0, 0, length)]
    shifts = free // stride
    steps = -(-shifts // ((tile - overlap) // stride))
    starts = [step * shifts // steps * stride for step in range(steps + 1)]
    cuts = [0, *((left + tile + right) // 2 for left, right in pairwise(starts)), length]
    return [Span(start, *core) for start, core in zip(starts, pairwise(cuts), strict=True)]


def answering(tile: Piece) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a tile lie in its core."""
    inside = np.zeros(tile.window[2:], bool)
    inside[tile.core.within(tile.window).slices] = True
    return inside


def covered(size: tuple[int, int], tiles: Sequence[Piece]) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a picture of this size lie in the core of one of the tiles."""
    known = np.zeros(size, bool)
    for tile in tiles:
        known[tile.core.slices] = True
    return known
