"""report.html and the model card, from what lies in a run folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import yaml

from maskwright.errors import RunError
from maskwright.files import write_text
from maskwright.metrics.scores import Scores
from maskwright.predict.model_folder import load_spec
from maskwright.report.card import model_card
from maskwright.report.gallery import load_gallery
from maskwright.report.html import ReportInput, render_report
from maskwright.runfolder import RunFolder


def build_report(run: RunFolder) -> Path:
    """Write report.html, one file that opens offline, and model/README.md; returns the report. Raises RunError."""
    report = read_report_input(run)
    write_text(run.report_file, render_report(report))
    write_text(run.model / "README.md", read_card(run))
    return run.report_file


def read_card(run: RunFolder) -> str:
    """The model card, with all scores of the run's own data. Raises RunError."""
    return model_card(
        load_spec(run.model),
        name=run.name,
        scores=_scores(run),
        recipe=run.read_recipe(),
        dataset=_dataset_facts(run.dataset_file).get("name", ""),
    )


def read_report_input(run: RunFolder) -> ReportInput:
    """From the files of the run folder alone: the data need not be there any more. Raises RunError."""
    spec = load_spec(run.model)
    scores = _scores(run)
    return ReportInput(
        name=run.name,
        recipe=run.read_recipe(),
        dataset=_dataset_facts(run.dataset_file),
        classes=list(zip(spec.classes, spec.colours, strict=True)),
        metrics=run.read_metrics(),
        best_epoch=spec.epoch,
        scores=scores,
        galleries={split: load_gallery(run.scores(split)) for split in scores},
        versions=_versions(),
    )


def _scores(run: RunFolder) -> Mapping[str, Scores]:
    """By the name of the evaluation, in the order in which a reader asks for them."""
    names = {path.parent.name for path in (run.path / "scores").glob("*/scores.json")}
    first = [name for name in ("test", "validation") if name in names]
    return {name: Scores.load(run.scores(name)) for name in [*first, *sorted(names.difference(first))]}


def _dataset_facts(dataset_file: Path) -> dict[str, str]:
    """What of dataset.yaml can be said in a line."""
    try:
        said = yaml.safe_load(dataset_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{dataset_file} cannot be read", "every run folder holds one") from error
    lines = said.items() if isinstance(said, dict) else ()
    return {str(key): str(value) for key, value in lines if isinstance(value, str | int | float)}


def _versions() -> dict[str, str]:
    import torch

    from maskwright import __version__

    return {"maskwright": __version__, "torch": torch.__version__, "Python": platform.python_version()}
