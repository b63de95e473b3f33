"""Numbers of cameras, satellites and scanners -> grey levels."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from maskwright.errors import DataError

_AT_ONCE = 1 << 22


def grey_levels(
    array: NDArray[np.generic], window: tuple[float, float] | None, where: str
) -> UInt8[np.ndarray, " ..."]:
    """8 bits: the lower end of the window is 0, the upper 255, linear between; NaN is 0.

    Without a window 8 bits stay as they are and 16 bits are divided by 257, as in pictures; other types have no black
    and white of their own. Raises DataError.
    """
    if window is None:
        if array.dtype == np.uint8:
            return array.astype(np.uint8)
        if array.dtype != np.uint16:
            raise DataError(
                f"{where} holds {array.dtype}", "say in dataset.yaml what is black and white: window: [0, 1]"
            )
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = window
    if not low < high:
        raise DataError(f"window: [{low}, {high}] is empty", "the lower number comes first")
    flat = array.reshape(-1)
    levels = np.empty(flat.shape, np.uint8)
    for begin in range(0, len(flat), _AT_ONCE):
        numbers = flat[begin : begin + _AT_ONCE].astype(np.float64)
        shares = np.nan_to_num((numbers - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
        levels[begin : begin + _AT_ONCE] = np.round(255 * np.clip(shares, 0, 1))
    return levels.reshape(array.shape)


def whole_numbers(array: NDArray[np.generic], where: str, unknown: int) -> NDArray[np.generic]:
    """Labels that came as floating point; NaN is `unknown`. Raises DataError for fractions."""
    if array.dtype.kind in "biu":
        return array.astype(np.uint8) if array.dtype.kind == "b" else array
    known = np.nan_to_num(array, nan=unknown, posinf=0.5, neginf=0.5)
    if not np.array_equal(known, np.round(known)):
        raise DataError(f"{where} holds fractions, not class values", "save class ids as whole numbers")
    labels: NDArray[np.generic] = known.astype(np.int64)
    return labels


def window_told(window: tuple[float, float] | None) -> tuple[str, ...]:
    """For `Part.told`."""
    return () if window is None else tuple(repr(float(end)) for end in window)


def told_window(told: tuple[str, ...]) -> tuple[float, float] | None:
    """From `Part.told`."""
    return (float(told[0]), float(told[1])) if told else None
