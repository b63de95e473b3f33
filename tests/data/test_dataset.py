"""Datasets: written and opened again they are the same; what is wrong with one is told in one line."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from maskwright.data.dataset import Dataset, find_broken, open_dataset
from maskwright.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    """Thirty pairs 6 x 8; cat_7 has 7 foreground pixels."""
    root = tmp_path / "cats"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for row in range(30):
        mask = np.zeros((6, 8), np.uint8)
        mask.flat[:row] = 1
        Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(
            root / "images" / f"cat_{row}.jpg"
        )
        Image.fromarray(mask).save(root / "masks" / f"cat_{row}.png")
    return root


def _write(root: Path, **keys: object) -> Path:
    (root / "dataset.yaml").write_text(yaml.safe_dump(keys))
    return root / "dataset.yaml"


def _splits(dataset: Dataset) -> dict[str, str]:
    return {item.id: item.split for item in dataset.items}


def test_bare_folder(cats: Path) -> None:
    dataset = open_dataset(cats)
    assert dataset.name == "cats"
    assert dataset.classes.names == ("class_0", "class_1")
    assert dataset.pixels["cat_7"].tolist() == [41, 7]
    assert (len(dataset.split("train")), len(dataset.split("validation"))) == (27, 3)
    assert dataset.class_pixels("train").sum() == 27 * 48
    assert dataset.channels() == 3
    shares = [dataset.pixels[item.id][1] for item in dataset.split("validation")]
    assert [int(share) // 10 for share in sorted(shares)] == [0, 1, 2]  # one of each third
    with pytest.raises(ConfigError, match="split 'tests'; did you mean test"):
        dataset.split("tests")


def test_what_is_written_opens_as_the_same(cats: Path, tmp_path: Path) -> None:
    _write(
        cats,
        classes=["background", "cat"],
        values={0: "background", 1: "cat", 255: "ignore"},
        validation={"fraction": 0.2, "seed": 3},
        exclude=["cat_4"],
        groups="{id}",
    )
    dataset = open_dataset(cats)
    run = tmp_path / "run"
    run.mkdir()
    (run / "dataset.yaml").write_text(dataset.to_yaml())
    again = open_dataset(run / "dataset.yaml")
    assert again.items == dataset.items
    assert again.classes == dataset.classes
    assert again.source == dataset.source
    assert again.fingerprint() == dataset.fingerprint()
    assert again.advice == dataset.advice == ()
    assert yaml.safe_load(dataset.to_yaml())["fingerprint"] == dataset.fingerprint()


def test_the_fingerprint_follows_content_and_meaning_not_place(cats: Path, tmp_path: Path) -> None:
    first = open_dataset(cats)
    was = first.fingerprint()
    moved = cats.rename(tmp_path / "moved")
    assert open_dataset(moved).fingerprint() == was
    assert len(was) == 16
    whole: dict[str, object] = {"classes": ["class_0", "class_1"], "validation": {"fraction": 0}}
    others: list[dict[str, object]] = [
        {"validation": {"seed": 1}},
        {"exclude": ["cat_1"]},
        whole,
        {**whole, "groups": "x{id}"},
        {**whole, "classes": ["background", "cat"]},
        {**whole, "values": {0: "class_1", 1: "class_0"}},
    ]
    assert len({was, *(open_dataset(_write(moved, **keys)).fingerprint() for keys in others)}) == 7
    (moved / "dataset.yaml").unlink()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(moved / "images" / "cat_3.jpg")
    changed = open_dataset(moved)
    assert changed.fingerprint() != was
    keys = {**first.source, "path": str(moved), "fingerprint": was}
    (line,) = open_dataset(_write(tmp_path, **keys)).advice
    assert "changed since the fingerprint" in line


def test_leaving_out_does_not_move_the_others(cats: Path) -> None:
    dataset = open_dataset(cats)
    gone = [dataset.split("validation")[0].id, dataset.split("train")[0].id]
    fewer = dataset.without(gone)
    assert _splits(fewer) == {name: split for name, split in _splits(dataset).items() if name not in gone}
    again = open_dataset(_write(cats, **fewer.source))
    assert again.items == fewer.items
    assert dataset.without(gone[:1]).without(gone[1:]).source["exclude"] == gone
    with pytest.raises(DataError, match="none of the 30"):
        dataset.without([item.id for item in dataset.items])


def test_folds(cats: Path, tmp_path: Path) -> None:
    dataset = open_dataset(cats)
    folds = dataset.folds(5, seed=2)
    validated = [item.id for fold in folds for item in fold.split("validation")]
    assert sorted(validated) == sorted(item.id for item in dataset.items)
    assert {len(fold.split("validation")) for fold in folds} == {6}
    again = open_dataset(_write(tmp_path, **folds[1].source))
    assert again.items == folds[1].items


def test_groups_are_not_torn(cats: Path) -> None:
    lines = [f"cat_{row},litter{row // 5}" for row in range(30)]
    (cats / "litters.csv").write_text("\n".join(lines))
    dataset = open_dataset(_write(cats, groups="litters.csv", validation={"fraction": 0.2}))
    assert dataset.grouped
    assert len(dataset.split("validation")) == 5
    assert len({item.group for item in dataset.split("validation")}) == 1
    for fold in dataset.folds(3):
        torn = {item.group for item in fold.split("train")} & {
            item.group for item in fold.split("validation")
        }
        assert not torn


def test_the_classic(cats: Path) -> None:
    for path in (cats / "masks").iterdir():
        Image.fromarray(np.array(Image.open(path)) * np.uint8(255)).save(path)
    for classes in (None, ["background", "cat"]):
        (cats / "dataset.yaml").unlink(missing_ok=True)
        if classes:
            _write(cats, classes=classes)
        with pytest.raises(DataError, match="hold 0 and 255 only") as caught:
            open_dataset(cats)
        written = caught.value.hint.partition("dataset.yaml: ")[2]
        (cats / "dataset.yaml").write_text(written)
        dataset = open_dataset(cats)
        assert dataset.classes.names == ("background", "cat" if classes else "object")
        assert dataset.pixels["cat_7"].tolist() == [41, 7]


def test_255_alone_is_never_taken_for_void(cats: Path) -> None:
    for path in (cats / "masks").iterdir():
        Image.fromarray(np.array(Image.open(path)) * np.uint8(255)).save(path)
    with pytest.raises(DataError, match=r"holds value 255 in .* pixels, the classes end at 2"):
        open_dataset(_write(cats, classes=["background", "cat", "dog"]))


def test_void_is_understood_where_there_is_foreground(cats: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[0], mask[1] = 1, 255
    Image.fromarray(mask).save(cats / "masks" / "cat_7.png")
    for keys in ({}, {"classes": ["background", "cat"]}):
        dataset = open_dataset(_write(cats, **keys))
        assert dataset.pixels["cat_7"].tolist() == [32, 8]
        np.testing.assert_array_equal(dataset.mask(dataset.items[27]), mask)
        assert dataset.items[27].id == "cat_7"


def test_values_outside_the_classes(cats: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[0] = 4
    Image.fromarray(mask).save(cats / "masks" / "cat_7.png")
    with pytest.raises(DataError, match=r"cat_7\.png holds value 4 in 8 pixels, the classes end at 1"):
        open_dataset(_write(cats, classes=["background", "cat"]))
    assert len(open_dataset(_write(cats, classes=["background", "cat"], exclude=["cat_7"])).items) == 29
    assert open_dataset(_write(cats)).classes.names == ("class_0", "class_1", "class_4")


def test_painted_masks(cats: Path) -> None:
    colours = np.array([[0, 0, 0], [200, 30, 30]], np.uint8)
    for path in (cats / "masks").iterdir():
        Image.fromarray(colours[np.array(Image.open(path))]).save(path)
    bare = open_dataset(cats)
    assert bare.classes.values == {(0, 0, 0): 0, (200, 30, 30): 1}
    assert bare.pixels["cat_7"].tolist() == [41, 7]
    named = open_dataset(
        _write(cats, classes=["background", "cat"], values={"#000000": "background", "#c81e1e": "cat"})
    )
    assert named.pixels["cat_7"].tolist() == [41, 7]
    assert named.mask(named.items[27]).sum() == 7


def test_noise_is_no_set_of_classes(cats: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (6, 8), dtype=np.uint8)).save(cats / "masks" / "cat_7.png")
    with pytest.raises(DataError, match="different values, too many"):
        open_dataset(cats)


def test_twelve_bits_in_sixteen_are_told(cats: Path) -> None:
    (cats / "images/cat_0.jpg").unlink()
    deep = RNG.integers(0, 4096, (6, 8)).astype(np.uint16)
    Image.fromarray(deep).save(cats / "images/cat_0.png")
    assert any("almost black (cat_0)" in line for line in open_dataset(cats).advice)
    Image.fromarray(deep * 16).save(cats / "images/cat_0.png")
    assert not any("almost black" in line for line in open_dataset(cats).advice)


def test_a_mask_of_another_size(cats: Path) -> None:
    dataset = open_dataset(cats)
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(cats / "masks" / "cat_7.png")
    with pytest.raises(DataError, match=r"cat_7.* is 8 x 6 and its image 6 x 8"):
        dataset.mask(dataset.items[27])
    with pytest.raises(DataError, match=r"cat_7\.png is 8 x 6 and its image 6 x 8"):
        open_dataset(cats)


def test_size_is_that_of_the_upright_picture(cats: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(cats / "images" / "cat_7.jpg", exif=exif)
    dataset = open_dataset(cats)
    assert dataset.size(dataset.items[27]) == dataset.mask(dataset.items[27]).shape == (6, 8)
    assert dataset.image(dataset.items[27], 3).shape == (6, 8, 3)


def test_a_mask_of_another_size_is_skipped_as_broken(cats: Path) -> None:
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(cats / "masks/cat_3.png")
    (cats / "masks/cat_4.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="maskwright data audit"):
        open_dataset(cats)
    rest = open_dataset(cats, skip_broken=True)
    assert {item.id for item in rest.items} == {f"cat_{row}" for row in range(30)} - {"cat_3", "cat_4"}
    assert "2 items with broken files are left out: cat_3, cat_4" in rest.advice


def test_broken_files(cats: Path) -> None:
    whole = cats / "images" / "cat_7.jpg"
    whole.write_bytes(whole.read_bytes()[:-300])
    (cats / "images" / "cat_8.jpg").write_text("no image")
    (cats / "masks" / "cat_9.png").write_bytes((cats / "masks" / "cat_9.png").read_bytes()[:50])
    dataset = open_dataset(cats)
    broken = find_broken(dataset)
    assert [Path(str(path)).name for path, _ in broken] == ["cat_7.jpg", "cat_8.jpg", "cat_9.png"]
    assert all(Path(str(path)).name in reason for path, reason in broken)
    rest = open_dataset(cats, skip_broken=True)
    assert len(rest.items) == 27
    assert "3 items with broken files are left out: cat_7, cat_8, cat_9" in rest.advice
    assert find_broken(rest) == []
    assert _splits(rest).items() <= _splits(dataset).items()


def test_a_class_missing_in_validation_is_told(cats: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[0] = 2
    mask[1] = 1
    Image.fromarray(mask).save(cats / "masks" / "cat_7.png")
    dataset = open_dataset(_write(cats, classes=["background", "cat", "dog", "cow"]))
    assert dataset.advice == (
        "train has no pixel of cow: no score can be given for it there",
        "validation has no pixel of dog: no score can be given for it there",
    )


def test_unknown_exclusions_are_told(cats: Path) -> None:
    (line,) = open_dataset(_write(cats, exclude=["cat_7", "dog"])).advice
    assert "exclude names dog" in line


def test_grey_pictures_need_one_channel(cats: Path) -> None:
    for path in (cats / "images").iterdir():
        Image.open(path).convert("L").save(path)
    dataset = open_dataset(cats)
    assert dataset.channels() == 1
    assert dataset.image(dataset.items[0], 1).shape == (6, 8, 1)


def test_what_yaml_takes_for_no_text(cats: Path) -> None:
    (cats / "dataset.yaml").write_text("classes: [no, yes]\n")
    with pytest.raises(ConfigError, match="put it in quotes"):
        open_dataset(cats)


@pytest.mark.parametrize("what", ["nothing", "notes.txt", "list.yaml", "broken.yaml"])
def test_what_is_no_data_set(tmp_path: Path, what: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises((DataError, ConfigError), match=what) as caught:
        open_dataset(tmp_path / what)
    assert "\n" not in str(caught.value)


def test_a_second_opening_decodes_nothing(cats: Path) -> None:
    for path in cats.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    first = open_dataset(cats)
    first.fingerprint()
    for path in cats.rglob("*.png"):
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=(10**18, 10**18))
    again = open_dataset(cats)
    assert again.items == first.items
    assert again.fingerprint() == first.fingerprint()


@pytest.mark.slow
def test_pets_open_fast_the_second_time(pets: Path) -> None:
    open_dataset(pets).fingerprint()
    start = time.perf_counter()
    open_dataset(pets).fingerprint()
    assert time.perf_counter() - start < 2.0  # 0.05 s on an idle machine


def test_threads_read_what_one_reads(cats: Path) -> None:
    dataset = open_dataset(cats)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda item: dataset.image(item, 3), dataset.items * 4))
    for item, picture in zip(dataset.items * 4, pictures, strict=True):
        np.testing.assert_array_equal(picture, dataset.image(item, 3))
