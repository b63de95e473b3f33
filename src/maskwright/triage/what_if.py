"""What would change: train again without the most suspicious labels, and compare on the pictures that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.api import Run, finish
from maskwright.compare import Comparison, compare
from maskwright.config import Recipe, flatten, make_recipe
from maskwright.metrics.scores import Scores, merge
from maskwright.progress import SILENT, Progress
from maskwright.triage.judges import Panel


@dataclass(frozen=True)
class WhatIf:
    """The runs without some labels against those with them."""

    path: Path
    """Of the new run, or of the folder of its folds."""
    dropped: tuple[str, ...]
    comparison: Comparison
    """On the validation pictures that both sides have."""


def what_if(
    panel: Panel,
    dropped: Sequence[str],
    *,
    metric: str = "dice_image",
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> WhatIf:
    """Train the run, or each fold, again on its own data without `dropped`, and compare validation scores.

    Recipe, seed, split and number of epochs stay. The new runs are `NAME-without-N` beside the old one; a run that is
    there already is taken, a stopped one goes on. Labels that are dropped are no longer validated on either, and count
    on neither side. Raises RunError and DataError as `train` does.
    """
    path = panel.path.with_name(f"{panel.path.resolve().name}-without-{len(dropped)}")
    before: list[Scores] = []
    after: list[Scores] = []
    for run, dataset in zip(panel.runs, panel.datasets, strict=True):
        here = path if len(panel.runs) == 1 else path / run.name
        progress.say(f"Training {here} without {len(dropped)} labels")
        again = finish(
            here,
            _as_trained(run),
            dataset.without(dropped),
            init=_start_of(run),
            device=device,
            threads=threads,
            progress=progress,
        )
        before.append(run.scores("validation"))
        after.append(again.scores("validation"))
    names = (panel.name, path.name)
    return WhatIf(path, tuple(dropped), compare([merge(before)], [merge(after)], metric, names=names))


def _as_trained(run: Run) -> Recipe:
    """The recipe, with the epochs that a time budget made of it: another day's machine would make others."""
    recipe = run.folder.read_recipe()
    if run.receipt().budget is None:
        return recipe
    epochs = len(run.folder.read_metrics())
    return make_recipe(flatten(recipe.model_dump()) | {"train.epochs": epochs})


def _start_of(run: Run) -> Path | None:
    init = run.receipt().init
    return None if init is None else Path(init.path)
