"""The verbs on a small real run: what they print, what they leave behind, what they return."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import working_in

from maskwright.cli.main import main
from maskwright.config import load_recipe

SMALL = ["--size=32", "--epochs=2", "--batch=4", "model.width=4", "model.depth=1", "train.precision=fp32"]


def write_circles(root: Path, count: int = 16, *, seed: int = 0) -> Path:
    """Bright discs on dark ground, 40 x 48, masks 0 and 1; every fourth picture is a test picture."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :48]
    for number in range(count):
        split = "test" if number % 4 == 3 else "train"
        row, column, radius = random.uniform(12, 28), random.uniform(12, 36), random.uniform(6, 12)
        mask = ((rows - row) ** 2 + (columns - column) ** 2 < radius**2).astype(np.uint8)
        noise = random.integers(0, 40, (40, 48, 3))
        picture = (noise + 150 * mask[..., None]).astype(np.uint8)
        for kind, array in (("images", picture), ("masks", mask)):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / split / kind / f"{number:02}.png")
    (root / "dataset.yaml").write_text("classes: [ground, disc]\nvalues: {0: ground, 1: disc}\n")
    return root


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data `circles` and a trained run `first`."""
    folder = tmp_path_factory.mktemp("workshop")
    write_circles(folder / "circles")
    with working_in(folder):
        assert main(["train", "--data", "circles", "--name", "first", *SMALL]) == 0
        yield folder


def test_train_leaves_what_the_interface_promises(here: Path) -> None:
    run = here / "runs" / "first"
    for name in (
        "recipe.yaml",
        "dataset.yaml",
        "metrics.csv",
        "batch.png",
        "predictions.png",
        "report.html",
        "log.txt",
        "model/model.safetensors",
        "model/config.json",
        "model/README.md",
        "scores/validation/scores.json",
        "scores/validation/per_image.csv",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "checkpoints" / "last").is_dir()
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    promised = (
        "epoch,step,seconds,images_per_second,train_loss,val_loss,val_dice_image,val_miou,learning_rate"
    )
    assert header.startswith(promised)
    assert len(rows) == 2


def test_evaluate_prints_what_it_saved(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "first", "--split", "test", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((here / "runs/first/scores/test/scores.json").read_text())
    assert printed["n_images"] == 4
    assert 0 <= printed["metrics"]["dice_image"]["value"] <= 1
    assert main(["evaluate", "runs/first"]) == 0
    out = capsys.readouterr().out
    assert f"{printed['metrics']['dice_image']['value']:.4f}" in out
    assert "disc" in out


def test_explain_takes_the_scores_that_are_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "first"]) == 0
    file = here / "runs/first/scores/test/scores.json"
    before = file.stat().st_mtime_ns
    capsys.readouterr()
    assert main(["evaluate", "first", "--explain", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "Evaluating" not in err
    assert file.stat().st_mtime_ns == before
    said = json.loads(out)
    rows = said.pop("explained")
    assert said == json.loads(file.read_text())
    assert all(row["here"] == pytest.approx(said["metrics"][row["metric"]]["value"]) for row in rows)
    (keras,) = [row for row in rows if (row["tool"], row["score"]) == ("Keras", "MeanIoU")]
    assert keras["there"] == pytest.approx(keras["here"])
    assert (keras["difference"], keras["because"]) == (0, "the same rule")
    assert main(["evaluate", "first", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "torchmetrics: segmentation.DiceScore" in out
    assert re.search(r"\w+ [01]\.\d{4} here is [01]\.\d{4} there \(.*\), because .*\.$", out, re.MULTILINE)


def test_explain_evaluates_where_weights_or_contract_are_new(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "first"]) == 0
    scores = here / "runs/first/scores"
    weights, file = here / "runs/first/model/model.safetensors", scores / "test/scores.json"
    assert main(["evaluate", "first", "--explain", "--contract", "empty-one", "--json"]) == 0
    capsys.readouterr()
    (made,) = [folder for folder in scores.iterdir() if folder.name.startswith("test-")]
    assert main(["evaluate", "first", "--contract", str(made / "scores.json"), "--explain"]) == 0
    assert (
        f"contract {json.loads((made / 'scores.json').read_text())['contract_hash']}"
        in capsys.readouterr().out
    )
    shutil.rmtree(made)
    os.utime(file, ns=(0, weights.stat().st_mtime_ns - 1))
    assert main(["evaluate", "first", "--explain"]) == 0
    assert file.stat().st_mtime_ns > weights.stat().st_mtime_ns
    assert main(["evaluate", "first", "--contract", "empty_one"]) == 2
    assert "did you mean empty-one?" in capsys.readouterr().err


def test_scores_of_other_data_or_another_contract_get_their_own_folder(here: Path) -> None:
    write_circles(here / "others", seed=1)
    (here / "strict.yaml").write_text("empty: one\n")
    scores = here / "runs" / "first" / "scores"
    before = set(scores.iterdir())
    assert main(["evaluate", "first", "--data", "others"]) == 0
    (other,) = set(scores.iterdir()) - before
    assert other.name.startswith("test-")
    assert main(["evaluate", "first", "--split", "validation", "--contract", "strict.yaml"]) == 0
    (strict,) = set(scores.iterdir()) - before - {other}
    assert strict.name.startswith("validation-")
    contract = json.loads((strict / "scores.json").read_text())["contract_hash"]
    assert strict.name.endswith(contract)
    for folder in (other, strict):
        shutil.rmtree(folder)


def test_test_time_augmentation_leaves_the_plain_scores_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "first"]) == 0
    scores = here / "runs" / "first" / "scores"
    plain = (scores / "test" / "scores.json").read_bytes()
    capsys.readouterr()
    assert main(["evaluate", "first", "--tta", "scales", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((scores / "test-scales" / "scores.json").read_text())
    assert "with test-time augmentation: scales" in printed["advice"]
    assert (scores / "test" / "scores.json").read_bytes() == plain
    assert "test-scales" in (here / "runs/first/model/README.md").read_text()
    shutil.rmtree(scores / "test-scales")


def test_runs_with_a_plus_are_averaged(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "circles", "--name", "twin", *SMALL, "--seed=5", "--epochs=1"]) == 0
    assert main(["evaluate", "first+twin", "--tta", "flips"]) == 0
    assert "The scores lie in runs/first+twin/scores" in capsys.readouterr().out
    saved = here / "runs/first+twin/scores/test-flips/scores.json"
    assert "average of runs/first, runs/twin" in json.loads(saved.read_text())["advice"]
    words = ["circles/test/images", "--save", "probability", "--tta", "flips", "--out"]
    shares = {}
    for names in ("first", "twin", "first+twin"):
        assert main(["predict", names, *words, str(tmp_path / names)]) == 0
        with np.load(tmp_path / names / "03_probability.npz") as content:
            shares[names] = content["probabilities"]
    assert not np.array_equal(shares["first"], shares["twin"])
    np.testing.assert_array_equal(shares["first+twin"], (shares["first"] + shares["twin"]) / 2)
    for name in ("twin", "first+twin"):
        shutil.rmtree(here / "runs" / name)


def test_a_dry_run_gives_advice_on_recipe_and_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--dry-run", "--batch=1", "input.normalise=dataset"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["train"]["batch"] == 1
    assert [entry["id"] for entry in document["advice"]] == ["lone-picture"]
    assert set(document["advice"][0]) == {"id", "severity", "problem", "advice"}
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("# Warning: with train.batch=1 batch norm sees")
    (here / "mine.yaml").write_text(printed)
    assert load_recipe(str(here / "mine.yaml")).train.batch == 1
    # 12 pictures of which one in ten validates: 11 to train, in steps of 2, one of them alone
    words = ["train", "--dry-run", "--batch=2"]
    assert main(words) == 0
    assert "lone" not in (known := capsys.readouterr().out)
    assert "# " not in known
    assert main([*words, "--data", "circles"]) == 0
    assert "# Warning: with train.batch=2 and 11 pictures" in capsys.readouterr().out
    assert main([*words, "--data", "nowhere"]) == 2


def test_predict_writes_masks_of_the_pictures_size_and_reports_broken_files(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(here / "circles/test/images/03.png", photos / "a.png")
    Image.new("RGB", (31, 17), (90, 90, 90)).save(photos / "b.jpg")
    (photos / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    words = ["predict", "first", str(photos), "--out", str(tmp_path / "out"), "--save", "mask,overlay"]
    assert main([*words, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [Path(entry["input"]).name for entry in answer["done"]] == ["a.png", "b.jpg"]
    assert "c.jpg" in answer["failed"][0]["error"]
    with Image.open(tmp_path / "out" / "b.png") as mask:
        assert mask.size == (31, 17)
        assert mask.mode == "P"
        assert set(np.unique(np.asarray(mask))) <= {0, 1}
    assert len(list((tmp_path / "out").glob("[!.]*"))) == 4
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "2 of 3 pictures done" in out
    assert "c.jpg" in out


def test_predict_refuses_an_unknown_kind(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "first", "circles/test/images", "--out", "no", "--save", "masks"]
    assert main(words) == 2
    assert "mask" in capsys.readouterr().err
    assert not (here / "no").exists()


def test_show_and_runs_and_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for named in ("first", "runs/first", "runs/first/model"):
        assert main(["show", named]) == 0
        assert "disc" in capsys.readouterr().out
    assert main(["show", "first", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["spec"]["classes"] == ["ground", "disc"]
    assert "validation" in shown["scores"]
    assert main(["runs", "--json"]) == 0
    (line,) = [run for run in json.loads(capsys.readouterr().out)["runs"] if run["name"] == "first"]
    assert (line["model"], line["data"], line["epochs"]) == ("unet", "circles", 2)
    assert line["validation_dice"] is not None
    (here / "runs/first/report.html").unlink()
    assert main(["report", "first"]) == 0
    page = (here / "runs/first/report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page


def test_data_show_counts_and_draws(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "circles", "--out", "sheet.png", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    masks = [np.asarray(Image.open(file)) for file in (here / "circles").glob("*/masks/*.png")]
    assert facts["pictures"] == 16
    assert facts["smallest"] == facts["largest"] == [40, 48]
    assert facts["classes"][1]["share"] == pytest.approx(np.mean(masks))
    assert facts["classes"][1]["pictures"] == 16
    assert facts["ignored"] == 0
    assert {split["name"]: split["pictures"] for split in facts["splits"]}["test"] == 4
    with Image.open(here / "sheet.png") as sheet:
        assert sheet.width > 400
    assert main(["data", "show", "circles", "--augmented", "unet", "--out", "batch.png"]) == 0
    assert "batch.png" in capsys.readouterr().out
    with Image.open(here / "batch.png") as sheet:
        assert sheet.width > 400


def test_prepare_and_cache(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "circles", "--size", "24,32", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["pictures"] == 12
    assert made["bytes"] >= 12 * 24 * 32 * 4
    assert main(["cache", "--json"]) == 0
    sizes = [store["size"] for store in json.loads(capsys.readouterr().out)["stores"]]
    assert [24, 32] in sizes
    assert main(["cache", "clean"]) == 0
    assert "MiB freed" in capsys.readouterr().out
    assert main(["cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stores"] == []


def test_a_taken_name_suggests_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (here / "runs/first/metrics.csv").read_bytes()
    assert main(["train", "--data", "circles", "--name", "first", *SMALL]) == 2
    assert "exists already; choose another name, such as first-2" in capsys.readouterr().err
    assert (here / "runs/first/metrics.csv").read_bytes() == before


def test_training_on_from_a_finished_run_starts_from_its_weights(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", "circles", "--name", "second", "--init", "first", *SMALL, "--epochs=1"]
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["run"] == "runs/second"
    assert "first" in err
    shutil.rmtree(here / "runs/second")


def test_resuming_a_finished_run_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        here / "runs/first" / name for name in ("model/model.safetensors", "scores/validation/scores.json")
    ]
    before = [(file.stat().st_mtime_ns, file.read_bytes()) for file in files]
    assert main(["train", "--resume", "first"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == ["Going on with first", "runs/first is finished (epoch 2)"]
    assert "Next: maskwright evaluate runs/first --split test" in out
    assert [(file.stat().st_mtime_ns, file.read_bytes()) for file in files] == before


def test_resuming_a_finished_run_makes_what_is_missing(here: Path) -> None:
    weights = (here / "runs/first/model/model.safetensors").read_bytes()
    scores = here / "runs/first/scores/validation/scores.json"
    scores.unlink()
    assert main(["train", "--resume", "first"]) == 0
    assert scores.is_file()
    assert (here / "runs/first/model/model.safetensors").read_bytes() == weights


def test_a_finished_run_goes_on_where_its_recipe_has_more_epochs(here: Path) -> None:
    shutil.copytree(here / "runs/first", here / "runs/longer")
    recipe = here / "runs/longer/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 2", "epochs: 3"))
    assert main(["train", "--resume", "longer"]) == 0
    assert len((here / "runs/longer/metrics.csv").read_text().splitlines()) == 4
    shutil.rmtree(here / "runs/longer")


def test_folds_score_every_picture_by_a_model_that_never_saw_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", "circles", "--name", "crossed", "--folds", "3", *SMALL, "--epochs=1"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["runs"] == [f"runs/crossed/fold-{number}" for number in range(3)]
    assert answer["scores"]["n_images"] == 12
    saved = here / "runs/crossed/scores/out-of-fold/per_image.csv"
    ids = {line.partition(",")[0] for line in saved.read_text().splitlines()[1:]}
    assert len(ids) == 12
    assert main(["evaluate", "runs/crossed/fold-1"]) == 0
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    names = [run["name"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert {"crossed/fold-0", "crossed/fold-2"} <= set(names)
