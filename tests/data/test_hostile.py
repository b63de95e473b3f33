"""Folders and files that a stranger may send: odd names, links, and claims that nothing backs."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import rasterio
import tifffile
import yaml
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from maskwright.cli.main import main
from maskwright.data.convert import convert
from maskwright.data.dataset import open_dataset
from maskwright.data.documents import LARGEST_YAML, read_yaml
from maskwright.data.image_io import read_mask
from maskwright.data.sources import folder, tiff_stack
from maskwright.data.sources.common import DataConfig
from maskwright.errors import DataError, UserError

ODD = (
    "a b",
    "größe",
    "line\nbreak",
    "tab\there",
    "猫",
    "#1",
    "-rf",
    "a'b",
    'a"b',
    "100%",
    "{id}",
    "[x]",
    "*",
    "a,b",
)


def write(root: Path, names: tuple[str, ...]) -> Path:
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
        for row, name in enumerate(names):
            array = (
                np.full((6, 8), 40 * row % 255, np.uint8)
                if kind == "images"
                else np.eye(6, 8, dtype=np.uint8)
            )
            Image.fromarray(array).save(root / kind / f"{name}.png")
    return root


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset(write(tmp_path / "data", ODD))
    assert sorted(item.id for item in dataset.items) == sorted(ODD)
    (tmp_path / "again.yaml").write_text(dataset.to_yaml(), encoding="utf-8")
    assert open_dataset(tmp_path / "again.yaml").fingerprint() == dataset.fingerprint()
    assert main(["data", "show", "data"]) == 0
    for form in ("folder", "coco", "voc", "npz"):
        convert(dataset, form, tmp_path / form)
        assert len(open_dataset(tmp_path / form).items) == len(ODD)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")
def test_names_that_are_no_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", ("a", "b", "c"))
    for kind in ("images", "masks"):
        inside = os.fsencode(tmp_path / "data" / kind)
        os.rename(inside + b"/c.png", inside + b"/caf\xe9.png")
    dataset = open_dataset(tmp_path / "data")
    assert [item.id for item in dataset.items] == ["a", "b", "caf\\udce9"]
    assert dataset.mask(dataset.items[2]).sum() == 6
    assert open_dataset(tmp_path / "data").fingerprint() == dataset.fingerprint()
    assert main(["data", "show", "data"]) == 0
    convert(dataset, "coco", tmp_path / "coco")


def test_links_that_lead_out_are_told(tmp_path: Path) -> None:
    write(tmp_path / "data", ("a", "b", "c"))
    secret = tmp_path / "mine.png"
    shutil.move(tmp_path / "data/images/b.png", secret)
    (tmp_path / "data/images/b.png").symlink_to(secret)
    (tmp_path / "data/images/a2.png").symlink_to(tmp_path / "data/images/a.png")
    shutil.copy(tmp_path / "data/masks/a.png", tmp_path / "data/masks/a2.png")
    (said,) = open_dataset(tmp_path / "data").advice
    assert said.startswith("1 files lie outside")
    assert f"b.png -> {secret}" in said


def test_linked_folders(tmp_path: Path) -> None:
    """One that leads out is told; one that leads in a circle is not walked."""
    write(tmp_path / "else", ("a", "b", "c"))
    (tmp_path / "data").mkdir()
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).symlink_to(tmp_path / "else" / kind)
    (tmp_path / "else/images/round").symlink_to(tmp_path / "else/images")
    dataset = open_dataset(tmp_path / "data")
    assert len(dataset.items) == 3
    assert "6 files lie outside" in dataset.advice[0]


OPEN = """
import os, resource, sqlite3, sys
from PIL import Image
from maskwright.data.dataset import find_broken, open_dataset
from maskwright.errors import UserError
Image.init()
if limit := int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
if sys.argv[3] == "as nobody":  # who may not even read the packages: they are imported by now
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    dataset = open_dataset(sys.argv[1])
    print(len(dataset.items), "items")
    for item in dataset.items[:3]:
        try:
            dataset.image(item, 3), dataset.mask(item)
        except UserError as error:
            print(error)
    print(*(said for _, said in find_broken(dataset)), sep="\\n")
except UserError as error:
    print(error)
"""


def opened_apart(root: Path, *, seconds: float = 60, gigabytes: float = 1.5, user: str = "") -> str:
    """What opening and reading says, in a process that may have so much memory and time; a traceback is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(root), str(int(gigabytes * 2**30)), user],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
