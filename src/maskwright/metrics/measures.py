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
- boundary_iou, nsd, hd95, assd (`surface`): averaged as dice_image is, per image over the foreground classes
  present in it, then over images; of a single class, over the images that it is present in. The distances hd95
  and assd are in pixels, smaller is better, and know no stand-in: whatever the contract says of absent classes
  and empty pictures, those are left out.
- ece, brier (`calibration`): sums over pixels divided by their number; smaller is better. With few or small groups
  ece is too high, in resamples even more so: chance alone keeps accuracy away from confidence.
- by object size (`objects`): shares of all objects of that size, and means over them.

Count first, divide last: an image is a row of `features`, rows are only ever added, and `measure` divides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from jaxtyping import Float64, Int, Int64

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

ImageMetric: TypeAlias = Literal["dice_image", "iou_image", "boundary_iou", "nsd", "hd95", "assd"]
"""Those that every image has."""

SURFACE_METRICS: tuple[ImageMetric, ...] = ("boundary_iou", "nsd", "hd95", "assd")
"""What the contours of both masks say."""
DISTANCES = ("hd95", "assd")
LOWER_IS_BETTER = frozenset({*DISTANCES, "ece", "brier"})

Values: TypeAlias = Float64[np.ndarray, "..."]
Features: TypeAlias = Mapping[str, Values]
"""By name, all with the same first axis: images, groups, or resampled sums of them."""

STAND_IN: Mapping[Policy, float] = {"skip": math.nan, "zero": 0.0, "one": 1.0}


@dataclass(frozen=True, eq=False)
class Tallies:
    """All that is counted of N images, a row each; None where nobody counted it."""

    counts_NK4: Counts
    surface_NK5: Int64[np.ndarray, "N K 5"] | None = None
    """Pixels of contours and their bands, in the order of `surface.SURFACE_COLUMNS`."""
    distance_NK2: Float64[np.ndarray, "N K 2"] | None = None
    """hd95 and assd in pixels, NaN where undefined."""
    objects_NS5: Float64[np.ndarray, "N S 5"] | None = None
    """Sums over the objects of each size, in the order of `objects.OBJECT_SUMS`."""
    anatomy_NEK4: Int[np.ndarray, "N E K 4"] | None = None
    """What the counts would be with the errors of one kind of `anatomy.KINDS` mended."""
    facts_NF: Float64[np.ndarray, "N F"] | None = None
    """Of the pictures, in the order of `pictures.FACTS`."""
    bins_NB3: Float64[np.ndarray, "N B 3"] | None = None
    """By confidence: pixels, sum of the confidence, correct pixels (`calibration.count_confidence`)."""
    bins_before_NB3: Float64[np.ndarray, "N B 3"] | None = None
    """The same without the temperature."""
    brier_N: Float64[np.ndarray, " N"] | None = None
    """Sum of the Brier score over the pixels of the bins."""
    quality_N: Float64[np.ndarray, " N"] | None = None
    """Expected Dice, from the probabilities alone."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The images of all parts; what some part lacks, the whole lacks."""
        whole: dict[str, Any] = {}
        for field in fields(cls):
            column = [getattr(part, field.name) for part in parts]
            whole[field.name] = None if any(part is None for part in column) else np.concatenate(column)
        return cls(**whole)


@dataclass(frozen=True, eq=False)
class Measures:
    """What follows from sums, for each of their R rows; NaN where undefined."""

    values: Mapping[str, Values]
    """Metric -> R."""
    per_class: Mapping[str, Values]
    """dice_global, iou_global and those of the contours -> R K."""
    per_size: Mapping[str, Values]
    """Of the objects of each size: found, coverage, dice -> R S. Empty where objects were not counted."""


def features(tallies: Tallies, contract: MetricContract) -> Features:
    """All that is ever added up, per image (N ...), under a resolved contract.

    float64 holds whole numbers exactly up to 2^53, more pixels than any data set has.
    """
    rows: dict[str, Values] = {"counts": tallies.counts_NK4.astype(np.float64)}  # N K 4
    for name, values_N in image_values(tallies, contract).items():
        rows |= _sum_and_number(name, values_N)
    for name, values_NK in surface_values(tallies).items():
        rows |= _sum_and_number(f"{name} class", values_NK)
    if tallies.objects_NS5 is not None:
        rows["objects"] = tallies.objects_NS5  # N S 5
    if tallies.bins_NB3 is not None and tallies.brier_N is not None:
        rows |= {"bins": tallies.bins_NB3, "brier": tallies.brier_N}  # N B 3, N
    return rows


