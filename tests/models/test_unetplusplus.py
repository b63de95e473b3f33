"""UNet++ against an implementation written from equation 1, and against the paper's table."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import parameters
from maskwright.models.unet import UNet
from maskwright.models.unetplusplus import UNetPlusPlus


@pytest.mark.parametrize("depth", [1, 3])
def test_it_is_the_nested_unet_of_the_figure(depth: int) -> None:
    torch.manual_seed(0)
    model = UNetPlusPlus(2, 3, width=2, depth=depth, deep_supervision="levels").double()
    for tensor in model.parameters():
        nn.init.normal_(tensor, std=0.3)
    images, weights = torch.randn(2, 2, 8, 16, dtype=torch.float64), model.state_dict()

    def h(prefix: str, x: Tensor) -> Tensor:
        for part in (f"{prefix}.0.0", f"{prefix}.1.0"):
            x = F.relu(F.conv2d(x, weights[f"{part}.weight"], weights[f"{part}.bias"], padding=1))
        return x

    @functools.cache
    def node(i: int, j: int) -> Tensor:
        """X^{i,j}."""
        if j == 0:
            above = images if i == 0 else F.max_pool2d(node(i - 1, 0), 2)
            return h("bottleneck.0" if i == depth else f"encoder.{i}", above)
        name = f"columns.{j - 1}.{i}"
        coarse = node(i + 1, j - 1)
        up = F.conv_transpose2d(coarse, weights[f"{name}.up.weight"], weights[f"{name}.up.bias"], stride=2)
        return h(f"{name}.conv", torch.cat([*(node(i, k) for k in range(j)), up], dim=1))

    heads = ["head", *(f"outputs.heads.{k}" for k in range(depth - 1))]
    found = model(images)
    assert len(found) == depth
    for level, head, j in zip(found, heads, range(depth, 0, -1), strict=True):
        expected = F.conv2d(node(0, j), weights[f"{head}.weight"], weights[f"{head}.bias"])
        torch.testing.assert_close(level, expected)


def test_the_papers_sizes_are_9_04_million_parameters_and_7_76_for_its_unet() -> None:
    """Zhou et al. 2018, table 2: 32 to 512 channels; U-Net 7.76 M, UNet++ 9.04 M."""
    plus = UNetPlusPlus(1, 1, width=32, deep_supervision="levels")
    assert round(parameters(plus) / 1e6, 2) == 9.04
    assert round(parameters(UNet(1, 1, width=32)) / 1e6, 2) == 7.76
    assert len(plus.outputs.heads) == 3  # type: ignore[arg-type]


def test_dropout_is_in_the_deepest_node() -> None:
    model = UNetPlusPlus(1, 1, width=8, depth=2, dropout=0.5)
    seen: list[Tensor] = []
    model.bottleneck.register_forward_hook(lambda _, __, output: seen.append(output))
    torch.manual_seed(0)
    model(torch.randn(4, 1, 16, 16))
    assert 0.3 < (~seen[0].flatten(2).any(dim=2)).float().mean() < 0.7
