"""Rasters of any size: read in windows, predicted in tiles, written row of tiles by row of tiles.

A GeoTIFF is read as `maskwright.data.sources.geotiff` reads it, with the bands and grey levels of the training rasters.
What is written has its size and its place on the earth, and is whole or not there.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float32
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from maskwright.data.classes import ClassMap
from maskwright.data.image_io import as_picture, mask_palette, to_channels
from maskwright.data.sources import geotiff
from maskwright.data.tiles import Window
from maskwright.draw import jpeg, overlay
from maskwright.errors import DataError
from maskwright.files import replacing, write_bytes
from maskwright.predict.census import Census
from maskwright.predict.encode import Kind
from maskwright.predict.facts import Facts
from maskwright.predict.layout import WHOLE, Layout, choose_layout
from maskwright.predict.look import Answers, Seams, compare, decided, furthest
from maskwright.predict.objects import certainty
from maskwright.predict.raster_polygons import write_raster_polygons
from maskwright.predict.tiles import blended
from maskwright.progress import SILENT, Progress
from maskwright.tensors import IGNORE, Mask, Picture, Prediction

BLOCK = 256
"""Side of the blocks that outputs are stored in."""
ROWS = 256
"""Rows that are read at a time."""
LOOK = 4096
"""Longest side of an overlay."""

Shares = Float32[np.ndarray, "K n m"]
Write = Callable[[NDArray[Any], Window], None]
"""(bands, rows, columns) of a part of the raster, and where it lies."""
MASKS: tuple[Kind, ...] = ("mask", "plain", "colour")


@dataclass(frozen=True)
class RasterAnswer:
    """What became of a raster."""

    outputs: tuple[Path, ...]
    """Files that are written."""
    notes: tuple[str, ...] = ()
    """For a person."""
    seams: Seams | None = None
    """How far tiles are from one look, if that was asked for."""
    facts: Facts | None = None
    """The same of classes and objects."""
    missing: str = ""
    """What could not be made beside the outputs, and why: outlines that are nowhere on the earth, too many objects to
    be counted."""


class AnswersRasters(Answers, Protocol):
    """What predicts rasters."""

    @property
    def classes(self) -> ClassMap: ...

    @property
    def channels(self) -> int: ...


@dataclass(frozen=True)
class Source:
    """A raster as a network sees it."""

    file: Path
    size: tuple[int, int]
    bands: tuple[int, ...]
    levels: tuple[float, float] | None
    channels: int

    def picture(self, window: Window) -> Picture:
        """HWC uint8, 0 where there is no data. Raises DataError."""
        part = geotiff.window_of(self.file, window, self.bands, self.levels)
        return to_channels(as_picture(np.asarray(geotiff.raw(part))), self.channels)

    def known(self, window: Window) -> Bool[np.ndarray, "H W"]:
        """Where all bands have data."""
        return geotiff.known(geotiff.window_of(self.file, window, self.bands, self.levels))


def open_source(model: AnswersRasters, file: Path) -> Source:
    """Raises DataError: no raster, or other bands or numbers than the network was trained on."""
    seen, found = model.spec.seen, geotiff.describe(file)
    wanted = seen.bands if seen is not None and seen.bands else None
    bands = geotiff.chosen_bands(wanted, found, file)
    return Source(
        file, (found.height, found.width), tuple(bands), seen.window if seen else None, model.channels
    )


def predict_raster(
    model: AnswersRasters,
    file: Path,
    targets: Mapping[Kind, Path],
    *,
    tile: tuple[int, int] | None = None,
    check: bool = False,
    count: bool = False,
    progress: Progress = SILENT,
) -> RasterAnswer:
    """Write what is asked for of `file`.

    `mask` is a GeoTIFF of class ids with the classes' colours, 255 (its no-data) where a band that is used has none;
    `plain` the same without colours; `colour` red, green, blue and alpha, 0 there; `probability` a GeoTIFF of
    float32, a band for each class, NaN there; `overlay` a JPEG of at most LOOK pixels a side; `polygons` GeoJSON, see
    `write_raster_polygons`. With `count`, classes and objects are counted.
    Raises DataError: no raster, or too large to be looked at whole by a model that has to; RunError: an output cannot
    be written, or the temporary folder has no room.
    """
    if "polygons" in targets and "mask" not in targets:
        raise DataError(f"polygons of {file} are traced from its mask", "ask for both: --save mask,polygons")
    source = open_source(model, file)
    layout = choose_layout(model, source.size, tile)
    tiles = layout.tiles if layout else 1
    with progress.task(f"Tiles of {file.name}", tiles) as advance, ExitStack() as files:
        whole = None
        if layout is None or (check and math.prod(source.size) <= WHOLE):
            whole = model(source.picture(Window(0, 0, *source.size)))
        seams, classes = [], model.classes
        masks_to = [
            _mask_file(files, targets[kind], source, classes, kind) for kind in MASKS if kind in targets
        ]
        shares_to = _shares_file(files, targets.get("probability"), source, model)
        census = Census(file, source.size, len(classes)) if count else None
        counted = _in_rows(2, source.size[1], np.float32, partial(_count, census)) if census else _nowhere
        small = _Small(source.size) if "overlay" in targets else None
        for window, shares in _finished(model, source, layout, whole, advance):
            mask, known = decided(shares, model.threshold), source.known(window)
            if layout is not None and whole is not None:
                seams.append(compare(shares, mask, _part(whole, window), window.top, window.left, known))
            sure = certainty(Prediction(mask, shares, model.temperature)) if census else None
            mask[~known] = IGNORE
            for write in masks_to:
                write(mask[None], window)
            if "probability" in targets:
                shares_to(np.where(known, shares, np.float32(np.nan)), window)
            if sure is not None:
                counted(np.stack([mask.astype(np.float32), sure.reshape(mask.shape)]), window)
            if small is not None:
                small.add(mask, window)
        if small is not None:
            picture = _shrunken(source, small.size)
            write_bytes(targets["overlay"], jpeg(overlay(picture, small.mask, classes)))
    made, missing, facts = dict(targets), [], None
    try:
        if "polygons" in targets:
            write_raster_polygons(targets["mask"], targets["polygons"], classes)
    except DataError as error:
        del made["polygons"]
        missing.append(str(error))
    try:
        facts = census.facts() if census else None
    except DataError as error:
        missing.append(str(error))
    notes = layout.notes if layout else ()
    return RasterAnswer(tuple(made.values()), notes, furthest(seams), facts, "; ".join(missing))


def _finished(
    model: AnswersRasters,
    source: Source,
    layout: Layout | None,
    whole: Prediction | None,
    advance: Callable[[int], None],
) -> Iterator[tuple[Window, Shares]]:
    """The probabilities in parts, row of tiles by row of tiles, from the left."""

    def answer(window: Window) -> Float32[np.ndarray, "K h w"]:
        picture = source.picture(window)
        advance(1)
        if picture.any() or source.known(window).any():
            return model(picture).probabilities
        nothing = np.zeros((len(model.classes), *window[2:]), np.float32)
        nothing[0] = 1
        return nothing

    if layout is not None:
        yield from blended(answer, layout.rows, layout.columns, len(model.classes))
        return
    assert whole is not None
    height, width = source.size
    for top in range(0, height, ROWS):
        window = Window(top, 0, min(ROWS, height - top), width)
        yield window, np.ascontiguousarray(whole.probabilities[:, *window.slices])
    advance(1)


def _part(whole: Prediction, window: Window) -> Prediction:
    return Prediction(whole.mask[window.slices], whole.probabilities[:, *window.slices], whole.temperature)


def _mask_file(files: ExitStack, path: Path, source: Source, classes: ClassMap, kind: Kind) -> Write:
    """One of MASKS."""
    palette = mask_palette(classes)
    if kind == "colour":
        raster = files.enter_context(_written(path, source, 4, "uint8", None, photometric="rgb", alpha="yes"))
        table = np.concatenate([palette, np.full((len(palette), 1), 255, np.uint8)], axis=1)
        table[IGNORE] = 0
        write = _by_rows(raster)
        return lambda mask_1HW, window: write(table[mask_1HW[0]].transpose(2, 0, 1), window)
    raster = files.enter_context(_written(path, source, 1, "uint8", IGNORE))
    if kind == "mask":
        raster.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(palette.tolist())})
    raster.update_tags(**{f"class_{id}": name for id, name in enumerate(classes.names)})
    return _by_rows(raster)


def _shares_file(files: ExitStack, path: Path | None, source: Source, model: AnswersRasters) -> Write:
    if path is None:
        return _nowhere
    names = model.classes.names
    raster = files.enter_context(_written(path, source, len(names), "float32", math.nan, predictor=3))
    raster.descriptions = names
    raster.update_tags(temperature=repr(model.temperature))
    return _by_rows(raster)


def _nowhere(parts: NDArray[Any], window: Window) -> None:
    """For what was not asked for."""


def _count(census: Census, parts_2nW: Float32[np.ndarray, "2 n W"], top: int) -> None:
    census.add(parts_2nW[0].astype(np.uint8), parts_2nW[1], top)


def _by_rows(raster: Any) -> Write:
    """Compressed blocks that are written in pieces would be packed again and again."""

    def write(parts: NDArray[Any], top: int) -> None:
        window = Window(top, 0, parts.shape[1], raster.width)
        raster.write(parts, window=geotiff.rasterio_window(window))

    return _in_rows(raster.count, raster.width, raster.dtypes[0], write)


def _in_rows(bands: int, width: int, kind: DTypeLike, use: Callable[[NDArray[Any], int], None]) -> Write:
    """Parts that come from the left are put together until they are as wide as the raster, then used: with their top
    row."""
    waiting = np.empty((bands, 0, width), kind)

    def write(parts: NDArray[Any], window: Window) -> None:
        nonlocal waiting
        if window.left == 0:
            waiting = np.empty((bands, window.height, width), kind)
        right = window.left + window.width
        waiting[:, :, window.left : right] = parts
        if right == width:
            use(waiting, window.top)

    return write


@contextmanager
def _written(
    path: Path, source: Source, bands: int, kind: str, nodata: float | None, **options: object
) -> Iterator[Any]:
    """A raster of the source's size and place, in compressed blocks."""
    import rasterio

    height, width = source.size
    with geotiff.opened(source.file) as original:
        place = {"crs": original.crs, "transform": original.transform}
        points, system = original.gcps
        rpcs = original.rpcs
    with replacing(path) as beside:
        with (
            geotiff.limited(),
            rasterio.open(
                beside,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=bands,
                dtype=kind,
                nodata=nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                compress="deflate",
                bigtiff="if_safer",
                **place,
                **options,
            ) as raster,
        ):
            if points:
                raster.gcps = points, system
            if rpcs is not None:
                raster.rpcs = rpcs
            yield raster
        _check(beside)


