"""Pictures for people: colours where they belong, nothing else touched, sizes that fit."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.data.classes import ClassMap
from maskwright.draw import (
    INVENTED,
    MISSED,
    TILE,
    batch_sheet,
    curves,
    errors,
    jpeg,
    overlay,
    png,
    predictions_sheet,
    scaled,
    sheet,
)
from maskwright.tensors import IGNORE, Batch, Target

TWO = ClassMap(("background", "pet"), ((0, 0, 0), (0, 200, 0)))
THREE = ClassMap(("sky", "road", "car"), ((0, 0, 250), (250, 0, 0), (0, 250, 0)))


def grey(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def square(height: int = 40, width: int = 40) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 10:30] = 1
    return mask


def test_overlay_tints_classes_and_leaves_the_black_one_alone() -> None:
    drawn = overlay(grey(40, 40), square(), TWO, opacity=0.5)
    assert drawn[20, 20].tolist() == [50, 150, 50]
    assert drawn[2, 2].tolist() == [100, 100, 100]
    np.testing.assert_array_equal(drawn[square() == 0], grey(40, 40)[square() == 0])


def test_overlay_draws_a_line_where_classes_meet_and_only_there() -> None:
    drawn = overlay(grey(40, 40), square(), TWO)
    white = (drawn > 200).all(axis=2)
    edge = square().astype(bool)
    edge[11:29, 11:29] = False
    np.testing.assert_array_equal(white, edge)
    assert not (overlay(grey(40, 40), np.ones((40, 40), np.uint8), TWO) > 200).all(axis=2).any()


def test_unknown_pixels_are_hatched_grey() -> None:
    mask = np.full((120, 120), IGNORE, np.uint8)
    drawn = overlay(grey(120, 120), mask, TWO)
    assert (drawn == drawn[..., :1]).all()
    assert len(np.unique(drawn)) == 2
    assert drawn[0, 0, 0] != drawn[0, 2, 0]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_picture_can_be_drawn_upon(channels: int) -> None:
    picture = np.full((1, 5, channels), 9, np.uint8)
    assert overlay(picture, np.array([[0, 1, 1, IGNORE, 0]], np.uint8), TWO).shape == (1, 5, 3)


def test_errors_of_two_classes_are_missed_or_invented() -> None:
    truth = np.array([[1, 0, 1, IGNORE]], np.uint8)
    found = np.array([[0, 1, 1, 1]], np.uint8)
    drawn = errors(grey(1, 4), truth, found, TWO).astype(int)
    pale = drawn[0, 2]
    assert np.abs(drawn[0, 0] - MISSED).max() < np.abs(drawn[0, 0] - pale).max()
    assert np.abs(drawn[0, 1] - INVENTED).max() < np.abs(drawn[0, 1] - pale).max()
    assert drawn[0, 3].tolist() == pale.tolist()
    assert pale[0] == pale[1] == pale[2]


def test_errors_of_three_classes_are_simply_wrong() -> None:
    truth, found = np.array([[0, 1, 2]], np.uint8), np.array([[1, 2, 2]], np.uint8)
    drawn = errors(grey(1, 3), truth, found, THREE)
    assert drawn[0, 0].tolist() == drawn[0, 1].tolist() != drawn[0, 2].tolist()


@pytest.mark.parametrize(
    ("size", "found"), [((10, 10), (224, 224)), ((448, 896), (112, 224)), ((7, 3000), (1, 224))]
)
def test_pictures_fill_their_box_and_keep_their_aspect(size: tuple[int, int], found: tuple[int, int]) -> None:
    picture = scaled(grey(*size), (224, 224))
    assert (picture.height, picture.width) == found


def test_a_small_picture_is_enlarged_without_new_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(scaled(pixels, (64, 64))), pixels.repeat(8, 0).repeat(8, 1))


def test_a_sheet_shows_every_tile_once() -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (250, 0, 250)]
    tiles = [np.full((20, 20, 3), colour, np.uint8) for colour in colours]
    page = np.asarray(sheet(tiles, [f"tile {number}" for number in range(5)], columns=3, title="Five"))
    for colour in colours:
        assert (page == colour).all(axis=2).sum() == TILE * TILE
    assert page.shape[1] == 3 * TILE + 4 * 12


def test_long_captions_stay_on_their_tile() -> None:
    """Drawn beside an empty tile, the caption of the first must not reach into the second's column."""
    blank = [grey(20, 20, 255)] * 2
    page = np.asarray(sheet(blank, ["a very long name " * 20, ""], columns=2))
    assert (page[:, : TILE + 12] < 200).any()
    assert not (page[:, TILE + 18 :] < 200).any()


def test_a_legend_wraps_instead_of_running_out_of_the_page() -> None:
    names = [(f"a class with a long name {number}", (number, 0, 0)) for number in range(12)]
    page = sheet([grey(20, 20)], ["x"], legend=names)
    assert page.width == TILE + 24
    assert (np.asarray(page)[:, -2:] == 255).all()


def test_the_batch_sheet_shows_pictures_beside_their_labels() -> None:
    images = torch.rand(3, 1, 16, 24)
    labels = torch.zeros(3, 16, 24, dtype=torch.uint8)
    page = batch_sheet(Batch(images, Target(labels)), TWO)
    assert page.width == 4 * TILE + 5 * 12


def test_a_mixed_picture_shows_the_heavier_truth() -> None:
    images = torch.zeros(1, 3, 8, 8)
    empty, full = torch.zeros(1, 8, 8, dtype=torch.long), torch.ones(1, 8, 8, dtype=torch.long)

    def green(weight: float) -> int:
        page = np.asarray(batch_sheet(Batch(images, Target(empty, full, torch.tensor([weight]))), TWO))
        return int((page == (0, 90, 0)).all(axis=2).sum())

    assert green(0.9) == 0
    assert green(0.1) == TILE * TILE


def test_the_predictions_sheet_counts_wrong_pixels_without_the_ignored() -> None:
    truth = square()
    truth[0] = IGNORE
    page = predictions_sheet([grey(40, 40)], [truth], [np.zeros((40, 40), np.uint8)], TWO, ["Abyssinian_1"])
    assert page.width == 4 * TILE + 5 * 12
    all_ignored = np.full((4, 4), IGNORE, np.uint8)
    predictions_sheet([grey(4, 4)], [all_ignored], [all_ignored], THREE)


def test_encoded_pictures_come_back() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)
    smooth = np.asarray(Image.fromarray(picture[:4, :4]).resize((60, 40), Image.Resampling.BICUBIC))
    assert np.abs(np.asarray(Image.open(io.BytesIO(jpeg(smooth)))).astype(int) - smooth).max() < 24


ROWS = [
    {"epoch": 1.0, "train_loss": 1.0, "val_loss": 1.2, "val_dice_image": 0.4, "val_miou": 0.3},
    {"epoch": 2.0, "train_loss": 0.5, "val_loss": 0.8, "val_dice_image": float("nan"), "val_miou": 0.5},
]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_curves_are_a_png_or_an_svg(rows: list[dict[str, float]]) -> None:
    assert Image.open(io.BytesIO(curves(rows))).width > 1000
    drawn = curves(rows, svg=True).decode()
    assert "<svg" in drawn
    assert "Dice per image" in drawn
    assert curves(rows, svg=True).decode() == drawn


def test_dark_curves_differ() -> None:
    assert curves(ROWS, svg=True, dark=True) != curves(ROWS, svg=True)
