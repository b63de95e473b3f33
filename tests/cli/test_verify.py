"""`verify`: a run says that it is repeated bit for bit, or who changed what."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from maskwright.cli.main import main
from maskwright.receipt import Receipt, read_receipt, receipt_facts

SMALL = ["--size=16", "--epochs=2", "--batch=8", "model.width=4", "model.depth=1", "train.precision=fp32"]
ALL = ["optim.ema=0.9", "augment.mixup=0.4", "augment.rotate=20", "augment.noise=0.1", "model.dropout=0.2"]

Say = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def workshop(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data `discs` (40 training pictures) and a run `first` of ten steps, with all that draws numbers."""
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copytree(discs, folder / "discs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MASKWRIGHT_CACHE", str(folder / "cache"))
        assert main(["train", "--data", "discs", "--name", "first", *SMALL, *ALL, "--threads=1"]) == 0
        yield folder


@pytest.fixture
def here(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workshop to spoil; the run's data lie in the copy."""
    copy = tmp_path / "copy"
    shutil.copytree(workshop, copy, ignore=shutil.ignore_patterns("cache"))
    file = copy / "runs/first/dataset.yaml"
    file.write_text(re.sub(r"^path: .*$", f"path: {copy / 'discs'}", file.read_text(), flags=re.MULTILINE))
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """`verify --json` with these words: exit code and document."""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = main(["verify", *words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def spoil(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit receipt.json by hand."""
    content = json.loads((run / "receipt.json").read_text())
    change(content)
    (run / "receipt.json").write_text(json.dumps(content))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_finished_run_is_repeated_to_the_bit_and_not_touched(
    here: Path, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(here / "runs")
    code, said = say("first")
    assert (code, said["verdict"], said["first"], said["reasons"]) == (0, "exact", None, [])
    assert [check["step"] for check in said["checks"]] == list(range(9))
    assert all(check["exact"] and check["drift"] == 0 for check in said["checks"])
    assert contents(here / "runs") == before
    assert main(["verify", "runs/first", "--steps=2"]) == 0
    out = capsys.readouterr().out
    assert "first: the first 2 steps have the same bits" in out


@pytest.mark.parametrize("bits", [255, 1])
def test_one_pixel_of_one_training_picture_names_the_picture(
    here: Path, say: Say, capsys: pytest.CaptureFixture[str], bits: int
) -> None:
    """Also where the change is so small that the picture is the same when it was made smaller for the network."""
    file = here / "discs/train/images/train7.png"
    picture = np.array(Image.open(file))
    picture[5, 5, 0] ^= bits
    Image.fromarray(picture).save(file)
    code, said = say("first")
    assert (code, said["verdict"]) == (1, "diverged")
    assert len(said["reasons"]) == 1
    assert re.fullmatch(r"the data changed: \S*train7 \(train: picture\)", said["reasons"][0])
    assert (said["first"] is None) == (bits == 1)
    if said["first"] is not None:
        assert said["first"]["side"] == "the pictures of the batch"
    assert main(["verify", "first"]) == 1
    assert "Reason: the data changed" in capsys.readouterr().out


def test_another_learning_rate_names_the_key(here: Path, say: Say) -> None:
    file = here / "runs/first/recipe.yaml"
    file.write_text(re.sub(r"learning_rate: [\d.]+", "learning_rate: 0.0011", file.read_text()))
    code, said = say("first")
    assert (code, said["verdict"]) == (1, "diverged")
    assert said["reasons"] == ["the recipe changed: optim.learning_rate (0.002 then, 0.0011 now)"]
    assert said["first"]["step"] == 1
    assert said["first"]["side"] == "the gradients or the optimiser"
    assert "diverges at step 1, in the gradients or the optimiser" in said["sentence"]


def test_a_key_without_effect_on_the_first_steps_is_named_as_well(here: Path, say: Say) -> None:
    file = here / "runs/first/recipe.yaml"
    file.write_text(file.read_text().replace("patience: 0", "patience: 9"))
    code, said = say("first")
    assert (code, said["verdict"], said["first"]) == (1, "diverged", None)
    assert said["reasons"] == ["the recipe changed: train.patience (0 then, 9 now)"]
    assert "not all that the run was made of is the same" in said["sentence"]


def test_another_network_is_told_from_its_first_weights(here: Path, say: Say) -> None:
    file = here / "runs/first/recipe.yaml"
    file.write_text(file.read_text().replace("width: 4", "width: 5"))
    code, said = say("first")
    assert (code, said["first"]["step"], said["first"]["side"]) == (1, 0, "the initial weights")
    assert said["reasons"] == ["the recipe changed: model.width (4 then, 5 now)"]


def test_a_test_picture_is_a_note(here: Path, say: Say) -> None:
    (here / "discs/test/images/test3.png").write_bytes((here / "discs/test/images/test4.png").read_bytes())
    code, said = say("first")
    assert (code, said["verdict"], said["reasons"]) == (0, "exact", [])
    assert re.search(r"training does not see have changed: \S*test3 \(test: picture\)$", said["notes"][0])


def test_a_mask_that_another_split_took_and_one_that_is_gone(here: Path, say: Say) -> None:
    with (here / "runs/first/dataset.yaml").open("a") as handle:
        handle.write("exclude: [train3]\n")
    mask = here / "discs/train/masks/train5.png"
    Image.fromarray(1 - np.array(Image.open(mask))).save(mask)
    code, said = say("first")
    assert code == 1
    assert re.search(r"train3 \(train: gone\), \S*train5 \(train: mask\)", said["reasons"][0])


def test_more_threads_are_named_and_tolerated(here: Path, say: Say) -> None:
    """Two threads may give the same bits in so small a network; whichever way, it is not a divergence."""
    code, said = say("first", "--threads=2")
    assert code == 0
    assert torch.get_num_threads() == 1
    told = said["notes"] if said["verdict"] == "exact" else said["reasons"]
    assert any("the number of threads: 1 then, 2 now" in line for line in told)


def test_the_threads_of_the_run_are_taken_without_being_asked(here: Path, say: Say) -> None:
    torch.set_num_threads(2)
    try:
        code, said = say("first")
        assert (code, said["verdict"], said["notes"]) == (0, "exact", [])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_an_altered_hash_in_the_middle_is_found_out(here: Path, say: Say) -> None:
    spoil(here / "runs/first", lambda content: content["marks"][4]["weights"].__setitem__(2, "0" * 16))
    code, said = say("first")
    assert (code, said["verdict"], said["first"]["step"]) == (1, "diverged", 4)
    name = read_receipt(here / "runs/first/receipt.json").tensors[2]
    assert said["first"]["tensors"] == [name]
    assert "receipt.json was altered: step 5 has the same bits again" in said["reasons"][0]


def test_an_altered_hash_at_the_end_is_not_excused_by_tolerance(here: Path, say: Say) -> None:
    spoil(here / "runs/first", lambda content: content["marks"][8]["weights"].__setitem__(2, "0" * 16))
    code, said = say("first")
    assert (code, said["verdict"]) == (1, "diverged")
    assert "receipt.json was altered, or memory fails" in said["reasons"][0]


def test_another_library_explains_small_differences_and_no_large_ones(here: Path, say: Say) -> None:
    def older(content: dict[str, Any]) -> None:
        content["lives"][0]["versions"]["torch"] = "2.0.0"
        content["marks"][1]["weights"] = ["0" * 16] * len(content["tensors"])

    spoil(here / "runs/first", older)
    code, said = say("first")
    assert (code, said["verdict"]) == (0, "tolerance")
    assert said["reasons"] == [f"torch: 2.0.0 then, {torch.__version__.partition('+')[0]} now"]

    def farther(content: dict[str, Any]) -> None:
        for numbers in content["marks"][1]["numbers"]:
            numbers[:] = [1.1 * number + 1e-3 for number in numbers]

    spoil(here / "runs/first", farther)
    assert say("first")[1]["verdict"] == "diverged"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no receipt.json: it was begun by a version without receipts; train anew"),
        ("{", "is damaged: "),
        ("[]", "is damaged: "),
        ('{"format": 9}', "is damaged: format: "),
    ],
)
def test_no_receipt_and_damaged_ones(
    here: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    file = here / "runs/first/receipt.json"
    file.unlink() if content is None else file.write_text(content)
    capsys.readouterr()
    assert main(["verify", "first"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert said in err


def test_half_a_receipt_is_damaged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "runs/first/receipt.json"
    spoil(file.parent, lambda content: content["marks"][1]["weights"].pop())
    assert main(["verify", "first"]) == 2
    assert "the marks and the names of the tensors do not belong together" in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert main(["verify", "first"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_data_that_are_gone_and_found_elsewhere(
    here: Path, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "discs").rename(here / "moved")
    assert main(["verify", "first"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "the data of runs/first cannot be read" in err
    assert "--data names where they lie now" in err
    code, said = say("first", "--data", "moved")
    assert (code, said["reasons"]) == (0, [])


def test_without_digests_the_data_are_still_named(here: Path, say: Say) -> None:
    (here / "runs/first/digests.csv").unlink()
    assert say("first")[0] == 0
    (here / "discs/train/images/train7.png").write_bytes(
        (here / "discs/train/images/train8.png").read_bytes()
    )
    assert "which pictures cannot be told" in say("first")[1]["reasons"][0]


def test_another_order_of_the_pictures_is_named(here: Path, say: Say) -> None:
    file = here / "runs/first/dataset.yaml"
    file.write_text(file.read_text().replace("  train: train\n  val: val\n", "  val: val\n  train: train\n"))
    said = say("first")[1]
    assert said["reasons"] == ["the data changed: pictures come in another order or in other groups"]


def test_runs_that_start_from_weights_and_go_on_verify(
    here: Path, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "discs", "--name", "tuned", "--init", "first", *SMALL]) == 0
    assert say("tuned")[1]["verdict"] == "exact"
    shutil.rmtree(here / "runs/tuned/scores")
    assert main(["train", "--resume", "tuned"]) == 0
    receipt = read_receipt(here / "runs/tuned/receipt.json")
    assert [life.step for life in receipt.lives] == [0, 10]
    assert say("tuned", "--steps=99")[1]["verdict"] == "exact"
    weights = here / "runs/first/model/model.safetensors"
    assert receipt.init is not None
    assert receipt.init.weights == hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    other = load_file(weights)
    next(iter(other.values())).add_(1)
    save_file(other, weights)
    code, said = say("tuned")
    assert (code, said["first"]["step"]) == (1, 0)
    assert said["reasons"] == [f"the weights that the run started from changed: {receipt.init.path}"]
    shutil.rmtree(here / "runs/first/model")
    assert main(["verify", "tuned"]) == 2
    assert "which are gone; put that model folder back" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.usefixtures("clock")
def test_a_budget_is_replayed_by_its_plan_and_folds_by_theirs(here: Path, say: Say) -> None:
    """The number of steps came from the clock: a replay could not find it."""
    words = ["train", "--data", "discs", *SMALL, "augment.strength=adaptive"]
    assert main([*words, "--name", "timed", "--budget", "24s", "--epochs", "100000"]) == 0
    receipt = read_receipt(here / "runs/timed/receipt.json")
    code, said = say("timed", "--steps", "64")
    assert (code, said["verdict"]) == (0, "exact")
    assert any(0 < plan.step < said["steps"] for plan in receipt.plan)
    assert main([*words, "--name", "folds", "--folds", "2", "optim.schedule=plateau"]) == 0
    assert say("runs/folds/fold-1")[1]["verdict"] == "exact"


def test_the_receipt_is_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt: Receipt = read_receipt(here / "runs/first/receipt.json")
    assert [mark.step for mark in receipt.marks] == list(range(9))
    shown = receipt_facts(receipt)
    assert shown["Data"] == f"discs, fingerprint {receipt.data.fingerprint}"
    assert shown["Device"] == "cpu, fp32, 1 thread"
    assert main(["show", "first", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["receipt"] == shown
    life = receipt.lives[0]
    assert life.versions["torch"] == torch.__version__.partition("+")[0]
    assert (life.device, life.precision, life.threads) == ("cpu", "fp32", 1)
    assert receipt.data.pictures == {"train": 40, "validation": 12, "test": 8}
    lines = (here / "runs/first/digests.csv").read_text().splitlines()
    assert lines[0] == "id,split,picture,mask"
    assert len(lines) == 61
    assert (here / "runs/first/receipt.json").stat().st_size < 90_000
