"""A cleaning is kept where it clearly helps pictures that had no part in choosing it, and only there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cleaning import _masks, choose_cleaning, grid
from maskwright.data.classes import ClassMap
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.errors import DataError
from maskwright.predict.clean import Cleaning, clean, cut
from maskwright.tensors import Picture, Prediction


@dataclass(frozen=True)
class Bright:
    """Grey value / 255 is the probability of a disc."""

    classes: ClassMap = field(
        default_factory=lambda: ClassMap(("ground", "disc"), ((0, 0, 0), (230, 159, 0)), {0: 0, 1: 1})
    )
    channels: int = 1

    def __call__(self, image: Picture, /) -> Prediction:
        bright = image[..., 0].astype(np.float32) / np.float32(255)
        return Prediction((bright > 0.5).astype(np.uint8), np.stack([1 - bright, bright]))


def write_discs(root: Path, count: int, *, specks: int, shift: int = 0, wrong: int = 0) -> Dataset:
    """Discs of about 1,000 pixels, grey 200 on 40; with specks of 3 x 3, or a true disc of another grey level."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :80]
    for folder in ("images", "masks"):
        (root / "validation" / folder).mkdir(parents=True)
    for number in range(count):
        row, column = random.uniform(24, 40), random.uniform(24, 56)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < random.uniform(14, 20) ** 2
        grey = np.where(disc, 200 + shift, 40)
        for _ in range(specks):
            top, left = random.integers(0, 60), random.integers(0, 76)
            if not disc[max(top - 2, 0) : top + 5, max(left - 2, 0) : left + 5].any():
                grey[top : top + 3, left : left + 3] = 220
        noisy = random.random(disc.shape) < wrong / 100
        Image.fromarray(grey.astype(np.uint8)).save(root / "validation/images" / f"{number:02}.png")
        Image.fromarray((disc ^ noisy).astype(np.uint8)).save(root / "validation/masks" / f"{number:02}.png")
    (root / "dataset.yaml").write_text("classes: [ground, disc]\nvalues: {0: ground, 1: disc}\n")
    return open_dataset(root)


def test_specks_are_found_and_go(tmp_path: Path) -> None:
    chosen = choose_cleaning(Bright(), write_discs(tmp_path / "data", 40, specks=4))
    assert chosen.helps
    assert 9 < chosen.cleaning.smallest <= 256
    assert (chosen.cleaning.threshold, chosen.cleaning.holes) == (None, 0)
    assert chosen.comparison.means[1] == pytest.approx(1)
    assert chosen.comparison.difference > 0.01
    assert "kept: smallest" in chosen.sentence


def test_a_threshold_is_found(tmp_path: Path) -> None:
    """Discs of grey 110 are 43 % sure, so nothing is predicted at one half."""
    chosen = choose_cleaning(Bright(), write_discs(tmp_path / "data", 40, specks=0, shift=-90))
    assert chosen.helps
    assert chosen.cleaning == Cleaning(threshold=0.3)


def test_where_nothing_is_better_nothing_is_kept(tmp_path: Path) -> None:
    chosen = choose_cleaning(Bright(), write_discs(tmp_path / "data", 30, specks=0, wrong=2))
    assert not chosen.helps
    assert chosen.cleaning == Cleaning()
    assert "none is kept: nothing tried is better" in chosen.sentence


def test_of_a_few_pictures_nothing_is_concluded(tmp_path: Path) -> None:
    chosen = choose_cleaning(Bright(), write_discs(tmp_path / "data", 4, specks=4))
    assert chosen.cleaning.smallest > 0
    assert not chosen.helps
    assert "none is kept: no clear gain" in chosen.sentence


def test_chance_is_not_taken_for_a_gain(tmp_path: Path) -> None:
    """Half of the specks are true objects: some cleaning is the best by a little, but not on other pictures."""
    kept = []
    for turn in range(6):
        data = write_discs(tmp_path / f"data{turn}", 16, specks=1)
        random = np.random.default_rng(turn)
        for path in sorted((tmp_path / f"data{turn}/validation/masks").iterdir()):
            mask = np.array(Image.open(path))
            grey = np.asarray(Image.open(path.parent.parent / "images" / path.name))
            if random.random() < 0.5:
                mask[grey == 220] = 1
            Image.fromarray(mask).save(path)
        kept.append(choose_cleaning(Bright(), data).helps)
    assert sum(kept) <= 1


def test_the_grid_is_tried_as_it_is_applied() -> None:
    random = np.random.default_rng(0)
    bright = random.random((40, 50)).astype(np.float32)
    said = Prediction((bright > 0.5).astype(np.uint8), np.stack([1 - bright, bright]))
    tried = grid(2)
    assert tried[0] == Cleaning()
    assert len({*tried}) == len(tried) <= 100
    assert {each.threshold for each in grid(3)} == {None}
    for cleaning, mask in zip(tried, _masks(said, tried), strict=True):
        np.testing.assert_array_equal(mask, clean(cut(said, cleaning.threshold), cleaning))


def test_no_pictures(tmp_path: Path) -> None:
    data = write_discs(tmp_path / "data", 2, specks=0)
    with pytest.raises(DataError, match="no usable picture in split 'test'"):
        choose_cleaning(Bright(), data, split="test")
