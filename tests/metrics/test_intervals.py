"""Intervals against closed forms, SciPy and simulations; what they rest on by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from maskwright.metrics.contract import DEFAULT
from maskwright.metrics.enough import (
    ENOUGH_DIFFERENCES,
    ENOUGH_HOLDERS,
    ENOUGH_PICTURES,
    Number,
    numbers,
    rests_on,
)
from maskwright.metrics.intervals import by_group, draws, jackknife, studentised
from maskwright.metrics.measures import Features, Tallies, Values, divide, features, measure, total


def ratio(sums: Features) -> Values:
    """Two numbers: top / below, and top / whole."""
    return np.stack([divide(sums["top"], sums["below"]), divide(sums["top"], sums["whole"])], axis=-1)


def columns(seed: int, number: int) -> dict[str, Values]:
    random = np.random.default_rng(seed)
    below = random.lognormal(0, 1, number)
    return {"top": below * random.beta(5, 2, number), "below": below, "whole": np.ones(number)}


def test_the_error_of_a_mean_is_its_standard_error() -> None:
    rows = columns(0, 37)
    value, error = jackknife(rows, ratio)
    assert value[1] == pytest.approx(rows["top"].mean())
    assert error[1] == pytest.approx(stats.sem(rows["top"]))


def test_the_error_of_a_ratio_is_that_of_leaving_out_one_by_one() -> None:
    rows = columns(1, 9)
    each = [np.delete(rows["top"], one).sum() / np.delete(rows["below"], one).sum() for one in range(9)]
    assert jackknife(rows, ratio)[1][0] == pytest.approx(math.sqrt(8 / 9 * np.var(each) * 9))


def test_the_studentised_interval_by_an_explicit_bootstrap() -> None:
    """Each draw's error from its own pictures, by the textbook formula of a ratio."""
    rows = columns(2, 25)
    spread = studentised(rows, ratio, resamples=300, seed=4)
    weights = np.concatenate(list(draws(25, 300, 4)))
    distances = []
    for drawn in weights:
        pictures = np.repeat(np.arange(25), drawn.astype(int))
        top, below = rows["top"][pictures], rows["below"][pictures]
        value = top.sum() / below.sum()
        error = np.std(top - value * below, ddof=1) / below.mean() / math.sqrt(25)
        distances.append((value - spread.values_M[0]) / error)
    low, high = np.quantile(distances, [0.025, 0.975])
    expected = (
        spread.values_M[0] - high * spread.errors_M[0],
        spread.values_M[0] - low * spread.errors_M[0],
    )
    assert spread.intervals[0] == pytest.approx(expected, rel=1e-4)


def test_few_and_many_columns_give_the_same_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwright.metrics import intervals

    counts = np.random.default_rng(3).integers(0, 50, (30, 3, 4)).astype(np.float64)
    rows = features(Tallies(counts.astype(np.int64)), DEFAULT.resolved(3))

    def judge(sums: Features) -> Values:
        found = measure(sums, DEFAULT.resolved(3))
        return np.stack([number.read(found) for number in numbers(found)], -1)

    quick = studentised(rows, judge, resamples=200)
    monkeypatch.setattr(intervals, "FEW_COLUMNS", 0)
    slow = studentised(rows, judge, resamples=200)
    for one, other in zip(quick.intervals, slow.intervals, strict=True):
        assert one == pytest.approx(other)


def test_every_draw_has_as_many_groups_and_each_is_drawn_alike() -> None:
    weights = np.concatenate(list(draws(7, 5000, 0)))
    assert (weights.sum(1) == 7).all()
    assert weights.mean(0) == pytest.approx(np.ones(7), abs=0.06)
    assert np.concatenate(list(draws(2**19, 3, 0))).shape == (3, 2**19)  # in several batches


def test_a_number_that_is_always_the_same_has_no_width() -> None:
    rows = {"top": np.full(12, 0.25), "below": np.full(12, 0.5), "whole": np.ones(12)}
    assert studentised(rows, ratio).intervals == ((0.5, 0.5), (0.25, 0.25))


def test_a_single_group_and_a_number_that_hangs_on_one_have_none() -> None:
    alone = {name: values[:1] for name, values in columns(5, 3).items()}
    assert np.isnan(studentised(alone, ratio).intervals).all()
    hanging = columns(5, 20)
    hanging["below"][1:] = 0
    spread = studentised(hanging, ratio)
    assert np.isnan(spread.intervals[0]).all()
    assert not np.isnan(spread.intervals[1]).any()


