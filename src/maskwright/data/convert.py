"""A data set written in another layout: pictures as they are, masks as class ids, splits and groups as lists.

Every layout gets a dataset.yaml that says what its files cannot: opened again, it gives the same ids, splits, groups
and classes, and the same masks to the pixel. What a layout has no place for is told, never dropped in silence.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal, get_args

import numpy as np
import yaml
from PIL import Image

from maskwright.config import suggest
from maskwright.data import rle
from maskwright.data.arrays import is_array
from maskwright.data.classes import IGNORE
from maskwright.data.colour_table import plain_name
from maskwright.data.dataset import Dataset, Item
from maskwright.data.image_io import ENDINGS, save_mask
from maskwright.data.places import read_native
from maskwright.data.sources.common import Frame
from maskwright.data.sources.labels import numbers_of
from maskwright.data.sources.voc import LISTS
from maskwright.errors import ConfigError, DataError
from maskwright.files import write_atomic, write_text
from maskwright.progress import SILENT, Progress

Form = Literal["folder", "coco", "voc", "npz"]
FORMS: tuple[Form, ...] = get_args(Form)

SHORT = {"train": "train", "validation": "val", "test": "test", "unlabelled": "unlabelled"}
"""Split -> what its file is called."""

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u2028\u2029]')
"""What not every system allows in a name, and what a list with one id per line cannot hold."""
_ENDS = re.compile(r"^[\s.]+|[\s.]+$")
"""White space of any script is lost at the ends of a line; some systems drop dots at the end of a name."""


@dataclass(frozen=True)
class Converted:
    """What was written."""

    folder: Path
    form: Form
    pictures: int
    lost: tuple[str, ...]
    """One line per thing that the layout could not keep."""


def convert(dataset: Dataset, form: str, out: Path, progress: Progress = SILENT) -> Converted:
    """Write `dataset` below `out`, which is new or empty. dataset.yaml comes last: without it, it was cut short.

    Raises ConfigError for an unknown layout, DataError for pictures that cannot be read or that the layout cannot
    hold, RunError where nothing can be written.
    """
    if form not in FORMS:
        raise ConfigError(f"--to {form} is no layout that can be written", suggest(form, list(FORMS)))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not empty", "name a new folder; nothing is written over")
    pairs, changed = _with_clean_ids(dataset.items, flat=form == "voc")
    lost = [f"{changed} ids were changed to names that every system and list can hold"] if changed else []
    write = {"folder": _to_folder, "coco": _to_coco, "voc": _to_voc, "npz": _to_npz}[form]
    with progress.task("Converting", len(pairs)) as advance:
        keys, told = write(dataset, pairs, out, advance)
    if any(pair.item.piece for pair in pairs):
        lost.append(
            "tiles are pictures of their own now: each is scored alone, with what it shares with others"
        )
    if dataset.targets and "targets" not in keys:
        lost.append(f"the dense targets {', '.join(dataset.targets)}: {form} has no place for them")
    keys = {"path": ".", "format": form, **keys}
    if not any(pair.split == "validation" for pair in pairs):
        keys["validation"] = {"fraction": 0.0}
    if dataset.grouped:
        write_text(out / "groups.csv", "".join(f"{pair.id},{_group(pair)}\n" for pair in pairs))
        keys["groups"] = "groups.csv"
    write_text(out / "dataset.yaml", yaml.safe_dump(keys, sort_keys=False, allow_unicode=True))
    return Converted(out, form, len(pairs), (*lost, *told))


@dataclass(frozen=True)
class Pair:
    """An item and the id under which it is written."""

    id: str
    item: Item

    @property
    def split(self) -> str:
        return self.item.split


Written = tuple[dict[str, object], list[str]]
"""Keys of dataset.yaml, and what could not be kept."""
Advance = Callable[[int], None]


def _to_folder(dataset: Dataset, pairs: Sequence[Pair], out: Path, advance: Advance) -> Written:
    redrawn = 0
    for pair in pairs:
        redrawn += _write_picture(pair, out / "images")
        if pair.item.mask is not None:
            save_mask(out / "masks" / f"{pair.id}.png", dataset.mask(pair.item), dataset.classes)
        for name, target in zip(dataset.targets, pair.item.targets, strict=True):
            if target is not None:
                _copy(target, out / name / f"{pair.id}{target.suffix.lower()}")
        advance(1)
    keys: dict[str, object] = {"images": "images/{id}.*", "masks": "masks/{id}.png"}
    if dataset.targets:
        keys["targets"] = {name: f"{name}/{{id}}{_ending(dataset, name)}" for name in dataset.targets}
    return {**keys, **_classes(dataset), "splits": _lists(pairs, out, "")}, _redrawn(redrawn)


def _to_voc(dataset: Dataset, pairs: Sequence[Pair], out: Path, advance: Advance) -> Written:
    redrawn = 0
    for pair in pairs:
        redrawn += _write_picture(pair, out / "JPEGImages")
        if pair.item.mask is not None:
            save_mask(out / "SegmentationClass" / f"{pair.id}.png", dataset.mask(pair.item), dataset.classes)
        advance(1)
    write_text(out / "class_names.txt", "".join(f"{name}\n" for name in dataset.classes.names))
    return {**_classes(dataset), "splits": _lists(pairs, out, f"{LISTS}/")}, _redrawn(redrawn)


def _to_coco(dataset: Dataset, pairs: Sequence[Pair], out: Path, advance: Advance) -> Written:
    names = dataset.classes.names
    numbers = numbers_of([name for name in names if plain_name(name) != "background"])
    value_of = [numbers.get(name, 0) for name in names]
    if len(set(value_of)) != len(names) or IGNORE in value_of:
        raise DataError(f"the classes {', '.join(names)} cannot be told apart as labels", "rename them")
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    redrawn, key, splits = 0, 0, dict[str, str]()
    labelled = [pair for pair in pairs if pair.item.mask is not None]
    for split in dict.fromkeys(pair.split for pair in labelled):
        images: list[object] = []
        annotations: list[object] = []
        for pair in (pair for pair in labelled if pair.split == split):
            redrawn += _write_picture(pair, out / "images")
            mask = dataset.mask(pair.item)
            height, width = mask.shape
            images.append(
                {"id": len(images) + 1, "file_name": _file_name(pair), "height": height, "width": width}
            )
            for value in np.unique(mask).tolist():
                number = IGNORE if value == IGNORE else value_of[value]
                if number:
                    key += 1
                    annotations.append(_annotation(key, len(images), mask == value, number, categories))
            advance(1)
        splits[split] = f"annotations/{SHORT[split]}.json"
        whole = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        write_text(out / splits[split], json.dumps(whole))
    advance(len(pairs) - len(labelled))
    values = {number: name for name, number in zip(names, value_of, strict=True)} | {IGNORE: "ignore"}
    left = len(pairs) - len(labelled)
    lost = [f"{left} unlabelled pictures: in COCO they would be all background"] if left else []
    keys: dict[str, object] = {"images": "images", "classes": list(names), "values": values, "splits": splits}
    keys["crowds"] = "ignore"  # pixels that are not known
    return keys, [*lost, *_redrawn(redrawn)]


def _annotation(
    key: int, image: int, inside: np.ndarray, number: int, categories: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """The pixels of one class in one picture; those that are ignored are a crowd, of any category."""
    rows, columns = np.nonzero(inside)
    top, left = int(rows.min()), int(columns.min())
    crowd = number == IGNORE
    return {
        "id": key,
        "image_id": image,
        "category_id": categories[0]["id"] if crowd else number,
        "iscrowd": int(crowd),
        "area": len(rows),
        "bbox": [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1],
        "segmentation": {"size": list(inside.shape), "counts": rle.compressed(inside)},
    }


def _to_npz(dataset: Dataset, pairs: Sequence[Pair], out: Path, advance: Advance) -> Written:
    channels, splits = dataset.channels(), dict[str, str]()
    sizes = {dataset.size(pair.item) for pair in pairs}
    if len(sizes) > 1:
        (first, second), count = sorted(sizes)[:2], len(sizes)
        raise DataError(
            f"the pictures have {count} sizes ({first[0]} x {first[1]}, {second[0]} x {second[1]}, ...)",
            "an array has one: use --to folder",
        )
    out.mkdir(parents=True, exist_ok=True)
    for split in dict.fromkeys(pair.split for pair in pairs):
        part = [pair for pair in pairs if pair.split == split]
        splits[split] = f"{SHORT[split]}.npz"
        fill = partial(_write_arrays, dataset, part, dataset.size(part[0].item), channels, advance)
        write_atomic(out / splits[split], fill)
    deep = sum(isinstance(pair.item.image, Path) and not is_array(pair.item.image) for pair in pairs)
    lost = (
        [f"the files of {deep} pictures: their pixels are kept, in 8 bits and {channels} channels"]
        if deep
        else []
    )
    return {**_classes(dataset), "splits": splits}, lost


def _write_arrays(
    dataset: Dataset,
    part: Sequence[Pair],
    size: tuple[int, int],
    channels: int,
    advance: Advance,
    target: Path,
) -> None:
    """Row after row: memory holds one picture."""
    labelled = part[0].item.mask is not None
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        with _member(archive, "images", (len(part), *size, channels), np.dtype(np.uint8)) as rows:
            for pair in part:
                rows.write(np.ascontiguousarray(dataset.image(pair.item, channels)).tobytes())
                advance(0 if labelled else 1)
        if labelled:
            with _member(archive, "masks", (len(part), *size), np.dtype(np.uint8)) as rows:
                for pair in part:
                    rows.write(np.ascontiguousarray(dataset.mask(pair.item)).tobytes())
                    advance(1)
        ids = np.array([pair.id for pair in part])
        with _member(archive, "ids", ids.shape, ids.dtype) as rows:
            rows.write(ids.tobytes())


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Iterator[IO[bytes]]:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as rows:
        np.lib.format.write_array_header_2_0(rows, header)
        yield rows


def _with_clean_ids(items: Sequence[Item], *, flat: bool) -> tuple[list[Pair], int]:
    """Ids that are file names everywhere, each once whatever the case of its letters; and how many had to change."""
    taken, pairs = set[str](), []
    for item in items:
        parts = [_ENDS.sub("", _FORBIDDEN.sub("_", part)) for part in PurePosixPath(item.id).parts]
        parts = [part for part in parts if part and part != "/"] or ["_"]
        clean = ("_" if flat else "/").join(f"_{part[1:]}" if part[0] == "#" else part for part in parts)
        name, turn = clean, 2
        while name.lower() in taken:
            name, turn = f"{clean}-{turn}", turn + 1
        taken.add(name.lower())
        pairs.append(Pair(name, item))
    return pairs, sum(pair.id != pair.item.id for pair in pairs)


def _file_name(pair: Pair) -> str:
    image = pair.item.image
    copied = isinstance(image, Path) and image.suffix.lower() in ENDINGS
    return f"{pair.id}{Path(str(image)).suffix.lower()}" if copied else f"{pair.id}.png"


def _write_picture(pair: Pair, folder: Path) -> bool:
    """The file itself where there is one, otherwise a PNG of its pixels; whether more than a PNG holds was there."""
    image = pair.item.image
    if isinstance(image, Path) and image.suffix.lower() in ENDINGS:
        _copy(image, folder / _file_name(pair))
        return False
    array = read_native(image)
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    write_atomic(folder / _file_name(pair), lambda beside: picture.save(beside, format="PNG"))
    return not isinstance(image, Frame)


def _copy(source: Path, target: Path) -> None:
    try:
        source.stat()
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}", "leave it out") from error
    write_atomic(target, lambda beside: shutil.copyfile(source, beside))


def _redrawn(count: int) -> list[str]:
    return [f"bit depth, bands and places of {count} pictures: they became PNG of 8 bits"] if count else []


def _classes(dataset: Dataset) -> dict[str, object]:
    values: dict[int, str] = dict(enumerate(dataset.classes.names))
    return {"classes": list(dataset.classes.names), "values": {**values, IGNORE: "ignore"}}


def _lists(pairs: Sequence[Pair], out: Path, folder: str) -> dict[str, str]:
    """Split -> file with one id per line."""
    lists = {}
    for split in dict.fromkeys(pair.split for pair in pairs):
        lists[split] = f"{folder}{SHORT[split]}.txt"
        write_text(out / lists[split], "".join(f"{pair.id}\n" for pair in pairs if pair.split == split))
    return lists


def _group(pair: Pair) -> str:
    """A line of groups.csv is cut at its last comma."""
    return _FORBIDDEN.sub("_", pair.item.group).replace(",", ";").strip() or "_"


def _ending(dataset: Dataset, target: str) -> str:
    """The one ending of a target's files. Raises DataError for several: a template has one."""
    place = dataset.targets.index(target)
    endings = {path.suffix.lower() for item in dataset.items if (path := item.targets[place]) is not None}
    if len(endings) != 1:
        raise DataError(
            f"the target {target} has files of {', '.join(sorted(endings))}", "save them all as one kind"
        )
    return endings.pop()