def _check(file: Path) -> None:
    """A disk that was full when the last blocks were written: GDAL then closes the file without a word."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(file, driver="GTiff") as raster:
            last = Window(raster.height - 1, raster.width - 1, 1, 1)
            for band in raster.indexes:
                raster.read(band, window=geotiff.rasterio_window(last))
    except RasterioError as error:
        raise OSError(errno.ENOSPC, "its end is missing, as on a full disk") from error


class _Small:
    """A mask as an overlay shows it: of every so many rows and columns one."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.step = max(1, -(-max(size) // LOOK))
        self.size = -(-size[0] // self.step), -(-size[1] // self.step)
        self.mask = np.zeros(self.size, np.uint8)

    def add(self, mask: Mask, window: Window) -> None:
        down, right = -window.top % self.step, -window.left % self.step
        some = mask[down :: self.step, right :: self.step]
        top, left = (window.top + down) // self.step, (window.left + right) // self.step
        self.mask[top : top + some.shape[0], left : left + some.shape[1]] = some


def _shrunken(source: Source, size: tuple[int, int]) -> Picture:
    """The raster in that size, the mean of the pixels under each, slab by slab."""
    height, width = source.size
    if size == source.size:
        return source.picture(Window(0, 0, height, width))
    small = np.empty((*size, source.channels), np.uint8)
    step = -(-height // size[0])
    for row in range(0, size[0], max(1, ROWS // step)):
        rows = min(max(1, ROWS // step), size[0] - row)
        slab = source.picture(Window(row * step, 0, min(rows * step, height - row * step), width))
        for channel in range(source.channels):
            image = Image.fromarray(slab[..., channel]).resize((size[1], rows), Image.Resampling.BOX)
            small[row : row + rows, :, channel] = np.asarray(image)
    return small
