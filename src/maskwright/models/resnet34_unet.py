"""ResNet34 (He et al. 2016, table 1) as the encoder of a UNet, under the decoders of three documents.

`wide` (001), `narrow` (002, after the figure of the ResNet34-UNet paper) and `unet` (004). Where a
document is silent or unclear, the class says what was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.config import ModelConfig
from maskwright.models.attention import Attention, SkipAttention
from maskwright.models.blocks import (
    ConvNormAct,
    DoubleConv,
    Norm,
    Up,
    Upsample,
    depth_rates,
    initialise,
    make_stochastic_depth,
    make_upsampler,
    pad_to_multiple,
)
from maskwright.models.bottleneck import make_bottleneck
from maskwright.models.heads import NoHeads
from maskwright.models.supervision import make_outputs
from maskwright.tensors import Images, Logits, Outputs


class Features(NamedTuple):
    """What the encoder hands to the decoder."""

    half: Tensor  # B 64 H/2 W/2
    pooled: Tensor  # B 64 H/4 W/4, before the first residual block
    quarter: Tensor  # B 64 H/4 W/4
    eighth: Tensor  # B 128 H/8 W/8
    sixteenth: Tensor  # B 256 H/16 W/16
    last: Tensor  # B 512 H/32 W/32


class BasicBlock(nn.Module):
    """relu(shortcut(x) + conv(relu(conv(x)))), batch norm after each convolution; `drop` as in StochasticDepth."""

    def __init__(self, channels: int, out: int, stride: int, drop: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.drop = make_stochastic_depth(drop)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu(self.bn1(self.conv1(x)))  # B out H/s W/s
        residual = self.drop(self.bn2(self.conv2(residual)))  # B out H/s W/s
        out: Tensor = self.relu(residual.add_(self.downsample(x)))  # B out H/s W/s
        return out


def _stage(channels: int, out: int, blocks: int, stride: int, drops: Iterator[float]) -> nn.Sequential:
    first = BasicBlock(channels, out, stride, next(drops))
    return nn.Sequential(first, *(BasicBlock(out, out, 1, next(drops)) for _ in range(blocks - 1)))


class ResNet34(nn.Module):
    """The encoder. Its tensors are named as in torchvision and timm, so that their weights load.

    `stochastic_depth` is the share of training steps in which the last of its 16 blocks is left out (`depth_rates`).
    """

    def __init__(self, in_channels: int, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        drops = iter(depth_rates(stochastic_depth, 16))
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks=3, stride=1, drops=drops)
        self.layer2 = _stage(64, 128, blocks=4, stride=2, drops=drops)
        self.layer3 = _stage(128, 256, blocks=6, stride=2, drops=drops)
        self.layer4 = _stage(256, 512, blocks=3, stride=2, drops=drops)

    def forward(self, images: Images) -> Features:
        half = self.relu(self.bn1(self.conv1(images)))  # B 64 H/2 W/2
        pooled = self.maxpool(half)  # B 64 H/4 W/4
        quarter = self.layer1(pooled)  # B 64 H/4 W/4
        eighth = self.layer2(quarter)  # B 128 H/8 W/8
        sixteenth = self.layer3(eighth)  # B 256 H/16 W/16
        last = self.layer4(sixteenth)  # B 512 H/32 W/32
        return Features(half, pooled, quarter, eighth, sixteenth, last)


class Decoded(NamedTuple):
    """What a decoder hands on."""

    logits: Logits  # B K H W
    coarser: list[Tensor]  # the levels that have no logits yet, finer ones first, for deep supervision
    last: Tensor  # what the logits are made of: B C H/stride W/stride


class WideDecoder(nn.Module):
    """Document 001: 256, 128, 64, 64 channels; its own recipe has norm `none`.

    Its last skip is the pooled stem at H/4, interpolated to the H/2 of the decoder; the logits are made
    at H/2 and interpolated to full size, so the next coarser level is H/4.
    """

    multiple = 32
    stride = 2
    coarser = (64, 128, 256)
    """Channels of H/4, H/8, H/16."""

    def __init__(self, config: ModelConfig, out_channels: int) -> None:
        super().__init__()
        parts = config.norm, config.upsample, config.attention
        self.bottleneck = nn.Sequential(
            *make_bottleneck(config.bottleneck, 512, config.norm), nn.Dropout2d(config.dropout)
        )
        self.up4 = Up(512, 256, 256, *parts)
        self.up3 = Up(256, 128, 128, *parts)
        self.up2 = Up(128, 64, 64, *parts)
        self.up1 = Up(64, 64, 64, *parts)
        self.head = nn.Conv2d(64, out_channels, 1)

    def forward(self, features: Features) -> Decoded:
        stem = F.interpolate(features.pooled, scale_factor=2.0, mode="bilinear", align_corners=False)  # H/2
        last = self.bottleneck(features.last)  # B 512 H/32 W/32
        sixteenth = self.up4(last, skip=features.sixteenth)  # B 256 H/16 W/16
        eighth = self.up3(sixteenth, skip=features.eighth)  # B 128 H/8 W/8
        quarter = self.up2(eighth, skip=features.quarter)  # B 64 H/4 W/4
        half = self.up1(quarter, skip=stem)  # B 64 H/2 W/2
        logits = self.head(half)  # B K H/2 W/2
        full = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)  # B K H W
        return Decoded(full, [quarter, eighth, sixteenth], half)


class FuseUp(nn.Module):
    """Document 002's step: put the skip beside, up-sample both to a few channels, two convolutions.

    The skip is as large as what comes from below, and so is what gates it.
    """

    def __init__(
        self,
        channels: int,
        skip: int,
        out: int,
        norm: Norm,
        upsample: Upsample,
        attention: Sequence[Attention],
    ) -> None:
        super().__init__()
        self.up = make_upsampler(upsample, channels + skip, out)
        self.conv = DoubleConv(out, out, norm)
        self.attend = SkipAttention(attention, skip, gating=channels, stride=1)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        skip = self.attend(skip, coarse)  # B skip H W
        both = torch.cat([coarse, skip], dim=1)  # B channels+skip H W
        fine = self.up(both)  # B out 2H 2W
        out: Tensor = self.conv(fine)  # B out 2H 2W
        return out


class NarrowDecoder(nn.Module):
    """Document 002: a 1x1 bridge from 512 to 256 channels beside the encoder's 512, then `width` channels
    (32 there) on every level; the skip of 256 is scaled to 512; the head has no ReLU.

    Its listing does not say what comes first within a step. Up-sampling does here: the other order would
    end in three linear layers in a row, one decision for each 4x4 patch.
    """

    multiple = 32
    stride = 1

    def __init__(self, config: ModelConfig, out_channels: int) -> None:
        super().__init__()
        width, parts = config.width, (config.norm, config.upsample, config.attention)
        self.coarser = (width,) * 4  # H/2, H/4, H/8, H/16
        self.bridge = nn.Sequential(
            ConvNormAct(512, 256, config.norm, kernel=1),
            *make_bottleneck(config.bottleneck, 256, config.norm),
            nn.Dropout2d(config.dropout),
        )
        self.scale = nn.Conv2d(256, 512, 1)
        self.up4 = FuseUp(256, 512, width, *parts)
        self.up3 = FuseUp(width, 512, width, *parts)
        self.up2 = FuseUp(width, 128, width, *parts)
        self.up1 = FuseUp(width, 64, width, *parts)
        self.up0 = make_upsampler(config.upsample, width, width)
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, features: Features) -> Decoded:
        bridge = self.bridge(features.last)  # B 256 H/32 W/32
        scaled = self.scale(features.sixteenth)  # B 512 H/16 W/16
        sixteenth = self.up4(bridge, skip=features.last)  # B w H/16 W/16
        eighth = self.up3(sixteenth, skip=scaled)  # B w H/8 W/8
        quarter = self.up2(eighth, skip=features.eighth)  # B w H/4 W/4
        half = self.up1(quarter, skip=features.quarter)  # B w H/2 W/2
        full = self.up0(half)  # B w H W
        return Decoded(self.head(full), [half, quarter, eighth, sixteenth], full)


class UNetDecoder(nn.Module):
    """Document 004: the UNet's own bottleneck and decoder, 1024, 512, 256, 128, 64 channels.

    The encoder's stages have the UNet's channels, so its parts fit unchanged, at an eighth of the UNet's
    size. The document is silent on the rest of the way: here the stem joins at H/2, and a last
    up-sampling leads to full size.
    """

    multiple = 64
    stride = 1
    coarser = (64, 64, 128, 256, 512)
    """Channels of H/2 to H/32."""

    def __init__(self, config: ModelConfig, out_channels: int) -> None:
        super().__init__()
        parts = config.norm, config.upsample, config.attention
        self.halve = nn.MaxPool2d(2)
        self.bottleneck = nn.Sequential(
            DoubleConv(512, 1024, config.norm),
            *make_bottleneck(config.bottleneck, 1024, config.norm),
            nn.Dropout2d(config.dropout),
        )
        self.up5 = Up(1024, 512, 512, *parts)
        self.up4 = Up(512, 256, 256, *parts)
        self.up3 = Up(256, 128, 128, *parts)
        self.up2 = Up(128, 64, 64, *parts)
        self.up1 = Up(64, 64, 64, *parts)
        self.up0 = make_upsampler(config.upsample, 64, 64)
        self.head = nn.Conv2d(64, out_channels, 1)

    def forward(self, features: Features) -> Decoded:
        bottom = self.bottleneck(self.halve(features.last))  # B 1024 H/64 W/64
        last = self.up5(bottom, skip=features.last)  # B 512 H/32 W/32
        sixteenth = self.up4(last, skip=features.sixteenth)  # B 256 H/16 W/16
        eighth = self.up3(sixteenth, skip=features.eighth)  # B 128 H/8 W/8
        quarter = self.up2(eighth, skip=features.quarter)  # B 64 H/4 W/4
        half = self.up1(quarter, skip=features.half)  # B 64 H/2 W/2
        full = self.up0(half)  # B 64 H W
        return Decoded(self.head(full), [half, quarter, eighth, sixteenth, last], full)


Decoder = WideDecoder | NarrowDecoder | UNetDecoder
DECODERS: dict[str, type[Decoder]] = {"wide": WideDecoder, "narrow": NarrowDecoder, "unet": UNetDecoder}


class ResNet34UNet(nn.Module):
    """Pictures B C H W -> logits B K H W, any H, W >= 1 (padded to multiples of 32, or 64 for `unet`).

    The encoder always has batch norm; `norm` and `upsample` decide about the decoder, `attention` about
    its skips, `bottleneck` and `dropout` about the channels that enter it at the bottom, `width` about the
    narrow one alone, `stochastic_depth` about the encoder's blocks. With `deep_supervision`, training gets
    the logits of each decoder level, B K H/2^i W/2^i (rounded up), full size first; `wide` has none at H/2,
    where its full ones are made. Training needs more than one value per channel at the bottom: two
    pictures, or sides above the multiple.
    """

    def __init__(self, config: ModelConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encoder = ResNet34(in_channels, config.stochastic_depth)
        self.decoder = DECODERS[config.decoder](config, out_channels)
        heads = (nn.Conv2d(channels, out_channels, 1) for channels in self.decoder.coarser)
        self.outputs = make_outputs(config.deep_supervision, heads, out_channels)
        self.auxiliary = NoHeads(self.decoder.head.in_channels, self.decoder.stride)
        initialise(self, self.decoder.head, self.outputs)

    @classmethod
    def build(cls, config: ModelConfig, in_channels: int, out_channels: int) -> Self:
        return cls(config, in_channels, out_channels)

    def forward(self, images: Images) -> Logits | list[Logits] | Outputs:
        padded = pad_to_multiple(images, self.decoder.multiple)  # B C H W
        features = self.encoder(padded)  # H/2 ... H/32
        full, coarser, last = self.decoder(features)  # B K H W, H/2 ..., and B C H W
        logits = self.outputs(full, coarser, images)  # B K H W
        outputs: Logits | list[Logits] | Outputs = self.auxiliary(logits, last, images)  # and B A H W
        return outputs
