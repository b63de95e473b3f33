"""What the benchmarks of scores share: a run that is there afterwards, and the intervals of several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

import maskwright as mw
from maskwright.api import choose_recipe, finish
from maskwright.progress import SILENT, Progress

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
    chosen = choose_recipe(recipe, overrides)
    run = finish(path, chosen, data, budget=budget, threads=threads, progress=progress)
    if not has_scores(path, split):
        run.evaluate(split, threads=threads, progress=progress)
    return run


def has_scores(path: Path, split: str) -> bool:
    return (path / "scores" / split / "scores.json").is_file()


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
