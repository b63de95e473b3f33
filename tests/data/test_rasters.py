"""GeoTIFF, stacks of pages, volumes and slices, each written by another library from one truth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import rasterio
import tifffile
import yaml
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_voi_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from maskwright.data import spacing
from maskwright.data.dataset import Dataset, find_broken, open_dataset
from maskwright.data.levels import grey_levels, whole_numbers
from maskwright.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
SIZE = (40, 56)


def write_raster(
    file: Path,
    array: np.ndarray,
    *,
    nodata: float | None = None,
    left: float = 500_000.0,
    crs: str = "EPSG:32632",
) -> None:
    """CHW or HW."""
    bands = array[None] if array.ndim == 2 else array
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        file,
        "w",
        driver="GTiff",
        height=bands.shape[1],
        width=bands.shape[2],
        count=len(bands),
        dtype=bands.dtype,
        crs=crs,
        transform=rasterio.Affine(10, 0, left, 0, -10, 5_400_000),
        nodata=nodata,
        tiled=True,
        blockxsize=16,
        blockysize=16,
        compress="deflate",
    ) as raster:
        raster.write(bands)


def fields(root: Path, bands: np.ndarray, labels: np.ndarray, count: int = 3) -> None:
    for row in range(count):
        write_raster(root / f"images/field{row}.tif", bands[row])
        write_raster(root / f"masks/field{row}.tif", labels[row], nodata=9)


def test_geotiff_with_bands_window_and_no_data(tmp_path: Path) -> None:
    bands = RNG.integers(0, 4000, (3, 6, *SIZE)).astype(np.uint16)
    labels = RNG.integers(0, 3, (3, *SIZE)).astype(np.uint8)
    labels[:, :4] = 9  # no data of the labels
    bands[:, 3, :, :5] = 65535  # no data of one band that is used
    for row in range(3):
        write_raster(tmp_path / f"images/field{row}.tif", bands[row], nodata=65535)
        write_raster(tmp_path / f"masks/field{row}.tif", labels[row], nodata=9)
    keys = {"format": "geotiff", "bands": [4, 1, 6], "window": [1000, 3000], "classes": ["a", "b", "c"]}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(keys))
    dataset = open_dataset(tmp_path)
    assert dataset.channels() == 3
    for row, item in enumerate(sorted(dataset.items, key=lambda item: item.id)):
        chosen = bands[row][[3, 0, 5]].astype(np.float64)
        expected = np.round(255 * np.clip((chosen - 1000) / 2000, 0, 1)).transpose(1, 2, 0)
        expected[:, :5, 0] = 0
        np.testing.assert_array_equal(dataset.image(item, 3), expected)
        truth = labels[row].copy()
        truth[:4], truth[:, :5] = 255, 255
        np.testing.assert_array_equal(dataset.mask(item), truth)
        assert dataset.size(item) == SIZE
        assert dataset.pixels[item.id].sum() == (truth < 255).sum()


def test_a_bare_folder_of_rasters(tmp_path: Path) -> None:
    bands = RNG.integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    labels = RNG.integers(0, 3, (3, *SIZE)).astype(np.uint8)
    fields(tmp_path, bands, labels)
    dataset = open_dataset(tmp_path)
    assert dataset.format == "geotiff"
    np.testing.assert_array_equal(dataset.image(dataset.items[1], 3), bands[1].transpose(1, 2, 0))
    np.testing.assert_array_equal(dataset.mask(dataset.items[1]), labels[1])
    assert find_broken(dataset) == []


def test_one_raster_is_divided_by_its_blocks(tmp_path: Path) -> None:
    bands = RNG.integers(0, 256, (1, 3, *SIZE), dtype=np.uint8)
    fields(tmp_path, bands, RNG.integers(0, 3, (1, *SIZE)).astype(np.uint8), 1)
    keys = "format: geotiff\ntile: 16\nclasses: [a, b, c]\n"
    (tmp_path / "dataset.yaml").write_text(keys)
    with pytest.raises(DataError, match=r"are one group .* choose a smaller block"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text(keys + "block: 20\n")
    dataset = open_dataset(tmp_path)
    assert dataset.source["groups"] == "{id:before last @}"
    assert {item.group for item in dataset.items} == {
        f"field0@{top}_{left}" for top in (0, 20) for left in (0, 19, 37)
    }
    assert (len(dataset.scored("train")), len(dataset.scored("validation"))) == (5, 1)
    (tmp_path / "again.yaml").write_text(dataset.to_yaml())
    assert open_dataset(tmp_path / "again.yaml").items == dataset.items


def test_tiles_put_together_are_the_raster(tmp_path: Path) -> None:
    bands = RNG.integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    labels = RNG.integers(0, 3, (3, *SIZE)).astype(np.uint8)
    fields(tmp_path, bands, labels)
    (tmp_path / "dataset.yaml").write_text(
        "format: geotiff\ntile: 16\nclasses: [a, b, c]\nvalidation: {fraction: 0.4}\n"
    )
    dataset = open_dataset(tmp_path)
    assert len(dataset.items) == 3 * 3 * 4
    assert {item.group for item in dataset.items} == {"field0", "field1", "field2"}
    assert len(dataset.split("validation")) == 12  # a whole raster
    picture, mask = np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, 7, np.uint8)
    for item in dataset.items:
        name, _, place = item.id.partition("@")
        if name == "field2":
            top, left = map(int, place.split("_"))
            tile = dataset.mask(item)
            mask[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            picture[top : top + tile.shape[0], left : left + tile.shape[1]] = dataset.image(item, 3)
    np.testing.assert_array_equal(mask, labels[2])
    np.testing.assert_array_equal(picture, bands[2].transpose(1, 2, 0))
    (tmp_path / "again.yaml").write_text(dataset.to_yaml())
    assert open_dataset(tmp_path / "again.yaml").items == dataset.items


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda root: write_raster(root / "masks/field1.tif", np.zeros((9, 9), np.uint8)),
            "is 9 x 9 and its image",
        ),
        (
            lambda root: write_raster(root / "masks/field1.tif", np.zeros(SIZE, np.uint8), left=500_100),
            "same place",
        ),
        (
            lambda root: write_raster(root / "masks/field1.tif", np.zeros(SIZE, np.uint8), crs="EPSG:32633"),
            "same place",
        ),
        (lambda root: (root / "masks/field1.tif").write_bytes(b"II*\0 nothing"), "cannot be read"),
        (
            lambda root: (root / "dataset.yaml").write_text("format: geotiff\nbands: [1, 2, 9]\n"),
            "which has 3",
        ),
        (lambda root: (root / "dataset.yaml").write_text("format: geotiff\nbands: [1, 2]\n"), "1, 3 or 4"),
        (
            lambda root: (root / "dataset.yaml").write_text("format: folder\ntile: 64\n"),
            "tile for the format folder",
        ),
        (lambda root: (root / "dataset.yaml").write_text("format: geotiff\nwindow: [5, 1]\n"), "is empty"),
    ],
)
def test_rasters_that_do_not_fit(tmp_path: Path, change: Callable[[Path], object], problem: str) -> None:
    bands = RNG.integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    fields(tmp_path, bands, np.zeros((3, *SIZE), np.uint8))
    write_raster(tmp_path / "masks/field0.tif", np.ones(SIZE, np.uint8))
    change(tmp_path)
    with pytest.raises((DataError, ConfigError), match=problem):
        first_picture(tmp_path)


def first_picture(data: Path) -> np.ndarray:
    dataset = open_dataset(data)
    return dataset.image(dataset.items[0], 3)


def test_a_link_that_pretends_to_be_a_raster(tmp_path: Path) -> None:
    """GDAL's virtual rasters name other files and addresses: only TIFFs are opened."""
    bands = RNG.integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    fields(tmp_path, bands, np.ones((3, *SIZE), np.uint8))
    (tmp_path / "images/field1.tif").write_text(
        '<VRTDataset rasterXSize="56" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    (tmp_path / "dataset.yaml").write_text("format: geotiff\n")
    with pytest.raises(DataError, match=r"field1\.tif cannot be read"):
        open_dataset(tmp_path)


# Stacks


@pytest.mark.parametrize("colour", [False, True])
def test_stacks_of_pages(tmp_path: Path, colour: bool) -> None:
    shape = (4, 12, 14, 3) if colour else (4, 12, 14)
    shown = RNG.integers(0, 256, (3, *shape), dtype=np.uint8)
    labels = RNG.integers(0, 3, (3, 4, 12, 14)).astype(np.uint16)
    for row in range(3):
        for kind, pages in (("images", shown[row]), ("masks", labels[row])):
            (tmp_path / kind).mkdir(exist_ok=True)
            tifffile.imwrite(
                tmp_path / kind / f"cell{row}.tif",
                pages,
                photometric="rgb" if pages.ndim == 4 else "minisblack",
            )
    dataset = open_dataset(tmp_path)
    assert (dataset.format, len(dataset.items), dataset.channels()) == ("tiff-stack", 12, 3 if colour else 1)
    assert {item.group for item in dataset.items} == {"cell0", "cell1", "cell2"}
    for item in dataset.items:
        row, page = int(item.id[4]), int(item.id[6:])
        np.testing.assert_array_equal(dataset.mask(item), labels[row, page])
        expected = shown[row, page] if colour else shown[row, page][..., None]
        np.testing.assert_array_equal(dataset.image(item, 3 if colour else 1), expected)
    tifffile.imwrite(tmp_path / "masks/cell1.tif", labels[1][:3], photometric="minisblack")
    with pytest.raises(DataError, match=r"cell1\.tif has 3 pages and its image 4"):
        open_dataset(tmp_path)


def test_a_stack_with_a_window(tmp_path: Path) -> None:
    shown = RNG.uniform(-1, 3, (4, 12, 14)).astype(np.float32)
    for kind, pages in (("images", shown), ("masks", np.ones((4, 12, 14), np.uint8))):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "a.tif", pages, photometric="minisblack")
    (tmp_path / "dataset.yaml").write_text(
        "format: tiff-stack\nwindow: [0, 2]\nclasses: [a, b]\nvalidation: {fraction: 0}\n"
    )
    dataset = open_dataset(tmp_path)
    expected = np.round(255 * np.clip(shown[2].astype(np.float64) / 2, 0, 1))
    np.testing.assert_array_equal(dataset.image(dataset.items[2], 1)[..., 0], expected)
    (tmp_path / "dataset.yaml").write_text("format: tiff-stack\nclasses: [a, b]\nvalidation: {fraction: 0}\n")
    dataset = open_dataset(tmp_path)
    with pytest.raises(DataError, match="holds float32; say in"):
        dataset.image(dataset.items[0], 1)


