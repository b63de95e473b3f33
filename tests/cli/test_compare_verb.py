"""The verb on folders of scores: sides by recipe, tables, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maskwright.cli.main import main
from maskwright.config import Recipe
from maskwright.contest import choose_sides, compare_runs
from maskwright.errors import RunError
from maskwright.metrics.scores import scores

PICTURES = 160


def write_run(
    name: str, share: float, *, seed: int = 0, learning_rate: float = 1e-3, split: str = "test"
) -> Path:
    """A run folder with nothing but recipe, data and scores: this share of every picture's object is found."""
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    recipe = Recipe(seed=seed)
    recipe = recipe.model_copy(
        update={"optim": recipe.optim.model_copy(update={"learning_rate": learning_rate})}
    )
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "dataset.yaml").write_text("path: discs\n")
    random = np.random.default_rng(seed)
    hits = np.round(1000 * np.clip(share + 0.02 * random.standard_normal(PICTURES), 0, 1)).astype(np.int64)
    counts = np.zeros((PICTURES, 2, 4), dtype=np.int64)
    counts[:, 0, 0], counts[:, 0, 1] = 1000, 1000 - hits
    counts[:, 1, 0], counts[:, 1, 2] = hits, 1000 - hits
    judged = scores(counts, [f"{number:03d}" for number in range(PICTURES)], ("ground", "disc"), resamples=50)
    judged.save(folder / "scores" / split)
    return folder


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        write_run(f"slow-{seed}", 0.60 + 0.002 * seed, seed=seed)
        write_run(f"fast-{seed}", 0.70 + 0.002 * seed, seed=seed, learning_rate=1e-2)


ALL = [f"{name}-{seed}" for name in ("slow", "fast") for seed in range(3)]


def test_runs_that_differ_in_the_seed_alone_are_one_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *ALL, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sides"] == {"slow": ALL[:3], "fast": ALL[3:]}
    assert [(place["name"], place["n_seeds"], place["letters"]) for place in said["places"]] == [
        ("fast", 3, "a"),
        ("slow", 3, "b"),
    ]
    (pair,) = said["pairs"]
    assert (pair["names"], pair["verdict"], pair["n_images"]) == (["fast", "slow"], "worse", PICTURES)
    assert main(["compare", *ALL]) == 0
    out = capsys.readouterr().out
    assert "slow is worse than fast by 0.07" in out
    assert "other seeds, too" in out


def test_each_run_can_be_a_side_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "slow-0", "slow-1", "fast-0", "--each"]) == 0
    out = capsys.readouterr().out
    assert "fast-0 is the best in dice_image; worse: slow-" in out
    assert "Runs that share a letter" in out


def test_parts_have_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "slow-0", "fast-0", "--by", "class"]) == 0
    out = capsys.readouterr().out
    assert "ground" in out
    assert "disc" in out
    with pytest.raises(RunError, match="two sides can be compared; these are 3"):
        compare_runs(["slow-0", "slow-1", "fast-0"], each=True, by="class")


def test_other_data_another_budget_or_another_start_make_another_side() -> None:
    Path("runs/slow-1/dataset.yaml").write_text("path: others\n")
    Path("runs/slow-2/receipt.json").write_text(json.dumps({"budget": 60.0, "init": None}))
    assert list(choose_sides(["slow-0", "slow-1", "slow-2"], Path("runs"))) == ["slow-0", "slow-1", "slow-2"]


def test_a_cross_validation_is_a_side_by_its_out_of_fold_scores() -> None:
    for name, share in (("cv-a", 0.5), ("cv-b", 0.7)):
        write_run(f"{name}/fold-0", 0.5, learning_rate=share / 100)
        made = write_run(f"spare-{name}", share, split="out-of-fold")
        (made / "scores").rename(Path("runs") / name / "scores")
    found = compare_runs(["cv-a", "cv-b"])
    assert [place.name for place in found.leaderboard.places] == ["cv-b", "cv-a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["slow-0"], "one run cannot be compared; name two or more"),
        (["slow-0", "slow-1"], "slow-0, slow-1 are seeds of one recipe: one side"),
        (["slow-0", "slow-0"], "slow-0 is named twice"),
        (["slow-0", "nothing"], "there is no run 'nothing'"),
        (
            ["slow-0", "fast-0", "--split", "val"],
            "runs/slow-0 has no scores of split 'val'; --split test, of which all have scores, or `maskwright ev",
        ),
        (["slow-0", "fast-0", "--metric", "nsd"], "slow-0 has no nsd; its scores hold dice_image"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1
