"""What a verb has to say: one document for programs, one text for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where nobody can widen the window."""


@dataclass(frozen=True)
class Answer:
    """The result of a verb: `document` is printed with --json, `text` otherwise."""

    document: Mapping[str, object]
    text: RenderableType
    code: int = 0
    """0 done; 1 a finding, or a gate that failed."""

    def print(self, *, as_json: bool, stream: TextIO) -> None:
        if as_json:
            print(json.dumps(plain(self.document), indent=2, allow_nan=False), file=stream)
            return
        from rich.console import Console

        width = None if stream.isatty() else PIPE_WIDTH
        Console(file=stream, width=width, markup=False, highlight=False).print(self.text, soft_wrap=True)


class Stopped(Exception):
    """Ctrl-C; the message says how to go on."""


def plain(value: object) -> object:
    """Only what JSON knows: NaN and infinities become null, paths text, numpy scalars numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(entry) for entry in value]
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """Columns whose name ends in `>` are numbers and stand to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
    for row in rows:
        made.add_row(*(_cell(entry) for entry in row))
    return made


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def say_error(line: str) -> None:
    """One line on stderr, whatever the message was made of."""
    print("error: " + " ".join(line.split()), file=sys.stderr)
