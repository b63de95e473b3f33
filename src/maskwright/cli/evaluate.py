from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.options import Device, Runs, SkipBroken, Threads, Tta
from maskwright.cli.scores import scores_text
from maskwright.cli.terminal import terminal


def evaluate(
    run: Runs,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Another data set; the run's own without it.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation or test.")] = "test",
    contract: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A metric contract as YAML; the default without it.")
    ] = None,
    tta: Tta = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_broken: SkipBroken = False,
) -> Answer:
    """Score a run on a split of a data set.

    Predicts every picture at its own size and compares with the original masks: scores with intervals, per picture
    and per class, in the run folder. With --tta they lie beside the usual ones."""
    from rich.console import Group

    from maskwright.api import Run, open_runs
    from maskwright.metrics.contract import DEFAULT, read_contract

    opened = open_runs(run)
    scores = opened.evaluate(
        split,
        data=data,
        contract=DEFAULT if contract is None else read_contract(contract),
        device=device,
        tta=tta,
        threads=threads,
        skip_broken=skip_broken,
        progress=terminal(),
    )
    text = scores_text(scores, f"{opened.name}: {split}")
    if isinstance(opened, Run):
        opened.report()
        return Answer(scores.summary(), text)
    return Answer(scores.summary(), Group(text, f"The scores lie in {opened.path / 'scores'}"))
