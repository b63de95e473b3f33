"""COCO (Lin et al. 2014, ECCV): objects as polygons or run lengths in one .json per split, and COCO panoptic.

Masks are drawn: background first, then crowds (`iscrowd: 1`) as "ignore", then the objects, larger ones first, so
that the smaller lies on top; of two equally large the later one in the file. Labels are the categories in
the order of their ids: the first is 1 in the drawn mask, 0 is background, 255 what is not known. Polygons become
pixels as pycocotools does it. In panoptic files (`segments_info`, and a PNG whose colour R + 256 G + 65536 B names the
segment) what no segment covers is "ignore", and there is no background.

    format: coco
    splits: {train: annotations/instances_train2017.json, val: annotations/instances_val2017.json}
    images: "{stem}2017"     # folder; {split}, {folder} and {stem} of the .json; found by itself where it is usual
    values: {cat: pet, dog: pet, "*": background}        # labels by name

`masks` names the one .json of data without splits. CVAT, datumaro and supervision write `iscrowd: 1` to every object in
run lengths: `crowds: objects` reads them as objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from maskwright.data import rle
from maskwright.data.classes import IGNORE, Raw
from maskwright.data.documents import Kept, check_plain, listed, mapping, read_json
from maskwright.data.drawing import Points, check_drawn, points_of
from maskwright.data.image_io import read_mask
from maskwright.data.part import Part, needs
from maskwright.data.sources.common import SPLIT_FOLDERS, DataConfig, Pair, check_id
from maskwright.data.sources.drawn import below, no_targets, present, size_of, stem, unique
from maskwright.data.sources.labels import number_of, numbers_of, with_labels
from maskwright.errors import ConfigError, DataError

FOLDERS = (
    "{folder}",
    "images/{stem}",
    "{stem}",
    "images/{split}",
    "{split}",
    "{split}/images",
    "images",
    "data",
    ".",
)
"""Where pictures usually lie: {folder} is the .json's own, {stem} its name without `instances_`."""

MOST_OUTLINE = 20_000_000
"""Pixels that the outlines of one object are long; pycocotools takes 60 bytes for each."""

_HEAD = 1 << 16
_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_PREFIXES = re.compile(r"^(instances|panoptic|stuff)_")


@dataclass(frozen=True)
class Entry:
    """One picture of a .json."""

    name: str
    size: tuple[object, object]
    annotations: list[Mapping[str, object]]


@dataclass(frozen=True)
class Index:
    """A .json, by picture."""

    entries: Mapping[str, Entry]
    labels: Mapping[int, str]
    """Category id -> name, in the order of the ids."""
    panoptic: bool


def recognise(root: Path) -> bool:
    return bool(_found(root))


def is_coco(file: Path) -> bool:
    """Whether the beginning of a .json looks like COCO."""
    try:
        check_plain(file)
        with open(file, "rb") as opened:
            head = opened.read(_HEAD)
    except (OSError, DataError):
        return False
    return head.lstrip()[:1] == b"{" and _KEYS.search(head) is not None


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Files per split, the pictures' folder, classes and values. Raises DataError, ConfigError."""
    no_targets(config, "coco")
    if config.splits is None:
        files = {"train": config.masks} if config.masks is not None else _found(root)
        if not files:
            raise DataError(
                f"{root} holds no .json of COCO", "write splits: {train: FILE.json} in dataset.yaml"
            )
        config = config.model_copy(update={"splits": files, "masks": None})
    elif config.masks is not None:
        raise ConfigError(
            "masks and splits are given for the format coco", "splits names one .json per split"
        )
    indices = {split: _index(file) for split, file in _files(root, config).items()}
    if config.images is None:
        config = config.model_copy(update={"images": _folder(root, config, indices)})
    panoptic = {index.panoptic for index in indices.values()}
    if len(panoptic) > 1:
        raise DataError(f"{root} mixes panoptic and instance files", "name files of one kind under splits")
    return with_labels(config, _labels(indices.values()), "the .json", background=not panoptic.pop())


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """One pair per entry of `images`. Raises DataError: entries twice, pictures missing, categories unknown."""
    files = _files(root, config)
    told = tuple(_labels([_index(file) for file in files.values()]))
    form = "coco without crowds" if config.crowds == "objects" else "coco"
    parts: list[tuple[str, Pair]] = []
    for split, file in files.items():
        folder, pairs = _named(str(config.images), root, file, split), []
        for key, entry in _index(file).entries.items():
            image = below(root, folder, entry.name, str(file))
            segments = _segments_file(root, file, entry) if _index(file).panoptic else None
            mask = Part(file, form, key, told, segments)
            pairs.append(Pair(stem(entry.name), split, image, mask))
        parts += [(split, pair) for pair in present(pairs, config, str(file))]
    return tuple(unique(parts, config))


