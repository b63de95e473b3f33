"""Every format as another tool writes it: the same labels, bit for bit.

What can be written here is: by OpenCV, GDAL (rasterio), tifffile, pycocotools, torch and MONAI, each for what we read
with another library. What larger tools made of the same labels lies in `fixtures/`, with the scripts that made it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
import torch
import yaml
from matplotlib.path import Path as Outline
from monai.networks.utils import one_hot
from pycocotools import mask as coco
from scipy import ndimage

from maskwright.data.dataset import Dataset, find_broken, open_dataset
from maskwright.data.sources import voc
from maskwright.errors import ConfigError

FIXTURES = Path(__file__).parent / "fixtures"
SOURCE: dict[str, np.ndarray] = dict(np.load(FIXTURES / "source.npz"))
"""Class ids 0 to 3 and 255, odd sizes; objects touch, nest, end at the border."""
NAMES = ("background", "cat", "dog", "grass")
NUMBERED = ("class_0", "class_1", "class_2", "class_3")
COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[:4], COLOURS[255] = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [10, 200, 30]], voc.VOID

Labels = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A format, the tool that wrote it, and how."""

    form: str
    tool: str
    write: Callable[[Path], object] | str
    """Fills an empty folder; or what a tool made, below `fixtures/`."""
    keys: Mapping[str, object] | None = None
    """dataset.yaml."""
    names: tuple[str, ...] = NAMES
    """What the classes 0 to 3 are called."""
    truth: Callable[[Labels], Labels] = field(default=lambda source: source)
    how: str = ""


def picture(labels: np.ndarray) -> np.ndarray:
    return np.stack([40 * (labels % 7), 90 - labels % 7, 0 * labels], axis=2).astype(np.uint8)


def pictures(folder: Path, ending: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in SOURCE.items():
        assert cv2.imwrite(str(folder / f"{name}.{ending}"), picture(labels))


def opencv(
    ending: str,
    convert: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
    quality: int | None = None,
) -> Callable[[Path], None]:
    options = [] if quality is None else [cv2.IMWRITE_WEBP_QUALITY, quality]

    def write(root: Path) -> None:
        pictures(root / "images")
        (root / "masks").mkdir()
        for name, labels in SOURCE.items():
            assert cv2.imwrite(str(root / f"masks/{name}.{ending}"), convert(labels), options)

    return write


def deep(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint16)


def gdal(
    folder: str, ending: str, driver: str, palette: bool = False, **options: object
) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        pictures(root / ("JPEGImages" if folder.startswith("Seg") else "images"))
        (root / folder).mkdir()
        for name, labels in SOURCE.items():
            flat = rasterio.MemoryFile()
            size = {"height": labels.shape[0], "width": labels.shape[1], "count": 1, "dtype": labels.dtype}
            with flat.open(driver="GTiff", **size) as made:
                made.write(labels, 1)
                if palette:
                    made.write_colormap(1, {value: (*map(int, COLOURS[value]), 255) for value in range(256)})
            with flat.open() as made:
                rasterio.shutil.copy(made, root / folder / f"{name}.{ending}", driver=driver, **options)
        for left in (root / folder).glob("*.aux.xml"):
            left.unlink()

    return write


def palette_of_voc(root: Path) -> None:
    gdal("SegmentationClass", "png", "PNG", palette=True)(root)
    (root / "class_names.txt").write_text("__ignore__\n_background_\ncat\ndog\ngrass\n")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(SOURCE))


