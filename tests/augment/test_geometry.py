"""Geometry against numpy, Pillow and hand computations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from maskwright.augment.geometry import move, source_matrices, spline_basis, undistorted
from maskwright.augment.params import GRID, AugmentParams, draw, identity
from maskwright.config import AugmentConfig
from maskwright.tensors import IGNORE


def pictures(count: int, channels: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, height, width, generator=generator)
    labels = torch.randint(0, 5, (count, height, width), generator=generator).to(torch.uint8)
    return images, labels


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without fine detail, on which resampling is nearly exact."""
    rows, columns = np.mgrid[:height, :width]
    picture: np.ndarray = 0.5 + 0.3 * np.sin(rows / 6) * np.cos(columns / 8)
    return picture.astype(np.float32)


def test_identity_is_bit_for_bit_and_not_a_copy() -> None:
    images, labels = pictures(3, 3, 9, 14)
    moved, moved_labels = move(images, labels, identity(3), torch.tensor([0.1, 0.2, 0.3]))
    assert moved is images
    assert moved_labels is labels


def test_flips_are_numpys() -> None:
    images, labels = pictures(4, 2, 7, 12)
    params = replace(
        identity(4),
        flip_B=np.array([False, True, False, True]),
        flip_vertical_B=np.array([False, False, True, True]),
    )
    moved, moved_labels = move(images, labels, params, None)
    for row, axes in enumerate([(), (1,), (0,), (0, 1)]):
        np.testing.assert_array_equal(moved_labels[row], np.flip(labels[row].numpy(), axes))
        np.testing.assert_array_equal(
            moved[row], np.flip(images[row].numpy(), tuple(axis + 1 for axis in axes))
        )


def test_a_resampled_picture_is_flipped_as_well() -> None:
    images, labels = pictures(1, 1, 8, 10)
    params = replace(identity(1), flip_B=np.array([True]), shift_B2=np.array([[0.0, 0.2]]))
    moved, moved_labels = move(images, labels, params, None)
    np.testing.assert_allclose(moved[0, 0, :, 2:], images[0, 0].flip(-1)[:, :-2], atol=1e-5)
    np.testing.assert_array_equal(moved_labels[0, :, 2:], labels[0].flip(-1)[:, :-2])


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_of_squares_are_numpys(quarter: int) -> None:
    images, labels = pictures(1, 3, 16, 16)
    params = replace(identity(1), angle_B=np.array([quarter * math.pi / 2]))
    moved, moved_labels = move(images, labels, params, None)
    np.testing.assert_allclose(moved[0], np.rot90(images[0].numpy(), quarter, axes=(1, 2)), atol=1e-5)
    np.testing.assert_array_equal(moved_labels[0], np.rot90(labels[0].numpy(), quarter))


@pytest.mark.parametrize(("height", "width"), [(40, 72), (72, 40), (41, 57)])
def test_oblong_pictures_turn_as_pillow_turns_them(height: int, width: int) -> None:
    picture = smooth(height, width)
    params = replace(identity(1), angle_B=np.array([math.radians(25)]))
    moved, labels = move(
        torch.from_numpy(picture)[None, None], torch.zeros(1, height, width, dtype=torch.uint8), params, None
    )
    turned = np.asarray(Image.fromarray(picture).rotate(25, Image.Resampling.BILINEAR))
    inside = labels[0].numpy() != IGNORE
    inside &= np.asarray(Image.fromarray(picture + 1).rotate(25, Image.Resampling.BILINEAR)) > 0
    inside &= np.hypot(*(np.mgrid[:height, :width] - np.reshape([height / 2, width / 2], (2, 1, 1)))) < 18
    assert inside.sum() > 900
    np.testing.assert_allclose(moved[0, 0].numpy()[inside], turned[inside], atol=2e-3)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, 5), (-2, 4), (-3, -5)])
