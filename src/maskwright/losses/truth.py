"""What a loss is told: the truth as shares of the classes, where it is known; and what all losses do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from maskwright.tensors import IGNORE, Labels, Logits, Target

Truth: TypeAlias = Float[Tensor, "B C H W"]
"""One channel: the share of class 1. More: the shares of the classes."""
Valid: TypeAlias = Float[Tensor, "B 1 H W"]
"""1 where the truth is known, 0 elsewhere."""
Weights: TypeAlias = Float[Tensor, " K"]
"""One per class: two for a sigmoid network, whose one channel stands for class 1 against class 0."""
Scalar: TypeAlias = Float[Tensor, ""]


def as_truth(target: Target, channels: int) -> tuple[Truth, Valid]:
    """Labels -> shares of the classes, and where they are known.

    With MixUp the truth is `weight` * labels + (1 - weight) * others. A pixel that is IGNORE in either of
    the two counts nowhere, unless that one has no weight in its picture.
    """
    return _of_both(target, lambda labels: _shares(labels, channels))


def edge_truth(target: Target, radius: int) -> tuple[Truth, Valid]:
    """Where classes meet, B 1 H W, and where that is known; with MixUp as in `as_truth`. See `edges`."""
    return _of_both(target, lambda labels: edges(labels, radius))


def edges(labels: Labels, radius: int) -> tuple[Float[Tensor, "B 1 H W"], Bool[Tensor, "B 1 H W"]]:
    """1 for pixels within `radius` pixels (rows and columns each) of a pixel of another class, else 0; and where known.

    A boundary is a band of 2 * radius pixels, half of it on either side. Not known is a pixel with an IGNORE pixel
    that near: a class could end there. The picture's own border is no edge. Labels are below IGNORE, so the largest
    and the smallest of a neighbourhood say it all, for any number of classes.
    """
    values = labels[:, None].float()
    side = 2 * radius + 1
    largest = F.max_pool2d(values, side, stride=1, padding=radius)
    smallest = -F.max_pool2d(-values, side, stride=1, padding=radius)
    return (largest > smallest).float(), largest < IGNORE


def _of_both(target: Target, read: Callable[[Labels], tuple[Tensor, Tensor]]) -> tuple[Truth, Valid]:
    """`read` gives truth and where it is known; of MixUp's two masks, it is read from each and blended."""
    truth, known = read(target.labels)
    if target.others is None or target.weight is None:
        return truth, known.float()
    others, others_known = read(target.others)
    weight = target.weight.to(truth).view(-1, 1, 1, 1)
    known = (known | (weight == 0)) & (others_known | (weight == 1))
    return weight * truth + (1 - weight) * others, known.float()


def _shares(labels: Labels, channels: int) -> tuple[Tensor, Tensor]:
    first = 1 if channels == 1 else 0
    ids = torch.arange(first, first + channels, device=labels.device, dtype=labels.dtype)
    one_hot = labels.unsqueeze(1) == ids.view(1, -1, 1, 1)  # IGNORE is no class: zeros
    return one_hot.float(), (labels != IGNORE).unsqueeze(1)


def members(truth_BCHW: Truth, valid_B1HW: Valid) -> Bool[Tensor, "B C H W"]:
    """Which known pixels belong to the class: those where no other class has a larger share.

    For losses that need a set and not shares. Without MixUp these are the labels.
    """
    if truth_BCHW.shape[1] == 1:
        inside = truth_BCHW > 0.5
    else:
        ids = torch.arange(truth_BCHW.shape[1], device=truth_BCHW.device).view(1, -1, 1, 1)
        inside = truth_BCHW.argmax(1, keepdim=True) == ids
    return inside & (valid_B1HW > 0)


def wide(logits: Tensor) -> Tensor:
    """float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def probabilities(logits_BCHW: Logits) -> Float[Tensor, "B C H W"]:
    """P: sigmoid for one channel, softmax for more."""
    logits = wide(logits_BCHW)
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0, with zero gradients, where nothing was summed."""
    some = denominator > 0
    return torch.where(some, numerator, 0) / torch.where(some, denominator, 1)


def class_mean(
    cost: Float[Tensor, "*B C"], valid_B1HW: Valid, weights_K: Weights | None, *, background: bool = True
) -> Scalar:
    """Mean over the classes, weighted by w_k; over the pictures that have a known pixel too, where costs are per
    picture.

    One channel has one cost, that of class 1, which no weight changes. Otherwise `background=False` leaves
    class 0 out.
    """
    weights = torch.ones_like(cost)
    if cost.shape[-1] > 1:
        if weights_K is not None:
            weights = weights * weights_K.to(cost)
        if not background:
            weights[..., 0] = 0
    seen = (valid_B1HW > 0).flatten(1).any(1, keepdim=True)  # B 1
    weights = weights * (seen if cost.dim() > 1 else seen.any())
    return ratio((weights * cost).sum(), weights.sum())
