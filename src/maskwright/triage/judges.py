"""Who judges which label: a model that has not seen it, where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.api import RUNS, Run
from maskwright.data.dataset import Dataset, Item
from maskwright.errors import ConfigError, RunError
from maskwright.evaluation import PredictsMasks
from maskwright.predict.ensemble import Ensemble


@dataclass(frozen=True)
class Judge:
    """A predictor and the items whose labels it judges."""

    items: tuple[Item, ...]
    seen: frozenset[str]
    """Ids of those it was trained on: errors that it has learnt by heart hide from it."""
    load: Callable[[], PredictsMasks]


@dataclass(frozen=True)
class Panel:
    """All judges of a run or a cross-validation; every labelled item has one."""

    name: str
    path: Path
    runs: tuple[Run, ...]
    """One, or the folds."""
    datasets: tuple[Dataset, ...]
    """Of each run."""
    judges: tuple[Judge, ...]

    @property
    def dataset(self) -> Dataset:
        """The pictures and their labels; how they are split is the first fold's."""
        return self.datasets[0]

    def check_count(self, count: int) -> None:
        """Raises ConfigError where train and validation have not so many labels, before hours of work."""
        labels = sum(item.split in ("train", "validation") for judge in self.judges for item in judge.items)
        if count > labels:
            raise ConfigError(
                f"{count} labels are asked for, and train and validation of {self.name} have {labels}",
                "ask for fewer",
            )

    @property
    def source(self) -> Mapping[str, object]:
        """The keys of the dataset.yaml that is judged; of a cross-validation without the folds."""
        folds = len(self.runs) > 1
        return {
            key: value for key, value in self.dataset.source.items() if not (folds and key == "validation")
        }


def panel(
    name: str | Path, *, device: str = "auto", tta: str | None = None, runs: str | Path = RUNS
) -> Panel:
    """Of a run: its model for all items. Of a cross-validation: each fold's for what it validated, all together for
    the rest (test). Raises RunError: no run; a cross-validation that was stopped before its last fold.
    """
    folds = _folds(Path(name), Path(runs))
    if not folds:
        run = Run.open(name, runs)
        dataset = run.folder.read_dataset()
        seen = frozenset(item.id for item in dataset.split("train"))
        judge = Judge(_labelled(dataset.items), seen, lambda: run.predictor(device, tta))
        return Panel(run.name, run.path, (run,), (dataset,), (judge,))
    parent = folds[0].path.parent
    datasets = tuple(fold.folder.read_dataset() for fold in folds)
    judges = [
        Judge(_labelled(dataset.split("validation")), frozenset(), _loading(fold, device, tta))
        for fold, dataset in zip(folds, datasets, strict=True)
    ]
    judged = {item.id for judge in judges for item in judge.items}
    rest = tuple(item for item in _labelled(datasets[0].items) if item.id not in judged)
    if any(item.split == "train" for item in rest):
        raise RunError(
            f"{parent} has {len(folds)} folds, which have not validated all pictures",
            "was the cross-validation stopped? Train it anew with --folds",
        )
    if rest:
        paths = [fold.path for fold in folds]
        judges.append(Judge(rest, frozenset(), lambda: Ensemble.load(paths, device, tta)))
    return Panel(parent.resolve().name, parent, folds, datasets, tuple(judges))


def _loading(run: Run, device: str, tta: str | None) -> Callable[[], PredictsMasks]:
    return lambda: run.predictor(device, tta)


def _folds(name: Path, runs: Path) -> tuple[Run, ...]:
    """The runs `fold-0`, ... of a cross-validation; empty for anything else."""
    for folder in (name, runs / name):
        found = sorted(folder.glob("fold-*/recipe.yaml"), key=lambda file: (len(str(file)), str(file)))
        if found and not (folder / "recipe.yaml").is_file():
            return tuple(Run.open(file.parent) for file in found)
    return ()


def _labelled(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(item for item in items if item.mask is not None)
