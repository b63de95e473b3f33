"""GeoTIFF in, GeoTIFF out: place, no-data, colours, windows; whole or not there."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from tests.predict.test_tiles import noise, predictor

from maskwright.data.dataset import open_dataset
from maskwright.data.image_io import image_size
from maskwright.data.tiles import Window
from maskwright.errors import DataError, RunError
from maskwright.predict import census
from maskwright.predict import raster as raster_module
from maskwright.predict import tiles as tiles_module
from maskwright.predict.clean import Cleaned, Cleaning
from maskwright.predict.encode import Kind
from maskwright.predict.model_folder import Seen, save_model
from maskwright.predict.raster import open_source, predict_raster
from maskwright.predict.tiled import Tiled
from maskwright.training.seen import seen_of

PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}


def write_raster(file: Path, bands_CHW: np.ndarray, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands_CHW.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands_CHW.dtype}
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(file, "w", driver="GTiff", **{**PLACE, **shape, **tiled, **options}) as raster:
        raster.write(bands_CHW)
    return file


def read(file: Path) -> tuple[np.ndarray, dict[str, object]]:
    with rasterio.open(file) as raster:
        return raster.read(), raster.profile


def picture_of(bands_CHW: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bands_CHW.transpose(1, 2, 0))


@pytest.fixture
def ortho(tmp_path: Path) -> Path:
    """300 x 211, three bands; a corner holds no data."""
    pixels = np.maximum(noise(300, 211).transpose(2, 0, 1), 1)
    pixels[:, :90, :70] = 0
    return write_raster(tmp_path / "in" / "ortho.tif", pixels, nodata=0)


def test_a_raster_becomes_a_raster_of_the_same_place(ortho: Path, tmp_path: Path) -> None:
    model = predictor(2)
    (saved,) = Tiled(model, (128, 128), check=True).save(
        tmp_path / "out", ortho, save=("mask", "probability", "overlay")
    )
    assert saved.error == ""
    assert [path.name for path in saved.outputs] == [
        "ortho.tif",
        "ortho_probability.tif",
        "ortho_overlay.jpg",
    ]
    assert saved.seams is not None
    assert saved.seams.difference < 1e-5
    assert saved.seams.pixels == 300 * 211 - 90 * 70, "those with data"
    pixels, before = read(ortho)
    whole = model(picture_of(pixels))
    known = np.ones((300, 211), bool)
    known[:90, :70] = False

    mask, profile = read(tmp_path / "out" / "ortho.tif")
    assert (profile["crs"], profile["transform"]) == (before["crs"], before["transform"])
    assert (profile["dtype"], profile["nodata"], profile["tiled"], profile["compress"]) == (
        "uint8",
        255,
        True,
        "deflate",
    )
    np.testing.assert_array_equal(mask[0], np.where(known, whole.mask, 255))
    with rasterio.open(tmp_path / "out" / "ortho.tif") as raster:
        assert [raster.colormap(1)[id][:3] for id in range(3)] == list(model.classes.colours)
        assert raster.tags()["class_1"] == "class 1"
        assert (raster.dataset_mask() > 0).tolist() == known.tolist()

    shares, profile = read(tmp_path / "out" / "ortho_probability.tif")
    assert (profile["crs"], profile["transform"]) == (before["crs"], before["transform"])
    assert (profile["dtype"], profile["count"]) == ("float32", 3)
    np.testing.assert_allclose(shares[:, known], whole.probabilities[:, known], atol=1e-5)
    assert np.isnan(shares[:, ~known]).all()
    assert image_size(tmp_path / "out" / "ortho_overlay.jpg") == (300, 211)


def test_seams_are_not_sought_where_there_is_no_data(tmp_path: Path) -> None:
    """Tiles without any are not shown to the network, which says something of them in one look."""
    pixels = np.maximum(noise(300, 300).transpose(2, 0, 1), 1)
    pixels[:, :200, :200] = 0
    file = write_raster(tmp_path / "edge.tif", pixels, nodata=0)
    seams = predict_raster(predictor(2), file, {}, tile=(128, 128), check=True).seams
    assert seams is not None
    assert seams.difference < 1e-5
    assert (seams.changed, seams.pixels, seams.share) == (0, 300 * 300 - 200 * 200, 0)
    empty = write_raster(tmp_path / "empty.tif", np.zeros((3, 300, 300), np.uint8), nodata=0)
    assert predict_raster(predictor(2), empty, {}, tile=(128, 128), check=True).seams is None


def test_a_small_raster_is_looked_at_whole(ortho: Path, tmp_path: Path) -> None:
    model = predictor(fit="resize")
    (saved,) = Tiled(model).save(tmp_path / "out", ortho)
    assert (saved.notes, saved.seams) == ((), None)
    mask, _ = read(tmp_path / "out" / "ortho.tif")
    expected = model(picture_of(read(ortho)[0])).mask
    np.testing.assert_array_equal(mask[0, 100:], expected[100:])


def test_plain_pictures_stay_png(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(40, 50)).save(tmp_path / "in" / "a.tif")
    Image.fromarray(noise(40, 50)).save(tmp_path / "in" / "b.png")
    saved = Tiled(predictor(2)).save(tmp_path / "out", tmp_path / "in")
    assert [path.name for each in saved for path in each.outputs] == ["a.png", "b.png"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("place", [{}, {"crs": None, "transform": None, "nodata": 0}])
def test_no_data_is_enough_to_be_a_raster(tmp_path: Path, place: dict[str, object]) -> None:
    file = write_raster(tmp_path / "in" / "plain.tif", np.full((3, 90, 80), 7, np.uint8), **place)
    predict_raster(predictor(2), file, {"mask": tmp_path / "plain.tif"}, tile=(64, 64))
    mask, profile = read(tmp_path / "plain.tif")
    assert mask.shape == (1, 90, 80)
    assert (profile["crs"] is None) == bool(place)
    assert (mask != 255).all()


def test_bands_and_levels_are_those_of_training(tmp_path: Path) -> None:
    """Five bands of 16 bits: those that the model was trained on, black and white where it learned them to be."""
    numbers = np.random.default_rng(0).integers(0, 4000, (5, 120, 130), dtype=np.uint16)
    file = write_raster(tmp_path / "deep.tif", numbers)
    model = predictor(2, seen=Seen(size=(64, 64), tiles=True, bands=(4, 3, 2), window=(500, 3500)))
    levels = np.clip((numbers[[3, 2, 1]].astype(float) - 500) / 3000, 0, 1)
    expected = np.round(255 * levels).astype(np.uint8)
    found = open_source(model, file).picture(Window(0, 0, 120, 130))
    np.testing.assert_array_equal(found, picture_of(expected))
    predict_raster(model, file, {"mask": tmp_path / "mask.tif"}, tile=(128, 128))
    np.testing.assert_array_equal(read(tmp_path / "mask.tif")[0][0], model(picture_of(expected)).mask)
    few = write_raster(tmp_path / "few.tif", numbers[:3])
    with pytest.raises(DataError, match=r"few.tif, which has 3"):
        open_source(model, few)


def test_a_data_set_tells_what_training_saw(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        bands = 5 if folder == "images" else 1
        write_raster(tmp_path / folder / "field.tif", np.ones((bands, 300, 300), np.uint8))
    keys = "format: geotiff\nclasses: [ground, field]\ntile: 128\noverlap: 16\nblock: 160\nbands: [4, 3, 2]\n"
    (tmp_path / "dataset.yaml").write_text(keys + "window: [0, 200]\n")
    dataset = open_dataset(tmp_path)
    assert seen_of(dataset) == Seen(size=(128, 128), tiles=True, bands=(4, 3, 2), window=(0, 200))


def test_what_is_not_made_of_a_raster_is_told(ortho: Path, tmp_path: Path) -> None:
    (saved,) = Tiled(predictor(2)).save(tmp_path / "out", ortho, save=("mask", "rle", "coco"))
    assert "of which no rle, coco is made" in saved.error
    assert not list((tmp_path / "out").glob("*.tif"))
    (saved,) = Cleaned(Tiled(predictor(2)), Cleaning(smallest=5)).save(tmp_path / "out", ortho)
    assert "not cleaned" in saved.error


def test_what_is_refused_of_a_raster_is_refused_after_another_call(ortho: Path, tmp_path: Path) -> None:
    model = Tiled(predictor(2))
    model.save(tmp_path / "out", ortho, save=("statistics",))
    (saved,) = model.save(tmp_path / "out", ortho, save=("coco",))
    assert "of which no coco is made" in saved.error


def test_a_broken_raster_is_told_and_the_rest_is_done(ortho: Path, tmp_path: Path) -> None:
    content = ortho.read_bytes()
    (ortho.parent / "cut.tif").write_bytes(content[: len(content) // 2])
    results = {
        saved.input.name: saved
        for saved in Tiled(predictor(2), (64, 64)).save(tmp_path / "out", ortho.parent)
    }
    assert "cut.tif cannot be" in results["cut.tif"].error
    assert results["ortho.tif"].error == ""
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*f")) == ["ortho.tif"]


def test_a_raster_too_large_for_one_look_needs_a_tile(tmp_path: Path) -> None:
    """100,000 x 100,000 pixels that only its header has: a few kilobytes."""
    file = tmp_path / "huge.tif"
    options = {"sparse_ok": True, "compress": "deflate", "bigtiff": "yes", **PLACE}
    shape = {"count": 3, "height": 100_000, "width": 100_000, "dtype": "uint8"}
    with rasterio.open(
        file, "w", driver="GTiff", tiled=True, blockxsize=4096, blockysize=4096, **shape, **options
    ):
        pass
    (saved,) = Tiled(predictor(fit="resize", seen=Seen(size=(375, 500)))).save(tmp_path / "out", file)
    assert "100000 x 100000 is too large" in saved.error
    assert "--tile H,W" in saved.error


def test_an_output_folder_that_cannot_be_written(ortho: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RunError, match=r"cannot be written|could not be"):
        Tiled(predictor(2)).save(tmp_path / "out", ortho)
    with pytest.raises(RunError, match="could not be written"):
        predict_raster(predictor(2), ortho, {"mask": tmp_path / "out" / "mask.tif"})


def test_a_failure_in_between_leaves_the_old_file(
    ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "mask.tif"
    target.parent.mkdir()
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(raster_module, "_check", fail)
    with pytest.raises(RunError, match="No space left"):
        predict_raster(predictor(2), ortho, {"mask": target}, tile=(128, 128))
    assert [path.name for path in target.parent.iterdir()] == ["mask.tif"]
    assert target.read_text() == "old"


def test_a_full_temporary_folder_is_told(
    ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as if the output could not be written."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiles_module, "LARGE", 1000)
    monkeypatch.setattr("os.posix_fallocate", fail)
    with pytest.raises(RunError, match=r"^[\d,]+ bytes of blended rows .* let TMPDIR name another folder"):
        predict_raster(predictor(2), ortho, {"mask": tmp_path / "out" / "mask.tif"}, tile=(128, 128))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_overlay_of_a_large_raster_is_small(
    ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster_module, "LOOK", 64)
    monkeypatch.setattr(raster_module, "ROWS", 32)
    predict_raster(predictor(2), ortho, {"overlay": tmp_path / "o.jpg"}, tile=(128, 128))
    assert image_size(tmp_path / "o.jpg") == (60, 43)


KILLED = """
import sys
from pathlib import Path
import maskwright as mw
from maskwright.predict import raster
finished = raster._finished
def slowly(*words):
    for place, slab in enumerate(finished(*words)):
        yield slab
        if place == 1:
            print("half", flush=True)
            sys.stdin.read()
