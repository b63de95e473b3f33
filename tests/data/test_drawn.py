"""Layouts whose masks are drawn, each from one truth: outlined by rasterio, packed by pycocotools, or by hand."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio.features
import yaml
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO
from scipy import ndimage

from maskwright.data import brush, drawing
from maskwright.data.dataset import Dataset, find_broken, open_dataset
from maskwright.errors import ConfigError, DataError

SIZE = (19, 26)
LABELS = ("cat", "dog")
RNG = np.random.default_rng(0)


def blobs() -> np.ndarray:
    """Class ids 0, 1, 2 in patches, with holes and islands."""
    smooth = ndimage.gaussian_filter(RNG.normal(size=(3, *SIZE)), (0, 1.5, 1.5))
    labels: np.ndarray = smooth.argmax(axis=0).astype(np.uint8)
    labels[6:13, 8:17] = 1
    labels[8:11, 10:15] = 0  # a hole
    labels[9, 12] = 2  # an island in it
    return labels


TRUTH = {f"pic {number}": blobs() for number in range(6)}


def pictures(folder: Path, names: Sequence[str] = tuple(TRUTH)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")


def outlines(labels: np.ndarray) -> list[tuple[int, list[tuple[float, float]]]]:
    """(class, outer ring along the pixels' edges) of each region, larger ones first: painted so, they are `labels`."""
    found = [
        (int(value), [tuple(corner) for corner in shape["coordinates"][0][:-1]])
        for shape, value in rasterio.features.shapes(labels, connectivity=4)
    ]
    return sorted(found, key=lambda one: -abs(_area(one[1])))


def _area(ring: Sequence[tuple[float, ...]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def check(dataset: Dataset, form: str, truth: Mapping[str, np.ndarray] = TRUTH) -> None:
    assert dataset.format == form
    assert sorted(item.id for item in dataset.items) == sorted(truth)
    for item in dataset.items:
        np.testing.assert_array_equal(dataset.mask(item), truth[item.id], item.id)
        inside = truth[item.id][truth[item.id] < 255]
        counted = np.bincount(inside, minlength=len(dataset.classes))
        np.testing.assert_array_equal(dataset.pixels[item.id], counted)
    assert find_broken(dataset) == []


def mask_of(data: Path, name: str) -> np.ndarray:
    dataset = open_dataset(data)
    return dataset.mask(next(item for item in dataset.items if item.id == name))


def resolved(dataset: Dataset, folder: Path) -> Dataset:
    """The data set again, from what it writes about itself."""
    (folder / "again.yaml").write_text(dataset.to_yaml())
    again = open_dataset(folder / "again.yaml")
    assert (again.items, again.classes, again.advice) == (dataset.items, dataset.classes, dataset.advice)
    assert again.fingerprint() == dataset.fingerprint()
    return again


# COCO

Annotation = dict[str, object]


def as_polygons(labels: np.ndarray) -> list[Annotation]:
    """Every region as its outer ring, in any order: the smaller is on top. What is background again is a category."""
    rings = [(value, [number for corner in ring for number in corner]) for value, ring in outlines(labels)]
    order = RNG.permutation(len(rings))
    return [
        {"category_id": (90, 7, 3)[rings[i][0]], "iscrowd": 0, "segmentation": [rings[i][1]]} for i in order
    ]


def as_runs(labels: np.ndarray) -> list[Annotation]:
    found: list[Annotation] = []
    for value in (1, 2):
        encoded = coco.encode(np.asfortranarray((labels == value).astype(np.uint8)))
        runs = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        found.append({"category_id": (90, 7, 3)[value], "iscrowd": 0, "segmentation": runs})
    return found


def as_plain_runs(labels: np.ndarray) -> list[Annotation]:
    found: list[Annotation] = []
    for value in (1, 2):
        flat = np.concatenate([[0], (labels == value).T.ravel(), [2]])
        edges = np.flatnonzero(np.diff(flat))
        counts = np.diff(np.concatenate([[0], edges])).tolist()
        segmentation = {"size": list(SIZE), "counts": counts}
        found.append({"category_id": (90, 7, 3)[value], "iscrowd": 0, "segmentation": segmentation})
    return found


def write_coco(
    file: Path,
    make: Callable[[np.ndarray], list[Annotation]],
    names: Sequence[str] = tuple(TRUTH),
    categories: Mapping[int, str] | None = None,
    below: str = "",
) -> Path:
    annotations: list[Annotation] = []
    for key, name in enumerate(names, 11):
        annotations += [{"image_id": key, **one} for one in make(TRUTH[name])]
    for key, one in enumerate(annotations):
        one.setdefault("id", key)
    images = [
        {"id": key, "file_name": f"{below}{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for key, name in enumerate(names, 11)
    ]
    known = categories or {90: "background", 7: "cat", 3: "dog"}
    whole = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": identity, "name": name} for identity, name in known.items()],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole))
    return file


SWAPPED = {name: np.array([0, 2, 1], np.uint8)[labels] for name, labels in TRUTH.items()}
"""The category ids make dog (3) the first class and cat (7) the second."""


@pytest.mark.parametrize("make", [as_polygons, as_runs, as_plain_runs])
def test_coco(tmp_path: Path, make: Callable[[np.ndarray], list[Annotation]]) -> None:
    pictures(tmp_path / "images")
    write_coco(tmp_path / "annotations/instances_default.json", make)
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "dog", "cat")
    check(dataset, "coco", SWAPPED)
    check(resolved(dataset, tmp_path), "coco", SWAPPED)
    check(open_dataset(tmp_path / "annotations/instances_default.json"), "coco", SWAPPED)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of pycocotools with numpy 2
def test_coco_drawn_as_its_own_tool_draws_it(tmp_path: Path) -> None:
    """Outlines anywhere between the pixels: annToMask of pycocotools, painted larger ones first."""
    pictures(tmp_path)

    def some(_: np.ndarray) -> list[Annotation]:
        return [
            {
                "category_id": int(RNG.choice([3, 7])),
                "iscrowd": 0,
                "segmentation": [
                    RNG.uniform(-3, 28, 2 * int(RNG.integers(3, 9))).round(2).tolist() for _ in range(2)
                ],
            }
            for _ in range(5)
        ]

    file = write_coco(tmp_path / "labels.json", some)
    tool, dataset = COCO(str(file)), open_dataset(tmp_path)
    for key, name in enumerate(TRUTH, 11):
        drawn = [(tool.annToMask(one), one["category_id"]) for one in tool.loadAnns(tool.getAnnIds([key]))]
        expected = np.zeros(SIZE, np.uint8)
        for mask, category in sorted(drawn, key=lambda one: -int(one[0].sum())):
            expected[mask == 1] = {3: 1, 7: 2}[category]
        (item,) = (item for item in dataset.items if item.id == name)
        np.testing.assert_array_equal(dataset.mask(item), expected)


def test_crowds_are_ignored_and_lie_below(tmp_path: Path) -> None:
    pictures(tmp_path, ["pic 0"])

    def crowd(_: np.ndarray) -> list[Annotation]:
        square = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]
        inside = [4.0, 4.0, 6.0, 4.0, 6.0, 6.0, 4.0, 6.0]
        return [
            {"category_id": 7, "iscrowd": 0, "segmentation": [inside]},
            {"category_id": 3, "iscrowd": 0, "segmentation": [inside]},
            {"category_id": 3, "iscrowd": 1, "segmentation": [square]},
        ]

    file = write_coco(tmp_path / "a.json", crowd, ["pic 0"])
    (tmp_path / "dataset.yaml").write_text("format: coco\nmasks: a.json\nvalidation: {fraction: 0}\n")
    dataset = open_dataset(tmp_path)
    expected = np.zeros(SIZE, np.uint8)
    expected[2:8, 2:8] = 255
    expected[4:6, 4:6] = 1  # dog: of two equally large the later one
    np.testing.assert_array_equal(dataset.mask(dataset.items[0]), expected)
    before = dataset.fingerprint()
    file.write_text(file.read_text().replace('"iscrowd": 1', '"iscrowd": 0'))
    again = open_dataset(tmp_path)
    assert again.fingerprint() != before
    assert (again.mask(again.items[0]) == 255).sum() == 0


def test_coco_with_splits_and_classes_by_name(tmp_path: Path) -> None:
    """The folders of COCO 2017; names of categories in `values`."""
    names = list(TRUTH)
    for split, part in (("train", names[:4]), ("val", names[4:])):
        pictures(tmp_path / f"{split}2017", part)
        write_coco(tmp_path / f"annotations/instances_{split}2017.json", as_runs, part)
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": []}')
    dataset = open_dataset(tmp_path)
    assert [len(dataset.split(name)) for name in ("train", "validation")] == [4, 2]
    check(dataset, "coco", SWAPPED)
    keys = {"format": "coco", "classes": ["background", "pet"], "values": {"cat": "pet", "dog": "pet"}}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(keys))
    both = {name: np.minimum(labels, 1) for name, labels in TRUTH.items()}
    check(open_dataset(tmp_path), "coco", both)
    check(resolved(open_dataset(tmp_path), tmp_path), "coco", both)
    for changed, problem in (
        ({"values": {"cow": "pet"}}, "'cow', which is no label"),
        ({"values": None}, "labels that classes does not list: dog, cat"),
        ({"values": {"cat": "pet"}}, "holds value 1"),
    ):
        (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({**keys, **changed}))
        with pytest.raises((ConfigError, DataError), match=problem):
            open_dataset(tmp_path)


def test_coco_of_roboflow(tmp_path: Path) -> None:
    """The .json beside the pictures of each split; the same names in two splits."""
    for split in ("train", "valid"):
        pictures(tmp_path / split)
        write_coco(tmp_path / split / "_annotations.coco.json", as_runs)
    dataset = open_dataset(tmp_path)
    assert [len(dataset.split(name)) for name in ("train", "validation")] == [6, 6]
    assert {item.id for item in dataset.items} >= {"train/pic 0", "valid/pic 0"}


def test_panoptic(tmp_path: Path) -> None:
    pictures(tmp_path / "val2017")
    (tmp_path / "annotations/panoptic_val2017").mkdir(parents=True)
    numbers = {0: 0, 1: 70_000, 2: 300, 3: 5}
    annotations, expected = [], {}
    for key, (name, labels) in enumerate(TRUTH.items(), 11):
        shown = labels.copy()
        shown[0, :5] = 3  # a crowd
        segments = np.vectorize(numbers.get)(shown)
        colours = np.stack([segments % 256, segments // 256 % 256, segments // 65536], 2).astype(np.uint8)
        Image.fromarray(colours).save(tmp_path / f"annotations/panoptic_val2017/{name}.png")
        info = [
            {"id": 70_000, "category_id": 7, "iscrowd": 0},
            {"id": 300, "category_id": 3, "iscrowd": 0},
            {"id": 5, "category_id": 3, "iscrowd": 1},
        ]
        annotations.append({"image_id": key, "file_name": f"{name}.png", "segments_info": info})
        expected[name] = np.array([255, 1, 0, 255], np.uint8)[shown]
    file = write_coco(
        tmp_path / "annotations/panoptic_val2017.json", lambda _: [], categories={3: "dog", 7: "cat"}
    )
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | {"annotations": annotations}))
    (tmp_path / "dataset.yaml").write_text(
        "format: coco\nsplits: {train: annotations/panoptic_val2017.json}\nvalidation: {fraction: 0.2}\n"
    )
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("dog", "cat")
    check(dataset, "coco", expected)
    before = dataset.fingerprint()
    changed = tmp_path / "annotations/panoptic_val2017/pic 3.png"
    turned = np.array(Image.open(changed))[::-1]
    Image.fromarray(turned).save(changed)
    again = open_dataset(tmp_path)
    assert again.fingerprint() != before
    np.testing.assert_array_equal(again.mask(again.items[3]), expected["pic 3"][::-1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"annotations": 5}, "annotations of .* is int"),
        ({"categories": [{"id": "x", "name": "cat"}]}, "has a category 'x'"),
        (
            {
                "images": [{"id": 11, "file_name": "../../etc/passwd.png", "height": 5, "width": 5}],
                "annotations": [],
            },
            "holds the id",
        ),
        ({"images": [{"id": 11, "file_name": 5}]}, "file_name 5"),
        ({"annotations": [{"image_id": 99, "category_id": 3}]}, "annotations of the image 99"),
    ],
)
def test_coco_that_makes_no_sense(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    pictures(tmp_path)
    file = write_coco(tmp_path / "a.json", as_runs)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=problem) as caught:
        open_dataset(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("category", [[3], 99, None])
def test_a_category_that_is_not_listed_is_a_broken_mask(tmp_path: Path, category: object) -> None:
    pictures(tmp_path)
    bad = iter([category])
    write_coco(
        tmp_path / "a.json",
        lambda labels: [{**each, "category_id": next(bad, each["category_id"])} for each in as_runs(labels)],
    )
    dataset = open_dataset(tmp_path)
    ((_, said),) = find_broken(dataset)
    assert f"has the category {category}, which is not listed" in said


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([], "a box and no outline"),
        ([[1, 2, 3, 4]], "polygon of 2 points"),
        ([[1, 2, 3]], "no pairs"),
        ([[0, 0, float("nan"), 1, 2, 2]], "has a point at"),
        ([[0, 0, 1e9, 1, 2, 2]], "has a point at"),
        ([[0.0, 0.0, 9e6, 9e6] * 50], "outlines of"),
        ({"size": [40000, 40000], "counts": [1_600_000_000]}, "in a picture of 19 x 26"),
        ({"counts": [10**9]}, "do not fill"),
        (None, "is NoneType, not a list"),
        ("x", "is str, not a list"),
    ],
)
def test_a_shape_that_cannot_be_drawn_is_a_broken_mask(
    tmp_path: Path, segmentation: object, problem: str
) -> None:
    pictures(tmp_path)
    bad = {"category_id": 3, "iscrowd": 0, "segmentation": segmentation}
    first = iter([True])
    write_coco(tmp_path / "a.json", lambda labels: [*as_runs(labels), *([bad] if next(first, False) else [])])
    dataset = open_dataset(tmp_path)
    ((place, said),) = find_broken(dataset)
    assert "a.json" in str(place)
    with pytest.raises(DataError, match=problem):
        dataset.mask(next(item for item in dataset.items if item.id == "pic 0"))
    rest = open_dataset(tmp_path, skip_broken=True)
    check(rest, "coco", {name: labels for name, labels in SWAPPED.items() if name != "pic 0"})
    assert "\n" not in said


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"images": [', "\x00", "\ufeff{}", "1" * 5000])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    pictures(tmp_path)
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "dataset.yaml").write_text("format: coco\nmasks: a.json\n")
    with pytest.raises(DataError, match=r"a\.json"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"a\.json"):
        open_dataset(tmp_path / "a.json")


