"""What a verb says comes next can be done, and what cannot be done says what can."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import working_in

from maskwright.cli.main import main

SMALL = ["--size=32", "--epochs=1", "--batch=4", "model.width=4", "model.depth=1", "train.precision=fp32"]


def write_pictures(root: Path) -> None:
    """12 pairs without a split."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((32, 32), np.uint8)
        mask[4 : 10 + number, 5:20] = 1
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        noise = random.integers(0, 40, (32, 32, 3))
        Image.fromarray((noise + 150 * mask[..., None]).astype(np.uint8)).save(
            root / "images" / f"{number}.png"
        )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data `cells` without a test split, a cross-validation `fo` on them, and what it printed."""
    folder = tmp_path_factory.mktemp("workshop")
    write_pictures(folder / "cells")
    with working_in(folder):
        with (folder / "said.txt").open("w") as said, contextlib.redirect_stdout(said):
            assert main(["train", "--data", "cells", "--name", "fo", "--folds", "2", *SMALL]) == 0
        yield folder


def test_without_a_test_split_none_is_advised(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "cells", "--name", "one", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "--split test" not in out
    assert "splits: {train: train.txt, test: test.txt} in dataset.yaml" in out
    assert "--folds 5" in out
    report = (here / "runs/one/report.html").read_text()
    assert "--split test" not in report
    assert "splits: {train: train.txt, test: test.txt} in dataset.yaml" in report
    (here / "train.txt").write_text("\n".join(map(str, range(9))))
    (here / "test.txt").write_text("9\n10\n11")
    for name in ("train.txt", "test.txt"):
        shutil.move(here / name, here / "cells" / name)
    (here / "cells/dataset.yaml").write_text(
        "images: images/{id}.png\nmasks: masks/{id}.png\nsplits: {train: train.txt, test: test.txt}\n"
    )
    assert main(["train", "--data", "cells", "--name", "two", *SMALL]) == 0
    assert "Next: maskwright evaluate runs/two --split test" in capsys.readouterr().out
    assert "maskwright evaluate two --split test" in (here / "runs/two/report.html").read_text()
    for name in ("dataset.yaml", "train.txt", "test.txt"):
        (here / "cells" / name).unlink()
    shutil.rmtree(here / "runs/one")
    shutil.rmtree(here / "runs/two")


def test_a_cross_validation_names_its_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(here / "cells/images/0.png")
    for words in (
        ["predict", "fo", picture, "--out", "masks"],
        ["show", "fo"],
        ["export", "fo"],
        ["report", "fo"],
        ["report", "runs/fo"],
        ["evaluate", "fo"],
        ["train", "--resume", "fo"],
    ):
        assert main(words) == 2, words
        err = capsys.readouterr().err
        assert "fo is a cross-validation, not a run; name one of them, such as " in err, words
        assert "fo/fold-0+" in err
    for name in ("fo/fold-0", "fo/fold-0+fo/fold-1"):
        assert main(["predict", name, picture, "--out", name.replace("/", "-")]) == 0
    assert main(["evaluate", "fo/fold-0+fo/fold-1", "--data", "cells", "--split", "validation"]) == 0
    assert main(["show", "fo/fold-0"]) == 0
    assert main(["report", "fo/fold-1"]) == 0
    assert "<title>fo/fold-1" in (here / "runs/fo/fold-1/report.html").read_text()  # what the next steps name


def test_stopped_folds_are_not_gone_on_with(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maskwright.api.cross_validate", stop)
    assert main(["train", "--data", "cells", "--folds", "2", *SMALL]) == 130
    assert "stopped; begin anew, under another name" in capsys.readouterr().err


def test_folds_end_with_a_next_step_and_without_a_common_temperature(here: Path) -> None:
    said = (here / "said.txt").read_text()
    assert "Expected calibration error" in said
    assert "temperature nan" not in said
    assert "Next: maskwright predict runs/fo/fold-0+runs/fo/fold-1 PICTURES --out masks/" in said


def test_the_report_of_a_run_without_a_model_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs/killed").mkdir()
    for name in ("recipe.yaml", "dataset.yaml"):
        shutil.copy(here / "runs/fo/fold-0" / name, here / "runs/killed" / name)
    assert main(["report", "killed"]) == 2
    err = capsys.readouterr().err
    assert "run runs/killed has no model yet; wait for its first epoch, or `maskwright train --resume" in err
    shutil.rmtree(here / "runs/killed")


@pytest.mark.parametrize("count", ["0", "-3"])
def test_threads_that_cannot_work_are_told(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["train"], ["evaluate", "x"], ["predict", "x", "y", "--out", "z"], ["export", "x"]):
        assert main([*verb, f"--threads={count}"]) == 2
        assert "Invalid value for '--threads'" in capsys.readouterr().err


def test_python_runs_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "maskwright", "cache", "--json"], capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout)
