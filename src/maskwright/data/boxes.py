"""Boxes of masks that count nowhere: what dataset.yaml says under `ignore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import IGNORE, ClassMap
from maskwright.data.places import read_raw, where
from maskwright.data.sources.common import Box, DataConfig, Pair
from maskwright.data.truths import MaskFacts
from maskwright.errors import DataError

if TYPE_CHECKING:
    from maskwright.tensors import Mask


def ignored_boxes(
    config: DataConfig, pairs: Sequence[Pair], facts: Mapping[str, MaskFacts | None], told: str
) -> dict[str, tuple[Box, ...]]:
    """Boxes by id, of the masks that can be read. Raises DataError for an unknown id and for a box beside its mask."""
    wanted = dict(config.ignore or {})
    ids = {pair.id for pair in pairs} | set(config.exclude)
    for name, boxes in wanted.items():
        if name not in ids:
            raise DataError(f"ignore in {told} names {name}, which the data do not hold", "leave it out")
        if (fact := facts.get(name)) is None:
            continue
        for top, left, height, width in boxes:
            if top + height > fact.height or left + width > fact.width:
                raise DataError(
                    f"ignore in {told} gives {name} the box {[top, left, height, width]}, and its mask is "
                    f"{fact.height} x {fact.width}",
                    "boxes are [top, left, height, width] in pixels",
                )
    return {
        pair.id: wanted[pair.id] for pair in pairs if pair.id in wanted and facts.get(pair.id) is not None
    }


def count_without(pair: Pair, classes: ClassMap, boxes: Sequence[Box]) -> NDArray[np.int64]:
    """Pixels per class [K] of a mask without what its boxes cover."""
    assert pair.mask is not None
    ids = without_boxes(classes.encode(read_raw(pair.mask, classes.coloured), where(pair.mask)), boxes)
    return np.bincount(ids.ravel(), minlength=256)[: len(classes)]


def without_boxes(mask_HW: Mask, boxes: Sequence[Box]) -> Mask:
    """A mask in which these boxes are IGNORE."""
    if not boxes:
        return mask_HW
    left_HW = mask_HW.copy()
    for top, left, height, width in boxes:
        left_HW[top : top + height, left : left + width] = IGNORE
    return left_HW
