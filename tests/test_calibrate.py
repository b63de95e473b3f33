"""Temperatures of predictors that are known to be too sure, and what evaluate counts of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.calibrate import PICTURES, calibrate
from maskwright.data.classes import ClassMap, default_palette
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.errors import DataError, RunError
from maskwright.evaluation import evaluate
from maskwright.metrics.calibration import BINS, expected_dice
from maskwright.metrics.contract import MetricContract
from maskwright.metrics.scores import Scores, merge
from maskwright.tensors import IGNORE, Picture, Prediction

SIZES = {"a": (40, 50), "b": (31, 17), "c": (64, 48), "d": (25, 26)}


@dataclass(frozen=True)
class Boaster:
    """Grey value / 255 is the true probability of a pet; it is said as if the logit were twice as large."""

    classes: ClassMap = field(
        default_factory=lambda: ClassMap(("ground", "pet"), default_palette(2), {0: 0, 1: 1})
    )
    channels: int = 1
    temperature: float = 1.0

    def __call__(self, image: Picture, /) -> Prediction:
        true = image[..., 0].astype(np.float32) / np.float32(255)
        said = true**2 / (true**2 + (1 - true) ** 2)
        return Prediction((said > 0.5).astype(np.uint8), np.stack([1 - said, said]), self.temperature)


def write_data(root: Path, sizes: dict[str, tuple[int, int]] = SIZES, split: str = "validation") -> Path:
    """Grey values are the probabilities by which masks are drawn; a strip on the left is wrong, and ignored."""
    random = np.random.default_rng(0)
    (root / split / "images").mkdir(parents=True)
    (root / split / "masks").mkdir()
    for name, size in sizes.items():
        grey = random.integers(10, 246, size).astype(np.uint8)
        grey += grey % 17 == 0  # 17 / 255 = 1 / BINS: on an edge, rounding would decide
        mask = (random.random(size) < grey / 255).astype(np.uint8)
        grey[:, :5] = 255
        mask[:, :5] = IGNORE
        Image.fromarray(grey).save(root / split / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / split / "masks" / f"{name}.png")
    (root / "dataset.yaml").write_text("classes: [ground, pet]\nvalues: {0: ground, 1: pet, 255: ignore}\n")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset(write_data(tmp_path / "data"))


def test_twice_too_sure_is_a_temperature_of_two(data: Dataset) -> None:
    fitted = calibrate(Boaster(), data)
    assert fitted.temperature == pytest.approx(2, rel=0.07)
    assert fitted.ece < 0.03 < 0.08 < fitted.ece_before
    assert (fitted.pictures, fitted.pixels) == (4, sum(min(2000, h * (w - 5)) for h, w in SIZES.values()))
    assert calibrate(Boaster(), data) == fitted
    assert calibrate(Boaster(temperature=5.0), data) == fitted  # what it has is not what it is fitted to


def test_pictures_come_from_all_over_the_split(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    @dataclass(frozen=True)
    class Watched(Boaster):
        def __call__(self, image: Picture, /) -> Prediction:
            seen.append(image.shape)
            return super().__call__(image)

    sizes = {f"{number:03}": (6, 6 + number) for number in range(PICTURES + 22)}
    fitted = calibrate(Watched(), open_dataset(write_data(tmp_path / "data", sizes)))
    assert fitted.pictures == len(seen) == PICTURES
    assert {seen[0][1], seen[-1][1]} == {6, 6 + PICTURES + 21}


def test_what_cannot_be_calibrated_on(data: Dataset) -> None:
    with pytest.raises(DataError, match="has no usable picture in split 'test'"):
        calibrate(Boaster(), data, split="test")
    cats = ClassMap(("ground", "cat"), default_palette(2), {0: 0, 1: 1})
    with pytest.raises(DataError, match="does not know: pet"):
        calibrate(Boaster(classes=cats), data)
    (data.root / "validation" / "images" / "b.png").write_text("no picture")
    assert calibrate(Boaster(), data).pictures == 3
    nothing = open_dataset(data.root)
    for path in (data.root / "validation" / "images").iterdir():
        path.write_text("no picture")
    with pytest.raises(DataError, match="no usable picture"):
        calibrate(Boaster(), nothing)


def test_evaluate_counts_what_the_files_say(data: Dataset) -> None:
    """Every bin, with and without the temperature, from a loop over pictures without the library."""
    contract = MetricContract(threshold=0.3)
    result = evaluate(Boaster(temperature=2.0), data, split="validation", contract=contract)
    expected = np.zeros((2, BINS, 3))
    brier = pixels = 0.0
    for name in result.ids:
        grey, truth = (
            np.asarray(Image.open(data.root / "validation" / kind / f"{name}.png"))
            for kind in ("images", "masks")
        )
        true = grey[truth != IGNORE] / 255
        pet = truth[truth != IGNORE] == 1
        said = true**2 / (true**2 + (1 - true) ** 2)
        for layer, share in enumerate((true, said)):
            confidence, right = np.maximum(share, 1 - share), (share > 0.5) == pet
            np.add.at(
                expected[layer],
                np.ceil(confidence * BINS).astype(int) - 1,
                np.stack([np.ones(len(pet)), confidence, right], axis=1),
            )
        brier += 2 * ((true - pet) ** 2).sum()
        pixels += len(pet)
    assert result.tallies.bins_NB3 is not None
    assert result.tallies.bins_before_NB3 is not None
    np.testing.assert_allclose(result.tallies.bins_NB3.sum(0), expected[0], rtol=1e-4)
    np.testing.assert_allclose(result.tallies.bins_before_NB3.sum(0), expected[1], rtol=1e-4)
    gaps = np.abs(expected[..., 2] - expected[..., 1]).sum(1) / pixels
    assert result["ece"].value == pytest.approx(gaps[0], rel=1e-4)
    assert result["brier"].value == pytest.approx(brier / pixels, rel=1e-4)
    found = result.calibration
    assert found is not None
    assert (found.ece, found.temperature) == (result["ece"].value, 2.0)
    assert found.ece_before == pytest.approx(gaps[1], rel=1e-4)
    assert found.ece < 0.03 < found.ece_before
    assert np.isnan(result["brier"].ci95).all()  # so few pictures have no interval


def test_the_expected_dice_is_that_of_the_mask_under_the_contract(data: Dataset) -> None:
    kept: dict[str, float] = {}
    contract = MetricContract(threshold=0.1, foreground=(0,))
    result = evaluate(
        Boaster(temperature=2.0),
        data,
        split="validation",
        contract=contract,
        keep=lambda item, picture, truth, said: kept.update(
            {item.id: expected_dice(said.calibrated, said.mask, (0,))}
        ),
    )
    assert result.tallies.quality_N is not None
    assert result.tallies.quality_N.tolist() == [kept[id] for id in result.ids]


def test_the_temperature_moves_no_other_number(data: Dataset) -> None:
    plain, tempered = (evaluate(Boaster(temperature=t), data, split="validation") for t in (1.0, 2.0))
    moved = {name for name in plain.metrics if plain[name] != tempered[name]}
    assert moved == {"ece", "brier"}
    np.testing.assert_array_equal(plain.counts_NK4, tempered.counts_NK4)


def test_another_resolution_and_dropped_truth_decide_where_confidence_counts(data: Dataset) -> None:
    small = evaluate(Boaster(), data, split="validation", contract=MetricContract(resolution=(6, 10)))
    part = evaluate(Boaster(), data, split="validation", contract=MetricContract(drop_truth=(0,)))
    for result, pixels in ((small, small.counts_NK4), (part, part.counts_NK4)):
        assert result.tallies.bins_NB3 is not None
        assert result.tallies.bins_NB3[..., 0].sum() == pixels[..., [0, 2]].sum()


def test_kept_and_read_again(data: Dataset, tmp_path: Path) -> None:
    result = evaluate(Boaster(temperature=2.0), data, split="validation")
    result.save(tmp_path / "scores")
    loaded = Scores.load(tmp_path / "scores")
    assert repr(loaded.calibration) == repr(result.calibration)  # empty bins hold NaN
    assert loaded.metrics == result.metrics
    for field_name in ("bins_NB3", "bins_before_NB3", "brier_N", "quality_N"):
        np.testing.assert_array_equal(
            getattr(loaded.tallies, field_name), getattr(result.tallies, field_name)
        )
    again = merge([loaded, result])
    assert again["ece"].value == pytest.approx(result["ece"].value)
    assert again.temperature == 2
    other = merge([loaded, replace(result, temperature=1.0)])
    assert np.isnan(other.temperature)
    other.save(tmp_path / "other")
    assert np.isnan(Scores.load(tmp_path / "other").temperature)


def test_scores_from_before_and_damaged_ones(data: Dataset, tmp_path: Path) -> None:
    evaluate(Boaster(), data, split="validation").save(tmp_path)
    bins = tmp_path / "confidence.csv"
    whole = bins.read_text()
    for damage in (
        whole.replace("\na,", "\nnobody,"),
        whole.replace(",14,", ",99,"),
        whole.replace(",14,", ",x,"),
    ):
        assert damage != whole
        bins.write_text(damage)
        with pytest.raises(RunError, match="damaged"):
            Scores.load(tmp_path)
    for name in ("confidence.csv", "calibration.json", "pictures.csv"):
        (tmp_path / name).unlink()
    old = Scores.load(tmp_path)
    assert (old.calibration, old.temperature) == (None, 1.0)