def test_groups_are_resampled() -> None:
    """Ten copies of every picture in a group of its own say nothing new; as pictures of their own they would."""
    rows = columns(6, 40)
    copies = {name: np.repeat(values, 10) for name, values in rows.items()}
    names = [f"video{number // 10:02d}" for number in range(400)]
    once, grouped, alone = (
        studentised(each, ratio).intervals[0] for each in (rows, by_group(copies, names), copies)
    )
    assert grouped == pytest.approx(once)
    assert np.ptp(alone) < 0.5 * np.ptp(once)


def test_the_order_of_the_groups_changes_nothing_but_the_draw() -> None:
    rows = columns(7, 60)
    order = np.random.default_rng(0).permutation(60)
    names = [f"{number:02d}" for number in range(60)]
    one = studentised(by_group(rows, names), ratio)
    other = studentised(
        by_group({name: values[order] for name, values in rows.items()}, [names[at] for at in order]), ratio
    )
    assert other.intervals[0] == pytest.approx(one.intervals[0])


def skewed(random: np.random.Generator, number: int) -> Values:
    tail = random.random(number) < 0.13
    return np.where(tail, random.beta(3.2, 1.8, number), random.beta(22, 1.9, number))


@pytest.mark.slow
@pytest.mark.ci
def test_skewed_scores_are_covered_where_percentiles_fail() -> None:
    """50 pictures, 400 data sets: 95 % intervals hold the mean at least 92 % of the time (93.6 in docs/intervals.md,
    standard error 1.2), and more often than percentile intervals."""
    random = np.random.default_rng(0)
    truth = 0.13 * 3.2 / 5 + 0.87 * 22 / 23.9
    ours, percentile = 0, 0
    for seed in range(400):
        values = skewed(random, 50)
        rows = {"top": values, "below": np.ones(50), "whole": np.ones(50)}
        low, high = studentised(rows, ratio, resamples=500, seed=seed).intervals[0]
        ours += low <= truth <= high
        means = np.concatenate(list(draws(50, 500, seed))) @ values / 50
        low, high = np.quantile(means, [0.025, 0.975])
        percentile += low <= truth <= high
    assert 0.915 <= ours / 400 <= 0.98
    assert ours >= percentile + 4


# What a number rests on.


def groups(*held: list[int]) -> Features:
    """Pictures whose truth holds these classes of 4; class 1 is falsely predicted in all of them."""
    counts = np.zeros((len(held), 4, 4), dtype=np.int64)
    for picture, classes in enumerate(held):
        counts[picture, classes, 0] = 5
    counts[:, 1, 1] += 1
    return features(Tallies(counts), DEFAULT.resolved(4))


def test_what_a_number_rests_on_by_hand() -> None:
    contract = DEFAULT.resolved(4)
    rows = groups([0, 1], [0, 1], [0], [0, 2], [0])
    for metric, expected in {
        "dice_image": (5, ENOUGH_PICTURES),
        "pixel_accuracy": (5, ENOUGH_PICTURES),
        "dice_global": (1, ENOUGH_HOLDERS),  # class 2 is in one picture, class 3 in none at all
        "miou": (1, ENOUGH_HOLDERS),
    }.items():
        assert rests_on(Number(metric), rows, contract) == expected, metric
    assert rests_on(Number("iou_global", "per_class", 0), rows, contract) == (5, ENOUGH_HOLDERS)
    assert rests_on(Number("iou_global", "per_class", 1), rows, contract) == (2, ENOUGH_HOLDERS)
    assert rests_on(Number("dice_image"), rows, contract, of_means=ENOUGH_DIFFERENCES) == (5, 150)


def test_a_rare_class_has_no_interval_whatever_the_number_of_pictures() -> None:
    contract = DEFAULT.resolved(4)
    rows = groups(*[[0, 1]] * 250, *[[0, 1, 2]] * 3)
    found = measure(total(rows), contract)
    spread = studentised(
        rows,
        lambda sums: np.stack([number.read(measure(sums, contract)) for number in numbers(found)], -1),
        resamples=50,
    )
    given = {
        number: not math.isnan(number.settle(interval, rows, contract)[0])
        for number, interval in zip(numbers(found), spread.intervals, strict=True)
    }
    assert given[Number("dice_image")]
    assert given[Number("iou_global", "per_class", 1)]
    assert not given[Number("iou_global", "per_class", 2)]
    assert not given[Number("miou")]


def test_intervals_stay_where_scores_can_be() -> None:
    rows, contract = groups(*[[0, 1]] * 60), DEFAULT.resolved(4)
    assert Number("dice_image").settle((-0.1, 1.2), rows, contract) == (0.0, 1.0)
    assert Number("hd95").settle((-3.0, 41.0), rows, contract) == (0.0, 41.0)
