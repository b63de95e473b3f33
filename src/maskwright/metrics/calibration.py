"""Whether 0.8 means 8 in 10: confidence against correctness, the temperature that mends it, and what can be said of a
mask without its truth.

Confidences are counted into bins per image and added up like every other count; ECE, Brier score and the reliability
curve are divisions of those sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.measures import Tallies, Values, divide, ece, image_values

BINS = 15
"""Of equal width over [0, 1], as in Guo et al. 2017."""
COLDEST, HOTTEST = 0.1, 10.0
"""Temperatures outside are not believed: a network that is never wrong on the few pixels seen asks for 0."""
SMALLEST = 2.0**-24
"""Probabilities below count as this in logarithms: half the distance of 1 to the next smaller float32, so the most
that 1 - p can hide."""

Bins: TypeAlias = Float64[np.ndarray, "*R B 3"]
"""Per confidence bin: pixels, the sum of their confidences, correct pixels."""


def count_confidence(
    probabilities_KHW: Float[np.ndarray, "K H W"],
    truth_HW: Int[np.ndarray, "H W"],
    known_HW: Bool[np.ndarray, "H W"],
) -> tuple[Bins, float]:
    """The bins (BINS 3) of one image and its Brier score, both sums over the pixels that are `known`.

    The confidence of a pixel is the probability of its likeliest class, whatever the contract's threshold, and the
    pixel is correct where that class is the truth (Guo et al. 2017, section 2); with two classes it is at least 0.5.
    Bin b holds the confidences in (b / BINS, (b + 1) / BINS], the first one 0 as well. The Brier score of a pixel is
    sum over k of (p_k - [truth is k])^2, in [0, 2] (Brier 1950): twice what two classes have in scikit-learn.
    """
    top_N, confidence_N = (values_HW[known_HW] for values_HW in _likeliest(probabilities_KHW))
    truth_N, pixels_N = truth_HW[known_HW], np.flatnonzero(known_HW)
    truth_share_N = probabilities_KHW.reshape(len(probabilities_KHW), -1)[truth_N, pixels_N]
    squares_N = np.einsum("khw,khw->hw", probabilities_KHW, probabilities_KHW)[known_HW]
    upper_N = np.ceil(confidence_N * np.float32(BINS)).astype(np.intp)
    bin_N = np.clip(upper_N - 1, 0, BINS - 1)
    wrong_B, correct_B = np.bincount(bin_N + BINS * (top_N == truth_N), minlength=2 * BINS).reshape(2, BINS)
    bins_B3 = np.stack(
        [wrong_B + correct_B, np.bincount(bin_N, confidence_N, BINS), correct_B], axis=-1, dtype=np.float64
    )
    return bins_B3, float((squares_N - 2 * truth_share_N + 1).sum(dtype=np.float64))


@dataclass(frozen=True)
class Reliability:
    """The reliability curve: a value per bin, NaN for the means of an empty one."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    """The bin's edges."""
    pixels: tuple[float, ...]
    confidence: tuple[float, ...]
    """Mean."""
    accuracy: tuple[float, ...]
    """Share of correct pixels; the closer to the confidence, the better."""


def reliability(bins_B3: Bins) -> Reliability:
    """The curve of summed bins."""
    pixels, confidence, correct = bins_B3.T
    edges = np.linspace(0, 1, len(bins_B3) + 1)
    columns = (edges[:-1], edges[1:], pixels, divide(confidence, pixels), divide(correct, pixels))
    return Reliability(*(tuple(column.tolist()) for column in columns))


def fit_temperature(probabilities_SK: Float[np.ndarray, "S K"], truth_S: Int[np.ndarray, " S"]) -> float:
    """The T in [COLDEST, HOTTEST] that makes the truth of S pixels likeliest: least mean negative log-likelihood of
    softmax(log p / T) (Guo et al. 2017, section 4.2, where log p are the logits: they differ by what softmax
    ignores).

    Above 1 the network was too sure of itself. Without pixels 1.
    """
    if not len(truth_S):
        return 1.0
    from scipy.optimize import minimize_scalar  # 40 MB that prediction does not need

    logs_SK = np.log(np.maximum(probabilities_SK, SMALLEST), dtype=np.float64)
    logs_SK -= logs_SK.max(1, keepdims=True)
    truth_logs_S = logs_SK[np.arange(len(truth_S)), truth_S]

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return float((np.log(np.exp(inverse * logs_SK).sum(1)) - inverse * truth_logs_S).mean())

    found = minimize_scalar(
        loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded", options={"xatol": 1e-5}
    )
    return math.exp(found.x)


