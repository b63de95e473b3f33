"""Tables of class names and colours, as labelling tools write them beside masks that are painted in colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from maskwright.data.classes import Colour, colour_text
from maskwright.errors import DataError

NAMES = ("labelmap.txt", "class_dict.csv", "label_colors.txt")
"""What such a table is called by CVAT, by the CamVid of Kaggle, and by the authors of CamVid."""

BACKGROUND = ("background", "_background_", "__background__")
"""Names that mean the background, in small letters."""
IGNORED = ("ignore", "__ignore__", "_ignore_")
"""Names that mean that nothing is known; `ignore` can be no class."""

_CVAT = re.compile(r"(?P<name>[^:]+):(?P<rgb>\d+,\d+,\d+)(?::.*)?")
_CSV = re.compile(r"(?P<name>.+?)\s*,\s*(?P<rgb>\d+\s*,\s*\d+\s*,\s*\d+)")
_COLUMNS = re.compile(r"(?P<rgb>\d+\s+\d+\s+\d+)\s+(?P<name>.+)")
_HEADER = re.compile(r"name\s*,\s*r\s*,\s*g\s*,\s*b", re.IGNORECASE)


def read_table(path: Path) -> list[tuple[str, Colour]]:
    """(name, colour) per line: `label:r,g,b::` (CVAT), `name,r,g,b` or `r g b name`. Raises DataError.

    Lines that begin with # and a header `name,r,g,b` are skipped.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the colour table {path} cannot be read", "it has to be a text file") from error
    rows: list[tuple[str, Colour]] = []
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#") or _HEADER.fullmatch(line):
            continue
        match = _CVAT.fullmatch(line) or _CSV.fullmatch(line) or _COLUMNS.fullmatch(line)
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
