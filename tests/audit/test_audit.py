"""Planted faults: each is found in a data set that is sound without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from maskwright.audit.findings import Finding
from maskwright.audit.run import Audit, audit, write_mended
from maskwright.cli.main import main
from maskwright.data.convert import convert
from maskwright.data.dataset import open_dataset
from maskwright.errors import ConfigError

SIZE = (48, 56)


def picture(seed: int) -> NDArray[np.uint8]:
    """Clouds of its own in three colours."""
    noise = np.random.default_rng(seed).standard_normal((*SIZE, 3))
    clouds = gaussian_filter(noise, (4, 4, 0))
    scaled: NDArray[np.uint8] = (clouds / clouds.std() * 40 + 128).clip(1, 254).astype(np.uint8)
    return scaled


def disc(seed: int) -> NDArray[np.uint8]:
    """A mask of 0 and 1."""
    random = np.random.default_rng(seed)
    row, column, radius = random.uniform(14, 34), random.uniform(14, 42), random.uniform(6, 12)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 < radius**2, np.uint8)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """24 train, 8 val, 8 test."""
    root, seed = tmp_path / "data", 0
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            seed += 1
            Image.fromarray(picture(seed)).save(root / split / "images" / f"{split}{number:02}.png")
            Image.fromarray(disc(seed)).save(root / split / "masks" / f"{split}{number:02}.png")
    (root / "dataset.yaml").write_text("classes: [ground, disc]\n")
    return root


def found(result: Audit, name: str) -> Finding:
    matching = [finding for finding in result.findings if finding.id == name]
    assert matching, f"{name} is not among {[finding.id for finding in result.findings]}"
    return matching[0]


def save(array: NDArray[np.generic], path: Path, **options: object) -> None:
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]


def mask_file(root: Path, number: int) -> Path:
    return root / "train" / "masks" / f"train{number:02}.png"


def image_file(root: Path, number: int, split: str = "train") -> Path:
    return root / split / "images" / f"{split}{number:02}.png"


def test_a_sound_set_has_no_findings(sound: Path) -> None:
    result = audit(sound)
    assert result.findings == ()
    assert result.listed == 40
    assert [(count.name, count.pictures) for count in result.splits] == [
        ("train", 24),
        ("validation", 8),
        ("test", 8),
    ]
    expected = sum(disc(seed).sum() for seed in range(1, 25))
    assert result.splits[0].pixels.tolist() == [24 * 48 * 56 - expected, expected]


def _truncated_image(root: Path) -> None:
    path = image_file(root, 1)
    path.write_bytes(path.read_bytes()[:-900])


def _no_mask_at_all(root: Path) -> None:
    mask_file(root, 1).write_text("nothing")


def _other_size(root: Path) -> None:
    save(disc(2)[:-1], mask_file(root, 1))


def _exif_sideways(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(picture(2), image_file(root, 1), exif=exif)


def _exif_upside_down(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    save(picture(2), image_file(root, 1), exif=exif)


def _unknown(root: Path) -> None:
    mask = disc(2)
    mask[:6, :6] = 7
    save(mask, mask_file(root, 1))


def _colours(root: Path) -> None:
    save(disc(2)[..., None] * np.array([255, 0, 0], np.uint8), mask_file(root, 1))


def _only_background(root: Path) -> None:
    save(disc(2) * np.uint8(0), mask_file(root, 1))


def _all_foreground(root: Path) -> None:
    save(disc(2) * np.uint8(0) + np.uint8(1), mask_file(root, 1))


def _repeated(root: Path) -> None:
    save(disc(3), mask_file(root, 1))


def _palette(root: Path) -> None:
    image = Image.fromarray(disc(2))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(mask_file(root, 1))


def _blank(root: Path) -> None:
    save(picture(2) * np.uint8(0), image_file(root, 1))


def _dark(root: Path) -> None:
    save((picture(2)[..., 0].astype(np.uint16) * 16), image_file(root, 1))


def _no_mask(root: Path) -> None:
    mask_file(root, 1).unlink()


PLANTED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated picture": ("unreadable", _truncated_image),
    "text for a mask": ("unreadable", _no_mask_at_all),
    "size": ("size-mismatch", _other_size),
    "EXIF, sideways": ("exif-mismatch", _exif_sideways),
    "EXIF, upside down": ("exif-turned", _exif_upside_down),
    "unknown value": ("unknown-values", _unknown),
    "colours": ("coloured-masks", _colours),
    "only background": ("only-background", _only_background),
    "all foreground": ("constant-mask", _all_foreground),
    "palette among numbers": ("mask-bit-depth", _palette),
    "blank": ("blank-picture", _blank),
    "12 bits in 16": ("dark-16-bit", _dark),
    "no mask": ("missing-masks", _no_mask),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_where_it_is(sound: Path, fault: str) -> None:
    name, plant = PLANTED[fault]
    plant(sound)
    finding = found(audit(sound), name)
    assert len(finding.ids) == 1
    assert finding.ids[0].endswith("train01")


def test_the_same_mask_on_two_pictures(sound: Path) -> None:
    _repeated(sound)
    assert found(audit(sound), "repeated-mask").ids == ("train01", "train02")


def test_several_faults_at_once_are_all_found_and_mended(sound: Path, tmp_path: Path) -> None:
    _truncated_image(sound)
    save(disc(3)[:-1], mask_file(sound, 2))
    mask = disc(4)
    mask[:6, :6] = 7
    save(mask, mask_file(sound, 3))
    mask_file(sound, 4).unlink()
    result = audit(sound)
    assert {finding.id for finding in result.findings} >= {
        "unreadable",
        "size-mismatch",
        "unknown-values",
        "missing-masks",
    }
    assert [finding.severity for finding in result.findings] == sorted(
        (finding.severity for finding in result.findings), key=["error", "warning", "note"].index
    )
    before = (sound / "dataset.yaml").read_text()
    new = tmp_path / "mended.yaml"
    write_mended(result, new)
    dataset = open_dataset(new)
    assert {item.id for item in dataset.items}.isdisjoint({"train01", "train02", "train04"})
    (third,) = (item for item in dataset.items if item.id == "train03")
    assert (dataset.mask(third)[:6, :6] == 255).all()
    assert (sound / "dataset.yaml").read_text() == before
    assert audit(new).findings == ()
    with pytest.raises(ConfigError, match="is there already"):
        write_mended(result, new)


def test_masks_of_0_and_255_are_named_and_mended(sound: Path, tmp_path: Path) -> None:
    (sound / "dataset.yaml").unlink()
    for file in sound.glob("*/masks/*.png"):
        save(np.array(Image.open(file)) * np.uint8(255), file)
    result = audit(sound)
    assert [finding.id for finding in result.findings] == ["classes-not-clear"]
    write_mended(result, tmp_path / "mended.yaml")
    assert yaml.safe_load((tmp_path / "mended.yaml").read_text())["values"] == {
        0: "background",
        255: "object",
    }
    assert audit(tmp_path / "mended.yaml").findings == ()


def _as(root: Path, ending: str, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
    for file in root.glob("*/masks/*.png"):
        array = change(np.array(Image.open(file)) * np.uint8(255))
        file.unlink()
        save(array, file.with_suffix(ending))
    (root / "dataset.yaml").write_text("classes: [ground, disc]\nvalues: {0: ground, 255: disc}\n")


def test_jpeg_masks_are_told_by_their_format(sound: Path) -> None:
    _as(sound, ".jpg", lambda mask: mask)
    result = audit(sound)
    assert len(found(result, "jpeg-masks").ids) > 30
    assert not {"unknown-values", "anti-aliased-masks"} & {finding.id for finding in result.findings}


def test_blurred_edges_are_told_from_other_unknown_values(sound: Path) -> None:
    _as(sound, ".png", lambda mask: np.asarray(gaussian_filter(mask, 0.6), np.uint8))
    result = audit(sound)
    assert len(found(result, "anti-aliased-masks").ids) == 40
    assert "unknown-values" not in {finding.id for finding in result.findings}


def test_twins_across_splits_stay_in_test(sound: Path, tmp_path: Path) -> None:
    copy = Image.open(image_file(sound, 0, "test")).resize((84, 72), Image.Resampling.BICUBIC)
    copy.save(image_file(sound, 5))
    save(np.array(Image.fromarray(disc(6)).resize((84, 72), Image.Resampling.NEAREST)), mask_file(sound, 5))
    Image.open(image_file(sound, 7)).save(image_file(sound, 8))
    result = audit(sound)
    assert [case.ids for case in found(result, "twins-across-splits").cases] == [("test00", "train05")]
    assert found(result, "twins-across-splits").mending.exclude == ("train05",)
    assert [case.ids for case in found(result, "twins").cases] == [("train07", "train08")]
    assert found(result, "twins").cases[0].says.endswith("the same pixels")


def test_a_class_that_a_split_lacks(sound: Path) -> None:
    (sound / "dataset.yaml").write_text("classes: [ground, disc, tree]\n")
    said = [case.says for case in found(audit(sound), "missing-class").cases]
    assert said == [f"{split} has no pixel of tree" for split in ("train", "validation", "test")]


@pytest.mark.parametrize("form", ["coco", "npz"])
def test_masks_that_are_no_files_are_looked_at_as_well(sound: Path, tmp_path: Path, form: str) -> None:
    """Drawn, and in an array: nothing in a sound set, and the picture that is there twice."""
    (sound / "test" / "images" / "test00.png").write_bytes(
        (sound / "train" / "images" / "train00.png").read_bytes()
    )
    convert(open_dataset(sound), form, tmp_path / form)
    findings = audit(tmp_path / form).findings
    assert [(finding.id, finding.ids) for finding in findings] == [
        ("twins-across-splits", ("test00", "train00"))
    ]


def test_the_verb_writes_pages_and_returns_1_for_errors(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "audit", str(sound), "--out", str(tmp_path / "clean")]) == 0
    _other_size(sound)
    evil = sound / "train" / "images" / "<b>.png"
    evil.write_text("no picture")
    save(disc(99), sound / "train" / "masks" / "<b>.png")
    capsys.readouterr()
    assert main(["data", "audit", str(sound), "--out", str(tmp_path / "out"), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert said["found"] == written["found"] == {"error": 2, "warning": 0, "note": 0}
    assert {finding["id"]: finding["fix"] for finding in written["findings"]} == {
        "size-mismatch": {"exclude": ["train01"]},
        "unreadable": {"exclude": ["<b>"]},
    }
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "size-mismatch" in page
    assert "<b>.png" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_where_nothing_can_be_opened_all_of_it_is_told(sound: Path, tmp_path: Path) -> None:
    for file in sound.glob("*/masks/*.png"):
        file.write_text("no picture")
    (sound / "dataset.yaml").unlink()
    result = audit(sound)
    assert [(finding.id, len(finding.ids)) for finding in result.findings] == [("unreadable", 40)]
    assert result.dataset is None
    assert main(["data", "audit", str(sound), "--out", str(tmp_path / "out")]) == 1
