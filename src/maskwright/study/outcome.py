"""Everything that a study found, read from its folder: what tables, figures and the page are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.study.plan import Study
from maskwright.study.results import CellResult, Line, Verdict, collect, lines, verdicts
from maskwright.study.search import Trial, importances, read_trials


@dataclass(frozen=True)
class StudyResult:
    """All that a study found; its files lie in `folder`."""

    study: Study
    folder: Path
    pictures: int
    """Of the split that the runs were judged by."""
    cells: tuple[CellResult, ...] = ()
    lines: tuple[Line, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    trials: tuple[Trial, ...] = ()
    importances: Mapping[str, float] | None = None
    failed: Mapping[str, str] | None = None
    """Name of a run that failed -> why."""


def read_result(
    study: Study, folder: Path, failed: Mapping[str, str] | None = None, dataset: Dataset | None = None
) -> StudyResult:
    """From the files of the study folder."""
    search = study.plan.search
    if search is not None:
        trials = read_trials(folder, search)
        pictures = 0 if dataset is None else len(dataset.scored("validation"))
        return StudyResult(
            study, folder, pictures, trials=trials, importances=importances(folder, search), failed=failed
        )
    cells = collect(study, folder, failed)
    counted = [scores.n_images for cell in cells for scores in cell.scores.values()]
    table = lines(cells, study.plan.metric)
    return StudyResult(
        study, folder, max(counted, default=0), cells, table, verdicts(study, cells), failed=failed
    )
