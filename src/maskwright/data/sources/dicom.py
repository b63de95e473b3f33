"""DICOM slices (`images/ID.dcm`) beside masks of any kind (`masks/ID.png`), in folders.

Stored numbers become what they mean by the file's slope and intercept (Hounsfield units in CT); then `window` of
dataset.yaml, or the window that the file itself asks for, or the least and greatest number, says what is black and
white. MONOCHROME1 is turned round, so that more is brighter. Sub-folders are patients: they are groups.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import Raw
from maskwright.data.levels import grey_levels, told_window, window_told
from maskwright.data.part import Part, needs
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, Pair, filled
from maskwright.errors import DataError

ENDING = ".dcm"


def recognise(root: Path) -> bool:
    return _templates(root) is not None


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError where no slices are found."""
    if config.images is None and config.masks is None:
        found = _templates(root)
        if found is None:
            raise DataError(
                f"{root} holds no slices: looked for images/*{ENDING} beside masks/*.png",
                'write images: "FOLDER/{id}.dcm" and masks: "FOLDER/{id}.png" in dataset.yaml',
            )
        config = config.model_copy(update={"images": found[0], "masks": found[1]})
    return filled(folder.complete(root, config), groups="{id:before last /}")


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    told = window_told(config.window)
    return tuple(
        replace(pair, image=Part(pair.image, "dicom", "slice", told))
        for pair in folder.read(root, config)
        if isinstance(pair.image, Path)
    )


def header(part: Part) -> tuple[int, int, int]:
    dataset = _opened(part.file, pixels=False)
    return *_size(dataset, part.file), 3 if int(dataset.get("SamplesPerPixel", 1)) > 1 else 1


def raw(part: Part) -> Raw:
    """HW or HW3 uint8."""
    dataset = _opened(part.file, pixels=True)
    _size(dataset, part.file)
    try:
        numbers: Any = dataset.pixel_array
    except (RuntimeError, ValueError, AttributeError, NotImplementedError, KeyError, ImportError) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{part.file} cannot be decoded: {said}", "save it without compression, or leave it out"
        ) from error
    if numbers.ndim == 3:
        return grey_levels(numbers, None, str(part.file))
    meant = numbers * float(dataset.get("RescaleSlope") or 1) + float(dataset.get("RescaleIntercept") or 0)
    levels = grey_levels(meant, told_window(part.told) or _own_window(dataset, meant), str(part.file))
    return 255 - levels if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else levels


def _own_window(dataset: Any, meant: np.ndarray) -> tuple[float, float]:
    centre, width = (_first(dataset.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 1:
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2  # DICOM PS3.3, C.11.2.1.2.1
    return float(meant.min()), max(float(meant.max()), float(meant.min()) + 1)


def _first(value: Any) -> float | None:
    """A window may have several readings: the first."""
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _size(dataset: Any, file: Path) -> tuple[int, int]:
    height, width = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    if not 0 < height * width <= LARGEST or frames != 1 or samples not in (1, 3):
        raise DataError(
            f"{file} holds {frames} frames of {height} x {width} pixels with {samples} samples",
            "one frame of 1 or 3 samples is read; save others as a stack of slices",
        )
    return height, width


def _opened(file: Path, *, pixels: bool) -> Any:
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise needs("pydicom", "DICOM", "medical") from error
    try:
        return pydicom.dcmread(file, stop_before_pixels=not pixels)
    except FileNotFoundError as error:
        raise DataError(f"{file} is not there", "check the path") from error
    except (InvalidDicomError, OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{file} is no DICOM that can be read: {said}", "replace it or leave it out"
        ) from error


def _templates(root: Path) -> tuple[str, str] | None:
    for images in folder.IMAGE_FOLDERS:
        names = folder.by_id(root, f"{images}/{{id}}{ENDING}") if (root / images).is_dir() else {}
        for masks in folder.MASK_FOLDERS if names else ():
            for suffix in folder.SUFFIXES:
                for ending in (".*", ".npy"):
                    labels = folder.by_id(root, f"{masks}/{{id}}{suffix}{ending}")
                    if names.keys() & labels.keys():
                        return f"{images}/{{id}}{ENDING}", f"{masks}/{{id}}{suffix}{ending}"
    return None
