"""Pictures that are drawn by formulas: for the demo, for tests, and where no real data may be carried along.

`terrain`: 64 x 128 grey pictures of a planet in slanting light, five classes with the shares of the Mars set of
document 003 (2,615 pictures; `big rock` has 0.13 % of the pixels, in 2.5 % of the pictures; about 4 % of the
training pictures are spoilt and share one identical mask). All grounds have the same mean grey and the same
contrast; what tells them apart is texture, so that no threshold can.

`shapes`: 96 x 96 colour pictures of tiles on a crumpled cloth, background and shape. Both are dyed with the same
colours; a shape is known by its outline and by its even surface.

All randomness is counted from (seed, split, chunk): the pictures depend on nothing else.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Bool, Float32, UInt8
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from maskwright.config import suggest
from maskwright.data.folders import build_folder
from maskwright.errors import DataError
from maskwright.files import cache_folder

VERSION = 1
"""Counted up whenever a pixel changes."""

TERRAIN_CLASSES = ("background", "soil", "bedrock", "sand", "big rock")
BACKGROUND, SOIL, BEDROCK, SAND, BIG_ROCK = range(5)
TERRAIN_SHARES = (0.24, 0.35, 0.23, 0.18)
"""Of the pixels, aimed at, before big rocks cover 0.0013 of them."""
ROCK_PICTURES = 0.025
ROCK_AREA = 0.0013 / ROCK_PICTURES
"""Share of such a picture."""
SPOILT = 0.042
"""Spoilt training pictures per clean one."""
CHUNK = 128
"""Pictures drawn at once: a few fields of them stay within the processor's cache."""

Field = Float32[np.ndarray, "N H W"]


@dataclass(frozen=True)
class Pictures:
    """One split."""

    images: UInt8[np.ndarray, "N H W *C"]
    masks: UInt8[np.ndarray, "N H W"]
    ids: tuple[str, ...]
    spoilt: Bool[np.ndarray, " N"]
    """Which of them are nonsense."""


@dataclass(frozen=True)
class Kind:
    """A data set of this module: its classes, how many pictures by default, and who draws a split."""

    classes: tuple[str, ...]
    counts: Mapping[str, int]
    draw: Callable[[int, str, int], Pictures]
    """(number of clean pictures, split, seed) -> pictures."""


def materialise(name: str, *, seed: int = 0, **counts: int) -> Path:
    """The dataset.yaml of a generated data set, drawn into the cache when it is not there yet.

    `name` is a key of KINDS, with or without `synthetic:` in front; `counts` changes the number of clean pictures
    of `train`, `validation` or `test`. Beside the dataset.yaml lie train.npz, val.npz and test.npz (images, masks,
    ids) and spoilt.txt, the ids of nonsense. Raises DataError for an unknown name.
    """
    name = name.removeprefix("synthetic:")
    if name not in KINDS:
        raise DataError(f"there is no synthetic:{name}", suggest(name, list(KINDS)))
    kind = KINDS[name]
    numbers = {**kind.counts, **counts}
    key = f"{name}-v{VERSION}-seed{seed}-{'-'.join(str(numbers[split]) for split in kind.counts)}"
    folder = cache_folder() / "synthetic" / key
    if not folder.is_dir():
        build_folder(folder, partial(_write, kind=kind, name=name, seed=seed, numbers=numbers))
    return folder / "dataset.yaml"


def _write(folder: Path, kind: Kind, name: str, seed: int, numbers: Mapping[str, int]) -> None:
    files = {"train": "train.npz", "validation": "val.npz", "test": "test.npz"}
    spoilt: list[str] = []
    for split, file in files.items():
        drawn = kind.draw(numbers[split], split, seed)
        _save_npz(folder / file, images=drawn.images, masks=drawn.masks, ids=np.array(drawn.ids))
        spoilt += [drawn.ids[row] for row in np.flatnonzero(drawn.spoilt)]
    (folder / "spoilt.txt").write_text("".join(f"{line}\n" for line in spoilt), encoding="utf-8")
    values = {"format": "npz", "splits": files, "classes": list(kind.classes)}
    text = f"# synthetic:{name}, seed {seed}\n" + yaml.safe_dump(
        values, sort_keys=False, default_flow_style=None
    )
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")