def runs_of_pycocotools(root: Path) -> None:
    pictures(root / "images")
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for key, (name, labels) in enumerate(SOURCE.items()):
        images.append(
            {"id": key, "file_name": f"{name}.png", "height": labels.shape[0], "width": labels.shape[1]}
        )
        for value in sorted(set(labels.flat) - {0}):
            packed = coco.encode(np.asfortranarray((labels == value).astype(np.uint8)))
            runs = {"size": packed["size"], "counts": packed["counts"].decode()}
            crowd = int(value == 255)
            one = {"id": len(annotations), "image_id": key, "category_id": 1 if crowd else int(value)}
            annotations.append({**one, "iscrowd": crowd, "segmentation": runs})
    categories = [{"id": place, "name": name} for place, name in enumerate(NAMES) if place]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances_train.json").write_text(json.dumps(whole))


def geotiff_of_tifffile(root: Path) -> None:
    """Five bands, one plane each, and labels with a place on the earth: GeoTIFF 1.1, EPSG:32632, 10 m."""
    place = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 5_400_000.0, 0.0), True),
        (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632), True),
    ]
    for name, labels in SOURCE.items():
        bands = np.stack([picture(labels)[..., band % 3] + np.uint8(band) for band in range(5)])
        options: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
            ("images", bands, {"planarconfig": "separate"}),
            ("masks", labels, {"compression": "zlib"}),
        )
        for kind, array, more in options:
            (root / kind).mkdir(exist_ok=True)
            tifffile.imwrite(
                root / kind / f"{name}.tif",
                array,
                photometric="minisblack",
                extratags=place,
                metadata=None,
                **more,
            )


def pages_of_opencv(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind).mkdir()
        for name, labels in SOURCE.items():
            shown = picture(labels)[..., 0] if kind == "images" else labels.astype(np.uint16)
            assert cv2.imwritemulti(str(root / kind / f"{name}.tif"), [shown, shown[::-1], shown[:, ::-1]])


