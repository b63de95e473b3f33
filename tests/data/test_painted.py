"""Masks painted by other tools: VOC palettes, CVAT's and CamVid's colours, arrays of labels and one-hot arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.colour_table import classes_of, read_table
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.image_io import read_mask
from maskwright.data.sources import voc
from maskwright.errors import DataError

NAMES = tuple(f"street_{row}" for row in range(6))
RNG = np.random.default_rng(0)
LABELS = {name: RNG.integers(0, 3, (7, 9)).astype(np.uint8) for name in NAMES}
"""Class ids, the truth that each layout has to give back."""
COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")


def check(dataset: Dataset, void: bool = False) -> None:
    assert sorted(item.id for item in dataset.items) == sorted(NAMES)
    for item in dataset.items:
        expected = LABELS[item.id].copy()
        if void:
            expected[0] = 255
        np.testing.assert_array_equal(dataset.mask(item), expected)


def lists(root: Path, **splits: tuple[str, ...]) -> None:
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for name, ids in splits.items():
        (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids) + "\n")


# VOC


def test_the_palette_of_the_challenge() -> None:
    """The colours that its development kit documents."""
    known = {
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        15: (192, 128, 128),
        20: (0, 64, 128),
    }
    painted = voc.palette(256)
    assert {index: painted[index] for index in known} == known
    assert painted[255] == voc.VOID
    assert len(set(painted)) == 256


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
@pytest.mark.parametrize("coloured", [False, True])
def test_voc(tmp_path: Path, below: str, coloured: bool) -> None:
    root = tmp_path / below
    pictures(root / "JPEGImages")
    (root / "JPEGImages/unlisted.jpg").write_bytes((root / "JPEGImages/street_0.jpg").read_bytes())
    (root / "SegmentationClass").mkdir()
    for name, labels in LABELS.items():
        painted = Image.fromarray(np.vstack([np.full((1, 9), 255, np.uint8), labels[1:]]))
        painted.putpalette(np.array(voc.palette(256), np.uint8).tobytes())
        (painted.convert("RGB") if coloured else painted).save(root / f"SegmentationClass/{name}.png")
    lists(root, train=NAMES[:4], val=NAMES[4:], trainval=NAMES, test=("secret",))
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.classes.names[15], len(dataset.classes)) == ("voc", "person", 21)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [4, 2, 0]
    check(dataset, void=True)


def test_voc_of_ones_own(tmp_path: Path) -> None:
    """As labelme exports it."""
    pictures(tmp_path / "JPEGImages")
    (tmp_path / "SegmentationClassPNG").mkdir()
    (tmp_path / "class_names.txt").write_text("_background_\ncat\ndog\n")
    for name, labels in LABELS.items():
        Image.fromarray(labels).save(tmp_path / f"SegmentationClassPNG/{name}.png")
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "cat", "dog")
    check(dataset)


# Colours


CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,0,0::\ncar:0,128,0::\n"


def test_cvat(tmp_path: Path) -> None:
    pictures(tmp_path / "JPEGImages")
    (tmp_path / "labelmap.txt").write_text(CVAT)
    for folder in ("SegmentationClass", "SegmentationObject"):
        (tmp_path / folder).mkdir()
        for name, labels in LABELS.items():
            Image.fromarray(COLOURS[labels]).save(tmp_path / folder / f"{name}.png")
    lists(tmp_path, default=NAMES)
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.classes.names) == ("cvat", ("background", "road", "car"))
    check(dataset)
    again = tmp_path / "again.yaml"
    again.write_text(dataset.to_yaml())
    check(open_dataset(again))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_dict.csv", "name,r,g,b\nroad,128,0,0\nbackground, 0, 0, 0\ncar,0,128,0\n"),
        ("label_colors.txt", "0 0 0\tbackground\n128 0 0\troad\n0 128 0\tcar\n"),
        ("labelmap.txt", CVAT),
    ],
)
def test_a_folder_with_a_table_of_colours(tmp_path: Path, name: str, text: str) -> None:
    pictures(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    (tmp_path / name).write_text(text)
    for stem, labels in LABELS.items():
        Image.fromarray(COLOURS[labels]).save(tmp_path / f"masks/{stem}.gif")  # a palette, in no known order
    elsewhere = tmp_path / "dataset.yaml"
    elsewhere.write_text(f'images: "images/{{id}}.jpg"\nmasks: "masks/{{id}}.gif"\nvalues_file: {name}\n')
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "road", "car")
    check(dataset)
    elsewhere.unlink()
    for stem, labels in LABELS.items():
        (tmp_path / f"masks/{stem}.gif").unlink()
        Image.fromarray(COLOURS[labels]).save(tmp_path / f"masks/{stem}.png")
    check(open_dataset(tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("road;1;2;3", "holds the line 'road;1;2;3'"),
        ("road:1,2,300::", "holds the line"),
        ("road:1,2,3::\ncar:1,2,3::", "gives #010203 two names"),
    ],
)
def test_what_a_table_may_not_say(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "labelmap.txt").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_table(tmp_path / "labelmap.txt")


def test_labels_that_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("road:1,1,1::\n_background_:0,0,0::\n__ignore__:9,9,9::\nlane:2,2,2::\n")
    names, values = classes_of(read_table(tmp_path / "a.txt"))
    assert names == ("background", "road", "lane")
    assert values["#090909"] == "ignore"


# Arrays


def hot(labels: np.ndarray, first: bool, dtype: type) -> np.ndarray:
    planes = np.stack([labels == k for k in range(3)], axis=0 if first else 2)
    return planes.astype(dtype)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.int64])
def test_one_hot(tmp_path: Path, first: bool, dtype: type) -> None:
    pictures(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for name, labels in LABELS.items():
        np.save(tmp_path / f"masks/{name}_mask.npy", hot(labels, first, dtype))
    dataset = open_dataset(tmp_path)
    check(dataset)
    assert dataset.source["masks"] == "masks/{id}_mask.npy"


def test_one_hot_without_a_plane_for_the_background(tmp_path: Path) -> None:
    planes = hot(LABELS["street_0"], False, np.uint8)[..., 1:]
    np.save(tmp_path / "a.npy", planes)
    expected = np.array([255, 0, 1], np.uint8)[LABELS["street_0"]]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_arrays_of_labels_and_pictures(tmp_path: Path, dtype: type) -> None:
    (tmp_path / "data").mkdir()
    shown = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    for name, labels in LABELS.items():
        np.save(tmp_path / f"data/{name}.npy", shown)
        np.save(tmp_path / f"data/{name}_gt.npy", labels.astype(dtype))
    (tmp_path / "dataset.yaml").write_text(
        'images: "data/{id}.npy"\nmasks: "data/{id}_gt.npy"\nclasses: [a, b, c]\n'
    )
    dataset = open_dataset(tmp_path)
    check(dataset)
    assert dataset.channels() == 3
    np.testing.assert_array_equal(dataset.image(dataset.items[0], 3), shown)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.full((2, 3), 0.5), "fractions"),
        (np.ones((2, 3, 4), np.uint8), "neither one-hot nor colours"),
        (np.array([{}, []], object), "pickles are never read"),
        (np.zeros((2, 3, 4, 5), np.uint8), "of shape"),
        (np.zeros(5, np.uint8), "of shape"),
    ],
)
def test_arrays_that_are_no_masks(tmp_path: Path, array: np.ndarray, problem: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=problem):
        read_mask(tmp_path / "a.npy")


def test_an_array_that_claims_too_much(tmp_path: Path) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 20)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(1 << 41)  # sparse: takes no room on the disk
    with pytest.raises(DataError, match="of shape"):
        read_mask(tmp_path / "a.npy")


def test_several_arrays_in_one_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=LABELS["street_0"])
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match="several arrays"):
        read_mask(tmp_path / "a.npy")


def test_endings_that_lie(tmp_path: Path) -> None:
    """A GIF called .png, a PNG called .jpg: the content decides."""
    Image.fromarray(LABELS["street_0"]).save(tmp_path / "a.gif")
    Image.fromarray(LABELS["street_0"]).save(tmp_path / "b.png")
    for before, after in (("a.gif", "a.png"), ("b.png", "b.jpg")):
        (tmp_path / before).rename(tmp_path / after)
        np.testing.assert_array_equal(read_mask(tmp_path / after), LABELS["street_0"])