def expected_dice(
    probabilities_KHW: Float[np.ndarray, "K H W"],
    mask_HW: Int[np.ndarray, "H W"],
    foreground: Sequence[int] | None = None,
) -> float:
    """The Dice of a mask to be expected if calibrated probabilities are right, in [0, 1]. No truth is needed.

    For class k with mask M, over all pixels: E[2 |M T| / (|M| + |T|)] is taken as the ratio of the expectations
    2 sum_M p_k / (|M| + sum p_k), which are sums whether or not pixels depend on each other. Over the foreground
    classes (None: all but 0) the mean, as in dice_image: a class of the mask weighs 1. A class that is not in the
    mask has Dice 0 if the truth has it, and does not count otherwise; it weighs the probability that the truth has
    it, taken as the largest p_k of any pixel (a lower bound, and the value if a class comes as one object).
    No foreground in the mask at all: it is right if the truth has none, so 1 - that largest probability.
    0 where a probability is not finite: nothing is known of such a mask.
    """
    if not np.isfinite(probabilities_KHW).all():
        return 0.0
    classes = range(1, len(probabilities_KHW)) if foreground is None else foreground
    pixels_K = np.bincount(mask_HW.ravel(), minlength=len(probabilities_KHW))
    dices, absent = [], [0.0]
    for k in classes:
        shares_HW = probabilities_KHW[k]
        if pixels_K[k]:
            hits = np.einsum("hw,hw->", shares_HW, mask_HW == k, dtype=np.float64)
            dices.append(2 * hits / (pixels_K[k] + shares_HW.sum(dtype=np.float64)))
        else:
            absent.append(float(shares_HW.max()))
    return float(sum(dices) / (len(dices) + sum(absent))) if dices else 1 - max(absent)


@dataclass(frozen=True)
class Foresight:
    """How well the expected Dice of N images foretells the true one. NaN where too few images say anything."""

    expected: float
    true: float
    """Means over the images."""
    error: float
    """Mean of |expected - true|."""
    spearman: float
    """Rank correlation of both, in [-1, 1]."""
    coverage: tuple[float, ...]
    """1 / N, 2 / N, ..., 1: the share of images that are kept, those of the highest expected Dice."""
    risk: tuple[float, ...]
    """Mean of 1 - true Dice over the kept images, for each coverage."""
    aurc: float
    """Mean of `risk`: the area under the risk-coverage curve (Geifman et al. 2019); less is better."""
    aurc_best: float
    """If images were sorted by their true Dice."""
    aurc_random: float
    """If they were not sorted: the mean risk."""


def foresight(expected_N: Float[np.ndarray, " N"], true_N: Float[np.ndarray, " N"]) -> Foresight | None:
    """Images for which either is NaN are left out; None where none is left."""
    defined = ~(np.isnan(expected_N) | np.isnan(true_N))
    expected, true = expected_N[defined].astype(np.float64), true_N[defined].astype(np.float64)
    if not len(true):
        return None
    coverage, risk = risk_coverage(expected, 1 - true)
    return Foresight(
        expected=float(expected.mean()),
        true=float(true.mean()),
        error=float(np.abs(expected - true).mean()),
        spearman=_spearman(expected, true),
        coverage=tuple(coverage.tolist()),
        risk=tuple(risk.tolist()),
        aurc=float(risk.mean()),
        aurc_best=float(risk_coverage(true, 1 - true)[1].mean()),
        aurc_random=float(1 - true.mean()),
    )


def risk_coverage(confidence_N: Values, risk_N: Values) -> tuple[Values, Values]:
    """Coverages 1 / N .. 1, and the mean risk of so many of the most confident images (El-Yaniv & Wiener 2010).

    Images of equal confidence share their mean risk: no order among them is better than another.
    """
    _, tie_N = np.unique(-confidence_N, return_inverse=True)
    shared_N = np.bincount(tie_N, risk_N)[tie_N] / np.bincount(tie_N)[tie_N]
    kept_N = np.arange(1, len(risk_N) + 1)
    return kept_N / len(risk_N), np.cumsum(shared_N[np.argsort(tie_N, kind="stable")]) / kept_N


@dataclass(frozen=True)
class Calibration:
    """The content of calibration.json."""

    temperature: float
    """By which the probabilities were divided (as logits); NaN where parts with several were joined."""
    ece: float
    brier: float
    reliability: Reliability
    ece_before: float
    """Without the temperature."""
    reliability_before: Reliability
    foresight: Foresight | None
    """None where no image has a Dice."""


def calibration(tallies: Tallies, contract: MetricContract, temperature: float) -> Calibration | None:
    """Of all images together, under a resolved contract; None where confidences were not counted."""
    if tallies.bins_NB3 is None or tallies.bins_before_NB3 is None or tallies.brier_N is None:
        return None
    bins_B3, before_B3 = tallies.bins_NB3.sum(0), tallies.bins_before_NB3.sum(0)
    quality_N = tallies.quality_N
    return Calibration(
        temperature=temperature,
        ece=float(ece(bins_B3)),
        brier=float(divide(tallies.brier_N.sum(), bins_B3[:, 0].sum())),
        reliability=reliability(bins_B3),
        ece_before=float(ece(before_B3)),
        reliability_before=reliability(before_B3),
        foresight=None
        if quality_N is None
        else foresight(quality_N, image_values(tallies, contract)["dice_image"]),
    )


def _likeliest(
    probabilities_KHW: Float[np.ndarray, "K H W"],
) -> tuple[Int[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """argmax and max over the classes; of equals the first. NumPy's own argmax is many times slower over this axis."""
    classes, best_HW = len(probabilities_KHW), probabilities_KHW.max(0)
    from_last_HW = np.zeros(best_HW.shape, np.uint8)  # there are at most 255 classes
    for k, shares_HW in enumerate(probabilities_KHW):
        np.maximum(
            from_last_HW, (shares_HW == best_HW).view(np.uint8) * np.uint8(classes - k), out=from_last_HW
        )
    return classes - from_last_HW, best_HW


def _spearman(first_N: Values, second_N: Values) -> float:
    from scipy.stats import rankdata  # slow to import

    if min(np.ptp(first_N), np.ptp(second_N)) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(first_N), rankdata(second_N))[0, 1])
