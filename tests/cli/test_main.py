"""One answer or one line, an exit code, and nothing heavy before it is needed."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer.main

from maskwright.cli.answer import Answer, plain
from maskwright.cli.main import app, main
from maskwright.cli.options import SHORT
from maskwright.config import recipe_keys, recipe_names

ROOT = typer.main.get_command(app)
VERBS = [
    ["demo"],
    ["data", "show"],
    ["data", "audit"],
    ["data", "triage"],
    ["data", "convert"],
    ["data", "prepare"],
    ["data", "pull"],
    ["train"],
    ["evaluate"],
    ["export"],
    ["predict"],
    ["compare"],
    ["study"],
    ["calibrate"],
    ["clean"],
    ["report"],
    ["show"],
    ["push"],
    ["verify"],
    ["runs"],
    ["recipes"],
    ["models"],
    ["env"],
    ["cache"],
]

HELP_IMPORTS = """
import sys
from maskwright.cli.main import main
code = main(["--help"])
heavy = {"torch", "numpy", "PIL", "pydantic", "yaml", "rich", "scipy", "matplotlib", "importlib.metadata"}
print("imported:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_imports_nothing_heavy() -> None:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", HELP_IMPORTS], capture_output=True, text=True, check=False)
    print(f"maskwright --help: {time.perf_counter() - begun:.2f} s")
    assert done.returncode == 0
    assert done.stderr.strip() == "imported:"
    assert "evaluate" in done.stdout


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, maskwright; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_with_examples_that_parse(
    verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said([*verb, "-h"], capsys)
    assert (code, err) == (0, "")
    examples = re.findall(r"^\s+maskwright (.*)$", out.partition("For example:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        words = example.partition(">")[0].replace("--json", "").split()
        assert words[: len(verb)] == verb
        command = ROOT
        for word in verb:
            command = command.commands[word]  # type: ignore[attr-defined]
        command.make_context(" ".join(verb), words[len(verb) :])


def test_the_list_of_verbs_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    names = set(ROOT.commands) - {"data"}  # type: ignore[attr-defined]
    data = {f"data {name}" for name in ROOT.commands["data"].commands}  # type: ignore[attr-defined]
    assert names | data == {" ".join(verb) for verb in VERBS}
    _, out, _ = said([], capsys)
    assert all(re.search(rf"^  {verb[0]}  ", out, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "maskwright has no verb 'trian'; did you mean train?"),
        (["data", "shwo"], "maskwright data has no verb 'shwo'; did you mean show?"),
        (["data"], "maskwright data needs a verb; there are: show, audit, triage, convert, prepare, pull"),
        (["train", "--imgsz", "256"], "maskwright train has no option --imgsz; did you mean --size?"),
        (
            ["train", "--batch_size", "4"],
            "maskwright train has no option --batch_size; did you mean --batch?",
        ),
        (
            ["train", "--batch-size", "4"],
            "maskwright train has no option --batch-size; did you mean --batch?",
        ),
        (["train", "--lr0", "1"], "maskwright train has no option --lr0; did you mean --lr?"),
        (["train", "--learning_rate", "1"], "did you mean --lr?"),
        (["train", "--num-epochs", "3"], "did you mean --epochs?"),
        (
            ["train", "--rotate", "3"],
            "did you mean augment.rotate=...? (recipe keys are written without dashes)",
        ),
        (["train", "--resum", "x"], "did you mean --resume?"),
        (["predict", "--ouput", "x"], "did you mean --out?"),
        (
            ["evaluate", "x", "--frobnicate"],
            "has no option --frobnicate; `maskwright evaluate -h` lists them",
        ),
        (["predict", "run"], "Missing argument 'INPUT...'; `maskwright predict -h` shows an example"),
        (["train"], "train needs --data DATA; a folder, a dataset.yaml, an .npz or synthetic:shapes"),
        (["train", "lr=3"], "has no key 'lr'; did you mean optim.learning_rate?"),
        (["train", "--epochs", "many"], "train.epochs=many in unet: "),
        (["train", "--folds", "1", "--data", "x"], "Invalid value for '--folds'"),
        (["train", "--data", "x", "--recipe", "unnet"], "there is no recipe 'unnet'; did you mean unet?"),
        (["train", "--resume", "a", "--lr", "1"], "optim.learning_rate cannot go with --resume"),
        (["train", "--resume", "a", "--data", "b"], "--data cannot go with --resume"),
        (["train", "--data", "nowhere"], "nowhere is not there"),
        (["evaluate", "nothing"], "there is no run 'nothing'; `maskwright runs` lists them"),
        (["evaluate", "."], "is not a run folder"),
        (["evaluate", "nothing+more"], "there is no run 'nothing'"),
        (["evaluate", "a+"], "'a+' leaves a name out or says one twice; write RUN1+RUN2"),
        (["predict", "nothing", "a.png", "--out", "b"], "there is no run or model 'nothing'"),
        (["predict", "nothing", "a.png", "--out", "b", "--tta", "flip"], "did you mean flips?"),
        (["predict", "a+a", "a.png", "--out", "b"], "says one twice; write RUN1+RUN2"),
        (["train", "--dry-run", "--name", "a/b"], "'a/b' cannot be the name of a run; use letters"),
        (["compare", "a"], "one run cannot be compared; name two or more"),
        (
            ["export", "a", "--format", "tflite"],
            "there is no format 'tflite'; ",
        ),
        (["export", "a", "--runner", "--format", "torch"], "run.py needs an ONNX file, not torch; leave out"),
        (["train", "--dry-run", "--loss", "dcie"], "names 'dcie'; did you mean dice?"),
        (["train", "--dry-run", "--model", "unnet"], "there is no model 'unnet'; did you mean unet?"),
        (
            ["train", "--dry-run", "--model", "setr-pup", "loss.edge=1"],
            "need a head that setr-pup cannot have",
        ),
        (["train", "--dry-run", "model.stochastic_depth=0.2"], "unet has no such part"),
        (
            ["train", "--dry-run", "--data", "synthetic:shapes", "loss.targets.depth=l1"],
            "loss.targets names 'depth', and the data have no targets",
        ),
        (["show", "nothing"], "there is no run or model 'nothing'"),
        (["show", "hf:nothing"], "'hf:nothing' names no model on the hub; write hf:user/name"),
        (["push", "nothing", "hf:me/pets"], "there is no run or model 'nothing'"),
        (["push", "nothing", "me/pets"], "'me/pets' names no model on the hub; write hf:user/name"),
        (["report", "nothing"], "there is no run 'nothing'"),
        (["recipes", "nothing"], "there is no recipe 'nothing'"),
        (["data", "triage", "nothing"], "there is no run 'nothing'"),
        (
            ["data", "triage", "nothing", "--drop", "3"],
            "--drop and --ignore need a file to write; add --fix FILE",
        ),
        (["cache", "clear"], "maskwright cache has no 'clear'; did you mean clean?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(
    words: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said(words, capsys)
    assert (code, out) == (2, "")
    assert line in err
    assert re.fullmatch(r"error: [^\n]+; [^\n]+\n", err), err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_and_keeps_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(["recipes", "nothing", "--debug"], capsys)
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: there is no recipe 'nothing'")


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(["--json", "recipes", "unet"], capsys)
    assert (code, err) == (0, "")
    assert set(json.loads(out)) == {"model", "loss", "optim", "augment", "input", "train", "seed"}
    code, out, _ = said(["recipes", "--json"], capsys)
    assert "demo" in json.loads(out)["recipes"]
    code, out, err = said(["recipes", "nothing", "--json"], capsys)
    assert (code, out) == (2, "")


def test_recipes_are_listed_by_folder_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(["recipes"], capsys)
    rows = [line.split(maxsplit=1) for line in out.splitlines()]
    named = {row[0]: number for number, row in enumerate(rows) if row and row[0] in recipe_names()}
    assert code == 0
    assert list(named) == recipe_names()
    assert (
        rows[named["unet"]][1].strip()
        == "UNet with batch normalisation: the place to start, for any number of classes."
    )
    for first in ("mars/aspp", "pets/000-resnet34-unet"):
        assert rows[named[first] - 1] == []


def test_the_printed_recipe_is_one_that_can_be_started_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, printed, _ = said(["recipes", "resnet34-unet"], capsys)
    (tmp_path / "mine.yaml").write_text(printed)
    _, resolved, _ = said(["train", "--dry-run", "--recipe", str(tmp_path / "mine.yaml")], capsys)
    _, named, _ = said(["train", "--dry-run", "--recipe", "resnet34-unet"], capsys)
    assert resolved == named != ""


def test_short_options_and_words_reach_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model=unet", "--epochs=3", "--batch=auto", "--lr=1e-4", "--size=96,128", "--seed=7"]
    more = ["--loss=ce", "--patience=2", "--workers=1", "model.width=8", "train.batch=5"]
    code, out, _ = said(["train", "--dry-run", "--json", *options, *more], capsys)
    recipe = json.loads(out)
    assert code == 0
    assert recipe["model"]["name"] == "unet"
    assert recipe["model"]["width"] == 8
    assert recipe["train"] | {"epochs": 3, "batch": 5, "patience": 2, "workers": 1} == recipe["train"]
    assert recipe["optim"]["learning_rate"] == 1e-4
    assert recipe["input"]["size"] == [96, 128]
    assert recipe["loss"]["terms"] == "ce"
    assert recipe["seed"] == 7


def test_without_a_recipe_the_models_own_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    _, ours, _ = said(["train", "--dry-run", "--model", "resnet34-unet"], capsys)
    _, named, _ = said(["train", "--dry-run", "--recipe", "resnet34-unet"], capsys)
    assert ours == named


def test_short_options_stand_for_real_keys() -> None:
    assert set(SHORT.values()) <= set(recipe_keys())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(["--version"], capsys)
    assert code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", out)


def test_plain_leaves_only_what_json_knows() -> None:
    value = {
        "a": math.nan,
        "b": [math.inf, 1.5, np.float64(2.5), np.int64(3)],
        "c": Path("x/y"),
        "d": (True, None),
        4: np.array([[1, 2]]),
    }
    expected = {"a": None, "b": [None, 1.5, 2.5, 3], "c": "x/y", "d": [True, None], "4": [[1, 2]]}
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def test_an_answer_carries_its_exit_code_and_prints_markup_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = Answer({"x": math.nan}, "[bold]10 x 12[/bold]", code=1)
    answer.print(as_json=False, stream=sys.stdout)
    assert capsys.readouterr().out == "[bold]10 x 12[/bold]\n"
    answer.print(as_json=True, stream=sys.stdout)
    assert json.loads(capsys.readouterr().out) == {"x": None}


@pytest.mark.parametrize("words", [["models", "--size", "32,48"], ["env"], ["cache"], ["runs"]])
def test_listing_verbs_answer_in_words_and_in_json(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, err = said(words, capsys)
    assert (code, err) == (0, "")
    assert text.strip()
    code, out, _ = said([*words, "--json"], capsys)
    assert code == 0
    assert json.loads(out)
    assert list(tmp_path.iterdir()) == []


def test_models_count_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(["models", "--json", "--size", "64,64"], capsys)
    sizes = {model["name"]: model for model in json.loads(out)["models"]}
    # ResNet34 has 21.3 M weights without its classifier; the decoder adds some, not many.
    assert 21.3e6 < sizes["resnet34-unet"]["parameters"] < 26e6
    assert all(model["flops"] > 0 for model in sizes.values())
