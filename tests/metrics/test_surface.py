"""Contours against a plain loop, MONAI, and what can be counted by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.metrics.contract import MetricContract
from maskwright.metrics.counts import count
from maskwright.metrics.masks import pair
from maskwright.metrics.measures import Tallies, surface_values
from maskwright.metrics.surface import Surface, surface

few = settings(max_examples=30)
seeds = st.integers(0, 2**32 - 1)
UNKNOWN = 255


def judged(
    truth: np.ndarray, predicted: np.ndarray, classes: int = 3, contract: MetricContract | None = None
) -> Surface:
    contract = (contract or MetricContract()).resolved(classes)
    return surface(pair(truth, predicted, contract), classes, contract)


def values(
    truth: np.ndarray, predicted: np.ndarray, classes: int = 3, contract: MetricContract | None = None
) -> dict[str, np.ndarray]:
    """Metric -> K."""
    counts, distance = judged(truth, predicted, classes, contract)
    tallies = Tallies(np.zeros((1, classes, 4), dtype=np.int64), counts[None], distance[None])
    return {str(name): found[0] for name, found in surface_values(tallies).items()}


def noisy_pair(seed: int, height: int, width: int, unknown: float) -> tuple[np.ndarray, np.ndarray]:
    """Patches of 3 classes, some of them absent, and a prediction that is off here and there."""
    random = np.random.default_rng(seed)
    ids = random.choice(3, size=random.integers(1, 4), replace=False)
    coarse = random.choice(ids, (height // 4 + 1, width // 4 + 1))
    truth = coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(np.uint8)
    moved = np.roll(truth, random.integers(-2, 3, 2), (0, 1))
    predicted = np.where(random.random(truth.shape) < 0.05, random.integers(0, 3, truth.shape), moved)
    return np.where(random.random(truth.shape) < unknown, UNKNOWN, truth).astype(np.uint8), predicted


def plain(truth: np.ndarray, predicted: np.ndarray, k: int, reach: int, tolerance: float) -> list[float]:
    """The four numbers of class k once more, pixel by pixel, as the docstring says them."""
    height, width = truth.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    known = {place for place in places if truth[place] != UNKNOWN}
    masks = [
        {place for place in places if (truth if place in known else predicted)[place] == k},
        {place for place in places if predicted[place] == k},
    ]

    def ends(mask: set[tuple[int, int]], place: tuple[int, int], steps: list[tuple[int, int]]) -> bool:
        return any((place[0] + down, place[1] + right) not in mask for down, right in steps)

    cross = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    square = [(down, right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]
    contours = [{place for place in mask if ends(mask, place, cross)} for mask in masks]
    bands = [{place for place in mask & known if ends(mask, place, square)} for mask in masks]
    union = len(bands[0] | bands[1])
    ways = []
    for mine, other in (contours, contours[::-1]):
        far = math.hypot(height, width)
        way = [min((math.dist(place, end) for end in other), default=far) for place in mine & known]
        ways += [way] if way else []
    if not ways:
        return [len(bands[0] & bands[1]) / union if union else math.nan, math.nan, math.nan, math.nan]
    together = [distance for way in ways for distance in way]
    near = sum(distance <= tolerance for distance in together) if all(contours) else 0
    return [
        len(bands[0] & bands[1]) / union,
        near / len(together),
        max(float(np.quantile(way, 0.95)) for way in ways),
        sum(together) / len(together),
    ]


@few
@given(
    seeds,
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.15]),
    st.sampled_from([0.0, 1.0, 2.3]),
)
def test_all_four_are_the_plain_loop(
    seed: int, height: int, width: int, unknown: float, tolerance: float
) -> None:
    truth, predicted = noisy_pair(seed, height, width, unknown)
    contract = MetricContract(boundary=0.2, tolerance=tolerance)
    reach = max(1, round(0.2 * math.hypot(height, width)))
    found = values(truth, predicted, contract=contract)
    for k in range(3):
        mine = [found[name][k] for name in ("boundary_iou", "nsd", "hd95", "assd")]
        assert mine == pytest.approx(plain(truth, predicted, k, reach, tolerance), abs=1e-12, nan_ok=True)


@pytest.mark.slow  # importing MONAI takes seconds
def test_monai_agrees_under_its_own_convention() -> None:
    """Its edges are ours; where a class is in one mask alone it says infinite, or 0 for the surface Dice."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics import (
            compute_average_surface_distance,
            compute_hausdorff_distance,
            compute_surface_dice,
        )

        for seed in range(12):
            truth, predicted = noisy_pair(seed, 23 + seed, 31, unknown=0)
            hot = [torch.from_numpy(np.eye(3)[mask]).movedim(2, 0)[None] for mask in (predicted, truth)]
            found = values(truth, predicted, contract=MetricContract(tolerance=1.5))
            everything = {"include_background": True}
            expected = {
                "nsd": compute_surface_dice(*hot, class_thresholds=[1.5] * 3, **everything),
                "hd95": compute_hausdorff_distance(*hot, percentile=95, **everything),
                "assd": compute_average_surface_distance(*hot, symmetric=True, **everything),
            }
            both = [k for k in range(3) if (truth == k).any() and (predicted == k).any()]
            assert both
            for name, theirs in expected.items():
                assert found[name][both] == pytest.approx(theirs[0, both].numpy(), abs=1e-5)
                neither = [k for k in range(3) if not ((truth == k).any() or (predicted == k).any())]
                assert np.isnan(found[name][neither]).all()


