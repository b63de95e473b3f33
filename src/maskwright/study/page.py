"""What a study leaves for people: table.md, table.csv, study.md to write from, pictures, and study.html."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence

import yaml

from maskwright.files import write_bytes, write_text
from maskwright.pages import inline, render
from maskwright.study import figures
from maskwright.study.figures import Look
from maskwright.study.outcome import StudyResult
from maskwright.study.plan import COSTS, Search, slug
from maskwright.study.results import Line
from maskwright.study.search import WATCHED, Trial, finalists, text_of

Interval = tuple[float, float]
Draw = Callable[[Look], bytes]


def write_pages(result: StudyResult) -> None:
    """All files for people, whole or not at all."""
    folder = result.folder
    write_text(folder / "table.md", markdown_table(result))
    write_text(folder / "table.csv", csv_table(result))
    drawn = _figures(result)
    for name, draw in drawn.items():
        write_bytes(folder / f"{name}.png", draw(Look()))
    write_text(folder / "study.md", prose(result, list(drawn)))
    write_text(folder / "study.html", page(result, drawn))
    plan = result.study.plan
    if plan.search is not None and any(trial.front for trial in result.trials):
        said = yaml.safe_dump(finalists(result.study.name, plan, result.trials), sort_keys=False, width=110)
        write_text(folder / "finalists.yaml", said)


def _figures(result: StudyResult) -> dict[str, Draw]:
    """File name -> what draws it; only those that have something to show."""
    plan = result.study.plan
    if plan.search is None:
        if not any(rows for cell in result.cells for rows in cell.curves.values()):
            return {}
        groups, score = figures.strands(plan, result.cells), WATCHED.get(plan.metric, "val_dice_image")
        return {"curves": lambda look: figures.curves(groups, score, look)}
    search, trials, drawn = plan.search, result.trials, dict[str, Draw]()
    if not any(trial.values for trial in trials):
        return {}
    if len(search.objectives) > 1:
        drawn["front"] = lambda look: figures.pareto(trials, search.objectives, look)
    drawn["parallel"] = lambda look: figures.parallel(trials, search, look)
    if weights := result.importances:
        drawn["importance"] = lambda look: figures.importance(weights, look)
    return drawn


def header(result: StudyResult) -> list[str]:
    """The columns of the table."""
    plan = result.study.plan
    if plan.search is not None:
        return ["trial", *plan.search.objectives, *plan.search.space, "epochs", "state"]
    return [
        *("cell", plan.metric, "over seeds", "over images", "seeds", "epochs", "minutes"),
        *("to the first", "95 %", "verdict"),
    ]


def table_rows(result: StudyResult) -> list[list[str]]:
    """The table as text, a row for each cell; a search has its front first, then the rest in order."""
    search = result.study.plan.search
    if search is not None:
        return [
            _trial_row(trial, search) for trial in sorted(result.trials, key=lambda trial: not trial.front)
        ]
    return [_cell_row(line) for line in result.lines]


def _cell_row(line: Line) -> list[str]:
    failed = [f"seed {seed} failed" for seed in line.failed]
    return [
        line.cell,
        number_text(line.mean),
        interval_text(line.over_seeds),
        interval_text(line.over_images),
        ", ".join([*map(str, line.seeds), *failed]) or "–",
        _span(line.epochs),
        number_text(line.minutes, ".1f"),
        number_text(line.difference, "+.3f"),
        interval_text(line.difference_ci95, "+.3f"),
        line.verdict or "–",
    ]


def _trial_row(trial: Trial, search: Search) -> list[str]:
    values = [objective_text(name, trial.values.get(name, math.nan)) for name in search.objectives]
    params = [_param_text(trial.params[key]) if key in trial.params else "–" for key in search.space]
    return [trial.name, *values, *params, str(trial.epochs), "on the front" if trial.front else trial.state]


def _param_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else text_of(value)


def objective_text(name: str, value: float) -> str:
    """`0.812`, `1.93 M` parameters, `4.2 G` operations, `12 ms`."""
    if name not in COSTS or math.isnan(value):
        return number_text(value)
    if name == "latency":
        return f"{1000 * value:.3g} ms"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def number_text(value: float, form: str = ".3f") -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"


def interval_text(interval: Interval, form: str = ".3f") -> str:
    low, high = interval
    return "–" if math.isnan(low + high) else f"{low:{form}} to {high:{form}}"


def _span(numbers: Sequence[int]) -> str:
    if not numbers:
        return "–"
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def markdown_table(result: StudyResult) -> str:
    """Markdown; a | within a name would end its column."""
    columns = header(result)
    rows = [
        [cell.replace("|", "/") for cell in row]
        for row in (columns, ["---"] * len(columns), *table_rows(result))
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def csv_table(result: StudyResult) -> str:
    """The same with all digits, intervals in two columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    plan = result.study.plan
    if plan.search is not None:
        writer.writerow(header(result))
        for trial in result.trials:
            values = [trial.values.get(name, "") for name in plan.search.objectives]
            params = [trial.params.get(key, "") for key in plan.search.space]
            writer.writerow(
                [trial.name, *values, *params, trial.epochs, "on the front" if trial.front else trial.state]
            )
        return text.getvalue()
    writer.writerow(
        (
            *("cell", plan.metric, "seeds_low", "seeds_high", "images_low", "images_high", "seeds", "failed"),
            *("epochs", "minutes", "difference", "difference_low", "difference_high", "verdict"),
        )
    )
    for line in result.lines:
        writer.writerow(
            (
                *(line.cell, line.mean, *line.over_seeds, *line.over_images),
                *(" ".join(map(str, line.seeds)), " ".join(map(str, line.failed))),
                *(" ".join(map(str, line.epochs)), line.minutes),
                *(line.difference, *line.difference_ci95, line.verdict),
            )
        )
    return text.getvalue()


