"""UNet++ (Zhou et al. 2018, figure 1): a UNet whose skips are filled with convolutions, padded."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from maskwright.config import ModelConfig
from maskwright.models.blocks import DoubleConv, Norm, Up, Upsample, initialise, pad_to_multiple
from maskwright.models.heads import NoHeads
from maskwright.models.supervision import DeepSupervision, make_outputs
from maskwright.tensors import Images, Logits, Outputs


class UNetPlusPlus(nn.Module):
    """Pictures B C H W -> logits B K H W, any H, W >= 1 (padded to multiples of 2^depth, cut back).

    Node X^{i,j} stands at 1/2^i of the size with width 2^i channels (32 and depth 4 in the paper). X^{i,0} is the
    encoder; X^{i,j} = H([X^{i,0}, ..., X^{i,j-1}, U(X^{i+1,j-1})]), equation 1, with H two convolutions.
    `dropout` drops whole channels of the deepest node.

    Deep supervision is the paper's: a head on each of X^{0,d}, ..., X^{0,1}, so all levels are at full size,
    and evaluation returns that of X^{0,d} (its `fast` mode). `fused` starts as their mean, which is its `accurate`
    mode but for averaging logits. Training needs more than one value per channel at the bottom.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        depth: int = 4,
        norm: Norm = "none",
        dropout: float = 0.0,
        upsample: Upsample = "transpose",
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
        self.bottleneck = nn.Sequential(DoubleConv(widths[-2], widths[-1], norm), nn.Dropout2d(dropout))
        self.columns = nn.ModuleList(
            nn.ModuleList(Up(2 * out, j * out, out, norm, upsample) for out in widths[: depth + 1 - j])
            for j in range(1, depth + 1)
        )
        self.head = nn.Conv2d(width, out_channels, 1)
        heads = (nn.Conv2d(width, out_channels, 1) for _ in range(depth - 1))
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
            deep_supervision=config.deep_supervision,
        )

    def forward(self, images: Images) -> Logits | list[Logits] | Outputs:
        x = pad_to_multiple(images, self.multiple)  # B C H W
        rows: list[list[Tensor]] = []  # rows[i][j] is X^{i,j}
        for level in self.encoder:
            x = level(x)  # X^{i,0}: B w·2^i H/2^i W/2^i
            rows.append([x])
            x = self.halve(x)  # B w·2^i H/2^(i+1) W/2^(i+1)
        rows.append([self.bottleneck(x)])  # X^{d,0}: B w·2^d H/2^d W/2^d
        for column in self.columns:  # j = 1, ..., d
            below = [row[-1] for row in rows[1:]]  # X^{i+1,j-1}
            for i, node in enumerate(column.children()):
                row = torch.cat(rows[i], dim=1)  # B j·w·2^i H/2^i W/2^i
                rows[i].append(node(below[i], skip=row))  # X^{i,j}: B w·2^i H/2^i W/2^i
        _, *others, last = rows[0]  # X^{0,1}, ..., X^{0,d}: B w H W
        logits = self.outputs(self.head(last), others[::-1], images)  # B K H W
        outputs: Logits | list[Logits] | Outputs = self.auxiliary(logits, last, images)  # and B A H W
        return outputs
