"""Where pictures, masks and targets lie, in files or as rows of arrays, and whether their sizes agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import Raw
from maskwright.data.fingerprint import recall
from maskwright.data.image_io import image_channels, image_size, read_mask
from maskwright.data.sources import npz
from maskwright.data.sources.common import Frame
from maskwright.errors import DataError
from maskwright.progress import Progress


def headers(places: Sequence[Path | Frame], progress: Progress) -> list[tuple[int, int, int] | None]:
    """(height, width, channels) of pictures; None for a file that is no image."""
    paths = [place for place in places if isinstance(place, Path)]
    facts = recall("header/1", paths, _header, what="Reading headers", progress=progress)
    known = {
        path: None
        if isinstance(fact, DataError)
        else cast(tuple[int, int, int], tuple(cast(list[int], fact)))
        for path, fact in zip(paths, facts, strict=True)
    }
    return [known[place] if isinstance(place, Path) else _frame_header(place) for place in places]


def _header(path: Path) -> tuple[int, int, int]:
    return (*image_size(path), image_channels(path))


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
        f"mend the {what}, or list the id under exclude in dataset.yaml",
    )


def read_raw(place: Path | Frame, coloured: bool) -> Raw:
    """What a mask holds before it means anything. Raises DataError."""
    return read_mask(place, colours=coloured) if isinstance(place, Path) else read_row(place)


def read_row(frame: Frame) -> NDArray[np.generic]:
    """One picture or mask of an array."""
    array = npz.opened(frame.file, frame.member)
    row: NDArray[np.generic] = array[frame.row] if frame.plane is None else array[frame.row, frame.plane]
    return row


def file_of(place: Path | Frame) -> Path:
    """The file that it lies in."""
    return place if isinstance(place, Path) else place.file


def where(place: Path | Frame | None) -> str:
    """For error messages."""
    return f"{place.file}[{place.member}][{place.row}]" if isinstance(place, Frame) else str(place)
