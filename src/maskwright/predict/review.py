"""`out/review`: overlays of doubtful masks, whose names sort the worst first, and a table of all."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.errors import ConfigError, DataError
from maskwright.files import write_bytes

FOLDER, TABLE = "review", "review.csv"
COLUMNS = ("expected_dice", "input", "review")
"""Of review.csv, worst first; `review` is the overlay, empty where there is no doubt."""


def check_limit(below: float) -> None:
    """Raises ConfigError for a limit that is no Dice."""
    if not 0 <= below <= 1:
        raise ConfigError(f"--review-below {below} is no Dice", "give a number from 0 to 1, such as 0.9")


def check_review(folder: Path, targets: Iterable[Path], *, begun: bool) -> None:
    """Raises DataError where something else lies or will lie in `folder`, unless a call that this one goes on with has
    `begun` to fill it."""
    if not begun and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} holds files already", "choose another --out, or move that folder away")
    if inside := [target for target in targets if folder in target.parents]:
        raise DataError(f"{inside[0]} would lie among the doubtful masks", "predict that folder separately")


@dataclass
class Review:
    """Where doubtful masks go, and which names are taken there."""

    folder: Path
    below: float | None
    """None: nobody asked."""
    taken: set[str] = field(default_factory=set)

    def place(self, dice: float, source: Path) -> Path | None:
        """`folder/0.4312_name.jpg`, with a number where that is taken: the worst come first in any list of names.
        None where there is no doubt. To be asked in the order of the pictures, so that names repeat."""
        if self.below is None or not dice < self.below:
            return None
        stem, number = f"{dice:.4f}_{source.stem}", 2
        name = stem
        while name.casefold() in self.taken:
            name, number = f"{stem}-{number}", number + 1
        self.taken.add(name.casefold())
        return self.folder / f"{name}.jpg"


def write_doubts(folder: Path, rows: Sequence[tuple[float, Path, Path | None]]) -> None:
    """review.csv from (expected Dice, input, overlay) of all pictures; those that could not be read are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for dice, source, overlay in sorted(
        (row for row in rows if not math.isnan(row[0])), key=lambda row: row[0]
    ):
        writer.writerow([repr(dice), source, overlay.name if overlay else ""])
    # Names of files need not be UTF-8.
    write_bytes(folder / TABLE, text.getvalue().encode("utf-8", "backslashreplace"))
