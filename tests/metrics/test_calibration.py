"""Calibration against hand computations, loops over pixels, torchmetrics and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from maskwright.metrics.calibration import (
    BINS,
    COLDEST,
    count_confidence,
    expected_dice,
    fit_temperature,
    foresight,
    reliability,
    risk_coverage,
)
from maskwright.metrics.measures import ece
from maskwright.tensors import IGNORE, Prediction


def binary(foreground: list[list[float]]) -> np.ndarray:
    p = np.array(foreground, np.float32)
    return np.stack([1 - p, p])


def random_case(classes: int, seed: int, size: tuple[int, int] = (13, 17)) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with truths drawn so that they are roughly right, some ignored."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(classes, 0.4), size).astype(np.float32)
    truth = np.where(random.random(size) < 0.7, shares.argmax(-1), random.integers(0, classes, size))
    truth[random.random(size) < 0.1] = IGNORE
    return np.ascontiguousarray(np.moveaxis(shares, -1, 0)), truth.astype(np.uint8)


def test_bins_by_hand() -> None:
    """Confidences 0.9 (right), 0.8 (wrong), 0.8 (right, class 0); the ignored pixel counts nowhere."""
    truth = np.array([[1, 0, 0, IGNORE]])
    bins, brier = count_confidence(binary([[0.9, 0.8, 0.2, 0.7]]), truth, truth != IGNORE)
    expected = np.zeros((BINS, 3))
    expected[13] = 1, 0.9, 1  # 0.9 lies in (13 / 15, 14 / 15]
    expected[11] = 2, 1.6, 1  # 0.8 = 12 / 15 closes bin 11
    np.testing.assert_allclose(bins, expected, atol=1e-6)
    assert brier == pytest.approx(2 * (0.1**2 + 0.8**2 + 0.2**2), abs=1e-6)
    assert ece(bins) == pytest.approx((0.1 + 0.6) / 3, abs=1e-6)
    curve = reliability(bins)
    assert (curve.low[12], curve.high[12]) == (12 / 15, 13 / 15)
    assert (curve.pixels[11], curve.accuracy[11]) == (2, 0.5)
    assert curve.confidence[11] == pytest.approx(0.8)
    assert math.isnan(curve.accuracy[0])


def test_extremes_and_equals() -> None:
    """1.0 is in the last bin; of equal probabilities the first class is meant, as in argmax."""
    known = np.ones((1, 4), bool)
    bins, brier = count_confidence(binary([[1.0, 0.0, 0.5, 0.5]]), np.array([[1, 1, 0, 1]]), known)
    assert bins[14].tolist() == [2, 2, 1]
    assert bins[7].tolist() == [2, 1, 1]
    assert brier == 0 + 2 + 0.5 + 0.5
    nowhere, nothing = count_confidence(binary([[0.3]]), np.array([[IGNORE]]), known[:, :1] < 1)
    assert nowhere.sum() == nothing == 0
    assert math.isnan(ece(nowhere))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_every_bin_of_a_loop_over_pixels(classes: int) -> None:
    shares, truth = random_case(classes, seed=classes)
    bins, brier = count_confidence(shares, truth, (truth != IGNORE) & (truth != 1))
    expected, squares = np.zeros((BINS, 3)), 0.0
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            if truth[row, column] in (IGNORE, 1):
                continue
            p = shares[:, row, column]
            right = p.argmax() == truth[row, column]
            expected[math.ceil(p.max() * 15) - 1] += 1, p.max(), right
            squares += sum((p[k] - (k == truth[row, column])) ** 2 for k in range(classes))
    np.testing.assert_allclose(bins, expected, rtol=1e-6)
    assert brier == pytest.approx(squares, rel=1e-6)


@settings(max_examples=25)
@given(
    classes=st.integers(2, 6), seed=st.integers(0, 10**6), rows=st.integers(1, 9), columns=st.integers(1, 9)
)
def test_torchmetrics_and_scikit_learn_agree(classes: int, seed: int, rows: int, columns: int) -> None:
    shares, truth = random_case(classes, seed, (rows, columns))
    known = truth != IGNORE
    bins, brier = count_confidence(shares, truth, known)
    if not known.any():
        assert math.isnan(ece(bins))
        return
    answers = torch.from_numpy(np.moveaxis(shares, 0, -1).reshape(-1, classes))
    theirs = MulticlassCalibrationError(classes, BINS, "l1", ignore_index=IGNORE)
    assert ece(bins) == pytest.approx(
        theirs(answers, torch.from_numpy(truth.ravel()).long()).item(), abs=1e-6
    )
    hot = np.eye(classes)[truth[known]]
    losses = [brier_score_loss(hot[:, k], shares[k][known], pos_label=1) for k in range(classes)]
    assert brier / known.sum() == pytest.approx(sum(losses), abs=1e-6)


def test_the_binary_error_of_torchmetrics_speaks_of_class_1_alone() -> None:
    """Its confidence is the probability of class 1, not that of the winner: a sure and right "no" lands in bin 0. For
    two classes the two definitions are different curves, and the multi-class one is that of Guo et al.
    """
    shares, truth = random_case(2, seed=5)
    known = truth != IGNORE
    ours = ece(count_confidence(shares, truth, known)[0])
    theirs = BinaryCalibrationError(BINS, "l1")(
        torch.from_numpy(shares[1][known]), torch.from_numpy(truth[known]).long()
    ).item()
    pixels, below = known.sum(), 0.0
    for bin in range(BINS):
        inside = known & (shares[1] >= bin / BINS) & (shares[1] < (bin + 1) / BINS)
        if inside.any():
            below += abs((truth[inside] == 1).sum() - shares[1][inside].sum()) / pixels
    assert theirs == pytest.approx(below, abs=1e-6)
    assert abs(theirs - ours) > 1e-3


def test_counts_of_parts_add_up() -> None:
    shares, truth = random_case(3, seed=1)
    known = truth != IGNORE
    whole, brier = count_confidence(shares, truth, known)
    parts = [
        count_confidence(shares[:, :, half], truth[:, half], known[:, half])
        for half in (np.s_[:6], np.s_[6:])
    ]
    np.testing.assert_allclose(whole, parts[0][0] + parts[1][0])
    assert brier == pytest.approx(parts[0][1] + parts[1][1])


def softmax(logits_SK: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits_SK - logits_SK.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


@pytest.mark.parametrize(("classes", "true"), [(2, 0.5), (2, 2.5), (5, 1.7)])
def test_the_temperature_that_made_the_truth_is_found(classes: int, true: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (60_000, classes))
    drawn = softmax(logits / true).cumsum(1) > random.random((len(logits), 1))
    found = fit_temperature(softmax(logits).astype(np.float32), drawn.argmax(1))
    assert found == pytest.approx(true, rel=0.03)


def test_no_other_temperature_is_likelier() -> None:
    shares, truth = random_case(4, seed=2)
    known = truth != IGNORE
    flat, labels = shares[:, known].T, truth[known]
    found = fit_temperature(flat, labels)

    def loss(temperature: float) -> float:
        logits = torch.from_numpy(flat.astype(np.float64)).log() / temperature
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long()).item()

    assert loss(found) == pytest.approx(min(loss(found * factor) for factor in (0.98, 0.999, 1, 1.001, 1.02)))
    assert abs(found - 1) > 0.05


def test_temperatures_without_evidence() -> None:
    assert fit_temperature(np.zeros((0, 2), np.float32), np.zeros(0, np.uint8)) == 1
    never_wrong = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert fit_temperature(never_wrong, np.array([0, 1])) == pytest.approx(COLDEST, rel=1e-3)
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert np.isfinite(fit_temperature(certain, np.array([0, 0])))


@pytest.mark.parametrize("classes", [2, 5])
def test_calibrated_is_the_softmax_of_divided_logits(classes: int) -> None:
    random = np.random.default_rng(3)
    logits = torch.from_numpy(random.normal(0, 3, (classes, 9, 8)).astype(np.float32))
    shares = logits.softmax(0).numpy()
    prediction = Prediction(shares.argmax(0).astype(np.uint8), shares, temperature=1.7)
    np.testing.assert_allclose(prediction.calibrated, (logits / 1.7).softmax(0).numpy(), atol=1e-6)
    np.testing.assert_array_equal(prediction.calibrated.argmax(0), prediction.mask)
    assert prediction.calibrated.dtype == np.float32
    untouched = Prediction(prediction.mask, shares)
    assert untouched.calibrated is shares


def test_expected_dice_by_hand() -> None:
    """Mask of two pixels: 2 (0.9 + 0.6) / (2 + 0.9 + 0.6 + 0.2 + 0.1)."""
    shares = binary([[0.9, 0.6], [0.2, 0.1]])
    mask = (shares[1] > 0.5).astype(np.uint8)
    assert expected_dice(shares, mask) == pytest.approx(3 / 3.8)
    assert expected_dice(binary([[1, 1], [0, 0]]), np.array([[1, 1], [0, 0]])) == 1
    assert expected_dice(shares, mask, foreground=(0,)) == pytest.approx(2 * (0.8 + 0.9) / (2 + 2.2))


def test_expected_dice_without_foreground() -> None:
    """The mask is right if there is none, and there is some with the largest probability."""
    nothing = np.zeros((1, 3), np.uint8)
    assert expected_dice(binary([[0, 0, 0]]), nothing) == 1
    assert expected_dice(binary([[0.3, 0.1, 0.4]]), nothing) == pytest.approx(0.6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mask", [0, 1])
def test_nothing_good_is_expected_of_what_is_no_probability(bad: float, mask: int) -> None:
    shares = binary([[0.9, bad, 0.1]])
    assert expected_dice(shares, np.full((1, 3), mask, np.uint8)) == 0


def test_expected_dice_of_several_classes() -> None:
    """Class 1 in the mask: 2 x 0.7 / (1 + 0.8) = 7 / 9. Class 2 not in it, but there with 0.3: 7 / 9 / 1.3."""
    shares = np.array([[0.0, 0.6], [0.7, 0.1], [0.3, 0.3]], np.float32)[:, None]
    mask = np.array([[1, 0]], np.uint8)
    assert expected_dice(shares, mask) == pytest.approx(7 / 9 / 1.3)
    sure = np.array([[0.0, 0.9], [1.0, 0.1], [0.0, 0.0]], np.float32)[:, None]
    assert expected_dice(sure, mask) == pytest.approx(2 / 2.1)


def test_expected_dice_is_the_mean_over_drawn_truths() -> None:
    """Truths drawn from the probabilities: their mean Dice is what was expected of the mask."""
    random = np.random.default_rng(0)
    shares = binary(np.clip(random.normal(0.4, 0.3, (24, 24)), 0.02, 0.98).tolist())
    mask = shares[1] > 0.5
    truths = random.random((400, 24, 24)) < shares[1]
    dices = 2 * (truths & mask).sum((1, 2)) / (truths.sum((1, 2)) + mask.sum())
    assert expected_dice(shares, mask.astype(np.uint8)) == pytest.approx(dices.mean(), abs=0.003)


def test_risk_and_coverage_by_hand() -> None:
    coverage, risk = risk_coverage(np.array([0.2, 0.9, 0.5]), np.array([0.6, 0.0, 0.3]))
    np.testing.assert_allclose(coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(risk, [0, 0.15, 0.3])


def test_images_of_equal_confidence_share_their_risk() -> None:
    for order in ([0, 1, 2], [2, 1, 0]):
        _, risk = risk_coverage(np.array([0.5, 0.5, 0.9])[order], np.array([0.4, 0.0, 0.1])[order])
        np.testing.assert_allclose(risk, [0.1, 0.15, 0.5 / 3])


def test_foresight_of_a_few_images() -> None:
    found = foresight(np.array([0.9, 0.8, math.nan, 0.4]), np.array([1.0, 0.6, 0.7, 0.5]))
    assert found is not None
    assert (found.expected, found.true) == pytest.approx((0.7, 0.7))
    assert found.error == pytest.approx(0.4 / 3)
    assert found.spearman == pytest.approx(1)
    assert found.aurc == found.aurc_best == pytest.approx(np.mean([0, 0.2, 0.3]))
    assert found.aurc_random == pytest.approx(0.3)
    backwards = foresight(np.array([0.4, 0.8, 0.9]), np.array([1.0, 0.6, 0.5]))
    assert backwards is not None
    assert backwards.spearman == pytest.approx(-1)
    assert backwards.aurc > backwards.aurc_random > backwards.aurc_best
    assert foresight(np.array([math.nan]), np.array([0.5])) is None
    alone = foresight(np.array([0.5]), np.array([0.5]))
    assert alone is not None
    assert math.isnan(asdict(alone)["spearman"])
