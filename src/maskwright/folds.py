"""The folder of a cross-validation: runs `fold-0`, `fold-1`, ... and no run itself."""

from __future__ import annotations

from pathlib import Path

from maskwright.errors import RunError


def known_as(run: Path) -> str:
    """What verbs know a run by: its name, and of a cross-validation `name/fold-0`."""
    path = run.resolve()
    return f"{path.parent.name}/{path.name}" if path.name.startswith("fold-") else path.name


def check_no_folds(path_or_name: str | Path, runs: Path = Path("runs")) -> None:
    """Raises RunError, naming the runs, where a cross-validation is named in place of a run."""
    for folder in (Path(path_or_name), runs / path_or_name):
        count = len(list(folder.glob("fold-*/recipe.yaml")))
        if count:
            names = [f"{path_or_name}/fold-{number}" for number in range(count)]
            raise RunError(
                f"{path_or_name} is a cross-validation, not a run",
                f"name one of them, such as {names[0]}, or for predict and evaluate all: {'+'.join(names)}",
            )
