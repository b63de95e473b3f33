"""The pictures of a study: curves of all runs, the Pareto front, parallel coordinates, importances. Bytes come back.

PNG on a plain ground for files, SVG on a clear ground for the page (in light and in dark).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.config import flatten
from maskwright.study.plan import Range, Search, StudyPlan, plain_text
from maskwright.study.results import CellResult
from maskwright.study.search import Trial, text_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIGHT = (
    "#0969da",
    "#d1601f",
    "#1a7f37",
    "#8250df",
    "#bf3989",
    "#9a6700",
    "#0a7ea4",
    "#57606a",
    "#cf222e",
    "#4d7c0f",
)
DARK = (
    "#4493f8",
    "#f0883e",
    "#3fb950",
    "#ab7df8",
    "#f778ba",
    "#d29922",
    "#39c5cf",
    "#9198a1",
    "#ff7b72",
    "#a3c940",
)
"""Told apart by neighbours in a legend; beyond ten they come again, dashed."""


@dataclass(frozen=True)
class Look:
    """Where a figure will stand."""

    dark: bool = False
    svg: bool = False

    @property
    def ink(self) -> str:
        return "#9198a1" if self.dark else "#59636e"

    @property
    def ground(self) -> str:
        return "#151b23" if self.dark else "white"

    def line(self, index: int) -> dict[str, Any]:
        """Of the value at that place."""
        colours = DARK if self.dark else LIGHT
        return {"color": colours[index % len(colours)], "linestyle": "-" if index < len(colours) else "--"}


Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Strand:
    """Everything with one value of an axis: the curves of its runs."""

    name: str
    runs: tuple[Rows, ...]


def strands(plan: StudyPlan, results: Sequence[CellResult]) -> dict[str, tuple[Strand, ...]]:
    """A group of strands for each axis, and one for the named cells: title -> its values in order."""
    groups: dict[str, tuple[Strand, ...]] = {}
    if plan.cells:
        labels = list(dict.fromkeys(result.cell.label for result in results))
        groups["cells"] = tuple(
            _strand(label, [r for r in results if r.cell.label == label]) for label in labels
        )
    for key in plan.axes:
        texts = [plain_text(flatten(result.cell.recipe.model_dump(mode="json"))[key]) for result in results]
        groups[key] = tuple(
            _strand(text, [result for result, its in zip(results, texts, strict=True) if its == text])
            for text in dict.fromkeys(texts)
        )
    return groups or {"cells": tuple(_strand(result.cell.name, [result]) for result in results)}


def _strand(name: str, results: Sequence[CellResult]) -> Strand:
    return Strand(name, tuple(rows for result in results for rows in result.curves.values() if rows))


def curves(groups: Mapping[str, Sequence[Strand]], score: str, look: Look) -> bytes:
    """A row for each group: training loss on the left, validation score on the right; a colour for each value.

    Thin lines are runs, the thick one is their mean over the epochs that all of them reached.
    """
    columns = (("train_loss", "Training loss"), (score, _score_title(score)))

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        grid = figure.subplots(len(groups), 2, squeeze=False)
        for (title, group), row in zip(groups.items(), grid, strict=True):
            for (column, name), axes in zip(columns, row, strict=True):
                for index, strand in enumerate(group):
                    _draw_strand(axes, strand, column, look.line(index))
                _dress(axes, name if title == "cells" else f"{name} by {title}", look)
                axes.set_xlabel("epoch", color=look.ink, fontsize=9)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            row[1].legend(
                frameon=False, fontsize=9, labelcolor=look.ink, loc="center left", bbox_to_anchor=(1.01, 0.5)
            )

    return _render((11, 3.4 * len(groups)), draw, look)


def _score_title(column: str) -> str:
    return {"val_dice_image": "Validation Dice per image", "val_miou": "Validation mean IoU"}.get(
        column, column
    )


def _draw_strand(axes: Axes, strand: Strand, column: str, style: Mapping[str, Any]) -> None:
    values = [np.array([row.get(column, math.nan) for row in rows]) for rows in strand.runs]
    for run in values:
        axes.plot(np.arange(1, len(run) + 1), run, linewidth=0.8, alpha=0.45, **style)
    common = min((len(run) for run in values), default=0)
    mean = np.mean([run[:common] for run in values], axis=0) if common else np.array([math.nan])
    marker = "o" if len(mean) == 1 else ""
    axes.plot(
        np.arange(1, len(mean) + 1),
        mean,
        linewidth=2,
        marker=marker,
        markersize=4,
        label=strand.name,
        **style,
    )


def pareto(trials: Sequence[Trial], objectives: Mapping[str, str], look: Look) -> bytes:
    """The first objective over each other one: every finished trial, and the front, joined."""
    first, *others = objectives

    def draw(figure: Figure) -> None:
        for axes, other in zip(figure.subplots(1, len(others), squeeze=False)[0], others, strict=True):
            done = [trial for trial in trials if trial.values]
            best = sorted((trial for trial in done if trial.front), key=lambda trial: trial.values[other])
            rest = [trial for trial in done if not trial.front]
            axes.scatter(
                [t.values[other] for t in rest],
                [t.values[first] for t in rest],
                s=18,
                color=look.ink,
                alpha=0.6,
                label="tried",
            )
            axes.plot(
                [t.values[other] for t in best], [t.values[first] for t in best],
                marker="o", markersize=6, linewidth=1.2, label="on the front", **look.line(0),
            )  # fmt: skip
            for trial in best:
                axes.annotate(
                    trial.name.removeprefix("trial-"), (trial.values[other], trial.values[first]),
                    xytext=(5, -11), textcoords="offset points", fontsize=8, color=look.ink,
                )  # fmt: skip
            values = [trial.values[other] for trial in done]
            if values and min(values) > 0 and max(values) > 20 * min(values):
                axes.set_xscale("log")
            _dress(axes, f"{first} over {other}", look)
            axes.set_xlabel(other, color=look.ink, fontsize=9)
            axes.legend(frameon=False, fontsize=9, labelcolor=look.ink, loc="best")

    return _render((5.4 * len(others), 3.8), draw, look)


def parallel(trials: Sequence[Trial], search: Search, look: Look) -> bytes:
    """A line for each trial through its values; the better the first objective, the stronger. Pruned ones are grey."""
    objective, way = next(iter(search.objectives.items()))
    scales = [_scale(key, span) for key, span in search.space.items()]
    done = [trial for trial in trials if trial.values]
    best_first = sorted(done, key=lambda trial: trial.values[objective], reverse=way == "maximise")
    rank = {trial.name: place / max(1, len(done) - 1) for place, trial in enumerate(best_first)}
    scores = [trial.values[objective] for trial in done]

    def draw(figure: Figure) -> None:
        from matplotlib import colormaps

        axes = figure.subplots()
        colours = colormaps["viridis" if look.dark else "viridis_r"]
        for trial in sorted(trials, key=lambda trial: -rank.get(trial.name, 2)):  # the best on top
            heights = [scale.height(trial.params[scale.key]) for scale in scales if scale.key in trial.params]
            if len(heights) < len(scales):
                continue
            if trial.values:
                heights.append(_share(trial.values[objective], min(scores), max(scores)))
                colour = colours(0.95 - 0.9 * rank[trial.name])
                axes.plot(heights, color=colour, linewidth=2.2 if trial.front else 1.1, alpha=0.9)
            else:
                axes.plot(heights, color=look.ink, linewidth=0.7, alpha=0.45)
        ends = (f"{min(scores):.3g}", f"{max(scores):.3g}") if scores else ("", "")
        labels = [
            *((scale.key, scale.marks) for scale in scales),
            (objective, ((0.0, ends[0]), (1.0, ends[1]))),
        ]
        for x, (_, marks) in enumerate(labels):
            axes.axvline(x, color=look.ink, linewidth=0.8, alpha=0.6)
            for height, text in marks:
                axes.annotate(
                    text, (x, height), xytext=(4, 0), textcoords="offset points", fontsize=8, color=look.ink,
                    va="center", zorder=9, bbox={"facecolor": look.ground, "alpha": 0.8, "linewidth": 0, "pad": 1},
                )  # fmt: skip
        _dress(axes, "What was tried", look)
        axes.grid(visible=False)
        axes.set_yticks([])
        axes.set_xticks(range(len(labels)), [name for name, _ in labels], fontsize=9)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(-0.1, len(labels) - 0.6)

    return _render((max(6.0, 1.9 * (len(scales) + 1)), 4), draw, look)


@dataclass(frozen=True)
class _Scale:
    """An axis of the parallel coordinates: a value -> its height in [0, 1]."""

    key: str
    marks: tuple[tuple[float, str], ...]
    height: Callable[[Any], float]


def _scale(key: str, span: Range | tuple[Any, ...]) -> _Scale:
    if isinstance(span, Range):
        change = math.log if span.log else float
        low, high = change(span.low), change(span.high)
        middle = math.exp((low + high) / 2) if span.log else (low + high) / 2
        marks = ((0.0, f"{span.low:g}"), (0.5, f"{middle:.2g}"), (1.0, f"{span.high:g}"))
        return _Scale(key, marks, lambda value: _share(change(value), low, high))
    texts = [text_of(value) for value in span]
    places = {text: _share(place, 0, len(texts) - 1) for place, text in enumerate(texts)}
    return _Scale(
        key, tuple((height, text) for text, height in places.items()), lambda value: places[text_of(value)]
    )


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def importance(weights: Mapping[str, float], look: Look) -> bytes:
    """A bar for each key, the weightiest on top."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        keys = sorted(weights, key=lambda key: weights[key])
        axes.barh(keys, [weights[key] for key in keys], height=0.62, color=look.line(0)["color"])
        for place, key in enumerate(keys):
            axes.annotate(
                f"{weights[key]:.2f}", (weights[key], place), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=9, color=look.ink,
            )  # fmt: skip
        _dress(axes, "What decides", look)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_xlim(0, 1.15 * max(weights.values()))
        axes.spines["bottom"].set_visible(False)

    return _render((6, 0.7 + 0.42 * len(weights)), draw, look)


def _dress(axes: Axes, title: str, look: Look) -> None:
    axes.set_title(title, color=look.ink, fontsize=11, loc="left")
    axes.grid(axis="y", color=look.ink, alpha=0.2, linewidth=0.8)
    axes.tick_params(colors=look.ink, labelsize=9, length=0)
    axes.patch.set_alpha(0)
    for side in axes.spines:
        axes.spines[side].set_visible(side == "bottom")
    axes.spines["bottom"].set_color(look.ink)


def _render(size: tuple[float, float], draw: Callable[[Figure], None], look: Look) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text stays text in the SVG, and equal runs give equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "maskwright", "font.family": "sans-serif"}):
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        figure.patch.set_alpha(0.0 if look.svg else 1.0)
        figure.patch.set_facecolor("#0d1117" if look.dark else "white")
        draw(figure)
        content = io.BytesIO()
        metadata = {"Date": None} if look.svg else None
        figure.savefig(content, format="svg" if look.svg else "png", metadata=metadata)
    return content.getvalue()
