"""What was counted per image, as columns of CSV files and back: `per_image.csv` and `pictures.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from maskwright.metrics.anatomy import KINDS
from maskwright.metrics.calibration import BINS
from maskwright.metrics.counts import COLUMNS, Counts
from maskwright.metrics.measures import Tallies
from maskwright.metrics.objects import OBJECT_SUMS, SIZES
from maskwright.metrics.pictures import FACTS
from maskwright.metrics.surface import DISTANCE_COLUMNS, SURFACE_COLUMNS

Columns: TypeAlias = Mapping[str, Sequence[object]]
"""By name, all of one length."""
Rows: TypeAlias = Sequence[Mapping[str, str]]

MENDED = tuple(f"{kind}_{what}" for kind in KINDS for what in ("fn", "fp", "fp_background"))
"""Of fn, fp and fp_background, the pixels that are errors of each kind."""
PICTURE_COLUMNS = {
    "facts_NF": FACTS,
    "objects_NS5": tuple(f"{size}_{what}" for size in SIZES for what in OBJECT_SUMS),
    "brier_N": ("brier",),
    "quality_N": ("quality",),
}
"""The columns of pictures.csv, by the field of `Tallies` that they hold."""
BIN_COLUMNS = ("pixels", "confidence", "correct", "pixels_before", "confidence_before", "correct_before")
"""Of confidence.csv, beside id and bin (0 to BINS - 1): of `Tallies.bins_NB3` and `bins_before_NB3`."""


def class_columns(tallies: Tallies) -> Columns:
    """A row per image and class, as far as it was counted beside the counts themselves."""
    columns: dict[str, Sequence[object]] = {}
    if tallies.surface_NK5 is not None:
        columns |= _named(SURFACE_COLUMNS, tallies.surface_NK5)
    if tallies.distance_NK2 is not None:
        columns |= _named(DISTANCE_COLUMNS, tallies.distance_NK2)
    if tallies.anatomy_NEK4 is not None:
        gone_NEK4 = tallies.counts_NK4[:, None] - tallies.anatomy_NEK4
        columns |= _named(MENDED, np.moveaxis(gone_NEK4[..., [2, 1, 3]], 1, 2))
    return columns


def picture_columns(tallies: Tallies) -> Columns:
    """A row per image; empty where nothing of it was counted."""
    columns: dict[str, Sequence[object]] = {}
    for field, names in PICTURE_COLUMNS.items():
        if (values := getattr(tallies, field)) is not None:
            columns |= _named(names, values)
    return columns


def bin_columns(tallies: Tallies, ids: Sequence[str]) -> Columns:
    """A row per image and confidence bin with pixels in it; empty where confidences were not counted."""
    if tallies.bins_NB3 is None or tallies.bins_before_NB3 is None:
        return {}
    both_NB6 = np.concatenate([tallies.bins_NB3, tallies.bins_before_NB3], axis=-1)
    images, bins = np.nonzero(both_NB6.any(-1))
    columns: dict[str, Sequence[object]] = {
        "id": [ids[image] for image in images.tolist()],
        "bin": bins.tolist(),
    }
    columns |= _named(BIN_COLUMNS, both_NB6[images, bins])
    return columns


def _bins(rows: Rows, ids: Sequence[str]) -> np.ndarray | None:
    """N B 6, the way back."""
    if (values := _read(rows, BIN_COLUMNS)) is None:
        return None
    place = {id: image for image, id in enumerate(ids)}
    both_NB6 = np.zeros((len(ids), BINS, len(BIN_COLUMNS)))
    both_NB6[[place[row["id"]] for row in rows], [int(row["bin"]) for row in rows]] = values
    return both_NB6


def tallies_of(by_class: Rows, by_picture: Rows, by_bin: Rows, images: int, classes: int) -> Tallies:
    """The way back. Raises ValueError, KeyError or IndexError for rows that do not fit together."""
    counts = _read(by_class, COLUMNS, np.int64)
    if counts is None:
        raise KeyError(COLUMNS[0])
    if by_picture and len(by_picture) != images:
        raise ValueError(f"{len(by_picture)} pictures, not {images}")
    counts_NK4 = counts.reshape(images, classes, len(COLUMNS))
    surface, distance = _read(by_class, SURFACE_COLUMNS, np.int64), _read(by_class, DISTANCE_COLUMNS)
    gone = _read(by_class, MENDED, np.int64)
    objects = _read(by_picture, PICTURE_COLUMNS["objects_NS5"])
    brier, quality = _read(by_picture, ("brier",)), _read(by_picture, ("quality",))
    bins = _bins(by_bin, [row["id"] for row in by_picture])
    return Tallies(
        counts_NK4,
        surface_NK5=None if surface is None else surface.reshape(images, classes, -1),
        distance_NK2=None if distance is None else distance.reshape(images, classes, -1),
        objects_NS5=None if objects is None else objects.reshape(images, len(SIZES), -1),
        anatomy_NEK4=None if gone is None else _mended(counts_NK4, gone),
        facts_NF=_read(by_picture, FACTS),
        bins_NB3=None if bins is None else bins[..., :3],
        bins_before_NB3=None if bins is None else bins[..., 3:],
        brier_N=None if brier is None else brier[:, 0],
        quality_N=None if quality is None else quality[:, 0],
    )


def to_csv(columns: Columns) -> str:
    """None and NaN are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def from_csv(path: Path) -> Rows:
    """Raises OSError."""
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _named(names: Sequence[str], values: np.ndarray) -> Columns:
    """The last axes of `values` are the columns, what is before them are the rows."""
    table = values.reshape(-1, len(names))
    return {name: table[:, position].tolist() for position, name in enumerate(names)}


def _read(rows: Rows, names: Sequence[str], dtype: type = np.float64) -> np.ndarray | None:
    """None where the file does not have these columns."""
    if not rows or names[0] not in rows[0]:
        return None
    return np.array([[row[name] or "nan" for name in names] for row in rows]).astype(dtype)


def _mended(counts_NK4: Counts, gone: Int64[np.ndarray, "N*K E*3"]) -> np.ndarray:
    """Counts with the errors of each kind gone (N E K 4)."""
    images, classes = counts_NK4.shape[:2]
    fn, fp, fp_background = np.moveaxis(gone.reshape(images, classes, len(KINDS), 3), (3, 2), (0, 2))
    changes = np.stack([fn, -fp, -fn, -fp_background], axis=-1)
    after: np.ndarray = (counts_NK4[:, None] + changes).astype(np.int32)
    return after


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return "" if value is None else value
