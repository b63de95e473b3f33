"""Whether a picture is looked at whole or in tiles, in which, and what is worth saying about that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from maskwright.data.arrays import LARGEST
from maskwright.errors import ConfigError, DataError
from maskwright.predict.model_folder import ModelSpec
from maskwright.predict.reach import Context
from maskwright.predict.tiles import Stretch, stretches

EASY = 1 << 22
"""Pixels up to which a network of `fit=crop` looks at a picture whole, where nothing is asked: a map of 32 channels
takes half a gigabyte then. Beyond, tiles that give what one look gives are cheaper."""
WHOLE = 1 << 24
"""The same of a network whose tiles do not give that, and of looks that tiles are compared with."""
TILES = (384, 512, 1024)
"""Sides of the tiles that it is cut into then: the smallest that holds FEWEST reaches, because memory holds a tile."""
BLEND = 4
"""Neighbours share one part in so many of a tile where what they should share, twice the reach, is over half of it."""
FEWEST = 4
"""Strides in a tile, at least, and reaches in one that gives what one look gives: half of it may be shared, and what
begins at a stride has to leave something over."""


class Looks(Protocol):
    """What decides about tiles of a predictor, an ensemble, an exported model."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def context(self) -> Context: ...


@dataclass(frozen=True)
class Layout:
    """How a picture of one size is cut."""

    size: tuple[int, int]
    """Of the picture: height, width."""
    tile: tuple[int, int]
    """Of every tile: height, width."""
    rows: tuple[Stretch, ...]
    columns: tuple[Stretch, ...]
    exact: bool
    """The result is that of one look, but for rounding."""
    notes: tuple[str, ...]
    """For a person; in the words of the command line."""

    @property
    def tiles(self) -> int:
        return len(self.rows) * len(self.columns)


def choose_layout(model: Looks, size: tuple[int, int], asked: tuple[int, int] | None = None) -> Layout | None:
    """None: the picture is looked at whole. `size` and `asked` (a tile) are height, width in the picture's own pixels.

    Raises ConfigError for a tile that is none, DataError for a picture that has to be cut, and nobody said how.
    """
    if asked is not None and not all(side >= 1 and math.prod(asked) <= LARGEST for side in asked):
        raise ConfigError(
            f"--tile {_size(asked, ',')} is no size", "write height,width such as --tile 512,512"
        )
    if min(size) < 1:
        raise DataError(f"a picture of {_size(size)} has no pixels", "leave it out")
    if model.spec.input.fit == "crop":
        return _at_native_scale(model, size, asked)
    return _resized(model, size, asked)


def _at_native_scale(model: Looks, size: tuple[int, int], asked: tuple[int, int] | None) -> Layout | None:
    if asked is None and (
        math.prod(size) <= EASY or (math.prod(size) <= WHOLE and not _exact(model.context))
    ):
        return None
    if asked is not None and _fits(size, asked):
        return None
    context = model.context
    smallest = FEWEST * context.stride
    tile = asked or (_side(context), _side(context))
    if min(tile) < smallest:
        raise ConfigError(
            f"--tile {_size(tile, ',')} is too small for this network, whose coarsest map has a pixel in "
            f"{context.stride}",
            f"take at least {smallest},{smallest}",
        )
    short = [side for side, length in zip(tile, size, strict=True) if side < length]
    cut = min(short, default=max(tile))
    if context.whole:
        note = (
            f"this network looks at the whole picture, and each tile of {_size(tile)} is one to it: blended over "
            f"{cut // BLEND} pixels; --check-seams says how far that is from one look"
        )
        return _cut(size, tile, notes=[note])
    if FEWEST * context.reach <= cut:
        return _cut(size, tile, context.stride, context.reach, exact=True)
    enough = -(-FEWEST * context.reach // context.stride) * context.stride
    note = (
        f"this network looks {context.reach} pixels far, more than a quarter of a tile of {_size(tile)}: blended "
        f"over {cut // BLEND} pixels; --tile {enough},{enough} would give what one look gives, --check-seams says "
        "how far this is from it"
    )
    return _cut(size, tile, context.stride, notes=[note])


def _resized(model: Looks, size: tuple[int, int], asked: tuple[int, int] | None) -> Layout | None:
    """Tiles are shrunk or enlarged to the network's input, as the pictures of its training were."""
    seen = model.spec.seen
    learned = seen.size if seen is not None and seen.tiles else None
    tile = asked or learned
    if tile is None or _fits(size, tile):
        if math.prod(size) > LARGEST:
            raise DataError(
                f"a picture of {_size(size)} is too large to be looked at whole, and {_training(model.spec)}",
                "cut it with --tile H,W: as much of it as a training picture showed",
            )
        return None
    notes = [] if tile == learned else [_scales(model.spec, tile)]
    scale = max(side / of for side, of in zip(tile, model.spec.input.size, strict=True))
    context = model.context
    reach = math.ceil(context.reach * scale)
    if context.whole or FEWEST * reach > min(tile):
        return _cut(size, tile, notes=notes)
    return _cut(size, tile, margin=reach, notes=notes)


def _cut(
    size: tuple[int, int],
    tile: tuple[int, int],
    stride: int = 1,
    margin: int | None = None,
    *,
    exact: bool = False,
    notes: list[str] | None = None,
) -> Layout:
    """`margin`: pixels at the border of a tile that are not believed; None: all are, the outer ones less."""
    rows, columns = (
        tuple(
            stretches(
                length,
                -(-side // stride) * stride,
                side // BLEND if margin is None else 2 * margin,
                stride,
                margin or 0,
            )
        )
        for length, side in zip(size, tile, strict=True)
    )
    sides = len(rows[0].shares), len(columns[0].shares)
    return Layout(size, sides, rows, columns, exact, tuple(notes or ()))


def _side(context: Context) -> int:
    if context.whole:
        return TILES[1]
    return next((side for side in TILES if FEWEST * context.reach <= side), TILES[-1])


def _exact(context: Context) -> bool:
    """Whether tiles of that side give what one look gives."""
    return not context.whole and FEWEST * context.reach <= TILES[-1]


def _fits(size: tuple[int, int], tile: tuple[int, int]) -> bool:
    return size[0] <= tile[0] and size[1] <= tile[1]


def _scales(spec: ModelSpec, tile: tuple[int, int]) -> str:
    """What a model that resizes all it sees is shown in tiles, and what it learned on."""
    here = _scale(tile, spec)
    return f"{_training(spec)}; a tile of {_size(tile)} is shown to it at {here} of its size"


def _training(spec: ModelSpec) -> str:
    into = _size(spec.input.size)
    if spec.seen is None:
        return f"this model resizes all that it sees to {into}, and does not say what it was trained on"
    what = "tiles" if spec.seen.tiles else "whole pictures"
    return (
        f"this model was trained on {what} of about {_size(spec.seen.size)}, each resized to {into}, "
        f"{_scale(spec.seen.size, spec)} of its size"
    )


def _scale(native_hw: tuple[int, int], spec: ModelSpec) -> str:
    down, across = (to / of for to, of in zip(spec.input.size, native_hw, strict=True))
    if spec.input.fit == "letterbox":
        down = across = min(down, across)
    return (
        f"{down:.2f}" if f"{down:.2f}" == f"{across:.2f}" else f"{down:.2f} (down) and {across:.2f} (across)"
    )


def _size(size: tuple[int, int], between: str = " x ") -> str:
    return between.join(map(str, size))
