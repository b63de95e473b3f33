"""Raw values to class ids, counted by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from maskwright import tensors
from maskwright.data.classes import (
    IGNORE,
    ClassMap,
    class_map,
    code_of,
    codes_of,
    colour_text,
    default_palette,
    parse_colour,
)
from maskwright.errors import ConfigError, DataError

TRIMAP = class_map(["background", "pet"], {1: "pet", 2: "background", 3: "ignore"})
PAINTED = class_map(["road", "car"], {"#000000": "road", "#ff8000": "car", "#ffffff": "ignore"})


def test_ignore_is_the_same_everywhere() -> None:
    assert IGNORE == tensors.IGNORE


def test_the_whole_data_layer_is_imported_without_torch() -> None:
    code = "import sys, maskwright.data.dataset, maskwright.data.classes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_three_readings_of_a_trimap() -> None:
    raw = np.array([[1, 2], [3, 3]], np.uint8)
    border_is_pet = class_map(["background", "pet"], {1: "pet", 3: "pet", 2: "background"})
    border_alone = class_map(["background", "pet"], {3: "pet", 1: "background", 2: "background"})
    np.testing.assert_array_equal(border_is_pet.encode(raw, "m"), [[1, 0], [1, 1]])
    np.testing.assert_array_equal(TRIMAP.encode(raw, "m"), [[1, 0], [255, 255]])
    np.testing.assert_array_equal(border_alone.encode(raw, "m"), [[0, 0], [1, 1]])
    assert TRIMAP.encode(raw, "m").dtype == np.uint8


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.int64])
def test_wide_integers_read_as_bytes_do(kind: type[np.integer]) -> None:
    raw = np.random.default_rng(0).integers(1, 4, (9, 7))
    np.testing.assert_array_equal(
        TRIMAP.encode(raw.astype(kind), "m"), TRIMAP.encode(raw.astype(np.uint8), "m")
    )


def test_values_beyond_a_byte() -> None:
    wide = class_map(["a", "b"], {700: "a", 65535: "b", -1: "ignore"})
    np.testing.assert_array_equal(wide.encode(np.array([[700, 65535, -1]]), "m"), [[0, 1, 255]])


def test_colours() -> None:
    raw = np.array([[[0, 0, 0], [255, 128, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(PAINTED.encode(raw, "m"), [[0, 1, 255]])
    grey = np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(PAINTED.encode(grey, "m"), [[0, 255]])


def test_a_grey_mask_saved_with_three_channels_reads_as_one() -> None:
    raw = np.array([[1, 2], [3, 3]], np.uint8)
    thrice = np.stack([raw] * 3, axis=2)
    np.testing.assert_array_equal(TRIMAP.encode(thrice, "m"), TRIMAP.encode(raw, "m"))


def test_an_unlisted_value_is_named_with_its_pixels() -> None:
    raw = np.array([[1, 2, 9], [7, 7, 1]], np.uint8)
    with pytest.raises(
        DataError, match=r"cat\.png holds value 7 in 2 pixels, values lists 1, 2, 3"
    ) as caught:
        TRIMAP.encode(raw, "cat.png")
    assert "values: {7: ignore}" in caught.value.hint


def test_the_classic_gets_its_advice() -> None:
    raw = np.array([[0, 255, 255]], np.uint8)
    with pytest.raises(DataError, match="holds value 255 in 2 pixels, the classes end at 1") as caught:
        ClassMap(("background", "pet")).encode(raw, "cat.png")
    assert caught.value.hint == "did you mean values: {0: background, 255: pet}?"


def test_a_jpeg_mask_is_told_why_it_cannot_work() -> None:
    with pytest.raises(DataError, match="JPEG blurs"):
        ClassMap(("background", "pet")).encode(np.array([[0, 3, 252]], np.uint8), "cat.JPG")


def test_an_unlisted_colour_is_written_as_colour() -> None:
    with pytest.raises(DataError, match=r'value #010203 in 1 pixels.*"#010203": ignore'):
        PAINTED.encode(np.array([[[0, 0, 0], [1, 2, 3]]], np.uint8), "cat.png")


def test_colours_where_numbers_are_meant() -> None:
    with pytest.raises(DataError, match=r'holds colours .#010203 .*"#010203": pet'):
        TRIMAP.encode(np.array([[[1, 2, 3]]], np.uint8), "cat.png")


def test_star_takes_everything_else() -> None:
    rest = class_map(["a", "b"], {1: "b", "*": "ignore"})
    np.testing.assert_array_equal(rest.encode(np.array([[0, 1, 200]], np.uint8), "m"), [[255, 1, 255]])
    to_a = class_map(["a", "b"], {1: "b", "*": "a"})
    np.testing.assert_array_equal(to_a.encode(np.array([[0, 1, 70000]]), "m"), [[0, 1, 0]])


@pytest.mark.parametrize(
    ("classes", "raw"),
    [
        (TRIMAP, np.random.default_rng(1).integers(1, 4, (30, 20)).astype(np.uint8)),
        (
            class_map(["a", "b"], {1: "b", "*": "a"}),
            np.random.default_rng(2).integers(0, 5, (30, 20)).astype(np.uint8),
        ),
        (PAINTED, np.random.default_rng(3).integers(0, 2, (30, 20, 1)).repeat(3, 2).astype(np.uint8) * 255),
    ],
)
def test_counting_a_histogram_is_counting_the_encoded_mask(classes: ClassMap, raw: np.ndarray) -> None:
    codes, colours = codes_of(raw, classes.coloured)
    values, counts = np.unique(codes, return_counts=True)
    ids = classes.encode(raw, "m")
    expected = [int((ids == identity).sum()) for identity in range(len(classes))]
    assert classes.count(values.tolist(), counts.tolist(), colours, "m").tolist() == expected


def test_counting_refuses_what_encoding_refuses() -> None:
    with pytest.raises(DataError, match="holds value 9 in 4 pixels"):
        TRIMAP.count([1, 9], [3, 4], False, "cat.png")


def test_yaml_and_back() -> None:
    for classes in (TRIMAP, PAINTED, class_map(["a"], {0: "a", "*": "ignore"})):
        assert class_map(classes.names, classes.to_values()) == classes


@pytest.mark.parametrize("count", [1, 8, 9, 255])
def test_palette_colours_differ(count: int) -> None:
    palette = default_palette(count)
    assert len(palette) == len(set(palette)) == count
    assert all(0 <= level <= 255 for colour in palette for level in colour)


def test_colour_text() -> None:
    assert parse_colour("#ff8000") == (255, 128, 0)
    assert colour_text((255, 128, 0)) == "#ff8000"
    assert code_of((255, 128, 0)) == 0xFF8000


@pytest.mark.parametrize(
    ("names", "values", "problem"),
    [
        (["a", "a"], None, "'a' twice"),
        ([], None, "0 names"),
        ([f"c{number}" for number in range(256)], None, "256 names"),
        (["a"], {1: "b"}, "maps 1 to 'b'"),
        (["a"], {"red": "a"}, "the key 'red'"),
        (["a"], {"#ff00": "a"}, "the key '#ff00'"),
        (["a", "b"], {1: "a", "#000000": "b"}, "mixes"),
    ],
)
def test_impossible_classes(names: list[str], values: dict[int | str, str] | None, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        class_map(names, values)
