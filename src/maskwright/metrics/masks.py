"""Two masks of one picture side by side, and what can be asked of their shapes.

Where the truth is not known (the contract's `ignore`) or not asked for (`drop_truth`), the prediction's class
stands in for it: such a pixel is neither right nor wrong, and no contour appears between what is known and what is
not. Pixels are counted only where they are known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64
from scipy import ndimage

from maskwright.metrics.contract import MetricContract

Flags = Bool[np.ndarray, "H W"]
Ids = Int[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Truth and prediction of one picture at the contract's resolution."""

    truth: Ids
    """The prediction's class where nothing is known."""
    predicted: Ids
    known: Flags


def pair(truth_HW: Ids, predicted_HW: Ids, contract: MetricContract) -> Pair:
    """Both masks as shapes are judged, of equal size."""
    known = truth_HW != contract.ignore
    for dropped in contract.drop_truth:
        known &= truth_HW != dropped
    return Pair(np.where(known, truth_HW, predicted_HW), predicted_HW, known)


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected regions of some pixels, 8-connected."""

    places: Int64[np.ndarray, " M"]
    """The pixels, counted row by row, in that order."""
    numbers: Int32[np.ndarray, " M"]
    """The region of each, from 1."""
    count: int

    def pixels(self, where_HW: Flags | None = None) -> Int64[np.ndarray, " regions"]:
        """Of each region by its number, where a flag is true; 0 for number 0, which is no region."""
        numbers = self.numbers if where_HW is None else self.numbers[where_HW.ravel()[self.places]]
        return np.bincount(numbers, minlength=self.count + 1)


@dataclass(frozen=True, eq=False)
class Regions:
    """The connected regions of one class in both masks."""

    class_id: int
    truth: Parts
    """Of known pixels alone."""
    predicted: Parts
    """These may run through pixels that are not known."""
    meets: Int32[np.ndarray, " M"]
    """At each place of `truth`, the number of the predicted region there; 0 where there is none."""


def regions(masks: Pair, foreground: tuple[int, ...]) -> list[Regions]:
    """The regions of each of the classes `foreground` that occurs in one of the masks."""
    truth, predicted = (np.bincount(mask.ravel(), minlength=256) for mask in (masks.truth, masks.predicted))
    return [_regions(masks, k) for k in foreground if truth[k] or predicted[k]]


def _regions(masks: Pair, k: int) -> Regions:
    truth, predicted = parts((masks.truth == k) & masks.known), parts(masks.predicted == k)
    numbers = np.zeros(masks.known.size, dtype=np.int32)
    numbers[predicted.places] = predicted.numbers
    return Regions(k, truth, predicted, numbers[truth.places])


def parts(flags_HW: Flags) -> Parts:
    """The connected regions of what is true."""
    box = bounding_box(flags_HW)  # labelling is slow
    numbers, count = ndimage.label(flags_HW[box], structure=np.ones((3, 3), dtype=bool))
    return Parts(np.flatnonzero(flags_HW), numbers[flags_HW[box]], count)


def bounding_box(flags_HW: Flags) -> tuple[slice, slice]:
    """The smallest box with all that is true; an empty one where nothing is."""
    rows, columns = np.flatnonzero(flags_HW.any(1)), np.flatnonzero(flags_HW.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def contour(mask_HW: Ids) -> Flags:
    """Pixels that have another class beside, above or below them, or the picture's border."""
    found = np.zeros(mask_HW.shape, dtype=bool)
    found[[0, -1], :] = found[:, [0, -1]] = True
    across, down = mask_HW[:, 1:] != mask_HW[:, :-1], mask_HW[1:] != mask_HW[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found


def band(mask_HW: Ids, reach: int) -> Flags:
    """Pixels with another class, or the outside of the picture, at most `reach` rows and columns away.

    That is the mask less its erosion by `reach` steps of a 3 x 3 square, of all classes at once.
    """
    height, width = mask_HW.shape
    found = np.ones(mask_HW.shape, dtype=bool)
    span = 2 * reach + 1
    if span <= min(height, width):
        least, most = (_slide(_slide(mask_HW, span, of), span, of, 1) for of in (np.minimum, np.maximum))
        found[reach : height - reach, reach : width - reach] = least != most
    return found


def grow(flags_HW: Flags, radius: float) -> Flags:
    """Pixels with something true at most `radius` pixels away (straight-line distance of centres)."""
    height, _ = flags_HW.shape
    found = flags_HW.copy()
    for down in range(min(int(radius), height - 1) + 1):
        half = int(math.sqrt(radius**2 - down**2))
        wide = _slide(np.pad(flags_HW, ((0, 0), (half, half))), 2 * half + 1, np.logical_or, 1)
        found[down:] |= wide[: height - down]
        found[: height - down] |= wide[down:]
    return found


def _slide(values: np.ndarray, span: int, of: np.ufunc, axis: int = 0) -> np.ndarray:
    """`of` over every window of `span` neighbours along an axis, in about log2(span) passes."""
    values = np.moveaxis(values, axis, 0)
    covered = 1
    while covered < span:
        step = min(covered, span - covered)
        values = of(values[:-step], values[step:])
        covered += step
    return np.moveaxis(values, 0, axis)