def advice(root: Path, config: DataConfig) -> list[str]:
    """A line where most objects are crowds: few are in COCO, all run lengths are by some tools."""
    indices = [_index(file) for file in _files(root, config).values()]
    drawn = [one for index in indices for entry in index.entries.values() for one in entry.annotations]
    crowds = sum(bool(one.get("iscrowd")) for one in drawn)
    if config.crowds is not None or crowds <= len(drawn) // 2:
        return []
    said = f"{crowds} of {len(drawn)} objects are crowds (iscrowd: 1) and ignored; CVAT, datumaro and supervision call"
    return [f"{said} every object in run lengths so: say crowds: objects in dataset.yaml, or crowds: ignore"]


def raw_without_crowds(part: Part) -> Raw:
    """As `raw`, with crowds as objects like others."""
    return raw(part, crowds=False)


def raw(part: Part, *, crowds: bool = True) -> Raw:
    """HW uint8 by `labels.numbers_of` of the categories."""
    index = _index(part.file)
    entry = index.entries.get(part.key)
    if entry is None:
        raise DataError(f"{part.file} has no picture {part.key} any more", "open the data set again")
    numbers = numbers_of(part.told)
    value_of = {category: number_of(numbers, name, part) for category, name in index.labels.items()}
    if index.panoptic:
        return _panoptic(part, entry, value_of, crowds)
    size = _size(part, entry)
    columns, drawn = np.zeros(size[0] * size[1], np.uint8), 0
    objects: list[tuple[int, rle.Runs, int]] = []
    for place, annotation in enumerate(entry.annotations):
        where = f"annotation {annotation.get('id', place)} of {part}"
        runs = _runs(annotation.get("segmentation"), size, where)
        if crowds and annotation.get("iscrowd"):
            drawn += rle.paint(runs, columns, IGNORE)
            check_drawn(drawn, part)
        else:
            objects.append((rle.area(runs), runs, _value(annotation, value_of, where)))
    for _, runs, value in sorted(objects, key=lambda one: -one[0]):  # stable: of equal ones the later on top
        drawn += rle.paint(runs, columns, value)
        check_drawn(drawn, part)
    return np.ascontiguousarray(columns.reshape(size[::-1]).T)


def outlines(part: Part) -> list[Points]:
    """Of polygons; run lengths cannot leave their picture."""
    entry = _index(part.file).entries.get(part.key)
    drawn = [annotation.get("segmentation") for annotation in entry.annotations] if entry else []
    return [
        points_of(outline, str(part))
        for polygons in drawn
        if isinstance(polygons, list)
        for outline in polygons
    ]


def _panoptic(part: Part, entry: Entry, value_of: Mapping[int, int], crowds: bool) -> Raw:
    assert part.beside is not None
    colours = read_mask(part.beside, colours=True).astype(np.int64)
    if colours.ndim == 2:
        colours = colours[..., None].repeat(3, axis=2)
    segments_HW = colours @ np.array([1, 256, 65536])
    canvas = np.full(segments_HW.shape, IGNORE, np.uint8)
    known, place = np.unique(segments_HW, return_inverse=True)
    meant = {0: IGNORE}
    for annotation in entry.annotations:
        for segment in listed(annotation.get("segments_info"), f"segments_info of {part}"):
            segment = mapping(segment, f"a segment of {part}")
            identity = segment.get("id")
            if not isinstance(identity, int):
                raise DataError(f"a segment of {part} has the id {identity!r}", "export it again")
            ignored = crowds and segment.get("iscrowd")
            where = f"segment {identity} of {part}"
            meant[identity] = IGNORE if ignored else _value(segment, value_of, where)
    missing = [int(value) for value in known if int(value) not in meant]
    if missing:
        raise DataError(
            f"{part.beside} has the segment {missing[0]}, which {part.file} does not", "export it again"
        )
    canvas[:] = np.array([meant[int(value)] for value in known], np.uint8)[place].reshape(canvas.shape)
    return canvas


def _runs(segmentation: object, size: tuple[int, int], where: str) -> rle.Runs:
    if isinstance(segmentation, Mapping):
        return rle.runs_of(segmentation, size, where)
    polygons = listed(segmentation, f"segmentation of {where}")
    if not polygons:
        raise DataError(f"{where} has a box and no outline", "masks need polygons or run lengths")
    outlines = [points_of(outline, where) for outline in polygons]
    small = next((outline for outline in outlines if len(outline) < 3), None)
    if small is not None:
        raise DataError(f"{where} has a polygon of {len(small)} points", "a polygon has three or more")
    edges = sum(float(np.abs(np.diff(outline, axis=0, append=outline[:1])).sum()) for outline in outlines)
    if edges > min(100 * (size[0] + 1) * (size[1] + 1), MOST_OUTLINE):
        raise DataError(f"{where} has outlines of {edges:.0f} pixels", "simplify them")
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise needs("pycocotools", "polygons of COCO") from error
    merged = coco.merge(coco.frPyObjects([outline.ravel().tolist() for outline in outlines], *size))
    return rle.runs_of(merged, size, where)


def _value(annotation: Mapping[str, object], value_of: Mapping[int, int], where: str) -> int:
    """Raises DataError for a category that the file does not list."""
    category = annotation.get("category_id")
    if not isinstance(category, int) or category not in value_of:
        raise DataError(
            f"{where} has the category {str(category)[:40]}, which is not listed",
            "export it again: categories lists those that there are",
        )
    return value_of[category]


