"""GeoTIFF: rasters with bands, a place on the earth and no-data, beside rasters of labels, in folders.

Windows of a raster are read by rasterio, never the whole of it. One of more than WHOLE pixels, or larger than `block`,
is cut into even blocks (`field@0_4096`: top and left): the pictures that are scored, and groups where there is one
raster only. A block larger than `tile` is cut into tiles that overlap and stay inside it: the items that are trained
on (`field@0_4096@512_0`; of a raster that is one block, `field@512_0`). Where a band that is used has no data, the
mask is "ignore", and so where the labels have none. Picture and labels have to cover the same place.

    format: geotiff
    bands: [4, 3, 2]        # of 13, as red, green and blue
    window: [0, 3000]       # numbers that are black and white
    tile: 512
    overlap: 64             # pixels that neighbouring tiles share at least
    block: 4096
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
from jaxtyping import Bool
from PIL import Image

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import IGNORE, Raw
from maskwright.data.fingerprint import recall
from maskwright.data.levels import grey_levels, told_window, whole_numbers, window_told
from maskwright.data.part import Part, needs
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, FaultyError, Pair, filled, in_parts
from maskwright.data.tiles import Piece, Window, partition, spans
from maskwright.errors import ConfigError, DataError

BLOCK = 4096
"""Largest side of the blocks of rasters of more than WHOLE pixels, where `block` does not say."""
WHOLE = BLOCK * BLOCK
"""Pixels of the largest raster that is one block, and without `tile` one item."""
TILE = 1024
"""Side of the tiles of larger ones, where `tile` does not say."""
OVERLAP = 8
"""Neighbours share one part in so many of a tile, where `overlap` does not say."""

CACHE = 128 * 2**20
"""Bytes that GDAL may keep of decoded rasters in strips; by itself it takes a twentieth of the memory."""
SMALL_CACHE = 16 * 2**20
"""The same of others, which it forgets with every window."""
ROWS = 512
"""Of a window that are turned into grey levels at a time: on the way they are floating point."""

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
    """Whether the first picture is a TIFF with a place on the earth or no-data, or too large to be read whole."""
    return is_geographic(first_tiff(root))


def first_tiff(root: Path) -> Path | None:
    """The first picture of a folder of images and masks, if there are TIFFs and it is one."""
    if not any(root.rglob("*.[tT][iI][fF]*")) or not folder.recognise(root):
        return None
    config = folder.complete(root, DataConfig())
    splits = config.splits or {}
    images = str(config.images).replace("{split}", str(next(iter(splits.values()), "")))
    file = next((files[0] for files in folder.by_id(root, images).values()), None)
    return file if file is not None and file.suffix.lower() in (".tif", ".tiff") else None


def is_raster(file: Path) -> bool:
    """A TIFF with a place on the earth or no-data, or one too large to be decoded whole."""
    return file.suffix.lower() in (".tif", ".tiff") and is_geographic(file)


def is_geographic(file: Path | None) -> bool:
    if file is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=["TIFF"]) as image:
                geographic = any(tag in image.tag_v2 for tag in _GEOGRAPHY)  # type: ignore[attr-defined]
                return geographic or image.width * image.height > LARGEST
    except Image.DecompressionBombError:
        return True
    except (
        OSError,
        SyntaxError,
        ValueError,
    ):  # bands that Pillow does not know: a camera writes none of those
        return _header_of(file) is not None


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError: bands that are not there."""
    config = folder.complete(root, config)
    config = filled(config, groups="{id:before last @}" if _alone(root, config) else "{id:before @}")
    if config.classes is not None and config.values is None:
        values: dict[int | str, str] = {**dict(enumerate(config.classes)), IGNORE: "ignore"}
        config = config.model_copy(update={"values": values})
    return config


def _alone(root: Path, config: DataConfig) -> bool:
    """Whether there is one raster only: its blocks are the groups then, because something has to be."""
    try:
        return len(folder.read(root, config)) == 1
    except DataError:  # `read` will raise it
        return False


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """Pairs of windows, row by row of each raster. Raises DataError: rasters without rasterio, of other sizes, of
    other places, ids that are not unique; ConfigError: an overlap that tiles cannot have.
    """
    pairs = folder.read(root, config)
    files = [file for pair in pairs for file in (pair.image, pair.mask) if isinstance(file, Path)]
    headers = dict(zip(files, recall("raster/1", files, _header, what="Reading headers"), strict=True))

    def tiles(pair: Pair) -> Iterator[Pair]:
        assert isinstance(pair.image, Path)
        image = _raster(headers[pair.image])
        bands = _bands(config.bands, image, pair.image)
        if isinstance(pair.mask, Path):
            _check(pair, image, _raster(headers[pair.mask]))
        yield from _cut(pair, image, config, (",".join(map(str, bands)), *window_told(config.window)))

    made = in_parts(pairs, config, tiles)
    ((name, count),) = Counter(pair.id for pair in made).most_common(1)
    if count > 1:
        raise DataError(
            f"two parts of rasters would be called {name}", "rename a raster so that no @ is in it"
        )
    return made


