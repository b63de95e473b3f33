"""`predict --save`, going on after a stop, `clean` and `predict --clean`, on a small real run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import working_in
from tests.cli.test_verbs import SMALL, write_circles

from maskwright.cli.main import main
from maskwright.predict.clean import Cleaning, KeptCleaning, clean, save_cleaning, weights_digest
from maskwright.predict.predictor import Predictor

PHOTOS = "circles/test/images"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data `circles` and a trained run `first`."""
    folder = tmp_path_factory.mktemp("workshop")
    write_circles(folder / "circles", 20)
    with working_in(folder):
        assert main(["train", "--data", "circles", "--name", "first", *SMALL]) == 0
        yield folder


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that fails with 2."""
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+; [^\n]+\n", err), err
    return err


def test_several_kinds_and_files_of_the_call(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "first", PHOTOS, "--out", "kinds", "--save", "mask, polygons,coco,statistics"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [Path(path).name for path in answer["files"]] == ["annotations.json", "pixels.csv", "objects.csv"]
    assert all(Path(path).is_file() for path in answer["files"])
    names = sorted(path.name for path in Path(PHOTOS).iterdir())
    assert [Path(entry["input"]).name for entry in answer["done"]] == names
    for entry in answer["done"]:
        assert [Path(path).suffix for path in entry["outputs"]] == [".png", ".geojson"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert f"{len(names)} of {len(names)} pictures are done already" in err
    assert f"{len(names)} of {len(names)} pictures done, in kinds" in out
    assert "Of all of them: annotations.json, pixels.csv, objects.csv" in out


def test_masks_beside_pictures_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("album").mkdir()
    Image.new("RGB", (40, 30)).save("album/a.jpg")
    for out, told in (("apart", False), ("album", True)):
        assert main(["predict", "first", "album", "--out", out]) == 0
        assert ("masks lie beside pictures now" in " ".join(capsys.readouterr().out.split())) == told


def test_stopped_it_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["predict", "first", PHOTOS, "--out", "stopped"]
    asked, ask = [], Predictor.__call__

    def until_stopped(self: Predictor, image: np.ndarray) -> object:
        asked.append(image)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ask(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "__call__", until_stopped)
        assert main(words) == 130
    assert "error: stopped; the same command goes on where it was" in capsys.readouterr().err
    assert main(words) == 0
    assert main([*words[:-1], "whole"]) == 0
    masks = {path.name: path.read_bytes() for path in Path("whole").glob("*.png")}
    assert masks == {path.name: path.read_bytes() for path in Path("stopped").glob("*.png")}


def test_a_folder_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("mine")
    line = complaint(["predict", "first", PHOTOS, "--out", "file/below"], capsys)
    assert "file/below cannot be written to: Not a directory; choose another --out" in line
    assert (here / "file").read_text() == "mine"


def test_files_of_others_are_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "theirs").mkdir()
    (here / "theirs/annotations.json").write_text("{}")
    line = complaint(["predict", "first", PHOTOS, "--out", "theirs", "--save", "coco"], capsys)
    assert "theirs/annotations.json is there already, and was not predicted; choose another --out" in line


def test_clean_judges_and_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One validation picture proves nothing."""
    assert main(["clean", "first", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kept"], answer["pictures"]) == (False, 1)
    assert not Path("runs/first/model/cleaning.json").exists()
    assert main(["clean", "first"]) == 0
    assert re.match(r"first: none is kept: .*1 picture", capsys.readouterr().out)
    line = complaint(["predict", "first", PHOTOS, "--out", "no", "--clean"], capsys)
    assert "runs/first/model has no cleaning; `maskwright clean RUN` chooses one" in line
    Path("second").unlink(missing_ok=True)
    Path("second").symlink_to("runs/first")
    line = complaint(["predict", "first+second", PHOTOS, "--out", "no", "--clean"], capsys)
    assert "leave out --clean" in line
    assert not Path("no").exists()


def test_clean_masks_only_where_they_are_asked_for(here: Path) -> None:
    model = here / "runs/first/model"
    rules = Cleaning(threshold=0.4, holes=30, smallest=30)
    kept = KeptCleaning(
        cleaning=rules,
        weights=weights_digest(model),
        split="validation",
        pictures=60,
        gain=0.02,
        ci95=None,
        p=0.001,
    )
    assert main(["predict", "first", PHOTOS, "--out", "before", "--save", "plain,probability"]) == 0
    save_cleaning(model, kept)
    assert main(["predict", "first", PHOTOS, "--out", "plain", "--save", "plain"]) == 0
    assert (
        main(["predict", "runs/first/model", PHOTOS, "--out", "cleaned", "--save", "plain", "--clean"]) == 0
    )
    for path in Path("before").glob("*_plain.png"):
        assert path.read_bytes() == (here / "plain" / path.name).read_bytes()
        with np.load(str(path).replace("_plain.png", "_probability.npz")) as saved:
            second = saved["probabilities"][1]
        expected = clean((second > np.float32(0.4)).astype(np.uint8), rules)
        np.testing.assert_array_equal(np.asarray(Image.open(here / "cleaned" / path.name)), expected)
    assert main(["clean", "first"]) == 0, "what is judged anew is kept no longer"
    assert not (model / "cleaning.json").exists()
