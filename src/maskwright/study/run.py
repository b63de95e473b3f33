"""A study from its plan to its table: the one function that is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from maskwright.api import check_recipe
from maskwright.config import Recipe, flatten, make_recipe
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.store import prepare
from maskwright.errors import ConfigError, RunError, UserError
from maskwright.files import write_text
from maskwright.progress import SILENT, Progress
from maskwright.study.job import Job
from maskwright.study.outcome import StudyResult, read_result
from maskwright.study.page import write_pages
from maskwright.study.plan import COSTS, Search, Study, StudyPlan
from maskwright.study.search import Searching
from maskwright.study.work import only_one, reason, run_jobs, workers_that_fit


def run_study(
    study: Study,
    folder: str | Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> StudyResult:
    """Train and judge what is not there yet, and write the table, the figures and the page into `folder`.

    Stopped with Ctrl-C or killed, the same call goes on: finished runs stay, unfinished ones resume. `workers`: runs
    side by side; None: the cores divided by the plan's threads, one on a GPU. A run that fails is named in the result
    and does not stop the rest. Raises UserError: a plan that is not the one that `folder` was begun with (new cells
    and seeds are welcome), cells that cannot be built, data that cannot be read.
    """
    folder = Path(folder)
    if study.plan.data is None:
        raise ConfigError(
            f"study {study.name} names no data", "add --data DATA, or `data:` in the study file"
        )
    dataset = open_dataset(study.plan.data, skip_broken=skip_broken, progress=progress)
    if not dataset.split(study.plan.split):
        raise ConfigError(
            f"{study.plan.data} has no {study.plan.split} pictures to judge study {study.name} by",
            "change `split:`",
        )
    for cell in study.cells:
        _check_cell(cell.name, cell.recipe, dataset)
    with only_one(folder, progress) as lock:
        check_unchanged(study, folder, dataset.fingerprint())
        write_text(folder / "study.yaml", _yaml(study.plan))
        write_text(folder / "study.json", json.dumps(_memory(study, dataset.fingerprint()), indent=1))
        _decode(study, dataset, skip_broken, progress)

        def make_job(name: str, recipe: Recipe) -> Job:
            return Job(
                path=str(folder / name),
                recipe=recipe.model_dump(mode="json"),
                data=str(study.plan.data),
                budget=study.plan.budget,
                split=study.plan.split,
                threads=study.plan.threads,
                device=device,
                skip_broken=skip_broken,
                costs=_costs(study.plan.search),
            )

        side_by_side = workers or workers_that_fit(study.plan.threads, device)
        if study.plan.search is not None:
            search = Searching(study.plan, folder, make_job)
            failed = run_jobs(
                search.jobs(),
                search.left(),
                workers=side_by_side,
                lock=lock,
                falls_behind=search.falls_behind,
                ended=search.ended,
                progress=progress,
            )
        else:
            jobs = [
                make_job(cell.folder(seed), cell.at(seed))
                for seed in study.plan.seeds
                for cell in study.cells
            ]
            jobs = [job for job in jobs if not job.is_done()]
            failed = run_jobs(iter(jobs), len(jobs), workers=side_by_side, lock=lock, progress=progress)
        result = read_result(study, folder, {job.name: reason(job) for job in failed}, dataset)
        write_pages(result)
    return result


def _check_cell(name: str, recipe: Recipe, dataset: Dataset) -> None:
    try:
        check_recipe(recipe, dataset)
    except UserError as error:
        raise ConfigError(f"cell {name!r}: {error.problem}", error.hint) from error


def _decode(study: Study, dataset: Dataset, skip_broken: bool, progress: Progress) -> None:
    """Once for all runs, before their minutes are counted. A search decodes in its runs: it may vary the size."""
    for recipe in {cell.recipe.input: cell.recipe for cell in study.cells}.values():
        prepare(
            dataset, recipe.input, workers=recipe.train.workers, skip_broken=skip_broken, progress=progress
        )


def _costs(search: Search | None) -> tuple[str, ...]:
    return tuple(name for name in COSTS if search is not None and name in search.objectives)


def _yaml(plan: StudyPlan) -> str:
    said = plan.model_dump(mode="json", exclude_defaults=True) | {"seeds": list(plan.seeds)}
    return "# As it is run; `maskwright study` takes this file, too.\n" + yaml.safe_dump(
        said, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )


def _memory(study: Study, fingerprint: str) -> dict[str, Any]:
    """What must stay as it is: it decided the runs that are there."""
    plan = study.plan
    return {
        "fingerprint": fingerprint,
        "cells": {cell.name: cell.recipe.model_dump(mode="json") for cell in study.cells},
        "seeds": list(plan.seeds),
        "budget": plan.budget,
        "threads": plan.threads,
        "split": plan.split,
        "search": None if plan.search is None else plan.search.model_dump(mode="json"),
        "set": flatten(plan.set) if plan.search is not None else {},
        "base": plan.base if plan.search is not None else "",
    }


def check_unchanged(study: Study, folder: Path, fingerprint: str) -> None:
    """Raises RunError, which names the key, unless only cells, seeds or trials came to what `folder` was begun with.

    Metric and claims may change: they are read from the same runs.
    """
    file = folder / "study.json"
    if not file.is_file():
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        old_cells, old_seeds = dict(before["cells"]), set(before["seeds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is damaged", "move the study folder away, or put the file back") from error
    now = json.loads(json.dumps(_memory(study, fingerprint)))
    if before.get("fingerprint") != fingerprint:
        _refuse(folder, "the data are not those it was begun with")
    for name, recipe in old_cells.items():
        if name not in now["cells"]:
            _refuse(folder, f"cell {name!r} is gone")
        before_keys, keys = (
            flatten(make_recipe(flatten(each)).model_dump(mode="json"))
            for each in (recipe, now["cells"][name])
        )
        for key, value in before_keys.items():
            if keys.get(key) != value:
                _refuse(folder, f"{key} of cell {name!r} was {value} and is {keys.get(key)}")
    if gone := old_seeds.difference(now["seeds"]):
        _refuse(folder, f"seeds {', '.join(map(str, sorted(gone)))} are gone")
    for key in ("budget", "threads", "split", "base", "set", "search"):
        old, new = before.get(key), now[key]
        if key == "search" and isinstance(old, dict) and isinstance(new, dict):
            old, new = old | {"trials": 0}, new | {"trials": 0}  # more trials go on
        if old != new:
            _refuse(folder, f"{key} was {old} and is {new}")


def _refuse(folder: Path, what: str) -> None:
    raise RunError(
        f"{folder} holds another study: {what}",
        "undo that (only cells and seeds may be added), or choose a new --name",
    )
