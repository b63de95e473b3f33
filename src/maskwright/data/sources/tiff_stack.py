"""Stacks: TIFF files of many pages (microscopes, scanners), beside stacks of as many labels, in folders.

Each page is an item of its own (`cell@0003`), and the pages of a file are one group. `window` in dataset.yaml says
which numbers are black and white; without it 8 bits are taken as they are and 16 bits divided by 257.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import IGNORE, Raw
from maskwright.data.fingerprint import recall
from maskwright.data.levels import grey_levels, told_window, whole_numbers, window_told
from maskwright.data.part import Part, needs
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, Pair, filled
from maskwright.data.sources.geotiff import first_tiff
from maskwright.errors import DataError


def recognise(root: Path) -> bool:
    """Whether the first picture of a folder has more than one page."""
    file = first_tiff(root)
    if file is None:
        return False
    try:
        with Image.open(file, formats=["TIFF"]) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError):
        return False


def complete(root: Path, config: DataConfig) -> DataConfig:
    return filled(folder.complete(root, config), groups="{id:before last @}")


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """Pairs of pages. Raises DataError: stacks of other numbers of pages."""
    pairs = folder.read(root, config)
    files = [file for pair in pairs for file in (pair.image, pair.mask) if isinstance(file, Path)]
    pages = dict(zip(files, recall("pages/1", files, _pages, what="Counting pages"), strict=True))
    made: list[Pair] = []
    for pair in pairs:
        assert isinstance(pair.image, Path)
        count = _counted(pages[pair.image])
        if isinstance(pair.mask, Path) and _counted(pages[pair.mask]) != count:
            raise DataError(
                f"the mask {pair.mask} has {pages[pair.mask]} pages and its image {count}",
                "give each page its mask, or list the ids under exclude in dataset.yaml",
            )
        for page in range(count):
            image = Part(pair.image, "page", str(page), window_told(config.window))
            mask = Part(pair.mask, "page of labels", str(page)) if isinstance(pair.mask, Path) else None
            made.append(replace(pair, id=f"{pair.id}@{page:04d}", image=image, mask=mask))
    return tuple(made)


def header(part: Part) -> tuple[int, int, int]:
    with _series(part.file) as pages:
        height, width, *channels = _checked(pages, part).shape
    return height, width, 3 if channels and channels[0] > 2 else 1


def raw(part: Part) -> Raw:
    """HW or HWC uint8."""
    with _series(part.file) as pages:
        numbers = _numbers(_checked(pages, part), part)
    return grey_levels(numbers, told_window(part.told), str(part.file))


def raw_labels(part: Part) -> Raw:
    """HW whole numbers, or HW3 colours."""
    with _series(part.file) as pages:
        return whole_numbers(_numbers(_checked(pages, part), part), str(part), IGNORE)


def _numbers(page: Any, part: Part) -> NDArray[np.generic]:
    """HW or HWC. Raises DataError, or what `_series` turns into one."""
    try:
        return np.asarray(page.asarray())
    except (
        ValueError
    ) as error:  # LZW, JPEG, ZSTD: tifffile unpacks them with imagecodecs only, GDAL by itself
        fault = error
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError as error:
        raise needs("rasterio", f"{part} ({fault})") from error
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        with rasterio.open(f"GTIFF_DIR:off:{page.offset}:{part.file}", driver="GTiff") as raster:
            bands = raster.read()
    except RasterioError as error:
        raise ValueError(f"{fault}; {error}") from error
    return np.asarray(bands[0] if len(page.shape) == 2 else np.moveaxis(bands, 0, 2))


def _checked(pages: Any, part: Part) -> Any:
    """The page, if it is one of a picture. Raises DataError."""
    if int(part.key) >= len(pages):
        raise DataError(f"{part.file} has {len(pages)} pages", "open the data set again")
    page = pages[int(part.key)]
    shape = page.shape
    if (
        len(shape) not in (2, 3)
        or (len(shape) == 3 and shape[2] > 4)
        or not 0 < shape[0] * shape[1] <= LARGEST
    ):
        raise DataError(
            f"page {part.key} of {part.file} has the shape {shape}", "H x W or H x W x C with 1 to 4 channels"
        )
    return page


def _pages(file: Path) -> int:
    with _series(file) as pages:
        return len(pages)


def _counted(fact: object) -> int:
    if isinstance(fact, DataError):
        raise fact
    return cast(int, fact)


@contextmanager
def _series(file: Path) -> Iterator[Any]:
    """The pages of the first series: thumbnails and pyramids are others."""
    try:
        import tifffile
    except ImportError as error:
        raise needs("tifffile", "a stack of pages") from error
    try:
        with tifffile.TiffFile(file) as opened:
            yield opened.series[0].pages
    except (
        tifffile.TiffFileError,
        OSError,
        ValueError,
        IndexError,
        TypeError,
        KeyError,
        MemoryError,
    ) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{file} cannot be read: {said}", "replace it or leave it out") from error
