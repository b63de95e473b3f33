"""Reliability and risk-coverage curves as pictures."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskwright.draw import reliability_plot, risk_coverage_plot
from maskwright.metrics.calibration import BINS, Calibration, Foresight, foresight, reliability


def found(temperature: float = 1.5) -> tuple[Calibration, Foresight]:
    bins = np.zeros((BINS, 3))
    bins[[8, 11, 14]] = np.array([[10, 5.7, 6], [20, 15.5, 15], [70, 68, 67]])
    seen = foresight(np.array([0.9, 0.8, 0.3]), np.array([0.95, 0.7, 0.4]))
    assert seen is not None
    curve = reliability(bins)
    return Calibration(temperature, 0.018, 0.2, curve, 0.05, curve, seen), seen


@pytest.mark.parametrize("dark", [False, True])
def test_png_and_svg_of_both(dark: bool) -> None:
    calibration, seen = found()
    for picture, vector in (
        (reliability_plot(calibration, dark=dark), reliability_plot(calibration, dark=dark, svg=True)),
        (risk_coverage_plot(seen, dark=dark), risk_coverage_plot(seen, dark=dark, svg=True)),
    ):
        with Image.open(io.BytesIO(picture)) as opened:
            corner = np.asarray(opened.convert("RGB"))[0, 0].mean()
            assert opened.size == (780, 480)
        assert (corner < 30) == dark
        assert ElementTree.fromstring(vector).tag.endswith("svg")


def test_the_figures_are_named_and_equal_data_give_equal_bytes() -> None:
    calibration, seen = found()
    text = reliability_plot(calibration, svg=True).decode()
    assert "ECE 0.018, was 0.050" in text
    assert "with the temperature 1.50" in text
    untempered = reliability_plot(replace(calibration, temperature=1.0), svg=True).decode()
    assert "temperature" not in untempered
    assert "was" not in untempered.partition("Reliability")[2].partition("<")[0]
    assert "area 0.181" in risk_coverage_plot(seen, svg=True).decode()
    assert reliability_plot(calibration, svg=True) == reliability_plot(found()[0], svg=True)
