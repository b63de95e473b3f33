"""The entry point: words in, one answer or one error line out, an exit code.

Nothing heavy is imported here; each verb imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from maskwright.cli import cache as cache_verb
from maskwright.cli import calibrate as calibrate_verb
from maskwright.cli import clean as clean_verb
from maskwright.cli import compare as compare_verb
from maskwright.cli import data as data_verbs
from maskwright.cli import demo as demo_verb
from maskwright.cli import env as env_verb
from maskwright.cli import evaluate as evaluate_verb
from maskwright.cli import export as export_verb
from maskwright.cli import models as models_verb
from maskwright.cli import predict as predict_verb
from maskwright.cli import push as push_verb
from maskwright.cli import recipes as recipes_verb
from maskwright.cli import report as report_verb
from maskwright.cli import runs as runs_verb
from maskwright.cli import show as show_verb
from maskwright.cli import study as study_verb
from maskwright.cli import train as train_verb
from maskwright.cli import verify as verify_verb
from maskwright.cli.advice import usage_line
from maskwright.cli.answer import Answer, Stopped, say_error
from maskwright.errors import UserError

DONE, MISTAKE, FAULT, STOPPED = 0, 2, 70, 130
"""Exit codes beside 1, which a verb returns for a finding. 70 is a fault of ours (EX_SOFTWARE)."""

EVERYWHERE = "Everywhere: --json prints one JSON document on stdout, --debug shows the traceback of an error."

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # importing rich for the help alone would take a tenth of a second
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a folder of images and masks to a trained, evaluated segmentation model.",
    epilog=f"Start with: maskwright demo\n\n{EVERYWHERE}",
)
data_app = typer.Typer(
    rich_markup_mode=None,
    help="Look at a data set, find its faults, convert it, decode it ahead of training, or fetch a public one.",
)


def _add(group: typer.Typer, name: str, function: Any, *examples: str) -> None:
    lines = "\n".join(f"  {example}" for example in examples)
    group.command(name, epilog=f"\b\nFor example:\n{lines}\n\n{EVERYWHERE}")(function)


_add(app, "demo", demo_verb.demo, "maskwright demo")
_add(
    data_app,
    "show",
    data_verbs.show,
    "maskwright data show data/pets",
    "maskwright data show photos --save photos.yaml",
    "maskwright data show synthetic:shapes --augmented resnet34-unet --out batch.png",
)
_add(
    data_app,
    "audit",
    data_verbs.audit,
    "maskwright data audit data/pets",
    "maskwright data audit data/mine --out findings --fix mended.yaml",
)
_add(
    data_app,
    "triage",
    data_verbs.triage,
    "maskwright data triage pets",
    "maskwright data triage pets --what-if 20",
    "maskwright data triage pets --fix mended.yaml --drop 5 --ignore 20",
)
_add(
    data_app,
    "convert",
    data_verbs.convert,
    "maskwright data convert data/pets --to coco --out data/pets-coco",
)
_add(data_app, "prepare", data_verbs.prepare, "maskwright data prepare data/pets --size 128,128")
_add(
    data_app,
    "pull",
    data_verbs.pull,
    "maskwright data pull",
    "maskwright data pull oxford-iiit-pet --to data/pets",
    "maskwright data pull oxford-iiit-pet --mirror https://example.org/pets",
)
app.add_typer(data_app, name="data")
_add(
    app,
    "train",
    train_verb.train,
    "maskwright train --data data/pets --recipe resnet34-unet --budget 20m --name pets",
    "maskwright train --data data/camvid --size 180,240 model.width=16 augment.rotate=10",
    "maskwright train --dry-run --recipe unet optim.schedule=plateau",
    "maskwright train --resume pets",
)
_add(
    app,
    "evaluate",
    evaluate_verb.evaluate,
    "maskwright evaluate pets --split test",
    "maskwright evaluate pets --explain",
    "maskwright evaluate pets --tta flips",
    "maskwright evaluate pets+pets-2",
)
_add(
    app,
    "predict",
    predict_verb.predict,
    "maskwright predict pets photos/ --out masks/",
    "maskwright predict runs/pets/model cat.jpg --out masks/ --save mask,overlay",
    "maskwright predict pets+pets-2 photos/ --out masks/ --tta flips",
    "maskwright predict pets photos/ --out masks/ --save mask,polygons,statistics",
    "maskwright predict hf:me/pets photos/ --out masks/",
    "maskwright predict pets photos/ --out masks/ --review-below 0.9",
)
_add(
    app,
    "calibrate",
    calibrate_verb.calibrate,
    "maskwright calibrate pets",
    "maskwright calibrate pets --data data/other --split test",
)
_add(app, "clean", clean_verb.clean, "maskwright clean pets")
_add(
    app,
    "compare",
    compare_verb.compare,
    "maskwright compare pets pets-2 --each",
    "maskwright compare unet-0 unet-1 unet-2 resnet-0 resnet-1 resnet-2 --metric miou",
    "maskwright compare unet resnet --by class",
)
_add(
    app,
    "study",
    study_verb.study,
    "maskwright study",
    "maskwright study 002-table --data data/pets --size 96,96 --budget 60s model.width=8",
    "maskwright study mine.yaml --workers 4",
)
_add(
    app,
    "export",
    export_verb.export,
    "maskwright export pets",
    "maskwright export pets --precision int8 --runner",
    "maskwright export pets --format openvino --precision bf16 --tta none",
)
_add(app, "report", report_verb.report, "maskwright report pets")
_add(
    app,
    "show",
    show_verb.show,
    "maskwright show pets",
    "maskwright show runs/pets/export/model.onnx",
    "maskwright show hf:me/pets@v1",
)
_add(
    app,
    "push",
    push_verb.push,
    "maskwright push pets hf:me/pets",
    "maskwright push runs/pets/model hf:me/pets --private --license apache-2.0",
)
_add(
    app,
    "verify",
    verify_verb.verify,
    "maskwright verify pets",
    "maskwright verify pets --steps 64 --data /new/place/pets",
)
_add(app, "runs", runs_verb.runs, "maskwright runs")
_add(app, "recipes", recipes_verb.recipes, "maskwright recipes", "maskwright recipes unet > mine.yaml")
_add(app, "models", models_verb.models, "maskwright models --size 128,128")
_add(app, "env", env_verb.env, "maskwright env --json")
_add(app, "cache", cache_verb.cache, "maskwright cache", "maskwright cache clean")


def _print_version(wanted: bool) -> None:
    if wanted:
        from maskwright import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code and never raises for a mistake of the user's."""
    given = list(sys.argv[1:] if words is None else words)
    flags = {"--json", "--debug"}.intersection(given)
    given = [word for word in given if word not in flags] or ["--help"]
    as_json = "--json" in flags
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            answer = app(args=given, prog_name="maskwright", standalone_mode=False)
        if isinstance(answer, Answer):
            answer.print(as_json=as_json, stream=sys.stdout)
            return answer.code
        if answer == STOPPED:
            say_error("stopped")
        return int(answer or DONE)
    except BrokenPipeError:
        sys.stdout = None  # `| head` has enough; flushing at exit would complain
        return DONE
    except Exception as error:
        code, line = _explain(error)
        if "--debug" in flags or code == FAULT:
            traceback.print_exc()
        say_error(line)
        return code


def _explain(error: Exception) -> tuple[int, str]:
    """The exit code and the line for the person at the keyboard."""
    if isinstance(error, UserError):
        return MISTAKE, str(error)
    if isinstance(error, Stopped | typer.Abort):
        return STOPPED, str(error) or "stopped"
    if hasattr(error, "format_message"):  # Typer's own errors, wherever this version of it keeps them
        return MISTAKE, usage_line(error)
    if isinstance(error, OSError):
        return MISTAKE, f"{error.filename or 'the system'}: {error.strerror or error}; --debug shows where"
    return FAULT, f"this is a fault of maskwright ({error!r}); please report it with the lines above"
