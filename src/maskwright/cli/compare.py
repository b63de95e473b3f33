from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.answer import Answer, table
from maskwright.cli.scores import interval
from maskwright.cli.terminal import terminal
from maskwright.errors import RunError

if TYPE_CHECKING:
    from rich.table import Table

    from maskwright.compare import Comparison


class Part(StrEnum):
    CLASS = "class"
    SIZE = "size"
    PROPERTY = "property"


def compare(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs, ensembles (RUN+RUN) or cross-validations, two or more."),
    ],
    metric: Annotated[str, typer.Option(metavar="NAME", help="A metric of scores.json.")] = "dice_image",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Which scores: a folder of RUN/scores.")
    ] = "test",
    by: Annotated[
        Part | None,
        typer.Option(help="Two sides also part by part: by class, object size, picture property."),
    ] = None,
    margin: Annotated[
        float, typer.Option(metavar="X", min=0, help="Differences within it do not matter.")
    ] = 0.005,
    each: Annotated[
        bool, typer.Option("--each", help="Every run for itself, seeds of a recipe too.")
    ] = False,
) -> Answer:
    """Say which run is better, and whether the data can tell.

    Runs of one recipe with several seeds are one side. Sides are compared on the pictures that all have: differences
    with 95 % intervals, p corrected for all tests, and a verdict in words."""
    if len(run) < 2:  # before torch is imported, which takes seconds
        raise RunError("one run cannot be compared", "name two or more")
    from rich.console import Group

    from maskwright.contest import compare_runs

    found = compare_runs(
        run,
        metric,
        split=split,
        by=None if by is None else by.value,
        margin=margin,
        each=each,
        progress=terminal(),
    )
    board = found.leaderboard
    places = table(
        (
            "",
            "run",
            f"{metric}>",
            "95 % interval>",
            "seeds>",
            "noise>",
            "to the best>",
            "95 % interval>",
            "p>",
        ),
        [
            (
                place.letters,
                place.name,
                place.mean,
                interval(place.ci95),
                place.n_seeds,
                place.noise,
                *(("–", "–", "–") if place.to_best is None else _difference(place.to_best)),
            )
            for place in board.places
        ],
        title=f"{split}: {board.pairs[0].n_images} pictures",
    )
    lines = [pair.sentence for pair in board.pairs[: len(board.places) - 1]]  # the best against the others
    if len(board.places) > 2:
        lines = [board.sentence, *lines, "Runs that share a letter cannot be told apart."]
    parts = [_parts(found.parts)] if found.parts else []
    document = board.summary() | {
        "sides": {side: list(members) for side, members in found.sides.items()},
        "parts": [part.summary() for part in found.parts],
    }
    return Answer(document, Group(places, *lines, *parts, *(f"Note: {note}" for note in board.notes)))


def _difference(found: Comparison) -> tuple[str, str, str]:
    low, high = found.ci95
    return (
        f"{found.difference:+.4f}",
        f"{low:+.4f} to {high:+.4f}" if not math.isnan(low) else "too few",
        "< 0.001" if found.corrected_p < 0.001 else f"{found.corrected_p:.3f}",
    )


def _parts(parts: tuple[Comparison, ...]) -> Table:
    first, second = parts[0].names
    return table(
        ("part", "pictures>", f"{first}>", f"{second}>", "difference>", "95 % interval>", "p>", second),
        [(part.part, part.n_groups, *part.means, *_difference(part), part.verdict) for part in parts],
    )
