"""Losses of dense targets: what a number per pixel costs that should be another. x is the answer, t the truth.

A pixel whose truth is NaN counts nowhere: |V| is the number of the others. Where there is none the loss is 0.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from maskwright.losses.truth import Scalar, ratio, wide

Field: TypeAlias = Float[Tensor, "B H W"]


def l1(answer_BHW: Field, truth_BHW: Field) -> Scalar:
    """sum_i V_i |x_i - t_i| / |V|."""
    return _known_mean(_difference(answer_BHW, truth_BHW).abs(), truth_BHW)


def l2(answer_BHW: Field, truth_BHW: Field) -> Scalar:
    """sum_i V_i (x_i - t_i)^2 / |V|."""
    return _known_mean(_difference(answer_BHW, truth_BHW).square(), truth_BHW)


def huber(answer_BHW: Field, truth_BHW: Field, *, delta: PositiveFloat = 1.0) -> Scalar:
    """sum_i V_i h(|x_i - t_i|) / |V|, h(d) = d^2 / 2 up to delta, then delta (d - delta / 2) (Huber 1964)."""
    distance = _difference(answer_BHW, truth_BHW).abs()
    near = distance.clamp(max=delta)
    return _known_mean(near * (distance - near / 2), truth_BHW)


def _difference(answer: Field, truth: Field) -> Field:
    """0, also as gradient, where the truth is not known."""
    answer = wide(answer)
    return answer - torch.where(truth.isnan(), answer.detach(), truth)


def _known_mean(cost: Field, truth: Field) -> Scalar:
    return ratio(cost.sum(), (~truth.isnan()).sum())
