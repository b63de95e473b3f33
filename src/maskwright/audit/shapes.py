"""What is wrong with drawn shapes: those that reach far out of their picture were made for another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from maskwright.audit.findings import Evidence, Finding
from maskwright.data.fingerprint import recall
from maskwright.data.part import Part
from maskwright.data.places import OUTLINES
from maskwright.data.sources.common import Pair
from maskwright.data.truths import MaskFacts
from maskwright.errors import DataError
from maskwright.progress import SILENT, Progress

_FAR = 0.05
"""Share of a side by which a shape may reach out of the picture: hands are not steady, and edges are rounded."""


def outside(
    pairs: Sequence[Pair], facts: Mapping[str, MaskFacts], progress: Progress = SILENT
) -> Iterator[Finding]:
    """Of polygons, as they are written. `facts`: id -> what was found in the mask that was drawn of them."""
    drawn = [pair for pair in pairs if isinstance(pair.mask, Part) and pair.mask.form in OUTLINES]
    bounds = recall("outlines/1", [cast(Part, pair.mask) for pair in drawn], _bounds, progress=progress)
    cases = []
    for pair, shapes in zip(drawn, bounds, strict=True):
        if pair.id in facts and not isinstance(shapes, DataError):
            fact, found = facts[pair.id], cast(list[list[float]], shapes)
            far = [_reach(shape, fact) for shape in found]
            strays = sum(reach > _FAR for reach in far)
            if strays:
                left, top, right, bottom = found[int(np.argmax(far))]
                size = f"{fact.width} x {fact.height}"
                cases.append(
                    Evidence(
                        (pair.id,),
                        f"{strays} of {len(far)} shapes, one from ({left:.0f}, {top:.0f}) to "
                        f"({right:.0f}, {bottom:.0f}) in a picture of {size} (width x height)",
                    )
                )
    if cases:
        yield Finding(
            "shapes-outside",
            "warning",
            "Shapes reach far out of their picture",
            tuple(cases),
            "see whether they were drawn on a picture of another size, or are pixels where fractions are meant: what "
            "lies outside is cut off",
        )


def _bounds(part: Part) -> list[list[float]]:
    """Left, top, right, bottom of each shape, in pixels."""
    outlines = OUTLINES[part.form](part)
    return [[*points.min(axis=0), *points.max(axis=0)] for points in outlines if len(points)]


def _reach(bounds: Sequence[float], fact: MaskFacts) -> float:
    """How far a shape reaches out, as a share of the picture's side."""
    left, top, right, bottom = bounds
    return max(-left / fact.width, right / fact.width - 1, -top / fact.height, bottom / fact.height - 1)
