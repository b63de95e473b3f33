"""Stacks: TIFF files of many pages (microscopes, scanners), beside stacks of as many labels, in folders.

Each page is an item of its own (`cell@0003`), and the pages of a file are one group. `window` in dataset.yaml says
which numbers are black and white; without it 8 bits are taken as they are and 16 bits divided by 257.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
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
from maskwright.data.sources.common import DataConfig, FaultyError, Pair, filled, in_parts
from maskwright.data.sources.geotiff import first_tiff
from maskwright.errors import DataError

MOST_PAGES = 100_000
"""Of one file: a page takes ten bytes, and half a millisecond."""


def recognise(root: Path) -> bool:
    """Whether the first picture of a folder has more than one page."""
    file = first_tiff(root)
    return file is not None and _has_pages(file)


def _has_pages(file: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is broken, its reader speaks
            with Image.open(file, formats=["TIFF"]) as image:
                image.seek(1)
                return True
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError):
        return False


def complete(root: Path, config: DataConfig) -> DataConfig:
    return filled(folder.complete(root, config), groups="{id:before last @}")


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """Pairs of pages. Raises DataError: stacks of other numbers of pages."""
    pairs = folder.read(root, config)
    files = [file for pair in pairs for file in (pair.image, pair.mask) if isinstance(file, Path)]
    pages = _counted(files)

    def pages_of(pair: Pair) -> Iterator[Pair]:
        assert isinstance(pair.image, Path)
        shown = _numbered(pages[pair.image])
        labels = _numbered(pages[pair.mask]) if isinstance(pair.mask, Path) else shown
        if len(labels) != len(shown):
            raise FaultyError(
                "size-mismatch",
                f"the mask {pair.mask} has {len(labels)} pages and its image {len(shown)}",
                "give each page its mask, or list the id under exclude in dataset.yaml",
                {},
            )
        for place, (page, label) in enumerate(zip(shown, labels, strict=True)):
            image = Part(pair.image, "page", str(page), window_told(config.window))
            mask = Part(pair.mask, "page of labels", str(label)) if isinstance(pair.mask, Path) else None
            yield replace(pair, id=page_name(pair.id, place), image=image, mask=mask)

    return in_parts(pairs, config, pages_of)


def stacks(files: Sequence[Path]) -> dict[Path, tuple[Part, ...] | DataError]:
    """The pages of those of `files` that are TIFFs of several, in order; of one that cannot be counted, why."""
    several = [file for file in files if file.suffix.lower() in (".tif", ".tiff") and _has_pages(file)]
    found: dict[Path, tuple[Part, ...] | DataError] = {}
    for file, fact in _counted(several).items():
        if isinstance(fact, DataError):
            found[file] = fact
        elif len(numbers := _numbered(fact)) > 1:  # no thumbnail, no pyramid
            found[file] = tuple(Part(file, "page", str(number)) for number in numbers)
    return found


def page_name(stem: str, place: int) -> str:
    """What the page in that place, from 0, is called."""
    return f"{stem}@{place:04d}"


def _counted(files: Sequence[Path]) -> dict[Path, object]:
    """File -> numbers of its pages, or DataError."""
    return dict(zip(files, recall("pages/2", files, _pages, what="Counting pages"), strict=True))


def header(part: Part) -> tuple[int, int, int]:
    with _opened(part.file) as pages:
        height, width, *channels = _checked(pages, part).shape
    return height, width, 3 if channels and channels[0] > 2 else 1


def raw(part: Part) -> Raw:
    """HW or HWC uint8."""
    with _opened(part.file) as pages:
        numbers = _numbers(_checked(pages, part), part)
    return grey_levels(numbers, told_window(part.told), str(part.file))


def raw_labels(part: Part) -> Raw:
    """HW whole numbers, or HW3 colours."""
    with _opened(part.file) as pages:
        return whole_numbers(_numbers(_checked(pages, part), part), str(part), IGNORE)


def _numbers(page: Any, part: Part) -> NDArray[np.generic]:
    """HW or HWC. Raises DataError, or what `_opened` turns into one.

    What is packed is left to GDAL: tifffile unpacks a strip to whatever it becomes, and LZW only with imagecodecs.
    """
    if page.compression == 1:
        return np.asarray(page.asarray())
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError as error:
        raise needs("rasterio", "a stack of packed pages") from error
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        with rasterio.open(f"GTIFF_DIR:off:{page.offset}:{part.file}", driver="GTiff") as raster:
            bands = raster.read()
    except RasterioError as error:
        raise ValueError(str(error)) from error
    return np.asarray(bands[0] if len(page.shape) == 2 else np.moveaxis(bands, 0, 2))


def _checked(pages: Any, part: Part) -> Any:
    """The page, if it is one of a picture. Raises DataError."""
    try:
        page = pages[int(part.key)]
    except IndexError as error:
        raise DataError(f"{part.file} has no page {part.key} any more", "open the data set again") from error
    shape = page.shape
    block = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, page.imagelength), 1)
    )
    if (
        len(shape) not in (2, 3)
        or (len(shape) == 3 and shape[2] > 4)
        or not 0 < shape[0] * shape[1] <= LARGEST
        or page.dtype is None
        or page.nbytes > 4 * LARGEST
        or block[0] * block[1] > max(4 * shape[0] * shape[1], 1 << 22)
    ):
        raise DataError(
            f"page {part.key} of {part.file} has the shape {shape}, type {page.dtype} and blocks of {block}",
            f"H x W or H x W x C with 1 to 4 channels, at most {4 * LARGEST:,} bytes",
        )
    return page


def _pages(file: Path) -> list[int]:
    """Numbers of the pages that are like the first: thumbnails and pyramids are smaller."""
    with _opened(file) as pages:
        first, alike, seen = pages[0], list[int](), set[int]()
        for number in range(MOST_PAGES + 1):
            try:
                page = pages[number]
            except IndexError:
                return alike
            if page.offset in seen:  # the pages lead in a circle
                return alike
            seen.add(page.offset)
            if not page.is_reduced and (page.shape, page.dtype) == (first.shape, first.dtype):
                alike.append(number)
    raise DataError(f"{file} has over {MOST_PAGES:,} pages", "cut it into several files")


def _numbered(fact: object) -> list[int]:
    if isinstance(fact, DataError):
        raise fact
    return cast(list[int], fact)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The pages as they follow each other. What descriptions say is not asked: OME's may name other files."""
    try:
        import tifffile
    except ImportError as error:
        raise needs("tifffile", "a stack of pages") from error
    try:
        with tifffile.TiffFile(file) as opened:
            yield opened.pages
    except (
        tifffile.TiffFileError,
        OSError,
        ValueError,
        IndexError,
        TypeError,
        KeyError,
        AttributeError,
        ZeroDivisionError,
        OverflowError,
        struct.error,
        MemoryError,
    ) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{file} cannot be read: {said}", "replace it or leave it out") from error
