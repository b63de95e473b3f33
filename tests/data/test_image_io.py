"""Every kind of file against Pillow's own transposition, and what broken ones get."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from maskwright.data.classes import class_map
from maskwright.data.dataset import open_dataset
from maskwright.data.image_io import (
    as_picture,
    image_channels,
    image_size,
    read_image,
    read_mask,
    save_mask,
    to_channels,
)
from maskwright.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 8), dtype=np.uint8)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"lossless": True} if ending == "webp" else {}
    path = _save(tmp_path / f"a.{ending}", Image.fromarray(COLOUR), exif=exif, **options)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    assert expected.shape[:2] == ((8, 5) if orientation >= 5 else (5, 8))
    np.testing.assert_array_equal(read_image(path, 3), expected)
    np.testing.assert_array_equal(read_mask(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_orientation_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    """exiftool and others append the chunk; the header alone does not show it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = _save(tmp_path / "a.png", Image.fromarray(GREY)).read_bytes()
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = plain.rindex(b"IEND") - 4
    path = tmp_path / "late.png"
    path.write_bytes(plain[:end] + chunk + plain[end:])
    assert image_size(path) == read_mask(path).shape == (8, 5)
    np.testing.assert_array_equal(read_mask(path), np.rot90(GREY, -1))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 3}, {"tile": (16, 16)}, {"compression": "zlib"}])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_in_planes_are_the_same_as_interleaved(
    tmp_path: Path, channels: int, layout: dict[str, Any], byteorder: Any
) -> None:
    """tifffile writes the same numbers twice, and reads them back as the oracle."""
    tifffile = pytest.importorskip("tifffile")
    deep = RNG.integers(0, 65536, (21, 37, channels), dtype=np.uint16)
    options = {"photometric": "rgb", "byteorder": byteorder} | (
        {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    )
    tifffile.imwrite(tmp_path / "a.tif", deep, **options)
    planes = deep.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "b.tif", planes, planarconfig="separate", **options, **layout)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), planes)
    together, apart = (read_image(tmp_path / name, channels) for name in ("a.tif", "b.tif"))
    np.testing.assert_array_equal(apart, together)
    assert np.abs(apart - deep / 257).max() <= 1
    np.testing.assert_array_equal(read_mask(tmp_path / "b.tif"), read_mask(tmp_path / "a.tif"))


def test_grey(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.fromarray(GREY))
    np.testing.assert_array_equal(read_image(path, 1), GREY[..., None])
    np.testing.assert_array_equal(read_image(path, 3), np.stack([GREY] * 3, 2))
    assert image_channels(path) == 1


def test_one_bit(tmp_path: Path) -> None:
    bits = GREY > 127
    path = _save(tmp_path / "a.png", Image.fromarray(bits))
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], bits * np.uint8(255))
    np.testing.assert_array_equal(read_mask(path), bits.astype(np.uint8))


def test_grey_with_alpha(tmp_path: Path) -> None:
    both = np.stack([GREY, GREY[::-1]], 2)
    path = _save(tmp_path / "a.png", Image.fromarray(both, "LA"))
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)
    np.testing.assert_array_equal(read_image(path, 4)[..., 3], GREY[::-1])
    np.testing.assert_array_equal(read_mask(path), GREY)
    assert image_channels(path) == 1


def test_colour_with_alpha(tmp_path: Path) -> None:
    whole = np.concatenate([COLOUR, GREY[..., None]], 2)
    path = _save(tmp_path / "a.png", Image.fromarray(whole))
    np.testing.assert_array_equal(read_image(path, 3), COLOUR)
    np.testing.assert_array_equal(read_image(path, 4), whole)
    np.testing.assert_array_equal(read_mask(path), COLOUR)


def _palette(path: Path, **options: object) -> tuple[Path, np.ndarray, np.ndarray]:
    indices = RNG.integers(0, 3, (5, 8), dtype=np.uint8)
    colours = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    return _save(path, image, **options), indices, colours


@pytest.mark.parametrize("ending", ["png", "gif", "bmp", "tif"])
def test_palette(tmp_path: Path, ending: str) -> None:
    path, indices, colours = _palette(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_image(path, 3), colours[indices])
    np.testing.assert_array_equal(read_mask(path), indices)
    np.testing.assert_array_equal(read_mask(path, colours=True), colours[indices])
    assert image_channels(path) == 3


def test_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    path, indices, colours = _palette(tmp_path / "a.png", transparency=1)
    np.testing.assert_array_equal(read_image(path, 3), colours[indices])
    np.testing.assert_array_equal(read_image(path, 4)[..., 3], np.where(indices == 1, 0, 255))


