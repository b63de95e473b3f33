"""Scores as a person reads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from maskwright.cli.answer import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.metrics.scores import Scores

SHOWN = ("dice_image", "dice_global", "iou_image", "iou_global", "miou", "miou_fg", "pixel_accuracy")


def scores_text(scores: Scores, title: str) -> RenderableType:
    """Metrics with their intervals, then a line per class, then what to know before trusting them."""
    from rich.console import Group

    metrics = table(
        ("metric", "value>", "95 % interval>"),
        [(name, scores[name].value, interval(scores[name].ci95)) for name in SHOWN],
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
        metrics, classes, f"{scores.n_images} pictures{groups}, contract {scores.contract.hash}", *notes
    )


def interval(ci95: tuple[float, float]) -> str:
    low, high = ci95
    return "–" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