def describe(file: Path) -> Raster:
    """What the header of a raster says. Raises DataError: no TIFF, no rasterio, blocks too large for windows."""
    return _raster(_header(file))


def window_of(file: Path, window: Window, bands: Sequence[int], levels: tuple[float, float] | None) -> Part:
    """A window of a raster as a picture: what `raw` and `known` read. `levels` are black and white."""
    told = (",".join(map(str, bands)), *window_told(levels))
    return Part(file, "raster", ",".join(map(str, window)), told)


def chosen_bands(wanted: Sequence[int] | None, raster: Raster, file: Path) -> list[int]:
    """Those that are wanted, or the first three, or the first. Raises DataError: the file has them not."""
    return _bands(wanted, raster, file)


def header(part: Part) -> tuple[int, int, int]:
    _, _, height, width = _window_of(part)
    return height, width, 3 if part.told[0].count(",") else 1


def raw(part: Part) -> Raw:
    """HWC uint8; 0 where there is no data."""
    bands, whole = [int(band) for band in part.told[0].split(",")], _window_of(part)
    picture = np.empty((whole.height, whole.width, len(bands)), np.uint8)
    with opened(part.file) as raster:
        for top in range(0, whole.height, ROWS):
            rows = min(ROWS, whole.height - top)
            window = rasterio_window(Window(whole.top + top, whole.left, rows, whole.width))
            levels = grey_levels(
                raster.read(bands, window=window), told_window(part.told[1:]), str(part.file)
            )
            levels[~_known(raster, bands, window)] = 0
            picture[top : top + rows] = levels.transpose(1, 2, 0)
    return cast(Raw, picture)


def known(part: Part) -> Bool[np.ndarray, "H W"]:
    """Where all bands of a picture have data."""
    bands = [int(band) for band in part.told[0].split(",")]
    with opened(part.file) as raster:
        each = _known(raster, bands, rasterio_window(_window_of(part)))
    everywhere: Bool[np.ndarray, "H W"] = np.asarray(each.all(axis=0))
    return everywhere


def raw_labels(part: Part) -> Raw:
    """HW whole numbers, IGNORE where the labels or a band of the picture have no data."""
    assert part.beside is not None
    window = rasterio_window(_window_of(part))
    with opened(part.file) as raster:
        labels = whole_numbers(raster.read(1, window=window), str(part), IGNORE)
        valid = _known(raster, [1], window)[0]
    with opened(part.beside) as raster:
        bands = [int(band) for band in part.told[0].split(",")]
        everywhere = np.logical_and(valid, _known(raster, bands, window).all(axis=0))
    return cast(Raw, np.where(everywhere, labels, np.array(IGNORE, labels.dtype)))


def _known(raster: Any, bands: Sequence[int], window: Any) -> Bool[np.ndarray, "C H W"]:
    """Where the bands have data. GDAL is asked only where there may be none: it caches masks full of nothing, too, and
    they would push the pixels out.
    """
    from rasterio.enums import MaskFlags

    if all(raster.mask_flag_enums[band - 1] == [MaskFlags.all_valid] for band in bands):
        return np.ones((len(bands), int(window.height), int(window.width)), bool)
    with_data: Bool[np.ndarray, "C H W"] = raster.read_masks(bands, window=window) > 0
    return with_data


