"""What a bad input gets: one line that names file and value and says what next, exit code 2, nothing lost."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.main import main
from maskwright.data.dataset import open_dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """images/ and masks/ with 8 sound pairs of 24 x 20, classes 0 and 1."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(8):
        mask = np.zeros((24, 20), np.uint8)
        mask[4 : 8 + number, 5:15] = 1
        write_mask(tmp_path / "data", number, mask)
        picture = random.integers(0, 255, (24, 20, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "data/images" / f"{number}.jpg")
    return tmp_path / "data"


def write_mask(data: Path, number: int, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(data / "masks" / f"{number}.png")


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that fails with 2."""
    code = main(words)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    assert re.search(r"; \S", lines[0]), "no next step"
    return lines[0]


def test_the_sound_data_pass(data: Path) -> None:
    assert main(["data", "show", str(data)]) == 0


def test_a_mask_of_another_size(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mask(data, 3, np.zeros((20, 24), np.uint8))
    line = complaint(["train", "--data", str(data)], capsys)
    assert "3.png" in line
    assert "20 x 24" in line
    assert "24 x 20" in line


def test_the_classic_0_and_255(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        mask = np.zeros((24, 20), np.uint8)
        mask[4:12, 5:15] = 255
        write_mask(data, number, mask)
    line = complaint(["train", "--data", str(data)], capsys)
    assert "255" in line
    assert "values: {0:" in line


def test_a_value_outside_the_classes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "dataset.yaml").write_text("classes: [ground, thing]\nvalues: {0: ground, 1: thing}\n")
    mask = np.zeros((24, 20), np.uint8)
    mask[2, 2] = 7
    write_mask(data, 5, mask)
    line = complaint(["train", "--data", str(data)], capsys)
    assert "5.png" in line
    assert "7" in line


def test_an_image_without_a_mask(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "masks" / "2.png").unlink()
    assert "2" in complaint(["train", "--data", str(data)], capsys)


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in complaint(["train", "--data", str(tmp_path / "empty")], capsys)


@pytest.mark.parametrize("content", ["torn", "no image"])
def test_broken_pictures_are_all_listed_and_can_be_skipped(
    content: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = [item.image for item in open_dataset(data).split("train")][:2]
    for file in (first, second):
        assert isinstance(file, Path)
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if content == "torn" else b"these are words")
    tiny = ["model.width=4", "model.depth=1", "--size=16", "--epochs=1", "--batch=2"]
    line = complaint(["train", "--data", str(data), "--name", "x", *tiny], capsys)
    assert str(first) in line
    assert str(second) in line
    assert "--skip-broken" in line
    assert main(["train", "--data", str(data), "--name", "y", "--skip-broken", *tiny]) == 0
    out, err = capsys.readouterr()
    assert "left out" in out + err


def test_an_unknown_key_in_dataset_yaml(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "dataset.yaml").write_text("clases: [ground, thing]\n")
    assert "did you mean classes?" in complaint(["train", "--data", str(data)], capsys)


def test_a_class_missing_in_validation_is_said_before_training(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((24, 20), np.uint8)
    mask[0, 0] = 2
    write_mask(data, 0, mask)
    assert main(["data", "show", str(data)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: ")]
    assert any("class_2" in note for note in notes)


def test_a_folder_that_is_no_run(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["evaluate", str(data)], ["report", str(data)], ["train", "--resume", str(data)]):
        assert "is not a run folder" in complaint(words, capsys)
    assert "neither a run nor a model" in complaint(["predict", str(data), "x.png", "--out", "y"], capsys)


def test_an_output_folder_that_is_a_file(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data.parent / "file").write_text("")
    line = complaint(["data", "show", str(data), "--out", str(data.parent / "file" / "sheet.png")], capsys)
    assert "file" in line


def test_a_device_that_is_not_here(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(["train", "--data", str(data), "--device", "cuda:99"], capsys)
    assert "cuda:99" in line


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "loss.targets.depht=l1",
            "loss.targets names 'depht', which the data do not have; did you mean depth?",
        ),
        ("loss.targets.depth=0.5*l3", "names 'l3'; did you mean l"),
        ("loss.targets.depth=2", "loss.targets=2 in"),
    ],
)
def test_a_loss_for_no_target(word: str, said: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "depth").mkdir()
    for number in range(8):
        np.save(data / "depth" / f"{number}.npy", np.ones((24, 20)))
    templates = 'images: "images/{id}.jpg"\nmasks: "masks/{id}.png"\ntargets: {depth: "depth/{id}.npy"}\n'
    (data / "dataset.yaml").write_text(templates)
    assert said in complaint(["train", "--data", str(data), "--name", "x", word], capsys)
    assert not (data.parent / "runs" / "x").exists(), "a typo does not use up the name"


def test_a_network_without_a_place_for_an_edge_head(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", str(data), "--model", "fpn:resnet18", "--size", "32", "loss.edge=0.4"]
    assert "fpn:resnet18 cannot have" in complaint(words, capsys)


def test_a_study_with_an_unknown_key(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("data: data\naxis: {train.batch: [2, 4]}\n")
    line = complaint(["study", "mine.yaml"], capsys)
    assert "mine.yaml has no key 'axis'; did you mean axes?" in line
    Path("mine.yaml").write_text("data: data\naxes: {train.bach: [2, 4]}\n")
    assert "did you mean train.batch?" in complaint(["study", "mine.yaml"], capsys)


def test_a_study_without_data_or_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "names no data; add --data" in complaint(["study", "002-table"], capsys)
    assert "there is no study '002-tables'; did you mean 002-table?" in complaint(
        ["study", "002-tables"], capsys
    )
    assert "nowhere.yaml cannot be read" in complaint(["study", "nowhere.yaml"], capsys)


def test_a_study_whose_data_have_no_test_pictures(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(["study", "002-table", "--data", str(data), "--size", "16,16"], capsys)
    assert "has no test pictures" in line
    assert not Path("runs").exists()


def test_files_of_others_are_not_replaced(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sheet and an audit of ours are; what only has their name is not."""
    for words, names in ((["show"], ["data.png"]), (["audit"], ["audit/audit.html", "audit/audit.json"])):
        for name in names:
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("precious")
            assert "--out" in complaint(["data", *words, str(data)], capsys)
            assert Path(name).read_text() == "precious"
            Path(name).unlink()
        for _ in range(2):
            assert main(["data", *words, str(data)]) == 0
        assert all(Path(name).stat().st_size > 100 for name in names)
        capsys.readouterr()


def test_a_proposal_that_cannot_be_read_yet_is_shown_and_saved(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mask(data, 3, np.zeros((9, 9), np.uint8))
    assert main(["data", "show", str(data)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "Proposed (cannot be read yet), save it with" in shown
    assert "maskwright data audit" in shown
    assert "format: folder" in shown
    assert main(["data", "show", str(data), "--save", "bad.yaml"]) == 1
    assert "Saved: bad.yaml (cannot be read yet)" in " ".join(capsys.readouterr().out.split())
    assert Path("bad.yaml").is_file()
