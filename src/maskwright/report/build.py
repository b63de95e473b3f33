"""report.html and the model card, from what lies in a run folder."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskwright.errors import RunError, UserError
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
        dataset=_dataset_facts(run)["name"],
    )


def read_report_input(run: RunFolder) -> ReportInput:
    """From the files of the run folder alone: the data need not be there any more. Raises RunError."""
    spec = load_spec(run.model)
    scores = _scores(run)
    return ReportInput(
        name=run.name,
        recipe=run.read_recipe(),
        dataset=_dataset_facts(run),
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


def _dataset_facts(run: RunFolder) -> dict[str, str]:
    """What the model learnt from, in lines. Counts need the data; without them, dataset.yaml has to do."""
    said = _read_yaml(run.dataset_file)
    facts = {"name": Path(str(said.get("path", run.name))).name, "format": str(said.get("format", "unknown"))}
    try:
        dataset = run.read_dataset()
    except UserError:
        facts["pictures"] = "not on this machine any more"
    else:
        facts["name"] = dataset.name
        splits = Counter(item.split for item in dataset.items)
        facts |= {split: f"{count:,} pictures" for split, count in splits.items()}
        if dataset.grouped:
            facts["groups"] = f"{len({item.group for item in dataset.items}):,}"
    values, validation = said.get("values"), said.get("validation")
    if isinstance(values, dict):
        facts["mask values"] = ", ".join(f"{raw} → {name}" for raw, name in values.items())
    if isinstance(validation, dict) and validation.get("fraction"):
        facts["validation drawn"] = f"{validation['fraction']:.0%} of {validation.get('from', 'train')}"
    if excluded := said.get("exclude"):
        facts["excluded"] = f"{len(excluded)} pictures"
    return facts | {"fingerprint": str(said.get("fingerprint", ""))}


def _read_yaml(file: Path) -> Mapping[str, Any]:
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{file} cannot be read", "every run folder holds one") from error
    if not isinstance(said, dict):
        raise RunError(f"{file} is no mapping", "every run folder holds one")
    return said


def _versions() -> dict[str, str]:
    import torch

    from maskwright import __version__

    return {"maskwright": __version__, "torch": torch.__version__, "Python": platform.python_version()}
