"""What is in a data set, in numbers: `maskwright data show`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskwright.data.dataset import Dataset

SPLITS = ("train", "validation", "test", "unlabelled")


@dataclass(frozen=True)
class SplitFacts:
    name: str
    pictures: int
    masks: int
    groups: int


@dataclass(frozen=True)
class ClassFacts:
    name: str
    share: float
    """Of the labelled pixels of all splits."""
    pictures: int
    """Those with at least one pixel of it."""


@dataclass(frozen=True)
class Facts:
    name: str
    format: str
    fingerprint: str
    pictures: int
    channels: int
    smallest: tuple[int, int]
    """Smallest height and smallest width, which may be of different pictures."""
    largest: tuple[int, int]
    ignored: float
    """Share of the pixels with a mask that count nowhere."""
    splits: tuple[SplitFacts, ...]
    classes: tuple[ClassFacts, ...]
    targets: tuple[str, ...]
    """Names of the dense targets."""
    advice: tuple[str, ...]


def describe(dataset: Dataset) -> Facts:
    """Counts, sizes and pixel shares. Raises DataError for pictures whose size cannot be read."""
    sizes_N2 = np.array([dataset.size(item) for item in dataset.items])
    pixels_NK = np.array([*dataset.pixels.values()]).reshape(-1, len(dataset.classes))
    area = sum(
        int(np.prod(size))
        for item, size in zip(dataset.items, sizes_N2, strict=True)
        if item.id in dataset.pixels
    )
    labelled = int(pixels_NK.sum())
    return Facts(
        name=dataset.name,
        format=dataset.format,
        fingerprint=dataset.fingerprint(),
        pictures=len(dataset.items),
        channels=dataset.channels(),
        smallest=_pair(sizes_N2.min(0)),
        largest=_pair(sizes_N2.max(0)),
        ignored=1 - labelled / area if area else 0.0,
        splits=tuple(_split_facts(dataset, name) for name in SPLITS if dataset.split(name)),
        classes=tuple(
            ClassFacts(name, int(pixels_NK[:, k].sum()) / max(labelled, 1), int((pixels_NK[:, k] > 0).sum()))
            for k, name in enumerate(dataset.classes.names)
        ),
        targets=dataset.targets,
        advice=dataset.advice,
    )


def _split_facts(dataset: Dataset, name: str) -> SplitFacts:
    items = dataset.split(name)
    masks = sum(item.mask is not None for item in items)
    return SplitFacts(name, len(items), masks, len({item.group for item in items}))


def _pair(values: np.ndarray) -> tuple[int, int]:
    height, width = values.tolist()
    return height, width
