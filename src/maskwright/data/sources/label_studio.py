"""Label Studio (labelstud.io), export "JSON": one list of tasks, each with the regions that were drawn on a picture.

Polygons, rectangles, ellipses and brush strokes are drawn in the order of the file, later ones on top. Of several
annotations the one marked as ground truth counts, otherwise the last that was not cancelled; a task without any
is unlabelled. Labels are numbered in alphabetical order. Pictures are found below the root by the name at the
end of their address, with or without the eight digits that an upload puts in front.

    format: label-studio
    masks: export.json        # found by itself where it is the only one
    images: pictures          # folder in which pictures are looked for; the root without it
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from maskwright.data import brush
from maskwright.data.classes import Raw
from maskwright.data.documents import Kept, check_plain, listed, mapping, read_json
from maskwright.data.drawing import Patch, Points, check_drawn, ellipse, points_of, polygon
from maskwright.data.image_io import image_size
from maskwright.data.part import Part
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, FaultyError, Pair, check_id, few
from maskwright.data.sources.drawn import no_targets, size_of, stem
from maskwright.data.sources.labels import number_of, numbers_of, with_labels
from maskwright.errors import DataError

_HEAD = 1 << 16
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_SHAPES = ("polygon", "rectangle", "ellipse", "brush")


@dataclass(frozen=True)
class Task:
    """One picture of the export."""

    address: str
    regions: list[Mapping[str, object]] | None
    """None where nobody has labelled it."""


def recognise(root: Path) -> bool:
    return _export(root) is not None


def is_export(file: Path) -> bool:
    """Whether the beginning of a .json looks like a list of tasks."""
    try:
        check_plain(file)
        with open(file, "rb") as opened:
            head = opened.read(_HEAD)
    except (OSError, DataError):
        return False
    return head.lstrip()[:1] == b"[" and b'"annotations"' in head and b'"result"' in head


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError without an export."""
    no_targets(config, "label-studio")
    if config.masks is None:
        found = _export(root)
        if found is None:
            raise DataError(
                f"{root} holds no export of Label Studio", "let masks in dataset.yaml name the .json"
            )
        config = config.model_copy(update={"masks": found.name})
    return with_labels(config, _labels(_file(root, config)), str(config.masks))


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """One pair per task. Raises DataError: pictures that are not there, or of which there are two."""
    file = _file(root, config)
    told = tuple(_labels(file))
    within = check_id(config.images or ".", "images").rstrip("/")
    files = folder.listing(root, "{id}" if within == "." else f"{within}/{{id}}")
    by_name: dict[str, list[Path]] = {}
    for path in files.values():
        by_name.setdefault(path.name, []).append(path)
    pairs, excluded, missing = [], set(config.exclude), list[str]()
    seen, twice = set[str](), dict[str, str]()
    for key, task in _tasks(file).items():
        name = _name(task.address)
        found = by_name.get(name) or by_name.get(_UPLOAD.sub("", name)) or []
        identity = stem(name)
        if len(found) > 1 or identity in seen:
            twice[identity] = f"{name} is the name of {'two tasks' if identity in seen else 'two pictures'}"
        if identity in seen:
            continue
        seen.add(identity)
        if not found:
            missing += [name] if identity not in excluded else []
            continue
        drawn = Part(file, "label-studio", key, told, found[0])
        pairs.append(
            Pair(identity, "train" if task.regions is not None else "unlabelled", found[0], drawn)
            if task.regions is not None
            else Pair(identity, "unlabelled", found[0], None)
        )
    twice = {name: said for name, said in twice.items() if name not in excluded}
    if twice:
        raise FaultyError(
            "duplicate-ids",
            f"{file}: {few(list(twice.values()), 1)}",
            "let images in dataset.yaml name one folder, or export the tasks apart",
            twice,
        )
    if missing:
        raise FaultyError(
            "missing-pictures",
            f"{len(missing)} of {len(seen)} pictures of {file} are not below {root} ({few(missing)})",
            "put them there, or list the ids under exclude in dataset.yaml",
            {stem(name): f"{name} is not below {root}" for name in missing},
        )
    if config.splits:
        return tuple(folder.by_lists(root, config.splits, pairs, config.exclude))
    return tuple(pairs)


def raw(part: Part) -> Raw:
    """HW uint8 by `labels.numbers_of`."""
    task = _tasks(part.file).get(part.key)
    if task is None or task.regions is None or part.beside is None:
        raise DataError(f"{part.file} has no labels of task {part.key} any more", "open the data again")
    numbers = numbers_of(part.told)
    regions = [region for region in task.regions if _kind(region) is not None]
    first = next((region for region in regions if "original_width" in region), None)
    size = (
        image_size(part.beside)
        if first is None
        else size_of(first.get("original_height"), first.get("original_width"), str(part))
    )
    canvas, drawn = np.zeros(size, np.uint8), 0
    for place, region in enumerate(regions):
        where = f"region {place} of {part}"
        if region.get("image_rotation"):
            raise DataError(
                f"{where} was drawn on a turned picture", "turn the picture itself, and label it upright"
            )
        patch = _patch(region, size, where)
        drawn += patch.inside.size
        check_drawn(drawn, part)
        patch.paint(canvas, number_of(numbers, _label(region, task.regions, where), part))
    return canvas