raster._finished = slowly
mw.Tiled(mw.Predictor.load(sys.argv[1], "cpu"), (128, 128)).save(sys.argv[2], sys.argv[3])
"""


@pytest.mark.slow
def test_killed_in_between_there_is_no_half_mask(ortho: Path, tmp_path: Path) -> None:
    model = predictor(2)
    save_model(tmp_path / "model", model.spec, model.network.state_dict())
    words = [sys.executable, "-c", KILLED, str(tmp_path / "model"), str(tmp_path / "out"), str(ortho)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": ""}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"half"
        process.send_signal(signal.SIGKILL)
    time.sleep(0.1)
    assert not (tmp_path / "out" / "ortho.tif").exists()
    assert list((tmp_path / "out").glob(".ortho.tif.*.partial"))
    (saved,) = Tiled(model, (128, 128)).save(tmp_path / "out", ortho)
    assert saved.outputs[0].is_file()
    assert not list((tmp_path / "out").glob(".ortho.tif.*.partial"))


@pytest.mark.slow
def test_memory_stays_small(tmp_path: Path) -> None:
    """The benchmark at a smaller size: what a raster four times as large takes more is one wider band of tiles."""
    from large_raster import peak_of

    script = str(Path(__file__).parents[2] / "benchmarks" / "tiled.py")
    peak_of([sys.executable, script, "--side", "3000", "--threads", "1"], tmp_path)  # fails over 1 GB


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("crs", ["EPSG:32632", None])
def test_polygons_burnt_back_are_the_mask(tmp_path: Path, crs: str | None) -> None:
    """rasterio's own rasteriser is the oracle, after the way back from longitude and latitude."""
    pixels = np.maximum(noise(90, 131).transpose(2, 0, 1), 1)
    source = write_raster(
        tmp_path / "field.tif", pixels, nodata=0, **({} if crs else {"crs": None, "transform": None})
    )
    (saved,) = Tiled(predictor(2)).save(tmp_path / "out", source, save=("mask", "polygons"))
    assert saved.error == ""
    found = json.loads((tmp_path / "out" / "field.geojson").read_text())
    (mask,), profile = read(tmp_path / "out" / "field.tif")
    assert (found["height"], found["width"]) == mask.shape
    assert {feature["properties"]["id"] for feature in found["features"]} == {*np.unique(mask)} - {0}
    burnt = np.zeros_like(mask)
    for feature in found["features"]:
        geometry, properties = feature["geometry"], feature["properties"]
        if crs:
            (x, y), *_ = geometry["coordinates"][0]
            assert 8.9 < x < 9.1
            assert 48.7 < y < 48.8, "north of the equator, by the place of the raster"
            geometry = transform_geom("EPSG:4326", crs, geometry)
        one = rasterize([geometry], mask.shape, transform=profile["transform"], dtype="uint8")
        assert one.sum() == properties["area"]
        assert properties["class"] == f"class {properties['id']}"
        burnt[one > 0] = properties["id"]
    np.testing.assert_array_equal(burnt, mask)


