"""Dense targets under augmentation: where the picture goes, unknown beyond it, never a mixture with the unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskwright.augment.apply import apply
from maskwright.augment.geometry import move, move_dense, sampling_grid
from maskwright.augment.mix import mix_dense
from maskwright.augment.params import draw, identity
from maskwright.config import AugmentConfig
from maskwright.tensors import Batch, Target


def fields(count: int, height: int = 12, width: int = 17) -> torch.Tensor:
    return torch.randn(count, 2, height, width, generator=torch.Generator().manual_seed(0))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def test_identity_is_bit_for_bit() -> None:
    dense = fields(2)
    dense[0, 0, 3] = torch.nan
    assert move_dense(dense, identity(2)) is dense
    assert same(mix_dense(dense, identity(2)), dense)


def test_flips_are_numpys_and_keep_what_is_unknown() -> None:
    dense = fields(4)
    dense[:, 1, 2:4, 5:] = torch.nan
    params = replace(
        identity(4),
        flip_B=np.array([False, True, False, True]),
        flip_vertical_B=np.array([False, False, True, True]),
    )
    moved = move_dense(dense, params)
    for row, axes in enumerate([(), (2,), (1,), (1, 2)]):
        np.testing.assert_array_equal(moved[row], np.flip(dense[row].numpy(), axes))


def test_it_is_the_pictures_own_way_and_unknown_outside(geometry: AugmentConfig) -> None:
    """Where a whole pixel of the picture lies beneath, the two are the same numbers."""
    params = draw(range(16), 0, geometry, seed=3)
    dense = fields(16)
    both = torch.cat([dense, torch.ones(16, 1, 12, 17)], 1)
    both, _ = move(both, torch.zeros(16, 12, 17, dtype=torch.uint8), params, None)
    moved, inside = both[:, :2], both[:, 2:]
    found = move_dense(dense, params)
    whole = (inside > 0.999).expand_as(found)
    assert 0.3 < whole.float().mean() < 1
    torch.testing.assert_close(found[whole], moved[whole], rtol=1e-3, atol=2e-3)
    assert torch.equal(found.isnan(), (inside < 0.5 - 1e-4).expand_as(found))


def test_only_known_neighbours_count() -> None:
    """Each resampled pixel against its four neighbours, one by one, in float64."""
    dense = fields(1, 6, 7)
    dense[0, :, 2, 3], dense[0, 1, 4:, :2] = torch.nan, torch.nan
    params = replace(identity(1), angle_B=np.array([0.3]), shift_B2=np.array([[0.05, 0.1]]))
    found = move_dense(dense, params)
    grid = sampling_grid(params, 6, 7, torch.device("cpu")).double()
    for t in range(2):
        for y in range(6):
            for x in range(7):
                column = float(grid[0, y, x, 0] + 1) * 3.5 - 0.5
                row = float(grid[0, y, x, 1] + 1) * 3 - 0.5
                total, weight = 0.0, 0.0
                for i in (int(np.floor(row)), int(np.floor(row)) + 1):
                    for j in (int(np.floor(column)), int(np.floor(column)) + 1):
                        near = (1 - abs(row - i)) * (1 - abs(column - j))
                        if 0 <= i < 6 and 0 <= j < 7 and not dense[0, t, i, j].isnan():
                            total, weight = total + near * float(dense[0, t, i, j]), weight + near
                if weight >= 0.5:
                    assert float(found[0, t, y, x]) == pytest.approx(total / weight, abs=1e-4)
                else:
                    assert found[0, t, y, x].isnan()
    assert found.isnan().any()


def test_mixup_blends_and_keeps_what_either_does_not_know_unknown() -> None:
    dense = torch.tensor([[1.0, 2.0], [5.0, torch.nan], [9.0, 9.0]]).view(3, 1, 1, 2)
    params = replace(identity(3), partner_B=np.array([1, 2, 0]), mixup_B=np.array([0.75, 0.5, 1.0]))
    mixed = mix_dense(dense, params)
    np.testing.assert_allclose(mixed.flatten(), [2, np.nan, 7, np.nan, 9, 9], rtol=1e-6)
    heavier = mix_dense(dense, replace(params, mixup_B=np.array([0.25, 0.5, 1.0]), mixup_binary=True))
    np.testing.assert_array_equal(heavier.flatten(), [5, np.nan, 5, np.nan, 9, 9])


def test_cutmix_pastes_the_masks_own_box() -> None:
    config = AugmentConfig(flip=False, cutmix=1)
    params = draw(range(8), 0, config, seed=0)
    labels = torch.arange(8, dtype=torch.uint8).view(8, 1, 1).expand(8, 12, 17).contiguous()
    batch = apply(Batch(torch.rand(8, 1, 12, 17), Target(labels, dense=labels[:, None].float() * 10)), params)
    assert batch.target.dense is not None
    assert torch.equal(batch.target.dense[:, 0], 10 * batch.target.labels.float())
    assert not torch.equal(batch.target.labels, labels)


def test_a_batch_without_dense_targets_has_none(geometry: AugmentConfig) -> None:
    batch = Batch(torch.rand(2, 1, 8, 8), Target(torch.zeros(2, 8, 8, dtype=torch.uint8)))
    assert apply(batch, draw(range(2), 0, geometry, seed=0)).target.dense is None
