"""`.predict.jsonl` in the output folder: who predicted it, which files are ours, a line for every picture that is done.

The line of a picture is written after its files, and one that was cut short counts for nothing: a kill costs the
pictures that were under way. The first line says which model answered and how; where that changes, all begins anew.
The names of files are noted before they are written, and taken back at the end where they were not: what else lies in
the folder is not ours, and stays. It may come with the folder from a stranger: a line that does not fit is skipped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path, PurePath
from threading import Lock
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, InstanceOf, TypeAdapter

from maskwright.config import Part
from maskwright.errors import RunError
from maskwright.files import write_bytes, write_new
from maskwright.predict.facts import Facts
from maskwright.predict.inputs import Job
from maskwright.predict.look import Seams
from maskwright.predict.review import FOLDER

NAME = ".predict.jsonl"
FORMAT = 1

NONSENSE = (ValueError, RecursionError)
"""What a line raises that was cut short, or is not of ours: it counts for nothing."""

Stamp = tuple[int, int]
"""Bytes of a file, and when it was changed last, in nanoseconds."""


def _below(name: str) -> str:
    path = PurePath(name)
    if not path.parts or path.anchor or ".." in path.parts or "\0" in name:
        raise ValueError("no path below a folder")
    return name


def _directly_below(name: str) -> str:
    if len(PurePath(name).parts) != 1:
        raise ValueError("no name of a file")
    return _below(name)


def _countable(seams: Seams) -> Seams:
    if not 0 <= seams.changed <= seams.pixels or not seams.pixels:
        raise ValueError("no share of pixels")
    return seams


Text = InstanceOf[str]
"""`str` alone refuses names that are not UTF-8."""
Below = Annotated[Text, AfterValidator(_below)]
"""A path below the output folder."""


class Entry(Part):
    """A picture that is done."""

    name: Text
    """Below the folder it was found in; `Job.name`."""
    stamp: Stamp
    outputs: tuple[Below, ...]
    source: Text = ""
    """The picture's whole path: another of its name, size and time is another picture. Lines of earlier versions have
    none: their files are ours, and made anew."""
    review_below: float | None = None
    """Whether anyone asked for doubts, and for which."""
    expected_dice: float | None = None
    review: Annotated[Text, AfterValidator(_directly_below)] | None = None
    """Name of the doubtful mask's overlay."""
    notes: tuple[Text, ...] = ()
    """See `Saved`."""
    checked: bool = False
    """Whether anyone asked for seams."""
    seams: Annotated[Seams, AfterValidator(_countable)] | None = None


OF_DOUBTS = ("review_below", "expected_dice", "review")
OF_SEAMS = ("checked", "seams")
FACTS = TypeAdapter(Facts)


class Note(Part):
    """Any other line but the first."""

    ours: tuple[Below, ...] = ()
    """Files that are written from here on."""
    whole: tuple[Below, ...] = ()
    """The same in earlier versions."""
    owners: dict[Below, Text] = Field(default_factory=dict)
    """Pictures that gave files, by these: what is kept when another model begins."""
    unwritten: tuple[Below, ...] = ()
    """Files that a call did not get to."""
    began_review: float | None = None


