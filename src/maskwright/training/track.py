"""Trackers beside TensorBoard: MLflow and Weights & Biases, through their own clients.

A tracker watches. One that fails (a server that is away, a disk that is full) is said once and left out; the training
goes on.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from maskwright.config import Recipe, flatten, suggest
from maskwright.errors import ConfigError
from maskwright.files import write_text
from maskwright.progress import Progress
from maskwright.runfolder import MetricRow, RunFolder

EXPERIMENT = "maskwright"
"""Name of the experiment (MLflow) or project (Weights & Biases)."""

LONGEST = 500
"""Characters of a parameter's value that every MLflow server takes."""

NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "mlflow": (("mlflow", "sqlalchemy", "alembic"), "pip install 'maskwright[track]'"),
    "wandb": (("wandb",), "pip install wandb"),
}
"""Tracker -> the modules that it needs, and what installs them."""


class Tracker(Protocol):
    """Where a run is shown to others."""

    def start(self, run_id: str | None) -> str:
        """Begin a run there, or go on with `run_id`; its id."""
        ...

    def epoch(self, row: MetricRow) -> None:
        """A row of metrics.csv."""
        ...

    def finish(self, scores: Mapping[str, float], artefacts: Sequence[Path]) -> None:
        """The run is done. `scores`: name -> value; `artefacts`: files that are worth keeping there."""
        ...

    def stop(self, *, asked: bool) -> None:
        """The run ended before its end: by Ctrl-C (`asked`), or by an error."""
        ...


class MLflow:
    """An MLflow server, or the SQLite file mlflow.db beside the runs where no address is given."""

    def __init__(self, folder: RunFolder, recipe: Recipe, to: str) -> None:
        self.folder, self.recipe = folder, recipe
        root = folder.path.resolve().parent
        root = root.parent if folder.path.name.startswith("fold-") else root
        self.uri = to or f"sqlite:///{root / 'mlflow.db'}"
        self.artefacts = None if to else (root / "mlartifacts").as_uri()
        self.done = 0
        """Epochs that are there already."""

    def start(self, run_id: str | None) -> str:
        with _quiet():
            from mlflow.entities import Param
            from mlflow.tracking import MlflowClient

            self.client = MlflowClient(tracking_uri=self.uri)
            if run_id is not None:
                self.run = run_id
                self.client.update_run(run_id, status="RUNNING")
                history = self.client.get_metric_history(run_id, "train_loss")
                self.done = max((entry.step for entry in history), default=0)
                return run_id
            self.run = str(self.client.create_run(self._experiment(), run_name=self.folder.name).info.run_id)
            values = flatten(self.recipe.model_dump(mode="json"))
            params = [Param(key, str(value)[:LONGEST]) for key, value in values.items()]
            for start in range(0, len(params), 100):  # no server takes more at once
                self.client.log_batch(self.run, params=params[start : start + 100])
        return self.run

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return str(self.client.create_experiment(EXPERIMENT, artifact_location=self.artefacts))
            except Exception:  # another process made it in this moment
                found = self.client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        return str(found.experiment_id)

    def epoch(self, row: MetricRow) -> None:
        if row["epoch"] > self.done:  # a life after a kill does its last epochs again
            self._log({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]))

    def finish(self, scores: Mapping[str, float], artefacts: Sequence[Path]) -> None:
        self._log(scores, 0)
        with _quiet():
            for file in artefacts:
                self.client.log_artifact(self.run, str(file))
            self.client.set_terminated(self.run, "FINISHED")

    def stop(self, *, asked: bool) -> None:
        with _quiet():
            self.client.set_terminated(self.run, "KILLED" if asked else "FAILED")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        with _quiet():
            from mlflow.entities import Metric

            now = int(1000 * time.time())
            known = {name: float(value) for name, value in values.items() if math.isfinite(value)}
            self.client.log_batch(
                self.run, metrics=[Metric(name, value, now, step) for name, value in known.items()]
            )


class Wandb:
    """Weights & Biases, with the account and the mode (`WANDB_MODE=offline`) that the package is set up for."""

    def __init__(self, folder: RunFolder, recipe: Recipe, to: str) -> None:
        self.folder, self.recipe, self.project = folder, recipe, to or EXPERIMENT

    def start(self, run_id: str | None) -> str:
        with _quiet():
            import wandb

            self.run: Any = wandb.init(
                project=self.project,
                name=self.folder.name,
                id=run_id,
                resume="allow",
                dir=str(self.folder.path),
                config=flatten(self.recipe.model_dump(mode="json")),
            )
        return str(self.run.id)

    def epoch(self, row: MetricRow) -> None:
        self.run.log(dict(row), step=int(row["epoch"]))

    def finish(self, scores: Mapping[str, float], artefacts: Sequence[Path]) -> None:
        self.run.summary.update(dict(scores))
        for file in artefacts:
            self.run.save(str(file), base_path=str(self.folder.path), policy="now")
        self.run.finish()

    def stop(self, *, asked: bool) -> None:
        self.run.finish(exit_code=1)


