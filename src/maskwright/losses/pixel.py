"""Losses that judge each pixel by itself: cross-entropies."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from maskwright.config import Share
from maskwright.losses.truth import Scalar, Truth, Valid, Weights, ratio, wide
from maskwright.tensors import Logits


def bce(
    logits_BCHW: Logits, truth_BCHW: Truth, valid_B1HW: Valid, weights_K: Weights | None = None
) -> Scalar:
    """- sum_i V_i (w_1 T_i log P_i + w_0 (1 - T_i) log(1 - P_i)) / sum_i V_i (w_1 T_i + w_0 (1 - T_i)).

    With more than one channel P_k = sigmoid(z_k): each class is told from the rest, w_k stands in both
    terms, and the sums run over the classes too. Without weights this is torch's
    binary_cross_entropy_with_logits over the known pixels.
    """
    logits, truth, valid = wide(logits_BCHW), truth_BCHW, valid_B1HW
    off, on = logits.new_ones(2, 1, 1, 1)
    if weights_K is not None:
        weights = weights_K.to(logits).view(-1, 1, 1)
        off, on = (weights[:1], weights[1:]) if logits.shape[1] == 1 else (weights, weights)  # C 1 1
    share_on, share_off = valid * on * truth, valid * off * (1 - truth)  # B C H W
    cost = -(share_on * F.logsigmoid(logits) + share_off * F.logsigmoid(-logits)).sum()
    return ratio(cost, (share_on + share_off).sum())


def _as_classes(logits_BCHW: Logits, truth_BCHW: Truth) -> tuple[Tensor, Tensor]:
    """log P and T of all K classes; one channel is the two classes (1 - P, P)."""
    logits, truth = wide(logits_BCHW), truth_BCHW.to(wide(logits_BCHW))
    if logits.shape[1] > 1:
        return F.log_softmax(logits, dim=1), truth
    return (
        torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1),
        torch.cat([1 - truth, truth], dim=1),
    )


def _weights(valid: Valid, weights_K: Weights | None) -> Float[Tensor, "B C H W"]:
    """V w: of K classes, or of one for all."""
    return valid if weights_K is None else valid * weights_K.to(valid.device).view(-1, 1, 1)


def ce(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> Scalar:
    """- sum_ik V_i w_k S_ik log P_ik / sum_ik V_i w_k T_ik, S = (1 - smoothing) T + smoothing / K.

    K = 2 for one channel, which without smoothing makes it `bce`. S is the truth whose labels were smoothed
    (Szegedy et al. 2016, section 7). For truth of 0 and 1 this is torch's cross_entropy with `ignore_index`, `weight`
    and `label_smoothing`, for MixUp the sum of both truths' cross-entropies, each with its share.
    """
    log_shares, truth = _as_classes(logits_BCHW, truth_BCHW)
    weights = _weights(valid_B1HW, weights_K)
    smooth = (1 - smoothing) * truth + smoothing / truth.shape[1]
    return ratio(-(weights * smooth * log_shares).sum(), (weights * truth).sum())


def focal(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    gamma: NonNegativeFloat = 2.0,
) -> Scalar:
    """- sum_ik V_i w_k T_ik (1 - P_ik)^gamma log P_ik / sum_ik V_i w_k T_ik (Lin et al. 2017, equation 5).

    The paper's alpha is w, and its sum is divided as that of `ce`, which this is for gamma = 0. With MixUp each
    truth's cost counts with its share.
    """
    log_shares, truth = _as_classes(logits_BCHW, truth_BCHW)
    counted = _weights(valid_B1HW, weights_K) * truth
    # Above 0 because the derivative of 0^gamma is infinite for gamma < 1.
    miss = (-torch.expm1(log_shares)).clamp(min=torch.finfo(log_shares.dtype).tiny)
    return ratio(-(counted * miss.pow(gamma) * log_shares).sum(), counted.sum())


def ohem(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    threshold: Share = 0.7,
    share: Share = 1 / 16,
) -> Scalar:
    """`ce` of the hardest pixels of the batch alone: online hard example mining (Shrivastava et al. 2016).

    As in Wu et al. 2016 these are the pixels whose truth has a probability below `threshold`, and at least `share` of
    all that count (one of them at least; all that are as hard as the last one). Pixels of weight 0 do not count.
    With MixUp the probability of the truth is the geometric mean prod_k P_k^T_k. share = 1 makes it `ce`.
    """
    log_shares, truth = _as_classes(logits_BCHW, truth_BCHW)
    counted = _weights(valid_B1HW, weights_K) * truth  # B K H W
    counts = counted.sum(1) > 0  # B H W
    ease = (truth * log_shares).sum(1).detach().masked_fill(~counts, torch.inf)  # B H W
    last = (share * counts.sum()).ceil().long().clamp(min=1) - 1
    hardest = (ease.exp() < threshold) | (ease <= ease.flatten().sort().values.take(last))
    counted = counted * hardest.unsqueeze(1)
    return ratio(-(counted * log_shares).sum(), counted.sum())
