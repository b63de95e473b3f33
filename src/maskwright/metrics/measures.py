"""From what is counted per image to every score: formulas over sums.

Dice_k = 2 tp / (2 tp + fp + fn) and IoU_k = tp / (tp + fp + fn), undefined where class k is in neither truth
nor prediction. From that, with the contract's rules for what is undefined:

- dice_image, iou_image: per image the mean over the foreground classes present in it, then the mean over
  images.
- dice_global, iou_global: from counts summed over all images, the mean over the foreground classes.
- miou: from summed counts, the mean over all classes; miou_fg: without class 0 in the mean; miou_fg_masked:
  pixels whose truth is class 0 are dropped as well, so that false alarms on background are free. (Class 0
  stays out of that mean. Where a Keras-style score lets it in, one foreground pixel predicted as 0 adds a
  class of IoU 0.)
- pixel_accuracy: correct pixels / pixels.

Count first, divide last: an image is a row of `features`, rows are only ever added, and `measure` divides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self, TypeAlias

import numpy as np
from jaxtyping import Float64

from maskwright.metrics.contract import MetricContract, Policy
from maskwright.metrics.counts import Counts

METRICS = (
    "dice_image",
    "dice_global",
    "iou_image",
    "iou_global",
    "miou",
    "miou_fg",
    "miou_fg_masked",
    "pixel_accuracy",
)
"""What counts alone can say."""

Values: TypeAlias = Float64[np.ndarray, "..."]
Features: TypeAlias = Mapping[str, Values]
"""By name, all with the same first axis: images, groups, or resampled sums of them."""
ImageMetric: TypeAlias = Literal["dice_image", "iou_image"]

STAND_IN: Mapping[Policy, float] = {"skip": math.nan, "zero": 0.0, "one": 1.0}


@dataclass(frozen=True, eq=False)
class Tallies:
    """All that is counted of N images, a row each; None where nobody counted it."""

    counts_NK4: Counts

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The images of all parts; what some part lacks, the whole lacks."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(
            *(None if any(part is None for part in column) else np.concatenate(column) for column in columns)
        )


@dataclass(frozen=True, eq=False)
class Measures:
    """What follows from sums: one value per row of the sums, and per class."""

    values: Mapping[str, Values]
    """Metric -> R."""
    dice_RK: Values
    iou_RK: Values


def features(tallies: Tallies, contract: MetricContract) -> Features:
    """All that is ever added up, per image (N ...), under a resolved contract.

    float64 holds whole numbers exactly up to 2^53, more pixels than any data set has.
    """
    images = image_values(tallies.counts_NK4, contract)
    return {
        "counts": tallies.counts_NK4.astype(np.float64),  # N K 4
        **{f"{name} sum": np.nan_to_num(values) for name, values in images.items()},  # N
        **{f"{name} images": (~np.isnan(values)).astype(np.float64) for name, values in images.items()},  # N
    }


def total(rows: Features) -> Features:
    """The sum over the first axis, kept as an axis of length 1."""
    return {name: values.sum(0, keepdims=True) for name, values in rows.items()}


def measure(sums: Features, contract: MetricContract) -> Measures:
    """Every metric of each row of summed features, under a resolved contract; NaN where undefined."""
    tp, fp, fn, fp_background = np.moveaxis(sums["counts"], -1, 0)  # each R K
    dice_RK = settle(dice(tp, fp, fn), contract.absent)
    iou_RK = settle(iou(tp, fp, fn), contract.absent)
    masked_RK = settle(iou(tp, fp - fp_background, fn), contract.absent)
    foreground = list(contract.foreground or ())
    values = {
        "dice_image": divide(sums["dice_image sum"], sums["dice_image images"]),
        "dice_global": mean(dice_RK[..., foreground]),
        "iou_image": divide(sums["iou_image sum"], sums["iou_image images"]),
        "iou_global": mean(iou_RK[..., foreground]),
        "miou": mean(iou_RK),
        "miou_fg": mean(iou_RK[..., 1:]),
        "miou_fg_masked": mean(masked_RK[..., 1:]),
        "pixel_accuracy": divide(tp.sum(-1), (tp + fn).sum(-1)),
    }
    return Measures(values, dice_RK, iou_RK)


def image_values(
    counts_NK4: Counts, contract: MetricContract
) -> dict[ImageMetric, Float64[np.ndarray, " N"]]:
    """dice_image and iou_image of every image under a resolved contract; NaN where an image is left out."""
    tp, fp, fn, _ = np.moveaxis(counts_NK4[:, list(contract.foreground or ())], -1, 0)  # each N F
    empty = (tp + fp + fn == 0).all(-1)

    def per_image(ratios_NF: Values) -> Values:
        return np.where(empty, STAND_IN[contract.empty], mean(settle(ratios_NF, contract.absent)))

    return {"dice_image": per_image(dice(tp, fp, fn)), "iou_image": per_image(iou(tp, fp, fn))}


def dice(tp: Values, fp: Values, fn: Values) -> Values:
    """2 tp / (2 tp + fp + fn), elementwise; NaN where all are 0. Equals 2 IoU / (1 + IoU)."""
    return divide(2 * tp, 2 * tp + fp + fn)


def iou(tp: Values, fp: Values, fn: Values) -> Values:
    """tp / (tp + fp + fn), elementwise; NaN where all are 0."""
    return divide(tp, tp + fp + fn)


def divide(part: Values, whole: Values) -> Values:
    """part / whole; NaN where whole is 0."""
    nothing = np.full(np.shape(whole), math.nan)
    np.divide(part, whole, out=nothing, where=np.asarray(whole) > 0)
    return nothing


def settle(values: Values, policy: Policy) -> Values:
    """What is undefined becomes what the contract says of it."""
    return np.where(np.isnan(values), STAND_IN[policy], values)


def mean(values: Values) -> Values:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    return divide(np.nansum(values, -1), (~np.isnan(values)).sum(-1))
