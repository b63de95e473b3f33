"""What `data triage` finds of label errors that were planted: precision and recall by kind.

    python benchmarks/triage.py ../shared/data/pets --recipe resnet34-unet --folds 3 --seeds 0 1 --set input.size=96,96

In a tenth of the pictures of train and validation the label is spoilt in one of five ways, drawn at random: an object
is missing, an object is there that is not, all is shifted, an object has another class (of two classes: both are
swapped), an object is eroded. Models of a cross-validation then judge the labels that they have not seen, spoilt ones
among what they were trained on, and the pictures are ranked. Precision at k is the share of spoilt labels among the first
k; k is the number of spoilt labels, so it is their recall as well, and 0.1 is what drawing lots would give.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

import maskwright as mw
from maskwright.data.convert import convert
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.image_io import save_mask
from maskwright.tensors import IGNORE, Mask

KINDS = ("missing", "extra", "shifted", "swapped", "eroded")
OBJECT = (0.005, 0.6)
"""Shares of the picture between which a connected part of a class counts as an object."""
EXTRA = (0.02, 0.1)
"""Share of the picture that an invented object covers."""
SHIFT = (0.05, 0.12)
"""Of height and width."""
ERODED = 0.7
"""Of its area is left, at most."""


def objects(mask_HW: Mask, classes: int) -> list[tuple[int, Bool[np.ndarray, "H W"]]]:
    """(class, where) of every connected part of a foreground class that is neither tiny nor everything."""
    found = []
    for k in range(1, classes):
        labels, count = ndimage.label(mask_HW == k)
        for number in range(1, count + 1):
            part = labels == number
            if OBJECT[0] <= part.mean() <= OBJECT[1]:
                found.append((k, part))
    return found


def surroundings(mask_HW: Mask, part: Bool[np.ndarray, "H W"]) -> Mask:
    """The mask as if `part` were not there: each of its pixels takes the class of the nearest one outside."""
    near: tuple[np.ndarray, ...] = ndimage.distance_transform_edt(
        part | (mask_HW == IGNORE), return_distances=False, return_indices=True
    )
    filled: Mask = np.where(part, mask_HW[tuple(near)], mask_HW)
    return filled


def missing(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """An object is painted over with what is around it."""
    if not (there := objects(mask, classes)):
        return None
    return surroundings(mask, there[int(random.integers(len(there)))][1])


def extra(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """The outline of another picture's object, where the class is a different one."""
    if not (there := objects(donor, classes)):
        return None
    k, part = there[int(random.integers(len(there)))]
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = np.sqrt(random.uniform(*EXTRA) * mask.size / part.sum())
    height, width = (max(round(side * scale), 1) for side in part.shape)
    part = part[np.arange(height) * part.shape[0] // height][:, np.arange(width) * part.shape[1] // width]
    if height >= mask.shape[0] or width >= mask.shape[1]:
        return None
    for _ in range(100):
        top, left = (int(random.integers(a - b + 1)) for a, b in zip(mask.shape, part.shape, strict=True))
        below = mask[top : top + height, left : left + width]
        if (below[part] != k).mean() > 0.9:
            spoilt = mask.copy()
            spoilt[top : top + height, left : left + width][part] = k
            return spoilt
    return None


def shifted(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """All of it, by the same way; edges are repeated."""
    by = [round(float(random.uniform(*SHIFT)) * side) * int(random.choice([-1, 1])) for side in mask.shape]
    rows, columns = (
        np.clip(np.arange(side) - way, 0, side - 1) for side, way in zip(mask.shape, by, strict=True)
    )
    return mask[rows[:, None], columns]


def swapped(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """An object gets another foreground class; of two classes, each becomes the other."""
    if classes == 2:
        return np.where(mask == IGNORE, mask, 1 - mask).astype(np.uint8)
    if not (there := objects(mask, classes)):
        return None
    k, part = there[int(random.integers(len(there)))]
    other = int(random.choice([name for name in range(1, classes) if name != k]))
    return np.where(part, np.uint8(other), mask)


def eroded(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """An object loses its rim."""
    if not (there := objects(mask, classes)):
        return None
    _, part = there[int(random.integers(len(there)))]
    depth = ndimage.distance_transform_edt(part)
    return surroundings(mask, part & (depth <= np.quantile(depth[part], 1 - ERODED)))


SPOIL: Mapping[str, Callable[[Mask, Mask, int, np.random.Generator], Mask | None]] = {
    "missing": missing,
    "extra": extra,
    "shifted": shifted,
    "swapped": swapped,
    "eroded": eroded,
}


def plant(dataset: Dataset, out: Path, seed: int, share: float = 0.1) -> dict[str, str]:
    """A copy of the data set in `out` with spoilt labels in `share` of train and validation; id -> kind."""
    convert(dataset, "folder", out)
    copy = open_dataset(out)
    random = np.random.default_rng(seed)
    items = [item for item in copy.items if item.split in ("train", "validation")]
    wanted = round(share * len(items))
    planted: dict[str, str] = {}
    for place in random.permutation(len(items)).tolist():
        item, kind = items[place], KINDS[len(planted) % len(KINDS)]
        donor = copy.mask(items[int(random.integers(len(items)))])
        mask = copy.mask(item)
        spoilt = SPOIL[kind](mask, donor, len(copy.classes), random)
        if spoilt is None or (spoilt != mask).mean() < 0.002:
            continue
        assert isinstance(item.mask, Path)
        save_mask(item.mask, spoilt, copy.classes)
        planted[item.id] = kind
        if len(planted) == wanted:
            break
    return planted
