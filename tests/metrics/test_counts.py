"""Counts are integers that add up: against loops over pixels, against each other, against other libraries."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.errors import DataError
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import confusion, confusions, count, tally
from maskwright.tensors import IGNORE

patient = settings(suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no counterexample."""


def random_masks(
    seed: int, shape: tuple[int, ...], classes: int, unknown: float = 0.1
) -> tuple[np.ndarray, ...]:
    """Truth with some ignored pixels, and a prediction that agrees with it half of the time."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, shape).astype(np.uint8)
    predicted = np.where(random.random(shape) < 0.5, truth, random.integers(0, classes, shape)).astype(
        np.uint8
    )
    truth[random.random(shape) < unknown] = IGNORE
    return truth, predicted


def counted_by_hand(
    truth: np.ndarray, predicted: np.ndarray, classes: int, drop: tuple[int, ...] = ()
) -> list[list[int]]:
    """tp, fp, fn by looking at one pixel after the other."""
    counts = [[0, 0, 0] for _ in range(classes)]
    for true, said in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true == IGNORE or true in drop:
            continue
        if true == said:
            counts[true][0] += 1
        else:
            counts[said][1] += 1
            counts[true][2] += 1
    return counts


@patient
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(2, 6), st.data())
def test_count_is_a_loop_over_pixels(
    seed: int, height: int, width: int, classes: int, data: st.DataObject
) -> None:
    truth, predicted = random_masks(seed, (height, width), classes)
    drop = tuple(data.draw(st.sets(st.integers(0, classes - 1))))
    counts = count(truth, predicted, classes, MetricContract(drop_truth=drop))
    assert counts.dtype == np.int64
    assert counts.tolist() == counted_by_hand(truth, predicted, classes, drop)


@patient
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(0, 12))
def test_counts_of_parts_add_up_to_the_whole(seed: int, classes: int, cut: int) -> None:
    truth, predicted = random_masks(seed, (12, 7), classes)
    parts = count(truth[:cut], predicted[:cut], classes) + count(truth[cut:], predicted[cut:], classes)
    assert np.array_equal(parts, count(truth, predicted, classes))


@patient
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_renaming_the_classes_renames_the_rows(seed: int, classes: int) -> None:
    truth, predicted = random_masks(seed, (6, 8), classes)
    renamed = np.full(256, IGNORE, dtype=np.uint8)
    renamed[:classes] = np.random.default_rng(seed).permutation(classes)
    counts = count(renamed[truth], renamed[predicted], classes)
    assert np.array_equal(counts[renamed[:classes]], count(truth, predicted, classes))


@patient
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(2, 6))
def test_a_batch_on_torch_counts_the_same_integers(seed: int, batch: int, classes: int) -> None:
    truth, predicted = random_masks(seed, (batch, 5, 7), classes)
    if seed % 2:  # as most data are
        truth = np.where(truth == IGNORE, 0, truth)
    one_by_one = [
        [[int(((t == row) & (p == column)).sum()) for column in range(classes)] for row in range(classes)]
        for t, p in zip(truth, predicted, strict=True)
    ]
    for kind in (torch.uint8, torch.int16, torch.int32, torch.int64):
        together = confusions(
            torch.from_numpy(truth).to(kind), torch.from_numpy(predicted).to(kind), classes, IGNORE
        )
        assert together.dtype == np.int64
        assert together.shape == (batch, classes, classes)
        assert all(np.array_equal(a, b) for a, b in zip(together, one_by_one, strict=True))


def test_tally_of_many_is_the_tally_of_each() -> None:
    truth, predicted = random_masks(3, (4, 9, 9), 3)
    tables = np.stack([confusion(*pair, 3) for pair in zip(truth, predicted, strict=True)])
    contract = MetricContract(drop_truth=(1,))
    assert np.array_equal(tally(tables, contract), np.stack([tally(table, contract) for table in tables]))
    assert np.array_equal(tally(tables.sum(0)), tally(tables).sum(0))


def test_false_alarms_on_background_are_kept_apart() -> None:
    truth = np.array([[0, 0, 0, 1, 1, 2]])
    predicted = np.array([[0, 1, 2, 2, 0, 2]])
    #                          tp fp fn of which on background
    assert tally(confusion(truth, predicted, 3)).tolist() == [[1, 1, 2, 0], [0, 1, 2, 1], [1, 2, 0, 1]]


def test_ignored_pixels_may_hold_any_prediction() -> None:
    truth, predicted = np.array([[IGNORE, 1]], dtype=np.uint8), np.array([[200, 1]], dtype=np.uint8)
    assert count(truth, predicted, 2).tolist() == [[0, 0, 0], [1, 0, 0]]
    batch = confusions(torch.from_numpy(truth)[None], torch.from_numpy(predicted)[None], 2)
    assert batch.tolist() == [[[0, 0], [0, 1]]]
    for odd in (-1, 300, 10**12):
        assert count(truth.astype(np.int64), np.array([[odd, 1]]), 2).tolist() == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("classes", [2, 12, 100])
def test_masks_that_may_not_be_written_to_or_are_turned(classes: int) -> None:
    truth, predicted = random_masks(4, (9, 14), classes)
    expected = confusion(truth, predicted, classes)
    for mask in (truth, predicted):
        mask.flags.writeable = False
    assert np.array_equal(confusion(truth, predicted, classes), expected)
    assert np.array_equal(confusion(truth[::-1, ::-1].T, predicted[::-1, ::-1].T, classes), expected)
    turned, other = (torch.from_numpy(mask.copy())[None].mT for mask in (truth, predicted))
    assert np.array_equal(confusions(turned, other, classes)[0], expected)


def test_another_ignore_value_is_honoured() -> None:
    truth, predicted = np.array([[9, 0, 1]]), np.array([[1, 0, 0]])
    assert count(truth, predicted, 2, MetricContract(ignore=9)).tolist() == [[1, 1, 0], [0, 0, 1]]
    with pytest.raises(DataError, match="the truth holds 9; the classes end at 1"):
        count(truth, predicted, 2, DEFAULT)


@pytest.mark.parametrize(
    ("truth", "predicted", "says"),
    [
        ([[0, 2]], [[0, 1]], "the truth holds 2; the classes end at 1"),
        ([[0, 1]], [[0, 255]], "the prediction holds 255"),
        ([[0, -1]], [[0, 1]], "the truth holds -1"),
        ([[0, 10**12]], [[0, 1]], "the truth holds 1000000000000"),
        ([[0, 1]], [[0, -7]], "the prediction holds -7"),
        ([[0, 1]], [[300, 1]], "the prediction holds 300"),
        ([[255, 1]], [[255, 3]], "the prediction holds 3"),
    ],
)
def test_a_value_that_is_no_class_is_never_counted_elsewhere(
    truth: list[list[int]], predicted: list[list[int]], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        confusion(np.array(truth), np.array(predicted), 2)
    with pytest.raises(DataError, match=says):
        confusions(torch.tensor([truth]), torch.tensor([predicted]), 2)


def test_masks_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(DataError, match="the truth is 2 x 3 and the prediction 3 x 2"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
    with pytest.raises(DataError, match=r"the truths are \(1, 2, 3\)"):
        confusions(torch.zeros(1, 2, 3), torch.zeros(2, 2, 3), 2)


def test_segmentation_models_pytorch_counts_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from segmentation_models_pytorch.metrics import get_stats
    truth, predicted = random_masks(5, (6, 20, 30), 4)
    expected = get_stats(
        torch.from_numpy(predicted).long(),
        torch.from_numpy(np.where(truth == IGNORE, -1, truth.astype(np.int64))),
        mode="multiclass",
        ignore_index=-1,
        num_classes=4,
    )
    counts = np.stack([count(*pair, 4) for pair in zip(truth, predicted, strict=True)])
    for column in range(3):
        assert np.array_equal(counts[..., column], expected[column].numpy())
