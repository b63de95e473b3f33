"""What can be written of a prediction: for each kind of output a name's tail, and the bytes of the file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.data.image_io import mask_png
from maskwright.draw import jpeg, overlay
from maskwright.tensors import Picture, Prediction

Kind = Literal["mask", "overlay", "probability"]
TAILS: dict[Kind, str] = {"mask": ".png", "overlay": "_overlay.jpg", "probability": "_probability.npz"}
"""What is appended to a picture's name. They all differ, so no kind overwrites another of the same picture."""

Encode = Callable[[Picture, Prediction, ClassMap], bytes]


def _mask(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    return mask_png(said.mask, classes)


def _overlay(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    return jpeg(overlay(picture, said.mask, classes))


def _probability(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=said.probabilities,
        classes=np.array(classes.names),
        temperature=said.temperature,
    )
    return content.getvalue()


ENCODE: dict[Kind, Encode] = {"mask": _mask, "overlay": _overlay, "probability": _probability}
