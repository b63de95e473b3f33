"""Decode pictures and masks: EXIF, palettes, grey, alpha, 1 and 16 bits. A mask is never interpolated."""

from __future__ import annotations

import io
import struct
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from maskwright.data.arrays import LARGEST, is_array, mapped, mask_of, picture_of, whole
from maskwright.data.classes import IGNORE, ClassMap, Raw
from maskwright.data.documents import check_plain
from maskwright.errors import DataError
from maskwright.files import write_bytes

if TYPE_CHECKING:
    from maskwright.tensors import Field, Mask, Picture

# Pillow would warn from 89 and refuse from 179 megapixels on; above LARGEST we refuse ourselves.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, LARGEST)

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2")
"""What a picture or a mask may end with when a folder is searched."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")
"""What a file may be. Pillow knows more: for EPS it starts Ghostscript, for FITS it unpacks without a limit."""

_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    OverflowError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ZeroDivisionError,
    MemoryError,
    struct.error,
)
"""What a decoder raises for bytes that make no sense."""

_LARGE = 1 << 25
"""Pixels from which on pictures are decoded one after the other: one of LARGEST takes 2 GB meanwhile."""
_one_at_a_time = threading.Lock()

_ORIENTATION, _PLANES, _BITS = 0x0112, 284, 258
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_SIXTEEN = ("I", "I;16", "I;16B", "I;16L", "I;16N")
DARK = 32
"""Brightest grey level of 255 that a picture of 16 bits may have before its numbers are thought to be of 12 bits."""
_TARGET = "a target is H x W of whole numbers or floats"
_IGNORE_COLOUR = (224, 224, 192)
"""As Pascal VOC paints its void."""


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file as Pillow sees it; whatever its decoder dislikes becomes one DataError."""
    try:
        check_plain(path)
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise DataError(
                    f"{path} claims {image.height} x {image.width} pixels, the limit is {LARGEST:,}",
                    _smaller(path),
                )
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there", "check the path") from error
    except UnidentifiedImageError as error:
        if zipfile.is_zipfile(path):
            raise DataError(f"{path} is an archive", "unpack it first, and give its folder") from error
        raise DataError(f"{path} is no image that can be read", "replace it or leave it out") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} claims far more than {LARGEST:,} pixels", _smaller(path)) from error
    except _FAULTS as error:
        raise DataError(
            f"{path} cannot be decoded: {_one_line(error)}", "replace it or leave it out"
        ) from error


def _smaller(path: Path) -> str:
    """What to do with a picture that is too large to be decoded whole."""
    smaller = "cut it into smaller pictures"
    if path.suffix.lower() in (".tif", ".tiff"):
        return f"{smaller}; in a data set, format: geotiff reads TIFFs of any size in windows"
    return smaller


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _deep_planes(image: Any) -> None:
    """Pillow unpacks 16 bits of a TIFF as if they were 8 where each channel lies in a plane of its own: say 16.

    What is compressed libtiff unpacks, which knows better.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_PLANES) == 2 and 16 in tags.get(_BITS, ()) and image.info.get("compression") == "raw":
        order = "B" if tags.prefix == b"MM" else "L"
        make = getattr(type(image.tile[0]), "_make", tuple)  # a plain tuple before Pillow 11
        image.tile = [make((*tile[:3], (f"{tile[3][0]};16{order}", *tile[3][1:]))) for tile in image.tile]


def _upright(image: Image.Image) -> None:
    """Decode, and turn as the EXIF orientation says."""
    _deep_planes(image)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)


@contextmanager
def _decoding(path: Path) -> Iterator[Image.Image]:
    """As `_opened`; of large pictures one at a time."""
    with _opened(path) as image:
        large = image.width * image.height > _LARGE
        with _one_at_a_time if large else nullcontext():
            _upright(image)
            yield image


def as_picture(array: NDArray[np.generic]) -> Picture:
    """HW or HWC uint8 -> HWC uint8. Raises DataError for anything else."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise DataError(
            f"a picture of type {array.dtype} and shape {array.shape}",
            "give HW or HWC, uint8 (numbers in [0, 1]: (255 * picture).round().astype('uint8'))",
        )
    return array[:, :, None] if array.ndim == 2 else array