def test_polygons_of_a_raster_come_with_its_mask(ortho: Path, tmp_path: Path) -> None:
    (saved,) = Tiled(predictor(2)).save(tmp_path / "out", ortho, save=("polygons",))
    assert [path.name for path in saved.outputs] == ["ortho.tif", "ortho.geojson"]
    with pytest.raises(DataError, match="--save mask,polygons"):
        predict_raster(predictor(2), ortho, {"polygons": tmp_path / "ortho.geojson"})


def test_masks_without_colours_and_of_colours_alone(ortho: Path, tmp_path: Path) -> None:
    model = predictor(2)
    Tiled(model, (128, 128)).save(tmp_path / "out", ortho, save=("mask", "plain", "colour"))
    (mask,), _ = read(tmp_path / "out" / "ortho.tif")
    (plain,), profile = read(tmp_path / "out" / "ortho_plain.tif")
    np.testing.assert_array_equal(plain, mask)
    assert profile["nodata"] == 255
    with rasterio.open(tmp_path / "out" / "ortho_plain.tif") as raster:
        assert [one.name for one in raster.colorinterp] == ["gray"]
    colour, profile = read(tmp_path / "out" / "ortho_colour.tif")
    assert (profile["crs"], profile["transform"]) == (PLACE["crs"], PLACE["transform"])
    table = np.array([(*rgb, 255) for rgb in model.classes.colours] + [(0, 0, 0, 0)], np.uint8)
    np.testing.assert_array_equal(colour.transpose(1, 2, 0), table[np.where(mask == 255, 3, mask)])
    with rasterio.open(tmp_path / "out" / "ortho_colour.tif") as raster:
        assert [one.name for one in raster.colorinterp] == ["red", "green", "blue", "alpha"]