def setting(result: StudyResult) -> str:
    """How the runs were made, in a sentence or two."""
    plan = result.study.plan
    each = f"{plan.budget} of training each" if plan.budget else "as many epochs as the recipe says"
    data = (plan.data or "").rstrip("/").rsplit("/", 1)[-1]
    if plan.search is not None:
        states = [trial.state for trial in result.trials]
        counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return (
            f"{len(states)} trials on {data} ({counted}), {each}, seed {plan.seeds[0]}; judged on the validation "
            "pictures, which also chose: the best look better here than they are."
        )
    seeds = f"{len(plan.seeds)} seeds" if len(plan.seeds) > 1 else "one seed"
    return (
        f"{len(result.cells)} cells with {seeds} on {data}, {each}; {plan.metric} on the {plan.split} split "
        f"({result.pictures:,} pictures)."
    )


def prose(result: StudyResult, drawn: Sequence[str]) -> str:
    """study.md: what a report can be written from."""
    plan, parts = result.study.plan, [f"# {result.study.name}"]
    parts += [plan.about] if plan.about else []
    parts.append(setting(result))
    if result.verdicts:
        parts.append("## What can be concluded")
        parts.append(
            "\n".join(
                f"- “{each.claim.says}”: **{each.verdict}**. {each.sentence}." for each in result.verdicts
            )
        )
    parts += ["## Table", markdown_table(result).rstrip()]
    if plan.search is None:
        parts.append(reading(result))
    elif any(trial.front for trial in result.trials):
        parts.append(
            "Nothing that was tried beats those on the front in every objective. `finalists.yaml` judges them with "
            "three seeds on the test split."
        )
    for name in drawn:
        parts += [f"![{name}]({name}.png)"]
    if result.failed:
        parts += ["## Failed", "\n".join(f"- {name}: {why}" for name, why in result.failed.items())]
    return "\n\n".join(parts) + "\n"


def reading(result: StudyResult) -> str:
    """How the columns are to be read."""
    first = result.lines[0].cell
    return (
        "Intervals are of 95 %. Over seeds: where the mean would lie with other seeds (Student's t). Over images: "
        f"where the mean over these seeds would lie with other pictures. Differences are to {first}, paired by picture."
    )


def page(result: StudyResult, drawn: Mapping[str, Draw]) -> str:
    """One file that opens offline. Everything that comes from files and people is escaped."""
    plan = result.study.plan
    return render(
        "maskwright.study",
        "study.html",
        name=result.study.name,
        about=plan.about,
        setting=setting(result),
        reading=reading(result) if result.lines else "",
        verdicts=[
            {
                "says": each.claim.says,
                "verdict": each.verdict,
                "kind": slug(each.verdict),
                "sentence": f"{each.sentence}.",
            }
            for each in result.verdicts
        ],
        columns=_page_columns(result),
        rows=_page_rows(result),
        forest=_forest_ends(result.lines),
        pictures=[
            {
                "name": name,
                "light": inline(draw(Look(svg=True))),
                "dark": inline(draw(Look(dark=True, svg=True))),
            }
            for name, draw in drawn.items()
        ],
        is_search=plan.search is not None,
        failed=list((result.failed or {}).items()),
        plan=(result.folder / "study.yaml").read_text(encoding="utf-8"),
    )


def _page_columns(result: StudyResult) -> list[str]:
    if result.study.plan.search is not None:
        return header(result)
    return [
        "cell",
        result.study.plan.metric,
        "over images",
        "to the first",
        "verdict",
        "seeds",
        "epochs",
    ]


def _page_rows(result: StudyResult) -> list[dict[str, object]]:
    """The table's rows; those of cells with a bar for the mean and its interval over seeds on the scale of the study.

    A cell is a text and what stands small behind it.
    """
    if result.study.plan.search is not None:
        return [
            {
                "head": head,
                "cells": [(cell, "") for cell in cells],
                "bar": None,
                "front": "on the front" in cells,
            }
            for head, *cells in table_rows(result)
        ]
    ends, rows = _ends(result.lines), list[dict[str, object]]()
    for line, row in zip(result.lines, table_rows(result), strict=True):
        head, mean, over_seeds, over_images, seeds, epochs, minutes, difference, interval, verdict = row
        cells = [(mean, over_seeds), (over_images, ""), (difference, interval)]
        cells += [(verdict, ""), (seeds, ""), (epochs, f"{minutes} min")]
        shown = [(text, "" if small == "–" else small) for text, small in cells]
        rows.append({"head": head, "cells": shown, "bar": _bar(line, ends), "front": False})
    return rows


def _ends(lines: Sequence[Line]) -> Interval:
    """From the lowest to the highest end of an interval."""
    spans = [value for line in lines for value in (line.mean, *line.over_images, *line.over_seeds)]
    known = [min(max(value, 0.0), 1.0) for value in spans if not math.isnan(value)]
    return (min(known), max(known)) if known else (0.0, 1.0)


def _forest_ends(lines: Sequence[Line]) -> tuple[str, str]:
    low, high = _ends(lines)
    return f"{low:.2f}", f"{high:.2f}"


def _bar(line: Line, ends: Interval) -> dict[str, float] | None:
    """Percent of the width."""
    if math.isnan(line.mean):
        return None
    low, high = ends

    def place(value: float) -> float:
        return round(100 * min(max((value - low) / max(high - low, 1e-9), 0.0), 1.0), 1)

    start, end = line.over_seeds if not math.isnan(line.over_seeds[0]) else line.over_images
    start, end = (line.mean, line.mean) if math.isnan(start) else (start, end)
    return {"mark": place(line.mean), "low": place(start), "width": round(place(end) - place(start), 1)}