def _size(part: Part, entry: Entry) -> tuple[int, int]:
    return size_of(*entry.size, str(part))


def _files(root: Path, config: DataConfig) -> dict[str, Path]:
    files = {}
    for split, file in (config.splits or {}).items():
        if not isinstance(file, str):
            raise ConfigError(f"splits: {split} is a list of ids", "for the format coco it names a .json")
        files[split] = root / check_id(file, "splits")
    return files


def _labels(indices: Sequence[Index] | object) -> list[str]:
    """Names over all files, each once, in the order of their ids."""
    return list(
        dict.fromkeys(name for index in cast(Sequence[Index], indices) for name in index.labels.values())
    )


def _found(root: Path) -> dict[str, str]:
    """Split -> .json; instances before panoptic."""
    places = [*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob("*/*.coco.json")]
    files = [
        file
        for file in sorted(places, key=lambda file: (_PREFIXES.match(file.name) is None, file))
        if is_coco(file)
    ]
    found: dict[str, str] = {}
    for file in files:
        name = re.sub(r"[\d_.-]+$", "", _stem(file)).lower()
        split = file.parent.name if file.parent.parent == root and file.name.endswith(".coco.json") else name
        if split.lower() in (*SPLIT_FOLDERS, "trainval"):
            found.setdefault(split.lower(), file.relative_to(root).as_posix())
    return found or ({"train": files[0].relative_to(root).as_posix()} if len(files) == 1 else {})


def _stem(file: Path) -> str:
    return _PREFIXES.sub("", file.name.removesuffix(".json").removesuffix(".coco"))


def _named(template: str, root: Path, file: Path, split: str) -> str:
    folder = file.parent.relative_to(root).as_posix()
    filled = template.replace("{split}", split).replace("{stem}", _stem(file)).replace("{folder}", folder)
    return check_id(filled, "images in dataset.yaml")


def _folder(root: Path, config: DataConfig, indices: Mapping[str, Index]) -> str:
    files = _files(root, config)
    for template in FOLDERS:
        if all(
            any(
                below(root, _named(template, root, file, split), entry.name, str(file)).is_file()
                for entry in list(indices[split].entries.values())[:5]
            )
            for split, file in files.items()
            if indices[split].entries
        ):
            return template
    some = next((entry.name for index in indices.values() for entry in index.entries.values()), "none at all")
    raise DataError(
        f"the pictures of {', '.join(str(file) for file in files.values())} are not found ({some})",
        "say in dataset.yaml where they are: images: FOLDER",
    )


def _segments_file(root: Path, file: Path, entry: Entry) -> Path:
    names = [name for annotation in entry.annotations if isinstance(name := annotation.get("file_name"), str)]
    name = names[0] if names else f"{stem(entry.name)}.png"
    return file.with_suffix("") / check_id(name, str(file))


def _make_index(file: Path) -> Index:
    whole = mapping(read_json(file, _compact), str(file))
    labels: dict[int, str] = {}
    for entry in listed(whole.get("categories"), f"categories of {file}"):
        category = mapping(entry, f"a category of {file}")
        identity, name = category.get("id"), category.get("name")
        if not isinstance(identity, int) or not isinstance(name, str) or identity in labels:
            raise DataError(
                f"{file} has a category {identity!r} named {name!r}", "ids are whole numbers, each once"
            )
        labels[identity] = name
    annotations: dict[str, list[Mapping[str, object]]] = {}
    for place, entry in enumerate(listed(whole.get("annotations"), f"annotations of {file}")):
        annotation = mapping(entry, f"annotation {place} of {file}")
        annotations.setdefault(str(annotation.get("image_id")), []).append(annotation)
    entries: dict[str, Entry] = {}
    for listed_image in listed(whole.get("images"), f"images of {file}"):
        image = mapping(listed_image, f"an image of {file}")
        key, name = str(image.get("id")), image.get("file_name")
        if not isinstance(name, str) or not name or key in entries:
            raise DataError(
                f"{file} has an image {key[:40]} with the file_name {name!r}", "each id once, with its file"
            )
        entries[key] = Entry(name, (image.get("height"), image.get("width")), annotations.pop(key, []))
    if annotations:
        raise DataError(
            f"{file} has annotations of the image {next(iter(annotations))[:40]}, which it does not list",
            "export it again",
        )
    panoptic = any("segments_info" in one for entry in entries.values() for one in entry.annotations)
    return Index(entries, dict(sorted(labels.items())), panoptic)


def _compact(read: dict[str, object]) -> dict[str, object]:
    """Outlines as arrays: as lists of Python's numbers they take eight times the room of the text."""
    outlines = read.get("segmentation")
    if isinstance(outlines, list):
        read["segmentation"] = [_packed(outline) for outline in outlines]
    return read


def _packed(outline: object) -> object:
    try:
        return np.asarray(outline, np.float64)
    except (TypeError, ValueError, OverflowError):
        return outline  # whoever draws it says what is wrong


_index = Kept(_make_index)
