"""The alphabet of shapes: B images, K classes, C channels, T dense targets, H rows, W columns.

Class ids are 0 .. K-1; IGNORE marks pixels that count nowhere, neither in losses nor in scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

IGNORE = 255

Images: TypeAlias = Float[Tensor, "B C H W"]
Logits: TypeAlias = Float[Tensor, "B C H W"]
"""One channel: the logit of class 1 against class 0 (sigmoid). More: one per class (softmax)."""
Labels: TypeAlias = Int[Tensor, "B H W"]
Dense: TypeAlias = Float[Tensor, "B T H W"]
"""Targets with a number per pixel, such as depth; NaN where it is not known."""

Picture: TypeAlias = UInt8[np.ndarray, "H W C"]
Mask: TypeAlias = UInt8[np.ndarray, "H W"]
"""Class ids, IGNORE where nothing is known."""
Field: TypeAlias = Float32[np.ndarray, "H W"]
"""A dense target, NaN where nothing is known."""


@dataclass(frozen=True)
class Target:
    """What the network should say. MixUp adds a second truth: `weight` is the share of `labels` in it."""

    labels: Labels
    others: Labels | None = None
    weight: Float[Tensor, " B"] | None = None
    dense: Dense | None = None
    """Those that a loss asks for, in the order of `loss.targets`."""


@dataclass(frozen=True)
class Batch:
    """Pictures in [0, 1] and their truth, on one device, before normalisation."""

    images: Images
    target: Target


class Outputs(NamedTuple):
    """What a network with auxiliary heads says while it trains."""

    logits: Logits | list[Logits]
    """What it says without them; a list with deep supervision."""
    auxiliary: Float[Tensor, "B A H W"] | None
    """One channel per head, in the order of `LossConfig.heads`."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture, at the picture's own size."""

    mask: Mask
    probabilities: Float[np.ndarray, "K H W"]
    """float32, sums to 1 over the classes (two classes for a sigmoid network as well). What the network says, and
    what the mask was decided from."""
    temperature: float = 1.0
    """Above 1 where the network is too sure of itself, as found on validation pictures."""

    @property
    def calibrated(self) -> Float[np.ndarray, "K H W"]:
        """What the probabilities are worth: p^(1 / T), brought back to a sum of 1 over the classes.

        Of one look that is softmax(logits / T) (Guo et al. 2017, section 4.2); of several, their average is what is
        calibrated (Rahaman & Thiery 2021). The order of the classes of a pixel stays, so its likeliest one does.
        """
        if self.temperature == 1:
            return self.probabilities
        powers_KHW = self.probabilities ** np.float32(1 / self.temperature)
        calibrated_KHW: np.ndarray = powers_KHW / powers_KHW.sum(axis=0)
        return calibrated_KHW