def test_statistics_of_a_raster_are_those_of_the_picture(ortho: Path, tmp_path: Path) -> None:
    """The same pixels as a PNG are the oracle; tiles of rasters and pictures differ by rounding alone."""
    full = np.maximum(noise(300, 211), 1)
    write_raster(ortho.parent / "full.tif", full.transpose(2, 0, 1), nodata=0)
    Image.fromarray(full).save(tmp_path / "full.png")
    for source in (ortho.parent / "full.tif", tmp_path / "full.png"):
        Tiled(predictor(2), (128, 128)).save(tmp_path / source.suffix, source, save=("statistics",))
    for table in ("pixels.csv", "objects.csv"):
        ours, theirs = (
            list(csv.reader((tmp_path / kind / table).read_text().splitlines())) for kind in (".tif", ".png")
        )
        assert len(ours) == len(theirs) > 3
        for own, other in zip(ours[1:], theirs[1:], strict=True):
            assert own[0] == other[0].replace("png", "tif")
            assert own[1:-1] == other[1:-1]
            assert float(own[-1]) == pytest.approx(float(other[-1]), abs=2e-6)

    (saved,) = Tiled(predictor(2), (128, 128)).save(tmp_path / "holey", ortho, save=("mask", "statistics"))
    assert saved.error == ""
    rows = list(csv.DictReader((tmp_path / "holey" / "pixels.csv").read_text().splitlines()))
    (mask,), _ = read(tmp_path / "holey" / "ortho.tif")
    assert [int(row["pixels"]) for row in rows] == np.bincount(mask[mask != 255], minlength=3).tolist()


