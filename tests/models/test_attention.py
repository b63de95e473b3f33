"""Attention on skips against loops over pixels, against MONAI's and timm's, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from maskwright.models.attention import (
    AttentionGate,
    ChannelAttention,
    SkipAttention,
    SpatialAttention,
    SqueezeExcite,
)
from maskwright.models.blocks import Up, initialise


def gate_by_loops(gate: AttentionGate, skip: Tensor, coarse: Tensor) -> Tensor:
    """Equations 1 and 2 of Oktay et al. at each coarse pixel, then bilinear weights written out."""
    (batch, _, height, width), (bottom, right) = skip.shape, coarse.shape[-2:]
    rows = []
    for b in range(batch):
        coefficients = {}
        for i in range(bottom):
            for j in range(right):
                patch = skip[b, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                seen = (gate.w_x.weight * patch).sum((1, 2, 3))
                assert gate.w_g.bias is not None
                assert gate.psi.bias is not None
                asked = gate.w_g.weight[:, :, 0, 0] @ coarse[b, :, i, j] + gate.w_g.bias
                joint = (seen + asked).clamp(min=0)
                coefficients[i, j] = 1 / (1 + (-(gate.psi.weight.flatten() @ joint + gate.psi.bias)).exp())
        for y in range(height):
            for x in range(width):
                v, u = max((y + 0.5) / 2 - 0.5, 0), max((x + 0.5) / 2 - 0.5, 0)
                i, j = int(v), int(u)
                k, m = min(i + 1, bottom - 1), min(j + 1, right - 1)
                upper = (1 - (u - j)) * coefficients[i, j] + (u - j) * coefficients[i, m]
                lower = (1 - (u - j)) * coefficients[k, j] + (u - j) * coefficients[k, m]
                rows.append(skip[b, :, y, x] * ((1 - (v - i)) * upper + (v - i) * lower))
    return torch.stack(rows).view(batch, height, width, -1).permute(0, 3, 1, 2)


def test_the_gate_is_oktays_with_its_gradient() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(4, 3).double()
    skip = torch.randn(2, 4, 4, 6, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    ours, loops = gate(skip, coarse), gate_by_loops(gate, skip, coarse)
    torch.testing.assert_close(ours, loops)
    inputs, pull = [skip, coarse, *gate.parameters()], torch.randn_like(ours)
    assert len(inputs) == 2 + 5  # W_x without a bias: W_g has one
    for found, right in zip(
        torch.autograd.grad(ours, inputs, pull), torch.autograd.grad(loops, inputs, pull), strict=True
    ):
        torch.testing.assert_close(found, right)


@pytest.mark.slow  # MONAI takes 12 s to import
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gate_equals_monais_attention_block_with_the_same_weights(stride: int) -> None:
    """MONAI's is at one size and normalises: its norms are made to do nothing; and for stride 2, each 2x2 patch of
    the skip holds one value and W_x averages it, so that both see the same; the resampling is ours alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # MONAI's imports warn about others
        block = pytest.importorskip("monai.networks.nets.attentionunet").AttentionBlock
    torch.manual_seed(0)
    theirs = block(spatial_dims=2, f_int=3, f_g=5, f_l=6).double().eval()
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, math.sqrt(1 + norm.eps))
    ours = AttentionGate(6, 5, stride).double()
    with torch.no_grad():
        theirs.W_x[0].conv.bias.zero_()
        ours.w_x.weight.copy_(theirs.W_x[0].conv.weight.expand_as(ours.w_x.weight) / stride**2)
        for own, other in ((ours.w_g, theirs.W_g[0].conv), (ours.psi, theirs.psi[0].conv)):
            own.load_state_dict(other.state_dict())
    coarse, small = torch.randn(2, 5, 3, 4).double(), torch.rand(2, 6, 3, 4).double() + 0.5
    coarse.requires_grad_()
    coefficients = theirs(g=coarse, x=small) / small
    skip = nn.functional.interpolate(small, scale_factor=stride, mode="nearest")
    expected = skip * nn.functional.interpolate(coefficients, scale_factor=stride, mode="bilinear")
    found, pull = ours(skip, coarse), torch.randn_like(expected)
    torch.testing.assert_close(found, expected)
    mine = [coarse, *ours.w_x.parameters(), *ours.w_g.parameters(), *ours.psi.parameters()]
    same = [theirs.W_x[0].conv.weight, *theirs.W_g[0].conv.parameters(), *theirs.psi[0].conv.parameters()]
    gradients = torch.autograd.grad(found, mine, pull), torch.autograd.grad(expected, [coarse, *same], pull)
    for gradient, right in zip(*gradients, strict=True):
        torch.testing.assert_close(
            gradient, right.expand_as(gradient)
        )  # each of the patch's pixels has one value