def test_files_of_masks_come_before_shapes_to_be_drawn(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    write_coco(tmp_path / "annotations/instances_default.json", as_runs)
    assert open_dataset(tmp_path).format == "coco"
    (tmp_path / "masks").mkdir()
    for name, labels in TRUTH.items():
        Image.fromarray(labels).save(tmp_path / f"masks/{name}.png")
    (tmp_path / "annotations").rename(tmp_path / "outlines")
    shutil.copy(tmp_path / "outlines/instances_default.json", tmp_path / "instances_train.json")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "folder"
    np.testing.assert_array_equal(dataset.mask(dataset.items[0]), TRUTH["pic 0"])


def test_without_pycocotools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path)
    write_coco(tmp_path / "a.json", as_polygons)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match=r"pycocotools.*pip install 'maskwright\[data\]'"):
        mask_of(tmp_path, "pic 0")


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    pictures(tmp_path, list(TRUTH)[:5])
    write_coco(tmp_path / "a.json", as_runs)
    with pytest.raises(DataError, match=r"1 of 6 pictures of .*pic 5\.jpg"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("format: coco\nmasks: a.json\nexclude: [pic 5]\n")
    assert len(open_dataset(tmp_path).items) == 5


def test_another_size_than_the_picture(tmp_path: Path) -> None:
    pictures(tmp_path)
    write_coco(tmp_path / "a.json", as_runs)
    Image.new("RGB", (5, 5)).save(tmp_path / "pic 2.jpg")
    with pytest.raises(DataError, match="19 x 26 and its image 5 x 5"):
        open_dataset(tmp_path)


# LabelMe


def write_labelme(folder: Path, name: str, labels: np.ndarray, **more: object) -> Path:
    shapes = [
        {"label": ("_background_", *LABELS)[value], "points": ring, "shape_type": "polygon", "group_id": None}
        for value, ring in outlines(labels)
    ]
    whole = {
        "version": "5.2.1",
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(whole | more))
    return folder / f"{name}.json"


def test_labelme(tmp_path: Path) -> None:
    pictures(tmp_path)
    for name, labels in TRUTH.items():
        write_labelme(tmp_path, name, labels)
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", *LABELS)
    check(dataset, "labelme")
    check(resolved(dataset, tmp_path), "labelme")
    with pytest.raises(DataError, match="give the folder"):
        open_dataset(tmp_path / "pic 1.json")


def test_labelme_apart_from_its_pictures_and_with_splits(tmp_path: Path) -> None:
    names = list(TRUTH)
    for split, part in (("train", names[:4]), ("val", names[4:])):
        pictures(tmp_path / "jpg", part)
        for name in part:
            write_labelme(tmp_path / split, name, TRUTH[name], imagePath=f"..\\jpg\\{name}.jpg")
    dataset = open_dataset(tmp_path)
    assert [len(dataset.split(name)) for name in ("train", "validation")] == [4, 2]
    check(dataset, "labelme")


def test_the_other_shapes_of_labelme(tmp_path: Path) -> None:
    pictures(tmp_path, ["pic 0", "pic 1"])
    stroke = np.zeros((4, 5), bool)
    stroke[1:3, 1:4] = True
    packed = io.BytesIO()
    Image.fromarray(stroke).save(packed, format="PNG")
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[20, 15], [2, 3]]},
        {"label": "dog", "shape_type": "circle", "points": [[8, 8], [11, 8]]},
        {
            "label": "cat",
            "shape_type": "mask",
            "points": [[23, 16], [27, 19]],
            "mask": base64.b64encode(packed.getvalue()).decode(),
        },
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[0, 0], [1, 1]]},
    ]
    for name in ("pic 0", "pic 1"):
        write_labelme(tmp_path, name, TRUTH[name], shapes=shapes)
    dataset = open_dataset(tmp_path)
    expected = np.zeros(SIZE, np.uint8)
    expected[3:15, 2:20] = 1
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected[(rows - 8) ** 2 + (columns - 8) ** 2 <= 9] = 2
    expected[17:19, 24:26] = 1  # cut at the border
    expected[0, 0] = 255
    check(dataset, "labelme", {"pic 0": expected, "pic 1": expected})


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"imagePath": "../../etc/passwd"}, "1 of 2 pictures"),
        ({"imageHeight": 10**9}, "claims 1000000000 x 26"),
        ({"imageHeight": None}, "claims None"),
        ({"imageHeight": float("nan")}, "claims nan"),
        ({"shapes": [{"label": "cat", "shape_type": "line", "points": [[0, 0], [1, 1]]}]}, "covers no area"),
        (
            {"shapes": [{"label": "cat", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "x"}]},
            "no PNG",
        ),
        ({"shapes": [{"label": "cat", "points": [[0, 0], [1, float("inf")], [2, 2]]}]}, "has a point at"),
    ],
)
def test_labelme_that_makes_no_sense(tmp_path: Path, more: dict[str, object], problem: str) -> None:
    (tmp_path / "data").mkdir()
    pictures(tmp_path / "data", ["pic 0"])
    write_labelme(tmp_path / "data", "pic 0", TRUTH["pic 0"])
    write_labelme(tmp_path / "data", "pic 1", TRUTH["pic 1"], **more)
    if "imagePath" not in more:
        pictures(tmp_path / "data", ["pic 1"])
    with pytest.raises(DataError, match=problem):
        mask_of(tmp_path / "data", "pic 1")


