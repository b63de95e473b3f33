from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.options import Device, Threads, Tta
from maskwright.cli.terminal import terminal


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL[+...]",
            help="A run folder, its name, or a model folder; several with + are averaged.",
        ),
    ],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders or globs.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the masks go.")],
    save: Annotated[
        str, typer.Option(metavar="KINDS", help="mask, overlay, probability; several with commas.")
    ] = "mask",
    tta: Tta = None,
    device: Device = "auto",
    threads: Threads = None,
) -> Answer:
    """Write a mask for every picture.

    Masks have the picture's own size and are palette PNGs: the pixel value is the class id. Files that cannot be
    read are listed at the end, with exit code 1; the rest is done.
    """
    from rich.console import Group

    from maskwright.api import use_threads
    from maskwright.predict.ensemble import load_predictor
    from maskwright.predict.predictor import Kind

    kinds = cast(list[Kind], [kind.strip() for kind in save.split(",")])  # checked by the predictor
    with use_threads(threads):
        results = load_predictor(run, device, tta).save(out, *inputs, save=kinds, progress=terminal())
    failed = [result for result in results if result.error]
    text = Group(
        f"{len(results) - len(failed)} of {len(results)} pictures done, in {out}",
        *(f"failed: {result.error}" for result in failed),
    )
    document = {
        "out": out,
        "done": [
            {"input": result.input, "outputs": result.outputs} for result in results if not result.error
        ],
        "failed": [{"input": result.input, "error": result.error} for result in failed],
    }
    return Answer(document, text, code=1 if failed else 0)
