"""Brush strokes of Label Studio: bytes packed with @thi.ng/rle-pack, whose page documents the format.

32 bits: how many words follow. 5 bits: bits per word, less 1. 4 times 4 bits: bits of a count in each of four groups,
less 1. Then, until all words are there: 1 bit (1: one word repeated, 0: words one after the other), 2 bits naming
the group, the count less 1 in as many bits as the group has, and the word or words. All of it most significant first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from maskwright.errors import DataError


def opaque(numbers: object, pixels: int, where: str) -> Bool[np.ndarray, " N"]:
    """Where a pixel's fourth word, its alpha, is above 0. Raises DataError: no bytes, cut short, another picture's."""
    try:
        packed = bytes(numbers) if isinstance(numbers, list) else b""
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} has a brush stroke that is no list of bytes", "export it again") from error
    bits = _Bits(packed, where)
    count, width = bits.take(32), bits.take(5) + 1
    sizes = [bits.take(4) + 1 for _ in range(4)]
    if count != 4 * pixels or width > 8:
        raise DataError(
            f"{where} has a brush stroke for another picture: {count} words of {width} bits",
            "export it again",
        )
    alpha, filled = np.zeros(pixels, bool), 0
    while filled < count:
        repeated = bits.take(1)
        length = min(bits.take(sizes[bits.take(2)]) + 1, count - filled)
        words = bits.take(width) if repeated else bits.words(length, width)[(3 - filled) % 4 :: 4]
        alpha[filled // 4 : (filled + length) // 4] = words > 0
        filled += length
    return alpha


class _Bits:
    """A reader of bits, most significant first; it moves on as it reads."""

    def __init__(self, packed: bytes, where: str) -> None:
        self._packed, self._where, self._place = packed, where, 0

    def take(self, count: int) -> int:
        end = self._end(count)
        whole = int.from_bytes(self._packed[self._place >> 3 : (end + 7) >> 3])
        self._place = end
        return (whole >> (-end & 7)) & ((1 << count) - 1)

    def words(self, count: int, width: int) -> UInt8[np.ndarray, " N"]:
        end = self._end(count * width)
        first = self._place >> 3
        bits = np.unpackbits(np.frombuffer(self._packed[first : (end + 7) >> 3], np.uint8))
        bits_NW = bits[self._place - 8 * first :][: count * width].reshape(count, width)
        self._place = end
        return (bits_NW @ (1 << np.arange(width)[::-1])).astype(np.uint8)

    def _end(self, count: int) -> int:
        if self._place + count > 8 * len(self._packed):
            raise DataError(f"{self._where} has a brush stroke that is cut short", "export it again")
        return self._place + count
