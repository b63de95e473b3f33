"""Labels as shares of the classes, by hand."""

from __future__ import annotations

import pytest
import torch

from maskwright.losses import as_truth
from maskwright.losses.truth import members
from maskwright.tensors import IGNORE, Target


def test_mixup_knows_a_pixel_where_both_truths_with_weight_do() -> None:
    labels = torch.tensor([[[0, 1, IGNORE, IGNORE]]]).expand(3, -1, -1)
    others = torch.tensor([[[1, IGNORE, 1, IGNORE]]]).expand(3, -1, -1)
    truth, valid = as_truth(Target(labels, others, torch.tensor([0.25, 1.0, 0.0])), 1)
    assert valid[:, 0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]
    assert truth[:, 0, 0, 0].tolist() == [0.75, 0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_truth_of_small_and_large_integers(dtype: torch.dtype) -> None:
    labels = torch.tensor([[[0, 2, IGNORE]]]).to(dtype)
    truth, valid = as_truth(Target(labels), 3)
    assert truth[0, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert valid[0, 0, 0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mixed_pixel_belongs_to_the_class_with_the_largest_share(channels: int) -> None:
    labels, others = torch.tensor([[[0, 1, 0, IGNORE]]]), torch.tensor([[[1, 0, 0, 1]]])
    truth, valid = as_truth(Target(labels, others, torch.tensor([0.7])), channels)
    assert members(truth, valid)[0, -1, 0].tolist() == [False, True, False, False]
    if channels == 2:
        assert members(truth, valid)[0, 0, 0].tolist() == [True, False, True, False]
