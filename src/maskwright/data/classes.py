"""ClassMap: what the numbers and colours of a mask mean."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskwright.config import suggest
from maskwright.errors import ConfigError, DataError

if TYPE_CHECKING:
    from maskwright.tensors import Mask

IGNORE = 255
"""`tensors.IGNORE`, repeated so that this module works without torch (a test keeps them equal)."""
MOST_CLASSES = 255
_AT_ONCE = 1 << 22

Colour: TypeAlias = tuple[int, int, int]
Raw: TypeAlias = NDArray[np.generic]
"""What a mask file holds: HW whole numbers or HW3 uint8 colours."""

# Okabe and Ito (2008): told apart by colour-blind eyes as well.
_FIRST_COLOURS: tuple[Colour, ...] = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def default_palette(classes: int) -> tuple[Colour, ...]:
    """`classes` different colours in 0..255: black, the seven of Okabe and Ito, then golden-angle hues."""
    colours = list(_FIRST_COLOURS[:classes])
    turn = 0
    while len(colours) < classes:
        hue, value = turn * 0.618034 % 1.0, (1.0, 0.75, 0.55)[turn % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, value)
        colour = (round(red * 255), round(green * 255), round(blue * 255))
        if colour not in colours:
            colours.append(colour)
        turn += 1
    return tuple(colours)


def parse_colour(text: str) -> Colour:
    """`"#ff8000"` -> (255, 128, 0). Raises ValueError."""
    digits = text.removeprefix("#")
    if len(digits) != 6 or not text.startswith("#"):
        raise ValueError(text)
    return (int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16))


def colour_text(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def code_of(value: int | Colour) -> int:
    """One whole number per raw value: the value itself, or 0xRRGGBB."""
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]


def codes_of(raw: Raw, coloured: bool) -> tuple[NDArray[np.generic], bool]:
    """HW or HW3 -> (HW codes, are they colours?).

    With `coloured`, grey v reads as the colour (v, v, v). Without, three equal channels read as one.
    """
    if raw.ndim == 2:
        if not coloured:
            return raw, False
        return raw.astype(np.int64) * 0x010101, True
    if not coloured and np.array_equal(raw[..., 0], raw[..., 1]) and np.array_equal(raw[..., 0], raw[..., 2]):
        return raw[..., 0], False
    wide = raw.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], True


def bands(raw: Raw) -> Iterator[slice]:
    """Rows of some four million pixels at a time: what is worked out per pixel takes many times a mask's room."""
    step = max(_AT_ONCE // max(raw.shape[1], 1), 1)
    return (slice(top, top + step) for top in range(0, raw.shape[0], step))


def is_grey(raw: Raw) -> bool:
    """Whether three channels are equal everywhere."""
    return all(
        np.array_equal(raw[rows, :, 0], raw[rows, :, channel]) for rows in bands(raw) for channel in (1, 2)
    )


def counted(raw: Raw, coloured: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """(codes that occur, in order; pixels of each; are they colours?), as `codes_of` of the whole would have them."""
    colours = coloured or (raw.ndim == 3 and not is_grey(raw))
    values, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for rows in bands(raw):
        codes, _ = codes_of(raw[rows], colours)
        if codes.dtype == np.uint8:
            pixels = np.bincount(codes.ravel(), minlength=256)
            found = pixels.nonzero()[0]
            pixels = pixels[found]
        else:
            found, pixels = np.unique(codes.astype(np.int64), return_counts=True)
        values, place = np.unique(np.concatenate([values, found]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, pixels])).astype(np.int64)
    return values, counts, colours


@dataclass(frozen=True)
class ClassMap:
    """K class names, their colours, and the raw mask values that mean them.

    `values`: raw value, or (red, green, blue), -> class id 0..K-1 or IGNORE. All keys are of one kind.
    `other`: what every unlisted value means; None makes it an error.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    values: Mapping[int | Colour, int] = field(default_factory=dict)
    other: int | None = None

    def __post_init__(self) -> None:
        if not self.colours:
            object.__setattr__(self, "colours", default_palette(len(self.names)))
        if not self.values:
            object.__setattr__(self, "values", {identity: identity for identity in range(len(self.names))})
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise ConfigError(
                f"classes lists {len(self.names)} names", f"1 to {MOST_CLASSES} fit into an 8-bit mask"
            )
        for name in self.names:
            if any(unicodedata.category(letter) == "Cc" for letter in name):
                raise ConfigError(f"classes lists {name!r}", "write it without control characters")
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ConfigError(f"classes lists {twice!r} twice", "give each class a name of its own")
        if len(self.colours) != len(self.names):
            raise ConfigError(
                f"{len(self.colours)} colours for {len(self.names)} classes", "give one for each"
            )
        if len({isinstance(key, int) for key in self.values}) > 1:
            raise ConfigError(
                "values mixes numbers and colours", "a mask holds the one or the other: use one kind of key"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def coloured(self) -> bool:
        """Whether masks are read as colours (a palette is then resolved) rather than as numbers."""
        return any(not isinstance(key, int) for key in self.values)

    def encode(self, raw: Raw, source: str) -> Mask:
        """HW whole numbers or HW3 uint8 -> HW uint8 class ids, IGNORE where nothing is known.

        Raises DataError that names `source`, the commonest unlisted value, its pixels and the next step.
        """
        encoded = np.empty(raw.shape[:2], np.uint8)
        grey = self.coloured or raw.ndim == 2 or is_grey(raw)
        for rows in bands(raw):
            codes, colours = codes_of(raw[rows], self.coloured or not grey)
            ids = self._ids_of_bytes[codes] if codes.dtype == np.uint8 else self._look_up(codes)
            unlisted = ids < 0
            if (colours and not self.coloured) or (unlisted.any() and self.other is None):
                values, counts, colours = counted(raw, self.coloured)
                self._refuse_colours(values, colours, source)
                self._refuse_unlisted(values, counts, source)
            encoded[rows] = ids if self.other is None else np.where(unlisted, np.int16(self.other), ids)
        return encoded

    def count(
        self, codes: Sequence[int], counts: Sequence[int], colours: bool, source: str
    ) -> NDArray[np.int64]:
        """The histogram of a mask's codes -> pixels per class [K]; ignored pixels are left out.

        Raises the DataError that `encode` would raise for that mask.
        """
        values, numbers = np.asarray(codes, np.int64), np.asarray(counts, np.int64)
        self._refuse_colours(values, colours, source)
        ids = self._look_up(values)
        if (ids < 0).any() and self.other is None:
            self._refuse_unlisted(values, numbers, source)
        inside = (ids >= 0) & (ids < len(self))
        pixels = np.bincount(ids[inside], weights=numbers[inside], minlength=len(self)).astype(np.int64)
        if self.other is not None and self.other < len(self):
            pixels[self.other] += numbers[ids < 0].sum()
        return pixels

    def to_values(self) -> dict[int | str, str]:
        """`values` as dataset.yaml writes it: `{1: "pet", "#ff0000": "car", "*": "ignore"}`."""
        names = dict(enumerate(self.names)) | {IGNORE: "ignore"}
        written: dict[int | str, str] = {
            key if isinstance(key, int) else colour_text(key): names[identity]
            for key, identity in self.values.items()
        }
        return written if self.other is None else written | {"*": names[self.other]}

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        ordered = sorted((code_of(key), identity) for key, identity in self.values.items())
        return np.array([code for code, _ in ordered], np.int64), np.array([i for _, i in ordered], np.int16)

    @cached_property
    def _ids_of_bytes(self) -> NDArray[np.int16]:
        return self._look_up(np.arange(256))

    def _look_up(self, codes: NDArray[np.generic]) -> NDArray[np.int16]:
        """Class id, IGNORE, or -1 for an unlisted code."""
        known, ids = self._table
        wide = codes.astype(np.int64)
        place = np.minimum(np.searchsorted(known, wide), len(known) - 1)
        return np.where(known[place] == wide, ids[place], np.int16(-1))

    def _refuse_colours(self, codes: NDArray[np.generic], colours: bool, source: str) -> None:
        if colours and not self.coloured:
            found = [f"#{int(code):06x}" for code in np.unique(codes)[:3]]
            raise DataError(
                f"{source} holds colours ({', '.join(found)} ...) where the classes are numbers",
                f'list them in dataset.yaml: values: {{"{found[-1]}": {self.names[-1]}}}',
            )

    def _refuse_unlisted(self, values: NDArray[np.generic], counts: NDArray[np.integer], source: str) -> None:
        missing = self._look_up(values) < 0
        worst = int(values[missing][counts[missing].argmax()])
        shown = f"#{worst:06x}" if self.coloured else str(worst)
        listed = list(self.to_values())
        identity = {key: name for key, name in self.values.items() if name != IGNORE} == {
            number: number for number in range(len(self))
        }
        end = f"the classes end at {len(self) - 1}" if identity else f"values lists {_few(listed)}"
        if identity and len(self) == 2 and {int(value) for value in values} <= {0, 255}:
            advice = f"did you mean values: {{0: {self.names[0]}, 255: {self.names[1]}}}?"
        elif source.lower().endswith((".jpg", ".jpeg")):
            advice = "JPEG blurs the values of a mask: export the masks as PNG"
        else:
            key = f'"{shown}"' if self.coloured else shown
            advice = f"map it in dataset.yaml: values: {{{key}: ignore}}, or name a class instead of ignore"
        raise DataError(f"{source} holds value {shown} in {counts[missing].max()} pixels, {end}", advice)


def _few(things: Sequence[object]) -> str:
    return ", ".join(str(thing) for thing in things[:8]) + (" ..." if len(things) > 8 else "")


def class_map(
    names: Sequence[str],
    values: Mapping[int | str, str] | None = None,
    colours: Sequence[Colour] = (),
) -> ClassMap:
    """What dataset.yaml says under `classes` and `values` -> ClassMap. Raises ConfigError."""
    ids = {name: identity for identity, name in enumerate(names)} | {"ignore": IGNORE}
    table: dict[int | Colour, int] = {}
    other: int | None = None
    for key, name in (values or {}).items():
        if name not in ids:
            raise ConfigError(f"values maps {key} to {name!r}", suggest(str(name), list(ids)))
        if key == "*":
            other = ids[name]
        elif isinstance(key, int) or key.isdecimal():
            table[int(key)] = ids[name]
        else:
            try:
                table[parse_colour(key)] = ids[name]
            except ValueError:
                raise ConfigError(
                    f"values has the key {key!r}", 'a key is a number, "#rrggbb" or "*"'
                ) from None
    return ClassMap(tuple(names), tuple(colours), table, other)