def test_outlines_that_are_nowhere_cost_no_statistics(tmp_path: Path) -> None:
    """The corners of a full disk see past the earth; its pixels are counted all the same."""
    place = rasterio.Affine(1e6, 0, -5.5e6, 0, -1e6, 5.5e6)
    pixels = np.maximum(noise(11, 11).transpose(2, 0, 1), 1)
    disk = write_raster(
        tmp_path / "disk.tif", pixels, crs="+proj=geos +h=35785831 +lon_0=0 +sweep=y", transform=place
    )
    kinds: tuple[Kind, ...] = ("mask", "polygons", "statistics")
    (saved,) = Tiled(predictor(2)).save(tmp_path / "out", disk, save=kinds)
    assert "has no outline in longitude and latitude" in saved.error
    assert [path.name for path in saved.outputs] == ["disk.tif"]
    rows = list(csv.DictReader((tmp_path / "out" / "pixels.csv").read_text().splitlines()))
    (mask,), _ = read(tmp_path / "out" / "disk.tif")
    assert [int(row["pixels"]) for row in rows] == np.bincount(mask.ravel(), minlength=3).tolist()


def test_noise_costs_the_statistics_alone(
    ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "MOST", 10)
    (saved,) = Tiled(predictor(2), (128, 128)).save(
        tmp_path / "out", ortho, save=("mask", "overlay", "polygons", "statistics")
    )
    assert "ortho.tif has more than 10 objects" in saved.error
    assert "its other files are written" in saved.error
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"ortho.tif", "ortho_overlay.jpg", "ortho.geojson"} < written
    assert len(saved.outputs) == 3
    mask, _ = read(tmp_path / "out" / "ortho.tif")
    monkeypatch.undo()
    before = saved.outputs[0].stat().st_mtime_ns
    (later,) = Tiled(predictor(2), (128, 128)).save(tmp_path / "out", ortho, save=("mask", "polygons"))
    assert (later.error, later.outputs[0].stat().st_mtime_ns) == ("", before), "it is done already"
    Tiled(predictor(2), (128, 128)).save(tmp_path / "again", ortho)
    np.testing.assert_array_equal(mask, read(tmp_path / "again" / "ortho.tif")[0])