# Volumes


def write_volume(file: Path, array: np.ndarray, spacing: float = 1.5) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.Nifti1Image(array, np.diag([spacing, spacing, 4.0, 1.0]))  # type: ignore[no-untyped-call]
    nibabel.save(volume, file)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
        ("images/{}.nii", "labels/{}.nii"),
    ],
)
def test_volumes(tmp_path: Path, images: str, labels: str) -> None:
    scans = RNG.integers(-1000, 1000, (3, 10, 12, 5)).astype(np.int16)
    truth = RNG.integers(0, 3, (3, 10, 12, 5)).astype(np.uint8)
    for row in range(3):
        write_volume(tmp_path / images.format(f"patient{row}"), scans[row])
        write_volume(tmp_path / labels.format(f"patient{row}"), truth[row])
    bare = open_dataset(tmp_path)
    assert (bare.format, len(bare.items), bare.channels()) == ("nifti", 15, 1)
    keys = {"format": "nifti", "window": [-160, 240], "classes": ["a", "b", "c"]}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(keys))
    dataset = open_dataset(tmp_path)
    assert {item.group for item in dataset.items} == {"patient0", "patient1", "patient2"}
    for item, plain in zip(dataset.items, bare.items, strict=True):
        row, place = int(item.id[7]), int(item.id[9:])
        scan = scans[row, :, :, place].T.astype(np.float64)
        np.testing.assert_array_equal(dataset.mask(item), truth[row, :, :, place].T)
        expected = np.round(255 * np.clip((scan + 160) / 400, 0, 1))
        np.testing.assert_array_equal(dataset.image(item, 1)[..., 0], expected)
        low, high = float(scans[row].min()), float(scans[row].max())
        whole = np.round(255 * (scan - low) / (high - low))
        np.testing.assert_array_equal(bare.image(plain, 1)[..., 0], whole)
    assert dataset.size(dataset.items[0]) == (12, 10)


