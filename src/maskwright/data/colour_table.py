"""Tables of class names and colours, as labelling tools write them beside masks that are painted in colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from maskwright.data.classes import Colour, colour_text
from maskwright.data.documents import read_text
from maskwright.errors import DataError

NAMES = ("labelmap.txt", "class_dict.csv", "label_colors.txt")
"""What such a table is called by CVAT, by the CamVid of Kaggle, and by the authors of CamVid."""

BACKGROUND = ("background", "_background_", "__background__")
"""Names that mean the background, in small letters."""
IGNORED = ("ignore", "__ignore__", "_ignore_")
"""Names that mean that nothing is known; `ignore` can be no class."""

LARGEST = 1 << 16
"""Bytes of a table: 255 classes fit."""
LONGEST = 300
"""Characters of a line."""

_CVAT = re.compile(r"(?P<name>[^:]+):(?P<rgb>\d{1,3},\d{1,3},\d{1,3})(?::.*)?")
_CSV = re.compile(r"(?P<name>.+?)\s*,\s*(?P<rgb>\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3})")
_COLUMNS = re.compile(r"(?P<rgb>\d{1,3}\s+\d{1,3}\s+\d{1,3})\s+(?P<name>.+)")
_HEADER = re.compile(r"name\s*,\s*r\s*,\s*g\s*,\s*b", re.IGNORECASE)


def read_table(path: Path) -> list[tuple[str, Colour]]:
    """(name, colour) per line: `label:r,g,b::` (CVAT), `name,r,g,b` or `r g b name`. Raises DataError.

    Lines that begin with # and a header `name,r,g,b` are skipped.
    """
    try:
        text = read_text(path, LARGEST)
    except DataError as error:
        raise DataError(
            f"the colour table {path} cannot be read: {error.problem}", "it has to be a short text file"
        ) from error
    rows: list[tuple[str, Colour]] = []
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#") or _HEADER.fullmatch(line):
            continue
        known = (_CVAT, _CSV, _COLUMNS) if len(line) <= LONGEST else ()
        match = next((match for pattern in known if (match := pattern.fullmatch(line))), None)
        levels = [int(level) for level in re.split(r"[,\s]+", match["rgb"])] if match else []
        if match is None or max(levels) > 255:
            raise DataError(
                f"{path} holds the line {line[:80]!r}", "write label:r,g,b::, name,r,g,b or r g b name"
            )
        rows.append((match["name"].strip(), (levels[0], levels[1], levels[2])))
    painted = [colour for _, colour in rows]
    twice = next((colour for colour in painted if painted.count(colour) > 1), None)
    if not rows or twice is not None:
        what = "is empty" if twice is None else f"gives {colour_text(twice)} two names"
        raise DataError(f"the colour table {path} {what}", "each class needs a colour of its own")
    return rows


def plain_name(label: str) -> str:
    """`_background_` -> background, `__ignore__` -> ignore; others stay as they are."""
    small = label.lower()
    if small in BACKGROUND:
        return "background"
    return "ignore" if small in IGNORED else label


def classes_of(rows: Sequence[tuple[str, Colour]]) -> tuple[tuple[str, ...], dict[int | str, str]]:
    """`classes` and `values` as dataset.yaml has them; the background, where there is one, comes first."""
    values: dict[int | str, str] = {colour_text(colour): plain_name(name) for name, colour in rows}
    names = [name for name in dict.fromkeys(values.values()) if name != "ignore"]
    return tuple(sorted(names, key=lambda name: name != "background")), values
