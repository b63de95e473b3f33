"""Runs by name -> sides of a comparison: runs of one recipe with several seeds are one side."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.compare import MARGIN, By, Comparison, Leaderboard, compare_by, leaderboard
from maskwright.errors import RunError
from maskwright.metrics.scores import Scores
from maskwright.predict.ensemble import split_names
from maskwright.progress import SILENT, Progress
from maskwright.runfolder import RunFolder

OUT_OF_FOLD = "out-of-fold"
"""The scores of a cross-validation: every picture judged by the model that never saw it."""


@dataclass(frozen=True)
class Contest:
    """What `compare_runs` found."""

    sides: Mapping[str, tuple[str, ...]]
    """The runs of each side, as they were named."""
    leaderboard: Leaderboard
    parts: tuple[Comparison, ...] = ()
    """The second side against the first, part by part; empty unless asked for."""


def compare_runs(
    names: Sequence[str | Path],
    metric: str = "dice_image",
    *,
    split: str = "test",
    by: By | None = None,
    margin: float = MARGIN,
    each: bool = False,
    runs: str | Path = "runs",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Contest:
    """Is one better than the other? From the scores that `evaluate` kept, over the pictures that all have.

    names: runs, ensembles (`a+b`) and cross-validations, whose out-of-fold scores count. Runs whose recipes differ in
    nothing but the seed, on the same data, are the seeds of one side; with `each`, every run is a side. `by` compares
    two sides by class, size or property as well (`compare_by`). Raises RunError.

    >>> compare_runs(["unet-0", "unet-1", "resnet-0", "resnet-1"]).leaderboard.sentence
    """
    sides = choose_sides(names, Path(runs), each=each)
    _check_scored([name for members in sides.values() for name in members], Path(runs), split)
    scores = {
        side: tuple(Scores.load(_scored(name, Path(runs), split)) for name in members)
        for side, members in sides.items()
    }
    found = leaderboard(scores, metric, margin=margin, seed=seed, progress=progress)
    if by is None:
        return Contest(sides, found)
    if len(sides) > 2:
        raise RunError(f"by {by}, two sides can be compared; these are {len(sides)}", "name two")
    first, second = sides
    parts = compare_by(
        scores[first], scores[second], by, metric, names=(first, second), margin=margin, seed=seed
    )
    return Contest(sides, found, parts)


def choose_sides(
    names: Sequence[str | Path], runs: Path, *, each: bool = False
) -> dict[str, tuple[str, ...]]:
    """The sides and their runs, in the order of their first run. Raises RunError for fewer than two sides."""
    kin: dict[object, list[str]] = {}
    for name in map(str, names):
        if any(name in members for members in kin.values()):
            raise RunError(f"{name} is named twice", "name each run once")
        kin.setdefault(name if each else _making(name, runs), []).append(name)
    if len(kin) < 2:
        (members,) = kin.values() or [[]]
        if len(members) > 1:
            raise RunError(
                f"{', '.join(members)} are seeds of one recipe: one side",
                "name runs of another recipe as well, or compare seed with seed (--each)",
            )
        raise RunError("one run cannot be compared", "name two or more")
    called = [_called(members) for members in kin.values()]
    return {
        name if called.count(name) == 1 else ", ".join(members): tuple(members)
        for name, members in zip(called, kin.values(), strict=True)
    }


def _called(members: Sequence[str]) -> str:
    """What the names of the runs have in common: pets-0 and pets-1 are pets."""
    short = [Path(name).name or name for name in members]
    if len(short) == 1:
        return short[0]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*short, strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_.0123456789") or short[0]


def _making(name: str, runs: Path) -> object:
    """What runs of one side share: all that made them but the seed. A name that no other run has for an ensemble."""
    folder = _cross_validation(name, runs)
    if folder is None and len(split_names(name, runs)) > 1:
        return name
    run = RunFolder.open(name, runs) if folder is None else RunFolder(folder / "fold-0")
    recipe = run.read_recipe().model_copy(update={"seed": 0})
    data = run.dataset_file.read_text(encoding="utf-8") if run.dataset_file.is_file() else ""
    return recipe.to_yaml(), data, folder is None, _receipt(run.path / "receipt.json")


def _receipt(file: Path) -> str:
    """Of the receipt, what the recipe does not say: time budget and the weights at the start."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return json.dumps([said.get("budget"), (said.get("init") or {}).get("weights")])
    except (OSError, ValueError, AttributeError):
        return ""


def _cross_validation(name: str, runs: Path) -> Path | None:
    for folder in (Path(name), runs / name):
        if (folder / "scores" / OUT_OF_FOLD).is_dir() and not (folder / "recipe.yaml").is_file():
            return folder
    return None


def _scored(name: str, runs: Path, split: str) -> Path:
    """The folder of the scores, which need not be there."""
    if (folder := _cross_validation(name, runs)) is not None:
        return folder / "scores" / OUT_OF_FOLD
    members = [RunFolder.open(member, runs).path for member in split_names(name, runs)]
    first = members[0]
    path = (
        first
        if len(members) == 1
        else (first if first.name else first.resolve()).with_name(
            "+".join(RunFolder(p).name for p in members)
        )
    )
    return path / "scores" / split


def _check_scored(names: Sequence[str], runs: Path, split: str) -> None:
    """Raises RunError where one has no scores of the split, naming those that all have scores of."""
    folders = {name: _scored(name, runs, split) for name in names}
    # A cross-validation has scores of every picture.
    files = {name: folder / "scores.json" for name, folder in folders.items() if folder.name == split}
    missing = [name for name, file in files.items() if not file.is_file()]
    if not missing:
        return
    held = [{other.parent.name for other in file.parents[1].glob("*/scores.json")} for file in files.values()]
    shared = " or ".join(f"--split {name}" for name in sorted(set.intersection(*held)))
    raise RunError(
        f"{files[missing[0]].parents[2]} has no scores of split {split!r}",
        (f"{shared}, of which all have scores, or " if shared else "")
        + f"`maskwright evaluate {missing[0]} --split {split}`",
    )
