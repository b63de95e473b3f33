"""`.predict.jsonl` in the output folder: who predicted it, which files are ours, a line for every picture that is done.

The line of a picture is written after its files, and one that was cut short counts for nothing: a kill costs the
pictures that were under way. The first line says which model answered and how; where that changes, all begins anew.
The names of files are noted before they are written: what else lies in the folder is not ours, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from maskwright.errors import RunError
from maskwright.files import write_bytes
from maskwright.predict.facts import Facts
from maskwright.predict.inputs import Job
from maskwright.predict.review import FOLDER

NAME = ".predict.jsonl"
FORMAT = 1

NONSENSE = (ValueError, TypeError, KeyError)
"""What a line that was cut short raises: it counts for nothing."""

Stamp = tuple[int, int]
"""Bytes of a file, and when it was changed last, in nanoseconds."""


@dataclass(frozen=True)
class Entry:
    """A picture that is done."""

    name: str
    """Below the folder it was found in; `Job.name`."""
    stamp: Stamp
    outputs: tuple[str, ...]
    """Below the output folder."""
    source: str = ""
    """The picture's whole path: another of its name, size and time is another picture. Lines of earlier versions have
    none: their files are ours, and made anew."""
    review_below: float | None = None
    """Whether anyone asked for doubts, and for which."""
    expected_dice: float | None = None
    review: str | None = None
    """Name of the doubtful mask's overlay."""


class Journal:
    """What is done in an output folder. Lines are only ever added, each by a single write at the end: several processes
    can predict into one folder."""

    def __init__(self, out: Path, model: str) -> None:
        """Read what `model` (who answers, and how) has done in `out`; nothing is written yet."""
        self.out = out
        self.began_review: float | None = None
        """The limit of a call that found the folder of doubtful masks empty, and began to fill it."""
        self.ours: set[str] = set()
        """Files that this call or an earlier one writes, whoever answers; below the output folder."""
        self._entries: dict[str, Entry] = {}
        self._places: dict[str, int] = {}
        """Where the line of a picture begins, for those with facts."""
        self._head = json.dumps({"format": FORMAT, "model": model}).encode() + b"\n"
        self._state = self._read()
        self._file: FileIO | None = None
        self._adding = Lock()

    @property
    def path(self) -> Path:
        return self.out / NAME

    def begin(self) -> None:
        """From here on it can be added to; `out` is made where it is missing. Raises RunError: it cannot be."""
        with _writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            if self._state == "none":
                with contextlib.suppress(FileExistsError), open(self.path, "xb") as new:
                    new.write(self._head)  # at once: another process may begin as well
                self._state = self._read()
            if self._state == "other":
                write_bytes(self.path, self._head)
            self._file = FileIO(self.path, "a+")
            if self._state == "torn":
                self._file.write(b"\n")
        if self._state == "other" and self.ours:
            self._append({"ours": sorted(self.ours)})

    def find(self, job: Job, stamp: Stamp | None, review_below: float | None, *, facts: bool) -> Entry | None:
        """The entry of a job that need not be done again: the picture is the same, all that is asked for was made and
        its files are there."""
        entry = self._entries.get(job.name)
        if entry is None or not self.same(job, stamp) or (facts and job.name not in self._places):
            return None
        if review_below is not None and entry.review_below != review_below:
            return None
        wanted = {target.relative_to(self.out).as_posix() for target in job.targets.values()}
        there = all((self.out / name).is_file() for name in wanted)
        return entry if there and wanted <= {*entry.outputs} else None

    def same(self, job: Job, stamp: Stamp | None) -> bool:
        """Whether the picture is the one that was predicted under this name."""
        entry = self._entries.get(job.name)
        return entry is not None and (entry.source, entry.stamp) == (str(job.source.resolve()), stamp)

    def taken_by(self, job: Job) -> Path | None:
        """Another picture that is still there, and whose files those of the job would replace."""
        entry = self._entries.get(job.name)
        if (
            entry is None
            or entry.source in ("", str(job.source.resolve()))
            or not Path(entry.source).exists()
        ):
            return None
        wanted = {target.relative_to(self.out).as_posix() for target in job.targets.values()}
        return Path(entry.source) if wanted & {*entry.outputs} else None

    def doubts(self) -> dict[str, str]:
        """Overlays of doubtful masks, by the name of the picture."""
        return {name: entry.review for name, entry in self._entries.items() if entry.review is not None}

    def add(self, entry: Entry, facts: Facts | None) -> None:
        """What an earlier call made of the same picture is kept. From any thread."""
        with self._adding:
            known = self._entries.get(entry.name)
            if known is not None and (known.source, known.stamp) == (entry.source, entry.stamp):
                entry = _joined(known, entry)
                facts = facts or dict(self.facts([entry.name])).get(entry.name)
            values = {name: value for name, value in vars(entry).items() if value is not None}
            place = self._append(values | ({} if facts is None else {"facts": facts.to_json()}))
            self._entries[entry.name] = entry
            self._places.pop(entry.name, None)
            if facts is not None:
                self._places[entry.name] = place

    def begin_review(self, below: float) -> None:
        self._append({"began_review": below})
        self.began_review = below

    def begin_files(self, names: Iterable[str]) -> None:
        """From here on they are ours."""
        if new := sorted({*names} - self.ours):
            self._append({"ours": new})
            self.ours.update(new)

    def facts(self, names: Sequence[str]) -> Iterator[tuple[str, Facts]]:
        """Of the pictures of these names, read one after the other; those that are not done are left out."""
        assert self._file is not None, "begin() comes first"
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for name in names:
                if name in self._places:
                    lines.seek(self._places[name])
                    yield name, Facts.from_json(json.loads(lines.readline())["facts"])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _append(self, values: Mapping[str, object]) -> int:
        """The place of the new line."""
        assert self._file is not None, "begin() comes first"
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        with _writing(self.out):
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self._file.tell() - len(line)

    def _read(self) -> Literal["none", "other", "torn", "whole"]:
        """`other`: the journal of another model, of which only the names of files are kept."""
        try:
            lines = open(self.path, "rb")  # noqa: SIM115
        except OSError:
            return "none"
        with lines:
            line = head = lines.readline()
            place = len(head)
            for line in lines:
                with contextlib.suppress(*NONSENSE):
                    self._take(json.loads(line), place)
                place += len(line)
        if head == self._head:
            return "whole" if line.endswith(b"\n") else "torn"
        self.began_review = None
        self._entries.clear()
        self._places.clear()
        return "other"

    def _take(self, values: dict[str, Any], place: int) -> None:
        if "ours" in values or "whole" in values:  # the latter in earlier versions
            self.ours.update(values.get("ours", values.get("whole", ())))
        elif "began_review" in values:
            self.began_review = values["began_review"]
        else:
            has_facts = values.pop("facts", None) is not None
            changed = {"stamp": tuple(values["stamp"]), "outputs": tuple(values["outputs"])}
            entry = Entry(**(values | changed))
            self._entries[entry.name] = entry
            self.ours.update(entry.outputs)
            if entry.review is not None:
                self.ours.add(f"{FOLDER}/{entry.review}")
            self._places.pop(entry.name, None)
            if has_facts:
                self._places[entry.name] = place


def _joined(known: Entry, new: Entry) -> Entry:
    """What both say of the same picture; of doubts, what was asked for last."""
    outputs = tuple(dict.fromkeys((*known.outputs, *new.outputs)))
    return replace(known if new.review_below is None else new, outputs=outputs)


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Whatever the system dislikes becomes one RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{out} cannot be written to: {error.strerror or error}",
            "choose another --out, or free some space",
        ) from error
