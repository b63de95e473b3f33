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
    truth, predicted = (
        torch.from_numpy(mask[None].astype(np.uint8 if mask.dtype == np.uint8 else np.int64))
        for mask in (truth_HW, predicted_HW)
    )
    counted: Confusion = confusions(truth, predicted, classes, ignore)[0]
    return counted


def confusions(
    truth_BHW: Labels, predicted_BHW: Labels, classes: int, ignore: int = IGNORE
) -> Int64[np.ndarray, "B K K"]:
    """`confusion` of every image of a batch, on the batch's device. Raises DataError.

    All pairs of values that occur are counted, and what is no class is looked for among the counts: no pass over
    the pixels is needed to mask or to check them.
    """
    if truth_BHW.shape != predicted_BHW.shape:
        raise DataError(
            f"the truths are {tuple(truth_BHW.shape)} and the predictions {tuple(predicted_BHW.shape)}",
            "both are B, H, W",
        )
    batch = len(truth_BHW)
    if not truth_BHW.numel():
        return np.zeros((batch, classes, classes), np.int64)
    rows = _values("truth", truth_BHW, classes)
    try:
        columns = _values("prediction", predicted_BHW, classes)
    except DataError:  # where the truth is ignored, anything may be predicted
        predicted_BHW = predicted_BHW.where(truth_BHW != ignore, 0)
        columns = _values("prediction", predicted_BHW, classes)
    step = 1 if truth_BHW.device.type == "cpu" else batch  # one picture stays in the cache of a CPU
    parts = [
        _joint(truth_BHW[start : start + step], predicted_BHW[start : start + step], rows, columns)
        for start in range(0, batch, step)
    ]
    joint = torch.cat(parts).cpu().numpy()
    if ignore < rows:
        joint[:, ignore] = 0
    for name, others in (
        ("truth", joint[:, classes:].sum((0, 2))),
        ("prediction", joint[..., classes:].sum((0, 1))),
    ):
        if others.any():
            raise _no_class(name, classes + int(others.argmax()), classes)
    return np.ascontiguousarray(joint[:, :classes, :classes])


def _joint(
    truth_BHW: Labels, predicted_BHW: Labels, rows: int, columns: int
) -> Int64[Tensor, "B rows columns"]:
    """Pixels of every pair of values, by one bincount."""
    batch, device = len(truth_BHW), truth_BHW.device
    if (batch, rows, columns, device.type) == (1, 2, 2, "cpu"):
        return _joint_of_two(truth_BHW, predicted_BHW)
    bins = batch * rows * columns
    small = torch.uint8 if bins <= 256 else torch.int32 if bins < 2**31 else torch.int64
    codes = torch.add(predicted_BHW.to(small), truth_BHW.to(small), alpha=columns)
    if batch > 1:
        codes += torch.arange(0, bins, rows * columns, dtype=small, device=device)[:, None, None]
    return torch.bincount(codes.flatten(), minlength=bins).reshape(batch, rows, columns)


def _joint_of_two(truth_1HW: Labels, predicted_1HW: Labels) -> Int64[Tensor, "1 2 2"]:
    """The same for zeros and ones on a CPU, whose increments of few bins wait for one another: no bincount."""
    true, said = (mask.to(torch.uint8).numpy().view(bool) for mask in (truth_1HW, predicted_1HW))
    both, fn, fp = (np.count_nonzero(mask) for mask in (true & said, true > said, said > true))
    return torch.tensor([[[true.size - both - fn - fp, fp], [fn, both]]])


def _values(name: str, masks: Tensor, classes: int) -> int:
    """How many values to count: all up to the largest that occurs, and all classes. Raises DataError outside bytes."""
    low, high = (int(value) for value in masks.aminmax())
    if low < 0 or high > 255:
        raise _no_class(name, low if low < 0 else high, classes)
    return max(classes, high + 1)


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