def hot(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        pictures(root / "images")
        (root / "masks").mkdir()
        for name, labels in SOURCE.items():
            np.save(root / f"masks/{name}.npy", make(labels))

    return write


def hot_of_torch(labels: np.ndarray) -> np.ndarray:
    """H x W x K; a pixel that is not known has no class."""
    planes = torch.nn.functional.one_hot(torch.from_numpy(np.where(labels == 255, 4, labels)).long(), 5)
    return np.asarray(planes[..., :4].to(torch.uint8))


def hot_of_monai(labels: np.ndarray) -> np.ndarray:
    """K x H x W, floating point."""
    planes = one_hot(torch.from_numpy(np.where(labels == 255, 4, labels))[None, None].float(), 5)
    return np.asarray(planes[0, :4])


def npz_of_numpy(root: Path) -> None:
    """One size alone fits: pic 1 as it is and turned. Columns first and big-endian, as NumPy may also write."""
    labels = SOURCE["pic 1"]
    both = np.asfortranarray(np.stack([labels, labels[::-1]]).astype(">u2"))
    shown = np.stack([picture(part.astype(np.uint8)) for part in both])
    np.savez_compressed(root / "all.npz", images=shown, masks=both, ids=np.array(["pic 1", "pic 1 turned"]))


def turned_pages(source: Labels) -> Labels:
    return {
        f"{name}@{page:04d}": shown
        for name, labels in source.items()
        for page, shown in enumerate((labels, labels[::-1], labels[:, ::-1]))
    }


def all_ignored(source: Labels) -> Labels:
    """As COCO says it: what is marked as a crowd is not known."""
    return {name: np.where(labels > 0, 255, 0) for name, labels in source.items()}


COLOURED = {
    "images": "images/{id}.png",
    "masks": "masks/{id}.png",
    "classes": list(NAMES),
    "values": {
        "#000000": "background",
        "#800000": "cat",
        "#008000": "dog",
        "#0ac81e": "grass",
        "#e0e0c0": "ignore",
    },
}
BY_PLACE = {"classes": list(NAMES), "values": {**dict(enumerate(NAMES)), 255: "ignore"}}
DATUMARO, SDK, ITK = "datumaro-1.13.12", "label-studio-sdk-2.1.2", "SimpleITK-2.5.7"
LABELME, SUPERVISION = "labelme-6.3.1", "supervision-0.31.2"

CASES = (
    Case("folder", "OpenCV", opencv("png"), names=NUMBERED, how="8-bit grey PNG"),
    Case("folder", "OpenCV", opencv("bmp"), names=NUMBERED, how="BMP"),
    Case("folder", "OpenCV", opencv("pgm"), names=NUMBERED, how="PGM"),
    Case("folder", "OpenCV", opencv("tiff"), names=NUMBERED, how="8-bit TIFF, LZW"),
    Case("folder", "OpenCV", opencv("png", deep), names=NUMBERED, how="16-bit PNG"),
    Case("folder", "OpenCV", opencv("tif", deep), names=NUMBERED, how="16-bit TIFF"),
    Case("folder", "OpenCV", opencv("tif", lambda labels: labels.astype(np.float32)), names=NUMBERED,
         how="TIFF of floating point"),
    Case("folder", "OpenCV", opencv("png", lambda labels: COLOURS[labels][..., ::-1]), COLOURED, how="RGB PNG"),
    Case("folder", "GDAL", gdal("masks", "png", "PNG", palette=True), names=NUMBERED, how="PNG with a palette"),
    Case("folder", "GDAL", gdal("masks", "png", "PNG", palette=True), COLOURED, how="a palette read by its colours"),
    Case("folder", "GDAL", gdal("masks", "gif", "GIF", palette=True), names=NUMBERED, how="GIF"),
    Case("folder", "GDAL", gdal("masks", "jp2", "JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES"), names=NUMBERED,
         how="JPEG 2000 without loss"),
    Case("folder", "OpenCV", opencv("webp", lambda labels: COLOURS[labels][..., ::-1], 101),
         {**COLOURED, "masks": "masks/{id}.webp"}, how="RGB WebP without loss"),
    Case("folder", "SimpleITK", f"{ITK}/16 bits png", names=NUMBERED, how="16-bit PNG"),
    Case("folder", "SimpleITK", f"{ITK}/16 bits tif", names=NUMBERED, how="16-bit TIFF, PackBits"),
    Case("folder", "datumaro", f"{DATUMARO}/camvid", how="colours and label_colors.txt, as CamVid"),
    Case("folder", "torch", hot(hot_of_torch), names=NUMBERED, how="one-hot .npy, H x W x K"),
    Case("folder", "MONAI", hot(hot_of_monai), names=NUMBERED, how="one-hot .npy, K x H x W"),
    Case("npz", "NumPy", npz_of_numpy, {"format": "npz", **BY_PLACE},
         truth=lambda source: {"pic 1": source["pic 1"], "pic 1 turned": source["pic 1"][::-1]}),
    Case("voc", "GDAL", palette_of_voc, how="the challenge's palette"),
    Case("cvat", "datumaro", f"{DATUMARO}/cvat", how="Segmentation mask 1.1"),
    Case("coco", "datumaro", f"{DATUMARO}/coco polygons", how="polygons"),
    Case("coco", "datumaro", f"{DATUMARO}/coco runs", {"format": "coco", "crowds": "objects"}, how="plain run lengths"),
    Case("coco", "datumaro", f"{DATUMARO}/coco runs", truth=all_ignored, how="crowds"),
    Case("coco", "pycocotools", runs_of_pycocotools, how="compressed run lengths, crowds"),
    Case("coco", "datumaro", f"{DATUMARO}/panoptic", {
            "format": "coco", "classes": ["cat", "dog", "grass"],
            "values": {"cat": "cat", "dog": "dog", "grass": "grass", "background": "ignore"}},
         truth=lambda source: {name: np.where(labels == 0, 255, labels) for name, labels in source.items()},
         how="panoptic"),
    Case("yolo", "label-studio-sdk", f"{SDK}/yolo", how="polygons"),
    Case("labelme", "labelme", f"{LABELME}/polygons", how="polygons"),
    Case("labelme", "labelme", f"{LABELME}/masks", how="masks"),
    Case("label-studio", "label-studio-sdk", f"{SDK}/polygons", how="polygons"),
    Case("label-studio", "label-studio-sdk", f"{SDK}/brush", how="brush strokes"),
    Case("geotiff", "tifffile", geotiff_of_tifffile, {"format": "geotiff", **BY_PLACE}, how="five bands"),
    Case("tiff-stack", "SimpleITK", f"{ITK}/stack", names=NUMBERED, truth=turned_pages, how="16-bit labels, PackBits"),
    Case("tiff-stack", "OpenCV", pages_of_opencv, names=NUMBERED, truth=turned_pages, how="16-bit labels, LZW"),
    Case("nifti", "SimpleITK", f"{ITK}/nifti", names=NUMBERED, truth=turned_pages),
    Case("dicom", "SimpleITK", f"{ITK}/dicom", names=NUMBERED),
)  # fmt: skip


def made(case: Case, root: Path) -> Dataset:
    if isinstance(case.write, str):
        shutil.copytree(FIXTURES / case.write, root, dirs_exist_ok=True)
    else:
        case.write(root)
    if case.keys is not None:
        (root / "dataset.yaml").write_text(yaml.safe_dump(dict(case.keys), sort_keys=False))
    return open_dataset(root)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.form} by {case.tool}: {case.how}".rstrip(": ")
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")  # of GDAL, when it writes PNG and GIF
def test_the_same_masks(tmp_path: Path, case: Case) -> None:
    dataset, truth = made(case, tmp_path), case.truth(SOURCE)
    assert dataset.format == case.form
    assert sorted(item.id for item in dataset.items) == sorted(truth)
    number = np.full(256, 254, np.uint8)  # of a class that the source does not have
    number[255] = 255
    for place, name in enumerate(dataset.classes.names):
        number[place] = case.names.index(name)
    for item in dataset.items:
        np.testing.assert_array_equal(number[dataset.mask(item)], truth[item.id], item.id)
    assert find_broken(dataset) == []


