"""Where pictures, masks and targets lie, in files or as rows of arrays, and whether their sizes agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import Raw
from maskwright.data.drawing import Points
from maskwright.data.fingerprint import recall
from maskwright.data.image_io import (
    as_picture,
    image_channels,
    image_size,
    read_image,
    read_mask,
    to_channels,
)
from maskwright.data.part import Part
from maskwright.data.sources import coco, dicom, geotiff, label_studio, labelme, nifti, npz, tiff_stack, yolo
from maskwright.data.sources.common import Frame, Place
from maskwright.errors import DataError
from maskwright.progress import Progress

if TYPE_CHECKING:
    from maskwright.tensors import Picture


FORMS: Mapping[str, Callable[[Part], Raw]] = {
    "coco": coco.raw,
    "coco without crowds": coco.raw_without_crowds,
    "labelme": labelme.raw,
    "label-studio": label_studio.raw,
    "yolo": yolo.raw,
    "raster": geotiff.raw,
    "raster labels": geotiff.raw_labels,
    "page": tiff_stack.raw,
    "page of labels": tiff_stack.raw_labels,
    "slice": nifti.raw,
    "slice of labels": nifti.raw_labels,
    "dicom": dicom.raw,
}
"""The readers of parts, by `Part.form`: a mask's HW whole numbers, or a picture's HW or HWC uint8. DataError."""

OUTLINES: Mapping[str, Callable[[Part], list[Points]]] = {
    "coco": coco.outlines,
    "labelme": labelme.outlines,
    "label-studio": label_studio.outlines,
    "yolo": yolo.outlines,
}
"""The outlines of shapes, in pixels, before the border of the picture cuts them. Raise DataError."""

HEADERS: Mapping[str, Callable[[Part], tuple[int, int, int]]] = {
    "raster": geotiff.header,
    "page": tiff_stack.header,
    "slice": nifti.header,
    "dicom": dicom.header,
}
"""(height, width, channels 1 or 3) of the forms that hold pictures, without the pixels where the file allows it."""


def headers(places: Sequence[Place], progress: Progress) -> list[tuple[int, int, int] | None]:
    """(height, width, channels) of pictures; None for a file that is no image."""
    paths = [place for place in places if not isinstance(place, Frame)]
    facts = recall("header/1", paths, _header, what="Reading headers", progress=progress)
    known = {
        path: None
        if isinstance(fact, DataError)
        else cast(tuple[int, int, int], tuple(cast(list[int], fact)))
        for path, fact in zip(paths, facts, strict=True)
    }
    return [_frame_header(place) if isinstance(place, Frame) else known[place] for place in places]


def _header(place: Path | Part) -> tuple[int, int, int]:
    if isinstance(place, Part):
        return HEADERS[place.form](place)
    return (*image_size(place), image_channels(place))


def picture_size(place: Place) -> tuple[int, int]:
    """(height, width), upright, without decoding it. Raises DataError."""
    if isinstance(place, Frame):
        return _frame_header(place)[:2]
    return image_size(place) if isinstance(place, Path) else _header(place)[:2]


def read_picture(place: Place, channels: int) -> Picture:
    """HWC uint8, upright, with 1, 3 or 4 channels. Raises DataError."""
    if isinstance(place, Path):
        return read_image(place, channels)
    return to_channels(as_picture(read_raw(place, False)), channels)


def _frame_header(frame: Frame) -> tuple[int, int, int]:
    height, width, *channels = read_row(frame).shape
    return height, width, 3 if channels and channels[0] > 2 else 1


def size_error(
    differing: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]], what: str = "mask"
) -> DataError:
    """`differing`: (name, size of the mask or target, size of its image), the first of which is named."""
    name, mask, image = differing[0]
    more = f", and {len(differing) - 1} more {what}s differ" if len(differing) > 1 else ""
    return DataError(
        f"the {what} {name} is {mask[0]} x {mask[1]} and its image {image[0]} x {image[1]} (height x width){more}",
        f"mend the {what}; `maskwright data audit DATA --fix FILE` writes a dataset.yaml without such items",
    )


def read_native(place: Place) -> Picture:
    """HWC uint8 with the channels that it has. Raises DataError."""
    if isinstance(place, Path):
        return read_image(place, image_channels(place))
    return as_picture(np.asarray(read_raw(place, False)))


def read_raw(place: Place, coloured: bool) -> Raw:
    """What a mask holds before it means anything. Raises DataError."""
    if isinstance(place, Part):
        return FORMS[place.form](place)
    return read_mask(place, colours=coloured) if isinstance(place, Path) else read_row(place)


def read_row(frame: Frame) -> NDArray[np.generic]:
    """One picture or mask of an array."""
    array = npz.opened(frame.file, frame.member)
    row: NDArray[np.generic] = array[frame.row] if frame.plane is None else array[frame.row, frame.plane]
    return row


def files_of(place: Place) -> tuple[Path, ...]:
    """The files that decide it."""
    if isinstance(place, Part):
        return place.files
    return (place,) if isinstance(place, Path) else (place.file,)


def inside(place: Place) -> list[object]:
    """What tells it from others of the same files, for fingerprints."""
    if isinstance(place, Part):
        return [place.form, place.key, *place.told]
    return [] if isinstance(place, Path) else [place.member, place.row, place.plane]


def where(place: Place | None) -> str:
    """For error messages."""
    return f"{place.file}[{place.member}][{place.row}]" if isinstance(place, Frame) else str(place)


def array_of(frame: Frame) -> tuple[Path, str, int | None]:
    """The array whose row it is."""
    return frame.file, frame.member, frame.plane


def row_digests(file: Path, member: str, plane: int | None) -> list[str]:
    """16 hex digits of the content of each row of an array. Raises DataError."""

    def of_rows(file: Path) -> list[str]:
        rows = (read_row(Frame(file, member, row, plane)) for row in range(len(npz.opened(file, member))))
        return [sha256(f"{row.dtype} {row.shape}".encode() + row.tobytes()).hexdigest()[:16] for row in rows]

    (fact,) = recall(f"rows of {member} {plane}/1", [file], of_rows)
    if isinstance(fact, DataError):
        raise fact
    return cast(list[str], fact)
