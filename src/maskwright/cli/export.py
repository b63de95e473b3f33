from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.options import Threads, Tta
from maskwright.cli.terminal import terminal


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, its name, or a model folder with --data.")
    ],
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="onnx, openvino (.xml, .bin) or torch (.pt2).")
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            metavar="BITS",
            help="fp32; fp16: half the file; int8: calibrated on validation pictures; bf16: OpenVINO alone.",
        ),
    ] = "fp32",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where it goes; RUN/export/model.onnx and so on without it."),
    ] = None,
    runner: Annotated[
        bool,
        typer.Option(
            "--runner", help="Write run.py beside it, which needs numpy, Pillow and onnxruntime alone."
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Where the proof comes from; the run's own data without it."),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the data.")] = "validation",
    pictures: Annotated[int, typer.Option(metavar="N", help="Of the split, at most.", min=1)] = 150,
    tta: Tta = None,
    threads: Threads = None,
) -> Answer:
    """Write one file that takes pictures of any size and gives masks, with the proof that it is the model evaluated.

    Resizing, normalisation and decision are inside. The file is put beside the model on validation pictures; where it
    says something else, none is written, and the exit code is 1.
    """
    from maskwright.predict.formats import check_kind

    check_kind(format, precision, runner)  # before torch is imported, which takes seconds
    from maskwright import api
    from maskwright.cli.proof import proof_text

    outcome = api.export(
        run,
        out,
        format=format,
        precision=precision,
        tta=tta,
        data=data,
        split=split,
        pictures=pictures,
        runner=runner,
        threads=threads,
        progress=terminal(),
    )
    document = {
        "file": outcome.path,
        "runner": outcome.runner,
        "passed": outcome.path is not None,
        "passport": outcome.passport.model_dump(mode="json"),
    }
    return Answer(
        document, proof_text(outcome.passport, outcome.path, outcome.runner), code=0 if outcome.path else 1
    )
