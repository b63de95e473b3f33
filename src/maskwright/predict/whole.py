"""Files that are written once for all pictures of a call: COCO annotations, and tables of pixels and objects."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO, TypeAlias

from maskwright.data.classes import ClassMap
from maskwright.files import write_atomic
from maskwright.predict.encode import Kind
from maskwright.predict.facts import Facts

Rows: TypeAlias = Callable[[], Iterator[tuple[str, Facts]]]
"""(name of the picture below its folder, facts), from the start each time: memory holds one picture's."""

FILES: dict[Kind, tuple[str, ...]] = {
    "coco": ("annotations.json",),
    "statistics": ("pixels.csv", "objects.csv"),
}
PIXELS = ("picture", "class", "id", "pixels", "share", "probability")
OBJECTS = ("picture", "class", "id", "area", "left", "top", "width", "height", "x", "y", "probability")


def write_whole(kind: Kind, out: Path, rows: Rows, classes: ClassMap) -> None:
    """Each file whole or not there. Raises RunError."""
    if kind == "coco":
        _write(out / "annotations.json", lambda file: _coco(file, rows, classes))
        return
    _write(out / "pixels.csv", lambda file: _table(file, PIXELS, _pixel_rows(rows(), classes)))
    _write(out / "objects.csv", lambda file: _table(file, OBJECTS, _object_rows(rows(), classes)))


def _write(path: Path, fill: Callable[[TextIO], None]) -> None:
    def write(beside: Path) -> None:
        # Names of files need not be UTF-8.
        with open(beside, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            fill(file)

    write_atomic(path, write)


def _coco(file: TextIO, rows: Rows, classes: ClassMap) -> None:
    """A category for each class but 0, with the class's id; an annotation for each object."""
    categories = [{"id": k, "name": name} for k, name in enumerate(classes.names) if k]
    file.write('{"info": {}, "categories": ' + json.dumps(categories) + ',\n"images": [')
    for place, (name, facts) in enumerate(rows()):
        height, width = facts.size
        image = {"id": place + 1, "file_name": name, "height": height, "width": width}
        file.write((",\n" if place else "\n") + json.dumps(image))
    file.write('],\n"annotations": [')
    key = 0
    for place, (_, facts) in enumerate(rows()):
        for found in facts.objects:
            key += 1
            annotation = {
                "id": key,
                "image_id": place + 1,
                "category_id": found.class_id,
                "iscrowd": 0,
                "area": found.area,
                "bbox": found.box,
                "segmentation": {"size": facts.size, "counts": found.counts},
                "score": found.probability,
            }
            file.write((",\n" if key > 1 else "\n") + json.dumps(annotation))
    file.write("]}\n")


def _table(file: TextIO, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def _pixel_rows(rows: Iterable[tuple[str, Facts]], classes: ClassMap) -> Iterator[tuple[object, ...]]:
    for name, facts in rows:
        total = facts.size[0] * facts.size[1]
        for entry in facts.pixels:
            k, probability = entry.class_id, "" if entry.probability is None else entry.probability
            yield name, classes.names[k], k, entry.pixels, round(entry.pixels / total, 6), probability


def _object_rows(rows: Iterable[tuple[str, Facts]], classes: ClassMap) -> Iterator[tuple[object, ...]]:
    for name, facts in rows:
        for found in facts.objects:
            k = found.class_id
            yield name, classes.names[k], k, found.area, *found.box, *found.centre, found.probability
