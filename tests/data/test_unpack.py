"""Archives of strangers: nothing outside the folder, nothing but plain files, nothing without end."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.data.unpack import Limits, unpack
from maskwright.errors import DataError

ROOMY = Limits(10**6, 100)
FILES = {"images/a.jpg": b"first", "images/deep/b c ü.jpg": b"second" * 1000, "other/c.txt": b"third"}


def tar_of(
    path: Path, files: dict[str, bytes], mode: str = "w:gz", odd: Sequence[tarfile.TarInfo] = ()
) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in odd:
            tar.addfile(info)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tree_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def refused(archive: Path, target: Path, *words: str, limits: Limits = ROOMY) -> None:
    """One line that names the archive; and nothing outside the target."""
    target.mkdir()
    before = set(target.parent.iterdir())
    with pytest.raises(DataError) as caught:
        unpack(archive, target, {"": ""}, limits)
    assert archive.name in caught.value.problem
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in caught.value.problem
    assert set(target.parent.iterdir()) == before
    assert not any(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.parametrize("kind", ["tar.gz", "tar", "zip"])
def test_wanted_folders_come_out_where_they_belong(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zip_of(archive, FILES)
    else:
        tar_of(archive, FILES, "w:gz" if kind == "tar.gz" else "w")
    (tmp_path / "out").mkdir()
    assert unpack(archive, tmp_path / "out", {"images": "pictures/all"}, ROOMY) == 2
    assert tree_of(tmp_path / "out") == {
        "pictures/all/a.jpg": b"first",
        "pictures/all/deep/b c ü.jpg": b"second" * 1000,
    }


def test_what_macos_adds_stays_out(tmp_path: Path) -> None:
    files = {"./images/._a.jpg": b"x", "__MACOSX/images/a.jpg": b"x", "images/.DS_Store": b"x", **FILES}
    (tmp_path / "out").mkdir()
    unpack(zip_of(tmp_path / "a.zip", files), tmp_path / "out", {"": ""}, ROOMY)
    assert tree_of(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "images/../../out.txt",
        "/tmp/out.txt",
        "..\\out.txt",
        "C:/out.txt",
        "a\nb.txt",
        "images/..",
    ],
)
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str, pack: type) -> None:
    refused(pack(tmp_path / "a", {"good.txt": b"x", name: b"x"}), tmp_path / "out", "below the folder")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    odd = tarfile.TarInfo("images/odd")
    odd.type, odd.linkname = kind, "/etc/passwd"
    refused(tar_of(tmp_path / "a.tar.gz", FILES, odd=[odd]), tmp_path / "out", "images/odd", "link")


def test_links_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("images/odd")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", tmp_path / "out", "images/odd", "link")


def test_a_file_that_comes_twice(tmp_path: Path) -> None:
    refused(tar_of(tmp_path / "a.tar", {"a": b"1", "./a": b"2"}), tmp_path / "out", "'a' twice")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_bombs_are_counted_while_they_unpack(tmp_path: Path, pack: type) -> None:
    """50 MB of zeros in 50 kB: stopped at the limit, with no more than that on the disk."""
    archive = pack(tmp_path / "a", {f"{number}": bytes(10**7) for number in range(5)})
    assert archive.stat().st_size < 10**5
    refused(archive, tmp_path / "out", "more than 21 MB" if pack is zip_of else "", limits=Limits(21 * 10**6))
    assert sum(map(len, tree_of(tmp_path / "out").values())) <= 21 * 10**6
    refused(archive, tmp_path / "again", limits=Limits(10**9, entries=4))


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    content = bytearray(zip_of(tmp_path / "a.zip", {"a.txt": bytes(10**6)}).read_bytes())
    truth = (10**6).to_bytes(4, "little")
    assert content.count(truth) == 2
    (tmp_path / "a.zip").write_bytes(content.replace(truth, (10).to_bytes(4, "little")))
    refused(tmp_path / "a.zip", tmp_path / "out")


def test_folders_count_as_entries(tmp_path: Path) -> None:
    odd = [tarfile.TarInfo(f"folder{number}") for number in range(101)]
    for info in odd:
        info.type = tarfile.DIRTYPE
    refused(tar_of(tmp_path / "a.tar.gz", {}, odd=odd), tmp_path / "out", "more than 100 entries")


def test_a_header_of_100_mb_is_not_read_into_memory(tmp_path: Path) -> None:
    """A long name (type L) whose size claims 100 MB, zipped to 100 kB."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10**8
    with gzip.open(tmp_path / "a.tar.gz", "wb") as packed:
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(100):
            packed.write(b"x" * 10**6)
    tracemalloc.start()
    refused(tmp_path / "a.tar.gz", tmp_path / "out", "header is too long", limits=Limits(10**9))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_an_archive_without_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="holds no files under masks"):
        unpack(zip_of(tmp_path / "a.zip", FILES), tmp_path / "out", {"images": "", "masks": ""}, ROOMY)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>" * 100, b"\x1f\x8b\x08nonsense", b"PK\x05\x06"]
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    refused(tmp_path / "a.tar.gz", tmp_path / "out")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["tar", "tar.gz", "zip"]))
def test_broken_bytes_end_in_one_line_or_in_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("broken")
    archive = folder / f"a.{kind}"
    if kind == "zip":
        zip_of(archive, FILES)
    else:
        tar_of(archive, FILES, "w" if kind == "tar" else "w:gz")
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    (folder / "out").mkdir()
    with contextlib.suppress(DataError):
        unpack(archive, folder / "out", {"": ""}, ROOMY)
    assert not (set(folder.iterdir()) - {archive, folder / "out"})


@pytest.mark.parametrize("place", [-6, 200])
def test_a_gzip_whose_bytes_do_not_fit_its_checksum(tmp_path: Path, place: int) -> None:
    """Also where the fault lies behind the last file, in the checksum itself."""
    content = bytearray(tar_of(tmp_path / "a.tar.gz", FILES).read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "a.tar.gz").write_bytes(content)
    refused(tmp_path / "a.tar.gz", tmp_path / "out", "no sound archive")
