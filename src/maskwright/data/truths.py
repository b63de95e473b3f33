"""What the masks of a data set hold: values counted once and remembered, and the classes that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import ClassMap, Raw, counted
from maskwright.data.colour_table import classes_of, read_table
from maskwright.data.fingerprint import recall
from maskwright.data.places import array_of, headers, read_raw, read_row, size_error, where
from maskwright.data.sources import npz
from maskwright.data.sources.common import DataConfig, FaultyError, Frame, Pair, check_id, filled
from maskwright.errors import ConfigError, DataError
from maskwright.progress import Progress

_MOST_CODES = 1024
"""Different values remembered of one mask; more means noise (JPEG), and 255 classes is the most."""

_MOST_FOUND = 32
"""Classes that a folder without dataset.yaml may hold; more is more likely noise."""


@dataclass(frozen=True)
class MaskFacts:
    """What was found in one mask: its size, and how many pixels hold which code (`classes.codes_of`)."""

    height: int
    width: int
    colours: bool
    codes: Sequence[int]
    counts: Sequence[int]


def coloured_values(config: DataConfig) -> bool:
    """Whether the raw values of the masks are colours."""
    return any(isinstance(key, str) and key.startswith("#") for key in config.values or {})


def all_facts(pairs: Sequence[Pair], coloured: bool, progress: Progress) -> dict[str, MaskFacts | None]:
    """By id; None where there is no mask or a broken one."""
    found: dict[str, MaskFacts | None] = {pair.id: None for pair in pairs}
    files = [
        (pair.id, pair.mask) for pair in pairs if pair.mask is not None and not isinstance(pair.mask, Frame)
    ]
    kind = "mask in colours/1" if coloured else "mask/1"
    facts = recall(
        kind,
        [path for _, path in files],
        lambda place: _histogram(read_raw(place, coloured), coloured),
        what="Reading masks",
        progress=progress,
    )
    for (name, _), fact in zip(files, facts, strict=True):
        if not isinstance(fact, DataError):
            found[name] = MaskFacts(*cast(tuple[int, int, bool, list[int], list[int]], fact))

    frames = {pair.id: pair.mask for pair in pairs if isinstance(pair.mask, Frame)}
    arrays = {key: _array_facts(*key) for key in {array_of(frame) for frame in frames.values()}}
    for name, frame in frames.items():
        found[name] = arrays[array_of(frame)][frame.row]
    return found


def _array_facts(file: Path, member: str, plane: int | None) -> list[MaskFacts]:
    (fact,) = recall(f"masks of {member} {plane}/1", [file], lambda path: _histograms(path, member, plane))
    if isinstance(fact, DataError):
        raise fact
    return [MaskFacts(*row) for row in cast(list[tuple[int, int, bool, list[int], list[int]]], fact)]


def _histograms(file: Path, member: str, plane: int | None) -> list[object]:
    array = npz.opened(file, member)
    return [_histogram(read_row(Frame(file, member, row, plane)), False) for row in range(len(array))]


def _histogram(raw: Raw, coloured: bool) -> list[object]:
    """The fields of MaskFacts."""
    values, counts, colours = counted(raw, coloured)
    commonest = np.sort(np.argsort(-counts, kind="stable")[:_MOST_CODES])
    height, width = raw.shape[:2]
    return [height, width, colours, values[commonest].tolist(), counts[commonest].tolist()]


def with_table(root: Path, config: DataConfig) -> DataConfig:
    """Classes and values, where dataset.yaml does not say them, from its table of colours."""
    if config.values_file is None:
        return config
    if config.values is not None:
        raise ConfigError("dataset.yaml gives values and values_file", "keep one of the two")
    names, values = classes_of(read_table(root / check_id(config.values_file, "values_file")))
    return filled(config, classes=names, values=values).model_copy(update={"values_file": None})


def with_classes(config: DataConfig, facts: Sequence[MaskFacts | None], pairs: Sequence[Pair]) -> DataConfig:
    """Classes and values, where dataset.yaml does not say them, from what the masks hold."""
    if config.classes is not None and config.values is not None:
        return config
    if config.values is not None:
        raise ConfigError("dataset.yaml gives values without classes", "write classes: [background, ...]")
    known = [fact for fact in facts if fact is not None]
    if not known and config.classes is None:
        first = next((pair.mask for pair in pairs if pair.mask is not None), None)
        if first is not None:
            read_raw(first, False)  # raises, and says what is wrong with it
        raise DataError(
            "no mask can be read, so the classes are not known", "write classes: [background, ...]"
        )
    found = sorted({code for fact in known for code in fact.codes})
    coloured = any(fact.colours for fact in known)
    if found == [0, 255] and not coloured:
        names = list(config.classes or ("background", "object"))
        if len(names) == 2:
            raise _zero_and_255(
                config, names, next(p for p, f in zip(pairs, facts, strict=True) if f is not None)
            )
    if config.classes is not None:
        values = dict(enumerate(config.classes))
        # VOC's void; with foreground about, 255 cannot be the foreground itself
        void = {255: "ignore"} if 255 in found and len(set(found) - {0, 255}) else {}
        return config.model_copy(update={"values": values | void})
    if len(found) > _MOST_FOUND:
        raise DataError(
            f"the masks hold {len(found)} different values, too many to be classes",
            "are they JPEG or anti-aliased? Otherwise list classes and values in dataset.yaml",
        )
    if coloured:
        keys: list[int | str] = [f"#{code:06x}" for code in found]
        return config.model_copy(update=_numbered(keys, [key[1:] for key in map(str, keys)]))
    void = {255: "ignore"} if 255 in found and len(found) > 1 else {}
    inside = [code for code in found if code not in void]
    numbered = _numbered(list(inside), [str(code) for code in inside])
    return config.model_copy(
        update={**numbered, "values": {**cast(dict[int, str], numbered["values"]), **void}}
    )


def _numbered(keys: Sequence[int | str], endings: Sequence[str]) -> dict[str, object]:
    names = tuple(f"class_{ending}" for ending in endings)
    return {"classes": names, "values": dict(zip(keys, names, strict=True))}


def _zero_and_255(config: DataConfig, names: Sequence[str], example: Pair) -> DataError:
    templates = f'images: "{config.images}", masks: "{config.masks}", ' if config.format == "folder" else ""
    return DataError(
        f"the masks hold 0 and 255 only (such as {where(example.mask)}), and 255 is no class id",
        f"did you mean values: {{0: {names[0]}, 255: {names[1]}}}? Save this as dataset.yaml: "
        f"{{{templates}classes: [{', '.join(names)}], values: {{0: {names[0]}, 255: {names[1]}}}}}",
    )


def count_pixels(
    pairs: Sequence[Pair], facts: Mapping[str, MaskFacts | None], classes: ClassMap, excluded: set[str]
) -> dict[str, NDArray[np.int64]]:
    """Raises DataError for values outside the classes, except in excluded masks."""
    pixels: dict[str, NDArray[np.int64]] = {}
    for pair in pairs:
        fact = facts[pair.id]
        if fact is None:
            continue
        try:
            pixels[pair.id] = classes.count(fact.codes, fact.counts, fact.colours, where(pair.mask))
        except DataError:
            if pair.id not in excluded:
                raise
    return pixels


def foreground(pixels: NDArray[np.int64] | None) -> float:
    """Share of the labelled pixels that are not class 0; 0 where nothing is labelled."""
    if pixels is None or not pixels.sum():
        return 0.0
    return float(1 - pixels[0] / pixels.sum())


def check_sizes(pairs: Sequence[Pair], facts: Mapping[str, MaskFacts | None], progress: Progress) -> None:
    """Raises FaultyError where masks are not as large as their images, naming the first and how many more."""
    differing = {}
    for pair, header in zip(pairs, headers([pair.image for pair in pairs], progress), strict=True):
        fact = facts[pair.id]
        if fact is not None and header is not None and (fact.height, fact.width) != header[:2]:
            differing[pair.id] = (where(pair.mask), (fact.height, fact.width), header[:2])
    if differing:
        error = size_error([*differing.values()])
        cases = {name: size_error([sizes]).problem for name, sizes in differing.items()}
        raise FaultyError("size-mismatch", error.problem, error.hint, cases)
