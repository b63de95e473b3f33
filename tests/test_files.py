from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from maskwright.errors import RunError
from maskwright.files import cache_folder, remove_partials, sync_folder, write_atomic, write_bytes, write_text


def test_text_arrives_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    write_text(target, "Größe: ½\n")
    assert target.read_bytes() == "Größe: ½\n".encode()
    write_bytes(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    assert os.listdir(target.parent) == ["a.txt"]


def test_an_exception_in_the_middle_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def interrupted(beside: Path) -> None:
        beside.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(target, interrupted)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def full(beside: Path) -> None:
        beside.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match="No space left on device") as caught:
        write_atomic(target, full)
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_truly_full_device(tmp_path: Path) -> None:
    def to_full_device(beside: Path) -> None:
        beside.symlink_to("/dev/full")
        beside.write_text("x")

    with pytest.raises(RunError, match="No space left"):
        write_atomic(tmp_path / "a.txt", to_full_device)
    assert os.listdir(tmp_path) == []


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".a.txt.1234.partial").write_text("half")
    (tmp_path / "deep" / "a.txt").write_text("whole")
    remove_partials(tmp_path)
    assert os.listdir(tmp_path / "deep") == ["a.txt"]


def test_the_cache_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert (tmp_path / "mine").is_dir()
    sync_folder(tmp_path)
    monkeypatch.delenv("MASKWRIGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert "maskwright" in cache_folder().parts


def test_a_parent_that_is_a_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(RunError, match="could not be written"):
        write_text(tmp_path / "a" / "b.txt", "x")


def test_a_cache_that_cannot_be_made_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a file")
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "a" / "cache"))
    with pytest.raises(RunError, match="let MASKWRIGHT_CACHE name another folder"):
        cache_folder()
