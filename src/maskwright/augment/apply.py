"""Augmentation on one screen: geometry of image and mask together, colour of the image, then mixing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maskwright.augment.colour import recolour
from maskwright.augment.geometry import move
from maskwright.augment.mix import mix
from maskwright.augment.params import AugmentParams
from maskwright.tensors import Batch


@torch.no_grad()
def apply(batch: Batch, params: AugmentParams, fill: Float[Tensor, " C"] | None = None) -> Batch:
    """The batch as `params` say, on the batch's own device; `batch` itself is not changed.

    Images are float32 in [0, 1], B C H W, and stay that. Labels are any integers in 0 .. 255, B H W, and keep
    their type (uint8 moves the least memory). What comes from outside a picture is `fill`, per channel in
    [0, 1] (default 0), and IGNORE. A picture that nothing is asked of comes back bit for bit. Only
    `batch.target.labels` is read; MixUp adds `others` and `weight`.
    """
    images, labels = move(batch.images, batch.target.labels, params, fill)
    return mix(recolour(images, params), labels, params)
