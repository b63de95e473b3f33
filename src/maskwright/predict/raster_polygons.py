"""The objects of a mask raster as GeoJSON, on the earth where the raster has a place there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from maskwright.data.classes import ClassMap
from maskwright.data.sources import geotiff
from maskwright.errors import DataError
from maskwright.files import replacing
from maskwright.tensors import IGNORE

EARTH = "EPSG:4326"
"""Longitude and latitude."""
DIGITS = 8
"""Of degrees: a millimetre."""

Ring = Int64[np.ndarray, "corners 2"]
"""(x, y) of each corner in pixels; the first is repeated."""


def write_raster_polygons(mask_file: Path, path: Path, classes: ClassMap) -> None:
    """One feature for each region, pixels of a class that touch by their sides, with holes; class 0 has none.

    So parts of an object of `find_objects` that only meet at a corner are features of their own: GDAL makes valid
    polygons of no other regions, and to join them would take all outlines at once.
    Longitude and latitude (RFC 7946) where the raster says where on the earth it lies, otherwise pixels from the upper
    left corner, y down. `area` is in pixels. GDAL reads the mask line by line: memory holds the outlines and not the
    pixels. Raises DataError where an outline reaches points that have no longitude and latitude, RunError where `path`
    cannot be written.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError  # of these errors rasterio has no public name
    from rasterio.features import shapes
    from rasterio.warp import transform_geom

    with (
        replacing(path) as beside,
        geotiff.limited(),
        rasterio.open(mask_file, driver="GTiff") as raster,
        open(beside, "w", encoding="utf-8") as file,
    ):
        placed = _on_earth(raster.crs)
        file.write(
            f'{{"type": "FeatureCollection", "height": {raster.height}, "width": {raster.width}, "features": ['
        )
        between = "\n"
        for geometry, value in shapes(rasterio.band(raster, 1), connectivity=4):
            k = int(value)
            if k in (0, IGNORE):
                continue
            rings = [_in_pixels(ring, raster.transform) for ring in geometry["coordinates"]]
            try:
                geometry = (
                    transform_geom(raster.crs, EARTH, geometry, precision=DIGITS)
                    if placed
                    else {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]}
                )
            except CPLE_BaseError as error:
                column, row = rings[0].min(axis=0).tolist()
                raise DataError(
                    f"the object of {mask_file} at row {row}, column {column} has no outline in longitude and "
                    f"latitude: {' '.join(str(error).split())[:120]}",
                    "leave out --save polygons",
                ) from error
            properties = {"class": classes.names[k], "id": k, "area": _area(rings)}
            feature = {"type": "Feature", "geometry": geometry, "properties": properties}
            file.write(between + json.dumps(feature))
            between = ",\n"
        file.write("\n]}\n")


def _on_earth(crs: Any) -> bool:
    """Whether there is a way to longitude and latitude: of a building site, a microscope or the moon there is none."""
    from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError
    from rasterio.warp import transform_geom

    if crs is None:
        return False
    try:
        transform_geom(crs, EARTH, {"type": "Point", "coordinates": (0, 0)})
    except CPLE_NotSupportedError:
        return False
    except CPLE_BaseError:
        return True  # there is a way, from other points
    return True


def _in_pixels(ring: Sequence[Any], transform: Any) -> Ring:
    """From the raster's own coordinates, in which GDAL gives the corners of pixels."""
    (x, y), back = np.asarray(ring, np.float64).T, ~transform
    columns, rows = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
    corners: Ring = np.rint(np.column_stack([columns, rows])).astype(np.int64)
    return corners


def _area(rings: Sequence[Ring]) -> int:
    """Pixels of the outer ring less its holes: half the sum of x1 y2 - x2 y1 over each's edges."""
    found = []
    for ring in rings:
        x, y = ring.T
        found.append(abs(int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) // 2)
    return found[0] - sum(found[1:])
