"""The input side against Pillow and numpy, and its way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.predict.preprocess import FLAT, IMAGENET_DEVIATION, IMAGENET_MEAN, Normalise, Preprocess

KINDS: tuple[Normalise, ...] = ("unit", "symmetric", "imagenet", "dataset", "image")
MEAN, DEVIATION = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """1 C H W in [0, 1], a multiple of 1/255, smooth enough to look like a photograph."""
    coarse = torch.rand(1, channels, 9, 9, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


def test_each_kind_is_its_formula() -> None:
    images = picture(6, 5)
    x = images.numpy().astype(np.float64)

    def column(values: tuple[float, ...]) -> np.ndarray:
        return np.array(values).reshape(1, 3, 1, 1)

    expected = {
        "unit": x,
        "symmetric": 2 * x - 1,
        "imagenet": (x - column(IMAGENET_MEAN)) / column(IMAGENET_DEVIATION),
        "dataset": (x - column(MEAN)) / column(DEVIATION),
        "image": (x - x.mean()) / x.std(),
    }
    for kind in KINDS:
        found = Preprocess((4, 4), "resize", kind, MEAN, DEVIATION).normalise(images)
        np.testing.assert_allclose(found.numpy(), expected[kind], atol=2e-6, err_msg=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_fill_normalises_to_zero(kind: Normalise, channels: int) -> None:
    preprocess = Preprocess((4, 4), "resize", kind, [0.3] * channels, [0.1] * channels)
    assert preprocess.fill.shape == (channels,)
    flat = preprocess.fill.view(1, -1, 1, 1).expand(2, -1, 3, 3)
    torch.testing.assert_close(preprocess.normalise(flat), torch.zeros(2, channels, 3, 3), atol=1e-6, rtol=0)


def test_grey_and_fourth_channel_take_the_mean_of_the_imagenet_figures() -> None:
    grey = Preprocess((4, 4), "resize", "imagenet", [0.0], [1.0])
    four = Preprocess((4, 4), "resize", "imagenet", [0.0] * 4, [1.0] * 4)
    assert grey.fill.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert four.fill.tolist() == pytest.approx([0.485, 0.456, 0.406, (0.485 + 0.456 + 0.406) / 3])


@pytest.mark.parametrize("kind", ["dataset", "image"])
def test_a_flat_picture_is_no_nan(kind: Normalise) -> None:
    preprocess = Preprocess((4, 4), "resize", kind, [0.5] * 3, [0.0] * 3)
    found = preprocess(torch.full((1, 3, 7, 9), 0.5 + FLAT / 2))
    assert torch.isfinite(found).all()
    assert found.abs().max() <= 0.5 + 1e-4


def test_pictures_of_a_batch_do_not_touch() -> None:
    preprocess = Preprocess((8, 8), "letterbox", "image", MEAN, DEVIATION)
    first, second = picture(10, 20, seed=1), picture(10, 20, seed=2)
    both = preprocess(torch.cat([first, second]))
    torch.testing.assert_close(both, torch.cat([preprocess(first), preprocess(second)]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("native", "size"), [((97, 131), (32, 48)), ((300, 7), (16, 16)), ((20, 30), (64, 64))]
)
def test_resizing_agrees_with_pillow(native: tuple[int, int], size: tuple[int, int]) -> None:
    """Pillow rounds to 8 bits after each of its two passes: one grey level, rarely more."""
    images = picture(*native)
    pixels = (images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    oracle = np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    found = Preprocess(size, "resize", "unit", MEAN, DEVIATION)(images)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found - oracle).max() < 1.5


def test_letterbox_bars_are_zero_and_come_off_again() -> None:
    """A wide picture on a square: bars above and below; what is restored is the inner part alone."""
    preprocess = Preprocess((32, 32), "letterbox", "imagenet", MEAN, DEVIATION)
    seen = preprocess(picture(20, 40))
    assert seen.shape == (1, 3, 32, 32)
    assert seen[:, :, :8].abs().max() < 1e-6
    assert seen[:, :, 24:].abs().max() < 1e-6
    assert seen[:, :, 8:24].abs().max() > 0.1
    logits = torch.full((1, 2, 32, 32), 99.0)
    logits[:, :, 8:24] = torch.linspace(-1, 1, 32)
    restored = preprocess.restore(logits, (20, 40))
    assert restored.shape == (1, 2, 20, 40)
    assert restored.abs().max() <= 1
    assert (restored.diff(dim=3) >= 0).all()


@pytest.mark.parametrize("native", [(1, 1), (7, 300), (32, 32), (33, 31)])
@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
def test_every_size_goes_there_and_back(native: tuple[int, int], fit: str) -> None:
    """A smooth ramp survives the round trip to within the steps that scaling makes."""
    preprocess = Preprocess((32, 32), fit, "unit", [0.0], [1.0])  # type: ignore[arg-type]
    ramp = torch.linspace(0, 1, native[1]).expand(1, 1, *native).contiguous()
    seen = preprocess(ramp)
    assert seen.shape[2:] == (native if fit == "crop" else (32, 32))
    restored = preprocess.restore(seen, native)
    assert restored.shape == ramp.shape
    assert (restored - ramp).abs().max() <= (0 if fit == "crop" or native == (32, 32) else 1.01 / 32)


def test_weights_of_a_model_hold_no_figures_of_the_input() -> None:
    assert Preprocess((4, 4), "resize", "dataset", MEAN, DEVIATION).state_dict() == {}
