"""Another layout and back: the same pixels, masks, ids, splits, groups and classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from maskwright.cli.main import main
from maskwright.data.convert import FORMS, convert
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
NAMES = st.sampled_from(["background", "cat", "dog", "_sky_", "a: b", "größe", "0", "true", "car, red"])
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(
    [
        "../../x",
        "/etc/passwd",
        "C:\\x",
        "a/b",
        "A/b",
        "#1",
        " x ",
        "line\nbreak",
        "x.png",
        "con",
        "..",
        "a,b",
        "\xa0",
        "x\u3000",
    ]
)


@st.composite
def arrays(draw: st.DrawFn) -> dict[str, object]:
    """Splits of pictures of one size, any ids, classes and ignored pixels."""
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    height, width, channels = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([1, 3]))
    classes = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    ids = draw(st.lists(IDS, min_size=4, max_size=7, unique=True))
    values = [*range(len(classes)), 255]
    return {
        "images": random.integers(0, 256, (len(ids), height, width, channels), dtype=np.uint8),
        "masks": random.choice(np.array(values, np.uint8), (len(ids), height, width)),
        "ids": ids,
        "classes": classes,
        "test": draw(st.integers(0, 2)),
    }


def write(root: Path, given: dict[str, object]) -> Dataset:
    """train.npz and, where asked, test.npz."""
    images, masks, ids = np.asarray(given["images"]), np.asarray(given["masks"]), np.array(given["ids"])
    cut = len(ids) - int(str(given["test"]))
    splits = {}
    for name, rows in (("train", slice(0, cut)), ("test", slice(cut, None))):
        if len(ids[rows]):
            np.savez(root / f"{name}.npz", images=images[rows], masks=masks[rows], ids=ids[rows])
            splits[name] = f"{name}.npz"
    classes = given["classes"]
    assert isinstance(classes, list)
    known = {str(number): name for number, name in enumerate(classes)} | {"255": "ignore"}
    keys = {"format": "npz", "classes": given["classes"], "values": known, "splits": splits}
    (root / "dataset.yaml").write_text(json.dumps(keys))
    return open_dataset(root)


def same(first: Dataset, second: Dataset, *, ids: bool = True) -> None:
    """In the order of their splits."""
    assert first.classes.names == second.classes.names
    for split in ("train", "validation", "test", "unlabelled"):
        one, other = first.split(split), second.split(split)
        assert len(one) == len(other), split
        for left, right in zip(one, other, strict=True):
            assert not ids or left.id == right.id
            np.testing.assert_array_equal(first.image(left, 3), second.image(right, 3))
            if left.mask is not None:
                np.testing.assert_array_equal(first.mask(left), second.mask(right))
                np.testing.assert_array_equal(first.pixels[left.id], second.pixels[right.id])
    assert first.channels() == second.channels()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=arrays())
def test_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, form: str, given: dict[str, object]
) -> None:
    root = tmp_path_factory.mktemp("data")
    before = write(root, given)
    done = convert(before, form, root / "there")
    assert done.lost == () or "ids were changed" in done.lost[0]
    there = open_dataset(root / "there")
    same(before, there, ids=not done.lost)
    assert there.advice == before.advice
    back = convert(there, "npz", root / "back")
    same(there, open_dataset(root / "back"), ids=True)
    assert not [line for line in back.lost if "ids" in line]
    written = [path for path in root.rglob("*") if path.is_file()]
    assert all(path.resolve().is_relative_to(root) for path in written)


@pytest.mark.parametrize("form", FORMS)
def test_files_are_copied_and_groups_kept(tmp_path: Path, form: str) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for row in range(8):
        picture = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"data/images/p{row // 2}_{row}.JPG", format="JPEG")
        Image.fromarray(RNG.integers(0, 2, (9, 12)).astype(np.uint8)).save(
            tmp_path / f"data/masks/p{row // 2}_{row}.png"
        )
    (tmp_path / "data/dataset.yaml").write_text('classes: [a, b]\ngroups: "{id:before _}"\nexclude: [p1_3]\n')
    before = open_dataset(tmp_path / "data")
    done = convert(before, form, tmp_path / "there")
    there = open_dataset(tmp_path / "there")
    same(before, there)
    assert {item.id: item.group for item in there.items} == {item.id: item.group for item in before.items}
    assert there.grouped
    assert len(done.lost) == (form == "npz")
    folder = {"folder": "images", "coco": "images", "voc": "JPEGImages"}.get(form)
    if folder is not None:
        copied = (tmp_path / "there" / folder / "p0_0.jpg").read_bytes()
        assert copied == (tmp_path / "data/images/p0_0.JPG").read_bytes()


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of pycocotools with numpy 2
def test_another_tool_reads_the_coco_file(tmp_path: Path) -> None:
    given = {
        "images": RNG.integers(0, 256, (5, 9, 7, 3), dtype=np.uint8),
        "masks": RNG.choice(np.array([0, 1, 2, 255], np.uint8), (5, 9, 7)),
        "ids": [f"x{row}" for row in range(5)],
        "classes": ["background", "cat", "dog"],
        "test": 0,
    }
    before = write(tmp_path, given)
    convert(before, "coco", tmp_path / "there")
    whole = json.loads((tmp_path / "there/annotations/train.json").read_text())
    assert whole["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    for image, item in zip(whole["images"], before.split("train"), strict=True):
        drawn = np.zeros((9, 7), np.uint8)
        for one in whole["annotations"]:
            if one["image_id"] == image["id"]:
                inside = coco.decode(
                    {**one["segmentation"], "counts": one["segmentation"]["counts"].encode()}
                )
                drawn[inside == 1] = 255 if one["iscrowd"] else one["category_id"]
                assert one["area"] == inside.sum()
                assert one["bbox"] == coco.toBbox(one["segmentation"]).tolist()
        np.testing.assert_array_equal(drawn, before.mask(item))


def test_what_cannot_be_kept_is_told(tmp_path: Path, slopes: Path) -> None:
    done = convert(open_dataset(slopes), "voc", tmp_path / "voc")
    assert done.lost == ("the dense targets depth: voc has no place for them",)
    kept = convert(open_dataset(slopes), "folder", tmp_path / "folder")
    assert kept.lost == ()
    there = open_dataset(tmp_path / "folder")
    assert there.targets == ("depth",)
    np.testing.assert_array_equal(
        there.dense(there.items[0], "depth"), open_dataset(slopes).dense(there.items[0], "depth")
    )


def test_unlabelled_pictures(tmp_path: Path) -> None:
    images, masks = RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8), np.ones((6, 4, 5), np.uint8)
    masks[:, 0] = 0
    np.savez(tmp_path / "train.npz", images=images, masks=masks)
    np.savez(tmp_path / "unlabelled.npz", images=images[:2])
    (tmp_path / "dataset.yaml").write_text(
        "format: npz\nsplits: {train: train.npz, unlabelled: unlabelled.npz}\n"
    )
    before = open_dataset(tmp_path)
    for form in FORMS:
        done = convert(before, form, tmp_path / form)
        there = open_dataset(tmp_path / form)
        assert len(there.split("unlabelled")) == (0 if form == "coco" else 2)
        assert [line for line in done.lost if "unlabelled" in line] == (
            ["2 unlabelled pictures: in COCO they would be all background"] if form == "coco" else []
        )


def test_what_is_refused(tmp_path: Path, discs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = open_dataset(discs)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    with pytest.raises(DataError, match="is not empty"):
        convert(dataset, "folder", tmp_path / "full")
    with pytest.raises(ConfigError, match="--to yolo is no layout that can be written"):
        convert(dataset, "yolo", tmp_path / "new")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert main(["data", "convert", str(discs), "--to", "npz", "--out", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["data", "convert", str(discs), "--to", "npz", "--out", str(tmp_path / "new"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 60


def test_sizes_that_differ_do_not_fit_an_array(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for row in range(3):
        for kind in ("images", "masks"):
            Image.fromarray(np.ones((4, 4 + row), np.uint8)).save(tmp_path / kind / f"{row}.png")
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]\n")
    with pytest.raises(DataError, match=r"3 sizes \(4 x 4, 4 x 5, \.\.\.\)"):
        convert(open_dataset(tmp_path), "npz", tmp_path / "out")
