"""YOLO segmentation (Ultralytics): `data.yaml` names folders of pictures and classes, `labels/ID.txt` holds polygons.

A line is `class x1 y1 x2 y2 x3 y3 ...`, fractions of width and height. The folder of the labels is the one of the
pictures with its last `images` replaced by `labels`; a picture without a file is all background. Larger objects are
drawn first, so that smaller ones lie on top; of two equally large the later line. Class 0 is 1 in the drawn mask.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maskwright.data.classes import Raw
from maskwright.data.documents import read_text, read_yaml
from maskwright.data.drawing import Points, check_drawn, points_of, polygon
from maskwright.data.image_io import image_size
from maskwright.data.part import Part
from maskwright.data.sources.common import DataConfig, Pair, check_id
from maskwright.data.sources.drawn import no_targets, unique
from maskwright.data.sources.folder import listing
from maskwright.data.sources.labels import numbers_of, with_labels
from maskwright.errors import ConfigError, DataError

SPLITS = ("train", "val", "valid", "test")
SAMPLE = 8
"""Files looked at to recognise the layout."""


def recognise(root: Path) -> bool:
    return described(root) is not None


def described(root: Path) -> Path | None:
    """The .yaml at the root that has `names` and a folder of pictures."""
    return next((file for file in sorted(root.glob("*.y*ml"))[:SAMPLE] if is_yolo(_read(file))), None)


def is_yolo(keys: object) -> bool:
    return isinstance(keys, Mapping) and "names" in keys and any(split in keys for split in SPLITS)


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Folders of pictures per split, and the names of the classes. Raises DataError."""
    no_targets(config, "yolo")
    file = root / check_id(config.masks, "masks") if config.masks is not None else described(root)
    keys = _read(file) if file is not None else None
    if file is None or not isinstance(keys, Mapping) or not (is_yolo(keys) or config.splits):
        raise DataError(f"{root} has no data.yaml with names and train", "let masks in dataset.yaml name it")
    if config.splits is None:
        config = config.model_copy(
            update={
                "splits": {split: _folder(root, file, keys, split) for split in SPLITS if keys.get(split)}
            }
        )
    config = config.model_copy(update={"masks": file.relative_to(root).as_posix()})
    return with_labels(config, _names(keys, file), str(file))


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """One pair per picture. Raises DataError for folders without any."""
    file = root / str(config.masks)
    told = tuple(_names(_read(file), file))
    parts: list[tuple[str, Pair]] = []
    for split, pictures in (config.splits or {}).items():
        if not isinstance(pictures, str):
            raise ConfigError(
                f"splits: {split} is a list of ids", "for the format yolo it is a folder of pictures"
            )
        labels = _labels_folder(check_id(pictures, "splits"))
        for name, image in listing(root, f"{pictures}/{{id}}.*").items():
            lines = root / labels / f"{name}.txt"
            drawn = Part(lines if lines.is_file() else file, "yolo", "lines", told, image)
            parts.append((split, Pair(name, split, image, drawn)))
    if not parts:
        raise DataError(
            f"{root} has no pictures in {', '.join(map(str, (config.splits or {}).values()))}", f"mend {file}"
        )
    return tuple(unique(parts, config))


def raw(part: Part) -> Raw:
    """HW uint8 by `labels.numbers_of`."""
    assert part.beside is not None
    height, width = image_size(part.beside)
    canvas, numbers = np.zeros((height, width), np.uint8), list(numbers_of(part.told).values())
    if part.file.suffix != ".txt":  # the data.yaml stands where a picture has no labels
        return canvas
    objects, drawn = [], 0
    for row, line in enumerate(_lines(part.file), 1):
        where = f"line {row} of {part.file}"
        kind, *fractions = line.split()
        if not (kind.isascii() and kind.isdecimal()) or len(kind) > 9 or int(kind) >= len(numbers):
            raise DataError(
                f"{where} names the class {kind[:20]!r}", f"data.yaml has {len(numbers)} names, from 0"
            )
        if len(fractions) == 4:
            raise DataError(f"{where} is a box, not a polygon", "masks need x y of three points or more")
        outline = points_of(_numbers(fractions, where), where) * (width, height)
        patch = polygon(outline, (height, width), where)
        drawn += 2 * patch.inside.size
        check_drawn(drawn, part)
        objects.append(
            (patch.area, outline, where, numbers[int(kind)])
        )  # many patches would not fit into memory
    for _, outline, where, value in sorted(
        objects, key=lambda one: -one[0]
    ):  # stable: of equal ones the later on top
        polygon(outline, (height, width), where).paint(canvas, value)
    return canvas


def outlines(part: Part) -> list[Points]:
    assert part.beside is not None
    height, width = image_size(part.beside)
    lines = _lines(part.file) if part.file.suffix == ".txt" else []
    where = str(part.file)
    return [points_of(_numbers(line.split()[1:], where), where) * (width, height) for line in lines]


def _numbers(words: list[str], where: str) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise DataError(
            f"{where} holds more than numbers", "a line is class x1 y1 x2 y2 x3 y3 ..."
        ) from error


def _lines(file: Path) -> list[str]:
    return [line for line in read_text(file).splitlines() if line.strip()]


def _read(file: Path) -> object:
    try:
        return read_yaml(file)
    except DataError:
        return None


def _names(keys: object, file: Path) -> list[str]:
    names = keys.get("names") if isinstance(keys, Mapping) else None
    if isinstance(names, Mapping):
        names = [names.get(place) for place in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"names in {file} is no list of names", "write names: [cat, dog]")
    if len(set(names)) != len(names):
        raise DataError(f"names in {file} has a name twice", "give each class a name of its own")
    return names


def _folder(root: Path, file: Path, keys: Mapping[str, object], split: str) -> str:
    """Below the root, whatever `path` says: it is of the machine where the file was written."""
    named = str(keys[split]).replace("\\", "/")
    base = str(keys.get("path") or ".").replace("\\", "/")
    tries = [
        named,
        posixpath.join(base, named),
        named.removeprefix("../"),
        f"{split}/images",
        f"images/{split}",
    ]
    for candidate in map(posixpath.normpath, tries):
        if not candidate.startswith(("/", "..")) and ":" not in candidate and (root / candidate).is_dir():
            return candidate
    raise DataError(
        f"{split}: {named} in {file} is no folder below {root}", "write splits: {train: images/train}"
    )


def _labels_folder(pictures: str) -> str:
    before, images, after = pictures.rpartition("images")
    return f"{before}labels{after}" if images else f"{pictures}/../labels"