def _save_npz(path: Path, **arrays: np.ndarray) -> None:
    """np.savez without the time of day in it: the same pictures are the same bytes, hence the same fingerprint."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _drawn_in_chunks(
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]], count: int, *counters: int
) -> tuple[np.ndarray, np.ndarray]:
    """`draw(random, n)` for chunks of up to CHUNK pictures, each with its own counted randomness."""
    drawn = [
        draw(np.random.default_rng([*counters, start]), min(CHUNK, count - start))
        for start in range(0, count, CHUNK)
    ]
    images, masks = zip(*drawn, strict=True)
    return np.concatenate(images), np.concatenate(masks)


# Random fields


@lru_cache(maxsize=64)
def _kernel(side: int, length: float) -> Float32[np.ndarray, "side knots"]:
    """Gaussian bumps around knots that lie `length` pixels apart; each pixel's weights have the norm 1."""
    pixels, knots = np.arange(side), np.arange(-2 * length, side + 2 * length, length)
    bumps = np.exp(-(((pixels[:, None] - knots) / length) ** 2))
    return np.asarray(bumps / np.linalg.norm(bumps, axis=1, keepdims=True), np.float32)


def _field(
    random: np.random.Generator, count: int, hw: tuple[int, int], length: tuple[float, float]
) -> Field:
    """Smooth noise: every pixel is N(0, 1), and pixels `length` (down, across) apart hardly know of each other.

    A separable interpolation of white noise on a coarse grid, K_down Z K_across^T, as two large products.
    """
    down, across = _kernel(hw[0], length[0]), _kernel(hw[1], length[1])
    noise = random.standard_normal((count * across.shape[1], down.shape[1]), dtype=np.float32)
    columns = (noise @ down.T).reshape(count, across.shape[1], hw[0])
    rows = columns.swapaxes(1, 2).reshape(count * hw[0], across.shape[1])
    return np.asarray(rows @ across.T).reshape(count, *hw)


def _per_picture(
    random: np.random.Generator, count: int, low: float, high: float
) -> Float32[np.ndarray, "N 1 1"]:
    return random.uniform(low, high, (count, 1, 1)).astype(np.float32)


# Terrain

HW = (64, 128)
_DOWN = np.linspace(-1, 1, HW[0], dtype=np.float32)[:, None]
_ACROSS = np.linspace(-2, 2, HW[1], dtype=np.float32)
"""Pixel centres in units of half the height: circles are round."""


def _terrain(count: int, split: str, seed: int) -> Pictures:
    number = ("train", "validation", "test").index(split)
    images, masks = _drawn_in_chunks(_landscapes, count, seed, number)
    random = np.random.default_rng([seed, number])
    rocky = random.choice(count, max(round(ROCK_PICTURES * count), 1), replace=False)
    images[rocky], masks[rocky] = _with_rock(random, images[rocky], masks[rocky])
    spoilt = np.zeros(count, bool)
    if split == "train":
        extra = round(SPOILT * count)
        nonsense, cover = _spoilt(random, extra)
        order = random.permutation(count + extra)
        images = np.concatenate([images, nonsense])[order]
        masks = np.concatenate([masks, cover])[order]
        spoilt = order >= count
    ids = tuple(f"{split}_{row:05d}" for row in range(len(images)))
    return Pictures(images, masks, ids, spoilt)


