from __future__ import annotations

from typing import Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.options import Device, OtherData, RunName, Threads
from maskwright.cli.terminal import terminal


def clean(
    run: RunName,
    data: OtherData = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Pictures that were not trained on, and that no score is for.")
    ] = "validation",
    device: Device = "auto",
    threads: Threads = None,
) -> Answer:
    """Choose how masks are cleaned: smallest object, largest hole that is closed, threshold of two classes.

    A bounded grid is tried, and the best kept in the model folder if it clearly helps pictures that had no part in the
    choice. predict --clean then applies it; without that masks never change."""
    from maskwright.api import Run

    opened = Run.open(run)
    chosen = opened.clean(split, data=data, device=device, threads=threads, progress=terminal())
    document = {
        "kept": chosen.helps,
        "cleaning": chosen.cleaning.model_dump(),
        "pictures": chosen.pictures,
        "gain": chosen.comparison.difference,
        "ci95": chosen.comparison.ci95,
        "p": chosen.comparison.p,
        "sentence": chosen.sentence,
    }
    return Answer(document, f"{opened.name}: {chosen.sentence}")
