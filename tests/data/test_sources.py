"""Layouts on disk: what is recognised, what is paired, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.sources import npz
from maskwright.data.sources.common import check_id
from maskwright.errors import ConfigError, DataError

NAMES = [f"cat_{row}" for row in range(10)]
RNG = np.random.default_rng(0)


def _picture(path: Path, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def _mask(path: Path, values: tuple[int, ...] = (0, 1), size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = RNG.choice(np.array(values, np.uint8), size)
    mask.flat[: len(values)] = values
    Image.fromarray(mask).save(path)


def _pairs(root: Path, images: str, masks: str, names: list[str] = NAMES) -> None:
    for name in names:
        _picture(root / images.format(id=name))
        _mask(root / masks.format(id=name))


def _counts(dataset: Dataset) -> dict[str, int]:
    counts = {name: len(dataset.split(name)) for name in ("train", "validation", "test", "unlabelled")}
    return {name: count for name, count in counts.items() if count}


def _write(root: Path, **keys: object) -> Path:
    (root / "dataset.yaml").write_text(yaml.safe_dump(keys))
    return root / "dataset.yaml"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{id}.jpg", "masks/{id}.png"),
        ("imgs/{id}.JPG", "labels/{id}.png"),
        ("img/{id}.png", "gt/{id}_gt.png"),
        ("images/{id}.png", "annotations/{id}_mask.png"),
        ("images/deep/{id}.png", "masks/deep/{id}.png"),
        ("{id}.jpg", "{id}_mask.png"),
        ("{id}.png", "{id}_label.gif"),
    ],
)
def test_bare_folders_without_splits(tmp_path: Path, images: str, masks: str) -> None:
    _pairs(tmp_path, images, masks)
    (tmp_path / "notes.md").write_text("hello")
    (tmp_path / ".hidden.png").write_text("nothing")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "folder"
    assert _counts(dataset) == {"train": 9, "validation": 1}
    assert sorted(item.id.removeprefix("deep/") for item in dataset.items) == NAMES
    for item in dataset.items:
        assert item.image == tmp_path / images.format(id=item.id.removeprefix("deep/"))
        assert item.mask == tmp_path / masks.format(id=item.id.removeprefix("deep/"))


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{split}/{id}.jpg", "masks/{split}/{id}.png"),
        ("{split}/images/{id}.jpg", "{split}/masks/{id}.png"),
        ("{split}/{id}.jpg", "{split}_masks/{id}.png"),
        ("{split}/{id}.jpg", "{split}annot/{id}.png"),
        ("{split}/{id}.jpg", "{split}/{id}_mask.png"),
    ],
)
def test_splits_as_folders(tmp_path: Path, images: str, masks: str) -> None:
    for split, names in {"train": NAMES[:6], "valid": NAMES[6:8], "test": NAMES[8:]}.items():
        _pairs(tmp_path, images.replace("{split}", split), masks.replace("{split}", split), names)
    dataset = open_dataset(tmp_path)
    assert _counts(dataset) == {"train": 6, "validation": 2, "test": 2}
    assert [item.id for item in dataset.split("validation")] == NAMES[6:8]


def test_the_same_names_in_two_splits_are_two_items(tmp_path: Path) -> None:
    for split in ("train", "val"):
        _pairs(tmp_path, f"images/{split}/{{id}}.png", f"masks/{split}/{{id}}.png", ["a", "b"])
    ids = [item.id for item in open_dataset(tmp_path).items]
    assert ids == ["train/a", "train/b", "val/a", "val/b"]


def test_a_test_folder_without_masks_is_unlabelled(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/train/{id}.png", "masks/train/{id}.png")
    _picture(tmp_path / "images/test/x.png")
    dataset = open_dataset(tmp_path)
    assert _counts(dataset) == {"train": 9, "validation": 1, "unlabelled": 1}
    with pytest.raises(DataError, match="x has no mask"):
        dataset.mask(dataset.split("unlabelled")[0])


def test_lists_beside_the_folders(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png")
    (tmp_path / "train.txt").write_text("# mine\ncat_0 1 1\nimages/cat_1.png masks/cat_1.png\n\ncat_2\n")
    (tmp_path / "val.txt").write_text("cat_5.png\n")
    dataset = open_dataset(tmp_path)
    assert [item.id for item in dataset.split("train")] == ["cat_0", "cat_1", "cat_2"]
    assert [item.id for item in dataset.split("val")] == ["cat_5"]


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    names = ["my cat 1", "größe", "a.b.c"]
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png", names)
    (tmp_path / "train.txt").write_text("\n".join(names), encoding="utf-8")
    _write(tmp_path, validation={"fraction": 0})
    assert [item.id for item in open_dataset(tmp_path).items] == names


@pytest.mark.parametrize("bad", ["../secret", "/etc/passwd", "a/../../b", "..\\b", "C:\\b"])
def test_ids_stay_below_the_root(tmp_path: Path, bad: str) -> None:
    _pairs(tmp_path / "data", "images/{id}.png", "masks/{id}.png")
    _picture(tmp_path / "secret.png")
    (tmp_path / "data" / "train.txt").write_text(f"cat_1\n{bad}\n")
    with pytest.raises(DataError, match="holds the id"):
        open_dataset(tmp_path / "data")
    with pytest.raises(DataError, match="holds the id"):
        check_id(bad, "list")


def test_ids_without_an_image(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png")
    (tmp_path / "train.txt").write_text("cat_1\ncat_77\n")
    with pytest.raises(DataError, match=r"train\.txt lists 1 ids without an image \(cat_77\), is it cat_7\?"):
        open_dataset(tmp_path)


def test_an_id_in_two_lists(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png")
    (tmp_path / "train.txt").write_text("cat_1\ncat_2\n")
    (tmp_path / "test.txt").write_text("cat_2\n")
    with pytest.raises(DataError, match="cat_2 is in both"):
        open_dataset(tmp_path)


def test_an_image_without_a_mask(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png")
    (tmp_path / "masks" / "cat_3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 10 images have no mask \(.*cat_3\.png\)") as caught:
        open_dataset(tmp_path)
    assert "exclude" in caught.value.hint
    _write(tmp_path, exclude=["cat_3"])
    assert len(open_dataset(tmp_path).items) == 9


def test_two_files_of_one_id(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png")
    _picture(tmp_path / "images" / "cat_3.jpg")
    with pytest.raises(DataError, match="same id 'cat_3'"):
        open_dataset(tmp_path)


def test_unknown_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"images\|imgs.*masks\|labels.*found photos"):
        open_dataset(tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"images": "images/{id}.png"}, "only one of images and masks"),
        ({"images": "images/x.png", "masks": "masks/{id}.png"}, r"has no \{id\}"),
        ({"image": "images/{id}.png"}, "unknown key 'image'; did you mean images"),
        ({"validation": {"fracton": 0.1}}, "unknown key 'fracton'; did you mean fraction"),
        ({"validation": {"fraction": 1.5}}, "validation.fraction: 1.5"),
        ({"splits": {"trian": "a.txt"}}, "split 'trian'; did you mean train"),
        ({"format": "oxfordpet"}, "format 'oxfordpet'; did you mean oxford-pet"),
        ({"classes": "pet"}, "classes: 'pet'"),
        ({"classes": ["a", "b"], "values": {0: "a", 1: "c"}}, "maps 1 to 'c'"),
        ({"values": {0: "a"}}, "values without classes"),
        ({"validation": {"from": "test"}}, "drawn from 'test', which is empty"),
        ({"validation": {"folds": 3, "fold": 3}}, "fold 3 of 3"),
        ({"groups": "{name}"}, "is not understood"),
    ],
)
def test_what_dataset_yaml_may_not_say(tmp_path: Path, keys: Mapping[str, object], problem: str) -> None:
    _pairs(tmp_path, "images/{id}.png", "masks/{id}.png")
    _write(tmp_path, **keys)
    with pytest.raises(ConfigError, match=problem) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_templates_of_ones_own(tmp_path: Path) -> None:
    _pairs(tmp_path, "scans/{id}/photo.png", "scans/{id}/truth_{id}.png")
    _write(
        tmp_path,
        images="scans/{id}/photo.png",
        masks="scans/{id}/truth_{id}.png",
        classes=["background", "pet"],
        splits={"train": NAMES[:5], "val": NAMES[5:6], "test": NAMES[6:]},
    )
    dataset = open_dataset(tmp_path / "dataset.yaml")
    assert _counts(dataset) == {"train": 5, "validation": 1, "test": 4}
    assert dataset.classes.names == ("background", "pet")


def test_a_dataset_yaml_elsewhere(tmp_path: Path) -> None:
    _pairs(tmp_path / "data", "images/{id}.png", "masks/{id}.png")
    elsewhere = tmp_path / "configs"
    elsewhere.mkdir()
    here = _write(elsewhere, path="../data")
    assert open_dataset(here).root == tmp_path / "data"
    with pytest.raises(DataError, match="is no folder"):
        open_dataset(_write(elsewhere, path="../nowhere"))


def test_pets(pets: Path) -> None:
    dataset = open_dataset(pets)
    assert (dataset.format, dataset.grouped, dataset.advice) == ("oxford-pet", False, ())
    assert _counts(dataset) == {"train": 540, "validation": 60, "test": 285}
    listed = [line.split()[0] for line in (pets / "annotations" / "test.txt").read_text().splitlines()]
    assert [item.id for item in dataset.split("test")] == listed
    assert dataset.channels() == 3
    for item in dataset.items[::100]:
        raw = np.array(Image.open(pets / "annotations" / "trimaps" / f"{item.id}.png"))
        np.testing.assert_array_equal(dataset.mask(item), raw != 2)
        np.testing.assert_array_equal(dataset.pixels[item.id], [(raw == 2).sum(), (raw != 2).sum()])
        assert dataset.image(item, 3).shape == (*raw.shape, 3)


def test_other_readings_of_pets(pets: Path, tmp_path: Path) -> None:
    ignored = {1: "pet", 2: "background", 3: "ignore"}
    border = {3: "pet", 1: "background", 2: "background"}
    for values, foreground, void in ((ignored, 1, 3), (border, 3, None)):
        dataset = open_dataset(_write(tmp_path, path=str(pets), format="oxford-pet", values=values))
        item = dataset.items[3]
        raw = np.array(Image.open(pets / "annotations" / "trimaps" / f"{item.id}.png"))
        expected = np.where(raw == foreground, 1, np.where(raw == void, 255, 0))
        np.testing.assert_array_equal(dataset.mask(item), expected)


def test_camvid(camvid: Path) -> None:
    dataset = open_dataset(camvid)
    assert (dataset.format, dataset.grouped, len(dataset.classes)) == ("camvid", True, 11)
    assert _counts(dataset) == {"train": 367, "validation": 101, "test": 233}
    assert {item.group for item in dataset.split("test")} == {"0001TP", "Seq05VD"}
    assert any("0016E5 lies in train and validation" in line for line in dataset.advice)
    item = dataset.split("test")[0]
    raw = np.array(Image.open(camvid / "testannot" / f"{item.id}.png"))
    np.testing.assert_array_equal(dataset.mask(item), np.where(raw == 11, 255, raw))


# npz


def _arrays(count: int, size: tuple[int, int] = (6, 8)) -> tuple[np.ndarray, np.ndarray]:
    images = RNG.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    masks = RNG.integers(0, 3, (count, *size)).astype(np.uint8)
    return images, masks


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_single_npz(tmp_path: Path, cache: Path, save: object) -> None:
    images, masks = _arrays(10)
    assert callable(save)
    save(tmp_path / "cells.npz", images=images, masks=masks)
    dataset = open_dataset(tmp_path / "cells.npz")
    assert (dataset.name, dataset.format, len(dataset.classes)) == ("cells", "npz", 3)
    assert _counts(dataset) == {"train": 9, "validation": 1}
    for row, item in enumerate(dataset.items):
        np.testing.assert_array_equal(dataset.image(item, 3), images[row])
        np.testing.assert_array_equal(dataset.mask(item), masks[row])
        assert dataset.size(item) == (6, 8)
        assert dataset.pixels[item.id].tolist() == np.bincount(masks[row].ravel(), minlength=3).tolist()
    assert isinstance(npz.opened(tmp_path / "cells.npz", "images"), np.memmap)
    assert len(list((cache / "npz").rglob("*.npy"))) == 2


def test_npz_with_one_file_per_split(tmp_path: Path) -> None:
    expected: dict[str, np.ndarray] = {}
    for name, count in (("train", 5), ("val", 2), ("test", 3)):
        images, masks = _arrays(count)
        ids = np.array([f"{name}-{row}" for row in range(count)])
        np.savez(tmp_path / f"{name}.npz", images=images[..., 0], masks=masks, ids=ids)
        expected |= dict(zip(ids.tolist(), images[..., 0], strict=True))
    bare = open_dataset(tmp_path)
    _write(
        tmp_path,
        format="npz",
        classes=["a", "b", "c"],
        splits={"train": "train.npz", "validation": "val.npz", "test": "test.npz"},
    )
    dataset = open_dataset(tmp_path)
    assert _counts(dataset) == _counts(bare) == {"train": 5, "validation": 2, "test": 3}
    assert dataset.classes.names == ("a", "b", "c")
    assert dataset.channels() == 1
    for item in dataset.items:
        np.testing.assert_array_equal(dataset.image(item, 1)[..., 0], expected[item.id])


def test_npz_with_prefixes(tmp_path: Path) -> None:
    arrays = {}
    for prefix, count in (("train", 4), ("val", 2), ("test", 3)):
        arrays[f"{prefix}_images"], arrays[f"{prefix}_masks"] = _arrays(count)
    np.savez(tmp_path / "all.npz", **arrays)  # type: ignore[arg-type]
    assert _counts(open_dataset(tmp_path / "all.npz")) == {"train": 4, "validation": 2, "test": 3}


def test_npz_of_document_003(tmp_path: Path) -> None:
    images, masks = _arrays(10)
    both = np.stack([images[..., 0], masks], axis=1)
    np.savez(tmp_path / "mars.npz", training_set=both, test_set=images[:4, ..., 1])
    dataset = open_dataset(tmp_path / "mars.npz")
    assert _counts(dataset) == {"train": 9, "validation": 1, "unlabelled": 4}
    np.testing.assert_array_equal(dataset.image(dataset.items[3], 1)[..., 0], both[3, 0])
    np.testing.assert_array_equal(dataset.mask(dataset.items[3]), both[3, 1])
    np.testing.assert_array_equal(dataset.image(dataset.items[11], 1)[..., 0], images[1, ..., 1])


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (
            {"images": np.zeros((2, 4, 4), np.float32), "masks": np.zeros((2, 4, 4), np.uint8)},
            "images is float32",
        ),
        ({"images": np.full((2, 4, 4), np.nan), "masks": np.zeros((2, 4, 4), np.uint8)}, "images is float64"),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "masks": np.zeros((2, 4, 4), np.float32)},
            "masks is float32",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "masks": np.zeros((3, 4, 4), np.uint8)},
            "the same number",
        ),
        ({"images": np.zeros((4, 4), np.uint8), "masks": np.zeros((4, 4), np.uint8)}, r"images is \(4, 4\)"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "no array 'masks'"),
        ({"x": np.zeros(3)}, "holds x; looked for images"),
        (
            {"images": np.array([{}, {}], object), "masks": np.zeros((2, 4, 4), np.uint8)},
            "pickles are never read",
        ),
        ({"training_set": np.zeros((2, 3, 4, 4), np.uint8)}, "training_set is"),
        (
            {
                "images": np.zeros((2, 4, 4), np.uint8),
                "masks": np.eye(4, dtype=int)[None].repeat(2, 0),
                "ids": [1, 1],
            },
            "id 1 twice",
        ),
    ],
)
def test_what_an_npz_may_not_hold(tmp_path: Path, arrays: Mapping[str, np.ndarray], problem: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=problem):
        open_dataset(tmp_path / "a.npz")


def test_a_broken_npz(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"a\.npz is no \.npz"):
        open_dataset(tmp_path / "a.npz")
    images, masks = _arrays(4)
    np.savez(tmp_path / "b.npz", images=images, masks=masks)
    spoilt = bytearray((tmp_path / "b.npz").read_bytes())
    spoilt[400] ^= 0xFF
    (tmp_path / "b.npz").write_bytes(spoilt)
    with pytest.raises(DataError, match=r"b\.npz: images cannot be read: Bad CRC"):
        open_dataset(tmp_path / "b.npz")


def test_synthetic(tmp_path: Path) -> None:
    dataset = open_dataset("synthetic:shapes")
    assert (dataset.name, dataset.format) == ("shapes", "npz")
    (tmp_path / "dataset.yaml").write_text(dataset.to_yaml())
    again = open_dataset(tmp_path / "dataset.yaml")
    assert again.items == dataset.items
    assert again.source["path"] == "synthetic:shapes"
