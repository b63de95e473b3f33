"""The parts that networks are made of, their first weights, and the padding that lets any size through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models.attention import Attention, SkipAttention, SqueezeExcite
from maskwright.tensors import Images, Logits

Norm: TypeAlias = Literal["none", "batch", "group", "layer"]
Upsample: TypeAlias = Literal["transpose", "bilinear", "subpixel"]


class LayerNorm(nn.LayerNorm):
    """Each pixel alone, over its channels (Ba et al. 2016, as ConvNeXt does it): B C H W -> B C H W."""

    def forward(self, input: Tensor) -> Tensor:
        channels_last = super().forward(input.permute(0, 2, 3, 1))  # B H W C: a view under channels_last
        return channels_last.permute(0, 3, 1, 2)


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """How activations are brought to mean 0 and variance 1, then scaled and shifted per channel.

    none: not at all. batch: per channel over the batch and all pixels, running figures at prediction
    (Ioffe & Szegedy 2015). group: per picture over groups of 16 channels, or of the largest smaller power
    of two that divides `channels` (Wu & He 2018). layer: per pixel over all channels.
    """
    match kind:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(channels // math.gcd(channels, 16), channels)
        case "layer":
            return LayerNorm(channels)


class ConvNormAct(nn.Sequential):
    """Convolution that keeps the size, norm, ReLU. The norm's shift replaces the convolution's bias."""

    def __init__(self, channels: int, out: int, norm: Norm, kernel: int = 3, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(channels, out, kernel, padding=padding, dilation=dilation, bias=norm == "none"),
            make_norm(norm, out),
            nn.ReLU(inplace=True),
        )


class DoubleConv(nn.Sequential):
    """Two 3x3 ConvNormAct: the pair of blue arrows in the figure of the UNet, padded."""

    def __init__(self, channels: int, out: int, norm: Norm) -> None:
        super().__init__(ConvNormAct(channels, out, norm), ConvNormAct(out, out, norm))


class UpConv(nn.ConvTranspose2d):
    """The UNet's up-conv: a 2x2 transposed convolution of stride 2, B C H W -> B out 2H 2W.

    Patches do not overlap, so it is a 1x1 convolution to four pixels each and their interleaving. Written
    like that its gradient in bf16 costs a fifth on a CPU: 7 % of a training step of resnet34-unet.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 2, stride=2)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        (batch, _, height, width), out = input.shape, self.out_channels
        weight = self.weight.permute(2, 3, 1, 0).reshape(4 * out, -1, 1, 1)  # (row, column, out) C 1 1
        bias = None if self.bias is None else self.bias.repeat(4)
        four = F.conv2d(input, weight, bias).permute(0, 2, 3, 1)  # B H W (row, column, out)
        patches = four.reshape(batch, height, width, 2, 2, out).transpose(2, 3)  # B H row W column out
        return patches.reshape(batch, 2 * height, 2 * width, out).permute(0, 3, 1, 2)


class SubPixel(nn.Module):
    """A 3x3 convolution gives four values per pixel, which become a 2x2 patch (Shi et al. 2016)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 4 * out, 3, padding=1)

    def forward(self, coarse: Tensor) -> Tensor:
        return F.pixel_shuffle(self.expand(coarse), 2)  # B out 2H 2W


def make_upsampler(kind: Upsample, channels: int, out: int) -> nn.Module:
    """Twice the height and width, from `channels` to `out`.

    transpose: see UpConv. bilinear: 1x1 convolution, then
    interpolation; the two commute, and this order is four times cheaper. subpixel: see SubPixel.
    """
    match kind:
        case "transpose":
            return UpConv(channels, out)
        case "bilinear":
            return nn.Sequential(
                nn.Conv2d(channels, out, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            )
        case "subpixel":
            return SubPixel(channels, out)


class StochasticDepth(nn.Module):
    """The end of a residual branch that is left out in some training steps (Huang et al. 2016).

    Training: each picture of B ... is multiplied by b / (1 - p), b = 0 with `probability` p and 1 otherwise, so that
    the mean is what evaluation gives, which changes nothing. (The paper has the mirror image: b in training, 1 - p in
    evaluation.) The draws are torch's, which a training step seeds by its number, as for dropout.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, residual: Tensor) -> Tensor:
        if not self.training:
            return residual
        kept = residual.new_empty(len(residual), *(1,) * (residual.ndim - 1)).bernoulli_(1 - self.probability)
        return residual * kept.div_(1 - self.probability)

    def extra_repr(self) -> str:
        return f"{self.probability:g}"


