"""Where a prediction disputes a label, and how strongly: one picture at a time, so memory holds one.

A pixel's dispute is log p(likeliest class) - log p(label), in nats: 0 where both agree, large where a network that is
sure says something else. The connected pixels of one label class that are disputed are a region. Neighbours say much
the same, so a region is not worth the sum of its pixels: of a pixels with the disputes d, in a picture of n pixels,

    score = sum(d) / (a^GROWTH n^(1 - GROWTH)),

which does not change when a picture is enlarged. With GROWTH = 1 one sure pixel would be as suspicious as a whole
missing object, with GROWTH = 0 wide regions where the network merely hesitates would come first. A label is as
suspicious as its worst region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from maskwright.data.sources.common import Box
from maskwright.metrics.masks import parts
from maskwright.tensors import IGNORE

GROWTH = 0.75
"""Chosen on errors planted in training pictures of pets and terrain (LOG.md); 0.65 to 0.85 are nearly as good."""
SUREST = 1e-4
"""Probabilities below count as this: no network here is known to be surer with reason."""
MOST, MINOR = 4, 0.5
"""Regions of a picture that are kept: so many, and of at least this share of the worst one's score."""


@dataclass(frozen=True)
class Region:
    """Connected pixels of one label class that a prediction disputes."""

    box: Box
    pixels: int
    label: int
    """Class id."""
    said: int
    """The class id that most of its pixels are predicted to be."""
    score: float
    """At least 0, in nats; see above."""


def disputes(
    label_HW: Int[np.ndarray, "H W"], probabilities_KHW: Float[np.ndarray, "K H W"]
) -> tuple[Region, ...]:
    """The most disputed regions of a label, the worst first, as MOST and MINOR say; empty where nothing is disputed.

    `probabilities_KHW` are calibrated, and come from a network that has not seen the label, if that can be had. IGNORE
    is never disputed.
    """
    said_HW, best_HW = probabilities_KHW.argmax(0), probabilities_KHW.max(0)
    disputed_HW = (said_HW != label_HW) & (label_HW != IGNORE)
    found: list[Region] = []
    for k in np.unique(label_HW[disputed_HW]).tolist():
        flags_HW = disputed_HW & (label_HW == k)
        regions = parts(flags_HW)
        sure_N = np.log(np.maximum(best_HW[flags_HW], SUREST))
        given_N = np.log(np.maximum(probabilities_KHW[k][flags_HW], SUREST))
        pixels_R = regions.pixels()[1:]
        sums_R = np.bincount(regions.numbers, sure_N - given_N, regions.count + 1)[1:]
        scores_R = sums_R / (pixels_R**GROWTH * label_HW.size ** (1 - GROWTH))
        for place in np.argsort(-scores_R, kind="stable")[:MOST].tolist():
            places_M = regions.places[regions.numbers == place + 1]
            rows_M, columns_M = np.divmod(places_M, label_HW.shape[1])
            top, left = int(rows_M.min()), int(columns_M.min())
            found.append(
                Region(
                    box=(top, left, int(rows_M.max()) - top + 1, int(columns_M.max()) - left + 1),
                    pixels=int(pixels_R[place]),
                    label=k,
                    said=int(np.bincount(said_HW.ravel()[places_M]).argmax()),
                    score=float(scores_R[place]),
                )
            )
    found.sort(key=lambda region: -region.score)
    return tuple(region for region in found[:MOST] if region.score >= MINOR * found[0].score)