def square(top: int, left: int, side: int = 10, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_a_shifted_square_by_hand() -> None:
    """10 x 10, moved by 3 columns; contours of 36 pixels; the diagonal of 40 x 40 gives d = 1."""
    counts, distance = judged(square(5, 5), square(5, 8), 2)
    # Rows on top and at the bottom share 7 columns each; the left side of one lies inside the other.
    both = 2 * 7
    assert counts[1].tolist() == [both, 36 - both, 36 - both, 2 * 22, 72]
    # Of each contour: 14 at 0, the outer side of 10 pixels at 3, beside its two rows' ends at 1 and 2 twice,
    # and the inner side's 8 between the rows at 1, 2, 3, 3, 3, 3, 2, 1.
    away = [0] * 14 + [3] * 10 + [1, 2] * 2 + [1, 2, 3, 3, 3, 3, 2, 1]
    assert len(away) == 36
    assert distance[1].tolist() == pytest.approx([3, sum(away) / 36])


def test_the_widths_are_those_of_the_contract() -> None:
    thick = judged(square(5, 5), square(5, 8), 2, MetricContract(boundary=0.1, tolerance=3)).counts_K5[1]
    assert thick[3] == thick[4] == 72
    solid = count(square(5, 5), square(5, 8), 2)[1]  # d = round(5.66) = 6 reaches the middle of both squares
    assert thick[:3].tolist() == solid.tolist()


def test_a_class_in_one_mask_alone_and_in_neither() -> None:
    nothing = np.zeros((30, 40), dtype=np.uint8)
    drawn = nothing.copy()
    drawn[3:9, 3:9] = 1
    for truth, predicted in ((drawn, nothing), (nothing, drawn)):
        found = values(truth, predicted)
        assert (found["boundary_iou"][1], found["nsd"][1]) == (0, 0)
        assert (found["hd95"][1], found["assd"][1]) == (50, 50)  # the diagonal
        assert all(math.isnan(column[2]) for column in found.values())
        assert values(truth, predicted, contract=MetricContract(tolerance=60))["nsd"][1] == 0


@few
@given(seeds, st.floats(0, 1))
def test_what_is_right_wherever_it_is_known_is_perfect(seed: int, unknown: float) -> None:
    """Whatever was predicted elsewhere: nothing ends where knowledge ends."""
    random = np.random.default_rng(seed)
    truth, predicted = noisy_pair(seed, 12, 13, unknown=0)
    hidden = random.random(truth.shape) < unknown
    found = values(np.where(hidden, UNKNOWN, predicted), predicted)
    assert set(found["boundary_iou"][~np.isnan(found["boundary_iou"])]) <= {1.0}
    assert set(found["nsd"][~np.isnan(found["nsd"])]) <= {1.0}
    assert set(found["hd95"][~np.isnan(found["hd95"])]) <= {0.0}


def test_an_object_with_an_unknown_rim_is_judged_beyond_it() -> None:
    """The prediction may end anywhere in the rim; where it runs over, the distance is to the rim's outer side."""
    truth = square(10, 10)
    truth[8:22, 8:22][truth[8:22, 8:22] == 0] = UNKNOWN
    inside = square(9, 9, 12)
    assert values(truth, inside, 2)["boundary_iou"][0] == 1
    assert math.isnan(values(truth, inside, 2)["nsd"][1])  # all of the contour lies where nothing is known
    over = inside | square(12, 19, 6)  # 6 rows up to column 24
    found = judged(truth, over, 2)
    assert found.distance_K2[1, 0] == pytest.approx(3)
    dropped = judged(np.where(truth == UNKNOWN, 2, truth), over, 3, MetricContract(drop_truth=(2,)))
    assert np.array_equal(dropped.counts_K5[:2], found.counts_K5)
    assert np.array_equal(dropped.distance_K2[:2], found.distance_K2)


@few
@given(seeds)
def test_exchanging_the_masks_exchanges_only_false_and_missed(seed: int) -> None:
    truth, predicted = noisy_pair(seed, 14, 11, unknown=0)
    there, back = judged(truth, predicted), judged(predicted.astype(np.uint8), truth)
    assert np.array_equal(there.counts_K5, back.counts_K5[:, [0, 2, 1, 3, 4]])
    assert there.distance_K2 == pytest.approx(back.distance_K2, nan_ok=True)


@few
@given(seeds, st.integers(0, 9), st.integers(0, 9))
def test_moving_both_masks_changes_nothing(seed: int, down: int, right: int) -> None:
    """As long as no border comes into it."""
    truth, predicted = noisy_pair(seed, 12, 12, unknown=0)
    truth, predicted = np.pad(truth, 10), np.pad(predicted, 10)
    here = judged(truth, predicted)
    there = judged(np.roll(truth, (down, right), (0, 1)), np.roll(predicted, (down, right), (0, 1)))
    assert np.array_equal(here.counts_K5[1:], there.counts_K5[1:])
    assert here.distance_K2[1:] == pytest.approx(there.distance_K2[1:], nan_ok=True)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_distances_grow_with_the_picture(times: int) -> None:
    truth, predicted = (square(5 * times, left * times, 10 * times, 40 * times) for left in (5, 8))
    assert values(truth, predicted, 2)["hd95"][1] == 3 * times
