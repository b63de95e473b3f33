"""What leaves a network: logits, or in training those of several of its levels (Lee et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models.blocks import Blend, crop
from maskwright.tensors import Images, Logits

DeepSupervision: TypeAlias = Literal["none", "levels", "fused"]


def crop_level(level: Logits, full: Logits, images: Images) -> Logits:
    """Of a level s times smaller than the padded `full`, the pixels that hold anything of `images`.

    B K H/s W/s, rounded up.
    """
    rows, columns = full.shape[-2] // level.shape[-2], full.shape[-1] // level.shape[-1]
    return crop(level, -(-images.shape[-2] // rows), -(-images.shape[-1] // columns))


class FullOutput(nn.Module):
    """The logits of the last level, in training as in evaluation: B K H W."""

    def forward(self, full: Logits, _others: Sequence[Tensor], images: Images) -> Logits:
        return crop_level(full, full, images)


class LevelOutputs(nn.Module):
    """In training the logits of all levels, the last level of the network first; in evaluation the first alone."""

    def __init__(self, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, full: Logits, others: Sequence[Tensor], images: Images) -> Logits | list[Logits]:
        if not self.training:
            return crop_level(full, full, images)
        levels = [full, *(head(other) for head, other in zip(self.heads, others, strict=True))]
        return [crop_level(level, full, images) for level in levels]


class FusedOutputs(nn.Module):
    """One more output in front: a 1x1 convolution over all levels' logits, interpolated to full size.

    It starts as their mean. In training it comes first, the levels follow; in evaluation it is alone.
    """

    def __init__(self, heads: Iterable[nn.Module], out_channels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.blend = Blend(len(self.heads) + 1, out_channels)

    def forward(self, full: Logits, others: Sequence[Tensor], images: Images) -> Logits | list[Logits]:
        levels = [full, *(head(other) for head, other in zip(self.heads, others, strict=True))]
        aligned = [
            F.interpolate(level, size=full.shape[-2:], mode="bilinear", align_corners=False)
            for level in levels
        ]
        fused = self.blend(torch.cat(aligned, dim=1))  # B K H W
        if not self.training:
            return crop_level(fused, full, images)
        return [crop_level(level, full, images) for level in [fused, *levels]]


def make_outputs(
    kind: DeepSupervision, heads: Iterable[nn.Module], out_channels: int
) -> FullOutput | LevelOutputs | FusedOutputs:
    """What to do with (full logits, features of the other levels, pictures).

    `heads` turn these features into logits, one each; without deep supervision none is made.
    """
    match kind:
        case "none":
            return FullOutput()
        case "levels":
            return LevelOutputs(heads)
        case "fused":
            return FusedOutputs(heads, out_channels)
