"""What scores say, as rows and figures ready for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskwright.data.classes import Colour, colour_text
from maskwright.metrics.anatomy import WORDS
from maskwright.metrics.calibration import Calibration, Foresight
from maskwright.metrics.measures import LOWER_IS_BETTER, METRICS
from maskwright.metrics.objects import SIZE_LIMITS
from maskwright.metrics.scores import Score, Scores
from maskwright.report.words import confused, main_metric, number, percent, shares_of_truth

BINS = 20
MATRIX = 40
"""Classes of which the whole confusion matrix is shown; of more, only the pairs that are confused most."""
DIGITS = 14
"""Classes up to which the cells of that matrix hold their number; of more, their colour."""

LABELS = {
    "dice_image": "Dice per image",
    "dice_global": "Dice of all pixels",
    "iou_image": "IoU per image",
    "iou_global": "IoU of all pixels",
    "miou": "Mean IoU",
    "miou_fg": "Mean IoU without class 0",
    "miou_fg_masked": "… and without its pixels",
    "pixel_accuracy": "Pixel accuracy",
    "boundary_iou": "Boundary IoU",
    "nsd": "Surface Dice",
    "hd95": "Hausdorff distance 95, pixels",
    "assd": "Mean surface distance, pixels",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
}
"""Of every metric, for reading; one that is not here goes by its own name."""

KINDS = {
    "slip": "the contour is off by a few pixels",
    "missed": "an object, or a piece of one, is not seen",
    "invented": "something is seen where nothing is",
    "swap": "seen, but taken for another class",
    "hole": "a gap inside what was found",
}
"""What the kinds of errors are, for reading."""
SPANS = {
    "small": f"under {math.isqrt(SIZE_LIMITS[0])} × {math.isqrt(SIZE_LIMITS[0])} pixels",
    "medium": f"up to {math.isqrt(SIZE_LIMITS[1])} × {math.isqrt(SIZE_LIMITS[1])}",
    "large": "above",
}


@dataclass(frozen=True)
class Figure:
    """A number with its interval, ready for the page."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def text(self) -> str:
        return "–" if math.isnan(self.value) else _digits(self.value)

    @property
    def interval(self) -> str:
        return "" if math.isnan(self.low + self.high) else f"{_digits(self.low)}–{_digits(self.high)}"

    @property
    def percent(self) -> float:
        return 0.0 if math.isnan(self.value) else round(100 * self.value, 2)

    @property
    def low_percent(self) -> float:
        return round(100 * self.low, 2)

    @property
    def width_percent(self) -> float:
        return round(100 * (self.high - self.low), 2)


def headline(split: str, scores: Scores) -> dict[str, Any]:
    """The number that the page is about, and those beside it."""
    key, label = main_metric(scores)
    others = [name for name in ("iou_image", "dice_image", "miou", "pixel_accuracy") if name != key]
    return {
        "label": f"{label}, {split} split",
        "figure": _figure(scores[key]),
        "tiles": [{"label": LABELS[other], "figure": _figure(scores[other])} for other in others],
    }


