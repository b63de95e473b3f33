"""The same predictions under the rules of other tools, as a person reads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from maskwright.cli.answer import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from maskwright.metrics.conventions import Explained
    from maskwright.metrics.scores import Scores


def explained_text(rows: Sequence[Explained], scores: Scores, title: str) -> RenderableType:
    """One table, our number first, scores that say the same for the same reason in one row; then the largest
    difference in a sentence."""
    from rich.console import Group

    alike: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        numbers = (
            f"{row.here:.4f}",
            f"{row.there:.4f}",
            f"{round(row.difference, 4) + 0.0:+.4f}",
        )  # never -0
        shown = ("–" if number.endswith("nan") else number for number in numbers)
        alike.setdefault((row.metric, *shown, row.because), []).append(f"{row.tool}: {row.score}")
    made = table(
        ("metric", "here>", "there>", "difference>", "as said by", "because"),
        [(*cells[:4], "\n".join(names), cells[4]) for cells, names in alike.items()],
        title=title,
    )
    made.show_lines = True
    for column in made.columns[4:]:
        column.overflow = "fold"
    footer = f"{scores.n_images} pictures, contract {scores.contract.hash}"
    return Group(made, *_largest(rows), footer)


def explained_document(rows: Sequence[Explained]) -> list[dict[str, object]]:
    return [{**vars(row), "difference": row.difference} for row in rows]


def _largest(rows: Sequence[Explained]) -> list[str]:
    apart = [row for row in rows if not math.isnan(row.difference) and abs(row.difference) >= 5e-5]
    if not apart:
        return []
    row = max(apart, key=lambda row: abs(row.difference))
    there = f"{row.there:.4f} there ({row.tool}: {row.score})"
    return [f"{row.metric} {row.here:.4f} here is {there}, because {row.because}."]
