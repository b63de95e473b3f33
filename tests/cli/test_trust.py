"""`calibrate`, `predict --review-below` and what `evaluate` says of probabilities, on a small real run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import working_in

from maskwright.cli.main import main
from maskwright.predict.model_folder import load_spec, save_spec
from maskwright.report.build import build_report
from maskwright.runfolder import RunFolder

SMALL = ["--size=16", "--epochs=1", "--batch=4", "model.width=4", "model.depth=1", "train.precision=fp32"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data `squares` and a trained run `first`."""
    folder = tmp_path_factory.mktemp("workshop")
    random = np.random.default_rng(0)
    for number in range(12):
        mask = np.zeros((20, 24), np.uint8)
        top, left = random.integers(2, 10, 2)
        mask[top : top + 8, left : left + 8] = 1
        picture = (random.integers(0, 60, (20, 24)) + 120 * mask).astype(np.uint8)
        split = "test" if number > 8 else "train"
        for kind, array in (("images", picture), ("masks", mask)):
            (folder / "squares" / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / "squares" / split / kind / f"{number:02}.png")
    with working_in(folder):
        assert main(["train", "--data", "squares", "--name", "first", *SMALL]) == 0
        yield folder


def test_training_fits_a_temperature_and_calibrate_fits_it_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = here / "runs" / "first" / "model"
    trained = load_spec(model)
    assert trained.temperature != 1
    said = json.loads((here / "runs/first/scores/validation/calibration.json").read_text())
    assert said["temperature"] == trained.temperature
    weights = (model / "model.safetensors").read_bytes()
    save_spec(model, trained.model_copy(update={"temperature": 1.0}))
    assert main(["calibrate", "first", "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["temperature"] == trained.temperature
    assert fitted["pictures"] > 0
    assert load_spec(model) == trained
    assert (model / "model.safetensors").read_bytes() == weights
    assert main(["calibrate", "first", "--split", "test"]) == 0
    assert "pixels of 3 pictures" in capsys.readouterr().out
    save_spec(model, trained)


def test_evaluate_says_what_probabilities_are_worth(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "first"]) == 0
    out = capsys.readouterr().out
    scores = here / "runs" / "first" / "scores" / "test"
    metrics = json.loads((scores / "scores.json").read_text())["metrics"]
    said = json.loads((scores / "calibration.json").read_text())
    assert metrics["ece"]["value"] == said["ece"]
    assert metrics["brier"]["value"] == said["brier"]
    assert f"Expected calibration error {said['ece']:.4f}, {said['ece_before']:.4f} without" in out
    assert f"Expected Dice, without labels: {said['foresight']['expected']:.4f}" in out
    assert len(said["reliability"]["accuracy"]) == 15
    assert len(said["foresight"]["risk"]) == len(said["foresight"]["coverage"])
    build_report(RunFolder.open("first"))
    assert "temperature" in (here / "runs/first/model/README.md").read_text()


def test_doubtful_masks_are_listed_worst_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "first", "squares/test/images"]
    assert main([*words, "--out", "masks", "--review-below", "1"]) == 0
    assert "3 of 3 pictures need a look, worst first in masks/review" in capsys.readouterr().out
    assert main([*words, "--out", "more", "--review-below", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = [entry["expected_dice"] for entry in answer["review"]]
    assert expected == sorted(expected)
    assert [Path(entry["overlay"]).name for entry in answer["review"]] == sorted(
        path.name for path in (here / "masks" / "review").glob("*.jpg")
    )
    assert len(answer["done"]) == 3
    assert main([*words, "--out", "plain", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["review"] == []
    assert [entry["expected_dice"] for entry in plain["done"]] == [None] * 3
    for name in ("09", "10", "11"):
        assert (here / "plain" / f"{name}.png").read_bytes() == (here / "masks" / f"{name}.png").read_bytes()


def test_a_model_without_a_temperature_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = here / "runs" / "first" / "model"
    trained = load_spec(model)
    save_spec(model, trained.model_copy(update={"temperature": 1.0}))
    words = ["squares/test/images", "--review-below", "0.5", "--out"]
    assert main(["predict", "first", *words, "untold"]) == 0
    assert "`maskwright calibrate RUN` fits one" in capsys.readouterr().out
    save_spec(model, trained)
    assert main(["predict", "first", *words, "told"]) == 0
    assert "calibrate" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["predict", "first", "squares/test/images", "--out", "x", "--review-below", "1.5"],
            "1.5 is no Dice",
        ),
        (
            ["predict", "first", "squares/test/images", "--out", "x", "--review-below", "a lot"],
            "--review-below",
        ),
        (["calibrate", "nobody"], "there is no run 'nobody'"),
        (["calibrate", "first", "--split", "unlabelled"], "no usable picture in split 'unlabelled'"),
    ],
)
def test_mistakes_get_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert says in line
    assert not (here / "x").exists()
