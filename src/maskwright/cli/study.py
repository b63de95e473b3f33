from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwright.cli.answer import Answer, Stopped, table
from maskwright.cli.options import Device, SkipBroken
from maskwright.cli.terminal import terminal

if TYPE_CHECKING:
    from maskwright.study.outcome import StudyResult


def study(
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="A study file, or a name; without it the names are listed."),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[section.key=value]...", help="Recipe keys for all runs, such as model.width=8."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="A folder, dataset.yaml, .npz or synthetic:NAME.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="The study folder is runs/N.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N", help="Seeds, such as 0,1,2.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Time of each run: 90s, 15m.")] = None,
    size: Annotated[str | None, typer.Option(metavar="H,W", help="input.size, height first")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Runs side by side; without it cores / threads, and 1 on a GPU."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads of each run.")] = None,
    device: Device = "auto",
    skip_broken: SkipBroken = False,
) -> Answer:
    """Run a grid or a search over recipes and seeds, and say what can be concluded.

    Everything goes into runs/NAME: the runs, a table with intervals, a verdict on every claim, curves, study.html.
    Stopped or even killed, the same command goes on where it was. A run that fails is named (exit code 1) and does not
    stop the rest."""
    from maskwright.api import RUNS
    from maskwright.config import parse_overrides
    from maskwright.study.plan import about_studies, parse_seeds, read_study
    from maskwright.study.run import run_study

    if study is None:
        found = about_studies()
        return Answer({"studies": found}, table(("study", "what it asks"), list(found.items())))
    pairs = [] if size is None else [f"input.size={size}"]
    planned = read_study(
        study,
        parse_overrides([*pairs, *(words or [])]),
        data=data,
        seeds=None if seeds is None else parse_seeds(seeds),
        budget=budget,
        threads=threads,
    )
    folder = RUNS / (name or planned.name)
    try:
        result = run_study(
            planned, folder, workers=workers, device=device, skip_broken=skip_broken, progress=terminal()
        )
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on where it was") from None
    return Answer(_document(result), _text(result), 1 if result.failed else 0)


def _document(result: StudyResult) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "study": result.study.name,
        "folder": result.folder,
        "cells": [asdict(line) for line in result.lines],
        "claims": [asdict(each) | {"claim": each.claim.says} for each in result.verdicts],
        "trials": [asdict(trial) for trial in result.trials],
        "importances": result.importances or {},
        "failed": result.failed or {},
    }


def _text(result: StudyResult) -> Any:
    from rich.console import Group

    from maskwright.study.page import header, setting, table_rows

    columns = [
        name if place in (0, len(header(result)) - 1) else f"{name}>"
        for place, name in enumerate(header(result))
    ]
    parts: list[Any] = [setting(result), table(columns, table_rows(result))]
    parts += [f"{each.verdict:>15}  {each.claim.says}: {each.sentence}" for each in result.verdicts]
    parts += [f"failed: {name}: {why}" for name, why in (result.failed or {}).items()]
    parts.append(f"Look at: {Path(result.folder) / 'study.html'}")
    return Group(*parts)
