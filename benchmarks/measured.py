"""What the benchmarks of scores share: a run that is there afterwards, and the intervals of several seeds."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

import maskwright as mw
from maskwright.api import choose_recipe
from maskwright.errors import RunError
from maskwright.progress import SILENT, Progress
from maskwright.training.checkpoint import has_state

Interval = tuple[float, float]


def measured(
    recipe: str,
    data: str,
    path: Path,
    *,
    overrides: Mapping[str, object],
    budget: str,
    split: str = "test",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> mw.Run:
    """The run in `path`, trained to the end of its budget and scored: as it lies there, gone on with, or new.

    Raises RunError where another recipe's run lies there.
    """
    run = _trained(recipe, data, path, overrides, budget, threads, progress)
    if not has_scores(path, split):
        run.evaluate(split, threads=threads, progress=progress)
    return run


def has_scores(path: Path, split: str) -> bool:
    return (path / "scores" / split / "scores.json").is_file()


def _trained(
    recipe: str,
    data: str,
    path: Path,
    overrides: Mapping[str, object],
    budget: str,
    threads: int | None,
    progress: Progress,
) -> mw.Run:
    finished = has_scores(path, "validation")  # training ends with them
    if finished or has_state(path / "checkpoints"):
        run = mw.Run.open(path)
        if run.folder.read_recipe() != choose_recipe(recipe, overrides):
            raise RunError(
                f"{path} is not a run of {recipe} as it is now", "remove it, or choose another place"
            )
        return run if finished else run.resume(threads=threads, progress=progress)
    if path.exists():  # stopped before its first save: of the budget nothing is known either
        shutil.rmtree(path)
    return mw.train(
        recipe,
        data,
        overrides,
        path.name,
        runs=path.parent,
        budget=budget,
        threads=threads,
        progress=progress,
    )


def over_seeds(values: Sequence[float]) -> Interval:
    """95 % interval of the mean, other seeds drawn: Student's t. NaN for a single value."""
    if len(values) < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def welch(values: Sequence[float], others: Sequence[float]) -> Interval:
    """95 % interval of mean(values) - mean(others) for independent seeds of unlike spread. NaN for single values."""
    if min(len(values), len(others)) < 2 or not np.ptp(values) + np.ptp(others):
        return math.nan, math.nan
    found = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    return float(found.low), float(found.high)
