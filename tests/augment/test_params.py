"""Parameters of the augmentation: counted, in their ranges, and independent of the batch."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from maskwright.augment.params import AugmentParams, draw, identity, next_strength
from maskwright.config import AugmentConfig

EVERYTHING = AugmentConfig(
    flip=True,
    flip_vertical=True,
    rotate=30,
    scale=0.5,
    shift=0.1,
    shear=10,
    crop=0.5,
    elastic=0.05,
    brightness=0.3,
    contrast=0.3,
    saturation=0.4,
    hue=0.1,
    gamma=0.5,
    blur=2,
    noise=0.1,
    mixup=0.4,
    cutmix=1,
)
MANY = np.arange(4000)


def assert_same(left: AugmentParams, right: AugmentParams, *, but: tuple[str, ...] = ()) -> None:
    for field in fields(left):
        if field.name not in but:
            np.testing.assert_array_equal(
                getattr(left, field.name), getattr(right, field.name), err_msg=field.name
            )


def test_a_picture_drawn_alone_is_drawn_as_in_a_batch() -> None:
    config = EVERYTHING.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    batch = draw([3, 7, 9], 2, config, seed=5)
    alone = draw([7], 2, config, seed=5)
    assert_same(batch.rows(np.array([False, True, False])), alone, but=("partner_B",))


def test_the_same_counters_give_the_same_parameters_and_others_do_not() -> None:
    first = draw([0, 1, 2], 4, EVERYTHING, seed=1, copies_B=[0, 0, 1])
    assert_same(first, draw([0, 1, 2], 4, EVERYTHING, seed=1, copies_B=[0, 0, 1]))
    others = [
        draw([3, 4, 5], 4, EVERYTHING, seed=1, copies_B=[0, 0, 1]),
        draw([0, 1, 2], 5, EVERYTHING, seed=1, copies_B=[0, 0, 1]),
        draw([0, 1, 2], 4, EVERYTHING, seed=2, copies_B=[0, 0, 1]),
        draw([0, 1, 2], 4, EVERYTHING, seed=1, copies_B=[1, 1, 2]),
    ]
    assert all((first.angle_B != other.angle_B).all() for other in others)


def test_numbers_that_must_never_change_or_old_runs_could_not_be_resumed() -> None:
    params = draw([0, 1], 0, AugmentConfig(rotate=180, elastic=0.1), seed=0)
    random = [np.random.Generator(np.random.Philox(key=[0, 0], counter=[0, 0, 0, i])) for i in (0, 1)]
    table = np.stack([generator.random(130) for generator in random])
    np.testing.assert_allclose(params.angle_B, math.pi * (2 * table[:, 3] - 1))
    assert params.elastic_B2GG is not None
    np.testing.assert_allclose(params.elastic_B2GG[:, 0, 0, 0], 0.1 * (2 * table[:, 32] - 1))


def test_switching_one_thing_on_changes_no_other() -> None:
    with_all = draw(MANY[:50], 0, EVERYTHING, seed=0)
    rotation = draw(MANY[:50], 0, AugmentConfig(rotate=30), seed=0)
    np.testing.assert_array_equal(with_all.angle_B, rotation.angle_B)
    np.testing.assert_array_equal(with_all.flip_B, rotation.flip_B)
    assert_same(rotation, identity(50), but=("angle_B", "flip_B", "window_B2", "noise_seed_B", "partner_B"))


@pytest.mark.parametrize(
    ("name", "low", "high", "middle"),
    [
        ("angle_B", -math.radians(30), math.radians(30), 0.0),
        ("scale_B", 1 / 1.5, 1.5, 1.0),
        ("shift_B2", -0.1, 0.1, 0.0),
        ("shear_B2", -math.radians(10), math.radians(10), 0.0),
        ("elastic_B2GG", -0.05, 0.05, 0.0),
        ("window_B2", 0.0, 1.0, 0.5),
        ("brightness_B", 0.7, 1.3, 1.0),
        ("contrast_B", 0.7, 1.3, 1.0),
        ("saturation_B", 0.6, 1.4, 1.0),
        ("hue_B", -0.2 * math.pi, 0.2 * math.pi, 0.0),
        ("gamma_B", 1 / 1.5, 1.5, 1.0),
        ("blur_B", 0.0, 2.0, 1.0),
        ("noise_B", 0.0, 0.1, 0.05),
    ],
)
def test_each_parameter_fills_its_range(name: str, low: float, high: float, middle: float) -> None:
    values = getattr(draw(MANY, 0, EVERYTHING, seed=3), name)
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < values.max() <= high
    assert np.median(values) == pytest.approx(middle, abs=0.03 * (high - low))


def test_crops_have_the_area_that_was_drawn_and_stay_inside() -> None:
    top, left, height, width = draw(MANY, 0, AugmentConfig(crop=0.5), seed=0).crop_B4.T
    area = height * width
    assert 0.5 <= area.min() < 0.51
    assert 0.99 < area.max() <= 1
    assert np.median(area) == pytest.approx(0.75, abs=0.01)
    assert (np.stack([top, left]) >= 0).all()
    assert (top + height <= 1 + 1e-12).all()
    assert (left + width <= 1 + 1e-12).all()
    assert 3 / 4 - 1e-12 <= (width / height).min() < 0.77
    assert 1.30 < (width / height).max() <= 4 / 3 + 1e-12


def test_flips_happen_to_half_of_the_pictures_independently() -> None:
    params = draw(MANY, 0, AugmentConfig(flip=True, flip_vertical=True), seed=0)
    assert params.flip_B.mean() == pytest.approx(0.5, abs=0.03)
    assert params.flip_vertical_B.mean() == pytest.approx(0.5, abs=0.03)
    assert (params.flip_B & params.flip_vertical_B).mean() == pytest.approx(0.25, abs=0.03)
    assert not draw(MANY, 0, AugmentConfig(flip=False), seed=0).flip_B.any()


def test_probability_decides_about_all_geometry_but_flips_and_about_no_colour() -> None:
    params = draw(MANY, 0, EVERYTHING.model_copy(update={"probability": 0.3}), seed=0)
    assert params.elastic_B2GG is not None
    still = params.angle_B == 0
    assert still.mean() == pytest.approx(0.7, abs=0.03)
    for name in ("shift_B2", "shear_B2", "elastic_B2GG"):
        assert (getattr(params, name)[still] == 0).all()
        assert (getattr(params, name)[~still] != 0).all()
    assert (params.scale_B[still] == 1).all()
    assert (params.crop_B4[still] == [0, 0, 1, 1]).all()
    assert params.flip_B[still].mean() == pytest.approx(0.5, abs=0.03)
    assert (params.brightness_B != 1).all()


def test_without_strength_only_flips_and_windows_are_left() -> None:
    params = draw(MANY[:200], 0, EVERYTHING, seed=0, strength=0.0)
    drawn = ("flip_B", "flip_vertical_B", "window_B2", "noise_seed_B", "partner_B", "elastic_B2GG")
    assert_same(params, identity(200), but=drawn)
    assert params.elastic_B2GG is not None
    assert (params.elastic_B2GG == 0).all()
    assert params.flip_B.any()


def test_half_the_strength_halves_ranges_and_the_chance_to_mix() -> None:
    whole, half = (draw(MANY, 0, EVERYTHING, seed=0, strength=strength) for strength in (1.0, 0.5))
    np.testing.assert_allclose(half.angle_B, whole.angle_B / 2)
    np.testing.assert_allclose(np.log(half.scale_B), np.log(whole.scale_B) / 2)
    np.testing.assert_allclose(half.brightness_B - 1, (whole.brightness_B - 1) / 2)
    pasted = (half.cutmix_B4[:, 2] > 0) | (half.mixup_B < 1)
    assert pasted.mean() == pytest.approx(0.5, abs=0.03)


def test_with_copies_the_first_is_the_original() -> None:
    config = EVERYTHING.model_copy(update={"copies": 2})
    params = draw([5, 5, 5, 6], 0, config, seed=0, copies_B=[0, 1, 2, 0])
    original = params.rows(np.array([True, False, False, True]))
    assert original.elastic_B2GG is not None
    assert (original.elastic_B2GG == 0).all()
    drawn = ("window_B2", "noise_seed_B", "partner_B", "elastic_B2GG", "mixup_binary")
    assert_same(original, identity(2), but=drawn)
    assert (params.angle_B[1:3] != 0).all()
    assert params.angle_B[1] != params.angle_B[2]


def test_without_copies_the_only_one_is_augmented() -> None:
    assert (draw([5, 6], 0, EVERYTHING, seed=0).angle_B != 0).all()
    assert (draw([5, 6], 0, EVERYTHING, seed=0, copies_B=[0, 0]).angle_B != 0).all()


def test_copies_of_the_flips_kind_are_the_whole_set_mirrored_then_upturned() -> None:
    config = EVERYTHING.model_copy(update={"copies": 3, "copies_kind": "flips"})
    params = draw([1, 1, 1, 1], 8, config, seed=0, copies_B=[0, 1, 2, 3])
    assert params.flip_B.tolist() == [False, True, False, True]
    assert params.flip_vertical_B.tolist() == [False, False, True, True]
    drawn = ("flip_B", "flip_vertical_B", "window_B2", "noise_seed_B", "partner_B", "elastic_B2GG")
    assert_same(params, identity(4), but=drawn)


def test_partners_are_all_the_others_alike_and_never_oneself() -> None:
    counts = np.zeros((4, 4), dtype=int)
    for epoch in range(600):
        counts[np.arange(4), draw(range(4), epoch, EVERYTHING, seed=0).partner_B] += 1
    assert (np.diag(counts) == 0).all()
    assert (counts[~np.eye(4, dtype=bool)] > 150).all()


def test_a_batch_of_one_is_never_mixed() -> None:
    params = draw([0], 0, EVERYTHING, seed=0)
    assert params.partner_B.tolist() == [0]
    assert params.mixup_B.tolist() == [1]
    assert (params.cutmix_B4 == 0).all()


def test_mixup_shares_follow_the_beta_distribution() -> None:
    shares = draw(MANY, 0, AugmentConfig(mixup=0.4), seed=0).mixup_B
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.05)


def test_cutmix_boxes_have_the_share_of_the_beta_distribution_before_they_are_clipped() -> None:
    top, left, bottom, right = draw(MANY, 0, AugmentConfig(cutmix=1), seed=0).cutmix_B4.T
    inside = (top > 0) & (left > 0) & (bottom < 1) & (right < 1)
    np.testing.assert_allclose((bottom - top)[inside], (right - left)[inside])
    # Side s = sqrt(share) with share uniform: P(inside and s <= t) = integral of 2 s (1 - s)^2.
    assert inside.mean() == pytest.approx(2 * (1 / 2 - 2 / 3 + 1 / 4), abs=0.02)
    assert np.stack([top, left, bottom, right]).min() == 0
    assert np.stack([top, left, bottom, right]).max() == 1


def test_with_mixup_and_cutmix_a_picture_gets_one_of_them() -> None:
    params = draw(MANY, 0, AugmentConfig(mixup=1, cutmix=1), seed=0)
    blended, pasted = params.mixup_B < 1, params.cutmix_B4[:, 2] > 0
    assert (blended ^ pasted).all()
    assert blended.mean() == pytest.approx(0.5, abs=0.03)


def test_the_adaptive_rule_by_hand() -> None:
    strength = 0.5
    expected = [
        (1.0, 1.05, 0.55),  # validation worse by 5 %: stronger by 0.05
        (1.0, 2.0, 0.65),  # worse by 100 %: by no more than 0.1
        (1.0, 1.0, 0.65),
        (0.5, 0.48, 0.61),  # training harder by 4 %: weaker by 0.04
        (0.5, 0.1, 0.51),
        (float("nan"), 1.0, 0.51),
        (1.0, float("inf"), 0.51),
        (0.0, 0.0, 0.51),
        (0.0, 0.1, 0.61),
    ]
    for train_loss, val_loss, after in expected:
        strength = next_strength(strength, train_loss, val_loss)
        assert strength == pytest.approx(after)
    assert next_strength(0.95, 1.0, 9.0) == 1
    assert next_strength(0.05, 9.0, 1.0) == 0
