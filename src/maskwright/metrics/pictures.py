"""What a picture is like, whatever was predicted: the properties by which scores can be compared."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from maskwright.tensors import Picture

FACTS = ("height", "width", "brightness", "contrast", "sharpness")
"""height and width in pixels; brightness: the mean of the grey values, 0 to 1; contrast: their standard deviation;
sharpness: the variance of their Laplacian (Pech-Pacheco et al. 2000), low for blurred pictures."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Rec. 601."""


def facts(picture: Picture) -> Float64[np.ndarray, " F"]:
    """The FACTS of one picture. Pictures of neither 1 nor 3 channels are grey by the mean of their channels."""
    height, width, channels = picture.shape
    weights = LUMA if channels == 3 else np.full(channels, 1 / channels, dtype=np.float32)
    grey = picture.astype(np.float32) @ (weights / 255)
    inner = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    sharpness = edges.var() if edges.size else 0.0
    return np.array([height, width, grey.mean(), grey.std(), sharpness], dtype=np.float64)
