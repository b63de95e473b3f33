"""Arguments that several verbs share, and the short forms of recipe keys."""

from __future__ import annotations

from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder whose layout is recognised, a dataset.yaml, an .npz, a .json of COCO or Label Studio, "
        "synthetic:terrain or synthetic:shapes.",
    ),
]
OtherData = Annotated[
    str | None, typer.Option("--data", metavar="DATA", help="Another data set; the run's own without it.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its name under runs/.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
Runs = Annotated[
    str,
    typer.Argument(
        metavar="RUN[+RUN...]",
        help="A run folder, or its name under runs/; several with + are averaged, and their scores lie in RUN+RUN/.",
    ),
]
Tta = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Look several times and average. none; flips: mirrored as well; scales: at 0.75, 1 and 1.25 of the "
        "network's input size, each mirrored as well. Without it: what the recipe said (input.tta).",
    ),
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; all cores without it.")]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Go on without files that cannot be read or do not fit.")
]

SHORT: dict[str, str] = {
    "--model": "model.name",
    "--epochs": "train.epochs",
    "--batch": "train.batch",
    "--lr": "optim.learning_rate",
    "--size": "input.size",
    "--seed": "seed",
    "--loss": "loss.terms",
    "--patience": "train.patience",
    "--workers": "train.workers",
}
"""Options of `train` that stand for a recipe key."""
