"""The numbers that measures hold, on how many groups each rests, and whether that is enough for an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.counts import COLUMNS
from maskwright.metrics.intervals import NO_INTERVAL, Interval
from maskwright.metrics.measures import DISTANCES, Features, Measures, Values

ENOUGH_PICTURES = 50
"""Groups from which on a mean over pictures or objects has an interval: where 95 % intervals cover at least 93 % in
docs/intervals.md."""
ENOUGH_HOLDERS = 30
"""The same for what follows from the summed pixels of a class, in groups whose truth holds it; for differences, too."""
ENOUGH_DIFFERENCES = 150
"""The same for a difference of two means over pictures, most of which is in few of them."""
ENOUGH_CHANGES = 20
"""The same for what rounding does to one network: little in every picture, up as often as down."""

TP, FN = COLUMNS.index("tp"), COLUMNS.index("fn")


class Number(NamedTuple):
    """One of the numbers of `Measures`."""

    metric: str
    kind: Literal["values", "per_class", "per_size"] = "values"
    position: int = 0
    """Of the class or the size."""

    def read(self, found: Measures) -> Values:
        """R."""
        if self.kind == "values":
            return found.values[self.metric]
        by_position = found.per_class if self.kind == "per_class" else found.per_size
        return by_position[self.metric][..., self.position]

    def settle(self, interval: Interval, groups: Features, contract: MetricContract) -> Interval:
        """The interval within what the number can be; NaN where it rests on too few groups."""
        number, enough = rests_on(self, groups, contract)
        low, high = interval
        if number < enough or math.isnan(low + high):
            return NO_INTERVAL
        return max(low, 0.0), high if self.metric in DISTANCES else min(high, 1.0)


def numbers(found: Measures) -> Iterator[Number]:
    """All of them."""
    yield from (Number(metric) for metric in found.values)
    for metric, values_RK in found.per_class.items():
        yield from (Number(metric, "per_class", k) for k in range(values_RK.shape[-1]))
    for metric, values_RS in found.per_size.items():
        yield from (Number(metric, "per_size", s) for s in range(values_RS.shape[-1]))


def rests_on(
    number: Number, groups: Features, contract: MetricContract, *, of_means: int = ENOUGH_PICTURES
) -> tuple[int, int]:
    """On how many groups (features G ...) a number rests, and how many an interval of it needs (`of_means`, if it is a
    mean over pictures).

    The score of a class rests on the groups whose truth holds it, a mean over classes on those of its rarest class (of
    those that are there at all), that of a size on the groups with objects of it, a mean over pictures on the groups
    with pictures that count.
    """
    counts_GK4 = groups["counts"]
    held_K = (counts_GK4[..., TP] + counts_GK4[..., FN] > 0).sum(0)
    averaged: dict[str, Sequence[int]] = {
        **dict.fromkeys(("dice_global", "iou_global"), contract.foreground or ()),
        "miou": range(len(held_K)),
        **dict.fromkeys(("miou_fg", "miou_fg_masked"), range(1, len(held_K))),
    }
    if number.kind == "per_class":
        pixels = number.metric in averaged
        return int(held_K[number.position]), ENOUGH_HOLDERS if pixels else of_means
    if number.kind == "per_size":
        return int((groups["objects"][:, number.position, 0] > 0).sum()), of_means
    if number.metric in averaged:
        there = counts_GK4[..., :3].sum((0, 2)) > 0
        return min((int(held_K[k]) for k in averaged[number.metric] if there[k]), default=0), ENOUGH_HOLDERS
    if f"{number.metric} images" in groups:
        return int((groups[f"{number.metric} images"] > 0).sum()), of_means
    return len(counts_GK4), of_means


def advice(groups: Features, names: Sequence[str], contract: MetricContract, unit: str) -> Iterator[str]:
    """What has no interval, and what it would take."""
    number, enough = rests_on(Number("dice_image"), groups, contract)
    if number < enough:
        yield f"not enough data: {_counted(number, unit)}, at least {enough} are needed for an interval of dice_image"
    held = [rests_on(Number("dice_global", "per_class", k), groups, contract) for k in range(len(names))]
    few = [
        f"{name} is in {number}"
        for name, (number, enough) in zip(names, held, strict=True)
        if 0 < number < enough
    ]
    if few:
        yield (
            f"not enough data: {', '.join(few)}; at least {ENOUGH_HOLDERS} {unit}s are needed for an interval of a "
            "class, and of the means over classes"
        )


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' * (number != 1)}"
