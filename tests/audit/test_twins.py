"""Twins: planted copies are found, strangers are not, whatever the order."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from maskwright.audit.looks import look_of
from maskwright.audit.twins import Twins, find_twins

Photo = NDArray[np.uint8]


def photo(seed: int, height: int = 120, width: int = 160) -> Photo:
    """Clouds of several sizes."""
    random = np.random.default_rng(seed)
    clouds = sum(
        gaussian_filter(random.standard_normal((height, width, 3)), (size, size, 0)) * size
        for size in (2, 6, 16)
    )
    clouds = np.asarray(clouds)
    return np.asarray((clouds / clouds.std() * 45 + 128).clip(0, 255), np.uint8)


def changed(
    picture: Photo, *, crop: float = 0.0, corner: float = 0.0, scale: float = 1.0, quality: int = 95
) -> Photo:
    """`crop` of the height and the width is lost, a share `corner` of it above and at the left."""
    height, width = picture.shape[:2]
    rows, columns = int(crop * height), int(crop * width)
    top, left = int(corner * rows), int(corner * columns)
    part = picture[top : top + height - rows, left : left + width - columns]
    size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
    saved = io.BytesIO()
    Image.fromarray(part).resize(size, Image.Resampling.BICUBIC).save(saved, "JPEG", quality=quality)
    return np.asarray(Image.open(saved).convert("RGB"))


def twins(*pictures: Photo) -> list[Twins]:
    looks = [look_of(picture) for picture in pictures]
    return find_twins(np.stack([look.small for look in looks]), [look.digest for look in looks])


@pytest.mark.parametrize(
    "how",
    [
        {"scale": 0.5, "quality": 30},
        {"scale": 2.0, "quality": 30},
        {"crop": 0.05},
        {"crop": 0.05, "corner": 1.0},
        {"crop": 0.05, "corner": 1.0, "scale": 0.5, "quality": 30},
    ],
    ids=str,
)
def test_a_changed_copy_is_found_among_strangers(how: dict[str, float]) -> None:
    others = [photo(seed) for seed in range(30)]
    copy = changed(others[7], **how)  # type: ignore[arg-type]
    (pair,) = twins(*others, copy)
    assert (pair.first, pair.second) == (7, 30)
    assert 0.9 < pair.likeness < 1


def test_the_same_pixels_are_paired_with_the_first() -> None:
    one, other = photo(0), photo(1)
    assert twins(one, other, one, one) == [Twins(0, 2, 1.0), Twins(0, 3, 1.0)]


def test_the_order_decides_nothing() -> None:
    one, copy, other = photo(0), changed(photo(0), crop=0.05), photo(1)
    (there,), (back,) = twins(one, copy, other), twins(copy, one, other)
    assert abs(there.likeness - back.likeness) < 0.02


def test_same_light_other_things_are_no_twins() -> None:
    """A common vignette, which decides the low frequencies, under details of their own."""
    rows, columns = np.mgrid[-1:1:120j, -1:1:160j]
    light = 200 - 120 * (rows**2 + columns**2)[..., None] / 2
    scenes = [np.asarray((light + (photo(seed) - 128.0) * 0.3).clip(0, 255), np.uint8) for seed in range(6)]
    assert twins(*scenes) == []


def test_nothing_to_compare() -> None:
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert twins(photo(0)) == []
    assert twins(flat, flat + np.uint8(1)) == []
