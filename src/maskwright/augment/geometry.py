"""Flip, crop, scale, shear, rotate, shift and elastic: one matrix, one grid, one resampling.

As one looks at the picture, in this order: a window is cut out and fills the picture (crop); flips; scale;
shear; rotation; shift; and last the elastic displacement. All of it happens in pixels around the picture's
centre, so that oblong pictures turn without shear. Matrices act on (x, y, 1) with y downwards; the centre of
pixel j lies at j + 1/2 (`align_corners=False`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from maskwright.augment.params import GRID, AugmentParams
from maskwright.fit import over_known
from maskwright.tensors import IGNORE, Dense, Images, Labels


def move(
    images: Images, labels: Labels, params: AugmentParams, fill: Float[Tensor, " C"] | None
) -> tuple[Images, Labels]:
    """Images bilinearly, labels by the nearest pixel, on one grid; outside are `fill` (or 0) and IGNORE.

    Pictures that are only flipped, or not touched at all, are not resampled and keep their bits.
    """
    distorted_B = ~undistorted(params)
    for flipped_B, axis in ((params.flip_B, -1), (params.flip_vertical_B, -2)):
        images = on_rows(images, flipped_B & ~distorted_B, partial(torch.flip, dims=(axis,)))
        labels = on_rows(labels, flipped_B & ~distorted_B, partial(torch.flip, dims=(axis,)))
    if distorted_B.any():
        height, width = images.shape[-2:]
        grid = sampling_grid(params.rows(distorted_B), height, width, images.device)
        images = on_rows(images, distorted_B, lambda some: _sample_images(some, grid, fill))
        labels = on_rows(labels, distorted_B, lambda some: _sample_labels(some, grid))
    return images, labels


def move_dense(dense: Dense, params: AugmentParams) -> Dense:
    """Dense targets where `move` takes their pictures: bilinearly between known values; NaN outside.

    They are fields of numbers, so a flip moves them and changes no sign.
    """
    distorted_B = ~undistorted(params)
    for flipped_B, axis in ((params.flip_B, -1), (params.flip_vertical_B, -2)):
        dense = on_rows(dense, flipped_B & ~distorted_B, partial(torch.flip, dims=(axis,)))
    if distorted_B.any():
        height, width = dense.shape[-2:]
        grid = sampling_grid(params.rows(distorted_B), height, width, dense.device)
        sample = partial(F.grid_sample, grid=grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        dense = on_rows(dense, distorted_B, lambda some: over_known(some, sample))
    return dense


def on_rows(tensor: Tensor, chosen_B: Bool[np.ndarray, " B"], change: Callable[[Tensor], Tensor]) -> Tensor:
    """The batch with `change` applied to the chosen pictures; the others keep their bits. Never in place."""
    if not chosen_B.any():
        return tensor
    if chosen_B.all():
        return change(tensor)
    rows = torch.from_numpy(np.flatnonzero(chosen_B)).to(tensor.device)
    return tensor.index_copy(0, rows, change(tensor[rows]))


def undistorted(params: AugmentParams) -> Bool[np.ndarray, " B"]:
    """The pictures that at most flips happen to."""
    still_B: Bool[np.ndarray, " B"] = (params.angle_B == 0) & (params.scale_B == 1)
    still_B &= (params.shift_B2 == 0).all(1) & (params.shear_B2 == 0).all(1)
    still_B &= (params.crop_B4 == [0, 0, 1, 1]).all(1)
    if params.elastic_B2GG is not None:
        still_B &= (params.elastic_B2GG == 0).all((1, 2, 3))
    return still_B


def source_matrices(params: AugmentParams, height: int, width: int) -> Float[np.ndarray, "B 3 3"]:
    """Where a pixel of the result comes from: result -> source, in pixels from the centre."""
    cos, sin = np.cos(params.angle_B), np.sin(params.angle_B)
    lean_y, lean_x = np.tan(params.shear_B2[:, 1]), np.tan(params.shear_B2[:, 0])
    down, right = params.shift_B2[:, 0] * height, params.shift_B2[:, 1] * width
    top, left, tall, wide = params.crop_B4.T
    mirror, upturn = 1 - 2 * params.flip_B, 1 - 2 * params.flip_vertical_B
    shrink = 1 / params.scale_B
    crop = _matrices(wide, 0, (left + wide / 2 - 0.5) * width, 0, tall, (top + tall / 2 - 0.5) * height)
    flip_and_scale = _matrices(mirror * shrink, 0, 0, 0, upturn * shrink, 0)
    # One axis after the other: never singular, and areas are kept.
    unshear = _matrices(1, 0, 0, -lean_y, 1, 0) @ _matrices(1, -lean_x, 0, 0, 1, 0)
    turn_back = _matrices(cos, -sin, 0, sin, cos, 0)
    shift_back = _matrices(1, 0, -right, 0, 1, -down)
    matrices: Float[np.ndarray, "B 3 3"] = crop @ flip_and_scale @ unshear @ turn_back @ shift_back
    return matrices


def sampling_grid(
    params: AugmentParams, height: int, width: int, device: torch.device
) -> Float[Tensor, "B H W 2"]:
    """What `grid_sample` wants: (x, y) in the source, whose edges lie at -1 and 1.

    The elastic displacement d acts on the result's own pixels p: source = A (p + d(p)). Splines are linear in
    their control points, so A is applied to those.
    """
    half = np.diag([width / 2, height / 2, 1.0])
    matrices_B33 = np.linalg.inv(half) @ source_matrices(params, height, width) @ half
    a = torch.from_numpy(matrices_B33[:, :2, :, None, None].astype(np.float32)).to(device)
    x_W, y_H1 = _centres(width, device), _centres(height, device)[:, None]
    grid_B2HW = a[:, :, 0] * x_W + (a[:, :, 1] * y_H1 + a[:, :, 2])
    if params.elastic_B2GG is not None:
        side = min(height, width)
        xy_B2GG = params.elastic_B2GG[:, ::-1] * np.reshape([2 * side / width, 2 * side / height], (2, 1, 1))
        control_B2GG = np.einsum("bij,bjyx->biyx", matrices_B33[:, :2, :2], xy_B2GG).astype(np.float32)
        spline_HG = torch.from_numpy(spline_basis(height)).to(device)
        spline_WG = torch.from_numpy(spline_basis(width)).to(device)
        grid_B2HW += spline_HG @ torch.from_numpy(control_B2GG).to(device) @ spline_WG.T
    return grid_B2HW.permute(0, 2, 3, 1)


@cache
def spline_basis(side: int) -> Float[np.ndarray, "H G"]:
    """Weights of the G control points at each of `side` pixels: uniform cubic B-splines, G - 3 cells a side.

    Rueckert et al. 1999. They are not negative and sum to 1: no pixel moves further than a control point may.
    """
    cells = (np.arange(side)[:, None] + 0.5) / side * (GRID - 3)
    distance = np.abs(cells - (np.arange(GRID) - 1))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    return np.select([distance < 1, distance < 2], [near, far], 0.0).astype(np.float32)


def _sample_images(
    images: Images, grid: Float[Tensor, "B H W 2"], fill: Float[Tensor, " C"] | None
) -> Images:
    """At its edge a picture fades into `fill` within a pixel."""
    if fill is None:
        return F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)
    fill_C11 = fill.to(images)[:, None, None]
    return F.grid_sample(images - fill_C11, grid, "bilinear", "zeros", align_corners=False).add_(fill_C11)


def _sample_labels(labels: Labels, grid: Float[Tensor, "B H W 2"]) -> Labels:
    """Outside, grid_sample finds 0: so it is given the distance to IGNORE.

    Whole numbers up to 255 are exact in float32, and this is several times as fast as gathering integers.
    """
    below_B1HW = (IGNORE - labels).float()[:, None]
    found_B1HW = F.grid_sample(below_B1HW, grid, "nearest", "zeros", align_corners=False)
    return IGNORE - found_B1HW[:, 0].to(labels.dtype)


def _centres(side: int, device: torch.device) -> Float[Tensor, " side"]:
    """Pixel centres between the edges -1 and 1."""
    return (2 * torch.arange(side, device=device) + 1) / side - 1


def _matrices(*two_rows: ArrayLike) -> Float[np.ndarray, "B 3 3"]:
    """Six numbers or arrays over the batch -> homogeneous matrices."""
    entries = np.broadcast_arrays(*two_rows, 0.0, 0.0, 1.0)
    return np.stack(entries, axis=-1).reshape(-1, 3, 3)
