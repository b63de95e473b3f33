from __future__ import annotations

from typing import Annotated

import typer

from maskwright.cli.answer import Answer, table


def models(
    size: Annotated[
        str, typer.Option(metavar="H,W", help="Picture size that the operations are counted for.")
    ] = "256,256",
    classes: Annotated[int, typer.Option(metavar="K", min=2, help="Number of classes.")] = 2,
    channels: Annotated[int, typer.Option(metavar="C", min=1, help="Channels of a picture.")] = 3,
) -> Answer:
    """List the networks, their size and their cost.

    The cost is the floating-point operations of one picture."""
    from maskwright.config import load_recipe
    from maskwright.models import MODELS, build_model, flops, parameters

    height, width = load_recipe(None, {"input.size": size}).input.size
    rows = []
    for name in MODELS:
        model = build_model(name, in_channels=channels, classes=classes)
        rows.append((name, parameters(model), flops(model, (height, width), channels)))
    document = [{"name": name, "parameters": count, "flops": work} for name, count, work in rows]
    return Answer(
        {"size": [height, width], "models": document},
        table(
            ("model", "parameters>", f"GFLOPs at {height} x {width}>"),
            [(name, f"{count / 1e6:.1f} M", f"{work / 1e9:.1f}") for name, count, work in rows],
        ),
    )
