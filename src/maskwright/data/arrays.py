"""Pictures and masks as .npy: never unpickled, and not read before their header has been believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright.data.documents import check_plain
from maskwright.errors import DataError

ENDING = ".npy"
LARGEST = 200_000_000
"""Pixels. A larger picture is refused before it is decoded: a few kilobytes can claim to be terabytes."""

_NOTHING = 255
"""Where no class of a one-hot array is set (`classes.IGNORE`)."""


def is_array(path: Path) -> bool:
    return path.suffix.lower() == ENDING


def mapped(path: Path, what: str, dimensions: tuple[int, ...] = (2, 3)) -> NDArray[np.generic]:
    """The numbers of a .npy file, memory-mapped. Raises DataError: missing, pickled, no H x W, larger than LARGEST."""
    try:
        check_plain(path)
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there", "check the path") from error
    except OSError as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {said}", "check that it is readable") from error
    except (ValueError, EOFError, SyntaxError) as error:
        raise DataError(
            f"{path} holds Python objects, is cut short or is no array",
            "save plain numbers again: pickles are never read",
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays", "save each as a .npy of its own")
    whole = array.dtype.kind in "biuf" and array.ndim in dimensions
    planes = 1 if array.ndim == 2 else min(array.shape)
    if not whole or not 0 < array.size <= LARGEST * planes or planes > 256:
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}", what)
    return array


def picture_of(path: Path) -> NDArray[np.generic]:
    """HW or HWC uint8. Raises DataError for other types: what is black and white in them is not known."""
    array = mapped(path, "a picture is H x W or H x W x C of uint8")
    if array.dtype != np.uint8 or (array.ndim == 3 and array.shape[2] > 4):
        raise DataError(
            f"{path} holds {array.dtype} of shape {array.shape}",
            "save pictures as uint8, H x W x C (numbers in [0, 1]: (255 * picture).round().astype('uint8'))",
        )
    return array


def mask_of(path: Path) -> NDArray[np.generic]:
    """HW whole numbers, or HW3 uint8 colours. One-hot arrays, H x W x K or K x H x W, become the place of their 1.

    An array is one-hot when it holds 0 and 1 only and no pixel has two 1s; a pixel without any is 255. Raises
    DataError: fractions, more dimensions, neither labels nor one-hot nor colours.
    """
    array = np.asarray(mapped(path, "a mask is H x W of whole numbers, or one-hot"))
    if array.dtype.kind == "f":
        array = whole(array, path)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.ndim == 2:
        return array
    axis = _hot_axis(array)
    if axis is not None:
        found = array.argmax(axis=axis)
        return np.where(array.any(axis=axis), found, _NOTHING).astype(np.uint8)
    if array.dtype == np.uint8 and array.shape[2] == 3:
        return array
    raise DataError(
        f"{path} is {array.dtype} of shape {array.shape}, neither one-hot nor colours",
        "save class ids as uint8 of H x W",
    )


def whole(array: NDArray[np.generic], path: Path) -> NDArray[np.int64]:
    """Class ids that came as floating point. Raises DataError for NaN, infinity and fractions."""
    if not np.isfinite(array).all():
        kind = "NaN" if np.isnan(array).any() else "infinity"
        raise DataError(f"{path} holds {kind}, not class values only", "save 255 where nothing is known")
    if not np.array_equal(array, np.round(array)):
        raise DataError(f"{path} holds fractions, not class values", "save class ids as uint8")
    return array.astype(np.int64)


def _hot_axis(array: NDArray[np.generic]) -> int | None:
    """The axis of the classes: exactly one 1 everywhere along it, or else at most one."""
    if array.min() < 0 or array.max() > 1:
        return None
    fitting = [
        (int(ones.min() == 0), axis)
        for axis in (2, 0)
        if array.shape[axis] < _NOTHING and (ones := array.sum(axis=axis, dtype=np.int64)).max() == 1
    ]
    return min(fitting, key=lambda fit: fit[0])[1] if fitting else None