# YOLO


def write_yolo(root: Path, split: str, names: Sequence[str]) -> None:
    pictures(root / "images" / split, names)
    (root / "labels" / split).mkdir(parents=True)
    for name in names:
        lines = [
            " ".join([str((2, 0, 1)[value]), *(f"{x / 26!r} {y / 19!r}" for x, y in ring)])
            for value, ring in outlines(TRUTH[name])
        ]
        (root / "labels" / split / f"{name}.txt").write_text("\n".join(reversed(lines)) + "\n")


@pytest.mark.parametrize("names", [["cat", "dog", "background"], {0: "cat", 1: "dog", 2: "background"}])
def test_yolo(tmp_path: Path, names: object) -> None:
    every = list(TRUTH)
    write_yolo(tmp_path, "train", every[:4])
    write_yolo(tmp_path, "val", every[4:])
    keys = {
        "path": "/home/somebody/data",
        "train": "images/train",
        "val": "images/val",
        "nc": 3,
        "names": names,
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(keys))
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", *LABELS)
    assert [len(dataset.split(name)) for name in ("train", "validation")] == [4, 2]
    check(dataset, "yolo")
    check(resolved(dataset, tmp_path), "yolo")
    check(open_dataset(tmp_path / "data.yaml"), "yolo")


def test_yolo_of_roboflow_and_a_picture_without_labels(tmp_path: Path) -> None:
    """train/images beside train/labels, named as ../train/images."""
    write_yolo(tmp_path / "a", "x", list(TRUTH))
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        for kind in ("images", "labels"):
            shutil.copytree(tmp_path / "a" / kind / "x", tmp_path / split / kind)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "valid/labels/pic 2.txt").unlink()
    keys = {
        "train": "../train/images",
        "val": "../valid/images",
        "nc": 3,
        "names": ["cat", "dog", "background"],
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(keys))
    dataset = open_dataset(tmp_path)
    assert [len(dataset.split(name)) for name in ("train", "validation")] == [6, 6]
    (item,) = (item for item in dataset.split("validation") if item.id.endswith("pic 2"))
    assert not dataset.mask(item).any()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5 0.2 0.2", "is a box"),
        ("7 0 0 1 0 1 1", "names the class '7'"),
        ("-1 0 0 1 0 1 1", "names the class '-1'"),
        ("0 0 0 nan 0 1 1", "has a point at"),
        ("0 0 0 1 x 1 1", "more than numbers"),
        ("0 0 0 1 0 1", "no pairs"),
    ],
)
def test_yolo_that_makes_no_sense(tmp_path: Path, line: str, problem: str) -> None:
    write_yolo(tmp_path, "train", list(TRUTH))
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog, background]\n")
    (tmp_path / "labels/train/pic 1.txt").write_text(line)
    dataset = open_dataset(tmp_path)
    with pytest.raises(DataError, match=problem):
        dataset.mask(dataset.items[1])


