"""A picture in tiles that overlap: each answers for pixels whose surroundings it has seen, and neighbours are blended.

Along each axis the shares of the tiles in a pixel are steps from 0 to 1 and back, so they sum to 1; that of a tile in a
pixel is the product of the two. Where no tile counts within the network's reach of a border that is not the picture's,
and all tiles lie on the grids of the network's maps, the answer is that of one look at the whole picture.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from maskwright.data.tiles import Window, spans
from maskwright.errors import RunError

LARGE = 1 << 28
"""Bytes of blended rows that memory holds; more lie in a file without a name, in the temporary folder."""
LEVELS = 4096
"""Shares are multiples of 1 / LEVELS, which floating point adds without rounding."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """A tile along one axis."""

    start: int
    shares: Float32[np.ndarray, " side"]
    """What the tile counts at each of its pixels."""

    @property
    def begin(self) -> int:
        """The first pixel of the picture where it counts."""
        return self.start + int(self.shares.nonzero()[0][0])

    @property
    def end(self) -> int:
        """Behind the last one."""
        return self.start + int(self.shares.nonzero()[0][-1]) + 1


def stretches(length: int, tile: int, overlap: int, stride: int = 1, margin: int = 0) -> list[Stretch]:
    """Tiles of one size that begin at multiples of `stride`, the last of which ends with the picture.

    Their size is the largest up to `tile` whose remainder by `stride` is that of the length: so what a network adds
    until its maps fit is added to the last tile as it is to the picture, and seen in a mirror the tiles begin at
    multiples of the stride, too. Neighbours share `overlap` pixels at least, at most half a tile; a tile counts nothing
    in the `margin` pixels along its ends within the picture.
    """
    side = min(tile - (tile - length) % stride, length)
    found = spans(length, side, overlap, stride)
    cuts = [span.core for span in found[1:]]
    room = [after - before for before, after in pairwise([0, *cuts, length])]
    ramps = [
        min((before.start + side - after.start) // 2 - margin, room[place] // 2, room[place + 1] // 2)
        for place, (before, after) in enumerate(pairwise(found))
    ]
    made = []
    for place, span in enumerate(found):
        pixels = np.arange(span.start, span.start + side)
        shares = np.ones(side, np.float32)
        if place > 0:
            shares = _step(pixels, cuts[place - 1], ramps[place - 1])
        if place < len(cuts):
            shares = shares - _step(pixels, cuts[place], ramps[place])
        made.append(Stretch(span.start, shares))
    return made


def _step(pixels: NDArray[np.int64], cut: int, ramp: int) -> Float32[np.ndarray, " side"]:
    """0 up to `ramp` pixels before the cut, 1 from as many behind it, even in between."""
    risen = np.clip((pixels + 0.5 - cut) / (2 * max(ramp, 0.5)) + 0.5, 0, 1)
    stepped: Float32[np.ndarray, " side"] = (np.round(risen * LEVELS) / LEVELS).astype(np.float32)
    return stepped


def blended(
    answer: Callable[[Window], Float32[np.ndarray, "K h w"]],
    rows: Sequence[Stretch],
    columns: Sequence[Stretch],
    classes: int,
) -> Iterator[tuple[Window, Float32[np.ndarray, "K n m"]]]:
    """Finished parts of the picture and their probabilities, tile by tile, row by row; together they are all of it.

    `answer` has the probabilities of a tile. What a tile shares with the next one of its row and with the row below is
    kept until they come: memory holds a tile, and, of the picture's width, as many rows as are blended;
    those lie in a file if they are LARGE. Raises RunError: the temporary folder has no room for it.
    """
    pending = [before.end - after.begin for before, after in pairwise(rows)]
    kept = _array((classes, max(pending, default=0), columns[-1].end))
    above = 0
    for row, below in zip(rows, [*pending, 0], strict=True):
        begin, done = row.begin, row.end - row.begin - below
        beside = np.zeros((classes, row.end - begin, 0), np.float32)
        for column, next_column in zip(columns, [*columns[1:], None], strict=True):
            left, right = column.begin, next_column.begin if next_column else column.end
            window = Window(row.start, column.start, len(row.shares), len(column.shares))
            inner = slice(begin - row.start, row.end - row.start)
            across = slice(left - column.start, column.end - column.start)
            parts = answer(window)[:, inner, across] * (row.shares[inner, None] * column.shares[across])
            parts[:, :, : beside.shape[2]] += beside
            beside = parts[:, :, right - left :].copy()
            finished = parts[:, :, : right - left]
            finished[:, :above] += kept[:, :above, left:right]
            kept[:, :below, left:right] = finished[:, done:]
            yield Window(begin, left, done, right - left), finished[:, :done]
        above = below


def _array(shape: tuple[int, int, int]) -> Float32[np.ndarray, "K n W"]:
    """Of zeros. Raises RunError: the temporary folder has no room for it."""
    size = 4 * math.prod(shape)
    if size <= LARGE:
        return np.zeros(shape, np.float32)
    try:
        # The file is gone when nobody has it mapped any more.
        with tempfile.TemporaryFile(prefix="maskwright-") as file:
            if hasattr(os, "posix_fallocate"):  # not everywhere; without room, a write to it is a SIGBUS
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        folder = tempfile.tempdir or "any temporary folder"  # None: none was found that can be written to
        raise RunError(
            f"{size:,} bytes of blended rows find no room in {folder}: {error.strerror or error}",
            "let TMPDIR name another folder",
        ) from error
