"""Planted label errors, from a cross-validation to the page, the new dataset.yaml and the run without them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.cli.main import main
from maskwright.data.dataset import open_dataset
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.tensors import IGNORE
from maskwright.triage import run as triage_run
from maskwright.triage.decide import decided, write_decided
from maskwright.triage.judges import panel
from maskwright.triage.page import document, page
from maskwright.triage.run import Triage, triage
from maskwright.triage.what_if import what_if

pytestmark = [pytest.mark.slow, pytest.mark.ci]

PLANTED = ("train3", "train8", "train21", "val5")
RECIPE = {
    "model.width": 8,
    "model.depth": 2,
    "input.size": (48, 48),
    "train.epochs": 10,
    "train.batch": 8,
    "optim.learning_rate": 5e-3,
}


@pytest.fixture(scope="module")
def spoilt(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The discs, in four of which the disc is missing or another one was drawn."""
    root = tmp_path_factory.mktemp("spoilt") / "spoilt"
    shutil.copytree(discs, root)
    for number, name in enumerate(PLANTED):
        file = root / name.rstrip("0123456789") / "masks" / f"{name}.png"
        mask = np.array(Image.open(file))
        if number % 2:
            mask[:] = 0
        else:
            mask[:14, -14:] = 1 - mask[:14, -14:]
        Image.fromarray(mask).save(file)
    return root


@pytest.fixture(scope="module")
def folds(spoilt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        runs = tmp_path_factory.mktemp("runs")
        return mw.cross_validate("unet", spoilt, RECIPE, "cv", folds=3, runs=runs, device="cpu").path


@pytest.fixture(scope="module")
def found(folds: Path) -> Triage:
    return triage(panel(folds, device="cpu"))


def test_planted_errors_come_first(found: Triage) -> None:
    assert {case.id for case in found.cases[: len(PLANTED)]} == set(PLANTED)


def test_every_label_is_judged_once_by_a_model_that_has_not_seen_it(found: Triage, spoilt: Path) -> None:
    assert sorted(case.id for case in found.cases) == sorted(item.id for item in open_dataset(spoilt).items)
    assert not any(case.seen for case in found.cases)
    assert {case.split for case in found.cases} == {"validation", "test"}


def test_the_box_is_where_the_error_is(found: Triage) -> None:
    case = next(case for case in found.cases if case.id == "train3")
    top, left, height, width = case.regions[0].box
    assert top <= 2
    assert left + width >= 46
    assert abs(height - 14) <= 3
    assert abs(width - 14) <= 3


def test_memory_holds_a_few_pictures(folds: Path, found: Triage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triage_run, "SHOWN", 3)
    few = triage(panel(folds, device="cpu"))
    assert set(few.exhibits) == {case.id for case in found.cases[:3]}
    assert few.cases == found.cases


def test_labels_of_the_test_split_are_left_to_people(found: Triage) -> None:
    assert all(case.split != "test" for case in found.worst(20))
    with pytest.raises(ConfigError, match="100 labels are asked for"):
        found.worst(100)


def test_one_run_says_what_it_has_seen(folds: Path) -> None:
    found = triage(panel(folds / "fold-0", device="cpu"))
    trained = {item.id for item in mw.Run.open(folds / "fold-0").folder.read_dataset().split("train")}
    assert {case.id for case in found.cases if case.seen} == trained
    assert "were trained on" in page(found)


def test_a_picture_that_cannot_be_read_is_told(spoilt: Path, folds: Path, tmp_path: Path) -> None:
    judges = panel(folds, device="cpu")
    broken = tmp_path / "broken.png"
    broken.write_bytes((spoilt / "train/images/train0.png").read_bytes()[:200])
    first = judges.judges[0]
    items = (replace(first.items[0], image=broken), *first.items[1:])
    found = triage(replace(judges, judges=(replace(first, items=items),)))
    assert len(found.cases) == len(items) - 1
    assert "broken.png" in found.broken[0]
    with pytest.raises(DataError, match=r"broken\.png"):
        triage(replace(judges, judges=(replace(first, items=items[:1]),)))


def test_decisions_make_a_data_set(found: Triage, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    write_decided(found, file, drop=1, ignore=3)
    dataset = open_dataset(file)
    first, second, third = found.worst(3)
    assert first.id not in {item.id for item in dataset.items}
    for case in (second, third):
        item = next(item for item in dataset.items if item.id == case.id)
        top, left, height, width = case.regions[0].box
        assert (dataset.mask(item)[top : top + height, left : left + width] == IGNORE).all()
    with pytest.raises(ConfigError, match="is there already"):
        write_decided(found, file)


def test_what_was_decided_before_stays() -> None:
    source = {"path": ".", "exclude": ["a"], "ignore": {"b": [[0, 0, 1, 1]], "c": [[2, 2, 2, 2]]}}
    assert decided(source, ["c"], {"b": [(0, 0, 1, 1), (5, 5, 1, 1)], "d": [(1, 2, 3, 4)]}) == {
        "path": ".",
        "exclude": ["a", "c"],
        "ignore": {"b": [[0, 0, 1, 1], [5, 5, 1, 1]], "d": [[1, 2, 3, 4]]},
    }


def test_training_without_the_worst(found: Triage, folds: Path) -> None:
    judges = panel(folds, device="cpu")
    dropped = [case.id for case in found.worst(4)]
    changed = what_if(judges, dropped, device="cpu")
    assert changed.path == folds.with_name("cv-without-4")
    kept = mw.Run.open(changed.path / "fold-1").folder.read_dataset()
    assert not set(dropped) & {item.id for item in kept.items}
    before = mw.Run.open(folds / "fold-1").folder.read_dataset()
    assert {item.id for item in kept.split("validation")} == {
        item.id for item in before.split("validation") if item.id not in dropped
    }
    comparison = changed.comparison
    assert comparison.names == ("cv", "cv-without-4")
    assert comparison.n_images == 52 - 4
    assert "without the worst 4" in page(found, changed).lower()
    assert document(found, changed)["what_if"]
    # Asked again, nothing is trained again.
    weights = changed.path / "fold-0/model/model.safetensors"
    made = weights.stat().st_mtime_ns
    assert what_if(judges, dropped, device="cpu").comparison == comparison
    assert weights.stat().st_mtime_ns == made
    with pytest.raises(RunError, match="other data"):
        what_if(judges, [case.id for case in found.worst(5)[1:]], device="cpu")


def test_the_verb(folds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "triage", str(folds), "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    assert main([*words, "--fix", str(tmp_path / "new.yaml"), "--drop", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {case["id"] for case in said["cases"][:4]} == set(PLANTED)
    assert json.loads((tmp_path / "out/triage.json").read_text())["cases"] == said["cases"]
    assert len(open_dataset(tmp_path / "new.yaml").items) == 58
    assert main([*words, "--fix", str(tmp_path / "new.yaml")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*words, "--what-if", "53"]) == 2
    assert "53 labels are asked for, and train and validation of cv have 52" in capsys.readouterr().err
    assert main([*words, "--drop", "2"]) == 2
    assert "add --fix FILE" in capsys.readouterr().err


def test_a_cross_validation_that_was_stopped(folds: Path, tmp_path: Path) -> None:
    shutil.copytree(folds / "fold-0", tmp_path / "cv/fold-0")
    with pytest.raises(RunError, match="not validated all pictures"):
        panel(tmp_path / "cv")
