"""Every kind of error drawn by hand; and whatever happens, each wrong pixel is of one kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.metrics.anatomy import KINDS, anatomy, kinds_of, mended
from maskwright.metrics.contract import MetricContract
from maskwright.metrics.counts import confusion, tally
from maskwright.metrics.masks import pair, regions
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import summary

SIGNS = ".smixh"
"""Right, slip, missed, invented, swap, hole."""
NEAR = MetricContract(tolerance=1)


def drawn(*rows: str) -> np.ndarray:
    """`.` is 0, `?` is not known."""
    values = {".": 0, "1": 1, "2": 2, "3": 3, "?": 255}
    return np.array([[values[sign] for sign in row] for row in rows], dtype=np.uint8)


def kinds(truth: np.ndarray, predicted: np.ndarray, contract: MetricContract = NEAR) -> list[str]:
    contract = contract.resolved(4)
    masks = pair(truth, predicted, contract)
    found = kinds_of(masks, regions(masks, contract.foreground or ()), contract)
    return ["".join(SIGNS[kind] for kind in row) for row in found]


CASES = {
    "slip": (
        ["......", ".1111.", ".1111.", ".1111.", "......"],
        ["......", "..1111", "..1111", "..1111", "......"],
        ["......", ".s...s", ".s...s", ".s...s", "......"],
    ),
    "slip at a corner is farther than 1": (
        ["....", ".11.", ".11.", "...."],
        ["1111", "1111", "1111", "1111"],
        ["issi", "s..s", "s..s", "issi"],
    ),
    "missed, with its rim": (
        ["11....", "11....", ".....1"],
        ["......", "......", ".....1"],
        ["mm....", "mm....", "......"],
    ),
    "an object of 10 pixels of which 1 is seen is missed, of which 2 are seen is not": (
        ["11111.11111", "11111.11111", "..........."],
        ["1.....11...", "...........", "..........."],
        [".mmmm...sss", "mmmmm.sssss", "..........."],
    ),
    "a piece far inside is missed, what is near the contour or the border a slip": (
        ["1111111", "1111111", "1111111", "1111111", "......."],
        ["11.....", "11.....", "11.....", "11.....", "......."],
        ["..sssss", "..mmmms", "..mmmms", "..sssss", "......."],
    ),
    "invented, with its rim": (
        ["......", "......", "1....."],
        ["....11", "....11", "1....."],
        ["....ii", "....ii", "......"],
    ),
    "a spill: near a slip, beyond invented": (
        ["11....", "11....", "......"],
        ["111111", "11....", "......"],
        ["..siii", "......", "......"],
    ),
    "swap, and its rim against nothing a slip": (
        [".....", ".111.", ".111.", ".....", "....."],
        [".222.", ".222.", ".222.", ".....", "....."],
        [".sss.", ".xxx.", ".xxx.", ".....", "....."],
    ),
    "between two classes: near their contour a slip, beyond a swap": (
        ["111222", "111222", "111222"],
        ["111111", "111112", "112222"],
        ["...sxx", "...sx.", "..s..."],
    ),
    "hole": (
        ["1111111"] * 7,
        ["1111111", "1111111", "11...11", "11...11", "11...11", "1111111", "1111111"],
        [".......", ".......", "..hhh..", "..hhh..", "..hhh..", ".......", "......."],
    ),
    "a bay that is open to the border is no hole": (
        ["1111111"] * 5,
        ["1111111", "1111111", "11.....", "1111111", "1111111"],
        [".......", ".......", "..mmmms", ".......", "......."],
    ),
    "a gap closed by corners alone is a hole": (
        ["11111"] * 5,
        ["11111", "11.11", "1...1", "11.11", "11111"],
        [".....", "..h..", ".hhh.", "..h..", "....."],
    ),
    "what is not known is not wrong, and a rim of it is ground to stand on": (
        ["????..", "?11?..", "????.."],
        ["1111..", "11111.", "......"],
        ["......", "....s.", "......"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_kinds_by_hand(name: str) -> None:
    truth, predicted, expected = CASES[name]
    assert kinds(drawn(*truth), drawn(*predicted)) == expected


def test_the_tolerance_is_that_of_the_contract() -> None:
    truth, predicted, _ = CASES["a spill: near a slip, beyond invented"]
    masks = drawn(*truth), drawn(*predicted)
    assert kinds(*masks, MetricContract(tolerance=0))[0] == "..iiii"
    assert kinds(*masks, MetricContract(tolerance=3))[0] == "..sssi"


def test_classes_outside_the_foreground_are_swapped_too() -> None:
    truth, predicted = (
        drawn("0000222".replace("0", "."), "3333...".replace("3", ".")),
        drawn(".11.222", "......."),
    )
    assert kinds(truth, predicted, MetricContract(tolerance=0, foreground=(2, 3)))[0] == ".xx...."


seeds = st.integers(0, 2**32 - 1)


def noisy(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 4, (height // 4 + 1, width // 4 + 1)) * random.integers(0, 2)
    truth = coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(np.uint8)
    predicted = np.roll(truth, random.integers(-2, 3, 2), (0, 1))
    predicted = np.where(random.random(truth.shape) < 0.2, random.integers(0, 4, truth.shape), predicted)
    truth[random.random(truth.shape) < 0.1] = 255
    return truth, predicted.astype(np.uint8)


@settings(max_examples=40)
@given(
    seeds, st.integers(1, 16), st.integers(1, 16), st.sampled_from([None, (0, 1, 2, 3), (2,)]), st.booleans()
)
def test_each_wrong_pixel_is_of_one_kind_and_mending_it_is_predicting_it_right(
    seed: int, height: int, width: int, foreground: tuple[int, ...] | None, drop: bool
) -> None:
    truth, predicted = noisy(seed, height, width)
    contract = MetricContract(foreground=foreground, drop_truth=(3,) if drop else ()).resolved(4)
    masks = pair(truth, predicted, contract)
    found = kinds_of(masks, regions(masks, contract.foreground or ()), contract)
    wrong = (truth != 255) & (truth != predicted) & ~((truth == 3) & drop)
    assert np.array_equal(found > 0, wrong)
    counts = tally(confusion(truth, predicted, 4), contract)
    after = mended(masks, found, counts, contract)
    for e in range(len(KINDS)):
        repaired = np.where(found == e + 1, truth, predicted)
        assert np.array_equal(after[e], tally(confusion(truth, repaired, 4), contract))


def test_what_mending_gains_is_the_score_of_the_mended_masks() -> None:
    contract = NEAR.resolved(4)
    pairs = [noisy(seed, 20, 20) for seed in range(6)]
    before, after = [], []
    repaired: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for truth, predicted in pairs:
        masks = pair(truth, predicted, contract)
        found = kinds_of(masks, regions(masks, (1, 2, 3)), contract)
        before.append(tally(confusion(truth, predicted, 4), contract))
        after.append(mended(masks, found, before[-1], contract))
        for e, kind in enumerate(KINDS):
            repaired[kind].append(confusion(truth, np.where(found == e + 1, truth, predicted), 4))
    rows = anatomy(Tallies(np.stack(before), anatomy_NEK4=np.stack(after)), contract)
    now = summary(np.stack([confusion(*masks, 4) for masks in pairs]), contract)
    assert {row.kind for row in rows} == set(KINDS)
    for row in rows:
        then = summary(np.stack(repaired[row.kind]), contract)
        assert row.miou_gain == pytest.approx(then["miou"] - now["miou"], abs=1e-12)
        assert row.dice_image_gain == pytest.approx(then["dice_image"] - now["dice_image"], abs=1e-12)
    gains = [row.miou_gain for row in rows]
    assert gains == sorted(gains, reverse=True)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert sum(row.pixels for row in rows) == sum(
        int(((truth != 255) & (truth != predicted)).sum()) for truth, predicted in pairs
    )


def test_without_mistakes_there_is_nothing_to_mend() -> None:
    contract = NEAR.resolved(2)
    truth = np.eye(5, dtype=np.uint8)
    masks = pair(truth, truth, contract)
    counts = tally(confusion(truth, truth, 2), contract)
    after = mended(masks, kinds_of(masks, regions(masks, (1,)), contract), counts, contract)
    for row in anatomy(Tallies(counts[None], anatomy_NEK4=after[None]), contract):
        assert (row.pixels, row.miou_gain, row.dice_image_gain) == (0, 0, 0)
        assert np.isnan(row.share)
    assert anatomy(Tallies(counts[None]), contract) == ()
