"""One picture that memory holds, looked at whole or in tiles, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32

from maskwright.data.tiles import Window
from maskwright.predict.layout import Layout, Looks
from maskwright.predict.postprocess import decide
from maskwright.predict.tiles import blended
from maskwright.tensors import Mask, Picture, Prediction


class Answers(Looks, Protocol):
    """What tiles are shown to."""

    @property
    def threshold(self) -> float: ...

    @property
    def temperature(self) -> float: ...

    def __call__(self, image: Picture) -> Prediction: ...


@dataclass(frozen=True)
class Seams:
    """Tiles against one look at the whole picture."""

    difference: float
    """The largest difference of a probability, 0 to 1."""
    row: int
    column: int
    """Where that is."""
    changed: int
    """Pixels whose class differs ..."""
    pixels: int
    """... of so many."""

    @property
    def share(self) -> float:
        return self.changed / self.pixels if self.pixels else 0.0  # 0: of a part without any data


@dataclass(frozen=True)
class TiledPrediction(Prediction):
    """What tiles gave, at the picture's own size."""

    notes: tuple[str, ...] = ()
    """What is worth saying about them."""
    seams: Seams | None = None
    """Asked for, and the picture can be looked at whole."""


def in_tiles(
    model: Answers, picture: Picture, layout: Layout, advance: Callable[[int], None] = lambda _: None
) -> Prediction:
    """The blended answer for a picture of the layout's size."""

    def answer(window: Window) -> Float32[np.ndarray, "K h w"]:
        said = model(np.ascontiguousarray(picture[window.slices])).probabilities
        advance(1)
        return said

    classes = len(model.spec.classes)
    shares_KHW = np.empty((classes, *layout.size), np.float32)
    for window, finished in blended(answer, layout.rows, layout.columns, classes):
        shares_KHW[:, *window.slices] = finished
    return Prediction(decided(shares_KHW, model.threshold), shares_KHW, model.temperature)


def decided(shares_KHW: Float32[np.ndarray, "K H W"], threshold: float) -> Mask:
    """The mask of these probabilities."""
    mask: Mask = decide(torch.from_numpy(shares_KHW)[None], threshold)[0].numpy()
    return mask


def compare(
    shares_KHW: Float32[np.ndarray, "K H W"],
    mask_HW: Mask,
    whole: Prediction,
    top: int = 0,
    left: int = 0,
    known_HW: Bool[np.ndarray, "H W"] | None = None,
) -> Seams:
    """What tiles gave for a part of a picture, whose corner is `top`, `left`, and what one look gave.

    `known_HW`: the pixels that count; None: all do.
    """
    if known_HW is None:
        known_HW = np.ones(mask_HW.shape, bool)
    apart_HW = np.abs(shares_KHW - whole.probabilities).max(axis=0) * known_HW
    row, column = divmod(int(apart_HW.argmax()), apart_HW.shape[1])
    changed, pixels = (
        int(np.count_nonzero(flags)) for flags in ((mask_HW != whole.mask) & known_HW, known_HW)
    )
    return Seams(float(apart_HW[row, column]), top + row, left + column, changed, pixels)


def furthest(parts: Sequence[Seams]) -> Seams | None:
    """Of a picture that was compared in parts; None where no pixel was."""
    parts = [part for part in parts if part.pixels]
    if not parts:
        return None
    worst = max(parts, key=lambda part: part.difference)
    return replace(
        worst, changed=sum(part.changed for part in parts), pixels=sum(part.pixels for part in parts)
    )
