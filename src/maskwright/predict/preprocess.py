"""The one place where pictures become network input, and logits come back to the picture's size.

Everything is float from the decoded picture on, so that training, prediction and every export agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskwright.fit import fit_images, unfit
from maskwright.tensors import Images, Logits

Fit = Literal["resize", "letterbox", "crop"]
Normalise = Literal["unit", "symmetric", "imagenet", "dataset", "image"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Red, green, blue of the ILSVRC 2012 training pictures in [0, 1]: what pretrained encoders expect."""

FLAT = 1e-3
"""Smallest deviation that is divided by, a quarter of an 8-bit grey level: flat pictures become 0."""


class Preprocess(nn.Module):
    """Native pictures in [0, 1] -> what the network sees; its logits -> the native size.

    `size` is (height, width) of the network's input. `crop` leaves the scale alone: there the network sees
    the whole picture at its own size. `mean` and `deviation` are the data set's, one per channel, of pictures
    in [0, 1]; their length is the number of channels, their values matter for `dataset` only.

    normalise: `unit` x; `symmetric` 2x - 1; `imagenet` (x - mean) / deviation with the figures above, where a
    grey picture takes their mean over the colours, and so does a fourth channel; `dataset` the same with the
    data set's figures; `image` the picture's own mean and deviation over all its pixels and channels.
    """

    mean: Float[Tensor, "C 1 1"]
    deviation: Float[Tensor, "C 1 1"]

    def __init__(
        self,
        size: tuple[int, int],
        fit: Fit,
        normalise: Normalise,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        super().__init__()
        self.size, self.fit, self.kind = size, fit, normalise
        centre, spread = _figures(normalise, mean, deviation)
        # Not persistent: a model folder keeps them in config.json, and its weights are the network's alone.
        self.register_buffer("mean", torch.tensor(centre).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(spread).view(-1, 1, 1), persistent=False)

    @property
    def fill(self) -> Float[Tensor, " C"]:
        """The colour in [0, 1] that means "nothing here": it normalises to 0 (`image`: mid-grey).

        Letterbox bars and what augmentation brings in from outside the picture have it.
        """
        return self.mean.flatten()

    def normalise(self, images_BCHW: Images) -> Images:
        """Pictures in [0, 1] at any size -> network input, values around 0."""
        if self.kind != "image":
            return (images_BCHW - self.mean) / self.deviation
        mean = images_BCHW.mean(dim=(1, 2, 3), keepdim=True)
        deviation = (images_BCHW - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return (images_BCHW - mean) / deviation.clamp(min=FLAT)

    def forward(self, images_BCHW: Images) -> Images:
        """Native pictures in [0, 1] -> network input of `size` (of their own size where fit is crop)."""
        return self.normalise(fit_images(images_BCHW, self.size, self.fit, self.fill))

    def restore(self, logits_BCHW: Logits, native_hw: tuple[int, int]) -> Logits:
        """Logits of the network's size -> logits of the picture's (height, width), bars cut away."""
        return unfit(logits_BCHW, native_hw, self.size, self.fit)


def _figures(
    normalise: Normalise, mean: Sequence[float], deviation: Sequence[float]
) -> tuple[list[float], list[float]]:
    """What is subtracted and what is divided by, one per channel."""
    channels = len(mean)
    if normalise == "unit":
        return [0.0] * channels, [1.0] * channels
    if normalise in ("symmetric", "image"):  # for `image` only the fill is used
        return [0.5] * channels, [0.5] * channels
    if normalise == "imagenet":
        return _per_channel(IMAGENET_MEAN, channels), _per_channel(IMAGENET_DEVIATION, channels)
    return [float(value) for value in mean], [max(float(value), FLAT) for value in deviation]


def _per_channel(colours: tuple[float, float, float], channels: int) -> list[float]:
    grey = sum(colours) / 3
    return [*colours, *[grey] * (channels - 3)] if channels >= 3 else [grey] * channels
