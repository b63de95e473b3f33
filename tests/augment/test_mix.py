"""MixUp and CutMix by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from maskwright.augment.mix import mix
from maskwright.augment.params import identity
from maskwright.tensors import IGNORE


def test_nothing_to_mix_leaves_the_batch() -> None:
    images, labels = torch.rand(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
    mixed = mix(images, labels, identity(2))
    assert mixed.images is images
    assert mixed.target.labels is labels
    assert mixed.target.others is None
    assert mixed.target.weight is None


def test_mixup_blends_pictures_and_keeps_both_masks() -> None:
    images = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    labels = torch.tensor([0, 1, 2], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 2)
    params = replace(identity(3), partner_B=np.array([1, 2, 0]), mixup_B=np.array([0.75, 0.2, 1.0]))
    mixed = mix(images, labels, params)
    np.testing.assert_allclose(mixed.images[:, 0, 0, 0], [0.25, 0.6, 0.5], atol=1e-7)
    assert torch.equal(mixed.target.labels, labels)
    assert mixed.target.others is not None
    assert mixed.target.weight is not None
    assert mixed.target.others[:, 0, 0].tolist() == [1, 2, 2]  # the unmixed picture's other truth is its own
    np.testing.assert_allclose(mixed.target.weight, [0.75, 0.2, 1.0], atol=1e-7)


def test_binary_mixup_is_the_blended_mask_cut_at_a_half() -> None:
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 1, 4)
    labels = torch.tensor([[[0, 0, 1, 1]], [[0, 1, 0, 1]]], dtype=torch.uint8)
    for share in (0.3, 0.5, 0.8):
        params = replace(
            identity(2), partner_B=np.array([1, 0]), mixup_B=np.array([share, 1.0]), mixup_binary=True
        )
        mixed = mix(images, labels, params)
        own, other = labels[0].float(), labels[1].float()
        if share != 0.5:  # there the own mask is kept
            assert torch.equal(mixed.target.labels[0], (share * own + (1 - share) * other > 0.5).byte())
        else:
            assert torch.equal(mixed.target.labels[0], labels[0])
        assert torch.equal(mixed.target.labels[1], labels[1])
        assert mixed.target.others is None
        np.testing.assert_allclose(mixed.images[0, 0, 0], [1 - share] * 4, atol=1e-7)


def test_cutmix_pastes_the_same_box_of_picture_and_mask() -> None:
    images = torch.arange(2 * 2 * 4 * 6, dtype=torch.float32).view(2, 2, 4, 6) / 100
    labels = torch.tensor([0, IGNORE], dtype=torch.uint8).view(2, 1, 1).expand(2, 4, 6)
    params = replace(
        identity(2),
        partner_B=np.array([1, 0]),
        cutmix_B4=np.array([[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.0]]),
    )
    mixed = mix(images, labels, params)
    expected, expected_labels = images.clone(), labels.clone()
    expected[0, :, 1:3, 3:6] = images[1, :, 1:3, 3:6]
    expected_labels[0, 1:3, 3:6] = IGNORE
    assert torch.equal(mixed.images, expected)
    assert torch.equal(mixed.target.labels, expected_labels)
    assert mixed.target.others is None


def test_both_take_the_partner_as_it_was_before_mixing() -> None:
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    labels = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1).expand(2, 2, 2)
    params = replace(
        identity(2),
        partner_B=np.array([1, 0]),
        mixup_B=np.array([0.5, 1.0]),
        cutmix_B4=np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 1.0]]),
    )
    mixed = mix(images, labels, params)
    assert mixed.target.others is not None
    assert (mixed.images[0] == 0.5).all()
    assert mixed.images[1, 0].tolist() == [[0, 0], [1, 1]]
    assert mixed.target.others[0].tolist() == [[1, 1], [1, 1]]
    assert mixed.target.labels[1].tolist() == mixed.target.others[1].tolist() == [[0, 0], [1, 1]]
