"""Recipes against each other in equal minutes, several seeds each: a table of test scores, differences and intervals.

    python benchmarks/ladder.py                                    # document 003's ladder and our best: about an hour
    python benchmarks/ladder.py --rungs mars/plain mars/best       # the first rung and the best alone: 15 minutes
    python benchmarks/ladder.py --rungs mars/best "mars/best model.norm=none" --seeds 0 --split validation   # a trial

Two runs of one thread each go on side by side, which makes more of two cores than one run with two threads. All runs
lie in runs/ladder-BUDGET with their log files. Stopped, even killed, the same command goes on where it was; runs that
are there are not trained again; a run that fails is named, and the others go on. The table is printed and kept as
table.md beside the runs; --table prints it from the runs that are there.

Three intervals (95 %), because three things vary: other test pictures (bootstrap of the mean over the seeds), other
seeds (Student's t), and for differences to the first rung other seeds again, once as pairs of the same seed (which
share the order of the pictures) and once as independent runs (Welch).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import maskwright as mw
from maskwright.api import choose_recipe
from maskwright.cli.terminal import duration, terminal
from maskwright.compare import over_pictures
from maskwright.config import parse_overrides
from maskwright.data.store import prepare
from maskwright.errors import UserError
from measured import Interval, has_scores, measured, over_seeds, welch

LADDER = (
    "mars/plain",
    "mars/augmented",
    "mars/aspp",
    "mars/transformer",
    "mars/gate",
    "mars/subpixel",
    "mars/deep-supervision",
    "mars/deep-supervision-all",
    "mars/best",
)


@dataclass(frozen=True)
class Rung:
    """A recipe with what is changed in it (`mars/best model.norm=none`), and what its runs gave."""

    name: str
    epochs: tuple[int, ...]
    scores: Mapping[int, mw.Scores]
    """By seed."""

    def values(self, metric: str) -> list[float]:
        return [each[metric].value for each in self.scores.values()]


def main() -> int:
    asked = _asked()
    out = asked.out or Path("runs") / f"ladder-{asked.budget}"
    if asked.only is not None:
        return _one(asked, out)
    failed = [] if asked.table else _work(asked, out)
    rungs = [rung for name in asked.rungs if (rung := _rung(name, asked.seeds, out, asked.split)).scores]
    if rungs:
        text = table(rungs, asked.metric, asked.split)
        (out / "table.md").write_text(text, encoding="utf-8")
        print(f"\n{text}", end="")
    return 1 if failed or not rungs else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="synthetic:terrain")
    parser.add_argument("--rungs", nargs="+", default=list(LADDER), metavar="RUNG")
    parser.add_argument("--budget", default="4m", help="of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--metric", default="miou_fg")
    parser.add_argument("--split", default="test", help="validation for trials: test pictures choose nothing")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--out", type=Path, help="runs/ladder-BUDGET without it")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # RUNG@SEED: what a job calls itself with
    parser.add_argument("--set", nargs="*", default=[], metavar="section.key=value", help="for every rung")
    return parser.parse_args()


def _one(asked: argparse.Namespace, out: Path) -> int:
    """A single run, in a process of its own."""
    rung, _, seed = asked.only.rpartition("@")
    threading.Thread(target=_stop_when_alone, args=(os.getppid(),), daemon=True).start()
    try:
        recipe, overrides = _read(rung, asked)
        measured(
            recipe,
            asked.data,
            path_of(out, rung, int(seed)),
            overrides=overrides | {"seed": int(seed)},
            budget=asked.budget,
            split=asked.split,
            threads=asked.threads,
            progress=terminal(),
        )
    except UserError as error:
        print(f"error: {error}")
        return 1
    return 0


def _stop_when_alone(parent: int) -> None:
    """Training saves and ends when the process that asked for it was killed: two would go on in one folder."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _read(rung: str, asked: argparse.Namespace) -> tuple[str, dict[str, object]]:
    """`mars/best model.norm=none` -> the recipe, and the keys changed for it and for all. Raises ConfigError."""
    recipe, *words = shlex.split(rung)
    return recipe, parse_overrides([*words, *asked.set])