def test_the_source_is_what_its_outlines_enclose() -> None:
    """By Matplotlib, which knows no pixels: the middles that lie inside."""
    for name, told in json.loads((FIXTURES / "source.json").read_text()).items():
        rows, columns = np.mgrid[: told["size"][0], : told["size"][1]] + 0.5
        drawn = np.zeros(told["size"], np.uint8)
        for label, corners in told["shapes"]:
            inside = Outline(corners).contains_points(np.stack([columns.ravel(), rows.ravel()], axis=1))
            drawn[inside.reshape(drawn.shape)] = 255 if label == "ignore" else NAMES.index(label)
        np.testing.assert_array_equal(drawn, SOURCE[name])


def beside_an_edge(labels: np.ndarray) -> np.ndarray:
    """Pixels that have one of another class, or the border of the picture, among their eight neighbours."""
    low, high = (
        find(labels, 3, mode="constant", cval=254)
        for find in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    edges: np.ndarray = low != high
    return edges


def test_outlines_between_pixels_as_labelme_draws_them(tmp_path: Path) -> None:
    """labelme paints every pixel that an outline passes; ours are those whose middle is inside, as in COCO."""
    shutil.copytree(FIXTURES / LABELME / "between", tmp_path, dirs_exist_ok=True)
    dataset, theirs = open_dataset(tmp_path), np.load(FIXTURES / LABELME / "between.npy")
    assert dataset.classes.names == NAMES
    ours = dataset.mask(dataset.items[0])
    different = ours != theirs
    assert different.mean() < 0.15
    assert not (different & ~beside_an_edge(theirs)).any()
    assert (ours > 0).sum() < (theirs > 0).sum()


@pytest.mark.parametrize(
    ("form", "more"),
    [("yolo", {"masks": "data.yaml", "splits": {"train": "images/train"}}), ("coco", {"crowds": "objects"})],
)
def test_outlines_through_the_middles_of_pixels(tmp_path: Path, form: str, more: dict[str, object]) -> None:
    """supervision writes the contours of OpenCV, which lose half a pixel on every side; its run lengths are exact."""
    shutil.copytree(FIXTURES / SUPERVISION / form, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dataset.yaml").write_text(
        yaml.safe_dump({"format": form, "validation": {"fraction": 0}, **more})
    )
    dataset = open_dataset(tmp_path)
    assert {item.id for item in dataset.items} == {"pic 1", "pic 2"}
    assert dataset.classes.names == NAMES
    for item in dataset.items:
        different = dataset.mask(item) != SOURCE[item.id]
        assert different.any()
        assert not (different & ~beside_an_edge(SOURCE[item.id])).any(), item.id
        if form == "coco":  # of these two classes every object has a hole or several parts
            for value in (1, 2):
                np.testing.assert_array_equal(dataset.mask(item) == value, SOURCE[item.id] == value)


def test_crowds_that_are_objects(tmp_path: Path) -> None:
    """datumaro, so CVAT, and supervision mark every object in run lengths as a crowd: it is said, and can be mended."""
    shutil.copytree(FIXTURES / DATUMARO / "coco runs", tmp_path, dirs_exist_ok=True)
    (said,) = (line for line in open_dataset(tmp_path).advice if "crowds" in line)
    assert said.startswith("14 of 14 objects are crowds (iscrowd: 1) and ignored; CVAT")
    for crowds in ("ignore", "objects"):
        (tmp_path / "dataset.yaml").write_text(f"format: coco\ncrowds: {crowds}\n")
        dataset = open_dataset(tmp_path)
        assert not any("crowds" in line for line in dataset.advice)
        (tmp_path / f"{crowds}.yaml").write_text(dataset.to_yaml())
        assert open_dataset(tmp_path / f"{crowds}.yaml").fingerprint() == dataset.fingerprint()
    (tmp_path / "dataset.yaml").write_text("format: folder\ncrowds: ignore\n")
    with pytest.raises(ConfigError, match="crowds for the format folder"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("shape", [(12, 14, 3), (12, 14)])
def test_pages_in_lzw(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """tifffile alone does not unpack them; GDAL does."""
    shown = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    for kind, pages in (("images", [*shown]), ("masks", [np.eye(12, 14, dtype=np.uint8)] * 4)):
        (tmp_path / kind).mkdir()
        assert cv2.imwritemulti(str(tmp_path / kind / "a.tif"), pages)
    (tmp_path / "dataset.yaml").write_text("format: tiff-stack\nvalidation: {fraction: 0}\n")
    dataset = open_dataset(tmp_path)
    for item, page in zip(dataset.items, shown, strict=True):
        read = dataset.image(item, 3 if len(shape) == 3 else 1)
        np.testing.assert_array_equal(read, page[..., ::-1] if len(shape) == 3 else page[..., None])


def test_grey_levels_of_dicom_are_those_that_simpleitk_reads(tmp_path: Path) -> None:
    """In Hounsfield units; the window has 510 of them, so that two are one grey level, exactly."""
    shutil.copytree(FIXTURES / ITK / "dicom", tmp_path / "dicom")
    (tmp_path / "dicom/dataset.yaml").write_text(
        "format: dicom\nclasses: [a, b, c, d]\nwindow: [-1000, -490]\nvalidation: {fraction: 0}\n"
    )
    dataset = open_dataset(tmp_path / "dicom")
    units = np.load(FIXTURES / ITK / "dicom.npz")
    assert {item.id for item in dataset.items} == set(units.files)
    for item in dataset.items:
        expected = np.clip((units[item.id] + 1000) / 2, 0, 255)
        np.testing.assert_array_equal(dataset.image(item, 1)[..., 0], expected)
