"""What a loss is told: the truth as shares of the classes, where it is known; and what all losses do with it."""

from __future__ import annotations

from typing import TypeAlias

import torch
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
    truth, known = _shares(target.labels, channels)
    if target.others is None or target.weight is None:
        return truth, known.float()
    others, others_known = _shares(target.others, channels)
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
