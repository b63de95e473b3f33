"""Test-time augmentation: the same picture is looked at several times, and the probabilities are averaged."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from maskwright.config import suggest
from maskwright.errors import ConfigError
from maskwright.predict.model_folder import ModelSpec
from maskwright.predict.preprocess import Preprocess


@dataclass(frozen=True)
class View:
    """One way of looking at a picture."""

    scale: float = 1.0
    """Of the network's input, relative to the size that it was trained with."""
    mirrored: bool = False
    """Left and right swapped in front of the network, and back behind it."""

    def turn(self, tensor_BCHW: Tensor) -> Tensor:
        """Pictures on their way in, logits on their way out: mirroring is its own inverse."""
        return tensor_BCHW.flip(3) if self.mirrored else tensor_BCHW

    def preprocess(self, spec: ModelSpec, native_hw: tuple[int, int]) -> Preprocess:
        """The input side of `spec` for a picture of `native_hw`, with the network's input `scale` times as large.

        Where fit is crop the network sees pictures at their own size, so there the picture is scaled.
        """
        crop = spec.input.fit == "crop"
        height, width = native_hw if crop else spec.input.size
        size = (scaled(height, self.scale), scaled(width, self.scale))
        fit = "resize" if crop else spec.input.fit
        return Preprocess(size, fit, spec.input.normalise, spec.mean, spec.deviation)


def scaled(length: int, scale: float) -> int:
    """`length` times a multiple of 1/8, rounded half up: in whole numbers, which an exported file can do alike."""
    return (round(8 * scale) * length + 4) // 8 or 1


SCALES = (0.75, 1.0, 1.25)
TTA: dict[str, tuple[View, ...]] = {
    "none": (View(),),
    "flips": (View(), View(mirrored=True)),
    "scales": tuple(View(scale, mirrored) for scale in SCALES for mirrored in (False, True)),
}
"""Upside down is not among them: few pictures make sense that way, and a model folder does not say whether its
network ever saw one."""


def views(tta: str) -> tuple[View, ...]:
    """The views of `none`, `flips` or `scales`. Raises ConfigError."""
    if tta not in TTA:
        raise ConfigError(f"there is no test-time augmentation {tta!r}", suggest(tta, list(TTA)))
    return TTA[tta]
