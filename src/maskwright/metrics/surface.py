"""How well contours agree: boundary IoU, normalised surface distance, HD95 and ASSD, per image and class.

All is counted in pixels of the contract's resolution. The contour of a class are its pixels with another class
beside, above or below them; as in the works cited, the picture's border counts as the end of a class. Pixels that are
not known (`masks.Pair`) belong to no contour and no band, but what is known is measured against contours that run
through them.

- boundary_iou (Cheng et al. 2021, Boundary IoU, equation 2): the IoU of the two bands of a class, where a band holds
  "the set of all pixels within d pixels distance from the contour" that belong to the mask. d is the contract's
  `boundary` times the picture's diagonal, rounded, at least 1; as in the authors' code the mask is eroded d times by a
  3 x 3 square with nothing around the picture.
- nsd (Nikolov et al. 2018, section 4.4): the share of both contours that lies within the contract's `tolerance` of the
  other. Here an element of surface is a pixel of the contour (not a subvoxel facet).
- hd95: the larger of the two 95th percentiles (linear between ranks) of the distances from each pixel of one contour
  to the nearest of the other. assd: the mean of all these distances, of both directions together.

A class in one mask only has boundary_iou 0 and nsd 0, and the picture's diagonal as its distances; a class in neither
has none of the four.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.masks import Flags, Ids, Pair, band, contour

SURFACE_COLUMNS = ("boundary_tp", "boundary_fp", "boundary_fn", "near", "surface")
"""Pixels: of the two bands together, of the predicted one alone, of the true one alone; of both contours within the
tolerance of the other, and all of both contours."""
DISTANCE_COLUMNS = ("hd95", "assd")


class Surface(NamedTuple):
    counts_K5: Int64[np.ndarray, "K 5"]
    distance_K2: Float64[np.ndarray, "K 2"]
    """NaN where the class is in neither mask."""


def surface(masks: Pair, classes: int, contract: MetricContract) -> Surface:
    """What boundary_iou, nsd, hd95 and assd of one picture follow from."""
    reach = max(1, round(contract.boundary * math.hypot(*masks.known.shape)))
    bands_K3 = _bands(masks, classes, reach)
    surface_K2, distance_K2 = _distances(masks, classes, contract.tolerance)
    return Surface(np.concatenate([bands_K3, surface_K2], axis=1), distance_K2)


def _bands(masks: Pair, classes: int, reach: int) -> Int64[np.ndarray, "K 3"]:
    """boundary_tp, boundary_fp, boundary_fn."""
    in_truth = band(masks.truth, reach) & masks.known
    in_predicted = band(masks.predicted, reach) & masks.known
    both = in_truth & in_predicted & (masks.truth == masks.predicted)
    tp, truth, predicted = (
        np.bincount(mask[flags], minlength=classes)
        for mask, flags in ((masks.truth, both), (masks.truth, in_truth), (masks.predicted, in_predicted))
    )
    return np.stack([tp, predicted - tp, truth - tp], axis=1)


def _distances(
    masks: Pair, classes: int, tolerance: float
) -> tuple[Int64[np.ndarray, "K 2"], Float64[np.ndarray, "K 2"]]:
    """near and surface; hd95 and assd."""
    counts_K2, distance_K2 = np.zeros((classes, 2), dtype=np.int64), np.full((classes, 2), math.nan)
    edges = contour(masks.truth), contour(masks.predicted)
    common = edges[0] & edges[1] & (masks.truth == masks.predicted)  # distance 0: nobody has to search
    asking = masks.known & ~common
    zeros_K = np.bincount(masks.truth[common & masks.known], minlength=classes)
    sides = ((masks.truth, edges[0]), (masks.predicted, edges[1]))
    targets = [_by_class(mask, edge, classes) for mask, edge in sides]
    askers = [_by_class(mask, edge & asking, classes) for mask, edge in sides]
    for k in range(classes):
        there = _nearest(askers[0][k], targets[1][k])
        back = _nearest(askers[1][k], targets[0][k])
        zeros = np.zeros(zeros_K[k])
        ways = [way for way in (np.concatenate([zeros, there]), np.concatenate([zeros, back])) if len(way)]
        if ways:
            together = np.concatenate(ways)
            counts_K2[k] = (together <= tolerance).sum(), len(together)
            finite = [np.minimum(way, math.hypot(*masks.known.shape)) for way in ways]
            hd95 = max(float(np.percentile(way, 95)) for way in finite)
            distance_K2[k] = hd95, np.concatenate(finite).mean()
    return counts_K2, distance_K2


def _by_class(mask_HW: Ids, chosen_HW: Flags, classes: int) -> list[Int64[np.ndarray, "M 2"]]:
    """Row and column of the chosen pixels of each class."""
    places = np.flatnonzero(chosen_HW)
    ids = mask_HW.ravel()[places]
    order = np.argsort(ids, kind="stable")
    rows_columns = np.stack(np.divmod(places[order], mask_HW.shape[1]), axis=1)
    return np.split(rows_columns, np.searchsorted(ids[order], np.arange(1, classes)))


def _nearest(askers_M2: np.ndarray, targets_T2: np.ndarray) -> Float64[np.ndarray, " M"]:
    """The distance from each asker to the nearest target; infinite where there is none."""
    if not len(askers_M2) or not len(targets_T2):
        return np.full(len(askers_M2), math.inf)
    tree = cKDTree(
        targets_T2, balanced_tree=False, compact_nodes=False
    )  # twice as fast to build as the default
    distances: Float64[np.ndarray, " M"] = tree.query(askers_M2)[0]
    return distances
