"""The run folder: what lies where. Opened with a check, made only where nothing lies yet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from maskwright.config import Recipe, load_recipe
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.errors import RunError
from maskwright.files import write_text
from maskwright.folds import check_no_folds
from maskwright.progress import Progress

METRIC_COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "images_per_second",
    "train_loss",
    "val_loss",
    "val_dice_image",
    "val_miou",
    "learning_rate",
    "strength",
)
"""metrics.csv, a row per epoch. `seconds` is the training time so far; `strength` the augmentation's. Behind them stand
`val_NAME_mae` for each of `loss.targets`: mean absolute error on the validation pictures, in the target's own units."""

MetricRow = Mapping[str, float]


@dataclass(frozen=True)
class RunFolder:
    """`runs/NAME/`; see the table "Run folder" in the documentation."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str) -> RunFolder:
        """A new empty folder `root/name`. Raises RunError as `check_name` does."""
        cls.check_name(root, name)
        folder = root / name
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"{folder} cannot be made: {error.strerror}", "choose another place") from error
        return cls(folder)

    @staticmethod
    def check_name(root: Path, name: str) -> None:
        """Raises RunError when the name is taken or is no plain name."""
        if not re.fullmatch(r"[\w][\w.+-]*(/fold-\d+)?", name):
            raise RunError(f"{name!r} cannot be the name of a run", "use letters, digits, '-', '_' and '.'")
        folder = root / name
        if folder.exists():
            raise RunError(
                f"{folder} exists already", f"choose another name, such as {_free_name(root, name)}"
            )

    @classmethod
    def open(cls, path_or_name: str | Path, runs: Path = Path("runs")) -> RunFolder:
        """A path, or a name under `runs`. Raises RunError where it is not a run."""
        folders = [folder for folder in (Path(path_or_name), runs / path_or_name) if folder.is_dir()]
        for folder in folders:  # a run is often named after a folder of data that lies here as well
            if (run := cls(folder)).recipe_file.is_file():
                return run
        check_no_folds(path_or_name, runs)
        if folders:
            raise RunError(
                f"{folders[0]} is not a run folder: it has no recipe.yaml", "`maskwright runs` lists them"
            )
        raise RunError(f"there is no run {str(path_or_name)!r}", "`maskwright runs` lists them")

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def dataset_file(self) -> Path:
        return self.path / "dataset.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def exports(self) -> Path:
        """Files that left the lab, where no other place was named for them."""
        return self.path / "export"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def receipt_file(self) -> Path:
        return self.path / "receipt.json"

    @property
    def digests_file(self) -> Path:
        """digests.csv: the content of every picture and mask that the run was trained on, by id."""
        return self.path / "digests.csv"

    @property
    def tracking_file(self) -> Path:
        """tracking.json: where the run goes on in its trackers."""
        return self.path / "tracking.json"

    def scores(self, name: str) -> Path:
        """The folder of one evaluation: the split's name for the run's own data and the default contract."""
        return self.path / "scores" / name

    def read_recipe(self) -> Recipe:
        return load_recipe(str(self.recipe_file))

    def read_dataset(self, *, skip_broken: bool = False) -> Dataset:
        if not self.dataset_file.is_file():
            raise RunError(f"{self.path} has no dataset.yaml", "name the data with --data")
        return open_dataset(self.dataset_file, skip_broken=skip_broken)

    def read_metrics(self) -> list[dict[str, float]]:
        """One dict per finished epoch; empty before the first."""
        if not self.metrics_file.is_file():
            return []
        with open(self.metrics_file, newline="", encoding="utf-8") as handle:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(handle)]

    def write_metrics(self, rows: Sequence[MetricRow]) -> None:
        text = io.StringIO()
        columns = dict.fromkeys([*METRIC_COLUMNS, *(rows[0] if rows else ())])
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_file, text.getvalue())


def _free_name(root: Path, name: str) -> str:
    number = 2
    while (root / f"{name}-{number}").exists():
        number += 1
    return f"{name}-{number}"


@dataclass(frozen=True)
class Logged:
    """Progress that also keeps every spoken line in log.txt."""

    progress: Progress
    log_file: Path

    def task(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return self.progress.task(what, total)

    def say(self, line: str) -> None:
        self.progress.say(line)
        with open(self.log_file, "a", encoding="utf-8") as handle:
            handle.write(line + "\n")
