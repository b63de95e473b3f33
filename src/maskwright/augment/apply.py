"""Augmentation on one screen: geometry of image, mask and dense targets, colour of the image, then mixing."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from maskwright.augment.colour import recolour
from maskwright.augment.geometry import move, move_dense
from maskwright.augment.mix import mix, mix_dense
from maskwright.augment.params import AugmentParams
from maskwright.tensors import Batch


@torch.no_grad()
def apply(batch: Batch, params: AugmentParams, fill: Float[Tensor, " C"] | None = None) -> Batch:
    """The batch as `params` say, on the batch's own device; `batch` itself is not changed.

    Images are float32 in [0, 1], B C H W, and stay that. Labels are any integers in 0 .. 255, B H W, and keep
    their type (uint8 moves the least memory). What comes from outside a picture is `fill`, per channel in
    [0, 1] (default 0), IGNORE, and NaN in dense targets. A picture that nothing is asked of comes back bit for bit.
    Only `labels` and `dense` of `batch.target` are read; MixUp adds `others` and `weight`.
    """
    images, labels = move(batch.images, batch.target.labels, params, fill)
    mixed = mix(recolour(images, params), labels, params)
    if batch.target.dense is None:
        return mixed
    dense = mix_dense(move_dense(batch.target.dense, params), params)
    return replace(mixed, target=replace(mixed.target, dense=dense))
