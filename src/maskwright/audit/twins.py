"""Pictures that are there twice: the same pixels, or the same picture scaled, cropped a little, compressed again.

Candidates are neighbours by the low frequencies of a small grey thumbnail (all against all, but a product of matrices
of 80 columns). A candidate is kept when the two thumbnails can be laid upon each other: scale and shift in both
directions are found by Gauss-Newton (inverse compositional; Baker and Matthews, Lucas-Kanade 20 years on, 2004), and
what is left without its broad light and shadow has to agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from maskwright.progress import SILENT, Progress

ALIKE = 0.8
"""Cosine of low frequencies from which a pair is looked at closely."""
SAME = 0.9
"""Correlation of the aligned thumbnails, without broad light, from which a pair is a pair of twins."""
NEIGHBOURS = 8
"""A picture is compared closely with so many others at most."""
_FREQUENCIES = 9
_REACH = 0.12
"""The most that a scale or a shift may be, as a share of half the picture."""
_CHUNK = 512
_FLAT = 2.0
"""Grey levels of deviation below which a thumbnail shows nothing that could be compared."""

Stack = Float32[np.ndarray, "P S S"]


@dataclass(frozen=True)
class Twins:
    """Rows of two pictures that show the same; `first` < `second`."""

    first: int
    second: int
    likeness: float
    """Correlation in -1 .. 1; 1 exactly for the same pixels."""


def find_twins(
    smalls: UInt8[np.ndarray, "N S S"], digests: Sequence[str], progress: Progress = SILENT
) -> list[Twins]:
    """All pairs, the most alike first. Of pictures with the same pixels each is paired with the first of them."""
    first_of: dict[str, int] = {}
    exact = [
        Twins(first, row, 1.0)
        for row, name in enumerate(digests)
        if (first := first_of.setdefault(name, row)) != row
    ]
    rows = np.array(sorted(first_of.values()), np.int64)
    near = [
        Twins(int(rows[one]), int(rows[other]), likeness)
        for one, other, likeness in _near(smalls[rows].astype(np.float32), progress)
    ]
    return sorted(exact + near, key=lambda pair: (-pair.likeness, pair.first, pair.second))


def _near(smalls: Stack, progress: Progress) -> Iterator[tuple[int, int, float]]:
    pairs = _candidates(smalls)
    broad = smalls - gaussian_filter(smalls, (0, 6, 6))
    coarse, fine = gaussian_filter(broad, (0, 1.5, 1.5)), gaussian_filter(broad, (0, 0.7, 0.7))
    with progress.task("Comparing pictures", len(pairs)) as advance:
        for start in range(0, len(pairs), _CHUNK):
            some = pairs[start : start + _CHUNK]
            for (one, other), likeness in zip(some.tolist(), _likeness(coarse, fine, some), strict=True):
                if likeness >= SAME:
                    yield one, other, min(round(float(likeness), 4), 0.9999)  # 1 is said of the same pixels
            advance(len(some))


def _candidates(smalls: Stack) -> Int64[np.ndarray, "P 2"]:
    """Pairs (smaller row, larger row) among the nearest of each picture."""
    waves = dctn(smalls, axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES].reshape(len(smalls), -1)[
        :, 1:
    ]
    lengths = np.linalg.norm(waves, axis=1, keepdims=True)
    told = (lengths[:, 0] / smalls.shape[1] > _FLAT).nonzero()[0]
    waves = (waves / np.maximum(lengths, 1e-6))[told].astype(np.float32)
    found = set[tuple[int, int]]()
    for start in range(0, len(told), _CHUNK):
        cosines = waves[start : start + _CHUNK] @ waves.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -1
        many = min(NEIGHBOURS, len(told) - 1)
        if many < 1:
            break
        nearest = np.argpartition(-cosines, many - 1, axis=1)[:, :many]
        for row, others in enumerate(nearest):
            for other in others[cosines[row, others] >= ALIKE]:
                one, two = sorted((int(told[start + row]), int(told[other])))
                found.add((one, two))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _likeness(coarse: Stack, fine: Stack, pairs: Int64[np.ndarray, "P 2"]) -> Float32[np.ndarray, " P"]:
    """Correlation of each pair after the second was laid upon the first."""
    one, other = pairs.T
    warp = np.tile(
        np.array([1, 0, 1, 0], np.float32), (len(pairs), 1)
    )  # y = a y + b, x = c x + d; the picture is -1 .. 1
    for stack in (coarse, fine):
        for _ in range(6):
            warp = _better(stack[one], stack[other], warp)
    moved, inside = _warped(fine[other], warp)
    return _correlation(fine[one], moved, inside)


def _better(fixed: Stack, moving: Stack, warp: Float32[np.ndarray, "P 4"]) -> Float32[np.ndarray, "P 4"]:
    """One step of Gauss-Newton."""
    axis = _axis(fixed.shape[1])
    step = axis[1] - axis[0]
    down, across = np.gradient(fixed, step, axis=(1, 2))
    columns = np.stack([down * axis[:, None], down, across * axis, across], axis=1)  # P 4 S S
    moved, inside = _warped(moving, warp)
    shown = columns * inside[:, None]
    left = _normalised(moved, inside) * _deviation(fixed, inside) - (fixed - _mean(fixed, inside)) * inside
    system = np.einsum("pihw,pjhw->pij", shown, columns, optimize=True)
    system += 1e-3 * np.trace(system, axis1=1, axis2=2)[:, None, None] * np.eye(
        4, dtype=np.float32
    ) + 1e-6 * np.eye(4)
    gain = np.linalg.solve(system, np.einsum("pihw,phw->pi", shown, left, optimize=True)[..., None])[..., 0]
    grow_y, shift_y, grow_x, shift_x = gain.clip(-0.05, 0.05).T
    a, b, c, d = warp.T
    a, c = a / (1 + grow_y), c / (1 + grow_x)  # the inverse of the step comes first
    bettered = np.stack([a, b - a * shift_y, c, d - c * shift_x], axis=1)
    return np.asarray(bettered.clip([1 - _REACH, -_REACH] * 2, [1 + _REACH, _REACH] * 2), np.float32)


def _axis(side: int) -> Float32[np.ndarray, " S"]:
    return np.asarray((2 * np.arange(side) + 1) / side - 1, np.float32)


def _warped(stack: Stack, warp: Float32[np.ndarray, "P 4"]) -> tuple[Stack, Stack]:
    """The pictures, bilinearly, and where they are known (1) or not (0)."""
    side = stack.shape[1]
    axis = _axis(side)

    def places(scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = ((scale[:, None] * axis + shift[:, None] + 1) * side - 1) / 2
        low = np.floor(at).clip(0, side - 2).astype(np.int64)
        return low, np.asarray((at - low).clip(0, 1), np.float32), (at >= -0.5) & (at <= side - 0.5)

    y, part_y, inside_y = places(warp[:, 0], warp[:, 1])
    x, part_x, inside_x = places(warp[:, 2], warp[:, 3])
    rows = np.take_along_axis(stack, y[:, :, None], 1) * (1 - part_y[:, :, None])
    rows += np.take_along_axis(stack, y[:, :, None] + 1, 1) * part_y[:, :, None]
    moved = np.take_along_axis(rows, x[:, None], 2) * (1 - part_x[:, None])
    moved += np.take_along_axis(rows, x[:, None] + 1, 2) * part_x[:, None]
    return moved, (inside_y[:, :, None] & inside_x[:, None]).astype(np.float32)


def _mean(stack: Stack, inside: Stack) -> Stack:
    return np.asarray((stack * inside).sum((1, 2), keepdims=True) / inside.sum((1, 2), keepdims=True).clip(1))


def _deviation(stack: Stack, inside: Stack) -> Stack:
    away = (stack - _mean(stack, inside)) * inside
    return np.asarray(
        np.sqrt((away**2).sum((1, 2), keepdims=True) / inside.sum((1, 2), keepdims=True).clip(1)) + 1e-6
    )


def _normalised(stack: Stack, inside: Stack) -> Stack:
    return np.asarray((stack - _mean(stack, inside)) * inside / _deviation(stack, inside))


def _correlation(one: Stack, other: Stack, inside: Stack) -> Float32[np.ndarray, " P"]:
    product = _normalised(one, inside) * _normalised(other, inside)
    return np.asarray(product.sum((1, 2)) / inside.sum((1, 2)).clip(1), np.float32)
