"""report.html and the model card, from what lies in a run folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskwright import __version__
from maskwright.data.dataset import Dataset
from maskwright.data.facts import SPLITS
from maskwright.errors import RunError, UserError
from maskwright.files import write_text
from maskwright.folds import known_as
from maskwright.metrics.scores import Scores
from maskwright.predict.model_folder import find_model, load_spec
from maskwright.receipt import read_receipt, receipt_facts
from maskwright.report.card import model_card
from maskwright.report.cite import works
from maskwright.report.exports import exported_files
from maskwright.report.gallery import load_gallery
from maskwright.report.html import ReportInput, Split, render_report
from maskwright.report.words import number
from maskwright.runfolder import RunFolder

SHOWN = 5
"""Excluded pictures that are named; the rest is counted."""


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
        name=known_as(run.path),
        scores=_scores(run),
        recipe=run.read_recipe(),
        dataset=_dataset_facts(run, _dataset_or_none(run))["name"],
    )


def read_report_input(run: RunFolder) -> ReportInput:
    """From the files of the run folder alone: the data need not be there any more. Raises RunError."""
    spec = load_spec(find_model(run.path))
    scores = _scores(run)
    dataset = _dataset_or_none(run)
    facts = _dataset_facts(run, dataset)
    return ReportInput(
        name=known_as(run.path),
        recipe=run.read_recipe(),
        dataset=facts,
        classes=list(zip(spec.classes, spec.colours, strict=True)),
        splits=[] if dataset is None else _splits(dataset),
        metrics=run.read_metrics(),
        best_epoch=spec.epoch,
        scores=scores,
        galleries={split: load_gallery(run.scores(split)) for split in scores},
        receipt=_receipt(run),
        exports=exported_files(run.exports),
        works=works(spec.model, facts["format"], __version__),
    )


def _scores(run: RunFolder) -> Mapping[str, Scores]:
    """By the name of the evaluation, in the order in which a reader asks for them."""
    names = {path.parent.name for path in (run.path / "scores").glob("*/scores.json")}
    first = [name for name in ("test", "validation") if name in names]
    return {name: Scores.load(run.scores(name)) for name in [*first, *sorted(names.difference(first))]}


def _dataset_or_none(run: RunFolder) -> Dataset | None:
    try:
        return run.read_dataset()
    except UserError:
        return None


def _splits(dataset: Dataset) -> list[Split]:
    """Counts per split, and how its labelled pixels are shared out."""
    found = []
    for name in dict.fromkeys([*SPLITS, *(item.split for item in dataset.items)]):
        if items := dataset.split(name):
            pixels_K = dataset.class_pixels(name)
            total = int(pixels_K.sum())
            shares = tuple((pixels_K / total).tolist()) if total else ()
            found.append(Split(name, len(items), len({item.group for item in items}), shares))
    return found


def _dataset_facts(run: RunFolder, dataset: Dataset | None) -> dict[str, str]:
    """What the model learnt from, in lines. Without the data, dataset.yaml has to do."""
    said = _read_yaml(run.dataset_file)
    facts = {"name": Path(str(said.get("path", run.name))).name, "format": str(said.get("format", "unknown"))}
    if dataset is None:
        facts["pictures"] = "not on this machine any more"
    else:
        facts["name"] = dataset.name
    values, validation = said.get("values"), said.get("validation")
    if isinstance(values, dict):
        facts["mask values"] = ", ".join(f"{raw} → {name}" for raw, name in values.items())
    if isinstance(validation, dict) and validation.get("fraction"):
        facts["validation drawn"] = f"{validation['fraction']:.0%} of {validation.get('from', 'train')}"
    if excluded := said.get("exclude"):
        facts["excluded"] = f"{number(len(excluded), 'picture')}: {', '.join(map(str, excluded[:SHOWN]))}" + (
            " …" if len(excluded) > SHOWN else ""
        )
    if dataset is not None and dataset.grouped:
        facts["groups"] = str(said.get("groups", ""))
    return facts | {"fingerprint": str(said.get("fingerprint", ""))}


def _read_yaml(file: Path) -> Mapping[str, Any]:
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{file} cannot be read", "every run folder holds one") from error
    if not isinstance(said, dict):
        raise RunError(f"{file} is no mapping", "every run folder holds one")
    return said


def _receipt(run: RunFolder) -> dict[str, str]:
    """What the run was made with; of runs that kept no receipt, what the report is made with."""
    if run.receipt_file.is_file():
        return receipt_facts(read_receipt(run.receipt_file))
    import torch

    versions = {"maskwright": __version__, "torch": torch.__version__, "Python": platform.python_version()}
    return {"Receipt": "this run kept none; its report was made with"} | versions
