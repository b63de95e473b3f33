"""`ignore` of dataset.yaml: boxes of masks that count nowhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from maskwright.config import InputConfig
from maskwright.data.convert import convert
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.store import prepare
from maskwright.errors import ConfigError, DataError
from maskwright.tensors import IGNORE


def with_ignore(discs: Path, folder: Path, ignore: object, **more: object) -> Path:
    file = folder / "with.yaml"
    keys = yaml.safe_load((discs / "dataset.yaml").read_text())
    file.write_text(yaml.safe_dump({**keys, "path": str(discs), "ignore": ignore, **more}))
    return file


def row(dataset: Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    item = next(item for item in dataset.items if item.id == name)
    return dataset.mask(item), dataset.pixels[name]


def test_what_a_box_covers_counts_nowhere(discs: Path, tmp_path: Path) -> None:
    plain = open_dataset(discs)
    boxed = open_dataset(with_ignore(discs, tmp_path, {"train0": [[0, 0, 48, 20], [40, 30, 8, 18]]}))
    before, _ = row(plain, "train0")
    after, pixels = row(boxed, "train0")
    covered = np.zeros((48, 48), bool)
    covered[:, :20] = covered[40:, 30:] = True
    assert (after[covered] == IGNORE).all()
    assert np.array_equal(after[~covered], before[~covered])
    assert pixels.tolist() == [int((before[~covered] == k).sum()) for k in range(2)]
    assert np.array_equal(row(boxed, "train1")[0], row(plain, "train1")[0])


def test_training_sees_it(discs: Path, tmp_path: Path) -> None:
    boxed = open_dataset(with_ignore(discs, tmp_path, {"train0": [[0, 0, 48, 24]]}))
    store = prepare(boxed, InputConfig(size=(48, 48)))
    labels = store.labels(np.array([store.ids.index("train0")]))[0]
    assert (labels[:, :24] == IGNORE).all()
    assert (labels[:, 24:] != IGNORE).all()


def test_it_is_other_data(discs: Path, tmp_path: Path) -> None:
    plain, boxed = open_dataset(discs), open_dataset(with_ignore(discs, tmp_path, {"train0": [[0, 0, 2, 3]]}))
    other = open_dataset(with_ignore(discs, tmp_path, {"train0": [[0, 0, 3, 2]]}))
    assert len({plain.fingerprint(), boxed.fingerprint(), other.fingerprint()}) == 3
    changed = {name for name, said in boxed.digests().items() if plain.digests()[name] != said}
    assert changed == {"train0"}


def test_the_resolved_dataset_yaml_gives_it_again(discs: Path, tmp_path: Path) -> None:
    boxed = open_dataset(with_ignore(discs, tmp_path, {"train0": [[0, 0, 2, 3]]}))
    (tmp_path / "again.yaml").write_text(boxed.to_yaml())
    again = open_dataset(tmp_path / "again.yaml")
    assert again.items == boxed.items
    assert again.fingerprint() == boxed.fingerprint()


def test_a_conversion_keeps_it(discs: Path, tmp_path: Path) -> None:
    boxed = open_dataset(with_ignore(discs, tmp_path, {"train0": [[0, 0, 48, 20]]}))
    convert(boxed, "folder", tmp_path / "out")
    assert np.array_equal(row(open_dataset(tmp_path / "out"), "train0")[0], row(boxed, "train0")[0])


@pytest.mark.parametrize(
    ("ignore", "problem"),
    [
        ({"nobody": [[0, 0, 1, 1]]}, "nobody"),
        ({"train0": [[40, 0, 9, 5]]}, r"\[40, 0, 9, 5\], and its mask is 48 x 48"),
    ],
)
def test_boxes_that_fit_nothing(discs: Path, tmp_path: Path, ignore: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        open_dataset(with_ignore(discs, tmp_path, ignore))


@pytest.mark.parametrize(
    "ignore", [{"train0": [[0, 0, 0, 5]]}, {"train0": [[-1, 0, 2, 5]]}, {"train0": [0, 0, 2, 5]}, ["train0"]]
)
def test_boxes_that_are_none(discs: Path, tmp_path: Path, ignore: object) -> None:
    with pytest.raises(ConfigError, match="ignore"):
        open_dataset(with_ignore(discs, tmp_path, ignore))


def test_what_is_excluded_may_still_have_boxes(discs: Path, tmp_path: Path) -> None:
    file = with_ignore(discs, tmp_path, {"train0": [[0, 0, 2, 2]]}, exclude=["train0"])
    assert "train0" not in {item.id for item in open_dataset(file).items}


def test_a_broken_mask_is_told_as_ever(discs: Path, tmp_path: Path) -> None:
    shutil.copytree(discs, tmp_path / "copy")
    (tmp_path / "copy/train/masks/train0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    file = with_ignore(tmp_path / "copy", tmp_path, {"train0": [[0, 0, 2, 2]]})
    assert "train0" not in {item.id for item in open_dataset(file, skip_broken=True).items}
