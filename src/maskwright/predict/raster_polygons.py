"""The objects of a mask raster as GeoJSON, on the earth where the raster has a place there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.data.sources import geotiff
from maskwright.files import replacing
from maskwright.tensors import IGNORE

DIGITS = 8
"""Of degrees: a millimetre."""


def write_raster_polygons(mask_file: Path, path: Path, classes: ClassMap) -> None:
    """One feature for each object, pixels of a class that touch by their sides, with holes; class 0 has none.

    Longitude and latitude (RFC 7946) where the raster says where it lies, otherwise pixels from the upper left corner,
    y down. `area` is in pixels. GDAL reads the mask line by line: memory holds the outlines and not the pixels. Raises
    RunError where `path` cannot be written.
    """
    import rasterio
    from rasterio.features import shapes
    from rasterio.warp import transform_geom

    with (
        replacing(path) as beside,
        geotiff.limited(),
        rasterio.open(mask_file, driver="GTiff") as raster,
        open(beside, "w", encoding="utf-8") as file,
    ):
        placed = raster.crs is not None
        file.write(
            f'{{"type": "FeatureCollection", "height": {raster.height}, "width": {raster.width}, "features": ['
        )
        between = "\n"
        for geometry, value in shapes(rasterio.band(raster, 1), connectivity=4):
            k = int(value)
            if k in (0, IGNORE):
                continue
            area = round(_area(geometry["coordinates"]) / abs(raster.transform.determinant))
            if placed:
                geometry = transform_geom(raster.crs, "EPSG:4326", geometry, precision=DIGITS)
            properties = {"class": classes.names[k], "id": k, "area": area}
            feature = {"type": "Feature", "geometry": geometry, "properties": properties}
            file.write(between + json.dumps(feature))
            between = ",\n"
        file.write("\n]}\n")


def _area(rings: Sequence[Sequence[Any]]) -> float:
    """Of the outer ring less its holes, in the raster's own units: half the sum of x1 y2 - x2 y1 over each's edges."""
    found = []
    for ring in rings:
        # From a corner of its own: map coordinates are millions, and their products would lose the pixels.
        x, y = (np.asarray(ring, np.float64) - np.asarray(ring[0], np.float64)).T
        found.append(abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) / 2)
    return found[0] - sum(found[1:])
