"""Sizes there and back: hand computations, the float oracle of torch, and that nothing wanders off."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from maskwright.fit import Fit, fit_images, fit_labels, place, unfit
from maskwright.tensors import IGNORE

FITS: tuple[Fit, ...] = ("resize", "letterbox", "crop")
sides = st.integers(1, 60)


def test_a_letterboxed_picture_keeps_its_aspect_and_stands_in_the_middle() -> None:
    placement = place((100, 200), (64, 64), "letterbox")
    assert (placement.top, placement.left, placement.height, placement.width) == (16, 0, 32, 64)
    assert placement.scale == (0.32, 0.32)


def test_a_sliver_keeps_one_pixel() -> None:
    assert place((1, 1000), (32, 32), "letterbox").height == 1


@given(sides, sides, sides, sides)
def test_the_placement_lies_on_the_canvas(
    native_height: int, native_width: int, height: int, width: int
) -> None:
    for fit in ("resize", "letterbox"):
        placement = place((native_height, native_width), (height, width), fit)
        assert 0 <= placement.top <= placement.top + placement.height <= height
        assert 0 <= placement.left <= placement.left + placement.width <= width
        assert height == placement.height or width == placement.width, "a letterbox touches two sides"


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_comes_back_bit_for_bit(fit: Fit) -> None:
    images = torch.rand(2, 3, 20, 30)
    labels = torch.randint(0, 5, (2, 20, 30), dtype=torch.uint8)
    assert torch.equal(fit_images(images, (20, 30), fit), images)
    assert torch.equal(fit_labels(labels, (20, 30), fit), labels)
    assert torch.equal(unfit(images, (20, 30), (20, 30), fit), images)


def test_halving_averages_all_pixels_and_the_mean_survives() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    halved = fit_images(board.float()[None, None], (16, 16), "resize")
    torch.testing.assert_close(halved, torch.full_like(halved, 0.5), atol=0.04, rtol=0)


def test_bars_have_the_fill_in_pictures_and_ignore_in_labels() -> None:
    fill = torch.tensor([0.1, 0.2, 0.3])
    images = fit_images(torch.ones(1, 3, 10, 20), (20, 20), "letterbox", fill)
    labels = fit_labels(torch.ones(1, 10, 20, dtype=torch.long), (20, 20), "letterbox")
    bars = torch.ones(20, dtype=torch.bool)
    bars[5:15] = False
    assert torch.equal(images[0, :, bars], fill[:, None, None].expand(3, 10, 20))
    assert bool((images[0, :, ~bars] == 1).all())
    assert bool((labels[0, bars] == IGNORE).all())
    assert bool((labels[0, ~bars] == 1).all())


def test_without_a_fill_the_bars_are_black() -> None:
    assert fit_images(torch.ones(1, 1, 10, 20), (20, 20), "letterbox")[0, 0, 0].sum() == 0


@given(sides, sides, sides, sides)
def test_labels_are_the_nearest_ones_and_never_mixed(old_h: int, old_w: int, new_h: int, new_w: int) -> None:
    labels = torch.arange(old_h * old_w, dtype=torch.int32).view(1, old_h, old_w)
    fitted = fit_labels(labels, (new_h, new_w), "resize")
    rows, columns = fitted[0] // old_w, fitted[0] % old_w
    middle = (torch.arange(new_h) + 0.5) * old_h / new_h
    assert bool(((rows[:, 0] + 0.5 - middle).abs() <= 0.5 + 1e-4).all()), "the pixel under the centre"
    assert bool((rows == rows[:, :1]).all())
    assert bool((columns == columns[:1]).all())


def test_labels_agree_with_torch_where_no_centre_falls_on_an_edge() -> None:
    labels = torch.randint(0, 9, (2, 37, 53))
    oracle = F.interpolate(labels[:, None].double(), (16, 128), mode="nearest-exact")[:, 0].long()
    assert torch.equal(fit_labels(labels, (16, 128), "resize"), oracle)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("native", [(37, 90), (90, 37), (200, 310), (5, 7)])
def test_what_is_sent_through_and_back_stays_where_it_was(fit: Fit, native: tuple[int, int]) -> None:
    """A ramp in each direction is linear, so scaling must return it: any shift by half a pixel would show."""
    size = (64, 80)
    ramps = torch.stack(
        torch.meshgrid(torch.linspace(0, 1, native[0]), torch.linspace(0, 1, native[1]), indexing="ij")
    )
    back = unfit(fit_images(ramps[None], size, fit), native, size, fit)
    assert back.shape[2:] == native
    edge = [slice(None), slice(None), *(slice(side // 8, -(side // 8) or None) for side in native)]
    pixel = 1 / min(min(native), min(size))
    assert (back - ramps)[tuple(edge)].abs().max() < 0.3 * pixel


@pytest.mark.parametrize("fit", FITS)
def test_picture_and_labels_stay_together(fit: Fit) -> None:
    """A picture that is its own mask still is, but for the pixels along the edge."""
    labels = torch.zeros(1, 75, 50, dtype=torch.long)
    labels[:, 20:60, 10:35] = 1
    images = fit_images(labels[:, None].float(), (48, 64), fit)
    fitted = fit_labels(labels, (48, 64), fit)
    known = fitted != IGNORE
    sure = known & ((images[:, 0] < 0.01) | (images[:, 0] > 0.99))
    assert sure.sum() > 0.8 * known.sum()
    assert torch.equal((images[:, 0] > 0.5).long()[sure], fitted[sure])


def test_a_single_column_is_resampled_as_a_single_row_is() -> None:
    """torch gives every row of it the same value."""
    column = torch.rand(1, 2, 5, 1, generator=torch.Generator().manual_seed(0))
    row = fit_images(column.transpose(2, 3), (1, 3), "resize")
    assert torch.equal(fit_images(column, (3, 1), "resize"), row.transpose(2, 3))
    assert row.std() > 0.05
