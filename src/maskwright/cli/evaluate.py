from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.cli.explain import explained_document, explained_text
from maskwright.cli.options import Device, OtherData, Runs, SkipBroken, Threads, Tta
from maskwright.cli.scores import scores_text
from maskwright.cli.terminal import terminal

if TYPE_CHECKING:
    from maskwright.metrics.scores import Scores


def evaluate(
    run: Runs,
    data: OtherData = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation or test.")] = "test",
    contract: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="A metric contract: default, empty-one, masked, a YAML or JSON file, or another run's scores.json.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="What smp, torchmetrics, MONAI, mmsegmentation, scikit-learn and Keras would say, and why. Takes the "
            "scores that are there.",
        ),
    ] = False,
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
    rules = DEFAULT if contract is None else read_contract(contract)
    if explain:
        kept = opened.kept(
            split, data=data, contract=rules, tta=tta, skip_broken=skip_broken, progress=terminal()
        )
        if kept is not None:
            return _explained(kept, f"{opened.name}: {split}")
    scores = opened.evaluate(
        split,
        data=data,
        contract=rules,
        device=device,
        tta=tta,
        threads=threads,
        skip_broken=skip_broken,
        progress=terminal(),
    )
    text = scores_text(scores, f"{opened.name}: {split}")
    if isinstance(opened, Run):
        opened.report()
    if explain:
        return _explained(scores, f"{opened.name}: {split}")
    if isinstance(opened, Run):
        return Answer(scores.summary(), text)
    return Answer(scores.summary(), Group(text, f"The scores lie in {opened.path / 'scores'}"))


def _explained(scores: Scores, title: str) -> Answer:
    from maskwright.metrics.conventions import explain

    rows = explain(scores)
    document = {**scores.summary(), "explained": explained_document(rows)}
    return Answer(document, explained_text(rows, scores, title))