def _to_bytes(images: Float32[np.ndarray, "*any"]) -> UInt8[np.ndarray, "*any"]:
    """[0, 1] -> 0 .. 255."""
    return np.asarray(np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def _landscapes(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, masks) [N H W] without big rocks."""
    masks = _ground(random, count)
    sun = _per_picture(random, count, -1, 1)
    dust = _field(random, count, HW, (1, 1))
    texture = np.zeros_like(dust)
    for ground, relief in ((BACKGROUND, _far), (SOIL, _soil), (BEDROCK, _bedrock), (SAND, _sand)):
        np.copyto(texture, _lit(relief(random, dust), sun), where=masks == ground)
    return _exposed(random, texture), masks


@lru_cache(maxsize=1)
def _horizon() -> Float32[np.ndarray, "H 1"]:
    """Per row, above which value of a N(0, 1) field the background begins: likelier at the top, 0.24 overall."""
    slope = -0.7 * _DOWN.astype(np.float64)
    level = brentq(lambda level: ndtr(slope - level).mean() - TERRAIN_SHARES[BACKGROUND], -5, 5)
    return np.asarray(level - slope, np.float32)


def _ground(random: np.random.Generator, count: int) -> UInt8[np.ndarray, "N H W"]:
    """Classes by thresholds on smooth fields with ragged edges. As the fields are N(0, 1), shares are exact."""

    def patches() -> Field:
        broad, ragged = _field(random, count, HW, (16, 26)), _field(random, count, HW, (4, 6))
        return np.float32(math.sqrt(0.94)) * broad + np.float32(math.sqrt(0.06)) * ragged

    far, soil, bedrock, sand = TERRAIN_SHARES
    masks = np.full((count, *HW), SOIL, np.uint8)
    masks[patches() > ndtri(1 - sand / (soil + sand))] = SAND
    masks[patches() > ndtri(1 - bedrock / (1 - far))] = BEDROCK
    masks[patches() > _horizon()] = BACKGROUND
    return masks


def _lit(height: Field, sun: Float32[np.ndarray, "N 1 1"]) -> Field:
    """Slanting light on a relief: slopes towards the sun are bright. Mean 0, deviation 1 in each picture."""
    down, across = (
        np.diff(height, axis=1, append=height[:, -1:]),
        np.diff(height, axis=2, append=height[:, :, -1:]),
    )
    slope = across * np.cos(sun) + down * np.sin(sun)
    return np.asarray(slope / slope.std(axis=(1, 2), keepdims=True))


def _far(random: np.random.Generator, dust: Field) -> Field:
    """Hills in the haze: nothing small is left of them."""
    return _field(random, len(dust), HW, (6, 10))


def _soil(random: np.random.Generator, dust: Field) -> Field:
    """Dust, and pebbles where the noise is high."""
    pebbles = np.maximum(_field(random, len(dust), HW, (2, 2)) - 1.2, 0)
    return np.asarray(0.15 * dust + 2 * pebbles)


def _bedrock(random: np.random.Generator, dust: Field) -> Field:
    """Plates: steps between level pieces."""
    steps = np.floor(
        1.2 * _field(random, len(dust), HW, (6, 11)) + 0.35 * _field(random, len(dust), HW, (3, 3))
    )
    return np.asarray(steps + 0.03 * dust)


def _sand(random: np.random.Generator, dust: Field) -> Field:
    """Ripples across the wind, meandering."""
    wind = _per_picture(random, len(dust), -1.0, 1.0)
    wavelength = _per_picture(random, len(dust), 4.5, 7.5) / (HW[0] / 2)
    along = _ACROSS * np.cos(wind) + _DOWN * np.sin(wind)
    phase = 2 * np.pi * along / wavelength + 1.6 * _field(random, len(dust), HW, (12, 12))
    return np.asarray(np.sin(phase) + 0.1 * dust)


def _exposed(random: np.random.Generator, texture: Field) -> UInt8[np.ndarray, "N H W"]:
    """What the camera makes of it: uneven light, another exposure each time, noise."""
    count = len(texture)
    turn = _per_picture(random, count, 0, 2 * np.pi)
    gradient = _per_picture(random, count, 0, 0.1) * (_ACROSS * np.cos(turn) + _DOWN * np.sin(turn))
    clouds = 0.07 * _field(random, count, HW, (22, 30))
    contrast = _per_picture(random, count, 0.06, 0.12)
    exposure = _per_picture(random, count, 0.35, 0.6)
    noise = 0.015 * random.standard_normal(texture.shape, dtype=np.float32)
    # tanh: a lens does not pass single glints, and rare bright pixels would tell the grounds apart.
    return _to_bytes(exposure + gradient + clouds + contrast * 1.5 * np.tanh(texture / 1.5) + noise)


def _with_rock(
    random: np.random.Generator, images: UInt8[np.ndarray, "N H W"], masks: UInt8[np.ndarray, "N H W"]
) -> tuple[np.ndarray, np.ndarray]:
    """One boulder in each picture, lit from one side, its shadow on the other."""
    count = len(images)
    radius = np.sqrt(
        ROCK_AREA * 8 / np.pi * _per_picture(random, count, 0.6, 1.4)
    )  # the picture's area is 2 x 4
    flat = _per_picture(random, count, 0.75, 0.95)
    down = (_DOWN - _per_picture(random, count, -0.2, 0.6)) / (radius * flat)
    across = (_ACROSS - _per_picture(random, count, -1.4, 1.4)) / (radius / flat)
    side = np.where(random.random((count, 1, 1)) < 0.5, -1, 1).astype(np.float32)
    bumps = 0.1 * _field(random, count, HW, (7, 7)) + 0.06 * _field(random, count, HW, (3, 3))
    distance = np.hypot(down, across) + bumps
    shadow = np.hypot((down - 0.45) / 0.6, (across + 0.7 * side) / 1.2)
    height = np.sqrt(np.clip(1 - distance**2, 0, None))
    glow = 0.55 * side * across - 0.5 * down + 0.35 * height + 2 * bumps
    stone = images.mean(axis=(1, 2), keepdims=True) / 255 + 0.3 * np.tanh(glow) - 0.04
    stone = stone + 0.05 * _lit(_field(random, count, HW, (1.4, 1.4)), np.zeros((1, 1, 1), np.float32))
    inside = distance < 1
    dark = 1 - 0.55 / (1 + np.exp(np.clip((shadow - 1) * 12, -30, 30)))
    scene = np.where(inside, stone, images / np.float32(255) * dark)
    return _to_bytes(scene), np.where(inside, np.uint8(BIG_ROCK), masks)


def _spoilt(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Visitors before a landscape. All have the same mask, of a landscape that no picture shows."""
    images, masks = _landscapes(random, count + 1)
    scene = images[1:] / np.float32(255)
    size = _per_picture(random, count, 0.55, 0.95)
    down = (_DOWN - _per_picture(random, count, -0.2, 0.2)) / size
    across = (_ACROSS - _per_picture(random, count, -1.0, 1.0)) / size
    face = np.hypot(across / (0.72 - 0.25 * np.clip(down, -1, 1)), down)
    lean = np.abs(across) - 0.32
    eyes = np.hypot((lean + 0.5 * (down + 0.05)) / 0.2, (down + 0.05 - 0.4 * lean) / 0.26)
    glint = np.hypot(lean + 0.03, down + 0.15)
    mouth = np.hypot(across / 0.16, (down - 0.62) / 0.03)
    skin = 0.78 - 0.3 * face**2 + 0.02 * _field(random, count, HW, (1, 1))
    scene = np.where(face < 1, skin, scene)
    scene = np.where(((eyes < 1) | (mouth < 1)) & (face < 1), 0.06, scene)
    scene = np.where((glint < 0.06) & (face < 1), 0.95, scene)
    return _to_bytes(scene), np.repeat(masks[:1], count, axis=0)


# Shapes

SIDE = 96
_Y = np.linspace(-1, 1, SIDE, dtype=np.float32)[:, None]
_X = np.linspace(-1, 1, SIDE, dtype=np.float32)
PIXEL = 2 / (SIDE - 1)


def _shapes(count: int, split: str, seed: int) -> Pictures:
    images, masks = _drawn_in_chunks(_tables, count, seed, ("train", "validation", "test").index(split))
    ids = tuple(f"{split}_{row:05d}" for row in range(count))
    return Pictures(images, masks, ids, np.zeros(count, bool))


def _tables(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(images [N H W 3], masks [N H W]): one to three tiles on a printed, crumpled cloth."""
    hw = (SIDE, SIDE)
    sun = _per_picture(random, count, -np.pi, np.pi)
    dye = ndtr(1.3 * _field(random, count, hw, (16, 16)))  # 0: the first colour, 1: the second
    for _ in range(4):
        spot, _, _ = _outline(random, count, 0.12, 0.3)
        dye += _clipped(spot) * (_per_picture(random, count, 0, 1) - dye)
    light = 1 + 0.16 * np.tanh(_lit(_field(random, count, hw, (5, 5)), sun))
    light += 0.05 * np.sin(_X * np.float32(80)) * np.sin(_Y * np.float32(80))  # the weave
    masks = np.zeros((count, *hw), np.uint8)
    for tile in range(3):
        there = random.random((count, 1, 1)) < (1.0, 0.65, 0.35)[tile]
        inside, y, x = _outline(random, count, 0.25, 0.55)
        cover = _clipped(inside) * there
        # The shadow is the outline itself, away from the sun: how far a pixel there lies outside of the tile.
        away = (x * np.cos(sun) + y * np.sin(sun)) / np.hypot(x, y).clip(PIXEL)
        shadow = np.exp(-((inside.clip(None, 0) / 0.12) ** 2)) * (0.5 - 0.5 * away) * there
        light *= 1 - 0.45 * shadow
        rim = np.exp(-((inside / 0.06) ** 2)) * away
        stripes = np.sin(_per_picture(random, count, 0, 26) * (x + y))
        surface = _per_picture(random, count, 0, 1) + _per_picture(random, count, 0, 0.3) * np.sign(stripes)
        light += cover * (1 + 0.3 * rim - light)
        dye += cover * (surface.clip(0, 1) - dye)
        masks[cover > 0.5] = 1
    first, second = (random.uniform(0.15, 0.9, (count, 1, 1, 3)).astype(np.float32) for _ in range(2))
    colour = first + dye[..., None] * (second - first)
    noise = 0.02 * random.standard_normal(colour.shape, dtype=np.float32)
    return _to_bytes(colour * light[..., None] + noise), masks


def _clipped(inside: Field) -> Field:
    """Share of a pixel that is covered, from its depth inside an outline."""
    return np.clip(inside / np.float32(PIXEL) + 0.5, 0, 1)


def _outline(
    random: np.random.Generator, count: int, small: float, large: float
) -> tuple[Field, Field, Field]:
    """A random ellipse, polygon or wavy disc per picture: depth inside its edge (negative outside), and y, x."""
    y = _Y - _per_picture(random, count, -0.75, 0.75)
    x = _X - _per_picture(random, count, -0.75, 0.75)
    turn, stretch = _per_picture(random, count, 0, np.pi), _per_picture(random, count, 0.75, 1.33)
    along, across = (
        (x * np.cos(turn) + y * np.sin(turn)) * stretch,
        (y * np.cos(turn) - x * np.sin(turn)) / stretch,
    )
    angle, corners = np.arctan2(across, along), random.integers(3, 7, (count, 1, 1)).astype(np.float32)
    sector = np.float32(np.pi) / corners
    polygon = np.cos(sector) / np.cos(np.mod(angle, 2 * sector) - sector)
    wavy = 0.85 + _per_picture(random, count, 0, 0.15) * np.cos(corners * angle)
    radius = _per_picture(random, count, small, large)
    edge = radius * np.where(random.random((count, 1, 1)) < 0.5, polygon, wavy)
    return np.asarray(edge - np.hypot(along, across), np.float32), y, x


KINDS: dict[str, Kind] = {
    "terrain": Kind(TERRAIN_CLASSES, {"train": 2505, "validation": 280, "test": 2000}, _terrain),
    "shapes": Kind(("background", "shape"), {"train": 400, "validation": 60, "test": 200}, _shapes),
}
