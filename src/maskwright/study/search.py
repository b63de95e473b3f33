"""A search by Optuna: what is tried next, which run falls behind, and what nothing else beats.

Everything it knows lies in search.jsonl of the study folder, a journal in JSON, from which a killed search goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskwright.config import Recipe, flatten, load_recipe
from maskwright.errors import UserError
from maskwright.metrics.scores import Scores
from maskwright.runfolder import RunFolder
from maskwright.study.job import Job, read_costs
from maskwright.study.plan import COSTS, Range, Search, StudyPlan, plain_text
from maskwright.study.work import Outcome

if TYPE_CHECKING:
    import optuna

WATCHED: Mapping[str, str] = {"miou": "val_miou", "miou_fg": "val_miou", "iou_global": "val_miou"}
"""The column of metrics.csv that stands for a metric while the run is at work; val_dice_image for the others."""

WAYS: Mapping[str, Literal["maximize", "minimize"]] = {"maximise": "maximize", "minimise": "minimize"}
"""Our spelling -> Optuna's."""

ENOUGH = 8
"""Finished runs below which importances are not worth a picture."""


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried."""

    name: str
    params: Mapping[str, Any]
    """Recipe key -> value."""
    state: str
    """done, pruned, failed or running."""
    values: Mapping[str, float]
    """Objective -> value; empty but for done ones."""
    epochs: int
    front: bool
    """No other trial is better in one objective and as good in the rest."""


class Searching:
    """An open search: jobs to do, and what becomes of them. One process at a time (the study's lock)."""

    def __init__(self, plan: StudyPlan, folder: Path, make_job: Callable[[str, Recipe], Job]) -> None:
        assert plan.search is not None
        self.plan, self.search, self.folder = plan, plan.search, folder
        self._make_job = make_job
        self._study = open_storage(folder / "search.jsonl", plan.search, _epochs(plan))
        self._trials: dict[str, optuna.trial.Trial] = {}

    def jobs(self) -> Iterator[Job]:
        """First those that a killed search left in the middle, then new ones up to `trials`."""
        from optuna.trial import Trial as LiveTrial
        from optuna.trial import TrialState

        for left in self._study.get_trials(states=(TrialState.RUNNING,)):
            job = self._job(LiveTrial(self._study, left._trial_id))
            if job is not None and job.is_done():
                self.ended(job, "done")
            elif job is not None:
                yield job
        while len(self._study.get_trials(deepcopy=False)) < self.search.trials:
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = _sampler(self.search, self.plan.seeds[0], number)
            if (job := self._job(self._study.ask())) is not None:
                yield job

    def left(self) -> int:
        """Trials still to be done."""
        states = [trial.state.name for trial in self._study.get_trials(deepcopy=False)]
        return self.search.trials - len(states) + states.count("RUNNING")

    def _job(self, trial: optuna.trial.Trial) -> Job | None:
        """None where the values do not go together: the trial has failed then."""
        name = f"trial-{trial.number:03}"
        values = {key: _suggest(trial, key, span) for key, span in self.search.space.items()}
        try:
            recipe = load_recipe(
                self.plan.base, flatten(self.plan.set) | values | {"seed": self.plan.seeds[0]}
            )
        except UserError as error:
            trial.set_user_attr("why", str(error))
            self._fail(trial)
            return None
        self._trials[name] = trial
        return self._make_job(name, recipe)

    def falls_behind(self, job: Job) -> bool:
        """Tell Optuna every new epoch of a run at work, and ask whether it is worth going on."""
        if self.search.pruner == "none":
            return False
        trial = self._trials[job.name]
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for row in _rows(Path(job.path)):
            if (epoch := int(row["epoch"])) not in known:
                trial.report(row[WATCHED.get(next(iter(self.search.objectives)), "val_dice_image")], epoch)
        return bool(trial.should_prune())

    def ended(self, job: Job, outcome: Outcome) -> None:
        from optuna.trial import TrialState

        trial = self._trials.pop(job.name)
        if outcome == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
        elif outcome == "failed":
            self._fail(trial)
        else:
            scores, costs = (
                Scores.load(RunFolder(Path(job.path)).scores("validation")),
                read_costs(Path(job.path)),
            )
            values = [costs[name] if name in COSTS else scores[name].value for name in self.search.objectives]
            if any(math.isnan(value) for value in values):
                self._fail(trial)
            else:
                self._study.tell(trial, values)

    def _fail(self, trial: optuna.trial.Trial) -> None:
        from optuna.trial import TrialState

        self._study.tell(trial, state=TrialState.FAIL)


def open_storage(file: Path, search: Search, epochs: int | None = None) -> optuna.Study:
    """The search that lies there, or a new one. Raises UserError where Optuna is missing or the file is damaged."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError as error:
        raise UserError(
            "a search needs Optuna", 'install it with `pip install "maskwright[study]"`'
        ) from error

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(f"{file.name}.lock").unlink(
        missing_ok=True
    )  # a killed search's: ours is the study folder's
    _drop_half_a_line(file)
    pruner = (
        optuna.pruners.HyperbandPruner(1, epochs or "auto")
        if search.pruner == "hyperband"
        else optuna.pruners.NopPruner()
    )
    try:
        return optuna.create_study(
            study_name="search",
            storage=JournalStorage(JournalFileBackend(str(file), JournalFileOpenLock(str(file)))),
            directions=[WAYS[way] for way in search.objectives.values()],
            pruner=pruner,
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{file} is damaged: {error}", "move it away to search anew; its runs stay"
        ) from error


def _drop_half_a_line(file: Path) -> None:
    """What a kill in the middle of a write left at the end; behind it the journal could not be read any more."""
    if file.is_file():
        content = file.read_bytes()
        if not content.endswith(b"\n"):
            file.write_bytes(content[: content.rfind(b"\n") + 1])


def _epochs(plan: StudyPlan) -> int | None:
    """The longest a run can be; with a budget nobody knows, and Hyperband goes by the first run that ends."""
    if plan.budget is not None or (plan.search and "train.epochs" in plan.search.space):
        return None
    return load_recipe(plan.base, flatten(plan.set)).train.epochs


def _sampler(search: Search, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """A function of the seed, the number of the trial and what was found so far: a resumed search repeats nothing."""
    import optuna

    drawn = seed * 100_003 + number
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=drawn)
    return optuna.samplers.TPESampler(seed=drawn, constant_liar=True)


def _suggest(trial: optuna.trial.Trial, key: str, span: Range | tuple[Any, ...]) -> Any:
    if not isinstance(span, Range):
        choices: dict[Any, Any] = {_choice(value): value for value in span}
        return choices[trial.suggest_categorical(key, list(choices))]
    if isinstance(span.low, int) and isinstance(span.high, int):
        return trial.suggest_int(key, span.low, span.high, log=span.log)
    return trial.suggest_float(key, span.low, span.high, log=span.log)


def _choice(value: Any) -> str | int | float | bool:
    """What Optuna can keep: lists and mappings as text."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def _rows(path: Path) -> Sequence[Mapping[str, float]]:
    try:
        return RunFolder(path).read_metrics()
    except (OSError, ValueError):
        return []


def read_trials(folder: Path, search: Search) -> tuple[Trial, ...]:
    """Everything that was tried, in order."""
    study = open_storage(folder / "search.jsonl", search)
    states = {
        "COMPLETE": "done",
        "PRUNED": "pruned",
        "FAIL": "failed",
        "RUNNING": "running",
        "WAITING": "running",
    }
    found = []
    for trial in study.get_trials(deepcopy=False):
        name = f"trial-{trial.number:03}"
        values = dict(zip(search.objectives, trial.values or (), strict=False))
        found.append(
            Trial(
                name, trial.params, states[trial.state.name], values, len(_rows(folder / name)), front=False
            )
        )
    best = front([trial.values for trial in found], search.objectives)
    return tuple(
        Trial(trial.name, trial.params, trial.state, trial.values, trial.epochs, number in best)
        for number, trial in enumerate(found)
    )


def front(values: Sequence[Mapping[str, float]], objectives: Mapping[str, str]) -> set[int]:
    """Indices of those that none dominates: as good in every objective and better in one. Empty ones never count."""
    points = {
        index: tuple(-entry[name] if way == "maximise" else entry[name] for name, way in objectives.items())
        for index, entry in enumerate(values)
        if entry
    }
    return {
        index
        for index, mine in points.items()
        if not any(
            other != mine and all(theirs <= ours for theirs, ours in zip(other, mine, strict=True))
            for other in points.values()
        )
    }


def importances(folder: Path, search: Search) -> dict[str, float]:
    """How much each key decides about being among the best quarter, sum 1 (PED-ANOVA, Watanabe et al. 2023).

    With several objectives: among the quarter nearest to the front. Empty for fewer than ENOUGH finished trials.
    """
    import warnings

    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = open_storage(folder / "search.jsonl", search)
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(done) < ENOUGH:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))


def finalists(study_name: str, plan: StudyPlan, trials: Sequence[Trial]) -> dict[str, object]:
    """A study of cells that judges the front with three seeds on the test split: what a search alone cannot say."""
    cells = {
        trial.name: {key: _said(plan, key, value) for key, value in trial.params.items()}
        for trial in trials
        if trial.front
    }
    return {
        "about": f"The best of the search {study_name}, judged on pictures that it never saw",
        "base": plan.base,
        "data": plan.data,
        "set": dict(plan.set),
        "cells": cells,
        "seeds": [1, 2, 3],
        "budget": plan.budget,
        "metric": plan.metric,
        "split": "test",
        "threads": plan.threads,
    }


def _said(plan: StudyPlan, key: str, value: Any) -> Any:
    """A value as the study file has it: lists were kept as text."""
    assert plan.search is not None
    span = plan.search.space[key]
    return value if isinstance(span, Range) else {_choice(each): each for each in span}[value]


def text_of(value: Any) -> str:
    """A value of a trial for reading; lists were kept as JSON text."""
    if isinstance(value, str) and value.startswith("["):
        value = json.loads(value)
    return plain_text(value)