# Label Studio


def as_percent(ring: Sequence[tuple[float, ...]]) -> list[list[float]]:
    return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in ring]


def region(kind: str, label: str, value: Mapping[str, object], **more: object) -> dict[str, object]:
    drawn = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0, "id": "r"}
    return {**drawn, "type": f"{kind}labels", "value": {**value, f"{kind}labels": [label]}, **more}


def task(key: int, address: str, regions: Sequence[Mapping[str, object]] | None) -> dict[str, object]:
    annotations = [] if regions is None else [{"result": [], "was_cancelled": True}, {"result": regions}]
    return {"id": key, "data": {"image": address}, "annotations": annotations}


def packed(mask: np.ndarray, runs: bool) -> list[int]:
    """A brush stroke by the documentation of @thi.ng/rle-pack."""
    words = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{len(words):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    if runs:
        place = 0
        while place < len(words):
            length = 1
            while place + length < len(words) and words[place + length] == words[place] and length < 65536:
                length += 1
            group, width = next((g, w) for g, w in enumerate((3, 4, 8, 16)) if length <= 1 << w)
            bits += f"1{group:02b}{length - 1:0{width}b}{words[place]:08b}"
            place += length
    else:
        for start in range(0, len(words), 200):
            part = words[start : start + 200]
            bits += f"0{2:02b}{len(part) - 1:08b}" + "".join(f"{word:08b}" for word in part)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def test_the_example_of_a_brush_stroke() -> None:
    """The first bytes that Label Studio writes for words of 8 bits and groups of 3, 4, 8, 16."""
    assert packed(np.zeros(307_200, bool), True)[:6] == [0, 18, 192, 0, 57, 27]


@pytest.mark.parametrize("kind", ["polygon", "brush", "brush without runs"])
def test_label_studio(tmp_path: Path, kind: str) -> None:
    pictures(tmp_path / "upload")
    tasks = []
    addresses = ("/data/upload/1/0a1b2c3d-{}.jpg", "/data/local-files/?d=my/{}.jpg", "s3://bucket/x/{}.jpg")
    for key, (name, labels) in enumerate(TRUTH.items()):
        if kind == "polygon":
            regions = [
                region("polygon", ("background", *LABELS)[value], {"points": as_percent(ring)})
                for value, ring in outlines(labels)
            ]
        else:
            regions = [
                region(
                    "brush",
                    LABELS[value - 1],
                    {"format": "rle", "rle": packed(labels == value, kind == "brush")},
                )
                for value in (1, 2)
            ]
        tasks.append(task(key, addresses[key % 3].format(name.replace(" ", "%20")), regions))
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    dataset = open_dataset(tmp_path)
    ids = {item.id: item.id.removeprefix("0a1b2c3d-") for item in dataset.items}
    assert dataset.classes.names == ("background", *LABELS)
    check(dataset, "label-studio", {long: TRUTH[short] for long, short in ids.items()})
    resolved(dataset, tmp_path)
    assert len(open_dataset(tmp_path / "export.json").items) == 6


def test_the_other_shapes_of_label_studio(tmp_path: Path) -> None:
    pictures(tmp_path, ["pic 0", "pic 1", "pic 2"])
    sides = {"x": 100 * 4 / 26, "y": 100 * 3 / 19, "width": 100 * 10 / 26, "height": 100 * 6 / 19}
    quarter = {**sides, "x": 100 * 20 / 26, "y": 100 * 10 / 19, "rotation": 90}
    round_ = {"x": 50, "y": 50, "radiusX": 100 * 3 / 26, "radiusY": 100 * 3 / 19}
    regions: list[Mapping[str, object]] = [
        region("rectangle", "cat", sides),
        region("rectangle", "dog", quarter),
        region("ellipse", "dog", round_),
        {"type": "choices", "value": {"choices": ["nice"]}},
    ]
    apart: list[Mapping[str, object]] = [
        {**region("rectangle", "cat", sides), "type": "rectangle", "value": sides},
        {"id": "r", "type": "labels", "value": {"labels": ["cat"]}},
    ]
    tasks = [task(0, "pic 0.jpg", regions), task(1, "pic 1.jpg", apart), task(2, "pic 2.jpg", None)]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    dataset = open_dataset(tmp_path)
    first = np.zeros(SIZE, np.uint8)
    first[3:9, 4:14] = 1
    second = first.copy()
    first[10:20, 14:20] = 2  # turned clockwise about its corner (20, 10)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    first[(rows - 9.5) ** 2 + (columns - 13) ** 2 <= 9] = 2
    by_id = {item.id: item for item in dataset.items}
    np.testing.assert_array_equal(dataset.mask(by_id["pic 0"]), first)
    np.testing.assert_array_equal(dataset.mask(by_id["pic 1"]), second)
    assert by_id["pic 2"].split == "unlabelled"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (region("keypoint", "cat", {"x": 1, "y": 2}), "covers no area"),
        (region("polygon", "cat", {"points": [[0, 0], [1, 1]]}), "has 2 points"),
        (region("rectangle", "cat", {"x": 0, "y": None, "width": 1, "height": 1}), "has a point at|no pairs"),
        (region("polygon", "cat", {"points": [[0, 0], [1, 1], [1, 0]]}, image_rotation=90), "turned picture"),
        (region("brush", "cat", {"rle": packed(np.zeros((5, 5), bool), True)}), "for another picture"),
        (region("brush", "cat", {"rle": packed(np.zeros(SIZE, bool), True)[:-2]}), "cut short"),
        (region("brush", "cat", {"rle": [255] * 12}), "another picture: 4294967295 words"),
        (region("brush", "cat", {"rle": [300]}), "no list of bytes"),
        ({"type": "rectanglelabels", "value": {"x": 0, "y": 0, "width": 9, "height": 9}}, "has no label"),
    ],
)
def test_label_studio_that_makes_no_sense(tmp_path: Path, bad: dict[str, object], problem: str) -> None:
    pictures(tmp_path, ["pic 0", "pic 1"])
    good = region("rectangle", "cat", {"x": 0, "y": 0, "width": 50, "height": 50})
    (tmp_path / "a.json").write_text(json.dumps([task(0, "pic 0.jpg", [good]), task(1, "pic 1.jpg", [bad])]))
    with pytest.raises(DataError, match=problem):
        mask_of(tmp_path, "pic 1")


