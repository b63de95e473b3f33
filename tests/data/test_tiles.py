"""Tiles: of one size, inside their block, and their cores are the raster; blocks, groups and splits of real files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.image_io import read_image
from maskwright.data.recognise import propose
from maskwright.data.sources import geotiff
from maskwright.data.tiles import Span, partition, spans
from maskwright.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def write(file: Path, array: np.ndarray, **options: object) -> None:
    """CHW uint8 as a GeoTIFF."""
    file.parent.mkdir(parents=True, exist_ok=True)
    options |= {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}
    shape = {"count": len(array), "height": array.shape[1], "width": array.shape[2], "dtype": "uint8"}
    with rasterio.open(file, "w", driver="GTiff", **shape, **options) as raster:
        raster.write(array)


def field(root: Path, name: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A raster of noise with labels 0 to 2: picture HWC, labels HW."""
    picture = RNG.integers(0, 256, (3, height, width), np.uint8)
    labels = RNG.integers(0, 3, (height, width)).astype(np.uint8)
    write(root / f"images/{name}.tif", picture)
    write(root / f"masks/{name}.tif", labels[None])
    return picture.transpose(1, 2, 0), labels


def opened(root: Path, keys: str) -> Dataset:
    (root / "dataset.yaml").write_text(f"format: geotiff\nclasses: [a, b, c]\n{keys}")
    return open_dataset(root)


def test_tiles_by_hand() -> None:
    """40 pixels in tiles of 16 that share 2: three, at 0, 12 and 24; both cuts lie in the middle of 4 shared ones."""
    assert spans(40, 16, 2) == [Span(0, 0, 14), Span(12, 14, 26), Span(24, 26, 40)]
    assert spans(16, 16, 2) == spans(16, 99, 2) == [Span(0, 0, 16)]
    assert spans(17, 16, 0) == [Span(0, 0, 8), Span(1, 8, 17)]
    assert partition(9000, 4096) == [0, 3000, 6000, 9000]
    assert partition(4096, 4096) == [0, 4096]


