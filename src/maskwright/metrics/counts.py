"""Integer counts per image and class: the only thing ever accumulated.

Count first, divide last: joining images, tiles, workers and bootstrap samples is addition and loses nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from maskwright.errors import DataError
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.tensors import IGNORE, Labels

Confusion: TypeAlias = Int64[np.ndarray, "*N K K"]
"""Pixels by truth (row) and prediction (column)."""
Counts: TypeAlias = Int64[np.ndarray, "*N K 4"]
"""Pixels per class in the order of COLUMNS."""

COLUMNS = ("tp", "fp", "fn", "fp_background")
"""tp: truth and prediction are k; fp: only the prediction; fn: only the truth; fp_background: the part of fp
whose truth is class 0, from which miou_fg_masked follows."""


def confusion(
    truth_HW: Int[np.ndarray, "H W"],
    predicted_HW: Int[np.ndarray, "H W"],
    classes: int,
    ignore: int = IGNORE,
) -> Confusion:
    """K x K pixels of one image by truth and prediction; pixels whose truth is `ignore` count nowhere.

    Raises DataError for masks of different sizes and for values that are no class.
    """
    if truth_HW.shape != predicted_HW.shape:
        raise DataError(
            f"the truth is {_size(truth_HW)} and the prediction {_size(predicted_HW)}",
            "both must have the picture's own size",
        )
    valid = truth_HW != ignore
    truth, predicted = truth_HW[valid], predicted_HW[valid]
    for name, values in (("truth", truth), ("prediction", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            worst = values.max() if values.min() >= 0 else values.min()
            raise _no_class(name, int(worst), classes)
    codes = truth.astype(np.int64) * classes + predicted
    return np.bincount(codes, minlength=classes * classes).reshape(classes, classes)


def confusions(
    truth_BHW: Labels, predicted_BHW: Labels, classes: int, ignore: int = IGNORE
) -> Int64[np.ndarray, "B K K"]:
    """`confusion` of every image of a batch, on the batch's device, by one bincount. Raises DataError."""
    if truth_BHW.shape != predicted_BHW.shape:
        raise DataError(
            f"the truths are {tuple(truth_BHW.shape)} and the predictions {tuple(predicted_BHW.shape)}",
            "both are B, H, W",
        )
    valid, batch = truth_BHW != ignore, len(truth_BHW)
    truth, predicted = truth_BHW.long(), predicted_BHW.long()
    for name, values in (("truth", truth), ("prediction", predicted)):
        outside = valid & ((values < 0) | (values >= classes))
        if outside.any():
            raise _no_class(name, int(values[outside][0]), classes)
    images = torch.arange(batch, device=truth.device)[:, None, None]
    codes = (images * classes + truth) * classes + predicted
    bins = batch * classes * classes
    codes = codes.where(valid, torch.tensor(bins, device=codes.device))  # a last bin that nobody reads
    pixels: Tensor = torch.bincount(codes.flatten(), minlength=bins + 1)[:bins]
    return pixels.reshape(batch, classes, classes).cpu().numpy()


def tally(confusion_KK: Confusion, contract: MetricContract = DEFAULT) -> Counts:
    """tp, fp, fn and fp_background per class, of any number of confusion matrices (... K K -> ... K 4).

    Rows of the contract's `drop_truth` are left out: the same as dropping those pixels before counting.
    """
    kept = confusion_KK.copy()
    kept[..., list(contract.drop_truth), :] = 0
    tp = np.diagonal(kept, axis1=-2, axis2=-1)
    fp_background = kept[..., 0, :].copy()
    fp_background[..., 0] = 0
    return np.stack([tp, kept.sum(-2) - tp, kept.sum(-1) - tp, fp_background], axis=-1)


def count(
    truth_HW: Int[np.ndarray, "H W"],
    predicted_HW: Int[np.ndarray, "H W"],
    classes: int,
    contract: MetricContract = DEFAULT,
) -> Int64[np.ndarray, "K 3"]:
    """tp, fp, fn per class of one image, in pixels. Raises DataError as `confusion` does."""
    return tally(confusion(truth_HW, predicted_HW, classes, contract.ignore), contract)[:, :3]


def _size(mask_HW: Int[np.ndarray, "H W"]) -> str:
    return " x ".join(str(side) for side in mask_HW.shape)


def _no_class(name: str, value: int, classes: int) -> DataError:
    return DataError(f"the {name} holds {value}; the classes end at {classes - 1}", "map it in dataset.yaml")
