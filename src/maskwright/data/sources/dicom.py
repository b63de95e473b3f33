"""DICOM slices (`images/ID.dcm`) beside masks of any kind (`masks/ID.png`), in folders.

Stored numbers become what they mean by the file's slope and intercept (Hounsfield units in CT); then `window` of
dataset.yaml, or the window that the file itself asks for, or the least and greatest number, says what is black and
white. MONOCHROME1 is turned round, so that more is brighter. Sub-folders are patients: they are groups.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import Raw, bands
from maskwright.data.fingerprint import recall
from maskwright.data.levels import grey_levels, told_window, window_told
from maskwright.data.part import Part, needs
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, Pair, filled
from maskwright.data.spacing import Spacing
from maskwright.errors import DataError

ENDING = ".dcm"
_PACKED = ("JPEG", "JPEG2000")
_FAULTS = (
    OSError,
    RuntimeError,  # also what is nested too deeply
    ValueError,
    OverflowError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    ImportError,
    struct.error,
)
"""What a decoder raises for bytes that make no sense."""


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
    return *_size(dataset, part.file), 3 if _number(dataset, "SamplesPerPixel", 1, part.file) > 1 else 1


def raw(part: Part) -> Raw:
    """HW or HW3 uint8."""
    dataset = _opened(part.file, pixels=True)
    size = _size(dataset, part.file)
    try:
        _check_packed(dataset, size, part.file)
        numbers: Any = dataset.pixel_array
    except (*_FAULTS, MemoryError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{part.file} cannot be decoded: {said}", "save it without compression, or leave it out"
        ) from error
    if numbers.ndim == 3:
        return grey_levels(numbers, None, str(part.file))
    slope = _number(dataset, "RescaleSlope", 0, part.file) or 1.0
    intercept = _number(dataset, "RescaleIntercept", 0, part.file)
    ends = sorted(float(end) * slope + intercept for end in (numbers.min(), numbers.max()))
    window = told_window(part.told) or _own_window(dataset, part.file) or (ends[0], max(ends[1], ends[0] + 1))
    levels = np.empty(numbers.shape, np.uint8)
    for rows in bands(numbers):
        levels[rows] = grey_levels(numbers[rows] * slope + intercept, window, str(part.file))
    return 255 - levels if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else levels


def spacings(files: Sequence[Path]) -> list[Spacing | None]:
    """PixelSpacing, or that at the detector; None where there is none (DICOM PS3.3, 10.7.1.3)."""
    facts = recall("spacing/1", files, _spacing, what="Reading headers")
    return [
        None if isinstance(fact, DataError) or not fact else cast(Spacing, tuple(cast(list[float], fact)))
        for fact in facts
    ]


def _spacing(file: Path) -> list[float]:
    dataset = _opened(file, pixels=False)
    said = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or ()
    try:
        return [float(number) for number in said] if len(said) == 2 else []
    except _FAULTS:
        return []


def _own_window(dataset: Any, file: Path) -> tuple[float, float] | None:
    centre = _number(dataset, "WindowCenter", float("nan"), file)
    width = _number(dataset, "WindowWidth", float("nan"), file)
    if width > 1 and math.isfinite(centre) and math.isfinite(width):
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2  # DICOM PS3.3, C.11.2.1.2.1
    return None


def _number(dataset: Any, key: str, otherwise: float, file: Path) -> float:
    """The first number under `key`: a window may have several readings. Raises DataError."""
    try:
        value = dataset.get(key)
        if value is None or value == "":
            return otherwise
        return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
    except _FAULTS as error:
        raise DataError(f"{file} has no number under {key}", "replace it or leave it out") from error


def _size(dataset: Any, file: Path) -> tuple[int, int]:
    height, width = (int(_number(dataset, key, 0, file)) for key in ("Rows", "Columns"))
    frames, samples = (int(_number(dataset, key, 1, file)) for key in ("NumberOfFrames", "SamplesPerPixel"))
    if not 0 < height * width <= LARGEST or height < 0 or frames != 1 or samples not in (1, 3):
        raise DataError(
            f"{file} holds {frames} frames of {height} x {width} pixels with {samples} samples",
            "one frame of 1 or 3 samples is read; save others as a stack of slices",
        )
    return height, width


def _check_packed(dataset: Any, size: tuple[int, int], file: Path) -> None:
    """Raises DataError where a packed picture is another than the header says: it would be unpacked all the same."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        return
    if syntax == RLELossless:
        most = size[0] * size[1] * 3 * 8
        if len(dataset.PixelData) * 64 > 100 * most + (1 << 24):
            raise DataError(f"{file} packs far more than {size[0]} x {size[1]} pixels", "replace it")
        return
    with Image.open(
        io.BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1)), formats=_PACKED
    ) as packed:
        if (packed.height, packed.width) != size:
            raise DataError(
                f"{file} claims {size[0]} x {size[1]} pixels and holds {packed.height} x {packed.width}",
                "replace it or leave it out",
            )


def _opened(file: Path, *, pixels: bool) -> Any:
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.filereader import read_file_meta_info
        from pydicom.uid import DeflatedExplicitVRLittleEndian
    except ImportError as error:
        raise needs("pydicom", "DICOM", "medical") from error
    try:
        with open(file, "rb") as opened:
            if opened.read(132)[128:] == b"DICM":
                meta = read_file_meta_info(file)
                if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                    raise DataError(f"{file} is deflated as a whole", "save it without compression")
        return pydicom.dcmread(file, stop_before_pixels=not pixels)
    except FileNotFoundError as error:
        raise DataError(f"{file} is not there", "check the path") from error
    except (InvalidDicomError, *_FAULTS) as error:
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
