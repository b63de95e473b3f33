"""LabelMe (labelme.io, wkentaro/labelme): one .json beside each picture, with its shapes.

Polygons, rectangles, circles (centre and a point of the rim) and masks (a PNG in base64 between two corners) are drawn
in the order of the file, later ones on top, as labelme does. Lines and points have no area: they are an error.
Labels are numbered in alphabetical order. `images` and `masks` are the templates of pictures and .json files
(`{id}.*` and `{id}.json` below the root without them); a .json whose picture has another name says so itself
(`imagePath`).
"""

from __future__ import annotations

import base64
import binascii
import io
import posixpath
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import Raw
from maskwright.data.documents import listed, mapping, read_json
from maskwright.data.drawing import (
    Patch,
    Points,
    check_drawn,
    ellipse,
    points_of,
    polygon,
    rectangle,
)
from maskwright.data.fingerprint import recall
from maskwright.data.part import Part
from maskwright.data.sources import folder
from maskwright.data.sources.common import SPLIT_FOLDERS, DataConfig, Pair, check_id
from maskwright.data.sources.drawn import no_targets, present, size_of, stem, unique
from maskwright.data.sources.labels import number_of, numbers_of, with_labels
from maskwright.errors import DataError

SAMPLE = 4
"""Files looked at to recognise the layout."""


def recognise(root: Path) -> bool:
    """Whether one of the first .json that are found, at the root or two folders below, is labelme's."""
    return any(
        is_labelme(file)
        for pattern in ("*.json", "*/*.json", "*/*/*.json")
        for file in sorted(root.glob(pattern))[:SAMPLE]
    )


def is_labelme(file: Path) -> bool:
    try:
        whole = read_json(file) if file.stat().st_size < 1 << 26 else None
    except (DataError, OSError):
        return False
    return isinstance(whole, Mapping) and isinstance(whole.get("shapes"), list)


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError for .json files that are none of labelme's."""
    no_targets(config, "labelme")
    if config.masks is None:
        below = next((name for name in SPLIT_FOLDERS if any((root / name).glob("*.json"))), None)
        config = config.model_copy(update={"masks": "{split}/{id}.json" if below else "{id}.json"})
    if "{split}" in str(config.masks) and config.splits is None:
        names = [entry.name for entry in sorted(root.iterdir()) if entry.name.lower() in SPLIT_FOLDERS]
        config = config.model_copy(update={"splits": {name: name for name in names}})
    files = [file for _, _, file in _files(root, config)]
    return with_labels(config, _labels(files), "the .json files")


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """Raises DataError: pictures missing or outside the root."""
    files = _files(root, config)
    told = tuple(_labels([file for _, _, file in files]))
    named = recall("labelme picture/1", [file for _, _, file in files], _image_path, what="Reading .json")
    pairs = []
    for (split, name, file), picture in zip(files, named, strict=True):
        image = _beside(root, file, "" if isinstance(picture, DataError) else str(picture))
        pairs.append((split, Pair(name, split, image, Part(file, "labelme", "shapes", told))))
    by_split = [(split, pair) for split, pair in pairs]
    kept = {id(pair) for pair in present([pair for _, pair in by_split], config, str(root))}
    chosen = unique([(split, pair) for split, pair in by_split if id(pair) in kept], config)
    if config.splits and "{split}" not in str(config.masks):
        return tuple(folder.by_lists(root, config.splits, chosen, config.exclude))
    return tuple(chosen)


def raw(part: Part) -> Raw:
    """HW uint8 by `labels.numbers_of`."""
    whole = mapping(read_json(part.file), str(part.file))
    size, numbers = _size(part.file, whole), numbers_of(part.told)
    canvas, drawn = np.zeros(size, np.uint8), 0
    for place, entry in enumerate(listed(whole.get("shapes"), f"shapes of {part.file}")):
        where = f"shape {place} of {part.file}"
        shape = mapping(entry, where)
        patch = _patch(shape, size, where)
        drawn += patch.inside.size
        check_drawn(drawn, part)
        patch.paint(canvas, number_of(numbers, str(shape.get("label")), part))
    return canvas


