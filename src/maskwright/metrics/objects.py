"""Scores by object: each connected region of a foreground class in the truth is one, and its size decides its row.

Sizes are those of COCO, in pixels of the contract's resolution: small under 32^2, medium under 96^2, large above. A
true object is found when at least half of its pixels are predicted as its class. An invented object is a predicted
region that shares no pixel with the truth of its class; its size is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from maskwright.metrics.masks import Pair, Regions

SIZES = ("small", "medium", "large")
SIZE_LIMITS = (32**2, 96**2)
"""Areas in pixels: where medium and large begin (Lin et al. 2014)."""
OBJECT_SUMS = ("objects", "found", "coverage", "dice", "invented")
"""Of the objects of one size in one image: their number, how many were found, the sums of their coverage and Dice, and
the number of invented objects."""


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """One connected region (8-connected) of a class in the truth, in known pixels."""

    id: str
    """Of the image."""
    class_id: int
    pixels: int
    hit: int
    """Of its pixels, those predicted as its class."""
    predicted: int
    """Pixels of all predicted regions of its class that share a pixel with it."""

    @property
    def size(self) -> str:
        return SIZES[size_of(self.pixels)]

    @property
    def coverage(self) -> float:
        """hit / pixels."""
        return self.hit / self.pixels

    @property
    def dice(self) -> float:
        """2 hit / (pixels + predicted): a region that runs over two objects costs both of them."""
        return 2 * self.hit / (self.pixels + self.predicted)

    @property
    def iou(self) -> float:
        return self.hit / (self.pixels + self.predicted - self.hit)

    @property
    def found(self) -> bool:
        return 2 * self.hit >= self.pixels


def size_of(pixels: int) -> int:
    """The position in SIZES."""
    return sum(pixels >= limit for limit in SIZE_LIMITS)


def objects(masks: Pair, found: Iterable[Regions], id: str) -> tuple[list[ObjectScore], list[int]]:
    """The true objects of an image, and the pixels of every invented one."""
    true: list[ObjectScore] = []
    invented: list[int] = []
    for region in found:
        pixels = region.truth.pixels()
        hits = np.bincount(region.truth.numbers[region.meets > 0], minlength=len(pixels))
        areas = region.predicted.pixels(masks.known)
        touching, baseless = np.zeros_like(pixels), areas.copy()
        for number, said in _touches(region):
            touching[number] += areas[said]
            baseless[said] = 0
        true += (
            ObjectScore(id, region.class_id, *numbers)
            for numbers in zip(*(part[1:].tolist() for part in (pixels, hits, touching)), strict=True)
        )
        invented += baseless[baseless > 0].tolist()
    return true, invented


def by_size(true: Iterable[ObjectScore], invented: Iterable[int]) -> Float64[np.ndarray, "S 5"]:
    """The sums of OBJECT_SUMS for each of SIZES."""
    sums = np.zeros((len(SIZES), len(OBJECT_SUMS)))
    for entry in true:
        sums[size_of(entry.pixels), :4] += 1, entry.found, entry.coverage, entry.dice
    for pixels in invented:
        sums[size_of(pixels), 4] += 1
    return sums


def _touches(region: Regions) -> Iterator[tuple[int, int]]:
    """The numbers of true and predicted regions that share a pixel, each pair once."""
    stride = region.predicted.count + 1
    codes = region.truth.numbers.astype(np.int64) * stride + region.meets
    changes = codes[np.flatnonzero(np.diff(codes, prepend=-1))]  # few: neighbours mostly agree
    for code in np.unique(changes).tolist():
        number, said = divmod(code, stride)
        if said:
            yield number, said