def test_whole_shifts_are_slices(down: int, right: int) -> None:
    images, labels = pictures(1, 2, 12, 20)
    fill = torch.tensor([0.25, 0.75])
    params = replace(identity(1), shift_B2=np.array([[down / 12, right / 20]]))
    moved, moved_labels = move(images, labels, params, fill)
    expected = fill[:, None, None].expand(2, 12, 20).numpy().copy()
    expected_labels = np.full((12, 20), IGNORE)
    target = (slice(max(down, 0), 12 + min(down, 0)), slice(max(right, 0), 20 + min(right, 0)))
    source = (slice(max(-down, 0), 12 + min(-down, 0)), slice(max(-right, 0), 20 + min(-right, 0)))
    expected[:, *target] = images[0].numpy()[:, *source]
    expected_labels[target] = labels[0].numpy()[source]
    np.testing.assert_allclose(moved[0], expected, atol=1e-5)
    np.testing.assert_array_equal(moved_labels[0], expected_labels)


def test_doubling_shows_the_middle_half() -> None:
    _, labels = pictures(1, 1, 8, 12)
    params = replace(identity(1), scale_B=np.array([2.0]))
    _, moved = move(torch.zeros(1, 1, 8, 12), labels, params, None)
    np.testing.assert_array_equal(moved[0], np.kron(labels[0, 2:6, 3:9], np.ones((2, 2), dtype=np.uint8)))


def test_a_crop_fills_the_picture_with_its_window() -> None:
    _, labels = pictures(1, 1, 8, 12)
    params = replace(identity(1), crop_B4=np.array([[0.25, 0.5, 0.5, 0.5]]))
    _, moved = move(torch.zeros(1, 1, 8, 12), labels, params, None)
    np.testing.assert_array_equal(moved[0], np.kron(labels[0, 2:6, 6:12], np.ones((2, 2), dtype=np.uint8)))


def test_shear_moves_rows_along_themselves() -> None:
    labels = torch.zeros(1, 11, 21, dtype=torch.uint8)
    labels[0, :, 10] = 1
    params = replace(identity(1), shear_B2=np.array([[math.radians(45), 0.0]]))
    _, moved = move(torch.zeros(1, 1, 11, 21), labels, params, None)
    rows, columns = np.nonzero(moved[0].numpy() == 1)
    np.testing.assert_array_equal(columns - 10, rows - 5)  # 45 degrees: a column per row


def test_the_order_is_crop_flip_scale_shear_rotate_shift() -> None:
    height, width = 30, 50
    drawn = draw(
        [0, 1, 2, 3],
        0,
        AugmentConfig(rotate=40, scale=0.5, shift=0.2, shear=20, crop=0.4, flip_vertical=True),
        seed=1,
    )
    one = identity(4)
    steps = [
        replace(one, crop_B4=drawn.crop_B4),
        replace(one, flip_B=drawn.flip_B, flip_vertical_B=drawn.flip_vertical_B),
        replace(one, scale_B=drawn.scale_B),
        replace(one, shear_B2=drawn.shear_B2),
        replace(one, angle_B=drawn.angle_B),
        replace(one, shift_B2=drawn.shift_B2),
    ]
    composed = np.tile(np.eye(3), (4, 1, 1))
    for step in steps:  # the source of the last step is the result of the one before
        composed = composed @ source_matrices(step, height, width)
    np.testing.assert_allclose(source_matrices(drawn, height, width), composed, atol=1e-9)


def test_rotation_and_shear_keep_areas() -> None:
    params = draw(range(50), 0, AugmentConfig(rotate=180, shear=60), seed=0)
    np.testing.assert_allclose(np.abs(np.linalg.det(source_matrices(params, 40, 90))), 1.0)


