"""What the runs of a study say: a line for each cell, and a verdict on each claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maskwright.compare import Comparison, compare, corrected, over_pictures
from maskwright.metrics.intervals import NO_INTERVAL, Interval
from maskwright.metrics.scores import Scores
from maskwright.runfolder import RunFolder
from maskwright.study.plan import Cell, Claim, Side, Study, choose_cells, leaf, plain_text

VERDICTS: Mapping[str, str] = {
    "better": "holds",
    "worse": "fails",
    "tied": "noise",
    "not enough data": "not enough data",
}
"""Of `compare` on the claim's two sides -> of the claim."""


@dataclass(frozen=True)
class CellResult:
    """The runs of a cell, by seed."""

    cell: Cell
    scores: Mapping[int, Scores] = field(default_factory=dict)
    """Of the finished ones, on the study's split."""
    curves: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """Rows of metrics.csv, of unfinished ones too."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """Why there is no score."""

    def values(self, metric: str) -> list[float]:
        return [scores[metric].value for scores in self.scores.values()]

    @property
    def minutes(self) -> float:
        """Training time of a finished run, mean over the seeds."""
        return _mean([self.curves[seed][-1]["seconds"] / 60 for seed in self.scores if self.curves[seed]])

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(len(self.curves[seed]) for seed in self.scores)


@dataclass(frozen=True)
class Line:
    """A cell in the table. Intervals are of 95 %; NaN where too little is known."""

    cell: str
    mean: float
    over_seeds: Interval
    """Of the mean, other seeds drawn: Student's t."""
    over_images: Interval
    """Of the mean over these seeds, other pictures (or groups) drawn."""
    seeds: tuple[int, ...]
    minutes: float
    epochs: tuple[int, ...]
    difference: float
    """To the first cell; NaN in its own line."""
    difference_ci95: Interval
    verdict: str
    """Of `compare`: better, worse, tied, not enough data; empty where there is nothing to compare."""
    failed: Mapping[int, str]


@dataclass(frozen=True)
class Verdict:
    """A claim, judged."""

    claim: Claim
    verdict: str
    """holds, fails, noise, not enough data."""
    sentence: str
    """With the interval, or with what would decide."""
    difference: float = math.nan
    ci95: Interval = NO_INTERVAL


def collect(study: Study, folder: Path, failed: Mapping[str, str] | None = None) -> tuple[CellResult, ...]:
    """What lies in the study folder; `failed`: run name -> why."""
    found = []
    for cell in study.cells:
        scores, curves, why = {}, {}, {}
        for seed in study.plan.seeds:
            run = RunFolder(folder / cell.folder(seed))
            curves[seed] = run.read_metrics()
            if (run.scores(study.plan.split) / "scores.json").is_file():
                scores[seed] = Scores.load(run.scores(study.plan.split))
            elif cell.folder(seed) in (failed or {}):
                why[seed] = (failed or {})[cell.folder(seed)]
        found.append(CellResult(cell, scores, curves, why))
    return tuple(found)


def lines(results: Sequence[CellResult], metric: str) -> tuple[Line, ...]:
    """A line for each cell; the first is what the others are compared with."""
    first = results[0]
    others = [result for result in results[1:] if result.scores and first.scores]
    found = [_compared([first], [other], metric, (first.cell.name, other.cell.name)) for other in others]
    compared = {other.cell.name: each for other, each in zip(others, corrected(found), strict=True)}
    made = []
    for result in results:
        values, other = result.values(metric), compared.get(result.cell.name)
        made.append(
            Line(
                result.cell.name,
                _mean(values),
                over_seeds(values),
                over_pictures(list(result.scores.values()), metric) if values else NO_INTERVAL,
                tuple(result.scores),
                result.minutes,
                result.epochs,
                math.nan if other is None else other.difference,
                NO_INTERVAL if other is None else other.ci95,
                "" if other is None else other.verdict,
                result.failed,
            )
        )
    return tuple(made)


def verdicts(study: Study, results: Sequence[CellResult]) -> tuple[Verdict, ...]:
    """Each claim of the plan against the runs; p is corrected for their number (Holm)."""
    by_name = {result.cell.name: result for result in results}
    found: dict[int, Comparison] = {}
    for number, claim in enumerate(study.plan.claims):
        than, better = (
            [by_name[cell.name] for cell in choose_cells(study, side)] for side in (claim.than, claim.better)
        )
        if any(each.scores for each in than) and any(each.scores for each in better):
            named = side_text(claim.than), side_text(claim.better)
            found[number] = _compared(than, better, study.plan.metric, named)
    found = dict(zip(found, corrected(list(found.values())), strict=True))
    return tuple(_verdict(claim, found.get(number)) for number, claim in enumerate(study.plan.claims))


def _verdict(claim: Claim, found: Comparison | None) -> Verdict:
    if found is None:
        return Verdict(claim, "not enough data", "one side has no finished run")
    return Verdict(claim, VERDICTS[found.verdict], found.sentence, found.difference, found.ci95)


def _compared(
    first: Sequence[CellResult], second: Sequence[CellResult], metric: str, names: tuple[str, str]
) -> Comparison:
    """`second` against `first`, all runs of their cells; the noise of training is that within a cell."""
    runs = [[scores for each in side for scores in each.scores.values()] for side in (first, second)]
    cells = [[each.cell.name for each in side for _ in each.scores] for side in (first, second)]
    return compare(runs[0], runs[1], metric, names=names, cells=(cells[0], cells[1]))


def side_text(side: Side) -> str:
    """As a person would name it: `UNet, learning_rate=0.001`."""
    if isinstance(side, str):
        return side
    own = [str(side["cell"])] if "cell" in side else []
    return ", ".join(
        [*own, *(f"{leaf(key, side)}={plain_text(value)}" for key, value in side.items() if key != "cell")]
    )


def over_seeds(values: Sequence[float]) -> Interval:
    """95 % interval of the mean, other seeds drawn: Student's t. NaN for fewer than two."""
    from scipy import stats

    if len(values) < 2:
        return NO_INTERVAL
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return _mean(values) - half, _mean(values) + half


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
