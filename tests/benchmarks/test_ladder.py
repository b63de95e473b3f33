"""The ladder's table by hand and by SciPy; runs that are taken over, gone on with or refused; the script, stopped."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import maskwright as mw
from maskwright.compare import over_pictures
from maskwright.config import recipe_names
from maskwright.errors import RunError
from maskwright.metrics.scores import scores
from maskwright.runfolder import RunFolder

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("background", "soil", "rock")
TINY: dict[str, object] = {"model.width": 4, "model.depth": 2, "input.size": 16}


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ladder")


@pytest.fixture
def shared(ladder: Any) -> Any:
    """What it shares with the other benchmarks."""
    return importlib.import_module("measured")


def judged(soil: int, rock: int, *, pictures: int = 60) -> mw.Scores:
    """Every picture has IoU soil/100 (false alarms on background) and rock/100 (misses): intervals have no width."""
    counts = np.array([[0, 0, 0, 0], [soil, 100 - soil, 0, 100 - soil], [rock // 10, 0, 10 - rock // 10, 0]])
    return scores(np.tile(counts, (pictures, 1, 1)), [str(number) for number in range(pictures)], NAMES)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_by_hand(ladder: Any) -> None:
    plain = ladder.Rung("mars/plain", (9, 10, 9), {0: judged(40, 0), 1: judged(50, 0), 2: judged(60, 0)})
    best = ladder.Rung("mars/best", (8, 8, 8), {0: judged(80, 40), 1: judged(80, 50), 2: judged(80, 60)})
    head, _, titles, ruler, first, second = ladder.table([plain, best]).splitlines()
    assert head == "miou_fg on test, 60 pictures; 95 % intervals"
    assert [len(cells(line)) for line in (titles, ruler, first, second)] == [11] * 4
    assert cells(titles)[-1] == "IoU of rock"
    student = stats.t.ppf(0.975, 2) * 0.05 / np.sqrt(3)  # values 0.20, 0.25, 0.30
    spread = f"{0.25 - student:.3f} to {0.25 + student:.3f}"
    assert cells(first)[:6] == ["mars/plain", "0, 1, 2", "9 to 10", "0.250", spread, "0.250 to 0.250"]
    assert cells(first)[6:] == ["–", "–", "–", "0.500", "0.000"]
    independent = stats.ttest_ind([0.6, 0.65, 0.7], [0.2, 0.25, 0.3], equal_var=False).confidence_interval()
    assert cells(second)[2:4] == ["8", "0.650"]
    assert cells(second)[6] == "+0.400"
    assert cells(second)[7] == "+0.400 to +0.400"  # each seed gains as much
    assert cells(second)[8] == f"{independent.low:+.3f} to {independent.high:+.3f}"
    assert cells(second)[9:] == ["0.750", "0.500"]  # soil 1 without its false alarms on background


def test_seeds_are_paired_by_their_number(ladder: Any) -> None:
    plain = ladder.Rung("a", (1, 1, 1), {0: judged(40, 0), 1: judged(60, 0), 2: judged(90, 0)})
    other = ladder.Rung("b", (1, 1), {2: judged(90, 10), 1: judged(60, 20)})
    *_, row = ladder.table([plain, other]).splitlines()
    paired = stats.ttest_rel([0.5, 0.4], [0.45, 0.3]).confidence_interval()
    assert cells(row)[7] == f"{paired.low:+.3f} to {paired.high:+.3f}"


def test_one_seed_has_no_interval_over_seeds(ladder: Any) -> None:
    plain, best = ladder.Rung("a", (1,), {0: judged(40, 0)}), ladder.Rung("b", (1,), {0: judged(40, 20)})
    *_, row = ladder.table([plain, best]).splitlines()
    assert cells(row) == ["b", "0", "1", "0.300", "–", "0.300 to 0.300", "+0.100", "–", "–", "0.600", "0.200"]


def test_a_rung_is_a_recipe_with_changes_and_has_a_folder_of_its_own(ladder: Any, tmp_path: Path) -> None:
    asked = argparse.Namespace(set=["train.batch=8"])
    rung = 'mars/best model.width=8 "loss.terms=ce + lovasz"'
    assert ladder._read(rung, asked) == (
        "mars/best",
        {"model.width": 8, "loss.terms": "ce + lovasz", "train.batch": 8},
    )
    names = [ladder.path_of(tmp_path, name, 0).name for name in ("mars/best", rung, "../mars.yaml")]
    assert names == ["mars-best-0", "mars-best-model.width-8-loss.terms-ce-+-lovasz-0", "mars.yaml-0"]
    for name in names:
        assert RunFolder.create(tmp_path, name).path == tmp_path / name


def test_every_rung_of_the_ladder_is_a_recipe(ladder: Any) -> None:
    assert set(ladder.LADDER) == {name for name in recipe_names() if name.startswith("mars/")}
    assert (ladder.LADDER[0], ladder.LADDER[-1]) == ("mars/plain", "mars/best")


def test_pictures_are_drawn_alike_for_every_seed() -> None:
    """Two seeds whose errors mirror each other: their mean is the same in every draw."""
    counts = np.zeros((60, 2, 4), np.int64)
    counts[:, 1, 0] = 10  # hits
    mirrored = counts.copy()
    counts[::2, 1, 2], mirrored[1::2, 1, 2] = 10, 10  # misses
    ids = [str(number) for number in range(60)]
    both = [scores(each, ids, NAMES[:2]) for each in (counts, mirrored)]
    alone = over_pictures(both[:1], "dice_image")
    low, high = over_pictures(both, "dice_image")
    assert alone[1] - alone[0] > 0.05
    assert (low, high) == pytest.approx((5 / 6, 5 / 6))  # Dice 1 and 2/3


def test_a_run_is_taken_over_begun_anew_or_refused(shared: Any, discs: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "unet-0"
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text("killed before anything was saved")

    def run(changes: dict[str, object]) -> mw.Run:
        done: mw.Run = shared.measured(
            "unet", str(discs), path, overrides=TINY | changes, budget="1s", threads=1
        )
        return done

    assert run({}).scores("test").n_images == 8
    before = (path / "metrics.csv").stat().st_mtime_ns
    run({})
    assert (path / "metrics.csv").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="is a run of another recipe"):
        run({"seed": 3})


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    keys = [f"{key}={value}" for key, value in TINY.items()]
    command = [sys.executable, str(BENCHMARKS / "ladder.py"), *words, "--set", *keys]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )


def wait_for(found: Path, process: subprocess.Popen[str] | None = None, seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not found.exists():
        assert process is None or process.poll() is None, "it ended before its time"
        assert time.monotonic() < limit, f"{found} never came"
        time.sleep(0.05)


@pytest.mark.slow
def test_it_goes_on_after_a_kill_and_after_a_rung_that_fails(discs: Path, tmp_path: Path) -> None:
    words = ["--data", str(discs), "--rungs", "unet augment.rotate=0", "nothing"]
    words += ["--budget", "6s", "--seeds", "0", "1"]
    out = tmp_path / "runs" / "ladder-6s"
    run = out / "unet-augment.rotate-0-0"
    with begin(tmp_path, *words) as first:
        wait_for(run / "metrics.csv", first)
        first.send_signal(signal.SIGKILL)
    wait_for(run / "checkpoints")  # its run notices, saves and ends
    time.sleep(3)
    assert not (run / "scores").exists()

    with begin(tmp_path, *words) as second:
        said, _ = second.communicate()
    assert second.returncode == 1
    assert f"nothing-0: failed, see {Path('runs/ladder-6s/nothing-0.log')}" in said
    assert "there is no recipe 'nothing'" in (out / "nothing-1.log").read_text()
    assert "| unet augment.rotate=0 | 0, 1 | " in said
    assert (out / "table.md").read_text() in said

    with begin(tmp_path, *words, "--table") as third:
        said, _ = third.communicate()
    assert third.returncode == 0
    assert said.strip() == (out / "table.md").read_text().strip()
