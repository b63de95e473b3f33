"""How a picture of any size becomes one of the network's size, and how the network's answer goes back.

Pure functions of sizes and tensors. Training (through the store), prediction and every export share them, so
that the network always sees the same geometry. Sizes are (height, width).

- `resize`: stretched to the size; the aspect changes.
- `letterbox`: scaled until it just fits, centred, bars at two sides.
- `crop`: left alone; training cuts windows at native scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from maskwright.tensors import IGNORE, Dense, Images, Logits

Fit: TypeAlias = Literal["resize", "letterbox", "crop"]

HALF = 0.5 - 1e-4
"""A share of 1/2, which rounding may have made a little smaller: a mirrored grid must not lose its border."""


@dataclass(frozen=True)
class Placement:
    """Where the scaled picture lies on the network's canvas, in whole pixels of the canvas."""

    scale: tuple[float, float]
    """Canvas pixels per native pixel, down and across."""
    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that show the picture."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def place(native_hw: tuple[int, int], size: tuple[int, int], fit: Fit) -> Placement:
    """Where a picture of `native_hw` lies on a canvas of `size`. Sides are at least one pixel long."""
    (native_height, native_width), (height, width) = native_hw, size
    top = left = 0
    if fit == "crop":
        height, width = native_hw
    elif fit == "letterbox":
        # In whole numbers, half up: an exported file comes to the same pixel whatever floats its runtime has.
        inner_height = max(1, min(height, (2 * native_height * width + native_width) // (2 * native_width)))
        inner_width = max(1, min(width, (2 * native_width * height + native_height) // (2 * native_height)))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        height, width = inner_height, inner_width
    return Placement((height / native_height, width / native_width), top, left, height, width)


def fit_images(
    images_BCHW: Images, size: tuple[int, int], fit: Fit, fill: Float[Tensor, " C"] | None = None
) -> Images:
    """Float pictures at native size -> pictures of `size`; bars have the colour `fill` (default 0).

    Bilinear with antialiasing (each output pixel weighs all the input pixels under it), as Pillow does it.
    A picture that already has its final scale comes back bit for bit.
    """
    native_hw = (images_BCHW.shape[2], images_BCHW.shape[3])
    placement = place(native_hw, size, fit)
    inner = (placement.height, placement.width)
    if inner != native_hw:
        images_BCHW = antialiased(images_BCHW, inner)
    pads = _pads(placement, size, fit)
    if not any(pads):
        return images_BCHW
    colour = images_BCHW.new_zeros(images_BCHW.shape[1]) if fill is None else fill.to(images_BCHW)
    inside = F.pad(images_BCHW.new_ones(1, 1, *inner), pads).bool()
    return torch.where(inside, F.pad(images_BCHW, pads), colour.view(1, -1, 1, 1))


def antialiased(images_BCHW: Images, size: tuple[int, int]) -> Images:
    """Bilinear resampling in which each output pixel weighs all the input pixels under it."""
    if (
        images_BCHW.shape[3] == size[1] == 1 < max(images_BCHW.shape[2], size[0])
    ):  # torch 2.15 gives every row of a single column the same value
        return antialiased(images_BCHW.transpose(2, 3), size[::-1]).transpose(2, 3)
    return F.interpolate(images_BCHW, size, mode="bilinear", align_corners=False, antialias=True)


def fit_labels(
    labels_BHW: Shaped[Tensor, "B H W"], size: tuple[int, int], fit: Fit
) -> Shaped[Tensor, "B H W"]:
    """Labels of any integer type at native size -> labels of `size`; bars are IGNORE.

    Never interpolated: each output pixel has the label of the input pixel under its centre ("nearest-exact",
    but in whole numbers: where a centre falls on an edge, float rounding would choose the side by chance).
    """
    native_hw = (labels_BHW.shape[1], labels_BHW.shape[2])
    placement = place(native_hw, size, fit)
    if (placement.height, placement.width) != native_hw:
        rows = _nearest(placement.height, native_hw[0], labels_BHW.device)
        columns = _nearest(placement.width, native_hw[1], labels_BHW.device)
        labels_BHW = labels_BHW[:, rows[:, None], columns]
    pads = _pads(placement, size, fit)
    return F.pad(labels_BHW, pads, value=IGNORE) if any(pads) else labels_BHW


def fit_dense(dense_BTHW: Dense, size: tuple[int, int], fit: Fit) -> Dense:
    """Dense targets at native size -> of `size`, resampled as `fit_images` does it, by `over_known`; bars are NaN."""
    return over_known(dense_BTHW, lambda planes: fit_images(planes, size, fit))


def over_known(dense_BTHW: Dense, resample: Callable[[Tensor], Tensor]) -> Dense:
    """`resample` of the known values alone: sum_i w_i V_i x_i / sum_i w_i V_i, V being 1 where x is known, else 0.

    `resample` is linear in its B C H W, C any number, with weights w >= 0 that sum to 1, or to less where it looks
    beyond the picture. The result is NaN where the known share sum_i w_i V_i is below 1/2, so values neither reach
    far into what is unknown nor mix with it (normalised convolution, Knutsson & Westin 1993).
    """
    known = ~dense_BTHW.isnan()
    values, share = resample(torch.cat([dense_BTHW.where(known, 0), known.to(dense_BTHW)], dim=1)).chunk(2, 1)
    return (values / share).where(share >= HALF, torch.nan)


def unfit(logits_BCHW: Logits, native_hw: tuple[int, int], size: tuple[int, int], fit: Fit) -> Logits:
    """Logits of `size` -> logits of `native_hw`: the bars are cut away, the rest scaled back bilinearly."""
    placement = place(native_hw, size, fit)
    rows, columns = placement.window
    inner = logits_BCHW[:, :, rows, columns]
    if (placement.height, placement.width) == native_hw:
        return inner
    return F.interpolate(inner, native_hw, mode="bilinear", align_corners=False)


def _nearest(new: int, old: int, device: torch.device) -> Tensor:
    """floor((i + 1/2) old / new) for i in 0 .. new-1."""
    return torch.div((2 * torch.arange(new, device=device) + 1) * old, 2 * new, rounding_mode="floor")


def _pads(placement: Placement, size: tuple[int, int], fit: Fit) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: the order of torch's pad."""
    if fit == "crop":
        return (0, 0, 0, 0)
    right = size[1] - placement.left - placement.width
    bottom = size[0] - placement.top - placement.height
    return (placement.left, right, placement.top, bottom)
