from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.options import Device, Threads
from maskwright.cli.proof import exported_text
from maskwright.cli.scores import scores_text
from maskwright.cli.terminal import terminal
from maskwright.progress import duration


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run goes; runs/demo without it.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> Answer:
    """The whole way on generated pictures, in minutes.

    Trains a small network, judges it on pictures it never saw, and leaves model, scores, report and a sheet of
    predictions in one folder.
    """
    from rich.console import Group

    from maskwright import api

    begun = time.monotonic()
    run = api.demo(out, device=device, threads=threads, progress=terminal())
    scores, file = run.scores("test"), run.folder.exports / "model.onnx"
    text = Group(
        scores_text(scores, f"{run.name}: test pictures that it never saw"),
        *exported_text(file),
        f"Done in {duration(time.monotonic() - begun)}. Look at:",
        f"  {run.folder.report_file}",
        f"  {run.path / 'predictions.png'}",
        *([f"  {file}"] if file.is_file() else []),
        "",
        "What comes next:",
        f"  maskwright show {run.path}",
        f"  maskwright predict {run.path} PICTURES --out masks/ --save mask,overlay",
        "  maskwright train --data YOUR_FOLDER --recipe resnet34-unet --budget 20m",
    )
    document = {
        "run": run.path,
        "report": run.folder.report_file,
        "scores": scores.summary(),
        "exported": file if file.is_file() else None,
    }
    return Answer(document, text)