def depth_rates(last: float, blocks: int) -> list[float]:
    """The linear rule of Huang et al. 2016, equation 4: block i of n >= 2, counted from 0, is left out with
    probability last * i / (n - 1). As in timm the first block always stays; the paper's has last / n."""
    return [last * i / (blocks - 1) for i in range(blocks)]


def make_stochastic_depth(probability: float) -> nn.Module:
    """See StochasticDepth; of probability 0 nothing at all."""
    return StochasticDepth(probability) if probability else nn.Identity()


class Up(nn.Module):
    """One step up the UNet: up-sample, put the skip (as `attention` lets it pass) beside, two convolutions."""

    def __init__(
        self,
        channels: int,
        skip: int,
        out: int,
        norm: Norm,
        upsample: Upsample,
        attention: Sequence[Attention] = (),
    ) -> None:
        super().__init__()
        self.up = make_upsampler(upsample, channels, out)
        self.conv = DoubleConv(skip + out, out, norm)
        self.attend = SkipAttention(attention, skip, gating=channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        # In one expression: a name would keep what is only needed to be put together, 2H 2W each.
        both = torch.cat([self.attend(skip, coarse), self.up(coarse)], dim=1)  # B skip+out 2H 2W
        out: Tensor = self.conv(both)  # B out 2H 2W
        return out


class Blend(nn.Conv2d):
    """`maps` maps of `channels`, concatenated, become one by a 1x1 convolution that starts as their mean."""

    def __init__(self, maps: int, channels: int) -> None:
        super().__init__(maps * channels, channels, 1)


def pad_to_multiple(images: Images, multiple: int) -> Images:
    """Repeat the last row and column until both sides are multiples of `multiple`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def crop(logits: Logits, height: int, width: int) -> Logits:
    """The upper left corner. A copy, also where nothing is cut: a slice would be a view whose strides tell
    torch.export whether the padding was 0, and what it exports would then run at such sizes alone."""
    return F.pad(logits, (0, width - logits.shape[-1], 0, height - logits.shape[-2]))


def crop_like(logits: Logits, images: Images) -> Logits:
    """Cut away what `pad_to_multiple` added to `images`."""
    return crop(logits, images.shape[-2], images.shape[-1])


def initialise(model: nn.Module, *heads: nn.Module) -> None:
    """He initialisation for ReLU, fan-in (He et al. 2015, equation 10; the UNet's rule too); biases 0.

    A pixel of a 2x2, stride 2 transposed convolution sees one tap, so its fan-in is the channel count.
    Sub-pixel convolutions start with four equal values, free of checkerboards (Aitken et al. 2017). The
    heads have no ReLU behind them: weights of variance 1 / fan-in. Smaller ones may all turn negative in the
    first steps, and as their inputs are not, the foreground could then not be said at all. Attention keeps
    torch's own weights, of a sixth of He's variance: from his its sigmoids would start saturated.
    """
    attention = [module for module in model.modules() if isinstance(module, SkipAttention | SqueezeExcite)]
    spared = {part for module in attention for part in module.modules()}
    for module in model.modules():
        if module in spared:
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, SubPixel):
            weight = module.expand.weight.detach()
            weight.copy_(weight[::4].repeat_interleave(4, dim=0))
    for module in (part for head in heads for part in head.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=math.sqrt(1 / module.in_channels))
    for module in model.modules():
        if isinstance(module, Blend):
            maps = module.in_channels // module.out_channels
            module.weight.detach().copy_(
                torch.eye(module.out_channels).repeat(1, maps)[..., None, None] / maps
            )
