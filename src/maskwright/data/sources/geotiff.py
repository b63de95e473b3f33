"""GeoTIFF: rasters with bands, a place on the earth and no-data, beside rasters of labels, in folders.

Windows of a raster are read by rasterio, never the whole of it: one larger than WHOLE pixels, or than `tile`, is cut
into tiles, which are items of their own (`field@0_1024`: top and left) and of one group. Where a band that is used
has no data, the mask is "ignore", and so where the labels have none. Picture and labels have to cover the same place.

    format: geotiff
    bands: [4, 3, 2]        # of 13, as red, green and blue
    window: [0, 3000]       # numbers that are black and white
    tile: 512
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from maskwright.data.classes import IGNORE, Raw
from maskwright.data.fingerprint import recall
from maskwright.data.levels import grey_levels, told_window, whole_numbers, window_told
from maskwright.data.part import Part, needs
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, Pair, filled
from maskwright.errors import DataError

WHOLE = 4096 * 4096
"""Pixels of the largest raster that is one item."""
TILE = 1024
"""Side of the tiles of larger ones, where `tile` does not say."""

MOST_TILES = 250_000
"""Of one raster: 512 gigapixels in tiles of 1024 have as many."""

MOST_BLOCK = 1 << 29
"""Bytes of one tile or strip of a raster."""

_GEOGRAPHY = (33550, 34264, 34735, 42113)
"""Tags of a TIFF: pixel scale, transformation, projection, and GDAL's no-data."""


@dataclass(frozen=True)
class Raster:
    """What a header says."""

    height: int
    width: int
    bands: int
    transform: tuple[float, ...]
    """Affine, pixels to map; empty where there is none."""
    place: str
    """The coordinate system, as text."""


def recognise(root: Path) -> bool:
    """Whether the first picture of a folder is a TIFF with a place on the earth or no-data."""
    return is_geographic(first_tiff(root))


def first_tiff(root: Path) -> Path | None:
    """The first picture of a folder of images and masks, if there are TIFFs and it is one."""
    if not any(root.rglob("*.[tT][iI][fF]*")) or not folder.recognise(root):
        return None
    config = folder.complete(root, DataConfig())
    splits = config.splits or {}
    images = str(config.images).replace("{split}", str(next(iter(splits.values()), "")))
    file = next(iter(folder.listing(root, images).values()), None)
    return file if file is not None and file.suffix.lower() in (".tif", ".tiff") else None


