"""Colour against formulas in numpy and against scipy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from maskwright.augment.colour import TO_YIQ, colour_matrices, gaussian_blur, recolour
from maskwright.augment.params import draw, identity
from maskwright.config import AugmentConfig


def images(count: int, channels: int, seed: int = 0) -> Tensor:
    """Mid tones: nothing is clipped by moderate changes."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 0.4 * torch.rand(count, channels, 12, 17, generator=generator)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_identity_is_bit_for_bit(channels: int) -> None:
    before = images(3, channels)
    assert torch.equal(recolour(before, identity(3)), before)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_brightness_multiplies_and_clips(channels: int) -> None:
    before = images(2, channels)
    after = recolour(before, replace(identity(2), brightness_B=np.array([1.2, 3.0])))
    expected = before.clone()
    expected[:, :3] = (before * torch.tensor([1.2, 3.0])[:, None, None, None]).clamp(0, 1)[:, :3]
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_contrast_stretches_around_the_mean_luma_after_brightness() -> None:
    before = images(1, 3)
    params = replace(identity(1), brightness_B=np.array([0.9]), contrast_B=np.array([1.3]))
    luma = float((before[0].mean((1, 2)).numpy() * [0.299, 0.587, 0.114]).sum())
    expected = 1.3 * (0.9 * before - 0.9 * luma) + 0.9 * luma
    np.testing.assert_allclose(recolour(before, params), expected, atol=1e-5)


def test_contrast_of_grey_pictures_keeps_their_mean() -> None:
    before = images(1, 1)
    after = recolour(before, replace(identity(1), contrast_B=np.array([0.5])))
    assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-6)
    assert after.std().item() == pytest.approx(before.std().item() / 2, rel=1e-4)


def test_without_saturation_every_channel_is_luma() -> None:
    before = images(1, 3)
    after = recolour(before, replace(identity(1), saturation_B=np.array([0.0])))
    luma = np.tensordot([0.299, 0.587, 0.114], before[0].numpy(), axes=1)
    np.testing.assert_allclose(after[0], np.stack([luma] * 3), atol=1e-5)


def test_hue_turns_the_colour_and_keeps_luma_and_chroma() -> None:
    before = images(1, 3).numpy()[0].reshape(3, -1)
    after = recolour(images(1, 3), replace(identity(1), hue_B=np.array([0.7]))).numpy()[0].reshape(3, -1)
    (luma, *chroma), (new_luma, *new_chroma) = TO_YIQ @ before, TO_YIQ @ after
    np.testing.assert_allclose(new_luma, luma, atol=1e-5)
    turned = (chroma[0] + 1j * chroma[1]) * np.exp(0.7j)
    np.testing.assert_allclose(new_chroma[0] + 1j * new_chroma[1], turned, atol=1e-5)


def test_a_whole_turn_of_hue_is_none_and_greys_have_no_hue() -> None:
    whole = colour_matrices(replace(identity(1), hue_B=np.array([2 * math.pi])))
    np.testing.assert_allclose(whole, [np.eye(3)], atol=1e-12)
    grey = np.full((3, 1), 0.4)
    turned = colour_matrices(replace(identity(1), hue_B=np.array([1.0]), saturation_B=np.array([1.5])))
    np.testing.assert_allclose(turned[0] @ grey, grey, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2])
def test_hue_and_saturation_do_nothing_where_there_is_no_colour(channels: int) -> None:
    before = images(2, channels)
    params = replace(identity(2), hue_B=np.array([1.0, 2.0]), saturation_B=np.array([0.0, 2.0]))
    assert torch.equal(recolour(before, params), before)


def test_gamma_is_a_power() -> None:
    before = images(3, 1)
    after = recolour(before, replace(identity(3), gamma_B=np.array([0.5, 1.0, 2.0])))
    np.testing.assert_allclose(after[0], before[0].sqrt(), atol=1e-6)
    assert torch.equal(after[1], before[1])
    np.testing.assert_allclose(after[2], before[2].square(), atol=1e-6)


def test_blur_is_scipys_with_each_pictures_own_deviation() -> None:
    before = images(3, 2)
    sigmas = np.array([0.4, 1.0, 2.3])
    after = gaussian_blur(before, sigmas)
    for row, sigma in enumerate(sigmas):
        for channel in range(2):
            expected = ndimage.gaussian_filter(
                before[row, channel].numpy(), sigma, mode="nearest", radius=math.ceil(3 * sigma)
            )
            np.testing.assert_allclose(after[row, channel], expected, atol=1e-5)


def test_noise_has_its_deviation_and_its_own_seed() -> None:
    before = torch.full((4, 3, 64, 64), 0.5)
    seeds = np.array([7, 8, 7, 9], dtype=np.uint64)
    params = replace(identity(4), noise_B=np.array([0.05, 0.0, 0.05, 0.05]), noise_seed_B=seeds)
    noise = recolour(before, params) - before
    assert noise[0].std().item() == pytest.approx(0.05, rel=0.03)
    assert abs(noise[0].mean().item()) < 0.002
    assert not noise[1].any()
    assert torch.equal(noise[0], noise[2])
    for other in (noise[3, 0], noise[0, 1]):  # of another seed, of another channel
        together = torch.stack([noise[0, 0].flatten(), other.flatten()])
        assert abs(together.corrcoef()[0, 1].item()) < 0.06


def test_of_four_channels_the_last_has_no_colour_but_a_lens_and_a_sensor() -> None:
    before = images(1, 4)
    everything = AugmentConfig(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, gamma=0.3)
    toned = recolour(before, draw([0], 0, everything, seed=0))
    assert torch.equal(toned[:, 3], before[:, 3])
    np.testing.assert_allclose(
        toned[:, :3], recolour(before[:, :3], draw([0], 0, everything, seed=0)), atol=1e-6
    )
    for optics in (AugmentConfig(blur=2), AugmentConfig(noise=0.1)):
        assert (recolour(before, draw([0], 0, optics, seed=0))[:, 3] != before[:, 3]).any()


def test_pictures_stay_between_0_and_1_and_nothing_is_changed_in_place() -> None:
    before = torch.rand(16, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    copy = before.clone()
    extreme = AugmentConfig(
        brightness=1, contrast=1, saturation=1, hue=0.5, gamma=2, blur=1, noise=1, flip=False
    )
    after = recolour(before, draw(range(16), 0, extreme, seed=0))
    assert torch.equal(before, copy)
    assert after.isfinite().all()
    assert after.min() >= 0
    assert after.max() <= 1
