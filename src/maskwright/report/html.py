"""The page of a run: what it is worth, what it does, how it came about. A pure function of a ReportInput."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from maskwright.config import Recipe, flatten
from maskwright.data.classes import Colour, colour_text
from maskwright.draw import LOSS, SCORE, Panel, curves
from maskwright.metrics.scores import Score, Scores
from maskwright.report.gallery import Exhibit

BINS = 20


@dataclass(frozen=True)
class ReportInput:
    """All that a report shows; the page is a pure function of it."""

    name: str
    recipe: Recipe
    dataset: Mapping[str, str]
    """Facts about the data set: what -> value, both for reading."""
    classes: Sequence[tuple[str, Colour]]
    metrics: Sequence[Mapping[str, float]] = ()
    """The rows of metrics.csv."""
    best_epoch: int = 0
    """Whose weights the model has."""
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """By split; the page is about the first."""
    galleries: Mapping[str, Sequence[Exhibit]] = field(default_factory=dict)
    """By split, as the scores."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A number with its interval, ready for the page."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def text(self) -> str:
        return "–" if math.isnan(self.value) else f"{self.value:.3f}"

    @property
    def interval(self) -> str:
        return "" if math.isnan(self.low + self.high) else f"{self.low:.3f}–{self.high:.3f}"

    @property
    def percent(self) -> float:
        return 0.0 if math.isnan(self.value) else round(100 * self.value, 2)

    @property
    def low_percent(self) -> float:
        return round(100 * self.low, 2)

    @property
    def width_percent(self) -> float:
        return round(100 * (self.high - self.low), 2)


