from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskwright.metrics.pictures import FACTS, facts


def test_facts_of_a_grey_picture_against_scipy() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (17, 23, 1)).astype(np.uint8)
    grey = picture[..., 0] / 255
    laplacian = ndimage.laplace(grey)[1:-1, 1:-1]
    assert facts(picture) == pytest.approx([17, 23, grey.mean(), grey.std(), laplacian.var()], rel=1e-5)
    assert len(FACTS) == 5


def test_colour_is_weighed_as_the_eye_does() -> None:
    green = np.zeros((5, 6, 3), dtype=np.uint8)
    green[..., 1] = 255
    assert facts(green) == pytest.approx([5, 6, 0.587, 0, 0], abs=1e-6)
    four = np.full((5, 6, 4), 51, dtype=np.uint8)
    assert facts(four)[2] == pytest.approx(0.2)


def test_a_blurred_picture_is_less_sharp_and_a_tiny_one_has_none() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 1)).astype(np.uint8)
    blurred = ndimage.gaussian_filter(noise, (2, 2, 0))
    assert facts(blurred)[4] < facts(noise)[4] / 10
    assert facts(noise[:2])[4] == 0
