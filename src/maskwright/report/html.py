"""The page of a run: what it is worth, what it does, how it came about. A pure function of a ReportInput."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from maskwright.config import Recipe, flatten
from maskwright.data.classes import Colour, colour_text
from maskwright.draw import LOSS, RATE, SCORE, Panel, curves, reliability_plot, risk_coverage_plot
from maskwright.metrics.scores import Scores
from maskwright.pages import inline, render
from maskwright.report import sections
from maskwright.report.cite import Work
from maskwright.report.exports import ExportedFile
from maskwright.report.gallery import Exhibit
from maskwright.report.words import changes, number, plain, verdict


@dataclass(frozen=True)
class Split:
    """A split of the data set, in numbers."""

    name: str
    pictures: int
    groups: int
    shares: tuple[float, ...]
    """Of its labelled pixels, per class; empty without masks."""


@dataclass(frozen=True)
class ReportInput:
    """All that a report shows; the page is a pure function of it."""

    name: str
    recipe: Recipe
    dataset: Mapping[str, str]
    """Facts about the data set: what -> value, both for reading."""
    classes: Sequence[tuple[str, Colour]]
    splits: Sequence[Split] = ()
    """Those that there are; empty where the data are not on this machine any more."""
    metrics: Sequence[Mapping[str, float]] = ()
    """The rows of metrics.csv."""
    best_epoch: int = 0
    """Whose weights the model has."""
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """By the evaluation's name; the page is about the first."""
    galleries: Mapping[str, Sequence[Exhibit]] = field(default_factory=dict)
    """By the evaluation's name, as the scores."""
    receipt: Mapping[str, str] = field(default_factory=dict)
    """What it was made with: what -> value, both for reading."""
    exports: Sequence[ExportedFile] = ()
    """Files that left the lab, with their proofs."""
    works: Sequence[Work] = ()
    """What to cite."""


def render_report(report: ReportInput) -> str:
    """The page. Everything that comes from files and people is escaped, and nothing is allowed to run but our own few
    lines, which the page's security policy knows by their hash."""
    split, scores = next(iter(report.scores.items()), ("", None))
    return render(
        "maskwright.report",
        "report.html",
        "report.js",
        run=report,
        chips=_chips(report),
        split=split,
        verdict=None
        if scores is None
        else verdict(
            report.name,
            report.recipe,
            report.scores,
            report.metrics,
            report.best_epoch,
            testable=not report.splits or any(part.name == "test" for part in report.splits),
        ),
        headline=None if scores is None else sections.headline(split, scores),
        every=sections.every_score(report.scores),
        galleries=_galleries(report.galleries.get(split, ())),
        legend=[(name, colour_text(colour)) for name, colour in report.classes],
        classes=[] if scores is None else sections.class_rows(scores, dict(report.classes)),
        matrix=None if scores is None else sections.matrix(scores),
        errors=[] if scores is None else sections.errors(scores),
        sizes=[] if scores is None else sections.sizes(scores),
        confidence=[] if scores is None else _reliability(scores),
        histogram=[] if scores is None else sections.histogram(scores),
        training_words=_training_words(report),
        curves=_curves(report),
        dataset=list(report.dataset.items()),
        splits=_splits(report),
        grouped=any(split.groups < split.pictures for split in report.splits),
        receipt=list(report.receipt.items()),
        exports=report.exports,
        recipe=_recipe_sections(report.recipe),
        changes=changes(report.recipe),
        works="\n\n".join(work.bibtex for work in report.works),
        contract="" if scores is None else scores.contract.hash,
    )


def _chips(report: ReportInput) -> list[str]:
    height, width = report.recipe.input.size
    return [
        report.recipe.model.name,
        *([report.dataset["name"]] if "name" in report.dataset else []),
        f"{height} × {width}",
        f"{len(report.classes)} classes",
    ]


def _galleries(exhibits: Sequence[Exhibit]) -> list[dict[str, object]]:
    headings = {
        "best": "The best",
        "median": "In the middle",
        "worst": "The worst",
        "uncertain": "The most uncertain of the others",
    }
    return [
        {"kind": kind, "heading": heading, "rows": rows}
        for kind, heading in headings.items()
        if (rows := [_gallery_row(exhibit) for exhibit in exhibits if exhibit.kind == kind])
    ]


def _gallery_row(exhibit: Exhibit) -> dict[str, str]:
    score = "no foreground" if math.isnan(exhibit.score) else f"Dice {exhibit.score:.3f}"
    if exhibit.kind == "uncertain" and not math.isnan(exhibit.score + exhibit.expected):
        score = f"Dice {exhibit.score:.2f}, foretold {exhibit.expected:.2f}"
    return {
        "title": exhibit.title,
        "caption": score,
        "picture": inline(exhibit.picture),
        "truth": inline(exhibit.truth),
        "prediction": inline(exhibit.prediction),
    }


def _curves(report: ReportInput) -> list[dict[str, str]]:
    return [
        _plot(f"{panel[0]} over epochs", partial(curves, report.metrics, [panel], best=report.best_epoch))
        for panel in PANELS
        if report.metrics
    ]


def _reliability(scores: Scores) -> list[dict[str, str]]:
    """Reliability and, where it was counted, risk over coverage, each below its words."""
    words, found = sections.confidence(scores.calibration), scores.calibration
    if words is None or found is None:
        return []
    plots = [_plot("how often it is right over how sure it is", partial(reliability_plot, found))]
    if found.foresight is not None:
        plots.append(
            _plot("error over the share of pictures kept", partial(risk_coverage_plot, found.foresight))
        )
    return [
        plot | {"words": words[key]} for plot, key in zip(plots, ("reliability", "coverage"), strict=False)
    ]


def _plot(title: str, draw: Callable[..., bytes]) -> dict[str, str]:
    """An SVG for light and one for dark."""
    return {
        "title": title,
        "light": inline(draw(svg=True, dark=False)),
        "dark": inline(draw(svg=True, dark=True)),
    }


PANELS: tuple[Panel, ...] = (LOSS, SCORE, RATE)


def _training_words(report: ReportInput) -> str:
    if not report.metrics:
        return ""
    seconds = report.metrics[-1]["seconds"]
    time = f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
    return (
        f"{number(len(report.metrics), 'epoch')} in {time}; the model is that of epoch {report.best_epoch}."
    )


def _splits(report: ReportInput) -> list[dict[str, object]]:
    return [
        {
            "name": split.name,
            "pictures": f"{split.pictures:,}",
            "groups": f"{split.groups:,}",
            "shares": [
                {
                    "percent": round(100 * share, 2),
                    "colour": colour_text(colour),
                    "title": f"{name} {share:.2%}",
                }
                for share, (name, colour) in zip(split.shares, report.classes, strict=True)
            ]
            if split.shares
            else [],
        }
        for split in report.splits
    ]


def _recipe_sections(recipe: Recipe) -> list[tuple[str, list[tuple[str, str]]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in flatten(recipe.model_dump(mode="json")).items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section or "run", []).append((name, plain(value)))
    return list(sections.items())
