"""A study from end to end: killed in the middle it ends with the table of one that was left alone."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maskwright.api import list_runs
from maskwright.cli.main import main

STUDY = """
base: unet
set:
  model.width: 4
  model.depth: 2
  input.size: 32
  train.epochs: 3
  train.precision: fp32
cells:
  low: {optim.learning_rate: 1.0e-3}
  broken: {optim.learning_rate: 1.0e+30, optim.clip: 0}
  high: {optim.learning_rate: 1.0e-2}
seeds: [0, 1]
split: test
claims:
  - {says: the higher rate is better, better: high, than: low}
"""

SEARCH = """
base: unet
set: {model.depth: 2, input.size: 32, train.epochs: 1}
seeds: [0]
search:
  trials: 3
  space: {model.width: [4, 8]}
  objectives: {dice_image: maximise, flops: minimise, latency: minimise}
"""

MAIN = "import sys; from maskwright.cli.main import main; sys.exit(main(sys.argv[1:]))"


def begin(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAIN, "study", *words], cwd=folder, env=dict(os.environ))


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 400) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "it ended before its time"
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.05)


def table(folder: Path) -> list[dict[str, str]]:
    """All but the minutes, which differ from run to run."""
    with open(folder / "table.csv", newline="") as handle:
        return [
            {key: value for key, value in row.items() if key != "minutes"} for row in csv.DictReader(handle)
        ]


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_study_goes_on_and_ends_with_the_same_table(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.yaml").write_text(STUDY)
    words = ("rates.yaml", "--data", str(discs), "--workers", "2")
    assert main(["study", *words, "--name", "whole"]) == 1, "one cell fails"
    out, _ = capsys.readouterr()
    assert "failed: broken-0: the loss became" in out
    whole = table(tmp_path / "runs/whole")
    assert [row["seeds"] for row in whole] == ["0 1", "", "0 1"]
    assert [row["failed"] for row in whole] == ["", "0 1", ""]

    killed = tmp_path / "runs/killed"
    parent = begin(tmp_path, *words, "--name", "killed")
    wait_until(lambda: (killed / "low-0/scores/test/scores.json").is_file(), parent)
    wait_until(lambda: len(list(killed.glob("*/metrics.csv"))) > 2, parent)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    finished = (killed / "low-0/scores/test/scores.json").stat().st_mtime_ns
    assert not (killed / "table.csv").exists()
    assert begin(tmp_path, *words, "--name", "killed").wait() == 1
    assert (killed / "low-0/scores/test/scores.json").stat().st_mtime_ns == finished
    assert table(killed) == whole
    assert "rates" not in {run.name for run in list_runs("runs")}
    assert "killed/high-1" in {run.name for run in list_runs("runs")}

    assert main(["study", *words, "--name", "killed", "train.batch=4"]) == 2
    assert "train.batch of cell 'low' was 16 and is 4" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_from_end_to_end(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "widths.yaml").write_text(SEARCH)
    assert main(["study", "widths.yaml", "--data", str(discs), "--workers", "2"]) == 0
    assert "on the front" in capsys.readouterr().out
    folder = tmp_path / "runs/widths"
    with open(folder / "table.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    costs = {row["model.width"]: float(row["flops"]) for row in rows}
    assert len(rows) == 3
    assert all(float(row["latency"]) > 0 for row in rows)
    if len(costs) == 2:
        assert costs["4"] < costs["8"]
    assert (folder / "front.png").is_file()
    assert (folder / "finalists.yaml").is_file()
