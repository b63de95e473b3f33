from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.api import (
    RunEnsemble,
    choose_recipe,
    finish,
    free_path,
    list_runs,
    new_name,
    open_runs,
)
from maskwright.config import Recipe, load_recipe
from maskwright.data.dataset import open_dataset
from maskwright.errors import ConfigError, RunError
from maskwright.predict.predictor import use_threads
from maskwright.progress import SILENT
from maskwright.runfolder import RunFolder

TINY = {
    "model.width": 4,
    "model.depth": 1,
    "input.size": 16,
    "train.epochs": 1,
    "train.batch": 4,
    "train.precision": "fp32",
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of 20 x 24 with a bright square, in one folder; the last three are the test split."""
    root = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    for number in range(12):
        mask = np.zeros((20, 24), np.uint8)
        top, left = random.integers(2, 10, 2)
        mask[top : top + 8, left : left + 8] = 1
        picture = (random.integers(0, 60, (20, 24)) + 120 * mask).astype(np.uint8)
        split = "test" if number > 8 else "train"
        for kind, array in (("images", picture), ("masks", mask)):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / split / kind / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> mw.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return mw.train("unet", squares, TINY, "first", runs=tmp_path_factory.mktemp("runs"))


def test_public_names_are_all_there() -> None:
    for name in mw.__all__:
        assert getattr(mw, name) is not None
    assert set(dir(mw)) == set(mw.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = mw.trian


def test_no_module_takes_the_place_of_a_public_function() -> None:
    """Python binds an imported submodule to its package: a module `maskwright.train` would hide `mw.train`."""
    code = (
        "from maskwright.training.loop import train as loop; from maskwright.evaluation import evaluate;"
        "import maskwright as mw; assert callable(mw.train) and mw.train is not loop;"
        "assert mw.evaluate is evaluate; import maskwright.training.budget; assert callable(mw.train)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_more_than_begun_is_never_taken_away(tmp_path: Path, squares: Path) -> None:
    for name, kept in (("model", "run/model/model.safetensors"), ("photos", "run/photo.jpg")):
        file = tmp_path / name / kept
        file.parent.mkdir(parents=True)
        file.write_bytes(b"mine")
        if name == "model":
            (tmp_path / name / "run/recipe.yaml").write_text("seed: 0\n")
        with pytest.raises(RunError, match="exists already"):
            finish(tmp_path / name / "run", choose_recipe("unet"), squares)
        assert file.read_bytes() == b"mine"


def test_a_run_is_found_beside_a_folder_of_its_name(
    run: mw.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()  # such as the data that it was trained on
    monkeypatch.chdir(tmp_path)
    assert mw.Run.open("first", runs=run.path.parent).path == run.path


def test_a_run_scores_predicts_and_opens_again(run: mw.Run, squares: Path) -> None:
    scores = run.evaluate("test")
    assert scores.n_images == 3
    assert mw.Run.open(run.path).scores("test")["dice_image"].value == scores["dice_image"].value
    assert mw.Run.open("first", runs=run.path.parent).path == run.path
    picture = np.asarray(Image.open(squares / "test/images/09.png"))
    prediction = run.predictor()(picture)
    assert prediction.mask.shape == picture.shape
    truth = np.asarray(Image.open(squares / "test/masks/09.png"))
    row = next(row for row in scores.per_image if row.id.endswith("09") and row.class_id == 1)
    assert row.tp == np.sum((truth == 1) & (prediction.mask == 1))
    assert row.fp == np.sum((truth == 0) & (prediction.mask == 1))
    assert run.report().is_file()


def test_the_run_says_what_was_trained_on_what(run: mw.Run, squares: Path) -> None:
    assert run.folder.read_recipe() == load_recipe("unet", TINY)
    again, first = run.folder.read_dataset(), open_dataset(squares)
    assert again.items == first.items
    assert again.fingerprint() == first.fingerprint()


def test_scores_with_augmentation_lie_beside_the_plain_ones(run: mw.Run) -> None:
    plain = run.evaluate("test")
    before = (run.path / "scores/test/scores.json").read_bytes()
    flipped = run.evaluate("test", tta="flips")
    assert (run.path / "scores/test/scores.json").read_bytes() == before
    assert flipped.advice[0] == "with test-time augmentation: flips"
    assert run.scores("test-flips").summary() == flipped.summary()
    assert not any("augmentation" in line for line in plain.advice)
    by_hand = mw.evaluate(mw.Predictor.load(run.path, tta="flips"), run.folder.read_dataset())
    assert np.array_equal(flipped.counts_NK4, by_hand.counts_NK4)
    with pytest.raises(ConfigError, match="flip"):
        run.evaluate("test", tta="flip")


def test_a_recipe_may_look_more_than_once(squares: Path, tmp_path: Path) -> None:
    run = mw.train("unet", squares, TINY | {"input.tta": "flips"}, "twice", runs=tmp_path)
    usual, once = run.evaluate("test"), run.evaluate("test", tta="none")
    assert usual.advice[0] == "with test-time augmentation: flips"
    assert not any("augmentation" in line for line in once.advice)
    assert run.scores("test").summary() == usual.summary()
    assert run.scores("test-none").summary() == once.summary()
    with_both = [
        mw.evaluate(mw.Predictor.load(run.path / "model", tta=tta), run.folder.read_dataset())
        for tta in (None, "flips", "none")
    ]
    asked = [usual.counts_NK4, usual.counts_NK4, once.counts_NK4]
    assert all(np.array_equal(mine.counts_NK4, counts) for mine, counts in zip(with_both, asked, strict=True))
    assert not np.array_equal(usual.counts_NK4, once.counts_NK4)


@pytest.fixture(scope="module")
def second(run: mw.Run, squares: Path) -> mw.Run:
    """A run beside `first`, of another seed."""
    return mw.train("unet", squares, TINY | {"seed": 1}, "other", runs=run.path.parent)


def test_an_ensemble_of_runs_is_scored_beside_them(run: mw.Run, second: mw.Run) -> None:
    runs = run.path.parent
    both = open_runs("first+other", runs)
    assert isinstance(both, RunEnsemble)
    scores = both.evaluate("test")
    assert both.path == runs / "first+other"
    assert scores.advice[0] == f"average of {run.path}, {second.path}"
    assert both.scores("test").summary() == scores.summary()
    by_hand = mw.evaluate(both.predictor(), run.folder.read_dataset())
    assert np.array_equal(scores.counts_NK4, by_hand.counts_NK4)
    both.evaluate("test", tta="flips")
    assert {folder.name for folder in (both.path / "scores").iterdir()} == {"test", "test-flips"}
    assert [line.name for line in list_runs(runs)] == ["first", "other"]
    assert open_runs("first", runs) == run


def test_an_ensemble_is_not_judged_by_what_a_member_was_trained_on(
    run: mw.Run, second: mw.Run, squares: Path, tmp_path: Path
) -> None:
    folds = [
        mw.Run(RunFolder.create(tmp_path, f"folds/fold-{number}")) for number in range(2)
    ]  # as cross_validate leaves them, with a model of the same kind
    for fold, data in zip(folds, open_dataset(squares).folds(2), strict=True):
        shutil.copy(run.folder.recipe_file, fold.folder.recipe_file)
        fold.folder.dataset_file.write_text(data.to_yaml())
        shutil.copytree(run.folder.model, fold.folder.model)
    both = RunEnsemble(tuple(folds))
    with pytest.raises(RunError, match="have different validation pictures"):
        both.evaluate("validation")
    assert both.evaluate("test").n_images == 3
    assert (tmp_path / "folds/fold-0+fold-1/scores").is_dir()
    assert both.evaluate("test", data=squares).n_images == 3  # whoever names data answers for them
    (both.path / "recipe.yaml").touch()
    with pytest.raises(RunError, match="is a run itself"):
        both.evaluate("test")


class Listening:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return SILENT.task(what, total)

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_advice_is_said_before_training(squares: Path, tmp_path: Path) -> None:
    heard = Listening()
    changes = TINY | {"optim.schedule": "plateau", "input.normalise": "dataset"}
    mw.train("unet", squares, changes, "advised", runs=tmp_path, progress=heard)
    said = [line.startswith("Warning: optim.schedule=plateau") for line in heard.lines]
    assert said.count(True) == 1
    assert said.index(True) < next(i for i, line in enumerate(heard.lines) if line.startswith("epoch 1"))
    mw.Run.open("advised", tmp_path).resume(progress=(again := Listening()))
    assert not any(line.startswith("Warning: ") for line in again.lines)


def test_a_dataset_object_and_a_recipe_object_do_as_well(run: mw.Run, squares: Path, tmp_path: Path) -> None:
    recipe = mw.load_recipe("unet", TINY)
    second = mw.train(recipe, mw.open_dataset(squares), name="second", runs=tmp_path)
    assert (second.path / "model/model.safetensors").read_bytes() == (
        run.path / "model/model.safetensors"
    ).read_bytes()


def test_folds_judge_each_picture_once(squares: Path, tmp_path: Path) -> None:
    crossed = mw.cross_validate("unet", squares, TINY, "crossed", folds=3, runs=tmp_path)
    pooled = [item.id for item in open_dataset(squares).items if item.split in ("train", "validation")]
    assert sorted(crossed.scores.ids) == sorted(pooled)
    for fold in crossed.runs:
        dataset = fold.folder.read_dataset()
        judged = {item.id for item in dataset.split("validation")}
        assert set(fold.scores("validation").ids) == judged
        assert not judged & {item.id for item in dataset.split("train")}
    with pytest.raises(RunError, match="exists already"):
        mw.cross_validate("unet", squares, TINY, "crossed", folds=3, runs=tmp_path)


def test_scores_of_a_split_that_is_not_there(run: mw.Run) -> None:
    with pytest.raises(ConfigError, match="validaton"):
        run.evaluate("validaton")
    with pytest.raises(RunError, match="holds no scores"):
        run.scores("train")


def test_mistakes_leave_no_folder_behind(squares: Path, tmp_path: Path) -> None:
    for arguments in (
        {"recipe": "unnet"},
        {"overrides": {"lr": 1}},
        {"data": tmp_path / "nowhere"},
        {"init": tmp_path},
        {"budget": "soon"},
    ):
        with pytest.raises(mw.UserError):
            mw.train(**({"recipe": "unet", "data": squares, "runs": tmp_path / "runs"} | arguments))  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_without_a_recipe_the_models_own_is_taken() -> None:
    assert choose_recipe(None) == load_recipe("unet")
    assert choose_recipe(None, {"model": {"name": "resnet34-unet"}}) == load_recipe("resnet34-unet")
    attentive = choose_recipe(None, {"model.name": "attention-unet"})
    assert attentive.augment == load_recipe("unet").augment
    assert attentive.model.attention == ("gate",)
    assert choose_recipe(Recipe(seed=3), {"train.epochs": 4}) == Recipe.model_validate(
        {"seed": 3, "train": {"epochs": 4}}
    )


def test_names_are_made_of_model_data_and_time(squares: Path) -> None:
    name = new_name(load_recipe("unet"), open_dataset(squares))
    assert name.startswith("unet-squares")
    assert name[-15:].replace("-", "").isdigit()
    zoo = new_name(load_recipe("unet", {"model.name": "fpn:resnet18"}), open_dataset(squares))
    assert zoo.startswith("fpn-resnet18-squares")  # a colon is no part of a file's name everywhere


@pytest.mark.parametrize(
    "typo",
    [
        {"model.name": "attention-unt"},
        {"model.name": "fpn:resnet1"},
        {"loss.terms": "ce + dicee"},
        {"loss.levels": ["ce"]},
        {"loss.levels": ["ce"], "model.deep_supervision": "levels"},
    ],
)
def test_a_typo_does_not_use_up_the_name(squares: Path, tmp_path: Path, typo: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        mw.train("unet", squares, typo, "taken", runs=tmp_path)
    assert not (tmp_path / "taken").exists()


def test_a_free_path_is_the_first_that_is_not_taken(tmp_path: Path) -> None:
    assert free_path(tmp_path / "demo") == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert free_path(tmp_path / "demo") == tmp_path / "demo-3"


def test_threads_are_put_back() -> None:
    import torch

    before = torch.get_num_threads()
    with use_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
