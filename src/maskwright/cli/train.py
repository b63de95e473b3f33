from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from maskwright.cli.answer import Answer, Stopped
from maskwright.cli.options import SHORT, Device, SkipBroken, Threads
from maskwright.cli.scores import scores_text
from maskwright.cli.terminal import terminal

if TYPE_CHECKING:
    from maskwright.api import CrossValidation, Run
    from maskwright.config import Recipe
    from maskwright.lint import Advice
    from maskwright.progress import Progress


class Common(TypedDict):
    """What every way of training takes."""

    device: str
    threads: int | None
    skip_broken: bool
    progress: Progress
    track: list[str]


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[section.key=value]...", help="Recipe keys, such as augment.rotate=15."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="A folder, dataset.yaml, .npz or synthetic:NAME.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME_OR_FILE", help="See `maskwright recipes`; the model's own without it."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="The run folder is runs/N.")] = None,
    init: Annotated[
        str | None, typer.Option(metavar="RUN_OR_MODEL", help="Start from these weights.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    folds: Annotated[int | None, typer.Option(metavar="K", min=2, help="Cross-validate: K runs.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Plan epochs and schedule for 15m, 90s, 1h30m.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=TO]",
            help="Beside TensorBoard: mlflow (runs/mlflow.db), mlflow=http://HOST:PORT, wandb; several times.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and advice on it, and stop.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="model.name; see `maskwright models`.")
    ] = None,
    epochs: Annotated[str | None, typer.Option(metavar="N", help="train.epochs")] = None,
    batch: Annotated[str | None, typer.Option(metavar="N", help="train.batch; a number or auto")] = None,
    lr: Annotated[str | None, typer.Option(metavar="RATE", help="optim.learning_rate")] = None,
    size: Annotated[str | None, typer.Option(metavar="H,W", help="input.size, height first")] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="seed")] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="TERMS", help='loss.terms, such as "bce + dice"')
    ] = None,
    patience: Annotated[str | None, typer.Option(metavar="N", help="train.patience, in epochs")] = None,
    workers: Annotated[str | None, typer.Option(metavar="N", help="train.workers")] = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_broken: SkipBroken = False,
) -> Answer:
    """Train a model; everything goes into a run folder.

    That is weights, curves, validation scores, pictures and a report. Any recipe key can be set as a word:
    section.key=value. Ctrl-C saves; --resume goes on. What looks wrong in the recipe is said before the work begins;
    --dry-run says it too, and knows more with --data.
    """
    from maskwright.config import parse_overrides
    from maskwright.errors import ConfigError

    values = (model, epochs, batch, lr, size, seed, loss, patience, workers)
    short = {option: value for option, value in zip(SHORT, values, strict=True) if value is not None}
    pairs = [f"{SHORT[option]}={value}" for option, value in short.items()]
    overrides = parse_overrides([*pairs, *(words or [])])
    common = Common(
        device=device, threads=threads, skip_broken=skip_broken, progress=terminal(), track=track or []
    )
    if resume is not None:
        taken = {"--data": data, "--recipe": recipe, "--name": name, "--init": init, "--folds": folds}
        given = [option for option, value in (taken | {"--budget": budget}).items() if value is not None]
        if given or overrides or dry_run:
            word = (*given, *overrides, "--dry-run")[0]
            raise ConfigError(f"{word} cannot go with --resume, which takes all from the run", "leave it out")
        common["progress"].say(f"Going on with {resume}")  # importing torch takes seconds
        from maskwright.api import Run

        with _stoppable(_go_on(resume)):
            return _trained(Run.open(resume).resume(**common))
    from maskwright.api import RUNS, check_recipe, choose_recipe, cross_validate, new_name
    from maskwright.api import train as train_run
    from maskwright.data.dataset import open_dataset
    from maskwright.lint import lint, run_facts
    from maskwright.runfolder import RunFolder

    chosen = choose_recipe(recipe, overrides)
    if dry_run:
        if name is not None:
            RunFolder.check_name(RUNS, name)
        dataset = None
        if data is not None:
            dataset = open_dataset(data, skip_broken=skip_broken, progress=common["progress"])
        check_recipe(chosen, dataset)
        facts = run_facts(dataset, chosen, budgeted=budget is not None, started=init is not None)
        return _advised(chosen, lint(chosen, facts))
    if data is None:
        raise ConfigError("train needs --data DATA", "a folder, a dataset.yaml, an .npz or synthetic:shapes")
    dataset = open_dataset(data, skip_broken=skip_broken, progress=common["progress"])
    name = name or new_name(chosen, dataset)
    if folds is not None:
        with _stoppable("begin anew, under another name: a cross-validation does not go on"):
            result = cross_validate(
                chosen, dataset, name=name, folds=folds, init=init, budget=budget, **common
            )
        return _cross_validated(result)
    with _stoppable(_go_on(name)):
        return _trained(train_run(chosen, dataset, name=name, init=init, budget=budget, **common))


@contextmanager
def _stoppable(advice: str) -> Iterator[None]:
    """Ctrl-C ends with what to do then."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {advice}") from None


def _go_on(name: str) -> str:
    return f"go on with `maskwright train --resume {name}`"


def _advised(recipe: Recipe, found: tuple[Advice, ...]) -> Answer:
    """The advice stands behind the recipe as comments: what is printed is a recipe still."""
    from dataclasses import asdict

    document = recipe.model_dump(mode="json") | {"advice": [asdict(advice) for advice in found]}
    return Answer(document, "\n".join([recipe.to_yaml().rstrip(), *(f"# {advice}" for advice in found)]))


def _trained(run: Run) -> Answer:
    from rich.console import Group

    from maskwright.report.words import MAKES_TEST

    scores = run.scores("validation")
    testable = run.receipt().data.pictures.get("test")
    text = Group(
        scores_text(scores, f"{run.name}: validation"),
        f"The run lies in {run.path}: report.html, predictions.png, model/",
        f"Next: maskwright evaluate {run.path} --split test"
        if testable
        else f"The data have no test split. Next: keep pictures for one ({MAKES_TEST}), or train with --folds 5",
    )
    return Answer({"run": run.path, "scores": scores.summary()}, text)


def _cross_validated(result: CrossValidation) -> Answer:
    from rich.console import Group

    text = Group(
        scores_text(result.scores, f"{result.path.name}: every picture by the model that never saw it"),
        f"The runs lie in {result.path}",
        f"Next: maskwright predict {'+'.join(str(run.path) for run in result.runs)} PICTURES --out masks/",
    )
    return Answer(
        {"path": result.path, "runs": [run.path for run in result.runs], "scores": result.scores.summary()},
        text,
    )
