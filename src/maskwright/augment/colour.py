"""Brightness, contrast, saturation and hue as one colour matrix; gamma, blur, noise. Masks are not touched.

Three channels are red, green and blue; of four, matrix and gamma act on the first three, while blur and
noise, which come from lens and sensor, act on all. Any other number of channels has no hue and no saturation.
The order: matrix, gamma, blur, noise; values stay in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from maskwright.augment.geometry import on_rows
from maskwright.augment.params import AugmentParams
from maskwright.tensors import Images

TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""NTSC 1953: luma, and two axes of colour that are 0 for greys."""


def recolour(images: Images, params: AugmentParams) -> Images:
    """Pictures in [0, 1] to pictures in [0, 1]; those that nothing is asked of keep their bits."""
    if images.shape[1] == 4:
        images = torch.cat([_tone(images[:, :3], params), images[:, 3:]], dim=1)
    else:
        images = _tone(images, params)
    blurred_B, noisy_B = params.blur_B > 0, params.noise_B > 0
    images = on_rows(images, blurred_B, lambda some: gaussian_blur(some, params.blur_B[blurred_B]))
    return on_rows(images, noisy_B, lambda some: _add_noise(some, params.rows(noisy_B)))


def colour_matrices(params: AugmentParams) -> Float[np.ndarray, "B 3 3"]:
    """Brightness, saturation and hue of red, green and blue: a turn and a stretch of the IQ plane."""
    chroma = params.saturation_B
    cos, sin = chroma * np.cos(params.hue_B), chroma * np.sin(params.hue_B)
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    turn = np.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=1).reshape(-1, 3, 3)
    matrices: Float[np.ndarray, "B 3 3"] = np.linalg.inv(TO_YIQ) @ turn @ TO_YIQ
    matrices *= params.brightness_B[:, None, None]
    return matrices


def gaussian_blur(images: Images, sigma_B: Float[np.ndarray, " B"]) -> Images:
    """Each picture with its own deviation in pixels (> 0), cut off at three of them; edges are repeated."""
    pictures, channels, height, width = images.shape
    reach_B1 = np.ceil(3 * sigma_B)[:, None]
    radius = int(reach_B1.max())
    distance = np.abs(np.arange(-radius, radius + 1))
    weights = np.exp(-0.5 * (distance / sigma_B[:, None]) ** 2) * (distance <= reach_B1)
    weights = np.repeat(weights / weights.sum(1, keepdims=True), channels, axis=0)
    kernels = _on_device(weights, images)[:, None, None]  # B*C 1 1 R
    planes = images.reshape(1, pictures * channels, height, width)
    planes = F.pad(planes, (radius, radius, radius, radius), mode="replicate")
    planes = F.conv2d(planes, kernels, groups=pictures * channels)
    planes = F.conv2d(planes, kernels.transpose(2, 3), groups=pictures * channels)
    return planes.reshape(images.shape)


def _tone(images: Images, params: AugmentParams) -> Images:
    """Matrix and gamma, of the channels that have a colour."""
    changed_B = (params.brightness_B != 1) | (params.contrast_B != 1)
    if images.shape[1] == 3:
        changed_B |= (params.saturation_B != 1) | (params.hue_B != 0)
    curved_B = params.gamma_B != 1
    images = on_rows(images, changed_B, lambda some: _linear(some, params.rows(changed_B)))
    return on_rows(images, curved_B, lambda some: some.pow(_beside(params.gamma_B[curved_B], some)))


def _linear(images: Images, params: AugmentParams) -> Images:
    """contrast * matrix * pixel + (1 - contrast) * (mean luma after brightness), within [0, 1]."""
    contrast, brightness = _beside(params.contrast_B, images), _beside(params.brightness_B, images)
    means = images.mean((2, 3), keepdim=True)
    if images.shape[1] != 3:
        pivot = (1 - contrast) * brightness * means.mean(1, keepdim=True)
        return torch.addcmul(pivot, images, contrast * brightness).clamp_(0, 1)
    luma = (means * _on_device(TO_YIQ[0], images)[:, None, None]).sum(1, keepdim=True)
    pivot = (1 - contrast) * brightness * luma
    matrices = contrast[:, 0] * _on_device(colour_matrices(params), images)
    changed = torch.baddbmm(pivot[:, 0], matrices, images.flatten(2))
    return changed.clamp_(0, 1).reshape(images.shape)


def _add_noise(images: Images, params: AugmentParams) -> Images:
    """Every picture from its own seed, or it would depend on the batch. CPU and GPU draw other numbers."""
    noise = torch.empty(images.shape, device=images.device)
    generator = torch.Generator(images.device)
    for picture, seed in zip(noise, params.noise_seed_B, strict=True):
        picture.normal_(generator=generator.manual_seed(int(seed)))
    return torch.addcmul(images, noise, _beside(params.noise_B, images)).clamp_(0, 1)


def _on_device(numbers: Float[np.ndarray, "..."], images: Images) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32)).to(images.device)


def _beside(numbers_B: Float[np.ndarray, " B"], images: Images) -> Float[Tensor, "B 1 1 1"]:
    """One number per picture, beside the pictures."""
    return _on_device(numbers_B, images)[:, None, None, None]
