"""JSON and YAML from strangers: bounded, and read whole or refused with one line."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import yaml

from maskwright.errors import DataError

LARGEST = 1 << 29
"""Bytes of one JSON file: the largest of COCO 2017 has 448 MiB."""
LARGEST_YAML = 1 << 20
"""Bytes of one YAML file: PyYAML needs seconds for a megabyte."""

LARGEST_TEXT = 1 << 26
"""Bytes of one text file: a list of a million ids is smaller."""

MOST_CONTAINERS = 10_000_000
"""Objects and lists in one JSON file: Python takes 60 to 200 bytes for each. COCO 2017 has three million."""

DEEPEST = 20
"""Levels of nested YAML: PyYAML's time grows with their square."""

Made = TypeVar("Made")


def read_json(path: Path, compact: Callable[[dict[str, object]], object] | None = None) -> object:
    """Raises DataError: missing, too large, no UTF-8, no JSON, nested too deeply.

    `compact` takes each object as soon as it is read, so that something smaller can stand in its place.
    """
    content = _bytes(path, LARGEST)
    if content.count(b"[") + content.count(b"{") > MOST_CONTAINERS:
        raise DataError(
            f"{path} holds over {MOST_CONTAINERS:,} lists and objects", "cut it into one file per split"
        )
    try:
        return json.loads(content, object_hook=compact)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise DataError(f"{path} is no JSON that can be read: {said}", "export it again") from error


def read_yaml(path: Path, limit: int = LARGEST_YAML) -> object:
    """Raises DataError as `read_json` does; aliases, with which YAML can be blown up, are refused."""
    text = _bytes(path, limit)
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise DataError(f"{path} is nested too deeply or holds YAML aliases", "write the values out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise DataError(f"{path} is no YAML that can be read: {said}", "mend it") from error


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """Raises DataError: missing, too large, no UTF-8."""
    try:
        return _bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8", "save it as such") from error


def check_plain(path: Path) -> None:
    """Raises DataError for pipes, devices and the like, also behind links: reading one may never end.

    Raises OSError where there is nothing.
    """
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise DataError(f"{path} is no plain file", "leave it out")


def _bytes(path: Path, limit: int) -> bytes:
    try:
        check_plain(path)
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}", "check that it is there and readable"
        ) from error
    if len(content) > limit:
        size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
        raise DataError(f"{path} is larger than {size}", "cut it into one file per split")
    return content


def mapping(value: object, where: str) -> Mapping[str, object]:
    """Raises DataError where a JSON object is expected."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {type(value).__name__}, not an object", "export it again")
    return value


def listed(value: object, where: str) -> list[object]:
    """Raises DataError where a JSON list is expected."""
    if not isinstance(value, list):
        raise DataError(f"{where} is {type(value).__name__}, not a list", "export it again")
    return value


class Kept(Generic[Made]):
    """What was made of the last few files, made again when a file changes; one thread makes, the others wait."""

    def __init__(self, make: Callable[[Path], Made], most: int = 4) -> None:
        self._make, self._most, self._lock = make, most, threading.Lock()
        self._made: dict[tuple[Path, int, int], Made] = {}

    def __call__(self, path: Path) -> Made:
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}", "check the path") from error
        key = (path, state.st_size, state.st_mtime_ns)
        with self._lock:
            if key not in self._made:
                made = self._make(path)
                while len(self._made) >= self._most:
                    del self._made[next(iter(self._made))]
                self._made[key] = made
            return self._made[key]