@pytest.mark.parametrize("cache", ["", "read-only", "not there"])
def test_a_read_only_folder_and_cache(monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    """As somebody who may not write there; root could."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        root, kept = write(Path(folder) / "data", ("a", "b", "c")), Path(folder) / "cache"
        monkeypatch.setenv("MASKWRIGHT_CACHE", str(kept))
        if cache == "read-only":  # and full of what was found out before
            os.utime(root / "masks/a.png", (0, 0))
            open_dataset(root)
        elif not cache:
            kept.mkdir()
            kept.chmod(0o777)
        closed = [path for path in Path(folder).rglob("*") if path != kept or cache] + [Path(folder)]
        for path in closed:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            assert "3 items" in opened_apart(root, user="as nobody" if os.geteuid() == 0 else "")
        finally:
            for path in reversed(closed):
                path.chmod(0o755)


def test_an_archive_that_claims_more_than_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(
        tmp_path / "a.npz", images=np.zeros((3, 64, 64), np.uint8), masks=np.zeros((3, 64, 64), np.uint8)
    )
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(DataError, match=r"a\.npz: images claims 0 GiB, and .* has 0 GiB left"):
        open_dataset(tmp_path / "a.npz")


def test_an_archive_that_lies_about_its_size(tmp_path: Path) -> None:
    """The directory of the archive says little, the member unpacks to a lot: only what was said is written."""
    file = tmp_path / "a.npz"
    np.savez_compressed(
        file, images=np.zeros((40, 256, 256), np.uint8), masks=np.zeros((40, 256, 256), np.uint8)
    )
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("images.npy").file_size
    content = file.read_bytes()
    file.write_bytes(content.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"a\.npz"):
        open_dataset(file)


def test_a_raster_that_claims_too_much(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        options = {"driver": "GTiff", "height": 600_000, "width": 600_000, "count": 1, "dtype": "uint8"}
        with rasterio.open(
            tmp_path / kind / "a.tif",
            "w",
            **options,
            tiled=True,
            blockxsize=4096,
            blockysize=4096,
            compress="deflate",
            SPARSE_OK=True,
            BIGTIFF=True,
            crs="EPSG:32632",
            transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
        ):
            pass
    (tmp_path / "dataset.yaml").write_text("format: geotiff\nclasses: [a, b]\n")
    with pytest.raises(DataError, match="600000 x 600000 pixels, over 250,000 tiles"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a [x, x]\nb: [*a, *a]\n", "aliases"),
        ("a: [1, 2\n", "no YAML"),
        ("[" * 20_000, "nested too deeply"),
        ("x" * (LARGEST_YAML + 1), "larger than 1 MiB"),
        ("!!python/object/apply:os.system [ls]", "no YAML"),
    ],
)
def test_yaml_of_strangers(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_yaml(tmp_path / "data.yaml")


# Small files that ask for much: each once took more than 1 GB, 10 s, or ended in a traceback


def zeros_png(file: Path, side: int, *, channels: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side * channels)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def zeros_npy(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    return head.getvalue() + bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)


def zeros_npz(root: Path, **members: bytes) -> None:
    with zipfile.ZipFile(root / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


SIDE = 14_000
WHOLE = [[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]]


def arrays(images: tuple[int, ...], ids: bytes | None = None) -> Callable[[Path], None]:
    """An .npz of so many zeros."""

    def make(root: Path) -> None:
        members = {} if ids is None else {"ids": ids}
        zeros_npz(root, images=zeros_npy(images), masks=zeros_npy(images), **members)

    return make


def pillow_alone(root: Path, content: bytes) -> None:
    """Called .png; Pillow would know what to do with it."""
    write(root, ("a", "b"))
    (root / "images/a.png").write_bytes(content)


def labelme(root: Path, count: int, **shape: object) -> None:
    write(root, ("a",))
    shutil.move(root / "images/a.png", root / "a.png")
    for kind in ("images", "masks"):
        shutil.rmtree(root / kind)
    shapes = [{"label": "x", "points": WHOLE, "shape_type": "polygon", **shape}] * count
    whole = {"shapes": shapes, "imagePath": "a.png", "imageHeight": SIDE, "imageWidth": SIDE}
    (root / "a.json").write_text(json.dumps(whole))


def brush(root: Path) -> None:
    labelme(root, 0)
    count = 4 * SIDE * SIDE
    run = f"111{65535:016b}{255:08b}" * (count // 65536 + 1)
    bits = f"{count:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}{run}"
    packed = [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]
    region = {
        "type": "brushlabels",
        "original_width": SIDE,
        "original_height": SIDE,
        "value": {"rle": packed, "brushlabels": ["x"]},
    }
    (root / "a.json").write_text(
        json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}])
    )


def volume(
    root: Path, *, shape: tuple[int, ...] = (8, 6, 2), dtype: int = 2, at: float = 352.0, body: bytes = b""
) -> None:
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", head, 70, dtype, {2: 8, 32: 64, 128: 24}[dtype])
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<ff", head, 108, at, 1.0)
    head[344:] = b"n+1\0"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        with gzip.open(root / kind / "a.nii.gz", "wb", compresslevel=1) as file:
            file.write(bytes(head) + (body or bytes(3000)))
    (root / "dataset.yaml").write_text("format: nifti\nclasses: [a]\nvalidation: {fraction: 0}\n")


def extension(root: Path) -> None:
    size = 1 << 31 - 1
    volume(root, at=float(size), body=b"\1\0\0\0" + struct.pack("<ii", size - 400, 4) + bytes(1 << 26))


def dicom(
    root: Path,
    change: Callable[[bytes], bytes] = bytes,
    syntax: str = "",
    pixels: bytes = bytes(96),
    bits: int = 16,
) -> None:
    write(root, ("a", "b"))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax or ExplicitVRLittleEndian)
    made = pydicom.Dataset()
    made.file_meta, made.Rows, made.Columns, made.SamplesPerPixel = meta, 6, 8, 1
    made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelData = bits - 1, pixels
    for name in "ab":
        made.save_as(root / f"images/{name}.dcm", enforce_file_format=True)
        (root / f"images/{name}.png").unlink()
    (root / "images/a.dcm").write_bytes(change((root / "images/a.dcm").read_bytes()))
    (root / "dataset.yaml").write_text(
        "format: dicom\nimages: images/{id}.dcm\nmasks: masks/{id}.png\nclasses: [a, b]\n"
    )


def nested(content: bytes) -> bytes:
    place = content.index(struct.pack("<HH2s", 0x28, 2, b"US"))
    level = struct.pack("<HH2sHI", 0x8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return content[:place] + 5000 * level + content[place:]


def two_heights(content: bytes) -> bytes:
    one, two = (
        struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 6),
        struct.pack("<HH2sHHH", 0x28, 0x10, b"US", 4, 6, 6),
    )
    return content.replace(one, two)


def words(content: bytes) -> bytes:
    one, two = (
        struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 6),
        struct.pack("<HH2sH", 0x28, 8, b"IS", 4) + b"abc ",
    )
    return content.replace(one, two + one)


def packed_slice(root: Path) -> None:
    """The header says 6 x 8, the JPEG 2000 in it 18,000 x 18,000."""
    large = io.BytesIO()
    Image.new("L", (18_000, 18_000)).save(large, "JPEG2000", irreversible=False, no_jp2=True)
    frames = pydicom.encaps.encapsulate([large.getvalue()])
    dicom(root, syntax=pydicom.uid.JPEG2000Lossless, pixels=frames, bits=8)


def tiff(
    root: Path, entries: Sequence[tuple[int, int, int]], *, more: bytes = b"", form: str = "tiff-stack"
) -> None:
    """Two pages of (tag, type, value) each; `more` begins at byte 1000."""
    page = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    second = 8 + len(page) + 4
    whole = b"II*\0\x08\0\0\0" + page + struct.pack("<I", second) + page + bytes(4)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / "a.tif").write_bytes(whole.ljust(1000, b"\0") + more)
    rule = "window: [0, 1]\n" if form != "folder" else 'images: "images/{id}.tif"\nmasks: "masks/{id}.tif"\n'
    (root / "dataset.yaml").write_text(f"format: {form}\n{rule}classes: [a]\nvalidation: {{fraction: 0}}\n")


GREY = [(256, 4, 8), (257, 4, 6), (258, 3, 8), (262, 3, 1), (277, 3, 1)]
"""Width, height, bits, black is zero, one sample."""


def strip_bomb(root: Path) -> None:
    """A strip of 48 pixels that unpacks to 2 GB: whatever is read of it, it is not the whole."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(128)) + packer.flush()
    tiff(root, sorted([*GREY, (259, 3, 8), (273, 4, 1000), (278, 4, 6), (279, 4, len(bomb))]), more=bomb)


def large_tile(root: Path) -> None:
    tiff(
        root,
        sorted([*GREY, (259, 3, 8), (322, 4, 65520), (323, 4, 65520), (324, 4, 1000), (325, 4, 9)]),
        more=b"x" * 9,
    )


def no_strip(root: Path) -> None:
    """14,000 x 14,000 numbers of 64 bits, none of which is in the file."""
    entries = [
        (256, 4, SIDE),
        (257, 4, SIDE),
        (258, 3, 64),
        (262, 3, 1),
        (277, 3, 1),
        (259, 3, 1),
        (339, 3, 3),
    ]
    tiff(root, sorted([*entries, (273, 4, 0), (278, 4, SIDE), (279, 4, 0)]))


def one_tile(root: Path) -> None:
    """A raster of 40,000 x 40,000 in one packed piece."""
    entries = [(256, 4, 40_000), (257, 4, 40_000), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tiles = [(322, 4, 40_960), (323, 4, 40_960), (324, 4, 1000), (325, 4, 100)]
    tiff(root, [*entries, *tiles], more=bytes(100), form="geotiff")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n"
LAUGHS = "classes:\n- &x0 [a, a]\n" + "".join(
    f"- &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 10)
)

ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "EPS, which starts Ghostscript": (lambda root: pillow_alone(root, EPS), "is no image"),
    "a raster piece as a whole": (one_tile, "stored in blocks of"),
    "rows without pixels": (arrays((10**9, 0, 0)), "1 to 2,000,000"),
    "rows of one pixel": (arrays((10**7, 1, 1)), "1 to 2,000,000"),
    "ids of a GB": (arrays((2, 4, 4), zeros_npy((2,), "<U9000000")), "short texts"),
    "more ids than pictures": (arrays((2, 4, 4), zeros_npy((10**8,))), "100000000 entries for 2"),
    "a polygon over all": (lambda root: labelme(root, 1), "14000 x 14000 and its image 6 x 8"),
    "a circle over all": (
        lambda root: labelme(root, 1, shape_type="circle", points=[[7000, 7000], [SIDE, 7000]]),
        "14000 x 14000 and",
    ),
    "a brush over all": (brush, "14000 x 14000 and its image 6 x 8"),
    "a volume of less than nothing": (lambda root: volume(root, shape=(-8, -6, 2)), "three axes"),
    "a volume in colours": (lambda root: volume(root, dtype=128), "one number per voxel"),
    "a volume of complex numbers": (lambda root: volume(root, dtype=32), "one number per voxel"),
    "a volume behind 2 GB": (extension, "behind the header"),
    "a slice nested 5000 times": (lambda root: dicom(root, nested), "recursion"),
    "a slice of two heights": (lambda root: dicom(root, two_heights), "cannot be decoded"),
    "a slice of abc frames": (lambda root: dicom(root, words), "no number under NumberOfFrames"),
    "a slice deflated as a whole": (
        lambda root: dicom(root, syntax="1.2.840.10008.1.2.1.99"),
        "deflated as a whole",
    ),
    "a slice larger than it says": (packed_slice, "claims 6 x 8 pixels and holds 18000 x 18000"),
    "a strip that unpacks to 2 GB": (strip_bomb, "."),
    "a tile larger than its page": (large_tile, "blocks of"),
    "a page that is not there": (no_strip, "at most 800,000,000 bytes"),
    "YAML that laughs": (lambda root: (root / "dataset.yaml").write_text(LAUGHS), "aliases"),
    "a colour of 5000 digits": (
        lambda root: (root / "labelmap.txt").write_text(f"a:{'1' * 5000},2,3::\n"),
        "holds the line",
    ),
    "a table of blanks": (
        lambda root: (root / "labelmap.txt").write_text(f"a{' ' * 60_000}x\n"),
        "holds the line",
    ),
    "a table of 100,000 lines": (
        lambda root: (root / "labelmap.txt").write_text("a:1,2,3::\n" * 100_000),
        "larger than 64 KiB",
    ),
    "30 MB of empty lists": (
        lambda root: (root / "a.json").write_text('{"shapes": [' + "[]," * 10**7 + "0]}"),
        "no layout",
    ),
}


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory cannot be limited")
@pytest.mark.parametrize("name", ATTACKS)
def test_small_files_that_ask_for_much(tmp_path: Path, name: str) -> None:
    make, problem = ATTACKS[name]
    if "table" in name or "colour of" in name:
        (tmp_path / "SegmentationClass").mkdir()
    make(tmp_path)
    said = opened_apart(tmp_path)
    assert re.search(problem, said), said


def fits_bomb() -> bytes:
    """A picture of 8 x 6 that unpacks to 300 MB."""
    cards = {
        "XTENSION": "'BINTABLE'",
        "BITPIX": 8,
        "NAXIS": 2,
        "NAXIS1": 8,
        "NAXIS2": 6,
        "PCOUNT": 0,
        "GCOUNT": 1,
    }
    cards |= {"ZIMAGE": "T", "ZCMPTYPE": "'GZIP_1  '", "ZBITPIX": 8, "ZNAXIS": 2, "ZNAXIS1": 8, "ZNAXIS2": 6}
    heads = [{"SIMPLE": "T", "BITPIX": 8, "NAXIS": 0}, cards]
    text = [
        "".join(f"{key:8}= {value!s:>20}".ljust(80) for key, value in head.items()) + "END" for head in heads
    ]
    return (
        b"".join(part.ljust(2880).encode() for part in text) + bytes(48) + gzip.compress(bytes(3 * 10**8), 1)
    )


def test_formats_that_nobody_keeps_masks_in(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(fits_bomb())
    with pytest.raises(DataError, match="is no image"):
        read_mask(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize(
    "name", ["images/a.png", "masks/a.png", "train.txt", "dataset.yaml", "a.json", "labelmap.txt"]
)
def test_pipes_and_devices(tmp_path: Path, name: str) -> None:
    """Reading one never ends."""
    for kind in ("pipe", "device"):
        root = write(tmp_path / kind, ("a", "b", "c"))
        (root / name).unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(root / name)
        else:
            (root / name).symlink_to("/dev/zero")
        if name == "labelmap.txt":
            (root / "SegmentationClass").mkdir()
        said = opened_apart(root, seconds=20)
        assert "no plain file" in said or ("/" not in name and "3 items" in said), said


def test_a_stack_that_shows_pages_of_other_files(tmp_path: Path) -> None:
    """OME-XML may name files anywhere: they are not asked."""
    secret, root = tmp_path / "secret.tif", tmp_path / "data"
    tifffile.imwrite(secret, np.full((3, 6, 8), 7, np.uint8), photometric="minisblack")
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="{z}"><UUID FileName="../../secret.tif">urn:uuid:2</UUID></TiffData>'
        for z in range(3)
    )
    description = (
        '<?xml version="1.0"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="I">'
        '<Pixels DimensionOrder="XYZCT" ID="P" SizeC="1" SizeT="1" SizeX="8" SizeY="6" SizeZ="3" Type="uint8">'
        f'<Channel ID="c" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        pages = np.zeros((3, 6, 8), np.uint8)
        tifffile.imwrite(
            root / kind / "a.tif", pages, photometric="minisblack", metadata=None, description=description
        )
    (root / "dataset.yaml").write_text("format: tiff-stack\nclasses: [a]\nvalidation: {fraction: 0}\n")
    dataset = open_dataset(root)
    assert len(dataset.items) == 3
    assert not any(dataset.image(item, 1).any() for item in dataset.items)


def test_pages_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiff(tmp_path, sorted([*GREY, (259, 3, 1), (273, 4, 1000), (278, 4, 6), (279, 4, 48)]), more=bytes(48))
    assert len(open_dataset(tmp_path).items) == 2
    for kind in ("images", "masks"):  # the second page leads to the first
        content = bytearray((tmp_path / kind / "a.tif").read_bytes())
        end = 8 + 2 * (2 + 9 * 12 + 4)
        content[end - 4 : end] = struct.pack("<I", 8)
        (tmp_path / kind / "a.tif").write_bytes(content)
    assert len(open_dataset(tmp_path).items) == 2
    monkeypatch.setattr(tiff_stack, "MOST_PAGES", 1)
    shutil.copy(tmp_path / "images/a.tif", tmp_path / "images/b.tif")
    shutil.copy(tmp_path / "images/a.tif", tmp_path / "masks/b.tif")
    with pytest.raises(DataError, match="over 1 pages"):
        open_dataset(tmp_path)


# Names that lead out of the root

OUT = ("/etc/passwd", "../secret.png", "a/../../secret.png", "..\\secret.png", "C:\\secret.png", "a\0b.png")


def name_coco(root: Path, name: str) -> None:
    images = [{"id": 1, "file_name": name, "height": 6, "width": 8}]
    whole = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (root / "a.json").write_text(json.dumps(whole))
    (root / "dataset.yaml").write_text("format: coco\nmasks: a.json\nimages: .\n")


def name_panoptic(root: Path, name: str) -> None:
    shutil.copy(root / "images/a.png", root / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    drawn = [{"image_id": 1, "file_name": name, "segments_info": []}]
    whole = {"images": images, "annotations": drawn, "categories": [{"id": 1, "name": "x"}]}
    (root / "a.json").write_text(json.dumps(whole))
    (root / "dataset.yaml").write_text("format: coco\nmasks: a.json\nimages: .\n")


def name_labelme(root: Path, name: str) -> None:
    shape = {"label": "x", "points": [[0, 0], [4, 0], [4, 4]], "shape_type": "polygon"}
    whole = {"shapes": [shape], "imagePath": name, "imageHeight": 6, "imageWidth": 8}
    (root / "json").mkdir()
    (root / "json/z.json").write_text(json.dumps(whole))
    (root / "dataset.yaml").write_text('format: labelme\nmasks: "json/{id}.json"\n')


def name_label_studio(root: Path, name: str) -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["x"]}
    tasks = [
        {"data": {"image": name}, "annotations": [{"result": [{"type": "rectanglelabels", "value": value}]}]}
    ]
    (root / "a.json").write_text(json.dumps(tasks))
    (root / "dataset.yaml").write_text("format: label-studio\nmasks: a.json\n")


def name_yolo(root: Path, name: str) -> None:
    (root / "data.yaml").write_text(yaml.safe_dump({"train": name, "names": ["x"]}))
    (root / "dataset.yaml").write_text("format: yolo\nmasks: data.yaml\n")


def name_list(root: Path, name: str) -> None:
    (root / "train.txt").write_text(f"{name}\nb\nc\n")


def name_key(key: str) -> Callable[[Path, str], None]:
    def make(root: Path, name: str) -> None:
        keys: dict[str, object] = {"images": "images/{id}.png", "masks": "masks/{id}.png"}
        ending = name if key in ("groups", "values_file", "splits") else f"{name}{{id}}.png"
        keys[key] = {"train": ending} if key == "splits" else ending
        (root / "dataset.yaml").write_text(yaml.safe_dump(keys))

    return make


NAMED: dict[str, Callable[[Path, str], None]] = {
    "COCO": name_coco,
    "panoptic": name_panoptic,
    "LabelMe": name_labelme,
    "Label Studio": name_label_studio,
    "YOLO": name_yolo,
    "list": name_list,
    **{key: name_key(key) for key in ("images", "masks", "groups", "values_file", "splits")},
}


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("form", NAMED)
def test_names_that_lead_out_of_the_root(tmp_path: Path, form: str, name: str) -> None:
    root = write(tmp_path / "data", ("a", "b", "c"))
    write(tmp_path, ("secret",))
    shutil.copy(tmp_path / "images/secret.png", tmp_path / "secret.png")
    NAMED[form](root, name)
    with pytest.raises(UserError) as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value)
    if form in ("images", "masks", "groups", "values_file", "splits"):
        assert "does not stay below the root" in str(caught.value)


@pytest.mark.slow
def test_200000_files(tmp_path: Path) -> None:
    """Paired within seconds; the files themselves are empty."""
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        (tmp_path / kind).mkdir()
        for row in range(100_000):
            os.close(os.open(tmp_path / kind / f"{row:06}.{ending}", os.O_CREAT))
    begun = time.monotonic()
    config = folder.complete(tmp_path, DataConfig())
    assert len(folder.read(tmp_path, config)) == 100_000
    assert time.monotonic() - begun < 60