@pytest.mark.parametrize(
    "there",
    [
        replace(identity(1), angle_B=np.array([0.3])),
        replace(identity(1), scale_B=np.array([1.2])),
        replace(identity(1), shift_B2=np.array([[0.1, -0.15]])),
        replace(identity(1), shear_B2=np.array([[0.2, 0.0]])),
    ],
)
def test_there_and_back_is_nearly_where_one_was(there: AugmentParams) -> None:
    picture = torch.from_numpy(smooth(48, 80))[None, None]
    zeros = torch.zeros(1, 48, 80, dtype=torch.uint8)
    back = replace(
        there,
        angle_B=-there.angle_B,
        scale_B=1 / there.scale_B,
        shift_B2=-there.shift_B2,
        shear_B2=-there.shear_B2,
    )
    np.testing.assert_allclose(
        source_matrices(there, 48, 80) @ source_matrices(back, 48, 80), [np.eye(3)], atol=1e-12
    )
    result, labels = move(*move(picture, zeros, there, None), back, None)
    inside = (labels == 0).float()[:, None]
    inside = torch.nn.functional.avg_pool2d(inside, 5, stride=1, padding=2) == 1  # the edges fade
    assert inside.float().mean() > 0.3
    assert (result - picture)[inside].abs().max() < 0.01


def test_the_spline_moves_nobody_further_than_a_control_point() -> None:
    basis = spline_basis(37)
    assert basis.shape == (37, GRID)
    assert basis.min() >= 0
    np.testing.assert_allclose(basis.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(basis @ np.arange(GRID), (np.arange(37) + 0.5) / 37 * 4 + 1, atol=1e-5)


def test_an_even_elastic_displacement_is_a_shift() -> None:
    images, labels = pictures(1, 1, 16, 32)
    everywhere = np.empty((1, 2, GRID, GRID))
    everywhere[0, 0], everywhere[0, 1] = 2 / 16, 5 / 16  # of the shorter side: 2 rows, 5 columns
    params = replace(identity(1), elastic_B2GG=everywhere)
    moved, moved_labels = move(images, labels, params, None)
    np.testing.assert_allclose(moved[0, 0, :-2, :-5], images[0, 0, 2:, 5:], atol=1e-4)
    np.testing.assert_array_equal(moved_labels[0, :-2, :-5], labels[0, 2:, 5:])


def test_elastic_acts_on_the_result_so_that_zooming_does_not_enlarge_it() -> None:
    images, labels = pictures(1, 1, 16, 16)
    half = replace(identity(1), crop_B4=np.array([[0.25, 0.25, 0.5, 0.5]]))
    plain = move(images, labels, half, None)[1]
    shifted = move(images, labels, replace(half, elastic_B2GG=np.full((1, 2, GRID, GRID), 4 / 16)), None)[1]
    np.testing.assert_array_equal(shifted[0, :-4, :-4], plain[0, 4:, 4:])


def test_untouched_pictures_keep_their_bits_beside_moved_ones() -> None:
    images, labels = pictures(3, 3, 10, 10)
    params = replace(identity(3), angle_B=np.array([0.0, 1.0, 0.0]), flip_B=np.array([False, False, True]))
    assert undistorted(params).tolist() == [True, False, True]
    before = images.clone(), labels.clone()
    moved, moved_labels = move(images, labels, params, torch.full((3,), 1 / 3))
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[2], images[2].flip(-1))
    assert torch.equal(moved_labels[2], labels[2].flip(-1))
    assert not torch.equal(moved[1], images[1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_keep_their_type(dtype: torch.dtype) -> None:
    images, labels = pictures(2, 1, 8, 8)
    params = draw([0, 1], 0, AugmentConfig(rotate=45), seed=0)
    expected = move(images, labels, params, None)[1]
    moved = move(images, labels.to(dtype), params, None)[1]
    assert moved.dtype == dtype
    assert torch.equal(moved, expected.to(dtype))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**20),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    values=st.lists(st.integers(0, 255), min_size=1, max_size=4),
)
def test_masks_hold_only_values_they_held_before(
    seed: int, height: int, width: int, values: list[int]
) -> None:
    generator = np.random.default_rng(seed)
    labels = torch.from_numpy(generator.choice(np.array(values, dtype=np.uint8), (2, height, width)))
    config = AugmentConfig(
        rotate=180, scale=1, shift=0.5, shear=30, crop=0.2, elastic=0.2, flip_vertical=True
    )
    _, moved = move(torch.zeros(2, 1, height, width), labels, draw([seed, 1], 0, config, seed=seed), None)
    for before, after in zip(labels, moved, strict=True):
        assert set(after.unique().tolist()) <= set(before.unique().tolist()) | {IGNORE}
