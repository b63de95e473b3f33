"""Averages of views against the same averages made by hand, and invariants of what the views do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from maskwright.config import InputConfig, ModelConfig
from maskwright.errors import ConfigError
from maskwright.predict.model_folder import ModelSpec
from maskwright.predict.predictor import Predictor
from maskwright.predict.tta import SCALES, views

FITS = ("resize", "letterbox", "crop")


class Leaning(nn.Module):
    """A network whose answer depends on left and right and on the scale: a 3x3 convolution drawn from a seed."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 3, padding=1)
        nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(5))
        nn.init.zeros_(self.layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)  # type: ignore[no-any-return]


class Pointwise(nn.Module):
    """A network that mirroring commutes with: each pixel for itself."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images, -images[:, :1]], dim=1)


def predictor(network: nn.Module, classes: int, tta: str, fit: str = "resize") -> Predictor:
    spec = ModelSpec(
        model=ModelConfig(name="unet"),
        input=InputConfig(size=(12, 16), fit=fit, channels=3, normalise="unit"),  # type: ignore[arg-type]
        classes=tuple(f"class {number}" for number in range(classes)),
        colours=((0, 0, 0),) * classes,
        mean=(0.5,) * 3,
        deviation=(0.2,) * 3,
    )
    return Predictor(spec, network, torch.device("cpu"), tta)


def photo(height: int = 18, width: int = 22) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def antialiased(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def by_hand(network: nn.Module, picture: np.ndarray, size: tuple[int, int]) -> Float[Tensor, "1 K H W"]:
    """Stretched to `size`, through the network, stretched back, softmax."""
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    logits = network(antialiased(images, size))
    return F.interpolate(logits, picture.shape[:2], mode="bilinear", align_corners=False).softmax(1)


@torch.inference_mode()
def test_none_is_bit_for_bit_the_network_itself() -> None:
    network, picture = Leaning(3), photo()
    answer = predictor(network, 3, "none")(picture).probabilities
    np.testing.assert_array_equal(answer, by_hand(network, picture, (12, 16))[0].numpy())


@torch.inference_mode()
def test_flips_are_the_mean_of_the_picture_and_its_mirror_image() -> None:
    network, picture = Leaning(3), photo()
    straight = by_hand(network, picture, (12, 16))
    mirrored = by_hand(network, picture[:, ::-1], (12, 16)).flip(3)
    assert (straight - mirrored).abs().max() > 0.1, "the network should lean"
    answer = predictor(network, 3, "flips")(picture)
    np.testing.assert_allclose(answer.probabilities, ((straight + mirrored) / 2)[0], atol=1e-6)
    np.testing.assert_array_equal(answer.mask, answer.probabilities.argmax(0))


@torch.inference_mode()
def test_scales_are_the_mean_over_three_sizes_and_both_sides() -> None:
    network, picture = Leaning(3), photo()
    sizes = ((9, 12), (12, 16), (15, 20))
    looks = [by_hand(network, picture, size) for size in sizes]
    looks += [by_hand(network, picture[:, ::-1], size).flip(3) for size in sizes]
    answer = predictor(network, 3, "scales")(picture).probabilities
    np.testing.assert_allclose(answer, torch.cat(looks).mean(0), atol=1e-6)


@torch.inference_mode()
def test_where_the_network_sees_whole_pictures_these_are_scaled() -> None:
    network, picture = Leaning(3), photo(20, 24)
    sizes = ((15, 18), (20, 24), (25, 30))
    looks = [by_hand(network, picture, size) for size in sizes]
    looks += [by_hand(network, picture[:, ::-1], size).flip(3) for size in sizes]
    answer = predictor(network, 3, "scales", "crop")(picture).probabilities
    np.testing.assert_allclose(answer, torch.cat(looks).mean(0), atol=1e-6)


@pytest.mark.parametrize("fit", FITS)
def test_a_network_that_mirroring_commutes_with_answers_as_without(fit: str) -> None:
    network, picture = Pointwise(), photo(7, 23)
    plain, flipped = (predictor(network, 4, tta, fit)(picture) for tta in ("none", "flips"))
    np.testing.assert_allclose(flipped.probabilities, plain.probabilities, atol=1e-6)
    np.testing.assert_array_equal(flipped.mask, plain.mask)


@pytest.mark.parametrize("fit", FITS)
def test_a_flat_picture_looks_alike_from_everywhere(fit: str) -> None:
    network, picture = Pointwise(), np.full((9, 21, 3), (30, 160, 90), np.uint8)
    plain, scaled = (predictor(network, 4, tta, fit)(picture) for tta in ("none", "scales"))
    np.testing.assert_allclose(scaled.probabilities, plain.probabilities, atol=1e-5)


@pytest.mark.parametrize("tta", ["flips", "scales"])
def test_flips_and_scales_of_a_mirrored_picture_are_mirrored(tta: str) -> None:
    """What one view loses the other has, so the average is as even-handed as its network is not."""
    model, picture = predictor(Leaning(2), 2, tta), photo()
    turned = model(picture[:, ::-1]).probabilities[..., ::-1]
    np.testing.assert_allclose(model(picture).probabilities, turned, atol=1e-6)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (13, 17)])
def test_any_size_comes_back_and_shares_sum_to_one(size: tuple[int, int], fit: str) -> None:
    answer = predictor(Leaning(3), 3, "scales", fit)(photo(*size))
    assert answer.mask.shape == size
    np.testing.assert_allclose(answer.probabilities.sum(0), 1, atol=1e-5)


def test_an_unknown_kind_is_advised() -> None:
    assert len(views("scales")) == 2 * len(SCALES)
    with pytest.raises(ConfigError, match="'flip'; did you mean flips"):
        views("flip")
