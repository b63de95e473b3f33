"""MLflow for real, on its SQLite file, read back through its own client; and trackers that fail."""

from __future__ import annotations

import json
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import maskwright as mw
from maskwright.config import Recipe, flatten
from maskwright.errors import ConfigError
from maskwright.progress import SILENT
from maskwright.runfolder import RunFolder
from maskwright.training.track import TRACKERS, parse_trackers, tracking

TINY = {
    "model.width": 4,
    "model.depth": 1,
    "input.size": 16,
    "train.epochs": 2,
    "train.batch": 8,
    "train.precision": "fp32",
}


class Heard:
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.task = SILENT.task

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but this machine is reached."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"{address} was called")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@contextmanager
def client(runs: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        yield MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")


@pytest.mark.slow
@pytest.mark.ci
def test_mlflow_holds_recipe_curves_scores_and_files_and_goes_on(discs: Path, tmp_path: Path) -> None:
    run = mw.train("unet", discs, TINY, "seen", runs=tmp_path, track=["mlflow"])
    (entry,) = json.loads(run.folder.tracking_file.read_text()).values()
    assert entry["to"] == ""
    with client(tmp_path) as mlflow:
        found = mlflow.get_run(entry["run"])
        assert (found.info.run_name, found.info.status) == ("seen", "FINISHED")
        recipe = flatten(run.folder.read_recipe().model_dump(mode="json"))
        assert found.data.params == {key: str(value) for key, value in recipe.items()}
        rows = run.folder.read_metrics()
        for name in ("train_loss", "val_dice_image", "learning_rate"):
            history = mlflow.get_metric_history(entry["run"], name)
            assert [(point.step, point.value) for point in history] == [
                (row["epoch"], row[name]) for row in rows
            ]
        dice = run.scores("validation")["dice_image"].value
        assert found.data.metrics["validation/dice_image"] == dice
        names = {file.path for file in mlflow.list_artifacts(entry["run"])}
        assert names == {"recipe.yaml", "receipt.json", "README.md", "report.html"}
    assert (tmp_path / "mlartifacts").is_dir()
    # a later life, here one that has nothing left to train, is the same run there
    file = run.folder.recipe_file
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 3"))
    run.resume()
    assert json.loads(run.folder.tracking_file.read_text())["mlflow"] == entry
    with client(tmp_path) as mlflow:
        history = mlflow.get_metric_history(entry["run"], "train_loss")
        assert [point.step for point in history] == [1, 2, 3]
        (experiment,) = mlflow.search_experiments(filter_string="name = 'maskwright'")
        assert len(mlflow.search_runs([experiment.experiment_id])) == 1


@pytest.mark.slow
@pytest.mark.ci
def test_a_server_that_is_away_is_said_once_and_the_run_goes_on(discs: Path, tmp_path: Path) -> None:
    heard = Heard()
    with socket.socket() as away:  # kept, so that nobody else gets the port; nobody listens there
        away.bind(("127.0.0.1", 0))
        words = [f"mlflow=http://127.0.0.1:{away.getsockname()[1]}"]
        run = mw.train("unet", discs, TINY, "alone", runs=tmp_path, track=words, progress=heard)
    said = [line for line in heard.lines if "the tracker mlflow failed" in line]
    assert len(said) == 1
    assert said[0] in run.folder.log_file.read_text()
    assert run.scores("validation").n_images == 12
    assert not (tmp_path / "mlflow.db").exists()


class Fragile:
    """A tracker that fails from the second epoch on."""

    calls: list[str] = []  # noqa: RUF012

    def __init__(self, folder: RunFolder, recipe: Recipe, to: str) -> None:
        self.to = to

    def start(self, run_id: str | None) -> str:
        self.calls.append(f"start {run_id}")
        return "7"

    def epoch(self, row: Any) -> None:
        self.calls.append(f"epoch {row['epoch']}")
        if row["epoch"] > 1:
            raise OSError("the wire is cut")

    def finish(self, scores: Any, artefacts: Any) -> None:
        self.calls.append("finish")

    def stop(self, *, asked: bool) -> None:
        self.calls.append(f"stop {asked}")


def test_a_tracker_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "wandb", Fragile)
    monkeypatch.setattr(Fragile, "calls", [])
    heard = Heard()
    with tracking(RunFolder(tmp_path), {"wandb": "team"}, Recipe(), heard) as trackers:
        for epoch in (1, 2, 3):
            trackers.epoch({"epoch": epoch})
        trackers.finish({}, [])
    assert Fragile.calls == ["start None", "epoch 1", "epoch 2"]
    assert heard.lines == ["Note: the tracker wandb failed, and the run goes on without it: the wire is cut"]
    with (
        pytest.raises(KeyboardInterrupt),
        tracking(RunFolder(tmp_path), {"wandb": "team"}, Recipe(), heard) as trackers,
    ):
        raise KeyboardInterrupt
    assert Fragile.calls[3:] == ["start 7", "stop True"]
    with tracking(RunFolder(tmp_path), {"wandb": "others"}, Recipe(), heard):
        pass
    assert Fragile.calls[5:] == ["start None"]


def test_a_run_folder_of_another_hand_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "mlflow", Fragile)
    monkeypatch.setattr(Fragile, "calls", [])
    heard, folder = Heard(), RunFolder(tmp_path)
    folder.tracking_file.write_text('{"mlflow": {"to": "http://elsewhere", "run": "3"}, "other": 5}')
    with tracking(folder, {}, Recipe(), heard):
        pass
    assert Fragile.calls == []
    assert heard.lines == ["Note: this run was tracked; --track mlflow=http://elsewhere goes on with that"]
    folder.tracking_file.write_text('{"mlflow": {"to": "", "run": "3"}}')
    with tracking(folder, {}, Recipe(), heard):
        pass
    assert Fragile.calls == ["start 3"]
    folder.tracking_file.write_text("damaged")
    with tracking(folder, {}, Recipe(), heard):
        pass
    assert len(heard.lines) == 1


def test_names_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_trackers([]) == {}
    assert parse_trackers(["mlflow"]) == {"mlflow": ""}
    assert parse_trackers(["mlflow=http://a:1"]) == {"mlflow": "http://a:1"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b:2")
    assert parse_trackers(["mlflow"]) == {"mlflow": "http://b:2"}
    with pytest.raises(ConfigError, match="there is no tracker 'mlfow'; did you mean mlflow"):
        parse_trackers(["mlfow"])


def test_a_package_that_is_missing_is_named_before_a_run_is_begun(discs: Path, tmp_path: Path) -> None:
    try:
        import wandb  # noqa: F401

        pytest.skip("wandb is installed here")
    except ImportError:
        pass
    with pytest.raises(
        ConfigError, match="--track wandb needs the package wandb, which is not installed; `pip"
    ):
        mw.train("unet", discs, TINY, "x", runs=tmp_path, track=["wandb"])
    assert not (tmp_path / "x").exists()
    shutil.rmtree(tmp_path)