def path_of(out: Path, rung: str, seed: int) -> Path:
    """`mars/plain`, 0 -> out/mars-plain-0."""
    name = re.sub(r"[^\w.+-]+", "-", rung).strip(".+-")
    return out / f"{name}-{seed}"


def _work(asked: argparse.Namespace, out: Path) -> list[Path]:
    """Each rung with each seed in a process, some at a time; the paths of those that failed.

    Stopped, it asks the running ones to save and waits for them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    out.mkdir(parents=True, exist_ok=True)
    _decode(asked)
    waiting = [(rung, seed) for seed in asked.seeds for rung in asked.rungs]
    running: dict[subprocess.Popen[bytes], tuple[Path, float]] = {}
    failed = []
    try:
        while waiting or running:
            while waiting and len(running) < asked.jobs:
                rung, seed = waiting.pop(0)
                path = path_of(out, rung, seed)
                running[_start(f"{rung}@{seed}", _log(path), asked.threads)] = path, time.monotonic()
            time.sleep(0.2)
            for process in [each for each in running if each.poll() is not None]:
                path, begun = running.pop(process)
                how = "done" if process.returncode == 0 else f"failed, see {_log(path)}"
                failed += [path] if process.returncode else []
                took = duration(time.monotonic() - begun)
                print(f"{path.name}: {how} ({took}); {len(waiting)} runs are still to begin", flush=True)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def _decode(asked: argparse.Namespace) -> None:
    """Once, before the minutes are counted. What is wrong with a recipe is said by its run."""
    dataset = mw.open_dataset(asked.data)
    for rung in asked.rungs:
        with contextlib.suppress(UserError):
            prepare(dataset, choose_recipe(*_read(rung, asked)).input)


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def _start(only: str, log: Path, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--only", only, *sys.argv[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(log, "ab") as handle:
        return subprocess.Popen(
            command,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )


def _rung(name: str, seeds: Sequence[int], out: Path, split: str) -> Rung:
    """What lies there of it: a run counts once it is scored."""
    paths = {seed: path_of(out, name, seed) for seed in seeds}
    scored = {seed: mw.Run.open(path) for seed, path in paths.items() if has_scores(path, split)}
    return Rung(
        name,
        tuple(len(run.folder.read_metrics()) for run in scored.values()),
        {seed: run.scores(split) for seed, run in scored.items()},
    )


def table(rungs: Sequence[Rung], metric: str = "miou_fg", split: str = "test") -> str:
    """Markdown, a row for each rung in the order given; the first one is what the others are compared with."""
    first = rungs[0]
    one = next(iter(first.scores.values()))
    rare = min(range(1, len(one.per_class)), key=lambda k: one.per_class[k].pixels)
    columns = (
        *("rung", "seeds", "epochs", metric, "over seeds", "over pictures"),
        *(f"to {first.name}", "paired by seed", "Welch"),
        *("miou_fg_masked", f"IoU of {one.per_class[rare].name}"),
    )
    lines = [
        f"{metric} on {split}, {one.n_images} pictures; 95 % intervals",
        "",
        _row(columns),
        _row(["---"] * len(columns)),
    ]
    for rung in rungs:
        values = rung.values(metric)
        common = [seed for seed in rung.scores if seed in first.scores and rung is not first]
        gains = [rung.scores[seed][metric].value - first.scores[seed][metric].value for seed in common]
        cells = [
            rung.name,
            ", ".join(map(str, rung.scores)),
            _range(rung.epochs),
            f"{np.mean(values):.3f}",
            _interval(over_seeds(values)),
            _interval(over_pictures(list(rung.scores.values()), metric)),
            f"{np.mean(values) - np.mean(first.values(metric)):+.3f}" if rung is not first else "–",
            _interval(over_seeds(gains), sign="+"),
            _interval(welch(values, first.values(metric)), sign="+") if rung is not first else "–",
            f"{np.mean(rung.values('miou_fg_masked')):.3f}",
            f"{np.mean([each.per_class[rare].iou_global for each in rung.scores.values()]):.3f}",
        ]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _interval(interval: Interval, sign: str = "") -> str:
    low, high = interval
    return "–" if math.isnan(low) else f"{low:{sign}.3f} to {high:{sign}.3f}"


if __name__ == "__main__":
    sys.exit(main())