def _sum_and_number(name: str, values: Values) -> dict[str, Values]:
    """What the mean of the defined values needs."""
    return {
        f"{name} sum": np.nan_to_num(values),
        f"{name} images": (~np.isnan(values)).astype(np.float64),
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
    per_class = {"dice_global": dice_RK, "iou_global": iou_RK}
    for name in SURFACE_METRICS:
        if f"{name} sum" in sums:
            values[name] = divide(sums[f"{name} sum"], sums[f"{name} images"])
            per_class[name] = divide(sums[f"{name} class sum"], sums[f"{name} class images"])
    if "bins" in sums:
        values["ece"] = ece(sums["bins"])
        values["brier"] = divide(sums["brier"], sums["bins"][..., 0].sum(-1))
    per_size = {}
    if "objects" in sums:
        number, *rest = np.moveaxis(sums["objects"], -1, 0)[:4]  # each R S
        per_size = {
            name: divide(part, number) for name, part in zip(("found", "coverage", "dice"), rest, strict=True)
        }
    return Measures(values, per_class, per_size)


def image_values(tallies: Tallies, contract: MetricContract) -> dict[ImageMetric, Float64[np.ndarray, " N"]]:
    """Of every image under a resolved contract, as far as it was counted; NaN where an image is left out."""
    foreground = list(contract.foreground or ())
    tp, fp, fn, _ = np.moveaxis(tallies.counts_NK4[:, foreground], -1, 0)  # each N F
    absent = tp + fp + fn == 0
    empty = absent.all(-1)

    def per_image(values_NF: Values, of_absent: Policy, of_empty: Policy) -> Values:
        settled = np.where(absent, STAND_IN[of_absent], values_NF)
        return np.where(empty, STAND_IN[of_empty], mean(settled))

    values: dict[ImageMetric, Values] = {
        "dice_image": per_image(dice(tp, fp, fn), contract.absent, contract.empty),
        "iou_image": per_image(iou(tp, fp, fn), contract.absent, contract.empty),
    }
    for name, values_NK in surface_values(tallies).items():
        policies: tuple[Policy, Policy] = (contract.absent, contract.empty)
        if name in DISTANCES:
            policies = ("skip", "skip")
        values[name] = per_image(values_NK[:, foreground], *policies)
    return values


def surface_values(tallies: Tallies) -> dict[ImageMetric, Float64[np.ndarray, "N K"]]:
    """SURFACE_METRICS of every image and class, as far as they were counted; NaN where undefined."""
    if tallies.surface_NK5 is None or tallies.distance_NK2 is None:
        return {}
    tp, fp, fn, near, surface = np.moveaxis(tallies.surface_NK5, -1, 0)  # each N K
    hd95, assd = np.moveaxis(tallies.distance_NK2, -1, 0)
    return {"boundary_iou": iou(tp, fp, fn), "nsd": divide(near, surface), "hd95": hd95, "assd": assd}


def dice(tp: Values, fp: Values, fn: Values) -> Values:
    """2 tp / (2 tp + fp + fn), elementwise; NaN where all are 0. Equals 2 IoU / (1 + IoU)."""
    return divide(2 * tp, 2 * tp + fp + fn)


def iou(tp: Values, fp: Values, fn: Values) -> Values:
    """tp / (tp + fp + fn), elementwise; NaN where all are 0."""
    return divide(tp, tp + fp + fn)


def ece(bins: Float64[np.ndarray, "*R B 3"]) -> Values:
    """Expected calibration error of each row of summed bins (... B 3 -> ...), in [0, 1]; NaN without pixels.

    sum over b of n_b / n |accuracy_b - confidence_b| (Guo et al. 2017, equation 3), over pixels.
    """
    pixels, confidence, correct = np.moveaxis(bins, -1, 0)
    return divide(np.abs(correct - confidence).sum(-1), pixels.sum(-1))


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