def test_volumes_that_do_not_fit(tmp_path: Path) -> None:
    scan, truth = np.zeros((6, 7, 4), np.int16), np.ones((6, 7, 4), np.uint8)
    write_volume(tmp_path / "images/a.nii.gz", scan)
    write_volume(tmp_path / "labels/a.nii.gz", truth, spacing=1.0)
    with pytest.raises(DataError, match="another spacing"):
        open_dataset(tmp_path)
    write_volume(tmp_path / "labels/a.nii.gz", truth[..., :3])
    with pytest.raises(DataError, match=r"shape \(6, 7, 3\)"):
        open_dataset(tmp_path)
    write_volume(tmp_path / "labels/a.nii.gz", np.zeros((6, 7, 4, 2), np.uint8))
    with pytest.raises(DataError, match="three axes"):
        open_dataset(tmp_path)
    write_volume(tmp_path / "labels/a.nii.gz", truth)
    whole = (tmp_path / "labels/a.nii.gz").read_bytes()
    (tmp_path / "labels/a.nii.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"no NIfTI|cut short|no mask can be read"):
        open_dataset(tmp_path)
    (tmp_path / "labels/a.nii.gz").write_bytes(b"words")
    with pytest.raises(DataError, match="is no NIfTI"):
        open_dataset(tmp_path)


def test_a_volume_that_claims_too_much(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape((30_000, 30_000, 30_000))  # type: ignore[no-untyped-call]
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.nii").write_bytes(header.binaryblock + b"\0\0\0\0")
    with pytest.raises(DataError, match="at most 2,147,483,648 voxels"):
        open_dataset(tmp_path)


def test_spacings_that_differ_are_told(tmp_path: Path) -> None:
    labels = np.ones((6, 5, 2), np.uint8)
    for name, millimetres in (("a", 0.5), ("b", 0.5), ("c", 0.9)):
        write_volume(tmp_path / f"images/{name}.nii.gz", RNG.normal(size=labels.shape), millimetres)
        write_volume(tmp_path / f"labels/{name}.nii.gz", labels, millimetres)
    (line,) = (line for line in open_dataset(tmp_path).advice if "mm" in line)
    assert line.startswith("a pixel is 0.5 to 0.9 mm")
    assert spacing.advice([(0.5, 0.5), None, (0.6, 0.6)]) == []
    (line,) = spacing.advice([(0.5, 0.8)])
    assert "1 of 1 files have pixels that are not square, such as 0.5 x 0.8 mm" in line


# DICOM


def write_slice(file: Path, stored: np.ndarray, **tags: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = pydicom.Dataset()
    slice_.file_meta = meta
    slice_.Rows, slice_.Columns = stored.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated = slice_.BitsStored = 16
    slice_.HighBit, slice_.PixelRepresentation = 15, 1
    slice_.RescaleSlope, slice_.RescaleIntercept = "2", "-1000"
    slice_.PixelData = stored.astype("<i2").tobytes()
    for key, value in tags.items():
        setattr(slice_, key, value)
    slice_.save_as(file, enforce_file_format=True)


def slices(root: Path, **tags: object) -> tuple[np.ndarray, np.ndarray]:
    stored = RNG.integers(0, 1000, (4, 9, 11))
    truth = RNG.integers(0, 2, (4, 9, 11)).astype(np.uint8)
    for row in range(4):
        write_slice(root / f"images/p{row // 2}/{row}.dcm", stored[row], **tags)
        (root / f"masks/p{row // 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth[row]).save(root / f"masks/p{row // 2}/{row}.png")
    return 2.0 * stored - 1000, truth


def test_dicom(tmp_path: Path) -> None:
    meant, truth = slices(tmp_path)
    (tmp_path / "dataset.yaml").write_text("format: dicom\nwindow: [-160, 240]\nclasses: [a, b]\n")
    dataset = open_dataset(tmp_path)
    assert {item.group for item in dataset.items} == {"p0", "p1"}
    for item in dataset.items:
        row = int(item.id[-1])
        expected = np.round(255 * np.clip((meant[row] + 160) / 400, 0, 1))
        np.testing.assert_array_equal(dataset.image(item, 1)[..., 0], expected)
        np.testing.assert_array_equal(dataset.mask(item), truth[row])


def test_pixels_of_dicom_that_are_not_square_are_told(tmp_path: Path) -> None:
    slices(tmp_path, PixelSpacing=["0.5", "0.9"])
    assert any(
        "4 of 4 files have pixels that are not square" in line for line in open_dataset(tmp_path).advice
    )
    slices(tmp_path, PixelSpacing=["0.5", "0.5"])
    assert not any("mm" in line for line in open_dataset(tmp_path).advice)


def test_the_window_of_the_file_and_inverted_grey(tmp_path: Path) -> None:
    meant, _ = slices(
        tmp_path, WindowCenter=[40, 300], WindowWidth=[400, 1500], PhotometricInterpretation="MONOCHROME1"
    )
    dataset = open_dataset(tmp_path)
    assert dataset.format == "dicom"
    shown: Dataset = dataset
    ours = shown.image(shown.items[0], 1)[..., 0].astype(int)
    theirs = apply_voi_lut(meant[0].astype(np.int16), pydicom.dcmread(tmp_path / "images/p0/0.dcm"))
    low, high = 40 - 0.5 - 399 / 2, 40 - 0.5 + 399 / 2
    by_hand = 255 - np.round(255 * np.clip((meant[0] - low) / (high - low), 0, 1))
    np.testing.assert_array_equal(ours, by_hand)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] < -0.99


def test_dicom_that_is_none(tmp_path: Path) -> None:
    slices(tmp_path, NumberOfFrames=5)
    dataset_yaml = tmp_path / "dataset.yaml"
    dataset_yaml.write_text("format: dicom\nclasses: [a, b]\n")
    dataset = open_dataset(tmp_path)
    with pytest.raises(DataError, match="5 frames"):
        dataset.image(dataset.items[0], 1)
    (tmp_path / "images/p0/0.dcm").write_bytes(b"words" * 100)
    with pytest.raises(DataError, match="is no DICOM"):
        dataset.size(dataset.items[0])


# Numbers


def test_grey_levels() -> None:
    numbers = np.array([0, 1, 128, 256, 257, 65535], np.uint16)
    np.testing.assert_array_equal(grey_levels(numbers, None, "a"), [0, 0, 0, 1, 1, 255])
    mixed = np.array([np.nan, -np.inf, np.inf, 0.5, -7])
    np.testing.assert_array_equal(grey_levels(mixed, (0, 1), "a"), [0, 0, 255, 128, 0])


def test_labels_in_floating_point() -> None:
    np.testing.assert_array_equal(whole_numbers(np.array([0.0, 2.0, np.nan]), "a", 255), [0, 2, 255])
    for bad in ([0.5], [np.inf]):
        with pytest.raises(DataError, match="fractions"):
            whole_numbers(np.array(bad), "a", 255)


@pytest.mark.parametrize(
    ("package", "extra"),
    [("rasterio", "data"), ("tifffile", "data"), ("nibabel", "medical"), ("pydicom", "medical")],
)
def test_packages_that_are_not_installed(
    tmp_path: Path, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"rasterio": "geotiff", "tifffile": "tiff-stack", "nibabel": "nifti", "pydicom": "dicom"}[package]
    truth = np.ones((3, *SIZE), np.uint8)
    if package == "rasterio":
        fields(tmp_path, np.ones((3, 3, *SIZE), np.uint8), truth)
    elif package == "tifffile":
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
            tifffile.imwrite(tmp_path / kind / "a.tif", truth, photometric="minisblack")
    elif package == "nibabel":
        for kind in ("images", "labels"):
            write_volume(tmp_path / kind / "a.nii.gz", truth)
    else:
        slices(tmp_path)
    (tmp_path / "dataset.yaml").write_text(f"format: {form}\nclasses: [a, b]\nvalidation: {{fraction: 0}}\n")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=rf"needs {package}.*pip install 'maskwright\[{extra}\]'"):
        first_picture(tmp_path)


def test_what_is_said_about_the_numbers_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Another window or other bands of the same files are other pictures: a store must not be taken for theirs."""
    fields(tmp_path, RNG.integers(0, 256, (3, 4, *SIZE), dtype=np.uint8), np.ones((3, *SIZE), np.uint8))
    found = set()
    for said in ("window: [0, 255]", "window: [0, 200]", "bands: [2, 3, 4]", "tile: 32"):
        (tmp_path / "dataset.yaml").write_text(f"format: geotiff\nclasses: [a, b]\n{said}\n")
        found.add(open_dataset(tmp_path).fingerprint())
    assert len(found) == 4
