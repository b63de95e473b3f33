"""The corpus of broken data sets: each fault is found where it is, nothing else is said, and no file is changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.audit.corpus import CORPUS, SOUND, Broken

from maskwright.cli.main import main

SECONDS = 120
"""For one audit; the slowest needs two where nothing else runs. What hangs is meant, not what is slow."""


MILDER = {"object-ignored": "warning", "constant-mask": "note"}
"""What they may be as well, by the share of the masks that are so."""


@cache
def severities() -> dict[str, str]:
    """Finding -> severity, as the guide has them."""
    guide = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (error|warning|note) \| (.*) \|$", guide, re.M)
    return {name: severity for severity, row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)}


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """What hangs fails."""

    def stop(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tree(root: Path) -> str:
    """A hash of all names, links and contents."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        what = (
            os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        )
        total.update(f"{path} {path.lstat().st_mode} {len(what)}\n".encode() + what)
    return total.hexdigest()


def audited(
    data: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, Mapping[str, Any], str]:
    """Exit code, audit.json, and what was said on stderr. Raises TimeoutError."""
    capsys.readouterr()
    with in_time(SECONDS):
        code = main(["data", "audit", str(data), "--out", str(out), "--json", *options])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    written, error = (
        text.replace(str(data.parent), "") for text in said
    )  # the path of a test holds its name
    return code, json.loads(written) if code < 2 else {}, error


def findings(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    named = {finding["id"]: finding for finding in document["findings"]}
    assert len(named) == len(document["findings"]), "a finding is there twice"
    return named


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no alarm")
@pytest.mark.parametrize("name", CORPUS)
def test_each_fault_is_found(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(CORPUS[name], tmp_path, capsys)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no alarm")
@pytest.mark.parametrize("name", SOUND)
def test_what_is_odd_and_right_is_no_fault(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(SOUND[name], tmp_path, capsys)


def test_each_finding_of_the_guide_is_planted() -> None:
    """And each that is planted is in the guide."""
    assert set(severities()) == {name for broken in CORPUS.values() for name in broken.expected}
    assert len(CORPUS) > 100


def check(broken: Broken, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out, fix = place / "data", place / "out", place / "mended.yaml"
    root.mkdir()
    broken.build(root)
    for path in root.rglob("*"):  # older than what the cache takes for unfinished: the second audit is quick
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    before = tree(root)
    code, document, error = audited(root / broken.data, out, capsys, "--fix", str(fix))
    assert tree(root) == before
    if broken.refused:
        assert code == 2
        assert re.search(broken.refused, error, re.S), error
        assert "; " in error, f"no hint: {error}"
        assert not fix.exists()
        return
    assert code < 2, error
    found = findings(document)
    loud = {key for key, finding in found.items() if finding["severity"] != "note"}
    assert loud <= set(broken.expected), {key: found[key]["evidence"][:3] for key in loud}
    assert set(broken.expected) <= set(found), f"not found: {set(broken.expected) - set(found)}"
    for key, ids in broken.expected.items():
        assert sorted(found[key]["items"]) == sorted(ids), key
        assert found[key]["severity"] in (severities()[key], MILDER.get(key)), key
    if broken.says:
        said = json.dumps([found[key] for key in broken.expected], ensure_ascii=False)
        assert re.search(broken.says, said), said
    assert code == (1 if any(finding["severity"] == "error" for finding in found.values()) else 0)
    mended = {key for key in loud if found[key]["fix"]}
    code, document, error = audited(fix, place / "again", capsys)
    assert code < 2, error
    left = findings(document)
    assert not mended & set(left), f"still there: {mended & set(left)}"
    assert {key for key in left if left[key]["severity"] == "error"} <= set(found), left
    assert tree(root) == before
