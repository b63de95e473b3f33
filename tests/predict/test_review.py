"""The temperature leaves masks alone; doubtful masks are laid out worst first, and nothing is overwritten."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.image_io import read_image
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.metrics.calibration import COLDEST, HOTTEST, expected_dice
from maskwright.predict.ensemble import Ensemble
from maskwright.predict.model_folder import ModelSpec, load_spec, save_model, save_spec
from maskwright.predict.predictor import Predictor


class Brightness(nn.Module):
    """The brighter a pixel, the surer: logits 6 x, with x in [-1, 1]; a third class leans to the left."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        bright = 6 * images[:, :1]
        slope = torch.linspace(2, -4, images.shape[3]).expand_as(bright)
        return torch.cat([-bright, bright, slope][: self.classes], dim=1)


def predictor(
    temperature: float = 1.0, classes: int = 2, threshold: float = 0.5, tta: str = "none"
) -> Predictor:
    spec = ModelSpec(
        model=ModelConfig(name="unet"),
        input=InputConfig(size=(12, 16), channels=1, normalise="symmetric"),
        classes=("ground", "pet", "sky")[:classes],
        colours=((0, 0, 0), (230, 159, 0), (86, 180, 233))[:classes],
        mean=(0.5,),
        deviation=(0.2,),
        threshold=threshold,
        temperature=temperature,
    )
    return Predictor(spec, Brightness(classes), torch.device("cpu"), tta)


def photo(contrast: float = 1.0, seed: int = 0) -> np.ndarray:
    """Grey noise around the middle; the less contrast, the more doubt."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (12, 16))
    return np.rint(127.5 + 127 * contrast * noise).astype(np.uint8)


@pytest.mark.parametrize("tta", ["none", "flips", "scales"])
@pytest.mark.parametrize(("classes", "threshold"), [(2, 0.5), (2, 0.2), (3, 0.5)])
def test_the_temperature_leaves_masks_and_probabilities_alone(
    classes: int, threshold: float, tta: str
) -> None:
    plain = predictor(1.0, classes, threshold, tta)(photo())
    assert plain.calibrated is plain.probabilities
    for temperature in (0.3, 2.5):
        said = predictor(temperature, classes, threshold, tta)(photo())
        np.testing.assert_array_equal(said.mask, plain.mask)
        np.testing.assert_array_equal(said.probabilities, plain.probabilities)
        np.testing.assert_allclose(said.calibrated.sum(0), 1, atol=1e-6)
        softer = said.calibrated.max(0) < plain.probabilities.max(0)
        assert softer.mean() > 0.9 if temperature > 1 else softer.mean() < 0.1
        np.testing.assert_array_equal(said.calibrated.argmax(0), plain.probabilities.argmax(0))


def test_an_average_of_models_has_no_temperature() -> None:
    both = Ensemble({"a": predictor(2.0), "b": predictor(3.0)})(photo())
    assert both.calibrated is both.probabilities


def test_the_model_folder_keeps_the_temperature(tmp_path: Path) -> None:
    model = predictor()
    save_model(tmp_path, model.spec, {})
    assert load_spec(tmp_path).temperature == 1
    save_spec(tmp_path, model.spec.model_copy(update={"temperature": 1.7}))
    assert load_spec(tmp_path).temperature == 1.7
    config = tmp_path / "config.json"
    without = config.read_text().replace('  "temperature": 1.7,\n', "")
    assert "temperature" not in without
    config.write_text(without)  # as before there were temperatures
    assert load_spec(tmp_path).temperature == 1
    for bad in (0, -1, COLDEST / 2, HOTTEST * 2, "NaN", "Infinity"):
        config.write_text(without.replace('"threshold"', f'"temperature": {bad}, "threshold"'))
        with pytest.raises(RunError, match="temperature"):
            load_spec(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """clear.png, dim.png and fog.png, each with more doubt than the one before it; and a broken file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, contrast in (("clear", 1.0), ("dim", 0.3), ("fog", 0.05)):
        Image.fromarray(photo(contrast)).save(folder / f"{name}.png")
    (folder / "broken.png").write_text("no picture")
    return folder


