"""Searches without training: what is tried, resumed, pruned and kept, with scores written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from maskwright.config import Recipe
from maskwright.errors import UserError
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import scores
from maskwright.runfolder import METRIC_COLUMNS, RunFolder
from maskwright.study import figures, page
from maskwright.study.job import Job
from maskwright.study.outcome import StudyResult
from maskwright.study.plan import StudyPlan, make_study, parse_plan
from maskwright.study.search import Searching, finalists, front, importances, open_storage, read_trials

TEXT = """
base: unet
seeds: [0]
search:
  trials: 12
  space:
    model.width: [4, 8, 16]
    optim.learning_rate: {low: 1e-4, high: 1e-1, log: true}
    model.attention: [[], [gate]]
  objectives: {dice_image: maximise, parameters: minimise}
"""


def plan(text: str = TEXT) -> StudyPlan:
    return make_study("mine", parse_plan(text, "mine")).plan


def searching(folder: Path, text: str = TEXT) -> Searching:
    def make_job(name: str, recipe: Recipe) -> Job:
        said = recipe.model_dump(mode="json")
        return Job(str(folder / name), said, "nowhere", None, "validation", 1, "cpu", False, ("parameters",))

    return Searching(plan(text), folder, make_job)


def run_by_hand(job: Job) -> tuple[float, float]:
    """Wide networks are better and larger; the rate should be 0.01."""
    width, rate = job.recipe["model"]["width"], job.recipe["optim"]["learning_rate"]
    hits = round(1000 * (0.5 + width / 50 - 0.1 * abs(np.log10(rate) + 2)))
    tallies = Tallies(np.array([[[0, 0, 0, 0], [hits, 1000 - hits, 1000 - hits, 0]]] * 3))
    scores(tallies, list("abc"), ["ground", "thing"]).save(Path(job.path) / "scores" / "validation")
    (Path(job.path) / "costs.json").write_text(json.dumps({"parameters": width**2}))
    return hits / 1000, width**2


def work(search: Searching, limit: int = 99) -> Iterator[Job]:
    for _, job in zip(range(limit), search.jobs(), strict=False):
        run_by_hand(job)
        search.ended(job, "done")
        yield job


def test_a_search_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    one = list(work(searching(tmp_path / "one")))
    first = searching(tmp_path / "two")
    begun = list(work(first, 5))
    stopped = next(first.jobs())  # asked for, and then the process was killed
    with open(tmp_path / "two/search.jsonl", "ab") as journal:
        journal.write(b'{"op_code": 4, "worker')  # in the middle of a write
    (tmp_path / "two/search.jsonl.lock").write_text("")
    second = searching(tmp_path / "two")
    assert second.left() == 12 - 5
    rest = list(work(second))
    assert rest[0] == stopped
    recipes = [[job.recipe for job in jobs] for jobs in (one, [*begun, *rest])]
    assert recipes[0] == recipes[1]
    assert len({json.dumps(recipe) for recipe in recipes[0]}) > 8
    assert list(searching(tmp_path / "two").jobs()) == []


def test_a_run_that_was_finished_before_the_kill_is_not_repeated(tmp_path: Path) -> None:
    first = searching(tmp_path)
    run_by_hand(next(first.jobs()))
    second = searching(tmp_path)
    assert next(second.jobs()).name == "trial-001"
    assert read_trials(tmp_path, second.search)[0].state == "done"


def test_the_front_by_hand() -> None:
    values = [
        {"dice": 0.9, "size": 10.0},  # the best
        {"dice": 0.8, "size": 5.0},
        {"dice": 0.8, "size": 6.0},  # as good as the one before, and larger
        {"dice": 0.7, "size": 5.0},  # as small as that, and worse
        {"dice": 0.5, "size": 1.0},  # the smallest
        {},  # failed
        {"dice": 0.5, "size": 1.0},  # the same again
    ]
    assert front(values, {"dice": "maximise", "size": "minimise"}) == {0, 1, 4, 6}
    assert front(values, {"dice": "maximise"}) == {0}
    assert front(values, {"size": "maximise", "dice": "minimise"}) == {0, 2, 3, 4, 6}
    assert front([], {"dice": "maximise"}) == set()


def test_the_front_is_the_one_optuna_finds(tmp_path: Path) -> None:
    search = searching(tmp_path)
    expected = {job.name: run_by_hand(job) for job in work(search)}
    trials = read_trials(tmp_path, search.search)
    assert {trial.name: pytest.approx(tuple(trial.values.values())) for trial in trials} == expected
    best = {trial.number for trial in open_storage(tmp_path / "search.jsonl", search.search).best_trials}
    assert {number for number, trial in enumerate(trials) if trial.front} == best
    weights = importances(tmp_path, search.search)
    assert set(weights) == set(search.search.space)
    assert sum(weights.values()) == pytest.approx(1)


def test_the_key_that_decides_is_the_most_important(tmp_path: Path) -> None:
    text = (
        TEXT.replace(", parameters: minimise", "")
        .replace("trials: 12", "trials: 24")
        .replace("tpe", "random")
    )
    search = searching(tmp_path, text)
    assert len(list(work(search))) == 24
    weights = importances(tmp_path, search.search)
    assert min(weights, key=lambda key: weights[key]) == "model.attention"  # it changes nothing


def test_failed_trials_are_counted_and_shown(tmp_path: Path) -> None:
    search = searching(tmp_path, TEXT.replace("model.attention: [[], [gate]]", "model.attention: [[gte]]"))
    assert list(search.jobs()) == []  # no recipe can be made
    assert [trial.state for trial in read_trials(tmp_path, search.search)] == ["failed"] * 12


PRUNED = """
seeds: [0]
set: {train.epochs: 9}
search: {trials: 12, pruner: hyperband, space: {model.width: [4, 8]}}
"""


def test_a_run_that_falls_behind_is_ended(tmp_path: Path) -> None:
    search = searching(tmp_path, PRUNED)
    behind = []
    for number, job in enumerate(search.jobs()):
        dice = 0.9 if number < 6 else 0.1
        rows = [{"epoch": float(epoch), "val_dice_image": dice} for epoch in range(1, 10)]
        Path(job.path).mkdir()
        for seen in range(1, 10):
            RunFolder(Path(job.path)).write_metrics(
                [dict.fromkeys(METRIC_COLUMNS, 0.0) | row for row in rows[:seen]]
            )
            if search.falls_behind(job):
                behind.append(number)
                search.ended(job, "pruned")
                break
        else:
            run_by_hand(job)
            search.ended(job, "done")
    assert behind
    assert min(behind) >= 6, "nothing worse than the first six was there"
    states = [trial.state for trial in read_trials(tmp_path, search.search)]
    assert states.count("pruned") == len(behind)
    assert all(trial.epochs < 9 for trial in read_trials(tmp_path, search.search) if trial.state == "pruned")


def test_the_pages_of_a_search(tmp_path: Path) -> None:
    search = searching(tmp_path)
    list(work(search))
    trials = read_trials(tmp_path, search.search)
    made = make_study("mine", search.plan)
    result = StudyResult(made, tmp_path, 3, trials=trials, importances=importances(tmp_path, search.search))
    (tmp_path / "study.yaml").write_text("seeds: [0]\n")
    page.write_pages(result)
    rows = (tmp_path / "table.md").read_text().splitlines()[2:]
    fronts = ["on the front" in row for row in rows]
    assert len(rows) == 12
    assert fronts == sorted(fronts, reverse=True)
    for name in ("front", "parallel", "importance"):
        assert (tmp_path / f"{name}.png").is_file()
    judged = make_study("finalists", parse_plan((tmp_path / "finalists.yaml").read_text(), "finalists"))
    assert judged.plan.split == "test"
    assert {cell.recipe.model.width for cell in judged.cells} == {
        trial.params["model.width"] for trial in trials if trial.front
    }
    assert yaml.safe_load((tmp_path / "finalists.yaml").read_text()) == finalists("mine", search.plan, trials)


def test_figures_are_the_same_for_the_same_runs(tmp_path: Path) -> None:
    search = searching(tmp_path)
    list(work(search, 4))
    trials = read_trials(tmp_path, search.search)
    look = figures.Look(dark=True, svg=True)
    assert figures.parallel(trials, search.search, look) == figures.parallel(trials, search.search, look)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "search.jsonl").write_text("{\n{}\n")
    search = plan().search
    assert search is not None
    with pytest.raises(UserError, match=r"search\.jsonl is damaged"):
        open_storage(tmp_path / "search.jsonl", search)
