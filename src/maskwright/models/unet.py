"""UNet (Ronneberger, Fischer & Brox 2015, figure 1), padded so that masks are as large as pictures.

Document 001 and 002: norm `none`. Document 004: norm `batch` and dropout 0.1 in the bottleneck. Document
003 adds attention, ASPP and deep supervision; `maskwright.config.PRESETS` names the usual combinations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import nn

from maskwright.config import ModelConfig
from maskwright.models.attention import Attention
from maskwright.models.blocks import DoubleConv, Norm, Up, Upsample, initialise, pad_to_multiple
from maskwright.models.bottleneck import Bottleneck, make_bottleneck
from maskwright.models.heads import NoHeads
from maskwright.models.supervision import DeepSupervision, make_outputs
from maskwright.tensors import Images, Logits, Outputs


class UNet(nn.Module):
    """Pictures B C H W -> logits B K H W, any H, W >= 1 (padded to multiples of 2^depth, cut back).

    `width` channels on the first level (64 in the paper), twice as many after each of `depth` halvings.
    `attention` filters every skip, `bottleneck` follows the deepest convolutions, `dropout` drops whole
    channels behind them. With `deep_supervision`, training gets the logits of each decoder level, B K H/2^i
    W/2^i (rounded up), full size first. Training needs more than one value per channel at the bottom: two
    pictures, or sides above 2^depth.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        depth: int = 4,
        norm: Norm = "none",
        dropout: float = 0.0,
        upsample: Upsample = "transpose",
        attention: Sequence[Attention] = (),
        bottleneck: Sequence[Bottleneck] = (),
        deep_supervision: DeepSupervision = "none",
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.multiple = 2**depth
        self.encoder = nn.ModuleList(
            DoubleConv(channels, out, norm)
            for channels, out in zip([in_channels, *widths], widths[:-1], strict=False)
        )
        self.halve = nn.MaxPool2d(2)
        self.bottleneck = nn.Sequential(
            DoubleConv(widths[-2], widths[-1], norm),
            *make_bottleneck(bottleneck, widths[-1], norm),
            nn.Dropout2d(dropout),
        )
        self.decoder = nn.ModuleList(
            Up(2 * skip, skip, skip, norm, upsample, attention) for skip in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(width, out_channels, 1)
        heads = (nn.Conv2d(channels, out_channels, 1) for channels in widths[1:-1])
        self.outputs = make_outputs(deep_supervision, heads, out_channels)
        self.auxiliary = NoHeads(width)
        initialise(self, self.head, self.outputs)

    @classmethod
    def build(cls, config: ModelConfig, in_channels: int, out_channels: int) -> Self:
        return cls(
            in_channels,
            out_channels,
            width=config.width,
            depth=config.depth,
            norm=config.norm,
            dropout=config.dropout,
            upsample=config.upsample,
            attention=config.attention,
            bottleneck=config.bottleneck,
            deep_supervision=config.deep_supervision,
        )

    def forward(self, images: Images) -> Logits | list[Logits] | Outputs:
        x = pad_to_multiple(images, self.multiple)  # B C H W
        skips = []
        for level in self.encoder:
            x = level(x)  # B w·2^i H/2^i W/2^i
            skips.append(x)
            x = self.halve(x)  # B w·2^i H/2^(i+1) W/2^(i+1)
        x = self.bottleneck(x)  # B w·2^d H/2^d W/2^d
        levels = []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(x, skip)  # B w·2^i H/2^i W/2^i
            levels.append(x)
        full, *coarser = reversed(levels)  # B w H W, B 2w H/2 W/2, ...
        logits = self.outputs(self.head(full), coarser, images)  # B K H W
        outputs: Logits | list[Logits] | Outputs = self.auxiliary(logits, full, images)  # and B A H W
        return outputs