def _cut(pair: Pair, raster: Raster, config: DataConfig, told: tuple[str, ...]) -> Iterator[Pair]:
    """The raster as it is, or its tiles, those of one row after those of the row above, whatever their block: what was
    decoded for one of them serves its neighbours.
    """
    size, small = (raster.height, raster.width), raster.height * raster.width <= WHOLE
    block = config.block or (max(size) if small else BLOCK)
    tile = config.tile or (max(size) if small else TILE)
    overlap = tile // OVERLAP if config.overlap is None else config.overlap
    if max(size) <= min(block, tile):
        image, mask = _places(pair, Window(0, 0, *size), told)
        yield replace(pair, image=image, mask=mask)
        return
    if 2 * overlap > tile:
        raise ConfigError(f"overlap: {overlap} of tiles of {tile} pixels", "choose at most half of tile")
    step = min(tile - overlap, block)
    if -(-raster.height // step) * -(-raster.width // step) > MOST_TILES:
        raise DataError(
            f"{pair.id} claims {raster.height} x {raster.width} pixels, over {MOST_TILES:,} tiles",
            "choose a larger tile",
        )
    rows, columns = ([*pairwise(partition(length, block))] for length in size)
    for top, bottom in rows:
        for down in spans(bottom - top, tile, overlap):
            for left, right in columns:
                whole = pair.id if (bottom - top, right - left) == size else f"{pair.id}@{top}_{left}"
                image, mask = _places(pair, Window(top, left, bottom - top, right - left), told)
                height, width = min(tile, bottom - top), min(tile, right - left)
                for across in spans(right - left, tile, overlap):
                    window = Window(down.start, across.start, height, width)
                    core = Window(down.core, across.core, down.stop - down.core, across.stop - across.core)
                    piece = Piece(whole, image, mask, window, core)
                    image_, mask_ = _places(
                        pair, Window(top + down.start, left + across.start, height, width), told
                    )
                    name = f"{whole}@{down.start}_{across.start}"
                    yield replace(pair, id=name, image=image_, mask=mask_, piece=piece)


def _places(pair: Pair, window: Window, told: tuple[str, ...]) -> tuple[Part, Part | None]:
    """A window of the picture and of its labels."""
    assert isinstance(pair.image, Path)
    key = ",".join(map(str, window))
    image = Part(pair.image, "raster", key, told)
    if not isinstance(pair.mask, Path):
        return image, None
    return image, Part(pair.mask, "raster labels", key, told[:1], pair.image)


def _window_of(part: Part) -> Window:
    return Window(*map(int, part.key.split(",")))


def rasterio_window(window: Window) -> Any:
    from rasterio.windows import Window as Columns

    return Columns(window.left, window.top, window.width, window.height)


def _bands(wanted: Sequence[int] | None, raster: Raster, file: Path) -> list[int]:
    chosen = list(wanted or ([1, 2, 3] if raster.bands >= 3 else [1]))
    if max(chosen) > raster.bands or len(chosen) not in (1, 3, 4):
        raise DataError(
            f"bands: {chosen} of {file}, which has {raster.bands}",
            "name 1, 3 or 4 of them: a network here takes no other number of channels",
        )
    return chosen


def _check(pair: Pair, image: Raster, labels: Raster) -> None:
    """Raises FaultyError where the labels are of another size or place than the picture."""
    if (image.height, image.width) != (labels.height, labels.width):
        raise FaultyError(
            "size-mismatch",
            f"the mask {pair.mask} is {labels.height} x {labels.width} and its image {image.height} x {image.width}",
            "cut both to the same place, or list the id under exclude in dataset.yaml",
            {},
        )
    if not image.transform or not labels.transform:
        return
    pixel = max(abs(image.transform[0]), abs(image.transform[1]), abs(image.transform[4]))
    off = max(abs(a - b) for a, b in zip(image.transform, labels.transform, strict=True))
    if off > pixel / 10 or (image.place and labels.place and image.place != labels.place):
        raise FaultyError(
            "place-mismatch",
            f"the mask {pair.mask} and its image do not lie at the same place of the earth",
            "warp one to the grid of the other, or list the id under exclude in dataset.yaml",
            {},
        )


def _header(file: Path) -> list[object]:
    with opened(file) as raster:
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


def limited() -> Any:
    """While it lasts, GDAL keeps no more than that of what it reads and writes, and looks at no other files."""
    import rasterio

    room = CACHE if _kept_open.cache_info().currsize else SMALL_CACHE
    return rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=room)


@contextmanager
def opened(file: Path) -> Iterator[Any]:
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
        with limited(), rasterio.open(file, driver="GTiff") as raster:
            if not _in_strips(raster):
                yield raster
                return
            with _SHARING:
                state = file.stat()
                shared, reading = _kept_open(file, state.st_size, state.st_mtime_ns)
            with reading:
                yield shared
    except (RasterioError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(f"{file} cannot be read: {said}", "replace it or leave it out") from error


def _in_strips(raster: Any) -> bool:
    """Whether the file is stored in full rows, many of them: of one row of tiles each reads all that lies below it."""
    return any(
        columns == raster.width and rows < raster.height and raster.width > TILE
        for rows, columns in raster.block_shapes
    )


_SHARING = Lock()


@lru_cache(maxsize=4)
def _kept_open(file: Path, size: int, mtime_ns: int) -> tuple[Any, Lock]:
    """A raster in strips, for all threads, one at a time: only while it is open does GDAL keep what it has decoded."""
    import rasterio

    return rasterio.open(file, driver="GTiff"), Lock()