class Journal:
    """What is done in an output folder. Lines are only ever added, each by a single write at the end: several processes
    can predict into one folder."""

    def __init__(self, out: Path, model: str) -> None:
        """Read what `model` (who answers, and how) has done in `out`; nothing is written yet."""
        self.out = out
        self.began_review: float | None = None
        """The limit of a call that found the folder of doubtful masks empty, and began to fill it."""
        self.ours: dict[str, str] = {}
        """Files that this call or an earlier one writes, whoever answers, below the output folder; with the picture
        that gave each, empty where none is known to."""
        self._entries: dict[str, Entry] = {}
        self._places: dict[str, int] = {}
        """Where the line of a picture begins, for those with facts."""
        self._head = json.dumps({"format": FORMAT, "model": model}).encode() + b"\n"
        self._state = self._read()
        self._file: FileIO | None = None
        self._begun: set[str] = set()
        """Files of this call."""
        self._adding = Lock()

    @property
    def path(self) -> Path:
        return self.out / NAME

    def begin(self) -> None:
        """From here on it can be added to; `out` is made where it is missing. Raises RunError: it cannot be."""
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            if self._state == "none":
                write_new(self.path, self._head)
                self._state = self._read()
            if self._state == "other":
                owners = {name: source for name, source in self.ours.items() if source}
                write_bytes(self.path, self._head + _line({"ours": [*self.ours], "owners": owners}))
            self._file = FileIO(self.path, "a+")
            if self._state == "torn":
                self._file.write(b"\n")

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process predicts into the folder, and none begins within. False where nobody can tell: on
        Windows, and on disks without locks."""
        assert self._file is not None, "begin() comes first"
        if sys.platform == "win32":
            yield False
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = self._state != "other"  # those of another model have a journal that is gone
        except OSError:
            found = False
        try:
            yield found
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_SH)  # until it is closed, even by a kill

    def find(
        self, job: Job, stamp: Stamp | None, review_below: float | None, *, facts: bool, seams: bool
    ) -> Entry | None:
        """The entry of a job that need not be done again: the picture is the same, all that is asked for was made and
        its files are there."""
        entry = self._entries.get(job.name)
        if entry is None or not self.same(job, stamp) or (facts and job.name not in self._places):
            return None
        if (review_below is not None and entry.review_below != review_below) or (seams and not entry.checked):
            return None
        wanted = self._wanted(job)
        there = all((self.out / name).is_file() and self.ours.get(name) == entry.source for name in wanted)
        return entry if there and wanted <= {*entry.outputs} else None

    def same(self, job: Job, stamp: Stamp | None) -> bool:
        """Whether the picture is the one that was predicted under this name."""
        entry = self._entries.get(job.name)
        return entry is not None and (entry.source, entry.stamp) == (str(job.source.resolve()), stamp)

    def taken_by(self, job: Job) -> Path | None:
        """Another picture that is still there, and whose files those of the job would replace."""
        for name in self._wanted(job):
            owner = self.ours.get(name, "")
            if owner not in ("", str(job.source.resolve())) and os.path.exists(owner):
                return Path(owner)
        return None

    def _wanted(self, job: Job) -> set[str]:
        return {target.relative_to(self.out).as_posix() for target in job.targets.values()}

    def doubts(self) -> dict[str, str]:
        """Overlays of doubtful masks, by the name of the picture."""
        return {name: entry.review for name, entry in self._entries.items() if entry.review is not None}

    def add(self, entry: Entry, facts: Facts | None) -> None:
        """What an earlier call made of the same picture is kept. From any thread."""
        with self._adding:
            known = self._entries.get(entry.name)
            if known is not None and (known.source, known.stamp) == (entry.source, entry.stamp):
                entry = self._joined(known, entry)
                facts = facts or dict(self.facts([entry.name])).get(entry.name)
            values = entry.model_dump(exclude_defaults=True)
            place = self._append(values | ({} if facts is None else {"facts": facts.to_json()}))
            self._know(entry, None if facts is None else place)

    def _joined(self, known: Entry, new: Entry) -> Entry:
        """What both say of the same picture; of doubts and seams, what was asked for last."""
        kept = [name for name in known.outputs if self.ours.get(name) == known.source]
        old = (*(OF_DOUBTS if new.review_below is None else ()), *(() if new.checked else OF_SEAMS))
        values = {name: getattr(known, name) for name in old}
        return new.model_copy(update=values | {"outputs": tuple(dict.fromkeys((*kept, *new.outputs)))})

    def begin_review(self, below: float) -> None:
        self._append({"began_review": below})
        self.began_review = below

    def begin_files(self, names: Iterable[str]) -> None:
        """From here on they are ours."""
        self._begun.update(names := {*names})
        if new := sorted(names - self.ours.keys()):
            self._append({"ours": new})
            self.ours.update(dict.fromkeys(new, ""))

    def facts(self, names: Sequence[str]) -> Iterator[tuple[str, Facts]]:
        """Of the pictures of these names, read one after the other; those that are not done are left out. Raises
        RunError: a stranger wrote them."""
        assert self._file is not None, "begin() comes first"
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for name in names:
                if name in self._places:
                    lines.seek(self._places[name])
                    try:
                        found = FACTS.validate_python(json.loads(lines.readline())["facts"])
                    except NONSENSE as error:
                        raise RunError(f"{self.path} is not of our making", "choose another --out") from error
                    yield name, found

    def close(self) -> None:
        """What was begun and is not there is not ours: somebody else may put it there."""
        if self._file is None:
            return
        unknown = [name for name in self._begun if not self.ours[name]]
        if unwritten := sorted(name for name in unknown if not os.path.exists(self.out / name)):
            with contextlib.suppress(RunError):  # then it is as after a kill
                self._append({"unwritten": unwritten})
        self._file.close()

    def _append(self, values: Mapping[str, object]) -> int:
        """The place of the new line."""
        assert self._file is not None, "begin() comes first"
        line = _line(values)
        with writing(self.out):
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

    def _take(self, values: Any, place: int) -> None:
        """Raises NONSENSE."""
        if isinstance(values, dict) and "stamp" in values:
            has_facts = values.pop("facts", None) is not None
            self._know(Entry.model_validate(values), place if has_facts else None)
            return
        note = Note.model_validate(values)
        for name in (*note.ours, *note.whole):
            self.ours.setdefault(name, "")
        self.ours.update(note.owners)
        for name in note.unwritten:
            if not self.ours.get(name):  # another process may have made it since
                self.ours.pop(name, None)
        if note.began_review is not None:
            self.began_review = note.began_review

    def _know(self, entry: Entry, place: int | None) -> None:
        """`place`: of its line, where that has facts."""
        self._entries[entry.name] = entry
        self.ours.update(dict.fromkeys(entry.outputs, entry.source))
        if entry.review is not None:
            self.ours[f"{FOLDER}/{entry.review}"] = entry.source
        self._places.pop(entry.name, None)
        if place is not None:
            self._places[entry.name] = place


def _line(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Whatever the system dislikes becomes one RunError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "it is no folder" if out.exists() and not out.is_dir() else error.strerror or error
        raise RunError(
            f"{out} cannot be written to: {why}",
            "free some space, or choose another --out" if full else "choose another --out",
        ) from error