def render_report(report: ReportInput) -> str:
    """The page. Everything that comes from files and people is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("maskwright.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    split, scores = next(iter(report.scores.items()), ("", None))
    return pages.get_template("report.html").render(
        run=report,
        chips=_chips(report),
        headline=None if scores is None else _headline(split, scores),
        galleries=_galleries(report.galleries.get(split, ())),
        legend=[(name, colour_text(colour)) for name, colour in report.classes],
        classes=[] if scores is None else _class_rows(scores, dict(report.classes)),
        histogram=[] if scores is None else _histogram(scores),
        histogram_words="" if scores is None else _histogram_words(scores),
        training_words=_training_words(report),
        curves=[_curve(report.metrics, panel) for panel in (LOSS, SCORE)] if report.metrics else [],
        dataset=list(report.dataset.items()),
        versions=list(report.versions.items()),
        recipe=_recipe_sections(report.recipe),
        changes=_changes(report.recipe),
        contract="" if scores is None else scores.contract.hash,
    )


def _figure(score: Score) -> Figure:
    return Figure(score.value, *score.ci95)


def _chips(report: ReportInput) -> list[str]:
    height, width = report.recipe.input.size
    return [
        report.recipe.model.name,
        *([report.dataset["name"]] if "name" in report.dataset else []),
        f"{height} × {width}",
        f"{len(report.classes)} classes",
    ]


def _headline(split: str, scores: Scores) -> dict[str, object]:
    """The first number of the page, and what it means in words."""
    binary = len(scores.per_class) == 2
    key, label = ("dice_image", "Dice per image") if binary else ("miou", "Mean IoU")
    figure = _figure(scores[key])
    others = {"iou_image": "IoU per image", "pixel_accuracy": "Pixel accuracy"}
    others = others | {"miou": "Mean IoU"} if binary else {"dice_image": "Dice per image"} | others
    return {
        "split": split,
        "label": f"{label}, {split} split",
        "figure": figure,
        "words": _headline_words(split, scores, figure, label),
        "tiles": [{"label": name, "figure": _figure(scores[other])} for other, name in others.items()],
    }


def _headline_words(split: str, scores: Scores, figure: Figure, label: str) -> list[str]:
    pictures = _number(scores.n_images, "picture")
    seen = {"test": ", which training never saw", "validation": ", which also chose the best epoch"}
    sentences = [f"{label} is {figure.text} on the {pictures} of the {split} split{seen.get(split, '')}."]
    if figure.interval:
        drawn = pictures if scores.n_groups == scores.n_images else _number(scores.n_groups, "group")
        low, high = figure.interval.split("–")
        sentences.append(
            f"With other pictures of the same kind it would lie between {low} and {high} "
            f"(95\u00a0% interval from resampling {drawn})."
        )
    return sentences + [f"Note: {note}." for note in scores.advice]


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _galleries(exhibits: Sequence[Exhibit]) -> list[dict[str, object]]:
    headings = {"best": "The best", "median": "In the middle", "worst": "The worst"}
    return [
        {"heading": heading, "rows": rows}
        for kind, heading in headings.items()
        if (rows := [_gallery_row(exhibit) for exhibit in exhibits if exhibit.kind == kind])
    ]


def _gallery_row(exhibit: Exhibit) -> dict[str, str]:
    return {
        "title": exhibit.title,
        "caption": f"Dice {exhibit.score:.3f}",
        "picture": _inline(exhibit.picture),
        "truth": _inline(exhibit.truth),
        "prediction": _inline(exhibit.prediction),
    }


def _inline(content: bytes) -> str:
    """A data: address for JPEG, PNG or SVG bytes."""
    kind = "jpeg" if content[:2] == b"\xff\xd8" else "png" if content[:4] == b"\x89PNG" else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _curve(rows: Sequence[Mapping[str, float]], panel: Panel) -> dict[str, str]:
    light, dark = (_inline(curves(rows, [panel], dark=dark, svg=True)) for dark in (False, True))
    return {"title": panel[0], "light": light, "dark": dark}


def _class_rows(scores: Scores, colours: Mapping[str, Colour]) -> list[dict[str, object]]:
    total = sum(entry.pixels for entry in scores.per_class)
    return [
        {
            "name": entry.name,
            "colour": colour_text(colours.get(entry.name, (128, 128, 128))),
            "iou": Figure(entry.iou_global, *entry.iou_global_ci95),
            "dice": Figure(entry.dice_global, *entry.dice_global_ci95),
            "share": f"{entry.pixels / max(total, 1):.2%}",
        }
        for entry in scores.per_class
    ]


def _image_dice(scores: Scores) -> list[float]:
    return [value for value in scores.by_image("dice_image").values() if not math.isnan(value)]


def _histogram(scores: Scores) -> list[dict[str, object]]:
    """Pictures per twentieth of Dice; the tallest bar is 100 %."""
    counts = [0] * BINS
    for value in _image_dice(scores):
        counts[min(int(value * BINS), BINS - 1)] += 1
    tallest = max(max(counts), 1)
    return [
        {
            "percent": round(100 * count / tallest, 1),
            "title": f"{number / BINS:.2f} to {(number + 1) / BINS:.2f}: {_number(count, 'picture')}",
        }
        for number, count in enumerate(counts)
    ]


def _histogram_words(scores: Scores) -> str:
    values = sorted(_image_dice(scores))
    if not values:
        return "No picture has a foreground."
    good, poor = sum(value >= 0.9 for value in values), sum(value < 0.5 for value in values)
    return (
        f"Half of the pictures score {values[len(values) // 2]:.3f} or more; "
        f"{good / len(values):.0%} reach 0.9, {poor / len(values):.0%} stay under 0.5."
    )


def _training_words(report: ReportInput) -> str:
    if not report.metrics:
        return ""
    last = report.metrics[-1]
    minutes = (
        f"{last['seconds'] / 60:.1f} minutes" if last["seconds"] >= 60 else f"{last['seconds']:.0f} seconds"
    )
    return f"{_number(len(report.metrics), 'epoch')} in {minutes}; the model is that of epoch {report.best_epoch}."


def _recipe_sections(recipe: Recipe) -> list[tuple[str, list[tuple[str, str]]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in flatten(recipe.model_dump(mode="json")).items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section or "run", []).append((name, _plain(value)))
    return list(sections.items())


def _changes(recipe: Recipe) -> list[tuple[str, str]]:
    usual = flatten(Recipe().model_dump(mode="json"))
    here = flatten(recipe.model_dump(mode="json"))
    return [(key, _plain(value)) for key, value in here.items() if value != usual.get(key)]


def _plain(value: object) -> str:
    """As a person would write it after `key=`."""
    if isinstance(value, list):
        return ",".join(_plain(entry) for entry in value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