def outlines(part: Part) -> list[Points]:
    """Of polygons."""
    task = _tasks(part.file).get(part.key)
    found = []
    for region in (task.regions or []) if task else []:
        if _kind(region) == "polygon":
            size = size_of(region.get("original_height"), region.get("original_width"), str(part))
            value = mapping(region.get("value"), f"value of {part}")
            found.append(points_of(value.get("points"), str(part)) * np.array([size[1], size[0]]) / 100)
    return found


def _patch(region: Mapping[str, object], size: tuple[int, int], where: str) -> Patch:
    kind, value = _kind(region), mapping(region.get("value"), f"value of {where}")
    scale = np.array([size[1], size[0]]) / 100
    if kind == "polygon":
        return polygon(points_of(value.get("points"), where) * scale, size, where)
    if kind == "brush":
        return Patch(0, 0, brush.opaque(value.get("rle"), size[0] * size[1], where).reshape(size))
    turned = points_of([value.get("rotation") or 0.0, 0.0], where)[0, 0]
    if kind == "ellipse":
        centre, radii = points_of([value.get(k) for k in ("x", "y", "radiusX", "radiusY")], where) * scale
        return ellipse(centre.tolist(), radii.tolist(), size, degrees=float(turned))
    (x, y), (width, height) = points_of([value.get(k) for k in ("x", "y", "width", "height")], where) * scale
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    cosine, sine = np.cos(np.radians(turned)), np.sin(np.radians(turned))
    around = corners @ np.array([[cosine, sine], [-sine, cosine]])  # clockwise, as the y axis points down
    return polygon(np.add(around, (x, y)), size, where)


def _kind(region: Mapping[str, object]) -> str | None:
    """polygon, rectangle, ellipse, brush; None for labels of the whole picture. Raises DataError for other shapes."""
    named = str(region.get("type", ""))
    kind = named.removesuffix("labels")
    if kind in _SHAPES:
        return kind
    value = region.get("value")
    if kind and isinstance(value, Mapping) and ("x" in value or "points" in value):
        if named == "labels":  # the name of a shape that stands beside it
            return None
        raise DataError(
            f"a region is of the type {named[:30]}, which covers no area", f"known are {', '.join(_SHAPES)}"
        )
    return None


def _label(region: Mapping[str, object], regions: list[Mapping[str, object]], where: str) -> str:
    """Its own, or the one that another entry with the same id gives."""
    same = [region, *(other for other in regions if other.get("id") == region.get("id") is not None)]
    for one in same:
        value = one.get("value")
        for key in (f"{_kind(region)}labels", "labels"):
            names = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
                return names[0]
    raise DataError(f"{where} has no label, or several", "give each region one label")


def _make_tasks(file: Path) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for place, entry in enumerate(listed(read_json(file), str(file))):
        task = mapping(entry, f"task {place} of {file}")
        shown = mapping(task.get("data"), f"data of task {place} of {file}")
        addresses = [
            value
            for key, value in shown.items()
            if isinstance(value, str) and stem(_name(value)) != _name(value)
        ]
        if not addresses:
            raise DataError(f"task {place} of {file} names no picture", "export tasks of pictures, as JSON")
        chosen = shown.get("image") if shown.get("image") in addresses else addresses[0]
        tasks[str(task.get("id", place))] = Task(str(chosen), _regions(task, f"task {place} of {file}"))
    return tasks


def _regions(task: Mapping[str, object], where: str) -> list[Mapping[str, object]] | None:
    annotations = [
        mapping(one, f"an annotation of {where}") for one in listed(task.get("annotations", []), where)
    ]
    kept = [one for one in annotations if not one.get("was_cancelled")]
    if not kept:
        return None
    chosen = next((one for one in kept if one.get("ground_truth")), kept[-1])
    return [
        mapping(region, f"a region of {where}")
        for region in listed(chosen.get("result"), f"result of {where}")
    ]


def _labels(file: Path) -> list[str]:
    """All labels in alphabetical order."""
    found = set[str]()
    for key, task in _tasks(file).items():
        for one in task.regions or []:
            with suppress(DataError):  # whoever draws it says what is wrong
                if _kind(one):
                    found.add(_label(one, task.regions or [], f"a region of task {key} of {file}"))
    return sorted(found)


def _name(address: str) -> str:
    """The file's name at the end of a URL or a path; behind `?d=` for local files."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return posixpath.basename(unquote(local[0] if local else parts.path).replace("\\", "/"))


def _export(root: Path) -> Path | None:
    found = [file for file in sorted(root.glob("*.json")) if is_export(file)]
    return found[0] if len(found) == 1 else None


def _file(root: Path, config: DataConfig) -> Path:
    return root / check_id(str(config.masks), "masks")


_tasks = Kept(_make_tasks)
