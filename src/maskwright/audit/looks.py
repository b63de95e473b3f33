"""One look at every picture: decoded once, everything that an audit needs kept, and remembered."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from maskwright.data.fingerprint import recall
from maskwright.data.image_io import FileHeader, as_picture, file_header, to_channels
from maskwright.data.places import read_picture, read_row
from maskwright.data.sources.common import Frame, Place
from maskwright.errors import DataError
from maskwright.progress import SILENT, Progress

if TYPE_CHECKING:
    from maskwright.tensors import Picture

SMALL = 48
"""Side of the grey thumbnail by which twins are known."""
SIDE = 64
"""Side of the thumbnail that is measured: pictures of any size become comparable."""

_PERCENTILES = (1, 10, 50, 90, 99)
_STEEPNESS = (10, 50, 90, 97, 99.5)
_SCALES = (1, 2, 4, 8)
_PARTS = 4

FEATURES: tuple[str, ...] = (
    *(f"brightness, percentile {each}" for each in _PERCENTILES),
    "contrast",
    "skewness",
    "heaviness of the tails",
    "red against green",
    "yellow against blue",
    "spread of red against green",
    "spread of yellow against blue",
    "saturation",
    "spread of saturation",
    *(name for each in _SCALES for name in (f"detail of {each} px", f"unevenness of detail of {each} px")),
    "shape of the whole",
    "middle contrast of blocks",
    "spread of the contrast of blocks",
    "smoothest blocks",
    *(f"brightness of part {part}" for part in range(1, _PARTS**2)),
    *(f"steepness, percentile {each}" for each in _STEEPNESS),
    *(f"contrast of block {rank} of 36 in order" for rank in range(1, 37, 5)),
)
"""What is measured of a thumbnail of SIDE x SIDE: colour, texture and layout; nothing learned, nothing downloaded."""


@dataclass(frozen=True)
class Look:
    """What stays of a decoded picture."""

    header: FileHeader | None
    """None where the picture is no file of its own."""
    height: int
    """Upright."""
    width: int
    digest: str
    """Of the pixels."""
    darkest: int
    brightest: int
    small: UInt8[np.ndarray, "SMALL SMALL"]
    features: Float64[np.ndarray, " F"]


def look_at(places: Sequence[Place], progress: Progress = SILENT) -> list[Look | DataError]:
    """One look each, in order; a DataError where a file cannot be decoded to its last pixel."""
    paths = [place for place in places if not isinstance(place, Frame)]
    facts = recall("look/1", paths, _look_at_file, what="Looking at pictures", progress=progress)
    found: dict[Place, Look | DataError] = {
        path: fact if isinstance(fact, DataError) else _read(cast(dict[str, object], fact))
        for path, fact in zip(paths, facts, strict=True)
    }
    frames = [place for place in places if isinstance(place, Frame)]
    if frames:
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            with progress.task("Looking at pictures", len(frames)) as advance:
                for frame, look in zip(frames, pool.map(_look_at_frame, frames), strict=True):
                    found[frame] = look
                    advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return [found[place] for place in places]


def look_of(picture: Picture) -> Look:
    """The look of a decoded picture, HWC with 1 to 4 channels."""
    return _read(_measured(None, to_channels(picture, 3)))


def _look_at_frame(frame: Frame) -> Look:
    return look_of(as_picture(read_row(frame)))


def _look_at_file(place: Place) -> object:
    return _measured(file_header(place) if isinstance(place, Path) else None, read_picture(place, 3))


def _measured(header: FileHeader | None, picture: Picture) -> dict[str, object]:
    """A Look as JSON has it."""
    image = Image.fromarray(picture)
    small = np.asarray(image.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX))
    thumbnail = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    shape = f"{picture.shape}".encode()
    return {
        "header": None if header is None else asdict(header),
        "height": picture.shape[0],
        "width": picture.shape[1],
        "digest": hashlib.sha256(shape + np.ascontiguousarray(picture).tobytes()).hexdigest()[:16],
        "darkest": int(picture.min()),
        "brightest": int(picture.max()),
        "small": base64.b64encode(small.tobytes()).decode(),
        "features": [round(value, 5) for value in measure(thumbnail, small).tolist()],
    }


def _read(kept: dict[str, object]) -> Look:
    values = dict(kept)
    header = cast(dict[str, object] | None, values.pop("header"))
    small = np.frombuffer(base64.b64decode(cast(str, values.pop("small"))), np.uint8)
    return Look(
        header=None if header is None else FileHeader(**header),  # type: ignore[arg-type]
        small=small.reshape(SMALL, SMALL),
        features=np.array(values.pop("features"), np.float64),
        **values,  # type: ignore[arg-type]
    )


def measure(
    thumbnail: UInt8[np.ndarray, "SIDE SIDE 3"], small: UInt8[np.ndarray, "SMALL SMALL"]
) -> Float64[np.ndarray, " F"]:
    """FEATURES of a picture, most of them on a logarithmic scale or in 0 .. 1."""
    colour = thumbnail / 255.0
    red, green, blue = (colour[..., band] for band in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    opponents = red - green, (red + green) / 2 - blue
    saturation = colour.max(-1) - colour.min(-1)
    contrast = grey.std()
    z = (grey - grey.mean()) / (contrast + 1e-3)

    detail, low = [], grey
    for scale in _SCALES:
        smooth = gaussian_filter(low, scale)
        band, low = low - smooth, smooth
        detail += [_log(band.std()), _log((band**4).mean() ** 0.25 / (band.std() + 1e-3))]

    blocks = grey.reshape(8, SIDE // 8, 8, SIDE // 8).std((1, 3))
    tiny = small / 255.0
    part = SMALL // _PARTS
    layout = tiny.reshape(_PARTS, part, _PARTS, part).mean((1, 3)).ravel()
    slopes = np.hypot(np.diff(tiny, axis=1)[:-1], np.diff(tiny, axis=0)[:, :-1])
    ordered = np.sort(tiny.reshape(6, SMALL // 6, 6, SMALL // 6).std((1, 3)), axis=None)
    return np.array(
        [
            *np.percentile(grey, _PERCENTILES),
            contrast,
            3 * np.tanh((z**3).mean() / 3),
            np.log((z**4).mean() + 1),
            *(opponent.mean() for opponent in opponents),
            *(opponent.std() for opponent in opponents),
            saturation.mean(),
            saturation.std(),
            *detail,
            _log(low.std()),
            _log(np.median(blocks)),
            _log(blocks.std()),
            _log(np.percentile(blocks, 10)),
            *(layout - layout.mean())[:-1],
            *(_log(each) for each in np.percentile(slopes, _STEEPNESS)),
            *(_log(each) for each in ordered[::5]),
        ]
    )


def _log(value: float) -> float:
    """Steps are ratios; what is below a thousandth of the range is nothing."""
    return float(np.log(value + 1e-3))
