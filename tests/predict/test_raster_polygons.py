"""Polygons of rasters whose coordinates are no, or not everywhere, longitude and latitude."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.predict.test_raster import write_raster

from maskwright.data.classes import ClassMap
from maskwright.errors import DataError
from maskwright.predict.raster_polygons import write_raster_polygons

CLASSES = ClassMap(("ground", "field"), ((0, 0, 0), (230, 159, 0)))
MOON = (
    'GEOGCS["Moon 2000",DATUM["D_Moon_2000",SPHEROID["Moon_2000_IAU_IAG",1737400,0]],'
    'PRIMEM["Reference_Meridian",0],UNIT["Degree",0.0174532925199433]]'
)
DISK = "+proj=geos +h=35785831 +lon_0=0 +sweep=y"


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', MOON, None])
def test_what_has_no_place_on_the_earth_is_in_pixels(tmp_path: Path, crs: str | None) -> None:
    """Whatever units its own coordinates have."""
    mask = np.zeros((1, 4, 6), np.uint8)
    mask[0, 1:3, 2:6] = 1
    place = rasterio.Affine(0.02, 0, 3, 0, -0.02, 7)
    file = write_raster(tmp_path / "site.tif", mask, crs=crs, transform=place)
    write_raster_polygons(file, tmp_path / "site.geojson", CLASSES)
    (feature,) = json.loads((tmp_path / "site.geojson").read_text())["features"]
    assert {tuple(corner) for corner in feature["geometry"]["coordinates"][0]} == {
        (2, 1),
        (6, 1),
        (6, 3),
        (2, 3),
    }
    assert feature["properties"]["area"] == 8


def test_a_point_beside_the_earth_is_told(tmp_path: Path) -> None:
    """The corners of a full disk see past it; an object in its middle has a place."""
    mask = np.zeros((1, 11, 11), np.uint8)
    mask[0, 5, 5] = 1
    place = rasterio.Affine(1e6, 0, -5.5e6, 0, -1e6, 5.5e6)
    file = write_raster(tmp_path / "disk.tif", mask, crs=DISK, transform=place)
    write_raster_polygons(file, tmp_path / "disk.geojson", CLASSES)
    (feature,) = json.loads((tmp_path / "disk.geojson").read_text())["features"]
    assert max(abs(number) for corner in feature["geometry"]["coordinates"][0] for number in corner) < 6
    mask[0, 0, 0] = 1
    write_raster(file, mask, crs=DISK, transform=place)
    with pytest.raises(DataError, match=r"disk.tif.*outside of projection domain.*leave out --save polygons"):
        write_raster_polygons(file, tmp_path / "other.geojson", CLASSES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.geojson", "disk.tif"]
