"""Archives of strangers -> plain files below one folder, and nothing else.

A .tar, .tar.gz or .zip is read from front to back. What is no plain file or folder (links, devices), what would lie
outside the folder, what comes twice, and more bytes or entries than allowed end it with an error; sizes are counted
while reading, never believed.
"""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from maskwright.errors import DataError
from maskwright.progress import SILENT, Progress

CHUNK = 1 << 18
HEADERS = 1 << 20
"""Bytes that a tar may spend on names and padding between two files."""
JUNK = ("._", ".DS_Store")
"""Files that macOS adds to archives; annotations.tar.gz of Oxford-IIIT Pet has one per mask."""

_Entry = tuple[str, Callable[[], Iterator[bytes]] | None]
"""Name as the archive has it, and the bytes; None for a folder."""


@dataclass(frozen=True)
class Limits:
    """What an archive may become."""

    bytes: int
    """Of all its files together, also of those that are not wanted."""
    entries: int = 500_000


def unpack(
    archive: Path,
    target: Path,
    folders: Mapping[str, str],
    limits: Limits,
    progress: Progress = SILENT,
) -> int:
    """Write the files of `archive` below `target`, an existing folder; returns their number.

    `folders`: folder inside the archive ("" is its root) -> folder below `target`; what lies elsewhere stays out.
    Raises DataError for an archive that is broken, lies or is hostile, or that holds nothing for one of `folders`; what
    was written until then is the caller's to remove.
    """
    filled = dict.fromkeys(folders, 0)
    left, entries = limits.bytes, 0
    megabytes = -(-archive.stat().st_size // 10**6)
    with (
        open(archive, "rb") as packed,
        _faults(archive),
        progress.task(f"Unpacking {archive.name} (MB)", megabytes) as advance,
    ):
        read = _zip_entries if zipfile.is_zipfile(packed) else _tar_entries
        packed.seek(0)
        shown = 0
        for name, content in read(packed, limits):
            entries += 1
            if entries > limits.entries:
                raise _refused(archive, f"holds more than {limits.entries} entries")
            folder, path = _place(_parts(name, archive), folders)
            if content is None:
                continue
            file = None
            if path is not None:
                inside = target.joinpath(*path)
                inside.parent.mkdir(parents=True, exist_ok=True)
                file = _created(inside, archive)
            try:
                for block in content():
                    left -= len(block)
                    if left < 0:
                        raise _refused(archive, f"unpacks to more than {limits.bytes / 1e6:.0f} MB")
                    if file is not None:
                        file.write(block)
            finally:
                if file is not None:
                    file.close()
            if path is not None:
                filled[folder] += 1
            now = min(packed.tell() // 10**6, megabytes)
            advance(max(now - shown, 0))
            shown = max(now, shown)
    for folder, count in filled.items():
        if not count:
            raise _refused(archive, f"holds no files under {folder or 'its root'}")
    return sum(filled.values())


def _refused(archive: Path, why: str) -> DataError:
    return DataError(
        f"{archive.name} {why}", "nothing of it was kept; is the address the right one? another: --mirror URL"
    )


@contextmanager
def _faults(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        zlib.error,
        struct.error,
        EOFError,
        OverflowError,
        RuntimeError,  # an unknown method, a password, headers nested without end
        ValueError,
    ) as error:
        raise _refused(archive, f"is no sound archive ({error})") from error


def _created(path: Path, archive: Path) -> IO[bytes]:
    try:
        return open(path, "xb")
    except FileExistsError as error:
        raise _refused(archive, f"holds {path.name!r} twice") from error


def _parts(name: str, archive: Path) -> tuple[str, ...]:
    """`./a/b.png` -> (a, b.png). Raises DataError for a name that could lead elsewhere on any system."""
    pure = PurePosixPath(name)
    if (
        pure.is_absolute()
        or ".." in pure.parts
        or any(mark in name for mark in "\\:")
        or not name.isprintable()
    ):
        raise _refused(archive, f"holds the name {name[:80]!r}, which does not stay below the folder")
    return pure.parts


def _place(parts: tuple[str, ...], folders: Mapping[str, str]) -> tuple[str, tuple[str, ...] | None]:
    """The key of `folders` and the path below the target; None for what nobody wants."""
    if not parts or parts[0] == "__MACOSX" or parts[-1].startswith(JUNK):
        return "", None
    for folder, place in folders.items():
        above = PurePosixPath(folder).parts
        if parts[: len(above)] == above and len(parts) > len(above):
            return folder, (*PurePosixPath(place).parts, *parts[len(above) :])
    return "", None


class _Ration:
    """Bytes of a tar, only as many as were granted: a header that claims a name of 8 GB is not read into memory."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.granted = 0

    def read(self, count: int) -> bytes:
        block = self._source.read(count)
        self.granted -= len(block)
        if self.granted < 0:
            raise tarfile.ReadError("a header is too long")
        return block


def _tar_entries(packed: IO[bytes], limits: Limits) -> Iterator[_Entry]:
    zipped = packed.read(2) == b"\x1f\x8b"
    packed.seek(0)
    source = cast(IO[bytes], gzip.GzipFile(fileobj=packed)) if zipped else packed
    ration = _Ration(source)
    ration.granted = HEADERS
    with tarfile.open(fileobj=cast(IO[bytes], ration), mode="r|") as tar:
        for member in tar:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise tarfile.ReadError(f"{member.name[:80]!r} is a link, a device or sparse")
            if member.size > limits.bytes:
                raise tarfile.ReadError(f"{member.name[:80]!r} claims {member.size / 1e6:.0f} MB")
            ration.granted = HEADERS + member.size
            yield member.name, _tar_content(tar, member) if member.isreg() else None
            tar.members.clear()  # type: ignore[attr-defined]  # it would remember every header
            ration.granted = HEADERS
    while ration.read(CHUNK):  # to the end, where gzip has its checksum
        pass


def _tar_content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], Iterator[bytes]]:
    def blocks() -> Iterator[bytes]:
        handle = tar.extractfile(member)
        assert handle is not None  # it is a plain file
        while block := handle.read(CHUNK):
            yield block

    return blocks


def _zip_entries(packed: IO[bytes], limits: Limits) -> Iterator[_Entry]:
    with zipfile.ZipFile(packed) as archive:
        infos = archive.infolist()
        if len(infos) > limits.entries:
            raise zipfile.BadZipFile(f"more than {limits.entries} entries")
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"{info.filename[:80]!r} is a link or a device")
            if info.flag_bits & 1:
                raise zipfile.BadZipFile(f"{info.filename[:80]!r} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{info.filename[:80]!r} is packed in an unusual way")
            yield info.orig_filename, None if info.is_dir() else _zip_content(archive, info)


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], Iterator[bytes]]:
    def blocks() -> Iterator[bytes]:
        with archive.open(info) as handle:
            while block := handle.read(CHUNK):
                yield block

    return blocks