def test_palette_of_greys_is_grey(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    image.putpalette([level for grey in range(256) for level in (grey, grey, grey)])
    assert image_channels(_save(tmp_path / "a.png", image)) == 1


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits(tmp_path: Path, ending: str) -> None:
    deep = np.array([[0, 256, 257, 65535, 32768]], np.uint16)
    path = _save(tmp_path / f"a.{ending}", Image.fromarray(deep))
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], [[0, 1, 1, 255, 128]])
    np.testing.assert_array_equal(read_mask(path), deep)
    assert image_channels(path) == 1


def test_other_colour_spaces(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", Image.fromarray(COLOUR).convert("CMYK"), quality=95)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path, 3), np.array(image.convert("RGB")))


def test_floats(tmp_path: Path) -> None:
    whole = _save(tmp_path / "whole.tif", Image.fromarray(np.array([[0.0, 2.0]], np.float32)))
    np.testing.assert_array_equal(read_mask(whole), [[0, 2]])
    halves = _save(tmp_path / "halves.tif", Image.fromarray(np.array([[0.0, 0.5]], np.float32)))
    with pytest.raises(DataError, match=r"halves\.tif holds fractions"):
        read_mask(halves)
    with pytest.raises(DataError, match="floating-point"):
        read_image(halves, 1)


def test_to_channels_is_pillows_luma() -> None:
    oracle = np.array(Image.fromarray(COLOUR).convert("L"))
    np.testing.assert_array_equal(to_channels(COLOUR, 1)[..., 0], oracle)
    whole = np.concatenate([COLOUR, GREY[..., None]], 2)
    np.testing.assert_array_equal(to_channels(whole, 1)[..., 0], oracle)


@pytest.mark.parametrize("found", [1, 2, 3, 4])
@pytest.mark.parametrize("wanted", [1, 3, 4])
def test_to_channels_shapes(found: int, wanted: int) -> None:
    picture = RNG.integers(0, 256, (4, 6, found), dtype=np.uint8)
    result = to_channels(picture, wanted)
    assert result.shape == (4, 6, wanted)
    assert result.dtype == np.uint8
    if wanted == 4:
        expected = picture[..., -1] if found in (2, 4) else np.full((4, 6), 255)
        np.testing.assert_array_equal(result[..., 3], expected)
    if wanted == 3 and found <= 2:
        np.testing.assert_array_equal(result, picture[..., :1].repeat(3, 2))


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 13)])
def test_many_bands_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=f"{shape[2]} channels"):
        to_channels(np.zeros(shape, np.uint8), 3)


def test_as_picture() -> None:
    assert as_picture(GREY).shape == (5, 8, 1)
    assert as_picture(COLOUR) is COLOUR
    for wrong in (GREY.astype(np.float32) / 255, GREY[0]):
        with pytest.raises(DataError, match="a picture of type"):
            as_picture(wrong)


def test_what_broken_files_get(tmp_path: Path) -> None:
    whole = _save(tmp_path / "a.jpg", Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-800])
    text = tmp_path / "text.png"
    text.write_text("I am no picture")
    cut_png = tmp_path / "cut.png"
    cut_png.write_bytes(_save(tmp_path / "b.png", Image.fromarray(GREY)).read_bytes()[:60])
    for path, problem in (
        (cut, "cut.jpg cannot be decoded: image file is truncated"),
        (text, "text.png is no image"),
        (cut_png, "cut.png cannot be decoded"),
        (tmp_path / "none.png", "none.png is not there"),
    ):
        for read in (lambda path: read_image(path, 3), read_mask):
            with pytest.raises(DataError, match=problem) as caught:
                read(path)
            assert "\n" not in str(caught.value)
    assert image_size(cut) == (64, 64)


@pytest.mark.parametrize("side", [15_000, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    path = tmp_path / "bomb.png"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb\.png claims .*200,000,000"):
        read_image(path, 1)
    with pytest.raises(DataError, match=r"bomb\.png claims"):
        image_size(path)


def test_masks_come_back_as_they_were_saved(tmp_path: Path) -> None:
    classes = class_map(["a", "b", "c"], None, [(1, 2, 3), (4, 5, 6), (7, 8, 9)])
    mask = RNG.choice(np.array([0, 1, 2, 255], np.uint8), (7, 9))
    save_mask(tmp_path / "m.png", mask, classes)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), mask)
    painted = read_mask(tmp_path / "m.png", colours=True)
    np.testing.assert_array_equal(painted[mask == 1], np.broadcast_to([4, 5, 6], painted[mask == 1].shape))
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(DataError, match="unpack it first"):
        read_image(tmp_path / "z.zip", 3)
    with pytest.raises(DataError, match="unpack it first"):
        open_dataset(tmp_path / "z.zip")
