"""Folders of unknown origin: what is proposed, why, and what is left over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.main import main
from maskwright.data.dataset import open_dataset
from maskwright.data.recognise import Proposal, propose
from maskwright.errors import DataError

RNG = np.random.default_rng(0)
COUNT = 8


def write(root: Path, images: str, masks: str, values: tuple[int, ...] = (0, 1), **options: object) -> Path:
    """COUNT noisy pictures, and masks with a block of each value."""
    for row in range(COUNT):
        labels = np.full((16, 20), values[0], np.uint8)
        for place, value in enumerate(values[1:]):
            labels[2 + 3 * place : 4 + 3 * place, 3:15] = value
        for template, array in ((images, RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)), (masks, labels)):
            file = root / template.format(id=f"{row:03}")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file, **(options if template == masks else {}))  # type: ignore[arg-type]
    return root


def saved(found: Proposal, root: Path) -> Path:
    """The proposal, as a file: it has to open to the same data."""
    (root / "dataset.yaml").write_text(found.to_yaml())
    again = open_dataset(root)
    assert found.dataset is not None
    assert again.items == found.dataset.items
    assert again.fingerprint() == found.dataset.fingerprint()
    return root


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        ("images/{id}.jpg", "masks/{id}.png", ("images/{id}.*", "masks/{id}.*")),
        ("photos/{id}.jpg", "seg/{id}.png", ("photos/{id}.*", "seg/{id}.*")),
        ("JPG/IMG_{id}.jpg", "PNG/truth_{id}_v2.png", ("JPG/IMG_{id}.*", "PNG/truth_{id}_v2.*")),
        ("all/{id}.jpg", "all/{id}-anno.png", ("all/{id}.*", "all/{id}-anno.*")),
        ("{id}.jpg", "{id}_mask.png", ("{id}.*", "{id}_mask.*")),
    ],
)
def test_which_layout_and_which_pairing(
    tmp_path: Path, images: str, masks: str, expected: tuple[str, str]
) -> None:
    write(tmp_path, images, masks, (0, 1, 2))
    (tmp_path / "readme.txt").write_text("hello")
    found = propose(tmp_path)
    assert (found.keys["images"], found.keys["masks"]) == expected
    assert found.keys["values"] == {0: "background", 1: "class_1", 2: "class_2"}
    assert (found.pairs, found.problem) == (COUNT, "")
    assert found.left_over == ("not used (.txt): 1 (readme.txt)",)
    assert any(f"{COUNT} of {COUNT} pictures have a mask" in reason for reason in found.reasons)
    assert "splits: 7 train, 1 validation" in found.reasons
    saved(found, tmp_path)


@pytest.mark.parametrize(
    ("values", "expected", "why"),
    [
        ((0, 255), {0: "background", 255: "object"}, "255 has to be the object"),
        ((0, 128), {0: "background", 128: "object"}, "hold 0 and 128"),
        ((0, 1, 255), {0: "background", 1: "class_1", 255: "ignore"}, "taken for what is not known"),
        ((1, 2, 3), {1: "class_1", 2: "class_2", 3: "class_3"}, "hold 1, 2, 3"),
    ],
)
def test_which_values_are_classes(
    tmp_path: Path, values: tuple[int, ...], expected: dict[int, str], why: str
) -> None:
    write(tmp_path, "images/{id}.jpg", "masks/{id}.png", values)
    found = propose(tmp_path)
    assert found.keys["values"] == expected
    assert any(why in reason for reason in found.reasons)
    assert saved(found, tmp_path)


def test_masks_saved_as_jpeg(tmp_path: Path) -> None:
    write(tmp_path, "images/{id}.png", "masks/{id}.jpg", (0, 255), quality=70)
    found = propose(tmp_path)
    values = found.keys["values"]
    assert isinstance(values, dict)
    assert (values[0], values[1], values[255], values["*"]) == (
        "background",
        "background",
        "object",
        "ignore",
    )
    assert any("blurred by JPEG" in reason for reason in found.reasons)
    saved(found, tmp_path)
    assert found.dataset is not None
    truth = np.zeros((16, 20), np.uint8)
    truth[2:4, 3:15] = 1
    mask = found.dataset.mask(found.dataset.items[0])
    assert (mask == 255).mean() < 0.2
    assert (mask == truth)[mask < 255].all()


def test_colours_and_a_table_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "images/{id}.jpg", "masks/{id}.png")
    for file in (tmp_path / "masks").iterdir():
        labels = np.array(Image.open(file))
        Image.fromarray(np.array([[0, 0, 0], [128, 64, 0]], np.uint8)[labels]).save(file)
    found = propose(tmp_path)
    assert found.keys["values"] == {"#000000": "background", "#804000": "class_804000"}
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nroad:128,64,0::\n")
    found = propose(tmp_path)
    assert found.keys["classes"] == ["background", "road"]
    saved(found, tmp_path)


def test_one_jpeg_among_exact_masks(tmp_path: Path) -> None:
    """What it blurs is ignored; no exact value of the others becomes another class."""
    write(tmp_path, "images/{id}.jpg", "masks/{id}.png")
    before = propose(tmp_path).keys
    with Image.open(tmp_path / "masks/003.png") as mask:
        mask.convert("L").save(tmp_path / "masks/003.jpg")
    (tmp_path / "masks/003.png").unlink()
    found = propose(tmp_path)
    assert found.keys["values"] == {**before["values"], "*": "ignore"}  # type: ignore[dict-item]
    assert any("save them as PNG: 003" in reason for reason in found.reasons)


def test_what_does_not_pair(tmp_path: Path) -> None:
    write(tmp_path, "images/{id}.jpg", "masks/{id}.png")
    (tmp_path / "masks/003.png").unlink()
    (tmp_path / "images/005.jpg").unlink()
    found = propose(tmp_path)
    assert found.keys["exclude"] == ["003"]
    assert found.pairs == COUNT - 2
    assert any("without a mask: 1 (003)" in reason for reason in found.reasons)
    assert not any("003" in line for line in found.left_over)
    assert found.left_over[0] == "masks without a picture: 1 (masks/005.png)"
    saved(found, tmp_path)


def test_nothing_that_pairs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for row in range(3):
            noise = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{row}.png")
    with pytest.raises(DataError, match="no layout that is known"):
        propose(tmp_path)


def test_another_size_is_the_problem(tmp_path: Path) -> None:
    write(tmp_path, "images/{id}.jpg", "masks/{id}.png")
    Image.new("L", (5, 5)).save(tmp_path / "masks/002.png")
    found = propose(tmp_path)
    assert found.dataset is None
    assert "is 5 x 5 and its image 16 x 20" in found.problem


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", "photos/{id}.jpg", "seg/{id}.png", (0, 255))
    assert main(["data", "show", "data"]) == 1
    out = capsys.readouterr().out
    assert "Not read as it stands" in out
    assert "255 has to be the object" in out
    assert "maskwright data show data --save data/dataset.yaml" in out
    assert main(["data", "show", "data", "--save", "data/dataset.yaml"]) == 0
    assert "object" in capsys.readouterr().out
    assert "path:" not in (tmp_path / "data/dataset.yaml").read_text()
    assert main(["data", "show", "data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == COUNT
    before = (tmp_path / "data/dataset.yaml").read_text()
    assert main(["data", "show", "data", "--save", "data/dataset.yaml"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "data/dataset.yaml").read_text() == before


def test_a_folder_that_reads_by_itself_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "images/{id}.jpg", "masks/{id}.png")
    sheet = str(tmp_path / "sheet.png")
    assert main(["data", "show", str(tmp_path), "--out", sheet, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == told["pairs"] == COUNT
    assert told["reasons"][0] == "folder: pictures and masks in folders, paired by their names"


def test_pets_and_camvid(pets: Path, camvid: Path) -> None:
    assert propose(pets).pairs == 885
    assert propose(pets).left_over == ("not used (.md): 1 (README.md)",)
    found = propose(camvid)
    assert found.keys["format"] == "camvid"
    assert found.dataset is not None