def is_geographic(file: Path | None) -> bool:
    if file is None:
        return False
    try:
        with Image.open(file, formats=["TIFF"]) as image:
            return any(tag in image.tag_v2 for tag in _GEOGRAPHY)  # type: ignore[attr-defined]
    except (
        OSError,
        SyntaxError,
        ValueError,
    ):  # bands that Pillow does not know: a camera writes none of those
        return _header_of(file) is not None


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError: bands that are not there."""
    config = filled(folder.complete(root, config), groups="{id:before last @}")
    if config.classes is not None and config.values is None:
        values: dict[int | str, str] = {**dict(enumerate(config.classes)), IGNORE: "ignore"}
        config = config.model_copy(update={"values": values})
    return config


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """Pairs of windows. Raises DataError: rasters without rasterio, of other sizes, of other places."""
    pairs = folder.read(root, config)
    files = [file for pair in pairs for file in (pair.image, pair.mask) if isinstance(file, Path)]
    headers = dict(zip(files, recall("raster/1", files, _header, what="Reading headers"), strict=True))
    made: list[Pair] = []
    for pair in pairs:
        assert isinstance(pair.image, Path)
        image = _raster(headers[pair.image])
        bands = _bands(config.bands, image, pair.image)
        if isinstance(pair.mask, Path):
            _check(pair, image, _raster(headers[pair.mask]))
        for key, name in _windows(image, config.tile, pair.id):
            told = (",".join(map(str, bands)), *window_told(config.window))
            mask = pair.mask
            if isinstance(mask, Path):
                mask = Part(mask, "raster labels", key, told[:1], pair.image)
            made.append(replace(pair, id=name, image=Part(pair.image, "raster", key, told), mask=mask))
    return tuple(made)


def header(part: Part) -> tuple[int, int, int]:
    _, _, height, width = _window_of(part)
    return height, width, 3 if part.told[0].count(",") else 1


def raw(part: Part) -> Raw:
    """HWC uint8; 0 where there is no data."""
    bands = [int(band) for band in part.told[0].split(",")]
    with _opened(part.file) as raster:
        numbers, window = raster.read(bands, window=_rasterio_window(part)), told_window(part.told[1:])
        known = raster.read_masks(bands, window=_rasterio_window(part)) > 0
    levels = grey_levels(numbers, window, str(part.file)).transpose(1, 2, 0)
    return cast(Raw, np.where(known.transpose(1, 2, 0), levels, np.uint8(0)))


def raw_labels(part: Part) -> Raw:
    """HW whole numbers, IGNORE where the labels or a band of the picture have no data."""
    assert part.beside is not None
    window = _rasterio_window(part)
    with _opened(part.file) as raster:
        labels = whole_numbers(raster.read(1, window=window), str(part), IGNORE)
        known = raster.read_masks(1, window=window) > 0
    with _opened(part.beside) as raster:
        bands = [int(band) for band in part.told[0].split(",")]
        known &= (raster.read_masks(bands, window=window) > 0).all(axis=0)
    return cast(Raw, np.where(known, labels, np.array(IGNORE, labels.dtype)))


def _windows(raster: Raster, tile: int | None, name: str) -> Iterator[tuple[str, str]]:
    """(key, id) of the tiles, of even size and without overlap; of the whole where it is small enough."""
    if tile is None and raster.height * raster.width <= WHOLE:
        yield f"0,0,{raster.height},{raster.width}", name
        return
    side = tile or TILE
    if math.ceil(raster.height / side) * math.ceil(raster.width / side) > MOST_TILES:
        raise DataError(
            f"{name} claims {raster.height} x {raster.width} pixels, over {MOST_TILES:,} tiles",
            "choose a larger tile",
        )
    rows, columns = (_cuts(length, side) for length in (raster.height, raster.width))
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield f"{top},{left},{bottom - top},{right - left}", f"{name}@{top}_{left}"


def _cuts(side: int, tile: int) -> list[int]:
    parts = math.ceil(side / tile)
    return [round(part * side / parts) for part in range(parts + 1)]


def _window_of(part: Part) -> tuple[int, int, int, int]:
    top, left, height, width = (int(number) for number in part.key.split(","))
    return top, left, height, width


def _rasterio_window(part: Part) -> Any:
    from rasterio.windows import Window

    top, left, height, width = _window_of(part)
    return Window(left, top, width, height)


def _bands(wanted: Sequence[int] | None, raster: Raster, file: Path) -> list[int]:
    chosen = list(wanted or ([1, 2, 3] if raster.bands >= 3 else [1]))
    if max(chosen) > raster.bands or len(chosen) not in (1, 3, 4):
        raise DataError(
            f"bands: {chosen} of {file}, which has {raster.bands}",
            "name 1, 3 or 4 of them: a network here takes no other number of channels",
        )
    return chosen


def _check(pair: Pair, image: Raster, labels: Raster) -> None:
    """Raises DataError where the labels are of another size or place than the picture."""
    if (image.height, image.width) != (labels.height, labels.width):
        raise DataError(
            f"the mask {pair.mask} is {labels.height} x {labels.width} and its image {image.height} x {image.width}",
            "cut both to the same place, or list the id under exclude in dataset.yaml",
        )
    if not image.transform or not labels.transform:
        return
    pixel = max(abs(image.transform[0]), abs(image.transform[1]), abs(image.transform[4]))
    off = max(abs(a - b) for a, b in zip(image.transform, labels.transform, strict=True))
    if off > pixel / 10 or (image.place and labels.place and image.place != labels.place):
        raise DataError(
            f"the mask {pair.mask} and its image do not lie at the same place of the earth",
            "warp one to the grid of the other, or list the id under exclude in dataset.yaml",
        )


def _header(file: Path) -> list[object]:
    with _opened(file) as raster:
        _check_blocks(raster, file)
        plain = raster.transform.is_identity
        transform = [] if plain else [float(number) for number in tuple(raster.transform)[:6]]
        return [
            raster.height,
            raster.width,
            raster.count,
            transform,
            raster.crs.to_string() if raster.crs else "",
        ]


def _check_blocks(raster: Any, file: Path) -> None:
    """Raises DataError for blocks that would have to be unpacked as a whole for any window."""
    (height, width), together = raster.block_shapes[0], raster.interleaving
    bands = raster.count if together is not None and together.name == "pixel" else 1
    if height * width * bands * np.dtype(raster.dtypes[0]).itemsize > MOST_BLOCK:
        raise DataError(
            f"{file} is stored in blocks of {height} x {width} x {bands}",
            "write it anew in tiles: gdal_translate -co TILED=YES",
        )


def _header_of(file: Path) -> Raster | None:
    try:
        return _raster(_header(file))
    except DataError:
        return None


def _raster(fact: object) -> Raster:
    if isinstance(fact, DataError):
        raise fact
    height, width, bands, transform, place = cast(tuple[int, int, int, list[float], str], fact)
    return Raster(height, width, bands, tuple(transform), place)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The raster, by the driver for TIFF alone: others would follow links to files and addresses."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError as error:
        raise needs("rasterio", "GeoTIFF") from error
    warnings.filterwarnings(
        "ignore", category=NotGeoreferencedWarning
    )  # masks often have no place of their own
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            rasterio.open(file, driver="GTiff") as raster,
        ):
            yield raster
    except (RasterioError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(f"{file} cannot be read: {said}", "replace it or leave it out") from error
