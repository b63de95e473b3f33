"""Run lengths as COCO writes them: of background and object in turn, down the columns, left to right.

Uncompressed they are a list of whole numbers. Compressed they are text: five bits per character (its code less 48),
least significant first, 32 meaning that more follow, the last character's bit 16 being the sign; from the fourth
number on, the difference to the number two before is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int, Int64
from numpy.typing import NDArray

from maskwright.errors import DataError

Runs = Int64[np.ndarray, " N"]


def runs_of(rle: Mapping[str, object], size: tuple[int, int], where: str) -> Runs:
    """Run lengths that fill a picture of `size` exactly. Raises DataError for any that do not."""
    counts, claimed = rle.get("counts"), rle.get("size")
    if claimed is not None and (not isinstance(claimed, list | tuple) or tuple(claimed) != tuple(size)):
        raise DataError(
            f"{where} has run lengths for {_short(claimed)} in a picture of {size[0]} x {size[1]}",
            "export the labels again",
        )
    try:
        runs = (
            _decompressed(counts.encode("ascii") if isinstance(counts, str) else counts)
            if isinstance(counts, str | bytes)
            else np.asarray(counts, np.int64)
        )
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError) as error:
        raise DataError(f"{where} has run lengths that cannot be read", "export the labels again") from error
    if (
        runs.ndim != 1
        or (runs < 0).any()
        or (runs > size[0] * size[1]).any()
        or runs.sum() != size[0] * size[1]
    ):
        raise DataError(
            f"{where} has run lengths that do not fill {size[0]} x {size[1]} pixels",
            "export the labels again",
        )
    return runs


def area(runs: Runs) -> int:
    return int(runs[1::2].sum())


def paint(runs: Runs, columns: NDArray[np.uint8], value: int) -> int:
    """Paint what the runs cover into the columns of a picture, one behind the other; returns the pixels looked at."""
    ends = np.cumsum(runs)
    last = len(runs) - len(runs) % 2  # a run of background may be the last
    if last < 2:
        return 0
    first, stop = int(ends[0]), int(ends[last - 1])
    columns[first:stop][np.repeat(np.arange(1, last) % 2 == 1, runs[1:last])] = value
    return stop - first


def compressed(mask_HW: Bool[np.ndarray, "H W"]) -> str:
    """The text for a mask."""
    flat = np.concatenate([[False], mask_HW.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return _compressed(np.diff(np.concatenate([[0], edges, [mask_HW.size]])))


def compressed_regions(
    places_M: Int64[np.ndarray, " M"], numbers_M: Int[np.ndarray, " M"], count: int, size: tuple[int, int]
) -> list[str]:
    """The text for each of the regions 1 .. `count`, none of which is empty: at each place (counted row by row) lies a
    pixel of the region of that number. One sort for all of them, where a mask for each would take count times as long.
    """
    height, width = size
    down_M = places_M % width * height + places_M // width
    order_M = np.lexsort((down_M, numbers_M))
    down_M, numbers_M = down_M[order_M], numbers_M[order_M]
    new_M = np.ones(len(down_M), bool)
    new_M[1:] = (np.diff(down_M) != 1) | (np.diff(numbers_M) != 0)
    first_R = down_M[new_M]
    end_R = first_R + np.diff(np.append(np.flatnonzero(new_M), len(down_M)))
    bounds = np.searchsorted(numbers_M[new_M], np.arange(1, count + 2))
    texts = []
    for begin, stop in itertools.pairwise(bounds):
        edges = np.column_stack([first_R[begin:stop], end_R[begin:stop]]).ravel()
        runs = np.diff(edges, prepend=0, append=height * width)
        texts.append(_compressed(runs if runs[-1] else runs[:-1]))
    return texts


def _compressed(runs: Runs) -> str:
    written = runs.copy()
    written[3:] -= runs[1:-2]
    return "".join(_text(int(number)) for number in written)


def _text(number: int) -> str:
    text = ""
    while True:
        low, number = number & 31, number >> 5
        more = not (number == -1 and low & 16) and not (number == 0 and not low & 16)
        text += chr(48 + low + (32 if more else 0))
        if not more:
            return text


def _decompressed(text: bytes) -> Runs:
    """Raises ValueError for text that is cut short or has other characters."""
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError("no run lengths")
    number = np.concatenate([[0], np.cumsum(last)[:-1]])
    begins = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(len(codes)) - begins[number]
    if place.max() > 11:
        raise ValueError("a number of over 60 bits")
    values = np.zeros(len(begins), np.int64)
    np.add.at(values, number, (codes & 31) << (5 * place))
    ends = np.flatnonzero(last)
    values[(codes[ends] & 16) != 0] -= (1 << (5 * (place[ends] + 1)))[(codes[ends] & 16) != 0]
    runs = values.copy()
    runs[1::2], runs[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return runs


def _short(claimed: object) -> str:
    return repr(claimed)[:40]
