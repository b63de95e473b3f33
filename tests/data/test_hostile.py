"""Folders and files that a stranger may send: odd names, links, and claims that nothing backs."""

from __future__ import annotations

import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from maskwright.cli.main import main
from maskwright.data.convert import convert
from maskwright.data.dataset import open_dataset
from maskwright.data.documents import LARGEST_YAML, read_yaml
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig
from maskwright.errors import DataError

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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ("a", "b", "c"))
    for path in (root, root / "images", root / "masks"):
        path.chmod(0o555)
    try:
        assert len(open_dataset(root).items) == 3
    finally:
        for path in (root, root / "images", root / "masks"):
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
