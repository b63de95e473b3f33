"""DoubleU-Net (Jha et al. 2020, its block diagram): two UNets, the second sees what the first has found.

Channels, which the diagram leaves open, are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from maskwright.config import ModelConfig
from maskwright.models.attention import SqueezeExcite
from maskwright.models.blocks import ConvNormAct, DoubleConv, Norm, initialise, pad_to_multiple
from maskwright.models.bottleneck import ASPP
from maskwright.models.heads import NoHeads
from maskwright.models.supervision import DeepSupervision, make_outputs
from maskwright.tensors import Images, Logits, Outputs

RATES = (6, 12, 18)
"""Dilations of both pyramids."""


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, then squeeze-and-excitation."""

    def __init__(self, channels: int, out: int, norm: Norm) -> None:
        super().__init__(DoubleConv(channels, out, norm), SqueezeExcite(out))


class VGG19(nn.Module):
    """The 16 convolutions of VGG-19 (Simonyan & Zisserman 2015, table 1, E), 2, 2, 4, 4 and 4 per stage.

    `width` channels in the first stage (64 there), then 2, 4, 8 and 8 times as many.
    """

    def __init__(self, channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for convolutions, out in zip(
            (2, 2, 4, 4, 4), (width, 2 * width, 4 * width, 8 * width, 8 * width), strict=True
        ):
            first = ConvNormAct(channels, out, norm)
            rest = (ConvNormAct(out, out, norm) for _ in range(convolutions - 1))
            self.stages.append(nn.Sequential(first, *rest))
            channels = out
        self.halve = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        *early, last = self.stages
        skips = []
        for stage in early:
            x = stage(x)  # B w·2^i H/2^i W/2^i
            skips.append(x)
            x = self.halve(x)  # B w·2^i H/2^(i+1) W/2^(i+1)
        return skips, last(x)  # B 8w H/16 W/16


class Encoder(nn.Module):
    """The second network's: a ConvBlock and a halving for each of `widths`."""

    def __init__(self, channels: int, widths: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            ConvBlock(before, out, norm) for before, out in zip([channels, *widths], widths, strict=False)
        )
        self.halve = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        skips = []
        for stage in self.stages:
            x = stage(x)  # B w·2^i H/2^i W/2^i
            skips.append(x)
            x = self.halve(x)  # B w·2^i H/2^(i+1) W/2^(i+1)
        return skips, x  # B 8w H/16 W/16


class Decoder(nn.Module):
    """For each of `widths`, the deepest first: up-sample bilinearly, put the skips beside, ConvBlock."""

    def __init__(self, channels: int, skips: Sequence[int], widths: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.steps = nn.ModuleList(
            ConvBlock(before + skip, out, norm)
            for before, skip, out in zip([channels, *widths], skips, widths, strict=False)
        )

    def forward(self, x: Tensor, skips: Iterable[Sequence[Tensor]]) -> Tensor:
        for step, beside in zip(self.steps, skips, strict=True):
            x = step(torch.cat([self.enlarge(x), *beside], dim=1))  # B out 2H 2W
        return x


class DualUNet(nn.Module):
    """Pictures B C H W -> logits B K H W, any H, W >= 1 (padded to multiples of 16, cut back).

    Network 1 is a VGG-19, a pyramid (ASPP) and a decoder; its probabilities multiply the picture, and network 2,
    whose decoder has the skips of both encoders, looks at the product. `width` is that of the finest decoder level,
    32 in the paper; VGG-19 then has its own 64. `dropout` drops whole channels behind the pyramids.

    Four things differ. The encoder starts from random weights, hence has `norm` as the rest has (`none`:
    VGG-19's own). The paper has one class; for K logits network 2 sees K copies of the picture, each multiplied by
    one class's probability. The paper judges both outputs: so does `deep_supervision=levels`, as [output 2,
    output 1], both at full size, and evaluation returns output 2. `fused` mixes them by a 1x1 convolution where the
    paper puts them side by side. And ASPP's mean has no norm. Training needs two pictures, or sides above 16.
    """

    multiple = 16

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        norm: Norm = "batch",
        dropout: float = 0.0,
        deep_supervision: DeepSupervision = "none",
    ) -> None:
        super().__init__()
        w = width
        self.encoder1 = VGG19(in_channels, 2 * w, norm)
        self.aspp1 = nn.Sequential(ASPP(16 * w, 2 * w, 2 * w, norm, RATES), nn.Dropout2d(dropout))
        self.decoder1 = Decoder(2 * w, (16 * w, 8 * w, 4 * w, 2 * w), (8 * w, 4 * w, 2 * w, w), norm)
        self.head1 = nn.Conv2d(w, out_channels, 1)
        self.probabilities = nn.Sigmoid() if out_channels == 1 else nn.Softmax(dim=1)
        self.encoder2 = Encoder(in_channels * out_channels, (w, 2 * w, 4 * w, 8 * w), norm)
        self.aspp2 = nn.Sequential(ASPP(8 * w, 2 * w, 2 * w, norm, RATES), nn.Dropout2d(dropout))
        self.decoder2 = Decoder(2 * w, (24 * w, 12 * w, 6 * w, 3 * w), (8 * w, 4 * w, 2 * w, w), norm)
        self.head2 = nn.Conv2d(w, out_channels, 1)
        self.outputs = make_outputs(deep_supervision, [nn.Identity()], out_channels)
        self.auxiliary = NoHeads(w)
        initialise(self, self.head1, self.head2, self.outputs)

    @classmethod
    def build(cls, config: ModelConfig, in_channels: int, out_channels: int) -> Self:
        return cls(
            in_channels,
            out_channels,
            width=config.width,
            norm=config.norm,
            dropout=config.dropout,
            deep_supervision=config.deep_supervision,
        )

    def forward(self, images: Images) -> Logits | list[Logits] | Outputs:
        padded = pad_to_multiple(images, self.multiple)  # B C H W
        skips1, bottom1 = self.encoder1(padded)  # B 2w H W ... B 16w H/16 W/16
        decoded1 = self.decoder1(self.aspp1(bottom1), zip(reversed(skips1)))  # B w H W
        output1 = self.head1(decoded1)  # B K H W
        found = self.probabilities(output1)  # B K H W
        product = (found[:, :, None] * padded[:, None]).flatten(1, 2)  # B K·C H W
        skips2, bottom2 = self.encoder2(product)  # B w H W ... B 8w H/16 W/16
        both = zip(reversed(skips1), reversed(skips2), strict=True)
        decoded2 = self.decoder2(self.aspp2(bottom2), both)  # B w H W
        output2 = self.head2(decoded2)  # B K H W
        logits = self.outputs(output2, [output1], images)  # B K H W
        outputs: Logits | list[Logits] | Outputs = self.auxiliary(logits, decoded2, images)  # and B A H W
        return outputs
