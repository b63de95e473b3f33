"""A training process killed twenty times at random moments ends with the bits of an undisturbed one.

With everything on that has a memory: dropout, batch norm, moving average, MixUp, CutMix, noise, adaptive strength,
copies, a rate that falls on plateaus. Saves happen all the time, so many kills fall into one.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

KILLS = 20

WORKER = """
import sys
from pathlib import Path

import torch

from maskwright.config import make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.runfolder import RunFolder
from maskwright.training.loop import train

torch.set_num_threads(1)
data, run, resume, every = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "resume", float(sys.argv[4])
recipe = make_recipe({
    "model.name": "unet", "model.width": 8, "model.depth": 3, "model.dropout": 0.3,
    "optim.ema": 0.99, "optim.schedule": "plateau", "optim.plateau_patience": 0, "optim.learning_rate": 3e-3,
    "augment.mixup": 0.4, "augment.cutmix": 1.0, "augment.strength": "adaptive", "augment.rotate": 20,
    "augment.elastic": 0.05, "augment.noise": 0.1, "augment.brightness": 0.3, "augment.copies": 1,
    "input.size": 48, "train.precision": "fp32", "train.batch": 4, "train.epochs": 24, "seed": 3,
})
folder = RunFolder(run)
run.mkdir(parents=True, exist_ok=True)
import accelerate, torch.utils.tensorboard  # now, so that kills fall into training and not into imports
print("ready", flush=True)
train(recipe, open_dataset(data), folder, device="cpu", resume=resume, checkpoint_every=every)
print("done", flush=True)
"""


def start(data: Path, run: Path, *, resume: bool, every: float, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(data), str(run), "resume" if resume else "new", str(every)],
        env=os.environ | {"MASKWRIGHT_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it happened, or the process ended."""
    while process.poll() is None and not happened():
        time.sleep(0.0005)


def pointer_time(run: Path) -> int:
    """When the last save was finished; 0 before the first."""
    pointer = run / "checkpoints" / "last" / "current"
    return pointer.stat().st_mtime_ns if pointer.is_file() else 0


def saved_since(run: Path, before: int) -> bool:
    return pointer_time(run) > before


def writing(run: Path) -> bool:
    return any((run / "checkpoints").rglob("*.partial"))


def outcome(run: Path) -> dict[str, object]:
    """All that must be equal: weights, the training state, metrics without the clock's columns, the best epoch."""
    state = json.loads((run / "checkpoints" / "last" / slot(run) / "state.json").read_text())
    counters = state["counters"]
    for name in ("seconds", "epoch_seconds", "step_seconds", "rows"):
        del counters[name]
    with open(run / "metrics.csv", newline="") as handle:
        rows = [
            {key: value for key, value in row.items() if key not in {"seconds", "images_per_second"}}
            for row in csv.DictReader(handle)
        ]
    return {
        "model": digest(run / "model" / "model.safetensors"),
        "state": digest(run / "checkpoints" / "last" / slot(run) / "state.safetensors"),
        "counters": counters,
        "metrics": rows,
        "config": (run / "model" / "config.json").read_text(),
    }


def slot(run: Path) -> str:
    return (run / "checkpoints" / "last" / "current").read_text()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.ci
def test_twenty_random_kills_change_no_bit(discs: Path, tmp_path: Path) -> None:
    data, cache = discs, tmp_path / "cache"
    with start(data, tmp_path / "undisturbed", resume=False, every=45.0, cache=cache) as undisturbed:
        assert undisturbed.stdout is not None
        assert undisturbed.stdout.readline() == "ready\n"
        begun = time.monotonic()
        assert undisturbed.wait(timeout=600) == 0
        duration = time.monotonic() - begun

    run, moments = tmp_path / "killed", random.Random(7)
    kills, inside_saves, resume = 0, 0, False
    while kills <= KILLS:
        # Saves follow each other closely, so that the life after a kill goes on where the one before it ended.
        before = pointer_time(run)
        with start(data, run, resume=resume, every=0.02, cache=cache) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if kills == KILLS:
                assert process.wait(timeout=600) == 0
                break
            patience = moments.uniform(0.0, 1.2 * duration / KILLS)
            if kills % 4:  # three of four lives get as far as training; the others may die on the way there
                wait_for(partial(saved_since, run, before), process)
            if kills % 4 == 3:  # some moments are no accident: a file is being written now
                wait_for(partial(writing, run), process)
                patience = 0.0
            try:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                inside_saves += any(run.rglob("*.partial"))
                resume = True
            else:
                assert process.returncode == 0
                pytest.fail(f"the run ended after {kills} kills; make it longer")
    print(f"{inside_saves} of {KILLS} kills fell into a save; undisturbed {duration:.1f} s")
    assert inside_saves > 0, "no kill fell into a save: the test proves less than it says"
    assert not list(run.rglob("*.partial")), "what a kill left behind must be cleared away"
    assert outcome(run) == outcome(tmp_path / "undisturbed")
