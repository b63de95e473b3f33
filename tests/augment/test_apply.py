"""The whole augmentation of a batch, and the canary that dies when image and mask part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from maskwright.augment.apply import apply
from maskwright.augment.params import draw, identity
from maskwright.config import AugmentConfig
from maskwright.tensors import IGNORE, Batch, Target

COLOUR = AugmentConfig(
    flip=False, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, gamma=0.3, blur=2, noise=0.1
)


def everything(geometry: AugmentConfig, **changes: float) -> AugmentConfig:
    """Pictures moved and coloured."""
    return AugmentConfig.model_validate(
        COLOUR.model_dump() | geometry.model_dump(exclude_defaults=True) | changes
    )


def random_batch(count: int, channels: int, height: int = 24, width: int = 40) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, channels, height, width, generator=generator)
    labels = torch.randint(0, 4, (count, height, width), generator=generator).to(torch.uint8)
    return Batch(images, Target(labels))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_alone_is_augmented_as_in_a_batch(channels: int, geometry: AugmentConfig) -> None:
    config = everything(geometry, cutmix=0)
    batch, fill = random_batch(8, channels), torch.full((channels,), 0.4)
    together = apply(batch, draw(range(8), 3, config, seed=1), fill)
    for row in range(8):
        one = Batch(batch.images[row : row + 1], Target(batch.target.labels[row : row + 1]))
        alone = apply(one, draw([row], 3, config, seed=1), fill)
        np.testing.assert_allclose(alone.images[0], together.images[row], atol=1e-5)
        assert torch.equal(alone.target.labels[0], together.target.labels[row])


def test_identity_is_bit_for_bit() -> None:
    batch = random_batch(3, 3)
    same = apply(batch, identity(3), torch.full((3,), 0.3))
    assert torch.equal(same.images, batch.images)
    assert torch.equal(same.target.labels, batch.target.labels)
    assert same.target.others is None


def test_the_batch_itself_is_not_changed(geometry: AugmentConfig) -> None:
    batch = random_batch(6, 3)
    images, labels = batch.images.clone(), batch.target.labels.clone()
    config = everything(geometry, mixup=1)
    changed = apply(batch, draw(range(6), 0, config, seed=0), torch.full((3,), 0.5))
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.target.labels, labels)
    assert changed.images.dtype == torch.float32
    assert changed.target.labels.dtype == torch.uint8


def test_outside_a_picture_are_fill_and_ignore() -> None:
    batch, fill = random_batch(1, 3), torch.tensor([0.2, 0.4, 0.6])
    params = replace(identity(1), scale_B=np.array([0.25]))
    small = apply(batch, params, fill)
    outside = small.target.labels[0] == IGNORE
    assert outside.float().mean().item() == pytest.approx(15 / 16)
    far = torch.from_numpy(ndimage.binary_erosion(outside.numpy(), iterations=1, border_value=1))
    np.testing.assert_allclose(small.images[0][:, far].T, fill.expand(int(far.sum()), 3), atol=1e-6)


def test_any_memory_layout_gives_the_same_pictures(geometry: AugmentConfig) -> None:
    batch = random_batch(4, 3)
    config = everything(geometry, mixup=1)
    params = draw(range(4), 0, config, seed=0)
    channels_last = Batch(batch.images.contiguous(memory_format=torch.channels_last), batch.target)
    np.testing.assert_allclose(apply(channels_last, params).images, apply(batch, params).images, atol=1e-5)


PALETTES = {
    1: torch.tensor([[0.2], [0.8]]),
    3: torch.eye(3),
    4: torch.eye(4),
}
"""Colours whose mixtures of two are never taken for a third."""


def painted(count: int, channels: int, height: int, width: int) -> Batch:
    """Masks of thick shapes, and pictures that ARE these masks, painted."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    classes = len(PALETTES[channels])
    masks = np.zeros((count, height, width), dtype=np.int64)
    for mask in masks:
        top, left = generator.uniform(0.3, 0.7) * height, generator.uniform(0.2, 0.3) * width
        mask[np.hypot(rows - top, columns - left) < height / 4] = 1
        edge = generator.integers(2 * width // 3, width - 10)
        mask[height // 3 :, edge:] = classes - 1
        mask[: height // 4, width // 2 :] = min(2, classes - 1)
    images = PALETTES[channels][torch.from_numpy(masks)].permute(0, 3, 1, 2).contiguous()
    return Batch(images, Target(torch.from_numpy(masks.astype(np.uint8))))


def disagreement(images: Tensor, labels: Tensor, palette: Tensor) -> tuple[int, int]:
    """Pixels whose colour is not their label's, and all pixels: outside a one-pixel band along the borders."""
    seen = (images[:, None] - palette[None, :, :, None, None]).square().sum(2).argmin(1).numpy()
    truth = labels.numpy()
    around = {"size": (1, 3, 3), "mode": "nearest"}
    inner = ndimage.maximum_filter(truth, **around) == ndimage.minimum_filter(truth, **around)
    inner &= truth != IGNORE
    return int((seen != truth)[inner].sum()), int(inner.sum())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (64, 64)])
def test_geometry_canary(channels: int, height: int, width: int, geometry: AugmentConfig) -> None:
    batch = painted(24, channels, height, width)
    palette = PALETTES[channels]
    for epoch in range(4):
        moved = apply(batch, draw(range(24), epoch, geometry, seed=0), torch.full((channels,), 0.5))
        wrong, seen = disagreement(moved.images, moved.target.labels, palette)
        assert wrong == 0
        assert seen > 0.5 * batch.target.labels.numel()
        assert not torch.equal(moved.target.labels, batch.target.labels)


@pytest.mark.parametrize("config", [AugmentConfig(), AugmentConfig(rotate=10), AugmentConfig(cutmix=1)])
def test_the_canary_notices_masks_that_stay_where_they_were(config: AugmentConfig) -> None:
    batch = painted(24, 3, 64, 96)
    moved = apply(batch, draw(range(24), 0, config, seed=0))
    wrong, seen = disagreement(moved.images, batch.target.labels, PALETTES[3])
    assert wrong > 0.01 * seen
