"""The objects of a mask: each connected region of a foreground class (all but 0) is one, as the scores count them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from maskwright.data.rle import compressed_regions
from maskwright.metrics.masks import parts
from maskwright.tensors import Mask, Prediction


@dataclass(frozen=True)
class MaskObject:
    """One 8-connected region of a class. Coordinates are (x, y) from the picture's upper left corner, y down."""

    class_id: int
    area: int
    """Pixels."""
    box: tuple[int, int, int, int]
    """Left, top, width, height in pixels."""
    centre: tuple[float, float]
    """Mean of the pixels' centres; that of the first pixel is (0.5, 0.5)."""
    probability: float
    """Mean calibrated probability of its class over its pixels."""
    counts: str
    """The picture-wide mask of the object alone, as COCO's compressed run lengths; empty for objects of a raster."""


@dataclass(frozen=True)
class ClassPixels:
    """What a mask gives to a class."""

    class_id: int
    pixels: int
    probability: float | None
    """Mean calibrated probability of the class over these pixels; None where there are none."""


def certainty(said: Prediction) -> Float64[np.ndarray, " HW"]:
    """The calibrated probability of the class that the mask gives to each pixel, row by row."""
    chosen_1HW = np.take_along_axis(said.calibrated, said.mask[None].astype(np.intp), axis=0)
    return chosen_1HW.ravel().astype(np.float64)


def class_pixels(said: Prediction) -> list[ClassPixels]:
    """Of every class, in order."""
    classes, ids = len(said.probabilities), said.mask.ravel()
    pixels_K = np.bincount(ids, minlength=classes).tolist()
    sums_K = np.bincount(ids, certainty(said), minlength=classes).tolist()
    return [
        ClassPixels(k, pixels, rounded(total / pixels) if pixels else None)
        for k, (pixels, total) in enumerate(zip(pixels_K, sums_K, strict=True))
    ]


def find_objects(said: Prediction) -> list[MaskObject]:
    """By class, then in the order of their first pixels."""
    sure_HW = certainty(said)
    present = np.flatnonzero(np.bincount(said.mask.ravel())).tolist()
    return [found for k in present if k for found in _of_class(said.mask, k, sure_HW)]


def _of_class(mask_HW: Mask, k: int, sure_HW: Float64[np.ndarray, " HW"]) -> list[MaskObject]:
    regions = parts(np.equal(mask_HW, k))
    numbers, count = regions.numbers, regions.count
    row, column = np.divmod(regions.places, mask_HW.shape[1])
    area = regions.pixels()[1:]
    (top, bottom), (left, right) = (extent(numbers, count, along) for along in (row, column))
    x, y, sure = (
        np.bincount(numbers, weights, minlength=count + 1)[1:] / area
        for weights in (column, row, sure_HW[regions.places])
    )
    texts = compressed_regions(regions.places, numbers, count, (mask_HW.shape[0], mask_HW.shape[1]))
    return [
        MaskObject(
            k,
            int(area[n]),
            (int(left[n]), int(top[n]), int(right[n] - left[n] + 1), int(bottom[n] - top[n] + 1)),
            (rounded(x[n] + 0.5), rounded(y[n] + 0.5)),
            rounded(sure[n]),
            texts[n],
        )
        for n in range(count)
    ]


def extent(
    numbers: Int64[np.ndarray, " M"], count: int, along: Int64[np.ndarray, " M"]
) -> tuple[Int64[np.ndarray, " regions"], Int64[np.ndarray, " regions"]]:
    """The least and the greatest of `along` in each region."""
    least, most = np.full(count + 1, np.iinfo(np.int64).max), np.full(count + 1, -1)
    np.minimum.at(least, numbers, along)
    np.maximum.at(most, numbers, along)
    return least[1:], most[1:]


def rounded(value: float) -> float:
    """Six digits: a millionth of a pixel, or of a probability, is more than anyone reads off."""
    return round(float(value), 6)