def outlines(part: Part) -> list[Points]:
    """Of polygons and rectangles."""
    shapes = listed(mapping(read_json(part.file), str(part.file)).get("shapes"), f"shapes of {part.file}")
    return [
        points_of(shape.get("points"), str(part.file))
        for shape in shapes
        if isinstance(shape, Mapping) and shape.get("shape_type", "polygon") in ("polygon", "rectangle", None)
    ]


def _patch(shape: Mapping[str, object], size: tuple[int, int], where: str) -> Patch:
    kind, points = shape.get("shape_type", "polygon"), points_of(shape.get("points"), where)
    if kind in ("polygon", None):
        return polygon(points, size, where)
    if kind == "rectangle":
        return rectangle(points, size, where)
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        return ellipse(points[0].tolist(), (radius, radius), size)
    if kind == "mask" and len(points) == 2:
        return _pasted(shape.get("mask"), points, size, where)
    raise DataError(
        f"{where} is a {str(kind)[:30]} with {len(points)} points, which covers no area",
        "make it a polygon, rectangle, circle or mask, or delete it",
    )


def _pasted(text: object, corners: np.ndarray, size: tuple[int, int], where: str) -> Patch:
    """A PNG in base64 whose upper left corner is the first point."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(text), validate=True)), formats=["PNG"]) as image:
            if image.width * image.height > LARGEST:
                raise DataError(f"{where} claims {image.height} x {image.width} pixels", "export it again")
            inside = np.array(image.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, binascii.Error, Image.DecompressionBombError) as error:
        raise DataError(f"{where} has a mask that is no PNG", "export it again") from error
    left, top = (int(side) for side in np.floor(corners.min(axis=0) + 0.5))
    cut_top, cut_left = max(-top, 0), max(-left, 0)
    inside = inside[cut_top : max(size[0] - top, 0), cut_left : max(size[1] - left, 0)]
    return Patch(min(max(top, 0), size[0]), min(max(left, 0), size[1]), inside)


def _size(file: Path, whole: Mapping[str, object]) -> tuple[int, int]:
    return size_of(whole.get("imageHeight"), whole.get("imageWidth"), str(file))


def _files(root: Path, config: DataConfig) -> list[tuple[str, str, Path]]:
    """(split, id, .json)."""
    template, splits = str(config.masks), config.splits or {}
    if "{split}" not in template:
        return [("train", name, file) for name, file in folder.listing(root, template).items()]
    return [
        (split, name, file)
        for split, inside in splits.items()
        for name, file in folder.listing(
            root, template.replace("{split}", check_id(str(inside), "splits"))
        ).items()
    ]


def _labels(files: list[Path]) -> list[str]:
    """All labels in alphabetical order; whoever draws a broken file says what is wrong with it."""
    found = recall("labelme labels/1", files, _labels_of, what="Reading .json")
    return sorted({label for labels in found if isinstance(labels, list) for label in labels})


def _labels_of(file: Path) -> list[str]:
    whole = mapping(read_json(file), str(file))
    shapes = [
        mapping(shape, f"a shape of {file}") for shape in listed(whole.get("shapes"), f"shapes of {file}")
    ]
    return sorted({str(shape.get("label")) for shape in shapes})


def _image_path(file: Path) -> str:
    named = mapping(read_json(file), str(file)).get("imagePath")
    return str(named or "")


def _beside(root: Path, file: Path, named: str) -> Path:
    """The picture: as the .json calls it, if that is below the root and there, otherwise of the same name."""
    above = file.parent.relative_to(root).as_posix()
    told = posixpath.normpath(posixpath.join(above, named.replace("\\", "/")))
    candidates = [] if not named else [told, posixpath.join(above, posixpath.basename(told))]
    for candidate in candidates:
        if not candidate.startswith(("..", "/")) and ":" not in candidate and (root / candidate).is_file():
            return root / candidate
    same = [
        path
        for path in sorted(file.parent.glob("*"))
        if path.stem == file.stem and stem(path.name) != path.name
    ]
    return same[0] if same else file.with_name(posixpath.basename(told) or f"{file.stem}.jpg")
