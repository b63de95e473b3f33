"""Losses that judge shapes: where contours run, and whether thin things hang together."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from maskwright.losses.pixel import bce
from maskwright.losses.truth import Scalar, Truth, Valid, Weights, class_mean, members, probabilities, ratio
from maskwright.tensors import Logits


def boundary(
    logits_BCHW: Logits, truth_BCHW: Truth, valid_B1HW: Valid, weights_K: Weights | None = None
) -> Scalar:
    """sum_ik V_i w_k P_ik phi_ik / sum_i V_i, phi of `signed_distances` (Kervadec et al. 2019).

    One channel: the foreground alone, whatever the weights. In (-1, 1) without weights, and below 0 where the
    prediction is good. A prediction of nothing at all costs 0, so the paper adds it to a region loss: at first with
    the weight 0.01, then with more from epoch to epoch, which is `boundary(ramp=1)` in `loss.terms`.
    """
    share, valid = probabilities(logits_BCHW), valid_B1HW
    cost = valid * share * signed_distances(truth_BCHW, valid_B1HW).to(share)  # B C H W
    if weights_K is not None and share.shape[1] > 1:
        cost = cost * weights_K.to(cost).view(-1, 1, 1)
    return ratio(cost.sum(), valid.sum())


def signed_distances(truth_BCHW: Truth, valid_B1HW: Valid) -> Float[Tensor, "B C H W"]:
    """Euclidean distance of each pixel to the boundary of each class, negative inside, as a share of the diagonal.

    Outside it is the distance to the nearest known pixel of the class, inside to the nearest known pixel of any
    other, both less the half pixel from there to the boundary; so for two classes one is the negative of
    the other. 0 everywhere for a class that is absent from a picture, or fills it. In shares of the
    diagonal a picture costs the same at every size, and a weight found at one size holds at another; times the
    diagonal these are the paper's pixels. Computed on the CPU (a few milliseconds for each class of a picture of
    256 x 256), without gradients. MixUp: the class with the largest share.
    """
    inside = members(truth_BCHW, valid_B1HW)  # B C H W
    if inside.shape[1] == 1:
        inside = torch.cat([~inside & (valid_B1HW > 0), inside], dim=1)
    sets = inside.cpu().numpy()
    distances = np.full(sets.shape, np.inf)
    for picture, k in np.ndindex(sets.shape[:2]):
        if sets[picture, k].any():
            distances[picture, k] = distance_transform_edt(~sets[picture, k])
    to_others = np.where(sets, np.inf, distances).min(1, keepdims=True)  # from a class's own pixels
    phi = np.where(sets, 0.5 - to_others, distances - 0.5)
    phi[np.isinf(phi)] = 0
    phi /= math.hypot(*sets.shape[2:])
    return torch.from_numpy(phi[:, -truth_BCHW.shape[1] :]).to(truth_BCHW.device, torch.float32)


def boundary_band(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    radius: PositiveInt = 2,
) -> Scalar:
    """sum_ik w_k (outer_ik P_ik + inner_ik (1 - P_ik)) / sum_ik w_k (outer_ik + inner_ik), in [0, 1].

    The mean probability of the wrong side within `radius` pixels of the truth's contour (rows and columns each, so the
    neighbourhood is a square). inner: known pixels of class k that near to a known pixel of another class; outer:
    known pixels of other classes that near to one of class k. One channel: the foreground alone, whatever the weights.
    MixUp: the class with the largest share.

    The form is that of document 003, (1/N) sum [FGBoundary FGProb + BGBoundary (1 - FGProb)], which
    "penalises unclear edges". It does not say what the two boundaries are. Read as the foreground's and the
    background's own edge pixels it would cost most where prediction and truth agree; so each must be the band in
    which its factor is the mistake, as above. N is read as the number of pixels in the bands: the value then depends
    neither on the size of the picture nor on the length of the contour.
    """
    share = probabilities(logits_BCHW)
    inside = members(truth_BCHW, valid_B1HW)  # B C H W
    outside = ~inside & (valid_B1HW > 0)
    inner, outer = (inside & _near(outside, radius)).to(share), (outside & _near(inside, radius)).to(share)
    if weights_K is not None and share.shape[1] > 1:
        weights = weights_K.to(share).view(-1, 1, 1)
        inner, outer = weights * inner, weights * outer
    return ratio((outer * share + inner * (1 - share)).sum(), (outer + inner).sum())


def edge(logits_B1HW: Logits, truth_B1HW: Truth, valid_B1HW: Valid) -> Scalar:
    """- sum_i V_i (b T_i log P_i + (1 - b) (1 - T_i) log(1 - P_i)) / sum_i V_i (b T_i + (1 - b) (1 - T_i)).

    b = |V (1 - T)| / |V|, the share of the pixels that are no edge: the class-balanced cross-entropy of holistically
    nested edge detection (Xie & Tu 2015, equation 2), divided by the sum of its weights so that a picture's size and
    the length of its edges do not matter. Edges and the rest so weigh one half each. |.| sums over the batch; the
    truth is that of `edge_truth`. 0 where the batch has no edge, or nothing else, as in the paper.
    """
    on, off = (valid_B1HW * truth_B1HW).sum(), (valid_B1HW * (1 - truth_B1HW)).sum()
    return bce(logits_B1HW, truth_B1HW, valid_B1HW, torch.stack([on, off]))


def _near(pixels: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(pixels.float(), 2 * radius + 1, stride=1, padding=radius) > 0


def cldice(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    iterations: PositiveInt = 10,
    eps: PositiveFloat = 1.0,
) -> Scalar:
    """1 - mean_k 2 R_k S_k / (R_k + S_k) (Shit et al. 2021, algorithm 2), in [0, 1).

    R = (|skeleton(P) T| + eps) / (|skeleton(P)| + eps): how much of the predicted centre line lies in the truth;
    S = (|skeleton(T) P| + eps) / (|skeleton(T)| + eps): how much of the true one is found. |.| sums over the batch.
    The skeletons are those of `soft_skeleton`: `iterations` must reach half the width of the thickest vessel. The
    mean runs over classes 1 .. K-1 with weights w_k; one channel: the foreground. Unknown pixels are background to
    both P and T.
    """
    first = 0 if logits_BCHW.shape[1] == 1 else 1
    share = (valid_B1HW * probabilities(logits_BCHW))[:, first:]
    truth = (valid_B1HW * truth_BCHW)[:, first:].to(share)
    line, true_line = soft_skeleton(share, iterations), soft_skeleton(truth, iterations)
    over = (0, 2, 3)
    precision = ((line * truth).sum(over) + eps) / (line.sum(over) + eps)  # C
    sensitivity = ((true_line * share).sum(over) + eps) / (true_line.sum(over) + eps)
    costs = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    return class_mean(costs, valid_B1HW, None if weights_K is None else weights_K[1:])


def soft_skeleton(shares_BCHW: Float[Tensor, "B C H W"], iterations: int) -> Float[Tensor, "B C H W"]:
    """Centre lines in [0, 1] of shares in [0, 1] (Shit et al. 2021, algorithm 1).

    What an opening takes away is the skeleton at that width; shrink by a pixel and look again. Eroded over
    the cross of five pixels, dilated over the square of nine, as in the authors' code.
    """
    skeleton = torch.zeros_like(shares_BCHW)
    for _ in range(iterations + 1):
        eroded = _erode(shares_BCHW)
        taken = F.relu(shares_BCHW - F.max_pool2d(eroded, 3, stride=1, padding=1))
        skeleton = skeleton + (1 - skeleton) * taken
        shares_BCHW = eroded
    return skeleton


def _erode(shares: Tensor) -> Tensor:
    rows = F.max_pool2d(-shares, (3, 1), stride=1, padding=(1, 0))
    columns = F.max_pool2d(-shares, (1, 3), stride=1, padding=(0, 1))
    return torch.minimum(-rows, -columns)
