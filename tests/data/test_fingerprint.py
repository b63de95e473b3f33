"""Facts about files: remembered as long as they are true."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maskwright.data import fingerprint
from maskwright.data.fingerprint import content_hashes, digest, recall
from maskwright.data.part import Part
from maskwright.errors import DataError
from maskwright.progress import Silent

OLD = 1_600_000_000 * 10**9


class Counting:
    """Finds out the text of a file, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, path: Path) -> object:
        self.asked.append(path.name)
        text = path.read_text()
        if text == "broken":
            raise DataError(f"{path.name} is broken")
        return {"text": text}


def _write(path: Path, text: str, mtime_ns: int = OLD) -> Path:
    path.write_text(text)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def test_a_fact_is_found_out_once(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{name}.txt", name) for name in "abc"]
    find = Counting()
    expected = [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert recall("text", paths, find) == expected
    assert recall("text", paths, find) == expected
    assert sorted(find.asked) == ["a.txt", "b.txt", "c.txt"]
    assert recall("text", [paths[2], paths[0], paths[2]], find) == [expected[2], expected[0], expected[2]]
    recall("another kind", paths, find)
    assert len(find.asked) == 6


@pytest.mark.parametrize(("text", "mtime_ns"), [("longer", OLD), ("b", OLD + 1)])
def test_a_changed_file_is_looked_at_again(tmp_path: Path, text: str, mtime_ns: int) -> None:
    path = _write(tmp_path / "a.txt", "a")
    find = Counting()
    recall("text", [path], find)
    _write(path, text, mtime_ns)
    assert recall("text", [path], find) == [{"text": text}]


def test_a_file_of_this_moment_is_not_trusted_to_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "RACY_SECONDS", 3600.0)  # a moment that a slow machine does not outlast
    path = tmp_path / "a.txt"
    path.write_text("a")
    stamp = path.stat().st_mtime_ns
    find = Counting()
    recall("text", [path], find)
    _write(path, "b", stamp)  # same size, same tick of the clock
    assert recall("text", [path], find) == [{"text": "b"}]


def test_broken_files_are_told_and_not_remembered(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "a.txt", "a"), _write(tmp_path / "b.txt", "broken")]
    find = Counting()
    for _ in range(2):
        whole, broken = recall("text", paths, find)
        assert whole == {"text": "a"}
        assert isinstance(broken, DataError)
    assert sorted(find.asked) == ["a.txt", "b.txt", "b.txt"]


def test_an_interruption_keeps_what_was_found_out(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{row}", str(row)) for row in range(400)]

    class Interrupting(Silent):
        @contextmanager
        def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                if done == 20:
                    raise KeyboardInterrupt

            yield advance

    with pytest.raises(KeyboardInterrupt):
        recall("text", paths, Counting(), progress=Interrupting())
    find = Counting()
    recall("text", paths, find)
    assert len(find.asked) == 380


def test_many_paths(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{row}", str(row)) for row in range(1203)]
    find = Counting()
    first = recall("text", paths, find)
    assert first == recall("text", paths, find) == [{"text": str(row)} for row in range(1203)]
    assert len(find.asked) == 1203


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 20, b""])
def test_a_spoilt_cache_is_no_hindrance(tmp_path: Path, cache: Path, content: bytes) -> None:
    (cache / "fingerprints.sqlite").write_bytes(content)
    path = _write(tmp_path / "a.txt", "a")
    find = Counting()
    for _ in range(3):
        assert recall("text", [path], find) == [{"text": "a"}]
    assert len(find.asked) == 1


def test_hashes(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "a", "one"), _write(tmp_path / "b", "two")]
    assert content_hashes(paths) == [hashlib.sha256(text).hexdigest() for text in (b"one", b"two")]
    with pytest.raises(DataError, match="none cannot be read"):
        content_hashes([tmp_path / "none"])


def test_digest_sees_the_borders_of_lines() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["a"]) == hashlib.sha256(b"a\n").hexdigest()[:16]


def test_progress_hears_of_every_new_file(tmp_path: Path) -> None:
    said: list[tuple[str, int]] = []

    class Listening(Silent):
        @contextmanager
        def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
            said.append((what, total))
            yield lambda _: None

    paths = [_write(tmp_path / name, name) for name in "ab"]
    for _ in range(2):
        recall("text", paths, Counting(), what="Looking", progress=Listening())
    assert said == [("Looking", 2)]


def test_the_margin_covers_coarse_clocks() -> None:
    assert fingerprint.RACY_SECONDS >= 2  # FAT counts two seconds


def test_parts_of_one_file_are_facts_of_their_own(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.txt", "a")
    parts = [
        Part(file, "x", "1"),
        Part(file, "x", "2"),
        Part(file, "y", "1"),
        Part(file, "x", "1", ("told",)),
    ]
    asked: list[Part] = []

    def find(part: Part) -> object:
        asked.append(part)
        return [part.form, part.key, *part.told]

    expected = [["x", "1"], ["x", "2"], ["y", "1"], ["x", "1", "told"]]
    assert recall("part", parts, find) == recall("part", parts, find) == expected
    # By `repr`: `str` of a part names its file alone, and several threads ask in any order.
    assert sorted(asked, key=repr) == sorted(parts, key=repr)


def test_a_second_file_decides_a_part_as_well(tmp_path: Path) -> None:
    """Also one that was changed to another time in the past, and to the same size."""
    file, other = _write(tmp_path / "a.txt", "a"), _write(tmp_path / "b.txt", "b", OLD - 5)
    part = Part(file, "x", "1", (), other)
    assert recall("part", [part], lambda part: other.read_text()) == ["b"]
    _write(other, "c", OLD - 3)
    assert recall("part", [part], lambda part: other.read_text()) == ["c"]
    assert recall("part", [part], lambda part: "not asked") == ["c"]
    _write(file, "z", OLD + 1)
    assert recall("part", [part], lambda part: "asked") == ["asked"]
