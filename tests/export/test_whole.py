"""The module that leaves the lab says what the Predictor says, whatever the fit, the normalisation and the looks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.config import InputConfig, ModelConfig
from maskwright.export.whole import Whole, triangles
from maskwright.fit import antialiased, place
from maskwright.predict.model_folder import ModelSpec, build_from_spec
from maskwright.predict.predictor import Predictor

sizes = st.integers(1, 90)


@given(sizes, sizes, sizes, sizes)
@settings(max_examples=60, deadline=None)
def test_two_products_are_antialiased_resampling(height: int, width: int, rows: int, columns: int) -> None:
    pictures = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    wanted = antialiased(pictures, (rows, columns))
    found = triangles(height, rows) @ (pictures @ triangles(width, columns).T)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_weights_of_a_shrinking_row_by_hand() -> None:
    """4 pixels to 2: a triangle of half width 2 around 1 and 3, at distances 1/2 and 3/2, cut at the border."""
    quarter, inner = 0.25, 0.75
    row = torch.tensor([inner, inner, quarter, 0.0])
    torch.testing.assert_close(triangles(4, 2), torch.stack([row / row.sum(), row.flip(0) / row.sum()]))


def spec(
    classes: int, channels: int, fit: str, normalise: str, outputs: str = "auto", **more: object
) -> ModelSpec:
    return ModelSpec(
        model=ModelConfig(width=4, depth=2, outputs=outputs),  # type: ignore[arg-type]
        input=InputConfig(size=(40, 56), fit=fit, normalise=normalise, channels=channels),  # type: ignore[arg-type]
        classes=tuple(f"class {number}" for number in range(classes)),
        colours=((0, 0, 0),) * classes,
        mean=(0.4, 0.5, 0.3, 0.6)[:channels],
        deviation=(0.2, 0.3, 0.25, 0.2)[:channels],
        **more,  # type: ignore[arg-type]
    )


def network(of: ModelSpec) -> torch.nn.Module:
    """Batch statistics of noise instead of 0 and 1, so that no layer's answer is out of proportion."""
    torch.manual_seed(0)
    made = build_from_spec(of).train()
    with torch.no_grad():
        for _ in range(40):
            made(torch.randn(4, of.channels, 40, 56))
    return made.eval()


CASES = [
    (spec(3, 3, "resize", "unit"), "none"),
    (spec(3, 3, "letterbox", "imagenet", temperature=1.7), "scales"),
    (spec(2, 1, "letterbox", "image", outputs="sigmoid", threshold=0.4), "flips"),
    (spec(2, 4, "crop", "dataset", outputs="softmax"), "scales"),
    (spec(2, 3, "crop", "image", outputs="sigmoid", temperature=0.8), "none"),
    (spec(5, 1, "resize", "symmetric"), "scales"),
]


@pytest.mark.parametrize(
    ("of", "tta"), CASES, ids=lambda value: value if isinstance(value, str) else value.input.fit
)
@pytest.mark.parametrize("size", [(40, 56), (61, 33), (1, 9), (130, 200)])
def test_it_says_what_the_predictor_says(of: ModelSpec, tta: str, size: tuple[int, int]) -> None:
    made = network(of)
    predictor = Predictor(of, made, torch.device("cpu"), tta)
    pictures = np.random.default_rng(1).integers(0, 256, (2, *size, of.channels), dtype=np.uint8)
    with torch.inference_mode():
        masks, shares, calibrated, logits = Whole(of, made, tta)(torch.from_numpy(pictures))
    for number, picture in enumerate(pictures):
        said, raw = predictor.with_logits(picture)
        np.testing.assert_allclose(shares[number], said.probabilities, atol=2e-5)
        np.testing.assert_allclose(calibrated[number], said.calibrated, atol=2e-5)
        np.testing.assert_allclose(logits[number], raw, atol=1e-4, rtol=1e-4)
        sure = np.sort(said.probabilities, axis=0)
        clear = (
            np.abs(said.probabilities[1] - of.threshold) > 1e-4
            if len(sure) == 2
            else sure[-1] - sure[-2] > 1e-4
        )
        assert (masks[number].numpy() == said.mask)[clear].all()
        assert said.probabilities.std(axis=(1, 2)).max() > 0.01 or size == (1, 9), (
            "a network that says one thing"
        )


@given(sizes, sizes, sizes, sizes)
@settings(max_examples=300, deadline=None)
def test_letterboxing_is_in_whole_numbers_half_up(height: int, width: int, rows: int, columns: int) -> None:
    placement = place((height, width), (rows, columns), "letterbox")
    scale = min(Fraction(rows, height), Fraction(columns, width))
    half = Fraction(1, 2)
    assert placement.height == max(1, (height * scale + half).__floor__())
    assert placement.width == max(1, (width * scale + half).__floor__())
