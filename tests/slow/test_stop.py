"""Ctrl-C in the middle of a training: saved, one line that says how to go on, exit code 130; and going on works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from maskwright.cli.main import main; sys.exit(main())",
    "train",
]
RECIPE = ["--size=32", "--batch=8", "model.width=4", "model.depth=1", "train.precision=fp32", "--threads=1"]


@pytest.mark.slow
@pytest.mark.ci
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, cache: Path) -> None:
    environment = os.environ | {"MASKWRIGHT_CACHE": str(cache)}
    words = ["--data", "synthetic:shapes", "--name", "long", "--epochs", "200", *RECIPE]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as training:
        assert training.stderr is not None
        for line in training.stderr:
            if line.startswith("epoch 2:"):
                training.send_signal(signal.SIGINT)
                break
        last = training.stderr.read().splitlines()[-1]
    assert training.returncode == 130
    assert last == "error: stopped; go on with `maskwright train --resume long`"
    epochs = len((tmp_path / "runs/long/metrics.csv").read_text().splitlines()) - 1
    recipe = tmp_path / "runs/long/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 200", f"epochs: {epochs + 1}"))
    subprocess.run(
        [*COMMAND, "--resume", "long", "--threads=1"], cwd=tmp_path, env=environment, check=True, timeout=300
    )
    assert (tmp_path / "runs/long/report.html").is_file()
