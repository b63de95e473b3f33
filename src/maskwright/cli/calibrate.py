from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.options import Device, OtherData, RunName, Threads
from maskwright.cli.terminal import terminal


def calibrate(
    run: RunName,
    data: OtherData = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Pictures that were not trained on.")
    ] = "validation",
    device: Device = "auto",
    threads: Threads = None,
) -> Answer:
    """Fit the temperature that makes a model's probabilities mean what they say.

    Training does it at its end; this is for models from before, or for pictures of another kind. It is kept in the
    model folder and changes no mask. Scores tell what it is worth: evaluate afterwards."""
    from maskwright.api import Run

    opened = Run.open(run)
    fitted = opened.calibrate(split, data=data, device=device, threads=threads, progress=terminal())
    text = (
        f"{opened.name}: temperature {fitted.temperature:.3f} from {fitted.pixels:,} pixels of {fitted.pictures} "
        f"pictures\nTheir expected calibration error: {fitted.ece_before:.4f} without it, {fitted.ece:.4f} with it"
    )
    return Answer(asdict(fitted), text)
