"""What kind of mistakes a model makes: every wrong pixel is of exactly one kind.

An object is a connected region (8-connected) of a foreground class of the contract, d its `tolerance` in pixels. The
first kind that applies, in this order:

1. missed: the truth is foreground, the prediction is not, and the pixel's object was hardly seen: at most a tenth of
   it is predicted as any foreground. Whole objects come first: every pixel of a small one lies near its contour.
2. invented: the prediction is foreground, the truth is not, and the predicted region shares no pixel with any
   foreground of the truth.
3. slip: the contour is off by at most d: the truth has what was predicted at most d pixels away. What was predicted is
   foreground or not where one of both masks says foreground and the other does not, else the predicted class itself:
   the rim of a cat that is taken for a dog is a slip, its inside a swap. Outside the picture there is no foreground,
   as for boundary_iou: an object that the prediction ends just before the border is a slip, too.
4. hole: the truth is foreground, the prediction is not, and predicted foreground surrounds the pixel: no way leads from
   it to the picture's border.
5. missed, invented: what is left of foreground in one mask only are pieces of objects, farther from the contour than d.
6. swap: what is left are two classes on the same side, foreground for foreground (or, where the contract leaves several
   classes out of the foreground, one of those for another).

Mending a kind gives its pixels the true class; what every score gains by that says where work pays. The kinds are
after Hoiem et al. 2012 (Diagnosing error in object detectors) and Bolya et al. 2020 (TIDE), who ask it of boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from scipy import ndimage

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.counts import Counts, tally
from maskwright.metrics.masks import Flags, Pair, Regions, grow
from maskwright.metrics.measures import Tallies, divide, features, measure, total

KINDS = ("slip", "missed", "invented", "swap", "hole")
WORDS = {
    "slip": "boundary slips",
    "missed": "missed objects or parts",
    "invented": "invented objects or parts",
    "swap": "class swaps",
    "hole": "holes",
}
SLIP, MISSED, INVENTED, SWAP, HOLE = range(1, 6)
"""Values of `kinds_of`; 0 is right, or not known."""
HARDLY = 0.1
"""An object is missed when at most this share of it is predicted as foreground."""


@dataclass(frozen=True)
class ErrorKind:
    """One of KINDS over all images."""

    kind: str
    pixels: int
    share: float
    """Of all wrong pixels; NaN where there are none."""
    miou_gain: float
    """What miou would gain if this kind alone were mended."""
    dice_image_gain: float


def kinds_of(masks: Pair, found: Iterable[Regions], contract: MetricContract) -> UInt8[np.ndarray, "H W"]:
    """The kind of each wrong pixel as its place in KINDS from 1; `contract` is resolved, `found` its regions."""
    foreground = np.zeros(256, dtype=bool)
    foreground[list(contract.foreground or ())] = True
    truth, said = foreground[masks.truth], foreground[masks.predicted]
    wrong = masks.known & (masks.truth != masks.predicted)
    kinds = np.zeros(wrong.shape, dtype=np.uint8)

    def name(pixels: np.ndarray, kind: int) -> None:
        kinds[pixels & (kinds == 0)] = kind

    lost, added, swapped = wrong & truth & ~said, wrong & said & ~truth, wrong & (truth == said)
    for region in found:
        true, predicted = region.truth, region.predicted
        unseen = true.pixels(said) <= HARDLY * true.pixels()
        baseless = predicted.pixels(truth & masks.known) == 0
        _paint(kinds, true.places[unseen[true.numbers]], lost, MISSED)
        _paint(kinds, predicted.places[baseless[predicted.numbers]], added, INVENTED)
    around = np.pad(~truth, 1, constant_values=True)
    name(lost & grow(around, contract.tolerance)[1:-1, 1:-1], SLIP)
    name(added & grow(truth, contract.tolerance), SLIP)
    for k in np.unique(masks.predicted[swapped]):
        name(swapped & (masks.predicted == k) & grow(masks.truth == k, contract.tolerance), SLIP)
    if (lost & (kinds == 0)).any():
        name(lost & _enclosed(~said), HOLE)
    name(lost, MISSED)
    name(added, INVENTED)
    name(swapped, SWAP)
    return kinds


def mended(
    masks: Pair,
    kinds_HW: UInt8[np.ndarray, "H W"],
    counts_K4: Int64[np.ndarray, "K 4"],
    contract: MetricContract,
) -> Int32[np.ndarray, "E K 4"]:
    """The counts of one image with the errors of each kind mended alone.

    32 bits hold the pixels of any picture: 150 classes of 5,000 pictures are 60 MB.
    """
    classes, wrong = len(counts_K4), kinds_HW > 0
    codes = (kinds_HW[wrong] - 1).astype(np.int64) * classes + masks.truth[wrong]
    codes = codes * classes + masks.predicted[wrong]
    errors_EKK = np.bincount(codes, minlength=len(KINDS) * classes**2).reshape(-1, classes, classes)
    right_EKK = errors_EKK.sum(2)[:, :, None] * np.eye(classes, dtype=np.int64)
    after: Int64[np.ndarray, "E K 4"] = counts_K4 + tally(right_EKK - errors_EKK, contract)
    return after.astype(np.int32)


def anatomy(tallies: Tallies, contract: MetricContract) -> tuple[ErrorKind, ...]:
    """The kinds of errors of all images, the most rewarding (in miou) first; empty where they were not counted."""
    if tallies.anatomy_NEK4 is None:
        return ()
    now = _metrics(tallies.counts_NK4, contract)
    all_wrong = np.array(tallies.counts_NK4[..., 2].sum())
    rows = []
    for e, kind in enumerate(KINDS):
        counts_NK4 = tallies.anatomy_NEK4[:, e].astype(np.int64)
        pixels = int((tallies.counts_NK4 - counts_NK4)[..., 2].sum())
        then = _metrics(counts_NK4, contract)
        rows.append(
            ErrorKind(
                kind=kind,
                pixels=pixels,
                share=float(divide(np.array(pixels), all_wrong)),
                **{f"{metric}_gain": then[metric] - now[metric] for metric in ("miou", "dice_image")},
            )
        )
    return tuple(sorted(rows, key=lambda row: -np.nan_to_num(row.miou_gain)))


def _metrics(counts_NK4: Counts, contract: MetricContract) -> dict[str, float]:
    values = measure(total(features(Tallies(counts_NK4), contract)), contract).values
    return {name: float(value[0]) for name, value in values.items()}


def _paint(kinds_HW: np.ndarray, places: np.ndarray, where_HW: Flags, kind: int) -> None:
    """`kind` at those of the places where a flag is true."""
    kinds_HW.ravel()[places[where_HW.ravel()[places]]] = kind  # ravel is a view: the array is new and whole


def _enclosed(flags_HW: Flags) -> Flags:
    """What is true and has no way (beside, above, below) through what is true to the border."""
    parts, number = ndimage.label(flags_HW)
    outside = np.zeros(number + 1, dtype=bool)
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        outside[edge] = True
    outside[0] = True
    enclosed: Flags = ~outside[parts]
    return enclosed