@given(some.integers(1, 400), some.integers(1, 90), some.data())
def test_cores_are_the_whole_and_tiles_share_what_was_asked(
    length: int, tile: int, data: some.DataObject
) -> None:
    overlap = data.draw(some.integers(0, tile // 2))
    found, side = spans(length, tile, overlap), min(tile, length)
    assert [place for span in found for place in range(span.core, span.stop)] == list(range(length))
    assert (found[0].start, found[-1].start + side) == (0, length)
    for span in found:
        assert 0 <= span.start <= span.core < span.stop <= span.start + side <= length
    for left, right in pairwise(found):
        assert left.start + side - right.start >= overlap
        assert min(right.core - right.start, left.start + side - left.stop) >= overlap // 2
    fewer = (len(found) - 1) * tile - (len(found) - 2) * overlap
    assert len(found) == 1 or fewer < length, "one tile less would do"


@given(some.integers(1, 5000), some.integers(1, 700))
def test_blocks_are_even(length: int, side: int) -> None:
    cuts = partition(length, side)
    sizes = {right - left for left, right in pairwise(cuts)}
    assert (cuts[0], cuts[-1], len(cuts) - 1) == (0, length, -(-length // side))
    assert max(sizes) <= side
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "keys", ["tile: 16\nblock: 40\n", "tile: 17\noverlap: 8\nblock: 33\n", "block: 30\n"]
)
def test_cores_of_files_are_the_rasters(tmp_path: Path, keys: str) -> None:
    truth = {name: field(tmp_path, name, *size) for name, size in (("one", (90, 70)), ("two", (37, 64)))}
    dataset = opened(tmp_path, keys + "validation: {fraction: 0}\n")
    seen = {name: (np.zeros_like(picture), np.zeros_like(mask)) for name, (picture, mask) in truth.items()}
    times = {name: np.zeros(mask.shape, int) for name, (_, mask) in truth.items()}
    shapes = set()
    for item in dataset.items:
        assert item.piece is not None
        name, *corner = item.piece.whole.split("@")
        top, left = map(int, corner[0].split("_")) if corner else (0, 0)
        window, core, (height, width) = item.piece.window, item.piece.core, dataset.size(item)
        block = geotiff.header(item.piece.image)
        assert item.id == f"{item.piece.whole}@{window.top}_{window.left}"
        assert 0 <= window.top <= window.top + height <= block[0]
        assert 0 <= window.left <= window.left + width <= block[1]
        shapes.add((height, width))
        down, across = (slice(top + core.top, top + core.top + core.height),) * 1 + (
            slice(left + core.left, left + core.left + core.width),
        )
        inner = core.within(window).slices
        seen[name][0][down, across] = dataset.image(item, 3)[inner]
        seen[name][1][down, across] = dataset.mask(item)[inner]
        times[name][down, across] += 1
    for name, (picture, mask) in truth.items():
        np.testing.assert_array_equal(seen[name][0], picture)
        np.testing.assert_array_equal(seen[name][1], mask)
        assert (times[name] == 1).all()
    assert len({item.id for item in dataset.items}) == len(dataset.items)
    if "tile" in keys:
        assert len(shapes) == 1


def test_no_pixel_lies_in_two_splits(tmp_path: Path) -> None:
    picture, _ = field(tmp_path, "one", 130, 150)
    dataset = opened(tmp_path, "tile: 16\noverlap: 6\nblock: 40\nvalidation: {fraction: 0.3}\n")
    where = {split: np.zeros(picture.shape[:2], bool) for split in ("train", "validation")}
    for item in dataset.items:
        top, left, height, width = map(int, str(item.image).partition("[")[2][:-1].split(","))
        where[item.split][top : top + height, left : left + width] = True
    assert where["validation"].any()
    assert not (where["train"] & where["validation"]).any()
    assert (where["train"] | where["validation"]).all()
    folds = [fold.split("validation") for fold in dataset.folds(3)]
    wholes = [{item.piece.whole for item in fold if item.piece} for fold in folds]
    assert sum(map(len, wholes)) == len(set[str]().union(*wholes)) == 16


def test_tiles_are_groups_of_their_own_only_where_they_share_no_pixel(tmp_path: Path) -> None:
    field(tmp_path, "one", 48, 64)
    with pytest.raises(DataError, match="tiles of one share pixels"):
        opened(tmp_path, 'tile: 16\ngroups: "{id}"\n')
    dataset = opened(tmp_path, 'tile: 16\noverlap: 0\ngroups: "{id}"\n')  # 16 divides both sides
    assert (len(dataset.split("train")), len(dataset.split("validation"))) == (11, 1)
    (whole,) = dataset.scored("validation")
    assert (whole.id, whole.group, (dataset.mask(whole) < 255).sum()) == ("one", "one@16_32", 16 * 16)
    (others,) = dataset.scored("train")
    assert (others.group, (dataset.mask(others) < 255).sum()) == ("one", 11 * 16 * 16)


def test_groups_are_rasters_or_the_blocks_of_the_only_one(tmp_path: Path) -> None:
    field(tmp_path, "one", 64, 64)
    assert {item.group for item in opened(tmp_path, "tile: 16\nblock: 32\n").items} == {
        f"one@{top}_{left}" for top in (0, 32) for left in (0, 32)
    }
    field(tmp_path, "two", 64, 64)
    several = opened(tmp_path, "tile: 16\nblock: 32\nvalidation: {fraction: 0.5}\n")
    assert {item.group for item in several.items} == {"one", "two"}
    assert {item.id.partition("@")[0] for item in several.split("validation")} in ({"one"}, {"two"})


def test_what_is_whole_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of WHOLE pixels without `tile`; what is larger is cut into TILE within BLOCK."""
    monkeypatch.setattr(geotiff, "WHOLE", 64 * 64)
    monkeypatch.setattr(geotiff, "BLOCK", 64)
    monkeypatch.setattr(geotiff, "TILE", 32)
    field(tmp_path, "long", 16, 256)
    (only,) = opened(tmp_path, "validation: {fraction: 0}\n").items
    assert (only.id, only.piece) == ("long", None)
    field(tmp_path, "larger", 17, 256)
    dataset = opened(tmp_path, "validation: {fraction: 0}\n")
    assert [item.id for item in dataset.scored("train")] == [
        f"larger@0_{left}" for left in (0, 64, 128, 192)
    ] + ["long"]
    assert {dataset.size(item) for item in dataset.items if item.piece} == {(17, 32)}


def test_an_excluded_picture_takes_its_tiles_along_and_an_excluded_tile_leaves_a_hole(tmp_path: Path) -> None:
    _, labels = field(tmp_path, "one", 64, 64)
    keys = "tile: 24\nblock: 32\nvalidation: {fraction: 0}\n"
    dataset = opened(tmp_path, keys + 'exclude: ["one@0_32", "one@32_0@0_0"]\n')
    assert [item.id for item in dataset.scored("train")] == ["one@0_0", "one@32_0", "one@32_32"]
    assert dataset.advice == ()
    holed = next(item for item in dataset.scored("train") if item.id == "one@32_0")
    expected = labels[32:, :32].copy()
    expected[:16, :16] = 255
    np.testing.assert_array_equal(dataset.mask(holed), expected)


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    field(tmp_path, "one", 64, 64)
    with pytest.raises(ConfigError, match=r"overlap: 9 of tiles of 16 .* half"):
        opened(tmp_path, "tile: 16\noverlap: 9\n")
    (tmp_path / "dataset.yaml").write_text("format: folder\nblock: 64\n")
    with pytest.raises(ConfigError, match="block for the format folder"):
        open_dataset(tmp_path)
    field(tmp_path, "one@0_0", 32, 32)
    with pytest.raises(DataError, match="two parts of rasters would be called one@0_0@0_0"):
        opened(tmp_path, "tile: 16\nblock: 32\n")


@pytest.mark.parametrize(
    "options", [{}, {"blockysize": 3}, {"tiled": True, "blockxsize": 32, "blockysize": 16}]
)
def test_strips_and_tiles_of_a_file_read_alike(tmp_path: Path, options: dict[str, object]) -> None:
    picture = RNG.integers(0, 256, (3, 50, 1100), np.uint8)
    labels = (picture[:1] > 99).astype(np.uint8)
    for kind, array in (("images", picture), ("masks", labels)):
        write(tmp_path / kind / "one.tif", array, **options)
    dataset = opened(tmp_path, "tile: 40\nblock: 600\n")
    for item in dataset.scored("train"):
        left = int(item.id.rpartition("_")[2])
        np.testing.assert_array_equal(
            dataset.image(item, 3), picture[:, :, left : left + 550].transpose(1, 2, 0)
        )
        np.testing.assert_array_equal(dataset.mask(item), labels[0, :, left : left + 550])
    write(
        tmp_path / "images/one.tif", 255 - picture, **options
    )  # what is kept open must not outlive its file
    again = opened(tmp_path, "tile: 40\nblock: 600\n")
    np.testing.assert_array_equal(again.image(again.items[0], 3)[:, 0, 0], 255 - picture[0, :40, 0])


def test_a_tiff_too_large_to_be_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place on the earth: recognised by its size, and the error elsewhere names the way."""
    options = {"driver": "GTiff", "height": 20_001, "width": 20_001, "count": 1, "dtype": "uint8"}
    options |= {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "sparse_ok": True}
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        with (
            pytest.warns(NotGeoreferencedWarning),
            rasterio.open(tmp_path / kind / "one.tif", "w", **options),
        ):
            pass
    with pytest.raises(DataError, match="format: geotiff"):
        read_image(tmp_path / "images/one.tif", 3)
    assert geotiff.recognise(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images/one.tif")
    assert not geotiff.recognise(tmp_path)
    monkeypatch.setattr(geotiff, "LARGEST", 15)
    assert geotiff.recognise(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "masks/one.tif")
    assert propose(tmp_path).keys["format"] == "geotiff"


def test_one_raster_is_proposed_in_blocks_that_train_and_validate(tmp_path: Path) -> None:
    field(tmp_path, "ortho", 400, 300)
    with pytest.raises(DataError, match=r"one group.*choose a smaller block"):
        open_dataset(tmp_path)
    proposal = propose(tmp_path)
    assert proposal.dataset is not None
    assert proposal.keys["block"] == 86
    assert {item.split for item in proposal.dataset.items} == {"train", "validation"}
    assert any("one raster" in reason for reason in proposal.reasons)
    field(tmp_path, "another", 400, 300)
    assert "block" not in propose(tmp_path).keys
