"""Part: a picture or a mask that is no file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskwright.errors import DataError


@dataclass(frozen=True)
class Part:
    """What the reader `form` (`places.FORMS`) finds under `key` in `file`: shapes, a page, a slice, a window."""

    file: Path
    form: str
    key: str
    told: tuple[str, ...] = ()
    """What else decides the pixels: names of labels in the order of their numbers, bands, a grey window."""
    beside: Path | None = None
    """A second file that decides them, such as the picture that fractions of height and width refer to."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,) if self.beside is None else (self.file, self.beside)

    def __str__(self) -> str:
        return f"{self.file}[{self.key}]"


def needs(package: str, what: str, extra: str = "data") -> DataError:
    """The error for an optional package that is not installed."""
    return DataError(f"{what} needs {package}, which is not installed", f"pip install 'maskwright[{extra}]'")