def every_score(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """All metrics of all evaluations: a row per metric, a column per evaluation."""
    keys = dict.fromkeys([*METRICS, *(key for entry in scores.values() for key in entry.metrics)])
    nothing = Score(math.nan, (math.nan, math.nan))
    return {
        "names": [
            {
                "name": name,
                "pictures": number(entry.n_images, "picture"),
                "contract": entry.contract.hash,
            }
            for name, entry in scores.items()
        ],
        "rows": [
            {
                "label": LABELS.get(key, key),
                "key": key,
                "down": key in LOWER_IS_BETTER,
                "figures": [_figure(entry.metrics.get(key, nothing)) for entry in scores.values()],
            }
            for key in keys
        ],
    }


def class_rows(scores: Scores, colours: Mapping[str, Colour]) -> list[dict[str, Any]]:
    total = sum(entry.pixels for entry in scores.per_class)
    return [
        {
            "name": entry.name,
            "colour": colour_text(colours.get(entry.name, (128, 128, 128))),
            "iou": Figure(entry.iou_global, *entry.iou_global_ci95),
            "dice": Figure(entry.dice_global, *entry.dice_global_ci95),
            "share": f"{entry.pixels / max(total, 1):.2%}",
        }
        for entry in scores.per_class
    ]


def matrix(scores: Scores) -> dict[str, Any] | None:
    """The confusion matrix, a row per true class as shares of its pixels; None where it was not counted."""
    if scores.confusion_KK is None:
        return None
    names = [entry.name for entry in scores.per_class]
    shares = shares_of_truth(scores.confusion_KK)
    rows = [
        {
            "name": truth,
            "cells": [
                {
                    "right": t == p,
                    # Square roots: a confusion of one pixel in a hundred should be seen, and text stay legible.
                    "alpha": round(0.75 * math.sqrt(shares[t, p]), 3),
                    "text": f"{100 * shares[t, p]:.0f}" if shares[t, p] >= 0.005 else "",
                    "title": f"{truth} taken for {predicted}: "
                    f"{number(int(scores.confusion_KK[t, p]), 'pixel')}, {shares[t, p]:.1%} of {truth}",
                }
                for p, predicted in enumerate(names)
            ],
        }
        for t, truth in enumerate(names)
    ]
    return {
        "names": names,
        "rows": rows if len(names) <= MATRIX else [],
        "digits": len(names) <= DIGITS,
        "words": [
            f"{percent(share)} of {truth} is taken for {predicted}"
            for truth, predicted, share in confused(scores.confusion_KK, names)
        ],
    }


def errors(scores: Scores) -> list[dict[str, Any]]:
    """Kinds of errors, the most rewarding first; empty where they were not counted, and where there are none."""
    rows = [row for row in scores.anatomy if row.pixels]
    most = max((row.miou_gain for row in rows), default=0.0)
    return [
        {
            "name": WORDS[row.kind],
            "meaning": KINDS[row.kind],
            "share": percent(row.share),
            "miou": f"{row.miou_gain:+.3f}",
            "dice": "–" if math.isnan(row.dice_image_gain) else f"{row.dice_image_gain:+.3f}",
            "percent": round(100 * max(row.miou_gain, 0) / most, 1) if most > 0 else 0.0,
        }
        for row in rows
    ]


def sizes(scores: Scores) -> list[dict[str, Any]]:
    """Objects of the truth by size; empty where they were not counted."""
    return [
        {
            "name": row.size,
            "span": SPANS[row.size],
            "objects": f"{row.objects:,}",
            "invented": f"{row.invented:,}",
            "found": Figure(row.found, *row.found_ci95),
            "dice": Figure(row.dice, *row.dice_ci95),
        }
        for row in scores.per_size
    ]


def confidence(calibration: Calibration | None) -> dict[str, str] | None:
    """Whether its probabilities can be believed, in words; None where they were not counted."""
    if calibration is None or math.isnan(calibration.ece):
        return None
    curve = calibration.reliability
    pixels, sure, right = max(zip(curve.pixels, curve.confidence, curve.accuracy, strict=True))
    before = ""
    if not math.isnan(calibration.temperature) and calibration.temperature != 1:
        before = (
            f" ({calibration.ece_before:.3f} before its logits were divided by {calibration.temperature:.2f})"
        )
    return {
        "reliability": f"Of the pixels of which it is {percent(sure)} sure, {percent(right)} are right; they are "
        f"{percent(pixels / sum(curve.pixels))} of all. Sureness and correctness differ by {calibration.ece:.3f} on "
        f"average{before}; Brier score {calibration.brier:.3f}.",
        "coverage": "" if calibration.foresight is None else _coverage(calibration.foresight),
    }


def _coverage(foresight: Foresight) -> str:
    """What looking at the most doubtful pictures by hand would give."""
    kept = min(range(len(foresight.coverage)), key=lambda place: abs(foresight.coverage[place] - 0.9))
    known = "" if math.isnan(foresight.spearman) else f" (rank correlation {foresight.spearman:.2f})"
    then, now = 1 - foresight.risk[kept], 1 - foresight.risk[-1]
    return (
        f"Without a truth, the Dice of a picture is foretold to {foresight.error:.3f} on average{known}. Looking at "
        f"the most doubtful tenth by hand would leave pictures with a mean Dice of {then:.3f} instead of {now:.3f}."
    )


def histogram(scores: Scores) -> list[dict[str, Any]]:
    """Pictures per twentieth of Dice; the tallest bar is 100 %."""
    counts = [0] * BINS
    for value in scores.by_image("dice_image").values():
        if not math.isnan(value):
            counts[min(int(value * BINS), BINS - 1)] += 1
    tallest = max(max(counts), 1)
    return [
        {
            "percent": round(100 * count / tallest, 1),
            "title": f"{place / BINS:.2f} to {(place + 1) / BINS:.2f}: {number(count, 'picture')}",
        }
        for place, count in enumerate(counts)
    ]


def _digits(value: float) -> str:
    """Three decimals where they say something: shares, but not distances in pixels."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _figure(score: Score) -> Figure:
    return Figure(score.value, *score.ci95)
