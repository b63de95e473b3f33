"""SETR (Zheng et al. 2021, "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with
Transformers", figure 1): a Vision Transformer whose tokens are put back in place, and a small decoder.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models.blocks import ConvNormAct, crop_like, initialise, pad_to_multiple
from maskwright.tensors import Images, Logits

Upsampling = Literal["naive", "pup"]

WIDTH = 256
"""Channels of either decoder (section 3.3)."""


class VisionTransformer(Protocol):
    """What SETR asks of its encoder; timm's Vision Transformers have it."""

    embed_dim: int
    num_prefix_tokens: int

    def forward_features(self, x: Tensor) -> Tensor:
        """B C H W -> B (prefix + H/p * W/p) D, row by row, normalised; any H, W that are multiples of p."""
        ...


class NaiveDecoder(nn.Sequential):
    """1x1 convolution, batch norm, ReLU, 1x1 convolution: B D h w -> B K h w."""

    def __init__(self, channels: int, out_channels: int, dropout: float) -> None:
        head = nn.Conv2d(WIDTH, out_channels, 1)
        super().__init__(nn.Dropout2d(dropout), ConvNormAct(channels, WIDTH, "batch", kernel=1), head)
        initialise(self, head)


class ProgressiveDecoder(nn.Sequential):
    """PUP: `doublings` times a 3x3 convolution, batch norm, ReLU and twice the size, then a 1x1 convolution:
    B D h w -> B K 2^doublings*h 2^doublings*w. Four doublings in the paper, whose patches are 16 pixels wide."""

    def __init__(self, channels: int, out_channels: int, dropout: float, doublings: int) -> None:
        head = nn.Conv2d(WIDTH, out_channels, 1)
        steps: list[nn.Module] = [nn.Dropout2d(dropout)]
        for step in range(doublings):
            steps.append(ConvNormAct(WIDTH if step else channels, WIDTH, "batch"))
            steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        super().__init__(*steps, head)
        initialise(self, head)


def make_decoder(
    kind: Upsampling, channels: int, out_channels: int, dropout: float, patch: int
) -> nn.Sequential:
    """naive: see NaiveDecoder. pup: see ProgressiveDecoder, with as many doublings as come closest to `patch`."""
    match kind:
        case "naive":
            return NaiveDecoder(channels, out_channels, dropout)
        case "pup":
            return ProgressiveDecoder(channels, out_channels, dropout, round(math.log2(patch)))


class SETR(nn.Module):
    """Pictures B C H W -> logits B K H W, any H, W >= 1 (padded to multiples of the patch, cut back).

    `encoder` is a timm Vision Transformer that takes any size (`dynamic_img_size`: its positions are resampled);
    its class token, which the paper's has not, is dropped behind the last block. The paper's auxiliary losses on
    earlier blocks are left out. `dropout` drops whole channels of the encoder's map. Training needs
    more than one token per channel for the batch norms: two pictures, or a side above the patch.
    """

    def __init__(
        self, encoder: nn.Module, patch: int, out_channels: int, kind: Upsampling, dropout: float = 0.0
    ) -> None:
        super().__init__()
        vit = cast(VisionTransformer, encoder)
        self.patch, self.prefix = patch, vit.num_prefix_tokens
        self.encoder = encoder
        self.decoder = make_decoder(kind, vit.embed_dim, out_channels, dropout, patch)

    def forward(self, images: Images) -> Logits:
        padded = pad_to_multiple(images, self.patch)  # B C H W
        rows, columns = padded.shape[-2] // self.patch, padded.shape[-1] // self.patch
        tokens = cast(VisionTransformer, self.encoder).forward_features(padded)  # B prefix+h*w D
        places = tokens[:, self.prefix :].transpose(1, 2)  # B D h*w
        coarse = places.reshape(*places.shape[:2], rows, columns)  # B D h w
        logits = self.decoder(coarse)  # B K h w, or nearly H W
        logits = F.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)  # B K H W
        return crop_like(logits, images)
