"""Boxes of masks that count nowhere: what dataset.yaml says under `ignore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import IGNORE, ClassMap
from maskwright.data.places import read_raw, where
from maskwright.data.sources.common import Box, DataConfig, Pair
from maskwright.data.tiles import Window
from maskwright.data.truths import MaskFacts
from maskwright.errors import DataError

if TYPE_CHECKING:
    from maskwright.tensors import Mask


def ignored_boxes(
    config: DataConfig, pairs: Sequence[Pair], facts: Mapping[str, MaskFacts | None], told: str
) -> dict[str, tuple[Box, ...]]:
    """Boxes by id, of the masks that can be read. What is said of a tile, or of the picture that tiles are cut from,
    holds for all tiles that show it. Raises DataError for an unknown id and for a box beside its mask.
    """
    if not config.ignore:
        return {}
    wanted = config.ignore
    sizes = {name: (fact.height, fact.width) for name, fact in facts.items() if fact is not None}
    windows = {pair.id: pair.piece.window for pair in pairs if pair.piece is not None}
    wholes = {pair.id: pair.piece.whole for pair in pairs if pair.piece is not None}
    for name, window in windows.items():
        height, width = sizes.get(wholes[name], (0, 0))
        sizes[wholes[name]] = (
            max(height, window.top + window.height),
            max(width, window.left + window.width),
        )
    whole_ids = set(wholes.values())
    known = {pair.id for pair in pairs} | {*config.exclude} | whole_ids
    for name, boxes in wanted.items():
        if name not in known:
            raise DataError(f"ignore in {told} names {name}, which the data do not hold", "leave it out")
        for top, left, height, width in boxes:
            if name in sizes and (top + height > sizes[name][0] or left + width > sizes[name][1]):
                raise DataError(
                    f"ignore in {told} gives {name} the box {[top, left, height, width]}, and its mask is "
                    f"{sizes[name][0]} x {sizes[name][1]}",
                    "boxes are [top, left, height, width] in pixels",
                )
    of_whole: dict[str, list[Window]] = {}
    for name, boxes in wanted.items():
        if name in windows:
            of_whole.setdefault(wholes[name], []).extend(windows[name].outwards(box) for box in boxes)
        elif name in whole_ids:
            of_whole.setdefault(name, []).extend(Window(*box) for box in boxes)
    found = {pair.id: wanted[pair.id] for pair in pairs if pair.id in wanted and pair.id not in windows}
    for name, window in windows.items():
        shown = [window.shared(box) for box in of_whole.get(wholes[name], ())]
        found[name] = tuple(dict.fromkeys(box.within(window) for box in shown if box is not None))
    return {name: boxes for name, boxes in found.items() if boxes and facts.get(name) is not None}


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
