"""Scores as a person reads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from maskwright.cli.answer import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.metrics.scores import Scores

SHOWN = (
    "dice_image",
    "dice_global",
    "iou_image",
    "iou_global",
    "miou",
    "miou_fg",
    "pixel_accuracy",
    "boundary_iou",
    "nsd",
    "hd95",
    "assd",
    "brier",
)
UNITS = {"hd95": " px", "assd": " px"}


def scores_text(scores: Scores, title: str) -> RenderableType:
    """Metrics with their intervals, then a line per class, object size and kind of error, then what to know before
    trusting them."""
    from rich.console import Group

    metrics = table(
        ("metric", "value>", "95 % interval>"),
        [
            (name + UNITS.get(name, ""), scores[name].value, interval(scores[name].ci95))
            for name in SHOWN
            if name in scores.metrics
        ],
        title=title,
    )
    classes = table(
        ("class", "Dice>", "95 % interval>", "IoU>", "pixels>"),
        [
            (entry.name, entry.dice_global, interval(entry.dice_global_ci95), entry.iou_global, entry.pixels)
            for entry in scores.per_class
        ],
    )
    groups = (
        ""
        if scores.n_groups == scores.n_images
        else f" in {scores.n_groups} group{'s' * (scores.n_groups > 1)}"
    )
    notes = [f"Note: {advice}" for advice in scores.advice]
    return Group(
        metrics,
        classes,
        *_sizes(scores),
        *_anatomy(scores),
        *_trust(scores),
        f"{scores.n_images} pictures{groups}, contract {scores.contract.hash}",
        *notes,
    )


def _sizes(scores: Scores) -> list[RenderableType]:
    """Nothing where objects were not counted."""
    if not scores.per_size:
        return []
    columns = ("object size", "objects>", "found>", "95 % interval>", "Dice>", "invented>")
    rows = [
        (entry.size, entry.objects, entry.found, interval(entry.found_ci95), entry.dice, entry.invented)
        for entry in scores.per_size
    ]
    return [table(columns, rows)]


def _anatomy(scores: Scores) -> list[RenderableType]:
    """Nothing where no error was looked into, or there is none."""
    from maskwright.metrics.anatomy import WORDS

    if not any(row.pixels for row in scores.anatomy):
        return []
    columns = ("mending alone", "of the errors>", "mIoU>", "dice_image>")
    rows = [
        (WORDS[row.kind], f"{100 * row.share:.1f} %", gain(row.miou_gain), gain(row.dice_image_gain))
        for row in scores.anatomy
    ]
    return [table(columns, rows)]


def gain(value: float) -> str:
    """In points of 100: `+ 3.1`."""
    return "–" if math.isnan(value) else f"{'-' if value < 0 else '+'} {100 * abs(value):.1f}"


def _trust(scores: Scores) -> list[RenderableType]:
    """What probabilities and the expected Dice are worth; nothing where they were not counted."""
    if (found := scores.calibration) is None:
        return []
    before = ""
    if not math.isnan(found.temperature) and found.temperature != 1:  # several models have none in common
        before = f", {found.ece_before:.4f} without the temperature {found.temperature:.2f}"
    lines: list[RenderableType] = [f"Expected calibration error {found.ece:.4f}{before}"]
    if said := found.foresight:
        lines.append(
            f"Expected Dice, without labels: {said.expected:.4f} on average, true {said.true:.4f}; off by "
            f"{said.error:.4f} per picture, rank correlation {said.spearman:.2f}"
        )
    return lines


def interval(ci95: tuple[float, float]) -> str:
    low, high = ci95
    return "–" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