@pytest.mark.parametrize("channels", [160, 24])
def test_channel_attention_is_timms(channels: int) -> None:
    cbam = pytest.importorskip("timm.layers.cbam")
    ours = ChannelAttention(channels)
    theirs = cbam.ChannelAttn(channels, rd_channels=10 if channels == 160 else 8)  # a sixteenth, or eight
    with torch.no_grad():
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.copy_(other)
    skip = torch.randn(2, channels, 5, 4)
    torch.testing.assert_close(ours(skip, skip), theirs(skip))


def test_spatial_attention_is_timms() -> None:
    cbam = pytest.importorskip("timm.layers.cbam")
    ours, theirs = SpatialAttention(), cbam.SpatialAttn().eval()
    assert ours.conv.bias is not None
    with torch.no_grad():
        ours.conv.weight.copy_(theirs.conv.conv.weight)
        theirs.conv.bn.weight.fill_(math.sqrt(1 + theirs.conv.bn.eps))
        theirs.conv.bn.bias.copy_(ours.conv.bias)  # its norm's shift, our convolution's bias
    skip = torch.randn(2, 6, 9, 8)
    torch.testing.assert_close(ours(skip, skip), theirs(skip))


def test_squeeze_and_excitation_by_hand() -> None:
    block = SqueezeExcite(40).double()
    x = torch.randn(1, 40, 2, 3, dtype=torch.float64)
    hidden = (block.squeeze.weight.flatten(1) @ x[0].flatten(1).mean(1)).clamp(min=0)
    assert hidden.shape == (5,)
    expected = x * (block.excite.weight.flatten(1) @ hidden).sigmoid()[None, :, None, None]
    torch.testing.assert_close(block(x), expected)


def test_attention_comes_in_the_order_written() -> None:
    torch.manual_seed(0)
    attend = SkipAttention(["spatial", "gate", "channel"], 4, gating=3)
    assert [type(part) for part in attend] == [SpatialAttention, AttentionGate, ChannelAttention]
    skip, coarse = torch.randn(1, 4, 6, 6), torch.randn(1, 3, 3, 3)
    expected = attend[2](attend[1](attend[0](skip, coarse), coarse), coarse)
    assert torch.equal(attend(skip, coarse), expected)
    assert not torch.allclose(attend[0](attend[1](attend[2](skip, coarse), coarse), coarse), expected)


def test_without_attention_the_skip_is_itself() -> None:
    skip = torch.randn(1, 4, 6, 6)
    assert SkipAttention([], 4, gating=3)(skip, torch.randn(1, 3, 3, 3)) is skip


def test_a_step_up_gates_its_skip_by_what_comes_from_below() -> None:
    up = Up(6, 4, 4, "batch", "transpose", ["gate"]).eval()
    seen: list[tuple[Tensor, Tensor]] = []
    up.attend.register_forward_hook(lambda _, args, out: seen.append((args[1], out)))
    joined: list[Tensor] = []
    up.conv.register_forward_pre_hook(lambda _, args: joined.append(args[0]))
    coarse, skip = torch.randn(1, 6, 2, 3), torch.randn(1, 4, 4, 6)
    up(coarse, skip)
    assert seen[0][0] is coarse
    assert torch.equal(joined[0][:, :4], seen[0][1])
    assert (seen[0][1].abs() < skip.abs()).all()


@pytest.mark.parametrize("kind", ["gate", "channel", "spatial"])
def test_attention_starts_half_open(kind: str) -> None:
    """He's weights would close the skip, or open it wide, before anything is learnt."""
    torch.manual_seed(0)
    up, head = Up(64, 32, 32, "batch", "transpose", [kind]), nn.Conv2d(32, 1, 1)  # type: ignore[list-item]
    initialise(nn.Sequential(up, head), head)
    skip, coarse = torch.randn(2, 32, 16, 16).relu(), torch.randn(2, 64, 8, 8).relu()
    coefficients = (up.attend(skip, coarse) / skip)[skip > 0]
    assert coefficients.min() > 0.05
    assert coefficients.max() < 0.95
