"""The classes and objects of a mask that comes in strips: the numbers of `objects`, of a raster of any size.

Each strip is labelled alone, and its pieces are joined with the objects that reach the row above it (Rosenfeld & Pfaltz
1966). Memory holds a strip and the objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from maskwright.errors import DataError
from maskwright.metrics.masks import parts
from maskwright.predict.facts import Facts
from maskwright.predict.objects import ClassPixels, MaskObject, extent, rounded
from maskwright.tensors import IGNORE, Mask

ROWS = 64
"""Labelled at once."""
MOST = 1 << 20
"""Objects: more are no objects but noise, and a table that nobody opens."""
OBJECT = np.dtype(
    [(name, np.int64) for name in ("class_id", "area", "first", "top", "bottom", "left", "right")]
    + [(name, np.float64) for name in ("x", "y", "sure")]
)
"""Or the part of one in the rows so far. `first` is the place of the first pixel, row by row; x, y and sure are sums
over the pixels."""


class Census:
    """Grows strip by strip, from the top."""

    def __init__(self, file: Path, size: tuple[int, int], classes: int) -> None:
        self.file, self.size = file, size
        self._pixels_K, self._sums_K = np.zeros(classes, np.int64), np.zeros(classes)
        self._ended: list[NDArray[np.void]] = []
        self._open = np.zeros(0, OBJECT)  # reach the last row so far, which has their numbers
        self._above = _Row.empty(size[1])
        self._count = 0

    def add(self, mask_nW: Mask, sure_nW: Float32[np.ndarray, "n W"], top: int) -> None:
        """The next rows and the calibrated probability of each pixel's class; IGNORE belongs to none.

        After more objects than MOST nothing is counted any more.
        """
        for start in range(0, len(mask_nW), ROWS):
            if self._count > MOST:
                return
            some = slice(start, start + ROWS)
            self._add(mask_nW[some], sure_nW[some].astype(np.float64), top + start)

    def _add(self, mask_nW: Mask, sure_nW: NDArray[np.float64], top: int) -> None:
        classes, known = len(self._pixels_K), mask_nW != IGNORE
        self._pixels_K += np.bincount(mask_nW[known], minlength=classes)
        self._sums_K += np.bincount(mask_nW[known], sure_nW[known], minlength=classes)
        width = self.size[1]
        first, last = _Row.empty(width), _Row.empty(width)
        pieces, count = [self._open], len(self._open)
        for k in np.flatnonzero(np.bincount(mask_nW[known], minlength=classes)[1:]) + 1:
            regions = parts(np.equal(mask_nW, k))
            numbers = regions.numbers + count
            rows, columns = np.divmod(regions.places, width)
            for row, at in ((first, 0), (last, len(mask_nW) - 1)):
                here = slice(*np.searchsorted(rows, (at, at + 1)))
                row.class_ids[columns[here]], row.numbers[columns[here]] = k, numbers[here]
            made = np.zeros(regions.count, OBJECT)
            made["class_id"], made["area"] = k, regions.pixels()[1:]
            (made["top"], made["bottom"]), (made["left"], made["right"]), (made["first"], _) = (
                extent(regions.numbers, regions.count, along)
                for along in (rows + top, columns, regions.places + top * width)
            )
            for name, values in (
                ("x", columns),
                ("y", rows + top),
                ("sure", sure_nW.ravel()[regions.places]),
            ):
                made[name] = np.bincount(regions.numbers, values, minlength=regions.count + 1)[1:]
            pieces.append(made)
            count += regions.count
        object_of, found = _joined(np.concatenate(pieces), self._above.touching(first) - 1)
        reaching = found["bottom"] == top + len(mask_nW) - 1
        self._ended.append(found[~reaching])
        self._open = found[reaching]
        self._count += len(found) - len(pieces[0])
        taken = last.numbers > 0
        last.numbers[taken] = np.cumsum(reaching)[object_of[last.numbers[taken] - 1]]
        self._above = last

    def facts(self) -> Facts:
        """Of all that was added; the objects in the order of `find_objects`, without run lengths.

        Raises DataError: there were more than MOST.
        """
        if self._count > MOST:
            raise DataError(
                f"{self.file} has more than {MOST:,} objects in its mask, and no statistics are made of it: that is "
                "noise rather than objects",
                "its other files are written; leave out --save statistics",
            )
        pixels = [
            ClassPixels(k, count, rounded(total / count) if count else None)
            for k, (count, total) in enumerate(
                zip(self._pixels_K.tolist(), self._sums_K.tolist(), strict=True)
            )
        ]
        return Facts(self.size, pixels, self._objects())

    def _objects(self) -> list[MaskObject]:
        found = np.concatenate([*self._ended, self._open])
        for name in ("x", "y", "sure"):
            found[name] /= found["area"]
        return [
            MaskObject(
                k,
                area,
                (left, top, right - left + 1, bottom - top + 1),
                (rounded(x + 0.5), rounded(y + 0.5)),
                rounded(sure),
                "",
            )
            for k, area, _, top, bottom, left, right, x, y, sure in np.sort(
                found, order=("class_id", "first")
            ).tolist()
        ]


def _joined(
    pieces: NDArray[np.void], touching: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.void]]:
    """The place of the object that each piece becomes a part of, and the objects; `touching`: (2, pairs) of places."""
    one, other = touching
    touch = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(pieces), len(pieces)))
    count, object_of = connected_components(touch, directed=False)
    found = np.zeros(count, OBJECT)
    found["class_id"][object_of] = pieces["class_id"]
    for name in ("area", "x", "y", "sure"):
        np.add.at(found[name], object_of, pieces[name])
    for name in ("first", "top", "left"):
        found[name] = np.iinfo(np.int64).max
        np.minimum.at(found[name], object_of, pieces[name])
    for name in ("bottom", "right"):
        np.maximum.at(found[name], object_of, pieces[name])
    return object_of, found


class _Row:
    """A row of the mask, and the number of the object or piece that each pixel belongs to, from 1; 0: none."""

    def __init__(self, class_ids: NDArray[np.uint8], numbers: NDArray[np.int64]) -> None:
        self.class_ids, self.numbers = class_ids, numbers

    @classmethod
    def empty(cls, width: int) -> _Row:
        return cls(np.zeros(width, np.uint8), np.zeros(width, np.int64))

    def touching(self, below: _Row) -> NDArray[np.int64]:
        """(2, pairs): pieces of this row and of the one below it that are one object, by sides and corners."""
        width, pairs = len(self.numbers), []
        for step in (-1, 0, 1):
            here = slice(max(0, step), width + min(0, step))
            there = slice(max(0, -step), width - max(0, step))
            same = (self.numbers[here] > 0) & (self.class_ids[here] == below.class_ids[there])
            pairs.append(np.stack([self.numbers[here][same], below.numbers[there][same]]))
        return np.unique(np.concatenate(pairs, axis=1), axis=1)
