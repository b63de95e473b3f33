"""What may follow the deepest convolutions: a look at several scales, or at everything at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models.blocks import ConvNormAct, Norm

Bottleneck: TypeAlias = Literal["aspp", "transformer"]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017, figure 5): B C H W -> B out H W.

    Beside each other: a 1x1 convolution, a 3x3 one for each dilation of `rates`, and the mean over the whole
    map; `branch` channels each, joined by a 1x1 convolution. The paper's rates, 6, 12 and 18, are for maps 33
    pixels wide; a UNet's bottleneck has 8 to 16, hence a third of them. The mean's branch has a bias instead of a
    norm: it sees one value per picture and channel, which a batch of one cannot normalise.
    """

    def __init__(
        self, channels: int, out: int, branch: int, norm: Norm, rates: Sequence[int] = (2, 4, 6)
    ) -> None:
        super().__init__()
        self.point = ConvNormAct(channels, branch, norm, kernel=1)
        self.atrous = nn.ModuleList(ConvNormAct(channels, branch, norm, dilation=rate) for rate in rates)
        self.pooled = ConvNormAct(channels, branch, "none", kernel=1)
        self.project = ConvNormAct((len(rates) + 2) * branch, out, norm, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        point = self.point(x)  # B branch H W
        scales = [atrous(x) for atrous in self.atrous]  # each B branch H W
        whole = self.pooled(x.mean((2, 3), keepdim=True)).expand_as(point)  # B branch H W
        out: Tensor = self.project(torch.cat([point, *scales, whole], dim=1))  # B out H W
        return out


def sinusoids(x: Tensor) -> Tensor:
    """Positions of the pixels of B C H W as H W C: sines and cosines of row and column (Vaswani et al. 2017,
    section 3.5, in two dimensions), wavelengths from 2 pi towards 20000 pi pixels, any size.

    Channels 4i to 4i+3 are sin(f_i row), cos(f_i row), sin(f_i column), cos(f_i column), f_i = 10000^(-4i/C).
    """
    (channels, height, width), precise = x.shape[1:], torch.promote_types(x.dtype, torch.float32)
    steps = torch.arange(0, channels, 4, device=x.device, dtype=precise)
    frequencies = 10000 ** (-steps / channels)  # C/4
    rows = torch.arange(height, device=x.device, dtype=precise)[:, None] * frequencies  # H C/4
    columns = torch.arange(width, device=x.device, dtype=precise)[:, None] * frequencies  # W C/4
    down, across = rows[:, None].expand(-1, width, -1), columns.expand(height, -1, -1)  # H W C/4
    waves = torch.stack([down.sin(), down.cos(), across.sin(), across.cos()], dim=-1)  # H W C/4 4
    return waves.flatten(2)[..., :channels].to(x.dtype)


def count_heads(channels: int) -> int:
    """As many as divide `channels` and leave each head at least 32; at least one."""
    return max(heads for heads in range(1, max(channels // 32, 1) + 1) if channels % heads == 0)


class EncoderLayer(nn.Module):
    """Self-attention, then an MLP four times as wide, each behind a norm and beside a shortcut.

    Vaswani et al. 2017, figure 1 (left), with the norms in front (Xiong et al. 2020). B N C -> B N C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = count_heads(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.mix = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        per_head = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1))  # B N 3 h C/h
        query, key, value = per_head.permute(2, 0, 3, 1, 4).unbind()  # each B h N C/h
        seen = F.scaled_dot_product_attention(query, key, value)  # B h N C/h
        tokens = tokens + self.mix(seen.transpose(1, 2).flatten(2))  # B N C
        out: Tensor = tokens + self.mlp(self.norm2(tokens))  # B N C
        return out


class Transformer(nn.Module):
    """Every pixel of the map looks at every other: two encoder layers and a last norm, B C H W -> B C H W."""

    def __init__(self, channels: int, layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(EncoderLayer(channels) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = (x.permute(0, 2, 3, 1) + sinusoids(x)).flatten(1, 2)  # B HW C
        tokens = self.norm(self.layers(tokens))  # B HW C
        out: Tensor = tokens.transpose(1, 2).unflatten(2, x.shape[-2:])  # B C H W
        return out


def make_bottleneck(kinds: Sequence[Bottleneck], channels: int, norm: Norm) -> list[nn.Module]:
    """`kinds` in their order, each from `channels` to `channels`; ASPP's branches have a quarter of them."""
    return [_make_part(kind, channels, norm) for kind in kinds]


def _make_part(kind: Bottleneck, channels: int, norm: Norm) -> nn.Module:
    match kind:
        case "aspp":
            return ASPP(channels, channels, max(channels // 4, 1), norm)
        case "transformer":
            return Transformer(channels)
