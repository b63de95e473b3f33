"""Attention on skips: what a skip carries is multiplied by coefficients between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention: TypeAlias = Literal["gate", "channel", "spatial"]


class AttentionGate(nn.Module):
    """Additive attention gate (Oktay et al. 2018, equations 1 and 2, figure 2).

    a = sigmoid(psi . relu(W_x x + W_g g + b_g) + b_psi), then a x, with x the skip and g the gating signal from
    the coarser level. One coefficient per pixel of g, resampled bilinearly to x. W_x is a 2x2 convolution of
    stride 2, as in the authors' code, or 1x1 where g is as large as x (`stride` 1).
    """

    def __init__(self, channels: int, gating: int, stride: int = 2) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.w_x = nn.Conv2d(channels, hidden, stride, stride, bias=False)
        self.w_g = nn.Conv2d(gating, hidden, 1)
        self.psi = nn.Conv2d(hidden, 1, 1)
        self.resample = nn.Upsample(scale_factor=stride, mode="bilinear", align_corners=False)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        joint = F.relu(self.w_x(skip) + self.w_g(coarse))  # B C/2 H W
        coefficients = torch.sigmoid(self.psi(joint))  # B 1 H W
        out: Tensor = skip * self.resample(coefficients)  # B C sH sW
        return out


class ChannelAttention(nn.Module):
    """CBAM's channel attention (Woo et al. 2018, equation 2): sigmoid(MLP(mean x) + MLP(max x)) x.

    Mean and maximum over the pixels; one MLP for both, without biases, 16 times narrower inside, but never
    below 8 channels: of one or two all may lie on the dead side of their ReLU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 8)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, skip: Tensor, _coarse: Tensor) -> Tensor:
        mean = self.mlp(skip.mean((2, 3), keepdim=True))  # B C 1 1
        highest = self.mlp(skip.amax((2, 3), keepdim=True))  # B C 1 1
        return skip * torch.sigmoid(mean + highest)  # B C H W


class SpatialAttention(nn.Module):
    """CBAM's spatial attention (Woo et al. 2018, equation 3): sigmoid(conv7x7([mean x; max x])) x.

    Mean and maximum over the channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, skip: Tensor, _coarse: Tensor) -> Tensor:
        pooled = torch.cat([skip.mean(1, keepdim=True), skip.amax(1, keepdim=True)], dim=1)  # B 2 H W
        return skip * torch.sigmoid(self.conv(pooled))  # B C H W


class SqueezeExcite(nn.Module):
    """sigmoid(W_2 relu(W_1 mean x)) x, the mean over the pixels (Hu et al. 2018, equation 3).

    8 times narrower inside, but never below 4 channels: DoubleU-Net's narrowest.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 8, 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))  # B C/8 1 1
        return x * torch.sigmoid(self.excite(hidden))  # B C H W


class SkipAttention(nn.ModuleList):
    """`kinds` one after the other on a skip of `channels`; none of them: the skip as it is.

    `gating` channels come from the coarser level, which is `stride` times smaller than the skip.
    """

    def __init__(self, kinds: Sequence[Attention], channels: int, gating: int, stride: int = 2) -> None:
        super().__init__(_make_attention(kind, channels, gating, stride) for kind in kinds)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        for attend in self:
            skip = attend(skip, coarse)  # B C sH sW
        return skip


def _make_attention(kind: Attention, channels: int, gating: int, stride: int) -> nn.Module:
    match kind:
        case "gate":
            return AttentionGate(channels, gating, stride)
        case "channel":
            return ChannelAttention(channels)
        case "spatial":
            return SpatialAttention()
