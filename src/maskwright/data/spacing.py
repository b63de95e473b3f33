"""How many millimetres a pixel of a medical slice has: nothing is resampled, so what differs is told."""

from __future__ import annotations

import math
from collections.abc import Sequence

Spacing = tuple[float, float]
"""Millimetres from row to row, and from column to column."""

APART = 1.25
"""Ratio from which spacings are told apart: a quarter larger is more than the usual augmentation of scale."""


def advice(spacings: Sequence[Spacing | None]) -> list[str]:
    """Lines where pixels are not square, and where they differ between files. None: not known, and nothing is said."""
    known = [pair for pair in spacings if pair is not None and min(pair) > 0 and math.isfinite(sum(pair))]
    said = []
    squeezed = [pair for pair in known if max(pair) > APART * min(pair)]
    if squeezed:
        rows, columns = squeezed[0]
        said.append(
            f"{len(squeezed)} of {len(known)} files have pixels that are not square, such as {rows:.3g} x "
            f"{columns:.3g} mm: resample them if shapes matter"
        )
    sides = [math.sqrt(rows * columns) for rows, columns in known]
    if known and max(sides) > APART * min(sides):
        said.append(
            f"a pixel is {min(sides):.3g} to {max(sides):.3g} mm: the same thing has other sizes in other files; "
            "resample them to one spacing, or ask for more of augment.scale"
        )
    return said
