"""ASPP against torchvision's, the Transformer against torch's, positions against their formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from maskwright.models.bottleneck import (
    ASPP,
    EncoderLayer,
    Transformer,
    count_heads,
    make_bottleneck,
    sinusoids,
)


def test_aspp_is_torchvisions() -> None:
    deeplab = pytest.importorskip("torchvision.models.segmentation.deeplabv3")
    torch.manual_seed(0)
    theirs = deeplab.ASPP(6, (1, 2, 3), out_channels=5).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    pool = theirs.convs[4]
    pool[2].running_mean.zero_()
    pool[2].running_var.fill_(1 - pool[2].eps)  # its norm is left with the shift, which is our bias
    ours = ASPP(6, 5, 5, "batch", rates=(1, 2, 3)).eval()
    ours.point.load_state_dict(theirs.convs[0].state_dict())
    for own, other in zip(ours.atrous, theirs.convs[1:4], strict=True):
        own.load_state_dict(other.state_dict())
    ours.pooled.load_state_dict({"0.weight": pool[1].weight, "0.bias": pool[2].bias})
    ours.project.load_state_dict(theirs.project.state_dict())
    x = torch.randn(2, 6, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_aspp_sees_far_and_everything() -> None:
    """A pixel's answer depends on neighbours 6 away and, through the mean, on all others."""
    torch.manual_seed(0)
    aspp = ASPP(3, 8, 16, "none").double()
    x = torch.randn(1, 3, 1, 21, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(aspp(x)[0, :, 0, 10].sum(), x)
    size = gradient[0, :, 0].abs().sum(0)
    near = [10 + step for step in (-6, -4, -2, 0, 2, 4, 6)]
    assert len({round(value, 12) for index, value in enumerate(size.tolist()) if index not in near}) == 1
    assert len({round(size[index].item(), 12) for index in near}) == len(near)
    assert size.min() > 0


@pytest.mark.parametrize("kind", ["aspp", "transformer"])
@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer"])
def test_one_pixel_of_one_picture_passes(kind: str, norm: str) -> None:
    (part,) = make_bottleneck([kind], 8, norm)  # type: ignore[arg-type, list-item]
    out = part.eval()(torch.randn(1, 8, 1, 1))
    assert out.shape == (1, 8, 1, 1)
    assert out.isfinite().all()


def test_only_the_mean_of_aspp_has_no_norm() -> None:
    aspp = ASPP(8, 8, 2, "batch")
    with_norm = [m for m in aspp.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(with_norm) == 1 + 3 + 1
    aspp.train()(torch.randn(1, 8, 2, 2))  # a batch of one trains


@pytest.mark.parametrize("channels", [8, 6, 2, 1])
def test_positions_are_sines_and_cosines_of_row_and_column(channels: int) -> None:
    found = sinusoids(torch.zeros(1, channels, 3, 5, dtype=torch.float64))
    assert found.shape == (3, 5, channels)
    for row in range(3):
        for column in range(5):
            for channel in range(channels):
                frequency = 10000 ** (-(channel - channel % 4) / channels)
                wave = (math.sin, math.cos, math.sin, math.cos)[channel % 4]
                position = row if channel % 4 < 2 else column
                expected = wave(position * frequency)
                assert found[row, column, channel].item() == pytest.approx(expected, abs=1e-12)


def test_positions_are_as_precise_as_bf16_allows() -> None:
    """Computed in bf16, row 300 would be row 300 or 302."""
    fine = sinusoids(torch.zeros(1, 8, 301, 1))
    coarse = sinusoids(torch.zeros(1, 8, 301, 1, dtype=torch.bfloat16))
    assert coarse.dtype == torch.bfloat16
    assert (coarse.float() - fine).abs().max() < 2**-8


def test_a_layer_is_torchs_pre_norm_encoder_layer() -> None:
    torch.manual_seed(0)
    ours = EncoderLayer(96)
    assert ours.heads == 3
    theirs = nn.TransformerEncoderLayer(
        96, 3, 4 * 96, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = (
        (ours.norm1, theirs.norm1), (ours.norm2, theirs.norm2), (ours.mix, theirs.self_attn.out_proj),
        (ours.mlp[0], theirs.linear1), (ours.mlp[2], theirs.linear2),
    )  # fmt: skip
    with torch.no_grad():
        for own, other in pairs:
            for tensor in other.parameters():
                nn.init.normal_(tensor, std=0.2)
            own.load_state_dict(other.state_dict())
        nn.init.normal_(theirs.self_attn.in_proj_bias, std=0.2)
        ours.qkv.weight.copy_(theirs.self_attn.in_proj_weight)
        ours.qkv.bias.copy_(theirs.self_attn.in_proj_bias)
    tokens = torch.randn(2, 7, 96)
    torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-4, atol=1e-4)


def test_a_transformer_puts_its_tokens_back_where_they_were() -> None:
    transformer = Transformer(8, layers=0).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64).to(memory_format=torch.channels_last)
    expected = nn.functional.layer_norm(x.permute(0, 2, 3, 1) + sinusoids(x), (8,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(transformer(x), expected)
    assert Transformer(8)(x.float()).is_contiguous(memory_format=torch.channels_last)


def test_positions_tell_two_equal_pixels_apart() -> None:
    torch.manual_seed(0)
    out = Transformer(16)(torch.ones(1, 16, 2, 2)).flatten(2)[0]
    assert min((out[:, a] - out[:, b]).abs().max() for a in range(4) for b in range(a)) > 0.1


@pytest.mark.parametrize(
    ("channels", "heads"), [(512, 16), (256, 8), (200, 5), (64, 2), (63, 1), (8, 1), (1, 1)]
)
def test_heads_divide_the_channels_and_keep_32(channels: int, heads: int) -> None:
    assert count_heads(channels) == heads


def test_parts_come_in_the_order_written() -> None:
    parts = make_bottleneck(["transformer", "aspp"], 8, "batch")
    assert [type(part) for part in parts] == [Transformer, ASPP]
    assert make_bottleneck([], 8, "batch") == []
