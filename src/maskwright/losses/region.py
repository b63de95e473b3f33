"""Losses that judge areas: how far prediction and truth overlap, class by class."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from maskwright.losses.truth import (
    Scalar,
    Truth,
    Valid,
    Weights,
    class_mean,
    members,
    probabilities,
    ratio,
    wide,
)
from maskwright.tensors import Logits


def _misses(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    alpha: float,
    beta: float,
    eps: float,
    per_image: bool,
) -> Float[Tensor, "*B C"]:
    """1 - Tversky index of each class (and picture), in [0, 1), without the cancellation of a difference from 1."""
    over = (2, 3) if per_image else (0, 2, 3)
    share, valid = probabilities(logits_BCHW), valid_B1HW
    hits = (valid * share * truth_BCHW).sum(over)  # B C, or C
    extra = (valid * share * (1 - truth_BCHW)).sum(over)
    lacking = (valid * (1 - share) * truth_BCHW).sum(over)
    errors = alpha * extra + beta * lacking
    return errors / (hits + errors + eps)


def dice(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    per_image: bool = False,
    background: bool = True,
    eps: PositiveFloat = 1.0,
) -> Scalar:
    """1 - mean_k (2 |V P_k T_k| + eps) / (|V P_k| + |V T_k| + eps) (Milletari et al. 2016, squares left out).

    |.| sums over the batch; with `per_image` over each picture, and the mean runs over the pictures that have
    a known pixel too. The mean over the classes is weighted by w_k; `background=False` leaves class 0 out of
    it. One channel: the foreground alone, so that neither changes anything. In [0, 1).
    """
    misses = _misses(logits_BCHW, truth_BCHW, valid_B1HW, 0.5, 0.5, eps / 2, per_image)
    return class_mean(misses, valid_B1HW, weights_K, background=background)


def iou(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    per_image: bool = False,
    background: bool = True,
    eps: PositiveFloat = 1.0,
) -> Scalar:
    """1 - mean_k (|V P_k T_k| + eps) / (|V P_k| + |V T_k| - |V P_k T_k| + eps), the soft Jaccard index.

    Rahman and Wang 2016, with eps. Sums, mean and `background` as in `dice`.
    """
    misses = _misses(logits_BCHW, truth_BCHW, valid_B1HW, 1.0, 1.0, eps, per_image)
    return class_mean(misses, valid_B1HW, weights_K, background=background)


def tversky(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    alpha: NonNegativeFloat = 0.3,
    beta: NonNegativeFloat = 0.7,
    per_image: bool = False,
    background: bool = True,
    eps: PositiveFloat = 1.0,
) -> Scalar:
    """1 - mean_k TI_k, TI = (|V P T| + eps) / (|V P T| + alpha |V P (1 - T)| + beta |V (1 - P) T| + eps).

    Salehi et al. 2017: alpha weighs what is predicted too much, beta what is missed. Sums, mean and
    `background` as in `dice`, which alpha = beta = 1/2 makes of it (with twice the eps).
    """
    misses = _misses(logits_BCHW, truth_BCHW, valid_B1HW, alpha, beta, eps, per_image)
    return class_mean(misses, valid_B1HW, weights_K, background=background)


def focal_tversky(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    alpha: NonNegativeFloat = 0.3,
    beta: NonNegativeFloat = 0.7,
    gamma: PositiveFloat = 4 / 3,
    per_image: bool = False,
    background: bool = True,
    eps: PositiveFloat = 1.0,
) -> Scalar:
    """mean_k (1 - TI_k)^(1 / gamma), TI of `tversky` (Abraham and Khan 2019, with gamma from 1 to 3).

    Above 1, gamma makes the classes that are nearly right count for more. A class that is wholly right costs 0
    with zero gradients, although the formula's derivative is infinite there.
    """
    misses = _misses(logits_BCHW, truth_BCHW, valid_B1HW, alpha, beta, eps, per_image)
    wrong = misses > torch.finfo(misses.dtype).tiny
    costs = torch.where(wrong, torch.where(wrong, misses, 1).pow(1 / gamma), 0)
    return class_mean(costs, valid_B1HW, weights_K, background=background)


def lovasz(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    per_image: bool = False,
) -> Scalar:
    """mean_k sum_n max(m_(n), 0) (J_n - J_(n-1)): the Lovasz extension of the Jaccard loss (Berman et al. 2018).

    m_(1) >= m_(2) >= ... are the errors of the known pixels, J_n the Jaccard loss of class k when the n worst
    pixels alone are wrong. Softmax: m = |T - P|, the mean runs over the classes that occur, weighted by
    w_k. One channel: the hinge m = 1 - z (2 T - 1) of the logits, without an upper end, and no weight
    changes it. With `per_image` this is done for each picture, and the mean runs over those that have something to
    judge. The formula needs a set for a truth: with MixUp a pixel belongs to the class with the largest share.
    """
    one = logits_BCHW.shape[1] == 1
    truth = members(truth_BCHW, valid_B1HW).to(wide(logits_BCHW))
    errors = 1 - wide(logits_BCHW) * (2 * truth - 1) if one else (truth - probabilities(logits_BCHW)).abs()
    errors = errors.masked_fill(valid_B1HW == 0, -torch.inf)  # the last of the order, and below 0

    def rows(pixels: Tensor) -> Tensor:
        return pixels.flatten(2) if per_image else pixels.transpose(0, 1).flatten(1)  # B C N, or C N

    ranked, order = rows(errors).sort(-1, descending=True)
    found = rows(truth).gather(-1, order)
    area = found.sum(-1, keepdim=True)
    jaccard = 1 - (area - found.cumsum(-1)) / (area + (1 - found).cumsum(-1))
    steps = jaccard.diff(prepend=torch.zeros_like(area))
    costs = (ranked.clamp(min=0) * steps).sum(-1)  # B C, or C

    judged = (rows(valid_B1HW).amax(-1) if one else area.squeeze(-1)) > 0
    weights = judged * (1 if weights_K is None or one else weights_K.to(costs))
    means, seen = ratio((weights * costs).sum(-1), weights.sum(-1)), weights.sum(-1) > 0  # B, or scalars
    return ratio(means.sum(), seen.sum())