def to_channels(array: Picture, channels: int) -> Picture:
    """HWC uint8 with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels -> HWC with 1, 3 or 4.

    Grey from colour is ITU-R 601-2 luma, rounded as Pillow rounds it; alpha is dropped, or 255 where it is
    new. Raises DataError for other numbers of channels.
    """
    found = array.shape[2]
    if found not in (1, 2, 3, 4) or channels not in (1, 3, 4):
        raise DataError(
            f"a picture with {found} channels cannot become one with {channels}", "1, 3 and 4 are known"
        )
    if found == channels:
        return array
    colour, alpha = (array[..., :-1], array[..., -1:]) if found in (2, 4) else (array, None)
    if channels == 1:
        return colour if colour.shape[2] == 1 else _luma(colour)
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    if channels == 3:
        return np.ascontiguousarray(colour)
    opaque = np.full_like(colour[..., :1], 255) if alpha is None else alpha
    return np.concatenate([colour, opaque], axis=2)


def _luma(colour: Picture) -> Picture:
    red, green, blue = (colour[..., band].astype(np.uint32) for band in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]


def read_image(path: Path, channels: int) -> Picture:
    """HWC uint8, upright, with 1, 3 or 4 channels. 16 bits become 8 by division by 257 (full range).

    Raises DataError: missing, no image, truncated, floating point, or larger than LARGEST.
    """
    if is_array(path):
        return to_channels(as_picture(np.array(picture_of(path))), channels)
    with _decoding(path) as image:
        if image.mode == "F":
            raise DataError(f"{path} holds floating-point numbers", "save it with 8 or 16 bits")
        if image.mode in _SIXTEEN:
            deep = np.asarray(image).astype(np.int64)
            if deep.min() < 0 or deep.max() > 65535:
                raise DataError(
                    f"{path} holds values from {deep.min()} to {deep.max()}", "save it with 8 or 16 bits"
                )
            return to_channels(((deep + 128) // 257).astype(np.uint8)[..., None], channels)
        if image.mode == "P":
            plain = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode in ("1", "L", "LA", "RGB", "RGBA"):
            plain = image.convert("L") if image.mode == "1" else image
        elif image.mode == "La":
            plain = image.convert("LA")
        else:
            plain = image.convert("RGBA" if image.mode in ("PA", "RGBa") else "RGB")
        return to_channels(as_picture(np.array(plain)), channels)


def is_dark(path: Path) -> bool:
    """Whether a grey picture of 16 bits uses so little of its range that it becomes almost black. Raises DataError."""
    header = file_header(path)
    return header is not None and header.mode in _SIXTEEN and 0 < int(read_image(path, 1).max()) < DARK


def read_mask(path: Path, *, colours: bool = False) -> Raw:
    """The raw values, upright: HW whole numbers (palette indices; 1 bit as 0 and 1), or HW3 uint8 colours.

    `colours` resolves a palette into its colours. Alpha is dropped. Arrays (.npy) hold labels or are one-hot
    (`arrays.mask_of`). Raises DataError as `read_image` does.
    """
    if is_array(path):
        return mask_of(path)
    with _decoding(path) as image:
        if image.mode == "1":
            return np.array(image).astype(np.uint8)
        if image.mode == "P" and colours:
            return np.array(image.convert("RGB"))
        if image.mode in ("L", "P", "RGB", *_SIXTEEN):
            return np.array(image)
        if image.mode in ("LA", "PA"):
            return np.array(image)[..., 0]
        if image.mode == "RGBA":
            return np.array(image)[..., :3]
        if image.mode == "F":
            return whole(np.asarray(image), path)
        return np.array(image.convert("RGB"))


def read_dense(path: Path) -> Field:
    """A dense target, upright: HW float32 in the file's own numbers, NaN where nothing is known.

    A grey image of 8 or 16 bits, a TIFF of floating point, or an array HW of numbers (.npy). Among whole numbers 0
    means that nothing is known, as depth cameras write it; among floating-point ones NaN and infinity do, and 0 is a
    value. Raises DataError: missing, truncated, more than one channel, a palette, pickled objects, larger than LARGEST.
    """
    if is_array(path):
        numbers = np.array(mapped(path, _TARGET, (2,)))
    else:
        with _decoding(path) as image:
            if image.mode not in ("L", "F", *_SIXTEEN):
                kind = (
                    "a palette"
                    if image.mode == "P"
                    else f"{len(image.getbands())} channel(s) of mode {image.mode}"
                )
                raise DataError(f"{path} has {kind}", "save the target as a grey image or as .npy of H x W")
            numbers = np.array(image)
    whole = numbers.dtype.kind in "iu"
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and so unknown
        field: Field = numbers.astype(np.float32)
    field[(numbers == 0) if whole else ~np.isfinite(field)] = np.nan
    return field


def dense_size(path: Path) -> tuple[int, int]:
    """(height, width) of a dense target, upright, without reading its numbers. Raises DataError."""
    if not is_array(path):
        return image_size(path)
    height, width = mapped(path, _TARGET, (2,)).shape
    return height, width


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) after EXIF, without decoding the pixels."""
    if is_array(path):
        height, width = mapped(path, "a picture is H x W or H x W x C of uint8").shape[:2]
        return height, width
    with _opened(path) as image:
        turned = (
            image.format != "TIFF" and _orientation(image, path) in _SIDEWAYS
        )  # Pillow turns a TIFF itself
        return (image.width, image.height) if turned else (image.height, image.width)


def _orientation(image: Image.Image, path: Path) -> object:
    # Pillow decodes a whole PNG before it answers getexif(): ask only where there is something to be found.
    early = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"} & set(image.info)
    if image.format == "PNG" and not early and not _has_late_text(path):
        return 1
    return image.getexif().get(_ORIENTATION, 1)


def _has_late_text(path: Path) -> bool:
    """Whether a PNG carries EXIF or text behind its pixels (PNG specification, 5.3: chunk layout)."""
    behind_pixels = False
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            behind_pixels = behind_pixels or kind == b"IDAT"
            if behind_pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            file.seek(length + 4, 1)
    return False


@dataclass(frozen=True)
class FileHeader:
    """How a picture or a mask is stored."""

    format: str
    """As Pillow names it: PNG, JPEG, TIFF, ..."""
    mode: str
    """As Pillow names it: L, P, RGB, I;16, ..."""
    height: int
    """As stored, before EXIF."""
    width: int
    orientation: int
    """EXIF, 1 to 8; 1 is upright."""


def file_header(path: Path) -> FileHeader | None:
    """Without decoding the pixels; None for an array. Raises DataError."""
    if is_array(path):
        return None
    with _opened(path) as image:
        turned = 1 if image.format == "TIFF" else _orientation(image, path)  # Pillow turns a TIFF itself
        upright = turned if isinstance(turned, int) and 1 <= turned <= 8 else 1
        return FileHeader(str(image.format), image.mode, image.height, image.width, upright)


def image_channels(path: Path) -> int:
    """1 for a grey file (a palette of greys included), otherwise 3; from the header alone."""
    if is_array(path):
        shape = mapped(path, "a picture is H x W or H x W x C of uint8").shape
        return 3 if len(shape) == 3 and shape[2] > 2 else 1
    with _opened(path) as image:
        if image.mode == "P":
            palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
            return 1 if (palette == palette[:, :1]).all() else 3
        return 1 if image.mode in _GREY else 3


def is_coloured(path: Path) -> bool:
    """Whether the file holds colours, neither grey levels nor palette indices. Raises DataError."""
    with _opened(path) as image:
        return image.mode not in (*_GREY, "P", "PA")


def mask_palette(classes: ClassMap) -> NDArray[np.uint8]:
    """The colours of all 256 values of a mask, 256 x 3."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = classes.colours
    palette[IGNORE] = _IGNORE_COLOUR
    return palette


def mask_png(mask: Mask, classes: ClassMap) -> bytes:
    """A palette PNG: the pixel value is the class id, IGNORE stays 255."""
    image = Image.fromarray(mask)
    image.putpalette(mask_palette(classes).tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def save_mask(path: Path, mask: Mask, classes: ClassMap) -> None:
    """`mask_png` as a file; whole or not there. Raises RunError."""
    write_bytes(path, mask_png(mask, classes))
