from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwright.cli.answer import Answer, table

if TYPE_CHECKING:
    from torch import nn


def models(
    size: Annotated[
        str, typer.Option(metavar="H,W", help="Picture size that the operations are counted for.")
    ] = "256,256",
    classes: Annotated[int, typer.Option(metavar="K", min=2, help="Number of classes.")] = 2,
    channels: Annotated[int, typer.Option(metavar="C", min=1, help="Channels of a picture.")] = 3,
    latency: Annotated[
        bool, typer.Option("--latency", help="Time one prediction of each, on this machine's CPU.")
    ] = False,
) -> Answer:
    """List the networks, their size and their cost.

    The cost is the floating-point operations of one picture. Architectures of the zoo stand there with their
    default encoder; any encoder of timm can take its place: fpn:convnext_tiny."""
    from maskwright import models as networks
    from maskwright.config import load_recipe

    height, width = load_recipe(None, {"input.size": size}).input.size
    names = [*networks.MODELS, *networks.zoo.names()]
    rows = [_row(name, (height, width), channels, classes, timed=latency) for name in names]
    columns = ["model", "parameters>", f"GFLOPs at {height} x {width}>"]
    columns += ["seconds>", "fastest>", "slowest>"] if latency else []
    columns += ["problem"] if any(row["problem"] for row in rows) else []
    return Answer(
        {"size": [height, width], "models": rows},
        table(columns, [_cells(row, timed=latency)[: len(columns)] for row in rows]),
    )


def _row(name: str, hw: tuple[int, int], channels: int, classes: int, *, timed: bool) -> dict[str, Any]:
    """What a model costs, or why that cannot be said: one that fails must not hide the others."""
    from maskwright.models import flops, parameters
    from maskwright.models.measure import latency

    row: dict[str, Any] = {"name": name, "parameters": None, "flops": None, "problem": None}
    try:
        model = _built(name, channels, classes, without_memory=not timed)
        row |= {"parameters": parameters(model), "flops": flops(model, hw, channels)}
        if timed:
            row["latency"] = latency(model, hw, channels)._asdict()
    except Exception as error:  # an architecture comes from libraries that raise what they like
        row["problem"] = " ".join(str(error).split())
    return row


def _built(name: str, channels: int, classes: int, *, without_memory: bool) -> nn.Module:
    import torch

    from maskwright.models import build_model

    if without_memory:
        try:
            with torch.device("meta"):
                return build_model(name, channels, classes)
        except Exception:  # some compute while they are built
            pass
    return build_model(name, channels, classes)


def _cells(row: dict[str, Any], *, timed: bool) -> list[str | None]:
    cost = [
        None if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M",
        None if row["flops"] is None else f"{row['flops'] / 1e9:.1f}",
    ]
    seconds = [f"{value:.3f}" for value in row["latency"].values()] if "latency" in row else [None] * 3
    return [row["name"], *cost, *(seconds if timed else []), row["problem"]]