TRACKERS: dict[str, Callable[[RunFolder, Recipe, str], Tracker]] = {"mlflow": MLflow, "wandb": Wandb}


def parse_trackers(words: Sequence[str]) -> dict[str, str]:
    """`["mlflow=http://host:5000", "wandb"]` -> name -> address, "" for the usual place.

    Of MLflow that is the server in MLFLOW_TRACKING_URI, or the embedded file. Raises ConfigError: an unknown name, a
    package that is not installed.
    """
    chosen = {}
    for word in words:
        name, _, to = word.partition("=")
        if name not in TRACKERS:
            raise ConfigError(f"there is no tracker {name!r}", suggest(name, list(TRACKERS)))
        modules, install = NEEDS[name]
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            raise ConfigError(
                f"--track {name} needs the package {missing[0]}, which is not installed",
                f"`{install}`, or leave it out: TensorBoard is always written",
            )
        chosen[name] = to or (os.environ.get("MLFLOW_TRACKING_URI", "") if name == "mlflow" else "")
    return chosen


class Tracking:
    """The trackers of a run, each until it fails."""

    def __init__(
        self, folder: RunFolder, chosen: Mapping[str, str], recipe: Recipe, progress: Progress
    ) -> None:
        self.folder, self.progress = folder, progress
        self.trackers: dict[str, Tracker] = {}
        kept = _kept(folder.tracking_file)
        chosen = dict(chosen)
        for name, entry in kept.items():
            if name not in chosen and name == "mlflow" and not entry["to"]:
                chosen[name] = (
                    ""  # its file is ours; where a run folder of another hand points, nothing is sent
                )
            elif name not in chosen:
                word = f"{name}={entry['to']}" if entry["to"] else name
                progress.say(f"Note: this run was tracked; --track {word} goes on with that")
        for name, to in chosen.items():
            self.trackers[name] = TRACKERS[name](folder, recipe, to)
            entry = kept.get(name, {})
            self._attempt(name, lambda: self._start(kept, name, to, entry))  # noqa: B023 - called at once

    def _start(self, kept: dict[str, dict[str, str]], name: str, to: str, entry: Mapping[str, str]) -> None:
        same = entry.get("to") == to
        kept[name] = {"to": to, "run": self.trackers[name].start(entry.get("run") if same else None)}
        write_text(self.folder.tracking_file, json.dumps(kept, indent=1))

    def epoch(self, row: MetricRow) -> None:
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, lambda: tracker.epoch(row))  # noqa: B023

    def finish(self, scores: Mapping[str, float], artefacts: Sequence[Path]) -> None:
        present = [file for file in artefacts if file.is_file()]
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, lambda: tracker.finish(scores, present))  # noqa: B023

    def stop(self, *, asked: bool) -> None:
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, lambda: tracker.stop(asked=asked))  # noqa: B023

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            del self.trackers[name]
            said = " ".join(str(error).split())[:200] or repr(error)
            self.progress.say(f"Note: the tracker {name} failed, and the run goes on without it: {said}")


@contextmanager
def tracking(
    folder: RunFolder, chosen: Mapping[str, str], recipe: Recipe, progress: Progress
) -> Iterator[Tracking]:
    """The trackers of a run while it is worked on; those of its earlier life go on by themselves."""
    trackers = Tracking(folder, chosen, recipe, progress)
    try:
        yield trackers
    except BaseException as error:
        trackers.stop(asked=isinstance(error, KeyboardInterrupt))
        raise


def _kept(file: Path) -> dict[str, dict[str, str]]:
    """tracking.json; empty where it is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: {"to": str(entry["to"]), "run": str(entry["run"])}
            for name, entry in content.items()
            if name in TRACKERS
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Their warnings and chatter are not for the person who trains, and nobody is told that they were used.

    A server that is away is given up after seconds. What the user has set stays.
    """
    usual = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "WANDB_SILENT": "true",
    }
    for name, value in usual.items():
        os.environ.setdefault(name, value)
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