def test_doubtful_masks_are_laid_out_worst_first(photos: Path, tmp_path: Path) -> None:
    model, out = predictor(1.5), tmp_path / "out"
    results = {result.input.stem: result for result in model.save(out, photos, review_below=0.9)}
    expected = {}
    for name in ("clear", "dim", "fog"):
        said = model(photos / f"{name}.png")
        expected[name] = expected_dice(said.calibrated, said.mask)
        assert results[name].expected_dice == expected[name]
    assert expected["fog"] < expected["dim"] < 0.9 < expected["clear"]
    overlays = sorted(path.name for path in (out / "review").glob("*.jpg"))
    assert overlays == [f"{expected[name]:.4f}_{name}.jpg" for name in ("fog", "dim")]
    assert results["fog"].review == out / "review" / overlays[0]
    assert results["clear"].review is None
    assert read_image(out / "review" / overlays[0], 3).shape == (12, 16, 3)
    assert sorted(path.name for path in out.glob("*.png")) == ["clear.png", "dim.png", "fog.png"]
    with open(out / "review" / "review.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [Path(row["input"]).stem for row in rows] == ["fog", "dim", "clear"]
    assert [float(row["expected_dice"]) for row in rows] == [
        expected[name] for name in ("fog", "dim", "clear")
    ]
    assert [row["review"] for row in rows] == [*overlays, ""]
    assert results["broken"].error
    assert math.isnan(results["broken"].expected_dice)


def test_without_the_question_there_is_no_answer(photos: Path, tmp_path: Path) -> None:
    results = predictor().save(tmp_path / "out", photos / "fog.png")
    assert math.isnan(results[0].expected_dice)
    assert not (tmp_path / "out" / "review").exists()


@pytest.mark.parametrize(("below", "flagged"), [(0.0, 0), (1.0, 3)])
def test_the_ends_of_the_scale(photos: Path, tmp_path: Path, below: float, flagged: int) -> None:
    predictor().save(tmp_path / "out", photos, review_below=below)
    assert len(list((tmp_path / "out" / "review").glob("*.jpg"))) == flagged


@pytest.mark.parametrize("below", [-0.1, 1.01, 90, math.nan])
def test_a_limit_that_is_no_dice(photos: Path, tmp_path: Path, below: float) -> None:
    with pytest.raises(ConfigError, match=r"--review-below .* is no Dice; give a number from 0 to 1"):
        predictor().save(tmp_path / "out", photos, review_below=below)
    assert not (tmp_path / "out").exists()


def test_an_earlier_review_is_not_mixed_with_a_new_one(photos: Path, tmp_path: Path) -> None:
    predictor().save(tmp_path / "out", photos, review_below=0.9)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(DataError, match="review holds files already; choose another --out"):
        predictor(3.0).save(tmp_path / "out", photos, review_below=0.9)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    predictor().save(tmp_path / "out", photos)


def test_pictures_of_one_name_and_masks_called_review(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.fromarray(photo(0.1)).save(tmp_path / "photos" / folder / "a.png")
    results = predictor().save(tmp_path / "out", f"{tmp_path}/photos/*/a.png", review_below=0.9)
    dice = f"{results[0].expected_dice:.4f}"
    assert [result.review.name for result in results if result.review] == [f"{dice}_a.jpg", f"{dice}_a-2.jpg"]
    (tmp_path / "photos" / "two").rename(tmp_path / "photos" / "review")
    with pytest.raises(DataError, match="would lie among the doubtful masks"):
        predictor().save(tmp_path / "other", f"{tmp_path}/photos/*/a.png", review_below=0.9)


def test_probabilities_are_saved_with_their_temperature(photos: Path, tmp_path: Path) -> None:
    model = predictor(2.0)
    model.save(tmp_path, photos / "dim.png", save=("probability",))
    with np.load(tmp_path / "dim_probability.npz") as saved:
        powers = saved["probabilities"] ** (1 / saved["temperature"])
    np.testing.assert_allclose(powers / powers.sum(0), model(photos / "dim.png").calibrated, atol=1e-6)