def test_pictures_of_label_studio_that_cannot_be_told_apart(tmp_path: Path) -> None:
    pictures(tmp_path / "a", ["pic 0"])
    good = region("rectangle", "cat", {"x": 0, "y": 0, "width": 50, "height": 50})
    (tmp_path / "a.json").write_text(json.dumps([task(0, "pic 0.jpg", [good]), task(1, "pic 1.jpg", [good])]))
    with pytest.raises(DataError, match=r"1 of 2 pictures.*pic 1\.jpg"):
        open_dataset(tmp_path)
    pictures(tmp_path / "b", ["pic 0"])
    with pytest.raises(DataError, match=r"pic 0\.jpg is the name of two pictures"):
        open_dataset(tmp_path)


def test_alpha_alone_counts_in_a_brush_stroke() -> None:
    """Runs and literals of every length, so that pixels are cut anywhere; red, green and blue say something else."""
    words = np.repeat(RNG.integers(0, 2, 300), RNG.integers(1, 12, 300))[:800].astype(np.uint8)
    bits, place = f"{len(words):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}", 0
    while place < len(words):
        length = min(int(RNG.integers(1, 9)), len(words) - place)
        part = words[place : place + length]
        if (part == part[0]).all():
            bits += f"100{length - 1:03b}{part[0]:08b}"
        else:
            bits += f"000{length - 1:03b}" + "".join(f"{word:08b}" for word in part)
        place += length
    packed = [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]
    np.testing.assert_array_equal(brush.opaque(packed, len(words) // 4, "a region"), words[3::4] > 0)


@pytest.mark.parametrize("form", ["coco", "labelme", "yolo", "label-studio"])
def test_shapes_that_cover_the_picture_again_and_again(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "coco":
        pictures(tmp_path)
        write_coco(tmp_path / "a.json", as_runs)
    elif form == "labelme":
        pictures(tmp_path)
        for name, labels in TRUTH.items():
            write_labelme(tmp_path, name, labels)
    elif form == "yolo":
        write_yolo(tmp_path, "train", list(TRUTH))
        (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog, background]\n")
    else:
        pictures(tmp_path)
        whole = region("rectangle", "cat", {"x": 0, "y": 0, "width": 100, "height": 100})
        tasks = [task(key, f"{name}.jpg", [whole] * 3) for key, name in enumerate(TRUTH)]
        (tmp_path / "a.json").write_text(json.dumps(tasks))
    dataset = open_dataset(tmp_path)
    monkeypatch.setattr(drawing, "MOST_DRAWN", 2 * SIZE[0] * SIZE[1] // 3)
    with pytest.raises(DataError, match="has shapes of over"):
        dataset.mask(dataset.items[0])


def test_brush_strokes_of_strangers() -> None:
    for given in (None, "abc", [], [1.5], list(range(20))):
        with pytest.raises(DataError):
            brush.opaque(given, 250, "region 1")
