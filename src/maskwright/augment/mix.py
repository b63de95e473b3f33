"""MixUp and CutMix: two pictures of a batch become one, and so do their masks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maskwright.augment.params import AugmentParams
from maskwright.tensors import Batch, Dense, Images, Labels, Target


def mix(images: Images, labels: Labels, params: AugmentParams) -> Batch:
    """Each picture with its partner as it was before any mixing. Masks are never interpolated.

    MixUp (Zhang et al. 2018): x = w x_i + (1 - w) x_j. The target keeps both masks with w; if `mixup_binary`,
    only the heavier one (at w = 1/2 the own): what a blend of masks of zeros and ones is, cut at 1/2.
    CutMix (Yun et al. 2019): the box of the picture and of its mask are the partner's.
    """
    blended_B, pasted_B = params.mixup_B < 1, _area(params.cutmix_B4) > 0
    if not (blended_B | pasted_B).any():
        return Batch(images, Target(labels))
    partners = torch.from_numpy(params.partner_B).to(images.device)
    other_images, other_labels = images[partners], labels[partners]
    if pasted_B.any():
        inside_BHW = _boxes(params.cutmix_B4, labels.shape[1], labels.shape[2], images.device)
        images = torch.where(inside_BHW[:, None], other_images, images)
        labels = torch.where(inside_BHW, other_labels, labels)
    if not blended_B.any():
        return Batch(images, Target(labels))
    weight_B = torch.from_numpy(params.mixup_B.astype(np.float32)).to(images.device)
    images = torch.lerp(other_images, images, weight_B[:, None, None, None])
    if params.mixup_binary:
        return Batch(images, Target(torch.where((weight_B < 0.5)[:, None, None], other_labels, labels)))
    others = torch.where((weight_B < 1)[:, None, None], other_labels, labels)
    return Batch(images, Target(labels, others, weight_B))


def mix_dense(dense: Dense, params: AugmentParams) -> Dense:
    """Dense targets as `mix` does it with their pictures: the partner's in the box, blended under MixUp.

    The blend w y_i + (1 - w) y_j is Zhang et al.'s own rule for numbers; NaN where either is. With `mixup_binary`
    it is the heavier one.
    """
    others = dense[torch.from_numpy(params.partner_B).to(dense.device)]
    weight_B111 = torch.from_numpy(params.mixup_B.astype(np.float32)).to(dense.device)[:, None, None, None]
    if params.mixup_binary:
        blended = torch.where(weight_B111 < 0.5, others, dense)
    else:
        blended = torch.where(weight_B111 < 1, torch.lerp(others, dense, weight_B111), dense)
    inside_BHW = _boxes(params.cutmix_B4, dense.shape[2], dense.shape[3], dense.device)
    return torch.where(inside_BHW[:, None], others, blended)


def _area(boxes_B4: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, " B"]:
    top, left, bottom, right = boxes_B4.T
    area: Float[np.ndarray, " B"] = (bottom - top) * (right - left)
    return area


def _boxes(
    boxes_B4: Float[np.ndarray, "B 4"], height: int, width: int, device: torch.device
) -> Bool[Tensor, "B H W"]:
    """Pixels whose centre lies in the box."""
    y_H, x_W = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    top, left, bottom, right = boxes_B4.T[:, :, None]
    rows = torch.from_numpy((y_H >= top) & (y_H < bottom)).to(device)
    columns = torch.from_numpy((x_W >= left) & (x_W < right)).to(device)
    return rows[:, :, None] & columns[:, None, :]
